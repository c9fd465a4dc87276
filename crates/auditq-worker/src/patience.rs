//! How a worker deals with engines that do not answer: it tries on, and keeps what it holds meanwhile.

use std::future::Future;
use std::time::{Duration, Instant};

use auditq_queue::Receipt;

use crate::observer::WorkEvent;
use crate::retry::Decision;
use crate::settlement::SettleError;
use crate::worker::Worker;

/// Why a batch could not be settled by trying on.
pub(crate) enum Setback {
    /// The store refuses an event of it.
    Rejected(SettleError),
    /// A try took longer than it may, and is not to be repeated.
    TimedOut,
    /// The worker was asked to end while it waited.
    Interrupted,
    /// A person has to act first.
    Hopeless(SettleError),
}

/// How long a try may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Zero is without limit.
    pub(crate) at_most: Duration,
    /// Whether it is given up then, instead of tried again.
    pub(crate) once: bool,
}

impl Bound {
    pub(crate) async fn run<T>(self, attempt: impl Future<Output = Result<T, SettleError>>) -> Result<T, SettleError> {
        if self.at_most.is_zero() {
            return attempt.await;
        }
        let outcome = tokio::time::timeout(self.at_most, attempt).await;
        outcome.unwrap_or(Err(SettleError::TimedOut(self.at_most.as_secs())))
    }
}

impl Worker {
    /// As long as the worker's own setting lets a try take, and then again.
    pub(crate) fn usual_bound(&self) -> Bound {
        Bound { at_most: self.options.timeout, once: false }
    }

    /// Tries until the engine answers, keeping `held` reserved all the while.
    pub(crate) async fn patiently<T, F>(
        &self,
        held: &[Receipt],
        bound: Bound,
        attempt: impl Fn() -> F,
    ) -> Result<T, Setback>
    where
        F: Future<Output = Result<T, SettleError>>,
    {
        let trying = async {
            let mut waits = 0;
            let mut down_since = None;
            loop {
                let error = match bound.run(attempt()).await {
                    Err(SettleError::TimedOut(_)) if bound.once => return Err(Setback::TimedOut),
                    Ok(value) => {
                        if let Some(since) = down_since.map(|since: Instant| since.elapsed()) {
                            self.tell(&WorkEvent::Recovered { after: since });
                        }
                        return Ok(value);
                    }
                    Err(error) => error,
                };
                match self.options.policy.decide(waits, error.failure(0), fastrand::f64()) {
                    Decision::Wait(delay) => {
                        down_since.get_or_insert_with(Instant::now);
                        self.tell(&WorkEvent::Waiting { error: error.to_string(), delay });
                        waits += 1;
                        if !self.shutdown.sleep(delay).await {
                            return Err(Setback::Interrupted);
                        }
                    }
                    Decision::Stop => return Err(Setback::Hopeless(error)),
                    Decision::Release(_) | Decision::Isolate | Decision::Bury => return Err(Setback::Rejected(error)),
                }
            }
        };
        self.while_holding(held, trying).await
    }

    /// Does something with the queue that must not be left undone, until it answers or the worker is asked to end.
    pub(crate) async fn insist<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, SettleError>
    where
        T: Default,
        F: Future<Output = auditq_queue::Result<T>>,
    {
        match self.patiently(&[], self.usual_bound(), || async { Ok(attempt().await?) }).await {
            Ok(value) => Ok(value),
            // The reservation lapses, the message comes again, and what is stored of it is skipped.
            Err(Setback::Interrupted | Setback::TimedOut) => Ok(T::default()),
            Err(Setback::Rejected(error) | Setback::Hopeless(error)) => Err(error),
        }
    }

    /// Extends the reservations at a quarter of their length for as long as `work` takes, which goes on while the queue
    /// does not answer.
    pub(crate) async fn while_holding<T>(&self, held: &[Receipt], work: impl Future<Output = T>) -> T {
        if held.is_empty() {
            return work.await;
        }
        let beat = (self.queue.retry_after() / 4).max(Duration::from_millis(50));
        let holding = async {
            loop {
                tokio::time::sleep(beat).await;
                // A reservation that cannot be extended lapses, and its message runs twice: stored once all the same.
                if let Err(error) = self.queue.extend(held).await {
                    self.tell(&WorkEvent::Waiting { error: error.to_string(), delay: beat });
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            never = holding => never,
        }
    }
}
