use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::observer::StopReason;

/// When the workers of a process end by themselves. Defaults to never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// After so many messages; 0 is without limit.
    pub max_jobs: u64,
    /// After so long; zero is without limit.
    pub max_time: Duration,
    /// When the process holds more than so many bytes; 0 is without limit.
    pub memory_bytes: u64,
    /// After one message, or when there is none.
    pub once: bool,
    /// When there is nothing to take.
    pub stop_when_empty: bool,
}

/// What is left of [`Limits`]: one for all workers of a process.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    started: Instant,
    taken: AtomicU64,
    /// True while a forwarder may still push: an empty queue is not the end then.
    fed: watch::Sender<bool>,
}

impl Budget {
    /// Begins now.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, started: Instant::now(), taken: AtomicU64::new(0), fed: watch::Sender::new(false) }
    }

    /// How many messages may be reserved next, at least 1.
    pub(crate) fn messages_wanted(&self, batch: usize) -> usize {
        if self.limits.once {
            return 1;
        }
        if self.limits.max_jobs == 0 {
            return batch;
        }
        let left = self.limits.max_jobs.saturating_sub(self.taken.load(Ordering::Relaxed));
        usize::try_from(left).unwrap_or(usize::MAX).clamp(1, batch)
    }

    pub(crate) fn count(&self, messages: usize) {
        self.taken.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// How many messages were taken so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// True when the work ends once there is nothing to take.
    pub(crate) fn ends_when_empty(&self) -> bool {
        self.limits.once || self.limits.stop_when_empty
    }

    /// Says whether a forwarder is about to push what it finds.
    pub(crate) fn set_fed(&self, fed: bool) {
        self.fed.send_replace(fed);
    }

    /// True when nobody is about to push.
    pub(crate) fn is_unfed(&self) -> bool {
        !*self.fed.borrow()
    }

    /// Returns once nobody is about to push.
    pub(crate) async fn unfed(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        drop(self.fed.subscribe().wait_for(|fed| !fed).await);
    }

    /// How long the workers may go on; `None` is without limit.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let limit = self.limits.max_time;
        (limit > Duration::ZERO).then(|| limit.saturating_sub(self.started.elapsed()))
    }

    /// Which limit is reached, if any.
    pub(crate) fn reached(&self) -> Option<StopReason> {
        if self.limits.once && self.taken() > 0 {
            return Some(StopReason::Empty);
        }
        if self.limits.max_jobs > 0 && self.taken() >= self.limits.max_jobs {
            return Some(StopReason::MaxJobs);
        }
        if self.limits.max_time > Duration::ZERO && self.started.elapsed() >= self.limits.max_time {
            return Some(StopReason::MaxTime);
        }
        if self.limits.memory_bytes > 0 && resident_bytes().is_some_and(|bytes| bytes > self.limits.memory_bytes) {
            return Some(StopReason::Memory);
        }
        None
    }
}

/// Bytes of memory that this process holds; `None` where the system does not say.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_max_jobs_allows() {
        let budget = Budget::new(Limits { max_jobs: 10, ..Limits::default() });
        assert_eq!(budget.messages_wanted(8), 8);
        budget.count(8);
        assert_eq!((budget.messages_wanted(8), budget.reached()), (2, None));
        budget.count(2);
        assert_eq!(budget.reached(), Some(StopReason::MaxJobs));
    }

    #[test]
    fn once_takes_one_message_and_ends() {
        let budget = Budget::new(Limits { once: true, ..Limits::default() });
        assert_eq!(budget.messages_wanted(8), 1);
        assert_eq!(budget.reached(), None);
        budget.count(1);
        assert_eq!(budget.reached(), Some(StopReason::Empty));
    }

    #[test]
    fn who_waits_does_not_wait_beyond_its_time() {
        let budget = Budget::new(Limits { max_time: Duration::from_secs(60), ..Limits::default() });
        assert!(budget.time_left().is_some_and(|left| left <= Duration::from_secs(60)));
        assert_eq!(Budget::new(Limits::default()).time_left(), None);
    }

    #[test]
    fn a_process_over_its_memory_says_so() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        let budget = Budget::new(Limits { memory_bytes: 1, ..Limits::default() });
        assert_eq!(budget.reached(), Some(StopReason::Memory));
        assert_eq!(StopReason::Memory.exit_code(), 12);
    }
}
