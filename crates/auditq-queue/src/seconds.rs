//! Times as Laravel's columns hold them: whole seconds since 1970.

use std::time::Duration;

/// One reading of the clock in the whole seconds of Laravel's columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    exact: Duration,
    /// The second that has begun: what is due by then is due.
    pub(crate) now: i64,
    /// The second that begins next: a reservation counted from here is not too short.
    pub(crate) next: i64,
    pub(crate) retry_after: i64,
}

impl Time {
    pub(crate) fn new(exact: Duration, retry_after: Duration) -> Self {
        Self { exact, now: seconds(exact.as_secs()), next: rounded_up(exact), retry_after: rounded_up(retry_after) }
    }

    /// The first second that is no earlier than after `delay`; the last one that a column holds when that is sooner.
    pub(crate) fn after(&self, delay: Duration, last: i64) -> i64 {
        let due = if delay.is_zero() { self.now } else { rounded_up(self.exact.saturating_add(delay)) };
        due.min(last)
    }

    #[cfg(any(feature = "mysql", feature = "postgres"))]
    /// For how long something that happens in that second has to be waited for.
    pub(crate) fn until(&self, due: i64) -> Duration {
        Duration::from_secs(u64::try_from(due).unwrap_or(0)).saturating_sub(self.exact)
    }

    /// The last second that is so long ago; every second when no age is asked for, because Laravel notes the time of
    /// a failure in the zone of its application, which may be ahead of the one that is known here.
    pub(crate) fn before(&self, age: Duration) -> i64 {
        if age.is_zero() {
            return i64::MAX;
        }
        self.now.saturating_sub(rounded_up(age))
    }

    /// A reservation of this second or before has lapsed.
    pub(crate) fn lapsed(&self) -> i64 {
        self.now.saturating_sub(self.retry_after)
    }

    /// Nobody has reserved after this second: the clock was set back, and the reservation would last for that long.
    pub(crate) fn impossible(&self) -> i64 {
        self.now.saturating_add(self.retry_after).saturating_add(1)
    }
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn rounded_up(time: Duration) -> i64 {
    seconds(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)))
}
