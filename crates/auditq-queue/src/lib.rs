//! Message queues that never lose a message: one contract, one conformance suite, one file per driver.
//!
//! A queue sees bytes: what a message means is its consumer's business. A driver holds no policy and no metrics.

mod clock;
mod control;
mod error;
mod failed_jobs;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod heads;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod identity;
mod message;
#[cfg(feature = "redis")]
mod parted;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod renewed;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod seconds;

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod memory;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use clock::{Clock, ManualClock, SystemClock};
pub use control::{Control, FailedFilter, FailedMessage, FailedPage, QueueSizes, Selection};
pub use error::{Error, ErrorKind, Result};
pub use failed_jobs::{FailedJobs, FailedJobsOptions, GivenUp, Kept, WallClock};
pub use message::{
    InvalidQueueName, MessageId, NewMessage, QueueName, RESERVED_BYTES_MAX, Receipt, Remainder, Reserved,
};

#[cfg(feature = "redis")]
pub use parted::PartedQueue;

/// A durable queue of opaque messages.
///
/// # Contract
/// 1. [`push`](Self::push) returns Ok only when every message is durable on that engine; on Err the caller pushes
///    again, and messages that are there already are not added twice.
/// 2. A message is returned by [`reserve`](Self::reserve) until it is deleted or buried.
/// 3. While reserved it is invisible to every other caller, for `retry_after`.
/// 4. `attempts` counts reservations, so the try of a worker that crashed counts.
/// 5. A stale receipt changes nothing, and says so.
/// 6. `release` makes a message available after the delay, not before; `attempts` stays.
/// 7. `bury` moves a message to the failed set in one atomic step.
/// 8. Queues named earlier are emptied first.
/// 9. Sizes are exact and cost the same at 10 and at 10 million messages, or say that they are estimates.
/// 10. `retry` is atomic; a crash in the middle leaves the message in exactly one place.
/// 11. `release` and `bury` may carry what is left of a message, which replaces it in the same atomic step.
/// 12. `decline` makes a message available after the delay as if it had not been reserved: `attempts` is what it was.
///
/// The suite in `conformance` (a feature) holds at least one test for each.
#[async_trait]
pub trait Queue: fmt::Debug + Send + Sync + 'static {
    /// Adds messages: all of them or none.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer: it is not known whether they were added, and pushing the same
    /// messages again is safe.
    async fn push(&self, batch: &[NewMessage]) -> Result<()>;

    /// Takes up to `limit` messages, oldest first, from the first of `queues` that has any, then the next.
    ///
    /// Messages whose reservation lapsed come first, from the oldest reservation on; then those that became available
    /// first. Paused queues are passed
    /// over. Takes no more once it has [`RESERVED_BYTES_MAX`] of payload, but one message at least. Returns at once,
    /// with nothing when there is nothing.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer. What it may have reserved comes back after `retry_after`.
    async fn reserve(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Reserved>>;

    /// Begins the reservations anew, so that they last `retry_after` from now. Returns the receipts that were stale.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer: the reservations run on as they were.
    async fn extend(&self, held: &[Receipt]) -> Result<Vec<Receipt>>;

    /// Removes messages that are done. Returns the receipts that were stale, whose messages were not touched.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer: nothing is known to have changed, and calling again is safe.
    async fn delete(&self, done: &[Receipt]) -> Result<Vec<Receipt>>;

    /// Gives messages back, to be reserved again after `delay`. Returns the receipts that were stale.
    ///
    /// `attempts` is not reset.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    async fn release(&self, held: &[Remainder], delay: Duration) -> Result<Vec<Receipt>>;

    /// Gives messages back that are somebody else's, to be reserved again after `delay`. Returns the receipts that were
    /// stale.
    ///
    /// As if they had never been taken: the reservation does not count among `attempts`.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    async fn decline(&self, held: &[Receipt], delay: Duration) -> Result<Vec<Receipt>>;

    /// Moves messages to the failed set with the reason why. Returns the receipts that were stale.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    async fn bury(&self, held: &[Remainder], reason: &str) -> Result<Vec<Receipt>>;

    /// Returns when a message may have come, and after `at_most` in any case.
    ///
    /// A hint: the caller reserves to find out. Costs no query while nothing changes.
    async fn wait(&self, queues: &[QueueName], at_most: Duration);

    /// How long a reservation lasts unless it is extended.
    fn retry_after(&self) -> Duration;
}

/// What people do with a queue: look at it, mend what failed, stop and start its workers.
#[async_trait]
pub trait QueueAdmin: fmt::Debug + Send + Sync + 'static {
    /// Makes the tables it needs and brings older ones up to date; does nothing when they are.
    ///
    /// # Errors
    /// `Misconfigured` when tables of the same names have another shape, or the right to make them is missing.
    async fn migrate(&self) -> Result<()>;

    /// Says whether the tables it needs are those that [`migrate`](Self::migrate) makes; changes nothing.
    ///
    /// # Errors
    /// `Misconfigured` when they are missing, or of a shape that `migrate` refuses.
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What in the engine's own settings may cost messages that were pushed, each with what to do about it.
    ///
    /// Nothing, where the engine keeps what it has accepted.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn warnings(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// How many messages are where, for one queue.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn sizes(&self, queue: &QueueName) -> Result<QueueSizes>;

    /// The names of the queues that hold messages, waiting or failed, sorted.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn queues(&self) -> Result<Vec<QueueName>>;

    /// One page of failed messages, newest first.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn failed(&self, filter: &FailedFilter) -> Result<FailedPage>;

    /// One failed message with its payload; `None` when there is none of that id.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn failed_payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>>;

    /// Puts failed messages back into their queues with `attempts` 0; returns how many.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer: each message is in exactly one place.
    async fn retry(&self, which: &Selection) -> Result<u64>;

    /// Drops failed messages; returns how many. The events in them are lost: a person decided so.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn forget(&self, which: &Selection) -> Result<u64>;

    /// Drops all messages of a queue, reserved ones too; returns how many.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn clear(&self, queue: &QueueName) -> Result<u64>;

    /// Stops workers from taking messages of this queue until [`resume`](Self::resume); what they hold they finish.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn pause(&self, queue: &QueueName) -> Result<()>;

    /// Ends a pause.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn resume(&self, queue: &QueueName) -> Result<()>;

    /// Asks every worker that runs now to finish what it holds and exit.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn restart(&self) -> Result<()>;

    /// What was asked of the workers: which queues are paused, and which restart was the last.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn control(&self) -> Result<Control>;
}
