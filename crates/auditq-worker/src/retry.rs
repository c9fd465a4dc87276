//! What happens to a message that could not be stored: a pure function.

use std::time::Duration;

use auditq_laravel::JobLimits;

/// How often, how long apart, and when to give up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a message is tried; 0 is without limit.
    pub tries: u32,
    /// How many rejections bury what was rejected; 0 is without limit.
    pub max_exceptions: u32,
    /// The wait before the second, third, … try; the last one goes on.
    pub backoff: Vec<Duration>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The store or queue does not answer. Nobody's fault: it uses up nothing.
    Unavailable,
    /// The store refuses an event of this message.
    Rejected {
        /// How often it was refused, this time included.
        exceptions: u32,
    },
    /// No decoder takes it. Trying again with the same program cannot help.
    Undecodable,
    /// It was reserved before and never settled: its worker died, perhaps of it.
    Abandoned,
    /// The store or queue cannot work as it is configured, or is damaged.
    Hopeless,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Keep it, wait, and try the same again.
    Wait(Duration),
    /// Give it back, to be reserved again after a while.
    Release(Duration),
    /// Try it by itself, so that it can harm nothing else.
    Isolate,
    /// Give it up and keep it for a person.
    Bury,
    /// End the worker: a person has to act.
    Stop,
}

/// The longest wait for a store that does not answer. An outage ends unnoticed for at most that long.
const WAIT_MAX: Duration = Duration::from_secs(15);
const WAIT_FIRST: Duration = Duration::from_millis(100);

/// How often a message that no worker survived is tried by itself before it is given up: workers are also killed
/// for reasons that are not the message's fault.
const LAST_CHANCES: u32 = 100;

impl RetryPolicy {
    /// Decides from the number of reservations so far, the failure, and a random number from 0 to 1.
    ///
    /// For [`Failure::Unavailable`], `attempts` is the number of waits so far.
    #[must_use]
    pub fn decide(&self, attempts: u32, failure: Failure, jitter: f64) -> Decision {
        match failure {
            Failure::Unavailable => Decision::Wait(spread(wait_for_engine(attempts), jitter)),
            Failure::Hopeless => Decision::Stop,
            Failure::Undecodable => Decision::Bury,
            Failure::Rejected { exceptions } => {
                if reached(attempts, self.tries) || reached(exceptions, self.max_exceptions) {
                    Decision::Bury
                } else {
                    Decision::Release(spread(self.backoff_after(attempts), jitter))
                }
            }
            Failure::Abandoned => match self.tries {
                0 => Decision::Isolate,
                tries if attempts > tries.saturating_add(LAST_CHANCES) => Decision::Bury,
                _ => Decision::Isolate,
            },
        }
    }

    /// The policy for a job that says some of it itself, at `now` (Unix seconds).
    ///
    /// Until its `retryUntil` tries are without limit, afterwards the next refusal is the last. A job without
    /// `maxExceptions` has no such limit, whatever the worker's is: so does Laravel.
    #[must_use]
    pub fn of_job(&self, job: &JobLimits, now: i64) -> Self {
        let tries = match job.retry_until {
            Some(until) if now < until => 0,
            Some(_) => 1,
            None => job.tries.unwrap_or(self.tries),
        };
        let seconds = |seconds: &Vec<u32>| seconds.iter().map(|second| Duration::from_secs((*second).into())).collect();
        Self {
            tries,
            max_exceptions: job.max_exceptions.unwrap_or(0),
            backoff: job.backoff.as_ref().map_or_else(|| self.backoff.clone(), seconds),
        }
    }

    /// True when a message was reserved so often that it is handled by itself.
    #[must_use]
    pub fn is_suspect(&self, attempts: u32) -> bool {
        self.tries > 0 && attempts > self.tries
    }

    fn backoff_after(&self, attempts: u32) -> Duration {
        let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        self.backoff.get(index).or(self.backoff.last()).copied().unwrap_or_default()
    }
}

fn reached(count: u32, limit: u32) -> bool {
    limit > 0 && count >= limit
}

/// 100 ms, doubled with each wait, up to [`WAIT_MAX`].
fn wait_for_engine(waits: u32) -> Duration {
    WAIT_FIRST.saturating_mul(1 << waits.min(10)).min(WAIT_MAX)
}

/// Between the whole of `wait` and a quarter more, so that workers that failed together do not come back together,
/// and never earlier than was asked for.
fn spread(wait: Duration, jitter: f64) -> Duration {
    wait.mul_f64(1.0 + 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { tries: 3, max_exceptions: 3, backoff: [1, 5, 10].map(Duration::from_secs).to_vec() }
    }

    #[test]
    fn an_engine_that_does_not_answer_is_waited_for_however_long_and_nothing_is_buried() {
        for waits in [0, 1, 5, 100, 3_600, u32::MAX] {
            let Decision::Wait(wait) = policy().decide(waits, Failure::Unavailable, 1.0) else { panic!("{waits}") };
            assert!(wait >= Duration::from_millis(100) && wait <= Duration::from_secs(19), "{waits}: {wait:?}");
        }
    }

    #[test]
    fn a_rejected_event_waits_longer_each_time_and_is_buried_at_the_third() {
        let at = |attempts| policy().decide(attempts, Failure::Rejected { exceptions: attempts }, 0.0);
        assert_eq!(at(1), Decision::Release(Duration::from_secs(1)));
        assert_eq!(at(2), Decision::Release(Duration::from_secs(5)));
        assert_eq!(at(3), Decision::Bury);
    }

    #[test]
    fn max_exceptions_buries_even_where_tries_are_without_limit() {
        let policy = RetryPolicy { tries: 0, max_exceptions: 2, ..policy() };
        assert_eq!(
            policy.decide(9, Failure::Rejected { exceptions: 1 }, 0.0),
            Decision::Release(Duration::from_secs(10))
        );
        assert_eq!(policy.decide(10, Failure::Rejected { exceptions: 2 }, 0.0), Decision::Bury);
    }

    #[test]
    fn without_limits_nothing_rejected_is_ever_buried() {
        let policy = RetryPolicy { tries: 0, max_exceptions: 0, backoff: vec![] };
        for attempts in [1, 10, 1_000_000] {
            let failure = Failure::Rejected { exceptions: attempts };
            assert_eq!(policy.decide(attempts, failure, 1.0), Decision::Release(Duration::ZERO));
        }
    }

    #[test]
    fn what_workers_did_not_survive_is_isolated_first_and_given_up_much_later() {
        assert_eq!(policy().decide(4, Failure::Abandoned, 0.0), Decision::Isolate);
        assert_eq!(policy().decide(103, Failure::Abandoned, 0.0), Decision::Isolate);
        assert_eq!(policy().decide(104, Failure::Abandoned, 0.0), Decision::Bury);
        assert!(!policy().is_suspect(3) && policy().is_suspect(4));
    }

    #[test]
    fn a_job_of_laravel_is_tried_as_it_says_and_otherwise_as_the_worker_does() {
        let of = |job: JobLimits| policy().of_job(&job, 1_000);
        assert_eq!(of(JobLimits::default()), RetryPolicy { max_exceptions: 0, ..policy() });
        let own =
            of(JobLimits { tries: Some(5), max_exceptions: Some(2), backoff: Some(vec![7]), ..JobLimits::default() });
        assert_eq!(own, RetryPolicy { tries: 5, max_exceptions: 2, backoff: vec![Duration::from_secs(7)] });
        let until =
            |retry_until| of(JobLimits { retry_until: Some(retry_until), tries: Some(2), ..JobLimits::default() });
        let rejected = |policy: RetryPolicy| policy.decide(50, Failure::Rejected { exceptions: 50 }, 0.0);
        assert_eq!(rejected(until(1_001)), Decision::Release(Duration::from_secs(10)));
        assert_eq!(rejected(until(1_000)), Decision::Bury);
    }

    #[test]
    fn jitter_only_ever_lengthens_a_wait() {
        let release = |jitter| policy().decide(1, Failure::Rejected { exceptions: 1 }, jitter);
        assert_eq!(release(0.0), Decision::Release(Duration::from_secs(1)));
        assert_eq!(release(1.0), Decision::Release(Duration::from_millis(1250)));
        assert_eq!(release(f64::NAN.max(0.0)), Decision::Release(Duration::from_secs(1)));
    }
}
