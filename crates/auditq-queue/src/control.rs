use std::time::Duration;

use crate::message::{MessageId, QueueName};

/// How many messages of one queue are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSizes {
    /// Can be reserved now.
    pub ready: u64,
    /// Will be available later.
    pub delayed: u64,
    /// Held by a worker, or by one that has gone and whose messages nobody has taken over yet.
    pub reserved: u64,
    /// Given up.
    pub failed: u64,
    /// For how long the oldest message that can be reserved has been available, lapsed reservations included.
    pub oldest: Option<Duration>,
    /// True when the engine can only estimate the numbers.
    pub estimated: bool,
}

impl QueueSizes {
    /// Everything that is still to be done: ready, delayed and reserved.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ready + self.delayed + self.reserved
    }
}

/// Which failed messages to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedFilter {
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// At most so many. Defaults to 100.
    pub limit: usize,
    /// Continues after [`FailedPage::next`] of the page before.
    pub after: Option<String>,
}

impl Default for FailedFilter {
    fn default() -> Self {
        Self { queue: None, limit: 100, after: None }
    }
}

/// One page of failed messages, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedPage {
    /// Without their payloads.
    pub messages: Vec<FailedMessage>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<String>,
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedMessage {
    /// Its identity.
    pub id: MessageId,
    /// Where it failed, and where a retry puts it.
    pub queue: QueueName,
    /// Why it was given up.
    pub reason: String,
    /// When, as Unix seconds UTC.
    pub failed_at: i64,
    /// How many bytes its payload has.
    pub payload_bytes: u64,
}

/// Which failed messages an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<MessageId>),
    /// All, or all of one queue, that failed longer ago than `older_than`.
    Matching {
        /// Only of this queue.
        queue: Option<QueueName>,
        /// Only those that failed at least so long ago; zero is all of them, whatever the clocks say.
        older_than: Duration,
    },
}

impl Selection {
    /// Every failed message there is.
    #[must_use]
    pub fn all() -> Self {
        Self::Matching { queue: None, older_than: Duration::ZERO }
    }
}

/// What people have asked of the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Queues that nothing is to be taken from.
    pub paused: Vec<QueueName>,
    /// Grows with each restart that is asked for; a worker that started under another number exits.
    pub restart: u64,
}
