//! How a worker deals with a batch that the store refuses: it finds out which of the events it is, and stores all others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use auditq_queue::Receipt;
use auditq_store::Batch;

use crate::delivery::{Delivery, Part};
use crate::observer::WorkEvent;
use crate::patience::{Bound, Setback};
use crate::retry::{Decision, Failure};
use crate::settlement::{SettleError, Settled};
use crate::worker::Worker;

impl Worker {
    /// Finds the events that the store refuses by halving, stores all others, and retries or gives up only those.
    pub(crate) async fn settle_by_parts(
        &self,
        deliveries: &[Delivery],
        held: &[Receipt],
        began: Instant,
    ) -> Result<(), SettleError> {
        let mut parts: Vec<(usize, Part)> = Vec::new();
        let mut refused: Vec<Vec<Part>> = Vec::with_capacity(deliveries.len());
        for (index, delivery) in deliveries.iter().enumerate() {
            let (unknown, known): (Vec<Part>, Vec<Part>) = delivery.parts().into_iter().partition(Part::is_unknown);
            refused.push(unknown);
            parts.extend(known.into_iter().map(|part| (index, part)));
        }
        let bound = Bound { at_most: self.least_timeout(deliveries), once: false };
        let mut total = Settled::default();
        let mut ranges: Vec<_> = std::iter::once(0..parts.len()).collect();
        while let Some(range) = ranges.pop() {
            let mut batch = Batch::default();
            for (delivery, part) in &parts[range.clone()] {
                part.add_to(&deliveries[*delivery].label(), &mut batch);
            }
            batch.fold();
            let batch = Arc::new(batch);
            let stored =
                self.patiently(held, bound, || async { Ok(self.store.insert(Arc::clone(&batch)).await?) }).await;
            match stored {
                Ok(inserted) => total.inserted += inserted,
                Err(Setback::Rejected(error)) if range.len() == 1 => {
                    let (delivery, part) = &parts[range.start];
                    refused[*delivery].push(part.refused(error.to_string()));
                }
                Err(Setback::Rejected(_)) => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
                Err(Setback::Interrupted | Setback::TimedOut) => {
                    self.give_back(held).await;
                    return Ok(());
                }
                Err(Setback::Hopeless(error)) => {
                    self.give_back(held).await;
                    return Err(error);
                }
            }
        }
        self.settle_remainders(deliveries, &refused, total, began).await
    }

    async fn settle_remainders(
        &self,
        deliveries: &[Delivery],
        refused: &[Vec<Part>],
        mut total: Settled,
        began: Instant,
    ) -> Result<(), SettleError> {
        let whole: Vec<Receipt> = deliveries
            .iter()
            .zip(refused)
            .filter(|(_, refused)| refused.is_empty())
            .map(|(delivery, _)| delivery.receipt.clone())
            .collect();
        total.stale = self.insist(|| self.queue.delete(&whole)).await?;
        self.tell_stored(&total, whole.len(), began);
        for (delivery, refused) in deliveries.iter().zip(refused).filter(|(_, refused)| !refused.is_empty()) {
            let exceptions = delivery.exceptions().saturating_add(1);
            let is_unknown = refused.iter().all(Part::is_unknown);
            let failure = if is_unknown { Failure::Undecodable } else { Failure::Rejected { exceptions } };
            let policy = delivery.policy(&self.options.policy);
            match policy.decide(delivery.attempts, failure, fastrand::f64()) {
                Decision::Release(delay) => self.release_parts(delivery, refused, exceptions, delay).await?,
                _ => self.bury_parts(delivery, refused).await?,
            }
        }
        Ok(())
    }

    async fn release_parts(
        &self,
        delivery: &Delivery,
        parts: &[Part],
        exceptions: u32,
        delay: Duration,
    ) -> Result<(), SettleError> {
        let left = [delivery.remainder(parts, exceptions)];
        self.insist(|| self.queue.release(&left, delay)).await?;
        self.tell(&WorkEvent::Released {
            worker: self.options.number,
            events: parts.len(),
            attempts: delivery.attempts,
            delay,
            reason: reason_of(parts),
        });
        Ok(())
    }

    pub(crate) async fn bury_parts(&self, delivery: &Delivery, parts: &[Part]) -> Result<(), SettleError> {
        let left = [delivery.remainder(parts, delivery.exceptions())];
        self.bury(&left, parts.len(), delivery.attempts, &reason_of(parts)).await
    }
}

/// The first reason among parts of one message; they mostly share it.
fn reason_of(parts: &[Part]) -> String {
    parts.iter().find_map(|part| part.reason.clone()).unwrap_or_default()
}
