use std::sync::{Mutex, MutexGuard, PoisonError};
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
    messages: Mutex<Messages>,
    /// True while a forwarder may still push: an empty queue is not the end then.
    fed: watch::Sender<bool>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Messages {
    taken: u64,
    /// What workers are about to take, and may not find.
    claimed: u64,
}

/// A part of the budget that one worker alone may use; what it does not use goes back.
#[derive(Debug)]
pub(crate) struct Claim<'b> {
    budget: &'b Budget,
    /// How many messages may be reserved; 0 when other workers have claimed all that is left.
    pub(crate) messages: usize,
}

impl Claim<'_> {
    /// Says how many messages were reserved.
    pub(crate) fn take(self, messages: usize) {
        self.budget.messages().taken += messages as u64;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.budget.messages().claimed -= self.messages as u64;
    }
}

impl Budget {
    /// Begins now.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, started: Instant::now(), messages: Mutex::default(), fed: watch::Sender::new(false) }
    }

    /// Sets aside up to `batch` messages for one worker, so that all together take no more than the limit.
    pub(crate) fn claim(&self, batch: usize) -> Claim<'_> {
        let mut held = self.messages();
        let left = self.limit().map_or(u64::MAX, |limit| limit.saturating_sub(held.taken + held.claimed));
        let messages = usize::try_from(left).unwrap_or(usize::MAX).min(batch);
        held.claimed += messages as u64;
        Claim { budget: self, messages }
    }

    fn limit(&self) -> Option<u64> {
        if self.limits.once { Some(1) } else { (self.limits.max_jobs > 0).then_some(self.limits.max_jobs) }
    }

    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages were taken so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.messages().taken
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
    fn all_workers_together_take_no_more_than_max_jobs() {
        let budget = Budget::new(Limits { max_jobs: 10, ..Limits::default() });
        let (one, two) = (budget.claim(8), budget.claim(8));
        assert_eq!((one.messages, two.messages, budget.claim(8).messages), (8, 2, 0));
        one.take(5);
        two.take(2);
        assert_eq!((budget.taken(), budget.reached()), (7, None));
        let rest = budget.claim(8);
        assert_eq!(rest.messages, 3, "what was claimed and not found can be claimed again");
        rest.take(3);
        assert_eq!(budget.reached(), Some(StopReason::MaxJobs));
    }

    #[test]
    fn once_takes_one_message_and_ends() {
        let budget = Budget::new(Limits { once: true, ..Limits::default() });
        let one = budget.claim(8);
        assert_eq!((one.messages, budget.claim(8).messages, budget.reached()), (1, 0, None));
        one.take(1);
        assert_eq!(budget.reached(), Some(StopReason::Empty));
    }

    #[test]
    fn a_process_over_its_memory_says_so() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        let budget = Budget::new(Limits { memory_bytes: 1, ..Limits::default() });
        assert_eq!(budget.reached(), Some(StopReason::Memory));
        assert_eq!(StopReason::Memory.exit_code(), 12);
    }
}
