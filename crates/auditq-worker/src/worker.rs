//! The worker: reserves messages, stores their events, settles them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use auditq_queue::{Queue, QueueName, Receipt, Remainder, Reserved};
use auditq_store::{Batch, Store};

use crate::at_once::{Way, rows_of};
use crate::delivery::{Delivery, Part, Refused};
use crate::laravel::LaravelJobs;
use crate::limits::Budget;
use crate::observer::{Observer, StopReason, WorkEvent};
use crate::patience::{Bound, Setback};
use crate::retry::{Decision, Failure, RetryPolicy};
use crate::settlement::{Next, SettleError, Settled, Settlement};
use crate::shutdown::Shutdown;
use crate::signs::Closed;

/// How soon a worker looks again whether others have left something of the limit.
const CLAIMED_BY_OTHERS: Duration = Duration::from_millis(20);

/// For how long a job of somebody else is out of the way, so that what stands behind it is found. Short, because it is out
/// of its own worker's way too.
const FOREIGN_DELAY: Duration = Duration::from_secs(1);

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Its number within the process, from 0.
    pub number: usize,
    /// Where it takes messages from; earlier ones are emptied first.
    pub queues: Vec<QueueName>,
    /// Messages that are reserved and stored together.
    pub batch: usize,
    /// How long storing a batch may take before it counts as an engine that does not answer.
    pub timeout: Duration,
    /// When failures are tried again, and when they are given up.
    pub policy: RetryPolicy,
    /// The longest wait when the queue is empty.
    pub idle: Duration,
    /// The rest after each batch.
    pub rest: Duration,
    /// The jobs of a Laravel application that are stored too. None: they are given up like all that cannot be read.
    pub laravel: Option<Arc<LaravelJobs>>,
    /// Queues that are left alone for now.
    pub closed: Closed,
}

/// One worker. Any number may work on the same queue, in one process or in several.
#[derive(Debug)]
pub struct Worker {
    /// How it works.
    pub options: WorkerOptions,
    /// Where the messages are.
    pub queue: Arc<dyn Queue>,
    /// Where the rows go.
    pub store: Arc<dyn Store>,
    /// How rows and messages are settled together.
    pub settlement: Arc<dyn Settlement>,
    /// When it ends by itself.
    pub budget: Arc<Budget>,
    /// Who asks it to end.
    pub shutdown: Shutdown,
    /// Who hears of what it does.
    pub observer: Observer,
}

impl Worker {
    /// Works until it is asked to end or one of its limits is reached; then holds nothing any more.
    ///
    /// # Errors
    /// An engine that cannot work as configured, or is damaged. One that merely does not answer is waited for.
    pub async fn run(&self) -> Result<StopReason, SettleError> {
        self.tell(&WorkEvent::Started { worker: self.options.number });
        let reason = self.work().await?;
        self.tell(&WorkEvent::Stopped { worker: self.options.number, reason });
        Ok(reason)
    }

    async fn work(&self) -> Result<StopReason, SettleError> {
        let (mut failures, mut way) = (0, Way::First.with(&*self.settlement));
        while !self.shutdown.is_requested() {
            let claim = self.budget.claim(way.limit(self.options.batch));
            if claim.messages == 0 {
                // The rest of the limit is in the hands of other workers, which may not find anything to take.
                drop(claim);
                self.shutdown.sleep(CLAIMED_BY_OTHERS).await;
                if let Some(reason) = self.budget.reached() {
                    return Ok(reason);
                }
                continue;
            }
            // Asked before the look at the queue: what is pushed in between is not missed.
            let last_look = self.budget.ends_when_empty() && self.budget.is_unfed();
            let began = Instant::now();
            match self.next(claim.messages, way).await {
                Ok(Next::Reserved(batch)) if batch.is_empty() => {
                    drop(claim);
                    if last_look {
                        return Ok(StopReason::Empty);
                    }
                    self.idle().await;
                }
                Ok(Next::Reserved(batch)) => {
                    claim.take(batch.len());
                    self.store_and_settle(batch).await?;
                    way = Way::AtOnce.with(&*self.settlement);
                    self.shutdown.sleep(self.options.rest).await;
                }
                Ok(Next::Stored(messages, inserted)) => {
                    claim.take(messages);
                    self.tell_stored(&Settled { inserted, stale: Vec::new() }, messages, began);
                    self.shutdown.sleep(self.options.rest).await;
                }
                // Whatever was wrong: with messages that are reserved it is found out which of them it was.
                Err(_) if way == Way::AtOnce => {
                    drop(claim);
                    way = Way::Reserved;
                    continue;
                }
                Err(error) => {
                    drop(claim);
                    self.back_off(error, &mut failures).await?;
                    continue;
                }
            }
            failures = 0;
            if let Some(reason) = self.budget.reached() {
                return Ok(reason);
            }
        }
        Ok(StopReason::Interrupted)
    }

    /// Takes messages from the queues that are open, and stores them at once where that is the way.
    async fn next(&self, limit: usize, way: Way) -> Result<Next, SettleError> {
        let queues = self.options.closed.open_of(&self.options.queues);
        if queues.is_empty() {
            return Ok(Next::Reserved(Vec::new()));
        }
        if let (Way::AtOnce, Some(settlement)) = (way, self.settlement.at_once()) {
            let rows = |messages: &[Reserved]| rows_of(messages, &self.options);
            return self.usual_bound().run(settlement.settle_next(&queues, limit, &rows)).await;
        }
        Ok(Next::Reserved(self.queue.reserve(&queues, limit).await?))
    }

    /// Waits for messages; a push, where the engine can tell of it, ends the wait.
    ///
    /// Where there were messages of others, nothing ends it: they are taken no sooner than their own worker can have
    /// taken them.
    async fn idle(&self) {
        let courtesy = self.options.laravel.as_ref().and_then(|laravel| laravel.courtesy());
        let idle = courtesy.unwrap_or_else(|| spread(self.options.idle));
        let at_most = self.budget.time_left().map_or(idle, |left| idle.min(left));
        let queues = self.options.closed.open_of(&self.options.queues);
        let arrival = async {
            if queues.is_empty() || courtesy.is_some() {
                tokio::time::sleep(at_most).await;
            } else {
                self.queue.wait(&queues, at_most).await;
            }
        };
        let fed_to_the_end = async {
            if self.budget.ends_when_empty() { self.budget.unfed().await } else { std::future::pending().await }
        };
        tokio::select! {
            () = arrival => {}
            () = self.options.closed.changed() => {}
            () = fed_to_the_end => {}
            () = self.shutdown.requested() => {}
        }
    }

    async fn back_off(&self, error: SettleError, failures: &mut u32) -> Result<(), SettleError> {
        match self.options.policy.decide(*failures, error.failure(0), fastrand::f64()) {
            Decision::Wait(delay) => {
                self.tell(&WorkEvent::Waiting { error: error.to_string(), delay });
                *failures = failures.saturating_add(1);
                self.shutdown.sleep(delay).await;
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Stores what was reserved. Whatever goes wrong with one message, the others are not held up by it.
    async fn store_and_settle(&self, reserved: Vec<Reserved>) -> Result<(), SettleError> {
        let laravel = self.options.laravel.as_deref();
        let (mut others, mut suspects, mut refused) = (Vec::with_capacity(reserved.len()), Vec::new(), Vec::new());
        for reserved in reserved {
            match Delivery::read(reserved, laravel) {
                Ok(read) if read.policy(&self.options.policy).is_suspect(read.attempts) => suspects.push(read),
                Ok(read) => others.push(read),
                Err(reason) => refused.push(reason),
            }
        }
        self.refuse(refused).await?;
        if !others.is_empty() {
            self.settle_together(others).await?;
        }
        for suspect in suspects {
            self.settle_alone(suspect).await?;
        }
        Ok(())
    }

    /// Buries what nobody can read, and leaves to others what is theirs.
    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), SettleError> {
        let mut foreign = Vec::new();
        for refused in refused {
            match refused {
                Refused::Unreadable { receipt, attempts, reason } => {
                    self.bury(&[Remainder::whole(receipt)], 0, attempts, &reason).await?;
                }
                Refused::Foreign { receipt, foreign: job } => {
                    foreign.push(receipt);
                    let Some(laravel) = &self.options.laravel else { continue };
                    laravel.met_others();
                    if laravel.is_news(&job) {
                        self.tell(&WorkEvent::Declined { class: job.class, duty: job.duty });
                    }
                }
            }
        }
        if !foreign.is_empty() {
            self.insist(|| self.queue.decline(&foreign, FOREIGN_DELAY)).await?;
        }
        Ok(())
    }

    /// Handles by itself a message that was reserved often and never settled.
    async fn settle_alone(&self, suspect: Delivery) -> Result<(), SettleError> {
        let policy = suspect.policy(&self.options.policy);
        let over = suspect.is_over(&policy);
        let decision = match over {
            Some(_) => Decision::Bury,
            None => policy.decide(suspect.attempts, Failure::Abandoned, fastrand::f64()),
        };
        match decision {
            Decision::Bury => {
                let died = || format!("reserved {} times and never settled: its workers died", suspect.attempts);
                let (events, attempts, reason) = (suspect.len(), suspect.attempts, over.unwrap_or_else(died));
                self.bury(&[Remainder::whole(suspect.receipt)], events, attempts, &reason).await
            }
            _ => self.settle_together(vec![suspect]).await,
        }
    }

    /// Stores messages in one step, or finds out which of them it is that cannot be.
    ///
    /// One try takes as long as the least of them allows. What takes longer is tried again, because it is the store that
    /// does not answer; only when others can be stored meanwhile, a job that is not to be tried again is to blame.
    async fn settle_together(&self, deliveries: Vec<Delivery>) -> Result<(), SettleError> {
        let strict = deliveries.iter().filter(|delivery| delivery.fails_on_timeout()).count();
        let is_mixed = strict > 0 && strict < deliveries.len();
        if self.settle_in_time(&deliveries, is_mixed).await? {
            return Ok(());
        }
        let (strict, others): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(Delivery::fails_on_timeout);
        let waiting: Vec<Receipt> = strict.iter().map(|delivery| delivery.receipt.clone()).collect();
        self.while_holding(&waiting, Box::pin(self.settle_together(others))).await?;
        if self.shutdown.is_requested() {
            // The others may not have been stored either: nobody is to blame.
            self.give_back(&waiting).await;
            return Ok(());
        }
        for delivery in strict {
            let one = [delivery];
            if !self.settle_in_time(&one, true).await? {
                let [delivery] = one;
                let reason = format!("{} has timed out: others could be stored, and it could not", delivery.class());
                let events = delivery.len();
                self.bury(&[Remainder::whole(delivery.receipt)], events, delivery.attempts, &reason).await?;
            }
        }
        Ok(())
    }

    /// Stores messages; returns false when that took too long, and was to be tried only `once`.
    async fn settle_in_time(&self, deliveries: &[Delivery], once: bool) -> Result<bool, SettleError> {
        let began = Instant::now();
        let mut batch = Batch::default();
        let unknown: Vec<Vec<Part>> = deliveries.iter().map(|delivery| delivery.add_to(&mut batch)).collect();
        batch.fold();
        let batch = Arc::new(batch);
        let held: Vec<Receipt> = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
        let done: Vec<Receipt> = deliveries
            .iter()
            .zip(&unknown)
            .filter(|(_, left)| left.is_empty())
            .map(|(d, _)| d.receipt.clone())
            .collect();

        let bound = Bound { at_most: self.least_timeout(deliveries), once };
        let settled = self.patiently(&held, bound, || self.settlement.settle(Arc::clone(&batch), &done)).await;
        match settled {
            Ok(settled) => {
                self.tell_stored(&settled, done.len(), began);
                for (delivery, left) in deliveries.iter().zip(&unknown).filter(|(_, left)| !left.is_empty()) {
                    self.bury_parts(delivery, left).await?;
                }
            }
            Err(Setback::Rejected(_)) => self.settle_by_parts(deliveries, &held, began).await?,
            Err(Setback::TimedOut) => return Ok(false),
            Err(Setback::Interrupted) => self.give_back(&held).await,
            Err(Setback::Hopeless(error)) => {
                self.give_back(&held).await;
                return Err(error);
            }
        }
        Ok(true)
    }

    /// The least that one of them allows; zero when none of them has a limit.
    pub(crate) fn least_timeout(&self, deliveries: &[Delivery]) -> Duration {
        let timeouts = deliveries.iter().map(|delivery| delivery.timeout(self.options.timeout));
        timeouts.filter(|timeout| !timeout.is_zero()).min().unwrap_or_default()
    }

    pub(crate) async fn bury(
        &self,
        left: &[Remainder],
        events: usize,
        attempts: u32,
        reason: &str,
    ) -> Result<(), SettleError> {
        self.insist(|| self.queue.bury(left, reason)).await?;
        let reason = reason.to_owned();
        self.tell(&WorkEvent::Buried { worker: self.options.number, events, attempts, reason });
        Ok(())
    }

    /// Gives messages back unstored, at once available to others, as if they had not been taken: it was nobody's fault.
    /// What an engine that is down cannot take back comes back by itself when the reservations lapse.
    pub(crate) async fn give_back(&self, held: &[Receipt]) {
        let given = tokio::time::timeout(Duration::from_secs(5), self.queue.decline(held, Duration::ZERO)).await;
        if let Ok(Err(error)) = given {
            self.tell(&WorkEvent::Waiting { error: error.to_string(), delay: self.queue.retry_after() });
        }
    }

    pub(crate) fn tell_stored(&self, settled: &Settled, messages: usize, began: Instant) {
        self.tell(&WorkEvent::Stored {
            worker: self.options.number,
            messages,
            rows: settled.inserted.stored,
            duplicates: settled.inserted.duplicates,
            took: began.elapsed(),
        });
    }

    pub(crate) fn tell(&self, event: &WorkEvent) {
        self.observer.tell(event);
    }
}

/// Up to a tenth longer, so that idle workers do not ask in step.
fn spread(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + 0.1 * fastrand::f64())
}
