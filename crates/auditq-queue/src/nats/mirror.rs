//! The ledger as this process knows it: which messages are held, delayed or given back, and since when.
//!
//! It may lag behind the ledger and never decides: whoever changes a record names the one it takes for the last, and is
//! refused when it is not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use super::record::{Record, State};
use crate::QueueName;

/// A record and its place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) record: Record,
}

/// How a reservation lapses, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) now: u64,
    pub(super) retry_after: u64,
}

#[derive(Debug, Default)]
pub(super) struct Mirror {
    queues: HashMap<String, Waiting>,
    paused: BTreeMap<String, (u64, Option<QueueName>)>,
    restart: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: HashMap<u64, Entry>,
    /// Since when, and the number of the message.
    held: BTreeSet<(u64, u64)>,
    /// From when on.
    free: BTreeSet<(u64, u64)>,
    /// Records before this place were of messages that a person dropped.
    cleared: u64,
}

/// How many messages of a queue the ledger knows of, and where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) held: u64,
    pub(super) delayed: u64,
    pub(super) due: u64,
    /// Since when the oldest of them has been available.
    pub(super) oldest: Option<u64>,
}

impl Time {
    /// Who has held since then or longer holds no more.
    fn lapsed(self) -> Option<u64> {
        self.now.checked_sub(self.retry_after)
    }

    /// Nobody reserves after that: the clock was set back, and the reservation would last for that long.
    fn impossible(self) -> u64 {
        self.now.saturating_add(self.retry_after).saturating_add(1_000_000)
    }
}

impl Waiting {
    fn index(&mut self, number: u64, record: &Record) {
        match record.state {
            State::Held => self.held.insert((record.at, number)),
            State::Free => self.free.insert((record.at, number)),
            State::Done | State::Buried => false,
        };
    }

    fn forget(&mut self, number: u64) {
        if let Some(Entry { record, .. }) = self.entries.remove(&number) {
            self.held.remove(&(record.at, number));
            self.free.remove(&(record.at, number));
        }
    }

    /// Who holds a message for too long, from the longest on.
    fn lapsed(&self, time: Time) -> impl Iterator<Item = &(u64, u64)> {
        let long_ago = time.lapsed().map(|until| self.held.range(..=(until, u64::MAX)));
        let impossible = self.held.range((Bound::Excluded((time.impossible(), u64::MAX)), Bound::Unbounded));
        long_ago.into_iter().flatten().chain(impossible)
    }

    fn due(&self, now: u64) -> impl DoubleEndedIterator<Item = &(u64, u64)> {
        self.free.range(..=(now, u64::MAX))
    }

    fn found(&self, (_, number): &(u64, u64)) -> Option<(u64, Entry)> {
        self.entries.get(number).map(|entry| (*number, *entry))
    }
}

impl Mirror {
    /// Takes note of a record, unless a later one of the same message is known.
    ///
    /// One that the ledger tells of is the last that comes of it: what is over is forgotten.
    pub(super) fn apply(&mut self, queue: &str, number: u64, entry: Entry, told: bool) {
        if !self.queues.contains_key(queue) {
            self.queues.insert(queue.to_owned(), Waiting::default());
        }
        let Some(waiting) = self.queues.get_mut(queue) else { return };
        if entry.seq < waiting.cleared || waiting.entries.get(&number).is_some_and(|known| known.seq > entry.seq) {
            return;
        }
        waiting.forget(number);
        if told && entry.record.state.is_over() {
            return;
        }
        waiting.index(number, &entry.record);
        waiting.entries.insert(number, entry);
    }

    /// Forgets what the ledger does not have, if it is no later than `seq`.
    pub(super) fn drop_until(&mut self, queue: &str, number: u64, seq: u64) {
        let Some(waiting) = self.queues.get_mut(queue) else { return };
        if waiting.entries.get(&number).is_some_and(|known| known.seq <= seq) {
            waiting.forget(number);
        }
    }

    /// Forgets the records of a queue before a place in the ledger.
    pub(super) fn clear(&mut self, queue: &str, seq: u64) {
        let waiting = self.queues.entry(queue.to_owned()).or_default();
        waiting.cleared = waiting.cleared.max(seq);
        let old: Vec<u64> =
            waiting.entries.iter().filter(|(_, entry)| entry.seq < seq).map(|(number, _)| *number).collect();
        old.into_iter().for_each(|number| waiting.forget(number));
    }

    pub(super) fn set_paused(&mut self, queue: &str, seq: u64, paused: Option<QueueName>) {
        if self.paused.get(queue).is_none_or(|(known, _)| *known <= seq) {
            self.paused.insert(queue.to_owned(), (seq, paused));
        }
    }

    pub(super) fn set_restart(&mut self, number: u64) {
        self.restart = self.restart.max(number);
    }

    pub(super) fn get(&self, queue: &str, number: u64) -> Option<Entry> {
        self.queues.get(queue)?.entries.get(&number).copied()
    }

    pub(super) fn is_paused(&self, queue: &str) -> bool {
        self.paused.get(queue).is_some_and(|(_, name)| name.is_some())
    }

    pub(super) fn paused(&self) -> Vec<QueueName> {
        let mut names: Vec<_> = self.paused.values().filter_map(|(_, name)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn restart(&self) -> u64 {
        self.restart
    }

    /// Messages that were held for too long, from the longest on.
    pub(super) fn lapsed(&self, queue: &str, time: Time, limit: usize) -> Vec<(u64, Entry)> {
        let Some(waiting) = self.queues.get(queue) else { return Vec::new() };
        waiting.lapsed(time).take(limit).filter_map(|place| waiting.found(place)).collect()
    }

    /// Messages that were delayed or given back and are available now, from the longest on.
    pub(super) fn due(&self, queue: &str, now: u64, limit: usize) -> Vec<(u64, Entry)> {
        let Some(waiting) = self.queues.get(queue) else { return Vec::new() };
        waiting.due(now).take(limit).filter_map(|place| waiting.found(place)).collect()
    }

    /// When a message of a queue becomes available by itself, the next time.
    pub(super) fn next_due(&self, queue: &str, retry_after: u64) -> Option<u64> {
        let waiting = self.queues.get(queue)?;
        let held = waiting.held.first().map(|(at, _)| at.saturating_add(retry_after));
        held.into_iter().chain(waiting.free.first().map(|(at, _)| *at)).min()
    }

    pub(super) fn counts(&self, queue: &str, time: Time) -> Counts {
        let Some(waiting) = self.queues.get(queue) else { return Counts::default() };
        let due = waiting.due(time.now).count() as u64;
        let lapsed = time.lapsed().and_then(|until| waiting.held.first().filter(|(at, _)| *at <= until));
        let lapsed = lapsed.map(|(at, _)| at + time.retry_after);
        let first_due = waiting.due(time.now).next().map(|(at, _)| *at);
        Counts {
            held: waiting.held.len() as u64,
            delayed: waiting.free.len() as u64 - due,
            due,
            oldest: lapsed.into_iter().chain(first_due).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, state: State, at: u64) -> Entry {
        Entry { seq, record: Record { state, attempts: 1, nonce: 1, at, bytes: 0, parts: None } }
    }

    const TIME: Time = Time { now: 100_000_000, retry_after: 10_000_000 };

    #[test]
    fn an_earlier_record_changes_nothing() {
        let mut mirror = Mirror::default();
        mirror.apply("q", 1, entry(5, State::Free, 7), false);
        mirror.apply("q", 1, entry(4, State::Held, 3), true);
        assert_eq!(mirror.get("q", 1), Some(entry(5, State::Free, 7)));
        mirror.clear("q", 9);
        mirror.apply("q", 1, entry(8, State::Free, 7), true);
        assert_eq!((mirror.get("q", 1), mirror.counts("q", TIME)), (None, Counts::default()));
    }

    #[test]
    fn what_is_over_is_forgotten_once_the_ledger_tells_of_it() {
        let mut mirror = Mirror::default();
        mirror.apply("q", 1, entry(5, State::Held, 7), false);
        mirror.apply("q", 1, entry(6, State::Done, 7), false);
        assert_eq!(mirror.counts("q", TIME).held, 0);
        mirror.apply("q", 1, entry(5, State::Held, 7), true);
        assert_eq!(mirror.get("q", 1), Some(entry(6, State::Done, 7)));
        mirror.apply("q", 1, entry(6, State::Done, 7), true);
        assert_eq!(mirror.get("q", 1), None);
    }

    #[test]
    fn what_lapsed_and_what_is_due_is_found_in_order() {
        let mut mirror = Mirror::default();
        for (number, state, at) in [
            (1, State::Held, 95_000_000),
            (2, State::Held, 90_000_000),
            (3, State::Held, 80_000_000),
            (4, State::Held, 200_000_000),
            (5, State::Free, 100_000_000),
            (6, State::Free, 100_000_001),
            (7, State::Free, 60_000_000),
        ] {
            mirror.apply("q", number, entry(number, state, at), false);
        }
        let numbers = |found: Vec<(u64, Entry)>| found.into_iter().map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(numbers(mirror.lapsed("q", TIME, 9)), [3, 2, 4], "also a reservation of the future");
        assert_eq!(numbers(mirror.due("q", TIME.now, 9)), [7, 5]);
        assert_eq!(mirror.counts("q", TIME), Counts { held: 4, delayed: 1, due: 2, oldest: Some(60_000_000) });
        assert_eq!(mirror.next_due("q", TIME.retry_after), Some(60_000_000));
    }
}
