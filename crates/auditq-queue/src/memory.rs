//! The reference driver: a queue in this process's memory, and the model that every other driver is compared with.
//!
//! Nothing in it survives the process. It looks at every message to answer, so it is for tests and for small queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::clock::{Clock, SystemClock};
use crate::message::{RESERVED_BYTES_MAX, check_text};
use crate::{
    Control, Error, ErrorKind, FailedFilter, FailedMessage, FailedPage, MessageId, NewMessage, Queue, QueueAdmin,
    QueueName, QueueSizes, Receipt, Remainder, Reserved, Result, Selection,
};

const DRIVER: &str = "memory";

/// A queue in this process's memory.
#[derive(Debug)]
pub struct MemoryQueue {
    retry_after: Duration,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<u64, Message>,
    failed: BTreeMap<u64, Failed>,
    paused: BTreeSet<QueueName>,
    restart: u64,
    last_waiting: u64,
    last_failed: u64,
}

#[derive(Clone, Debug)]
struct Message {
    id: MessageId,
    queue: QueueName,
    payload: Bytes,
    attempts: u32,
    reserved_at: Option<Duration>,
    available_at: Duration,
    created_at: Duration,
}

#[derive(Debug)]
struct Failed {
    id: MessageId,
    queue: QueueName,
    payload: Bytes,
    reason: String,
    failed_at: Duration,
}

impl MemoryQueue {
    /// Makes an empty queue whose reservations last `retry_after`.
    #[must_use]
    pub fn new(retry_after: Duration) -> Self {
        Self::with_clock(retry_after, Arc::new(SystemClock))
    }

    /// Makes an empty queue that goes by another clock.
    #[must_use]
    pub fn with_clock(retry_after: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { retry_after, clock, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the lock is let go, also when a panic does it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies `settle` to each message whose receipt is good, with what is left of it; returns the other receipts.
    fn settle<'a>(
        &self,
        held: impl IntoIterator<Item = (&'a Receipt, Option<&'a Bytes>)>,
        mut settle: impl FnMut(&mut State, u64, Option<&Bytes>),
    ) -> Vec<Receipt> {
        let mut state = self.state();
        let mut stale = Vec::new();
        for (receipt, left) in held {
            match state.held(receipt) {
                Some(key) => settle(&mut state, key, left),
                None => stale.push(receipt.clone()),
            }
        }
        drop(state);
        self.changed.notify_waiters();
        stale
    }

    /// How long until a message of `queues` can be reserved; `None` when none is in sight.
    fn next_due(&self, queues: &[QueueName]) -> Option<Duration> {
        let (state, now) = (self.state(), self.clock.now());
        let due = |message: &Message| match message.reserved_at {
            _ if message.is_available(now, self.retry_after) => Duration::ZERO,
            Some(reserved_at) => (reserved_at + self.retry_after).saturating_sub(now),
            None => message.available_at.saturating_sub(now),
        };
        let wanted = |message: &&Message| queues.contains(&message.queue) && !state.paused.contains(&message.queue);
        state.waiting.values().filter(wanted).map(due).min()
    }
}

impl State {
    fn knows(&self, id: &MessageId) -> bool {
        self.waiting.values().any(|message| message.id == *id) || self.failed.values().any(|failed| failed.id == *id)
    }

    fn held(&self, receipt: &Receipt) -> Option<u64> {
        let key = receipt.id.parse().ok()?;
        let message = self.waiting.get(&key)?;
        (message.attempts == receipt.attempt && message.reserved_at.is_some()).then_some(key)
    }

    fn add(&mut self, message: Message) {
        self.last_waiting += 1;
        self.waiting.insert(self.last_waiting, message);
    }

    /// The keys of a queue's available messages: those whose reservation lapsed, in the order in which they were pushed,
    /// then the others, in the order in which they became available.
    fn available(&self, queue: &QueueName, now: Duration, retry_after: Duration) -> Vec<u64> {
        let wanted = |message: &Message| message.queue == *queue && message.is_available(now, retry_after);
        let mut found: Vec<_> = self.waiting.iter().filter(|(_, message)| wanted(message)).collect();
        let since = |message: &Message| message.reserved_at.unwrap_or(message.available_at);
        found.sort_by_key(|(key, message)| (message.reserved_at.is_none(), since(message), **key));
        found.into_iter().map(|(key, _)| *key).collect()
    }

    fn selected(&self, which: &Selection, now: Duration) -> Vec<u64> {
        let by_id = |id: &MessageId| self.failed.iter().find(|(_, failed)| failed.id == *id).map(|(key, _)| *key);
        match which {
            Selection::Ids(ids) => {
                let mut seen = BTreeSet::new();
                ids.iter().filter_map(by_id).filter(|key| seen.insert(*key)).collect()
            }
            Selection::Matching { queue, older_than } => {
                let matches = |failed: &Failed| {
                    queue.as_ref().is_none_or(|queue| failed.queue == *queue)
                        && (older_than.is_zero()
                            || failed.failed_at.checked_add(*older_than).is_some_and(|at| at <= now))
                };
                self.failed.iter().filter(|(_, failed)| matches(failed)).map(|(key, _)| *key).collect()
            }
        }
    }
}

impl Message {
    fn is_available(&self, now: Duration, retry_after: Duration) -> bool {
        let Some(reserved_at) = self.reserved_at else { return self.available_at <= now };
        let lapsed = reserved_at + retry_after <= now;
        // Nobody reserves in the future: the clock was set back, and the reservation would last for that long.
        let impossible = reserved_at > now + retry_after + Duration::from_secs(1);
        lapsed || impossible
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn push(&self, batch: &[NewMessage]) -> Result<()> {
        for message in batch {
            check_text(DRIVER, &message.id, &message.payload)?;
        }
        let now = self.clock.now();
        let mut state = self.state();
        for message in batch {
            if state.knows(&message.id) {
                continue;
            }
            state.add(Message {
                id: message.id.clone(),
                queue: message.queue.clone(),
                payload: message.payload.clone(),
                attempts: 0,
                reserved_at: None,
                available_at: now.saturating_add(message.delay),
                created_at: now,
            });
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn reserve(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Reserved>> {
        let now = self.clock.now();
        let mut state = self.state();
        let (mut reserved, mut bytes) = (Vec::new(), 0);
        for queue in queues {
            if state.paused.contains(queue) {
                continue;
            }
            for key in state.available(queue, now, self.retry_after) {
                if reserved.len() >= limit || bytes >= RESERVED_BYTES_MAX {
                    return Ok(reserved);
                }
                let Some(message) = state.waiting.get_mut(&key) else { continue };
                message.attempts = message.attempts.saturating_add(1);
                message.reserved_at = Some(now);
                bytes += message.payload.len();
                reserved.push(Reserved {
                    receipt: Receipt { id: key.to_string(), attempt: message.attempts },
                    queue: queue.clone(),
                    attempts: message.attempts,
                    created_at: unix_seconds(message.created_at),
                    payload: message.payload.clone(),
                });
            }
        }
        Ok(reserved)
    }

    async fn extend(&self, held: &[Receipt]) -> Result<Vec<Receipt>> {
        let now = self.clock.now();
        Ok(self.settle(held.iter().map(|receipt| (receipt, None)), |state, key, _| {
            if let Some(message) = state.waiting.get_mut(&key) {
                message.reserved_at = Some(now);
            }
        }))
    }

    async fn delete(&self, done: &[Receipt]) -> Result<Vec<Receipt>> {
        let done = done.iter().map(|receipt| (receipt, None));
        Ok(self.settle(done, |state, key, _| drop(state.waiting.remove(&key))))
    }

    async fn release(&self, held: &[Remainder], delay: Duration) -> Result<Vec<Receipt>> {
        let held = remainders(held)?;
        let available_at = self.clock.now().saturating_add(delay);
        Ok(self.settle(held, |state, key, left| {
            let Some(message) = state.waiting.get_mut(&key) else { return };
            message.reserved_at = None;
            message.available_at = available_at;
            if let Some(payload) = left {
                message.payload = payload.clone();
            }
        }))
    }

    async fn decline(&self, held: &[Receipt], delay: Duration) -> Result<Vec<Receipt>> {
        let available_at = self.clock.now().saturating_add(delay);
        Ok(self.settle(held.iter().map(|receipt| (receipt, None)), |state, key, _| {
            let Some(message) = state.waiting.get_mut(&key) else { return };
            message.reserved_at = None;
            message.available_at = available_at;
            message.attempts = message.attempts.saturating_sub(1);
        }))
    }

    async fn bury(&self, held: &[Remainder], reason: &str) -> Result<Vec<Receipt>> {
        let held = remainders(held)?;
        let now = self.clock.now();
        Ok(self.settle(held, |state, key, left| {
            let Some(message) = state.waiting.remove(&key) else { return };
            state.last_failed += 1;
            let payload = left.cloned().unwrap_or(message.payload);
            let (id, queue, reason) = (message.id, message.queue, reason.to_owned());
            state.failed.insert(state.last_failed, Failed { id, queue, payload, reason, failed_at: now });
        }))
    }

    async fn wait(&self, queues: &[QueueName], at_most: Duration) {
        let changed = self.changed.notified();
        let mut changed = std::pin::pin!(changed);
        // Registered before looking, so that a push in between is not missed.
        changed.as_mut().enable();
        let until = self.next_due(queues).map_or(at_most, |due| due.min(at_most));
        // Running out of time is one of the two ways to return.
        drop(tokio::time::timeout(until, changed).await);
    }

    fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

#[async_trait]
impl QueueAdmin for MemoryQueue {
    async fn migrate(&self) -> Result<()> {
        Ok(())
    }

    async fn sizes(&self, queue: &QueueName) -> Result<QueueSizes> {
        let (state, now) = (self.state(), self.clock.now());
        let mut sizes = QueueSizes::default();
        for message in state.waiting.values().filter(|message| message.queue == *queue) {
            let since = match message.reserved_at {
                Some(reserved_at) => {
                    sizes.reserved += 1;
                    reserved_at + self.retry_after
                }
                None if message.available_at <= now => {
                    sizes.ready += 1;
                    message.available_at
                }
                None => {
                    sizes.delayed += 1;
                    continue;
                }
            };
            if since <= now {
                sizes.oldest = sizes.oldest.max(Some(now - since));
            }
        }
        let failed = state.failed.values().filter(|failed| failed.queue == *queue).count();
        Ok(QueueSizes { failed: failed as u64, ..sizes })
    }

    async fn queues(&self) -> Result<Vec<QueueName>> {
        let state = self.state();
        let waiting = state.waiting.values().map(|message| &message.queue);
        let names: BTreeSet<_> = waiting.chain(state.failed.values().map(|failed| &failed.queue)).cloned().collect();
        Ok(names.into_iter().collect())
    }

    async fn failed(&self, filter: &FailedFilter) -> Result<FailedPage> {
        let before = match &filter.after {
            Some(after) => after.parse().map_err(|_| {
                Error::new(
                    ErrorKind::Rejected,
                    DRIVER,
                    format!("cannot list failed messages after {after:?}: not the `next` of a page"),
                )
            })?,
            None => u64::MAX,
        };
        let state = self.state();
        let wanted = |failed: &Failed| filter.queue.as_ref().is_none_or(|queue| failed.queue == *queue);
        let mut found = state.failed.range(..before).rev().filter(|(_, failed)| wanted(failed)).peekable();
        let (mut messages, mut next) = (Vec::new(), None);
        for (key, failed) in found.by_ref().take(filter.limit) {
            messages.push(FailedMessage {
                id: failed.id.clone(),
                queue: failed.queue.clone(),
                reason: failed.reason.clone(),
                failed_at: unix_seconds(failed.failed_at),
                payload_bytes: failed.payload.len() as u64,
            });
            next = Some(key.to_string());
        }
        Ok(FailedPage { messages, next: next.filter(|_| found.peek().is_some()) })
    }

    async fn failed_payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        let state = self.state();
        Ok(state.failed.values().find(|failed| failed.id == *id).map(|failed| failed.payload.to_vec()))
    }

    async fn retry(&self, which: &Selection) -> Result<u64> {
        let now = self.clock.now();
        let mut state = self.state();
        let keys = state.selected(which, now);
        for key in &keys {
            let Some(Failed { id, queue, payload, .. }) = state.failed.remove(key) else { continue };
            let (reserved_at, available_at, created_at) = (None, now, now);
            state.add(Message { id, queue, payload, attempts: 0, reserved_at, available_at, created_at });
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(keys.len() as u64)
    }

    async fn forget(&self, which: &Selection) -> Result<u64> {
        let now = self.clock.now();
        let mut state = self.state();
        let keys = state.selected(which, now);
        state.failed.retain(|key, _| !keys.contains(key));
        Ok(keys.len() as u64)
    }

    async fn clear(&self, queue: &QueueName) -> Result<u64> {
        let mut state = self.state();
        let before = state.waiting.len();
        state.waiting.retain(|_, message| message.queue != *queue);
        Ok((before - state.waiting.len()) as u64)
    }

    async fn pause(&self, queue: &QueueName) -> Result<()> {
        self.state().paused.insert(queue.clone());
        Ok(())
    }

    async fn resume(&self, queue: &QueueName) -> Result<()> {
        self.state().paused.remove(queue);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn restart(&self) -> Result<()> {
        self.state().restart += 1;
        self.changed.notify_waiters();
        Ok(())
    }

    async fn control(&self) -> Result<Control> {
        let state = self.state();
        Ok(Control { paused: state.paused.iter().cloned().collect(), restart: state.restart })
    }
}

/// The receipts and what is left of their messages, once it is known to be text.
fn remainders(held: &[Remainder]) -> Result<Vec<(&Receipt, Option<&Bytes>)>> {
    let check = |Remainder { receipt, payload }: &Remainder| match payload {
        Some(payload) => check_text(DRIVER, &receipt.id, payload).map(drop),
        None => Ok(()),
    };
    held.iter().try_for_each(check)?;
    Ok(held.iter().map(|remainder| (&remainder.receipt, remainder.payload.as_ref())).collect())
}

fn unix_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
