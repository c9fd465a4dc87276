use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::journal::Entry;

/// Statements that one part of a table remembers; the oldest go first.
const CONTEXT_ENTRIES: usize = 1024;
/// As many in each part of the process-wide table.
const PROCESS_ENTRIES: usize = 256;
/// Parts of the process-wide table, so that threads seldom meet.
const PARTS: usize = 16;

/// Identity of one execution, as far as asking again is concerned.
///
/// `query_hash` can be computed by anyone, so by itself it would let an attacker choose bindings that collide with a
/// harmless statement and hide a read behind it. `keyed` is over the same things, and more, under a key that never
/// leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) query_hash: u64,
    pub(crate) keyed: u64,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.keyed);
    }
}

/// Hashes under the process's own random key.
pub(crate) fn keyed_hash(value: &impl Hash) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new).hash_one(value)
}

/// What was asked lately.
pub(crate) struct Duplicates {
    parts: Box<[Mutex<Table>]>,
    entries_max: usize,
}

/// A statement that was asked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    pub(crate) first: Entry,
    /// How often it was asked by now, this time included.
    pub(crate) count: u64,
}

impl Duplicates {
    pub(crate) fn of_a_context() -> Self {
        Self { parts: [Mutex::default()].into(), entries_max: CONTEXT_ENTRIES }
    }

    pub(crate) fn of_the_process() -> Self {
        Self { parts: (0..PARTS).map(|_| Mutex::default()).collect(), entries_max: PROCESS_ENTRIES }
    }

    /// Counts one more execution of a statement that was asked less than `ttl_us` ago; `None` when it was not, or
    /// only in another `generation` of the spool, to which nothing can be added any more.
    pub(crate) fn repeat(&self, key: Key, at: i64, ttl_us: u64, generation: u32) -> Option<Repeat> {
        let mut table = self.part(key);
        let seen = table.seen.get_mut(&key)?;
        if is_over(seen.first.occurred_at, at, ttl_us) || seen.first.generation != generation {
            return None;
        }
        seen.count += 1;
        Some(*seen)
    }

    /// Remembers where the first execution was recorded.
    pub(crate) fn remember(&self, key: Key, first: Entry, ttl_us: u64) {
        let mut table = self.part(key);
        while let Some(&(oldest, occurred_at)) = table.order.front()
            && (table.order.len() >= self.entries_max || is_over(occurred_at, first.occurred_at, ttl_us))
        {
            table.order.pop_front();
            table.seen.remove(&oldest);
        }
        table.seen.insert(key, Repeat { first, count: 1 });
        table.order.push_back((key, first.occurred_at));
    }

    fn part(&self, key: Key) -> std::sync::MutexGuard<'_, Table> {
        // The map uses the low bits.
        let index = usize::try_from(key.keyed >> 48).unwrap_or(0) % self.parts.len();
        self.parts[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that was set back ends the time too.
fn is_over(first: i64, now: i64, ttl_us: u64) -> bool {
    now.abs_diff(first) >= ttl_us
}

#[derive(Default)]
struct Table {
    seen: HashMap<Key, Repeat, BuildHasherDefault<AsIs>>,
    order: VecDeque<(Key, i64)>,
}

/// A keyed hash needs no second one.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: u64 = 1_000;

    fn key(number: u64) -> Key {
        Key { query_hash: 7, keyed: keyed_hash(&number) }
    }

    fn entry(occurred_at: i64, seq: u64) -> Entry {
        Entry { generation: 1, occurred_at, seq }
    }

    #[test]
    fn the_same_statement_counts_up_until_its_time_is_over() {
        let table = Duplicates::of_a_context();
        assert_eq!(table.repeat(key(1), 0, TTL, 1), None);
        table.remember(key(1), entry(0, 5), TTL);
        assert_eq!(table.repeat(key(1), 10, TTL, 1), Some(Repeat { first: entry(0, 5), count: 2 }));
        assert_eq!(table.repeat(key(1), 999, TTL, 1), Some(Repeat { first: entry(0, 5), count: 3 }));
        assert_eq!(table.repeat(key(1), 1000, TTL, 1), None);
        table.remember(key(1), entry(1000, 6), TTL);
        assert_eq!(table.repeat(key(1), 1001, TTL, 1).unwrap().first, entry(1000, 6));
    }

    #[test]
    fn a_clock_set_back_by_more_than_the_time_forgets() {
        let table = Duplicates::of_a_context();
        table.remember(key(1), entry(1_000_000, 0), TTL);
        assert_eq!(table.repeat(key(1), 0, TTL, 1), None);
    }

    #[test]
    fn nothing_is_counted_on_an_entry_of_an_earlier_spool() {
        let table = Duplicates::of_a_context();
        table.remember(key(1), entry(0, 0), TTL);
        assert_eq!(table.repeat(key(1), 1, TTL, 2), None);
    }

    #[test]
    fn a_query_hash_that_collides_is_another_statement() {
        let table = Duplicates::of_a_context();
        table.remember(key(1), entry(0, 0), TTL);
        assert_eq!(key(1).query_hash, key(2).query_hash);
        assert_eq!(table.repeat(key(2), 1, TTL, 1), None);
    }

    #[test]
    fn the_table_is_bounded_in_entries_and_in_age() {
        let table = Duplicates::of_a_context();
        for number in 0..3 * CONTEXT_ENTRIES as u64 {
            table.remember(key(number), entry(0, number), TTL);
        }
        let part = table.parts[0].lock().unwrap();
        assert_eq!((part.seen.len(), part.order.len()), (CONTEXT_ENTRIES, CONTEXT_ENTRIES));
        drop(part);
        table.remember(key(u64::MAX), entry(5_000, 1), TTL);
        let part = table.parts[0].lock().unwrap();
        assert_eq!((part.seen.len(), part.order.len()), (1, 1));
    }
}
