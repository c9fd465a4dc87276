//! Where in the index the search for messages may begin.
//!
//! Until the server has cleaned up (PostgreSQL's vacuum, MySQL's purge, which wait for the oldest snapshot of any
//! session), the entries of messages that are long gone stand before those of messages that wait: each search would read
//! them all, and more with every message. So a search begins where the one before found nothing that is older. What
//! comes to stand before that place nevertheless (a push that took long to commit, a reservation that was rolled back)
//! is found by a search of the whole queue, which is made as often as a small share of the time pays for: where nothing
//! is in its way, many times a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::QueueName;
use crate::clock::Clock;
use crate::seconds::Time;

/// A place is good for so many times what finding it anew would cost more than using it.
const GOOD_FOR_COSTS: u32 = 50;
/// And for no longer than that.
const GOOD_FOR_MAX: Duration = Duration::from_secs(60);
/// The last seconds are always searched: a push commits a little later than it looks at the clock.
pub(crate) const MARGIN: i64 = 2;

/// What a process knows of the beginnings of its queues.
#[derive(Debug)]
pub(crate) struct Heads {
    known: Mutex<Known>,
    /// Nothing is known by a clock that tests set to and fro.
    by_tests: bool,
}

#[derive(Debug, Default)]
struct Known {
    heads: HashMap<QueueName, Head>,
    /// How often everything was forgotten.
    forgotten: u64,
}

impl Heads {
    pub(crate) fn new(clock: Option<&Arc<dyn Clock>>) -> Self {
        Self { known: Mutex::default(), by_tests: clock.is_some() }
    }

    /// A search of these queues begins, in a transaction of its own.
    pub(crate) fn begin(self: &Arc<Self>, queues: &[QueueName]) -> Search {
        let known = self.known();
        let heads = queues.iter().filter_map(|queue| Some((queue.clone(), *known.heads.get(queue)?))).collect();
        Search { of: Arc::clone(self), heads, forgotten: known.forgotten, is_over: false }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A search that has begun. Unless it comes to its end, what it had taken is there again, where others have passed it by
/// meanwhile: then nothing is known any more.
#[derive(Debug)]
pub(crate) struct Search {
    of: Arc<Heads>,
    pub(crate) heads: HashMap<QueueName, Head>,
    forgotten: u64,
    is_over: bool,
}

impl Search {
    /// Its transaction is committed: the next search may begin where this one says.
    pub(crate) fn end(mut self) {
        self.is_over = true;
        let mut known = self.of.known();
        if !self.of.by_tests && known.forgotten == self.forgotten {
            known.heads.extend(std::mem::take(&mut self.heads));
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        if !self.is_over {
            let mut known = self.of.known();
            known.heads.clear();
            known.forgotten += 1;
        }
    }
}

/// What is known of the beginning of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// When the whole queue was searched, and until when that is good.
    whole: Option<(i64, Instant)>,
    /// What a search that began here cost.
    usual: Duration,
    /// Nothing that is ready became available before this second.
    pub(crate) ready_from: i64,
    /// No reservation of this second or before has lapsed and been left.
    pub(crate) lapsed_after: i64,
    /// The second in which no lapsed reservation was found, and whether the whole queue was searched for them. Until it is
    /// over none lapses, because times are whole seconds.
    none_lapsed_at: Option<(i64, bool)>,
}

impl Default for Head {
    /// Nothing is known.
    fn default() -> Self {
        let (ready_from, lapsed_after) = (i64::MIN, i64::MIN);
        Self { whole: None, usual: Duration::ZERO, ready_from, lapsed_after, none_lapsed_at: None }
    }
}

impl Head {
    /// What of it is still good.
    pub(crate) fn at(self, time: Time, instant: Instant) -> Self {
        match self.whole {
            Some((searched, until)) if searched <= time.now && instant < until => self,
            _ => {
                let none_lapsed_at = self.none_lapsed_at.filter(|(_, whole)| *whole);
                Self { usual: self.usual, none_lapsed_at, ..Self::default() }
            }
        }
    }

    /// True when a lapsed reservation may be found. To look for one is to read what is left of all later ones.
    pub(crate) fn may_have_lapsed(self, time: Time) -> bool {
        self.none_lapsed_at.is_none_or(|(second, _)| second != time.now)
    }

    /// After a search that began here: nothing that became available before `first` was left, and `none_lapsed` says
    /// that no lapsed reservation was.
    pub(crate) fn moved_on(self, first: i64, none_lapsed: bool, time: Time) -> Self {
        let ready_from = first.min(time.now.saturating_sub(MARGIN));
        let lapsed_after = if none_lapsed { time.lapsed().saturating_sub(MARGIN) } else { self.lapsed_after };
        let none_lapsed_at = match self.none_lapsed_at {
            _ if !none_lapsed => None,
            known if !self.may_have_lapsed(time) => known,
            _ => Some((time.now, self.lapsed_after == i64::MIN)),
        };
        let (ready_from, lapsed_after) = (self.ready_from.max(ready_from), self.lapsed_after.max(lapsed_after));
        Self { ready_from, lapsed_after, none_lapsed_at, ..self }
    }

    /// After a search that began here and took as long as that.
    pub(crate) fn paid(self, cost: Duration, time: Time, instant: Instant) -> Self {
        if self.whole.is_some() {
            return Self { usual: cost, ..self };
        }
        let good_for = (cost.saturating_sub(self.usual) * GOOD_FOR_COSTS).min(GOOD_FOR_MAX);
        // What is usual is forgotten by and by, so that it is measured again.
        Self { whole: Some((time.now, instant + good_for)), usual: self.usual / 2, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn time(now: u64) -> Time {
        Time::new(Duration::from_secs(now), Duration::from_secs(10))
    }

    #[test]
    fn a_search_begins_where_the_last_one_found_something_and_not_in_the_last_seconds() {
        let began = Instant::now();
        let head = Head::default().moved_on(900, true, time(1_000)).paid(MS * 100, time(1_000), began);
        assert_eq!((head.ready_from, head.lapsed_after), (900, 988));
        let later = head.at(time(1_004), began + MS * 4_000).moved_on(i64::MAX, false, time(1_004));
        assert_eq!((later.ready_from, later.lapsed_after), (1_002, 988));
    }

    #[test]
    fn what_has_lapsed_is_looked_for_once_a_second_unless_something_is_left() {
        let (began, forgotten) = (Instant::now(), Instant::now() + GOOD_FOR_MAX);
        let head = Head::default().moved_on(900, true, time(1_000)).paid(MS * 1_000, time(1_000), began);
        assert!(head.may_have_lapsed(time(1_001)) && head.may_have_lapsed(time(999)));
        assert!(head.moved_on(900, false, time(1_000)).may_have_lapsed(time(1_000)));
        for same_second in [head, head.moved_on(900, true, time(1_000))] {
            assert!(!same_second.may_have_lapsed(time(1_000)));
            assert!(!same_second.at(time(1_000), forgotten).may_have_lapsed(time(1_000)));
        }
        // What began at the head is worth as much as the head.
        let next = head.at(time(1_001), began).moved_on(900, true, time(1_001));
        assert!(!next.at(time(1_001), began).may_have_lapsed(time(1_001)));
        assert!(next.at(time(1_001), forgotten).may_have_lapsed(time(1_001)));
    }

    #[test]
    fn the_whole_queue_is_searched_again_when_that_is_paid_for_or_the_clock_goes_back() {
        let began = Instant::now();
        let head = Head::default().moved_on(i64::MAX, true, time(1_000)).paid(MS * 100, time(1_000), began);
        assert_ne!(head.at(time(1_004), began + MS * 4_999), Head::default());
        let nothing = Head { none_lapsed_at: Some((1_000, true)), ..Head::default() };
        assert_eq!(head.at(time(1_005), began + MS * 5_000), nothing);
        assert_eq!(head.at(time(999), began), nothing);
    }

    #[test]
    fn what_a_search_took_that_came_to_nothing_is_looked_for_by_a_whole_search() {
        let (heads, queue) = (Arc::new(Heads::new(None)), QueueName::from_engine("q".to_owned()));
        let queues = [queue.clone()];
        let passed = |mut search: Search| {
            search.heads.insert(queue.clone(), Head { ready_from: 900, ..Head::default() });
            search.end();
        };
        passed(heads.begin(&queues));
        assert_eq!(heads.begin(&queues).heads[&queue].ready_from, 900);
        // The one of the line before was dropped.
        assert!(heads.begin(&queues).heads.is_empty());
        // Another one had begun, and does not know of what is there again.
        let other = heads.begin(&queues);
        drop(heads.begin(&queues));
        passed(other);
        assert!(heads.begin(&queues).heads.is_empty());
    }

    #[test]
    fn what_costs_nothing_is_done_each_time_and_what_costs_much_at_least_once_a_minute() {
        let began = Instant::now();
        let usual = Head::default().paid(MS * 8, time(1_000), began).paid(MS * 8, time(1_000), began);
        let again = usual.at(time(1_001), began + MS * 400);
        assert_eq!((again.whole, again.usual), (None, MS * 8));
        // No dearer than one that began later.
        let cheap = again.paid(MS * 8, time(1_001), began);
        assert_eq!(cheap.at(time(1_001), began).whole, None);
        // What is usual is measured again in time.
        let dearer = cheap.at(time(1_001), began).paid(MS * 8, time(1_001), began);
        assert!(dearer.at(time(1_001), began + MS * 199).whole.is_some());
        let dear = Head::default().paid(MS * 60_000, time(1_000), began);
        assert_eq!(dear.at(time(1_061), began + GOOD_FOR_MAX), Head::default());
    }
}
