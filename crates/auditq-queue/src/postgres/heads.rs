//! Where in the index the search for messages may begin.
//!
//! While some session holds an old snapshot, vacuum removes nothing, and the entries of messages that are long gone
//! stand before those of messages that wait: each search would read them all, and more with every message. So a search
//! begins where the one before found nothing that is older. What comes to stand before that place nevertheless (a push
//! that took long to commit, a reservation that was rolled back) is found by the whole search every few seconds.

use crate::seconds::Time;

/// Seconds for which a place is good.
const GOOD_FOR: i64 = 5;
/// Seconds by which the next search begins earlier: a push commits a little later than it looks at the clock.
const MARGIN: i64 = 2;

/// What is known of the beginning of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// When the whole queue was searched.
    searched: i64,
    /// Nothing that is ready became available before this second.
    pub(super) ready_from: i64,
    /// No reservation of this second or before has lapsed and been left.
    pub(super) lapsed_after: i64,
}

impl Default for Head {
    /// Nothing is known.
    fn default() -> Self {
        Self { searched: i64::MIN, ready_from: i64::MIN, lapsed_after: i64::MIN }
    }
}

impl Head {
    /// What of it is still good.
    pub(super) fn at(self, time: Time) -> Self {
        let age = time.now.saturating_sub(self.searched);
        if (0..GOOD_FOR).contains(&age) { self } else { Self::default() }
    }

    /// After a search that began here: nothing that became available before `first` was left, and `none_lapsed` says
    /// that no lapsed reservation was.
    pub(super) fn moved_on(self, first: i64, none_lapsed: bool, time: Time) -> Self {
        let ready_from = first.min(time.now).saturating_sub(MARGIN);
        let lapsed_after = if none_lapsed { time.lapsed().saturating_sub(MARGIN) } else { self.lapsed_after };
        Self {
            searched: if self.searched == i64::MIN { time.now } else { self.searched },
            ready_from: self.ready_from.max(ready_from),
            lapsed_after: self.lapsed_after.max(lapsed_after),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn time(now: u64) -> Time {
        Time::new(Duration::from_secs(now), Duration::from_secs(10))
    }

    #[test]
    fn a_search_begins_a_little_before_what_the_last_one_found() {
        let head = Head::default().at(time(1_000)).moved_on(900, true, time(1_000));
        assert_eq!((head.ready_from, head.lapsed_after), (898, 988));
        let later = head.at(time(1_004)).moved_on(i64::MAX, false, time(1_004));
        assert_eq!((later.ready_from, later.lapsed_after), (1_002, 988));
    }

    #[test]
    fn every_few_seconds_and_when_the_clock_goes_back_the_whole_queue_is_searched() {
        let head = Head::default().moved_on(i64::MAX, true, time(1_000));
        let moved = head.at(time(1_003)).moved_on(i64::MAX, true, time(1_003));
        assert_eq!(moved.at(time(1_005)), Head::default());
        assert_eq!(moved.at(time(999)), Head::default());
    }
}
