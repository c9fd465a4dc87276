//! Laravel's `failed_jobs` table for a queue that is on another engine.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

use crate::clock::Clock;
use crate::{FailedFilter, FailedPage, MessageId, QueueName, Result, Selection};

/// A message on its way into the failed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Its identity: the column `uuid`.
    pub id: MessageId,
    /// The queue it was given up in, by its plain name.
    pub queue: QueueName,
    /// As it was before its last reservation, which is what Laravel keeps.
    pub payload: Bytes,
}

/// A message in the failed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The number of its row.
    pub row: i64,
    /// The message.
    pub message: GivenUp,
}

/// The failed messages of one queue connection, in a table that a Laravel application reads and writes too.
///
/// # Contract
/// 1. [`keep`](Self::keep) keeps all messages or none, each once: a message that is kept already, by its id and what is
///    in it, is not added a second time, so that it may be called again after a crash.
/// 2. Another message that bears the id of a kept one displaces nothing: it is kept under its id with a suffix.
/// 3. Rows of other connections are not seen and not touched.
#[async_trait]
pub trait FailedJobs: fmt::Debug + Send + Sync + 'static {
    /// Makes the table where it is missing, and what lets it be searched.
    ///
    /// # Errors
    /// `Misconfigured` when a table of its name has another shape.
    async fn migrate(&self) -> Result<()>;

    /// Says whether the table is one that [`migrate`](Self::migrate) makes or takes; changes nothing.
    ///
    /// # Errors
    /// `Misconfigured` when it is missing, or of a shape that `migrate` refuses.
    async fn check(&self) -> Result<()>;

    /// Keeps messages, with the reason why they were given up.
    ///
    /// # Errors
    /// `Rejected` when the table cannot hold one of them; nothing was kept then.
    async fn keep(&self, given_up: &[GivenUp], reason: &str) -> Result<()>;

    /// Which of these are kept.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn known(&self, ids: &[MessageId]) -> Result<HashSet<MessageId>>;

    /// How many messages of a queue are kept, and whether that is an estimate.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn count(&self, queue: &QueueName) -> Result<(u64, bool)>;

    /// The names of the queues whose messages are kept, sorted.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn queues(&self) -> Result<Vec<QueueName>>;

    /// One page, newest first.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer; `Rejected` for an `after` that is no [`FailedPage::next`].
    async fn page(&self, filter: &FailedFilter) -> Result<FailedPage>;

    /// The payload of one message.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>>;

    /// The number of the newest row; 0 when there is none.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn newest(&self) -> Result<i64>;

    /// The rows of what is selected, up to `newest`: all that were named, or at most `limit` of those that match, oldest
    /// first.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn rows(&self, which: &Selection, newest: i64, limit: usize) -> Result<Vec<i64>>;

    /// The messages in these rows, as far as they are still there, in their order.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn read(&self, rows: &[i64]) -> Result<Vec<Kept>>;

    /// Drops rows; returns how many were there.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn remove(&self, rows: &[i64]) -> Result<u64>;
}

/// How rows of `failed_jobs` are written.
#[derive(Clone, Debug)]
pub struct FailedJobsOptions {
    /// The column `connection`: what the application calls the queue's connection, such as `redis`.
    pub connection: String,
    /// The application's zone, in which it notes when a job failed. Defaults to UTC.
    pub wall: WallClock,
    /// Where the time comes from. Defaults to the machine's clock.
    pub clock: Arc<dyn Clock>,
}

impl FailedJobsOptions {
    /// For a queue connection of that name.
    #[must_use]
    pub fn new(connection: impl Into<String>) -> Self {
        Self { connection: connection.into(), wall: WallClock::utc(), clock: Arc::new(crate::SystemClock) }
    }

    /// Now, as the application would write it: seconds since 1970 on its wall.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    pub(crate) fn now(&self) -> i64 {
        self.wall.at(i64::try_from(self.clock.now().as_secs()).unwrap_or(i64::MAX))
    }

    /// What failed by this second is so old; every second when no age is asked for.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    pub(crate) fn before(&self, age: std::time::Duration) -> i64 {
        if age.is_zero() {
            return i64::MAX;
        }
        let seconds = age.as_secs().saturating_add(u64::from(age.subsec_nanos() > 0));
        self.now().saturating_sub(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    /// The row before which a page begins.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    pub(crate) fn page_before(driver: &'static str, filter: &FailedFilter) -> Result<i64> {
        let Some(after) = &filter.after else { return Ok(i64::MAX) };
        after.parse().map_err(|_| {
            let message = format!("cannot list failed messages after {after:?}: it is not the `next` of a page");
            crate::Error::new(crate::ErrorKind::Rejected, driver, message)
        })
    }

    /// The page with its times in UTC.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    pub(crate) fn in_utc(&self, page: FailedPage) -> FailedPage {
        self.wall.page_in_utc(page)
    }
}

/// The clock on an application's wall.
#[derive(Clone)]
pub struct WallClock {
    offset_at: Arc<dyn Fn(i64) -> i64 + Send + Sync>,
}

impl WallClock {
    /// A clock that is so many seconds ahead of UTC at that Unix second.
    pub fn new(offset_at: impl Fn(i64) -> i64 + Send + Sync + 'static) -> Self {
        Self { offset_at: Arc::new(offset_at) }
    }

    /// One that shows UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self::new(|_| 0)
    }

    /// What it shows at that Unix second, as if it were UTC.
    #[must_use]
    pub fn at(&self, unix: i64) -> i64 {
        unix.saturating_add((self.offset_at)(unix))
    }

    /// When it showed that; where it showed it twice, one of them.
    #[must_use]
    pub fn utc_of(&self, shown: i64) -> i64 {
        let near = shown.saturating_sub((self.offset_at)(shown));
        shown.saturating_sub((self.offset_at)(near))
    }

    /// A page whose times are those on the wall, with its times in UTC.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    pub(crate) fn page_in_utc(&self, mut page: FailedPage) -> FailedPage {
        for message in &mut page.messages {
            message.failed_at = self.utc_of(message.failed_at);
        }
        page
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// What a failed job's row is found to be, when one is given up that bears its id.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub(crate) enum Place {
    /// Nobody bears the id.
    Free,
    /// The same job, which failed before.
    Same,
    /// Another one: this one's id gets this suffix.
    Taken(String),
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
impl Place {
    /// From the connection and payload of the row that bears the id.
    pub(crate) fn of(found: Option<(String, Vec<u8>)>, connection_name: &str, payload: &[u8]) -> Self {
        match found {
            None => Self::Free,
            Some((connection, before)) if connection == connection_name && is_same_job(&before, payload) => Self::Same,
            Some(_) => Self::Taken(format!("{:08x}", fastrand::u32(..))),
        }
    }
}

/// True when two payloads are one job at different times: a try changes `attempts`, `queue:retry` the spelling and
/// `retryUntil`, and a pop in Redis makes `{}` of `[]`.
pub(crate) fn is_same_job(one: &[u8], other: &[u8]) -> bool {
    let job = |payload: &[u8]| -> Option<Value> {
        let mut job: Value = serde_json::from_slice(payload).ok()?;
        let fields = job.as_object_mut()?;
        fields.retain(|key, _| key != "attempts" && key != "retryUntil");
        empty_objects_to_lists(&mut job);
        Some(job)
    };
    one == other || job(one).is_some_and(|one| job(other).is_some_and(|other| one == other))
}

fn empty_objects_to_lists(value: &mut Value) {
    match value {
        Value::Object(object) if object.is_empty() => *value = Value::Array(Vec::new()),
        Value::Object(object) => object.values_mut().for_each(empty_objects_to_lists),
        Value::Array(list) => list.iter_mut().for_each(empty_objects_to_lists),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_the_same_after_a_try_and_after_a_retry() {
        let same = |one: &str, other: &str| is_same_job(one.as_bytes(), other.as_bytes());
        assert!(same(r#"{"a":"é","attempts":0,"tags":[]}"#, r#"{"tags":{},"a":"\u00e9","attempts":2,"retryUntil":1}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(same("no JSON", "no JSON") && !same("no JSON", "no json"));
    }

    #[test]
    fn a_wall_clock_is_read_back() {
        let berlin = WallClock::new(|unix| if unix < 1_000 { 3_600 } else { 7_200 });
        for unix in [0, 999, 1_000, 5_000] {
            assert_eq!(berlin.utc_of(berlin.at(unix)), unix);
        }
    }
}
