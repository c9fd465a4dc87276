use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use auditq_event::{Limits, Redaction, Statement, System};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::duplicates::keyed_hash;

/// Parts of the shared cache, so that threads seldom meet.
const PARTS: usize = 16;
/// Statements in the younger half of a part, at most.
const PART_ENTRIES: usize = 128;
/// Bytes of SQL in the younger half of a part, at most.
const PART_BYTES: usize = 256 << 10;
/// Statements that a thread has at hand.
const FRONT_ENTRIES: usize = 64;
/// Longer texts are not kept at hand one each.
const FRONT_SQL_BYTES: usize = 4 << 10;
/// Longer texts are not kept at all: such a text hardly comes twice.
const SQL_BYTES_MAX: usize = 64 << 10;

/// What is known of every statement text seen lately, so that it is worked out once.
///
/// Both levels are bounded in entries and bytes. A text is compared whole: a hash never decides.
pub(crate) struct Statements {
    /// Tells caches apart: what is sensitive is each recorder's own.
    id: u64,
    parts: [Mutex<Part>; PARTS],
}

/// One statement text, worked out.
pub(crate) struct Known {
    cache: u64,
    system: System,
    /// Empty for a text that is not kept.
    sql: Box<[u8]>,
    pub(crate) keyed_hash: u64,
    pub(crate) statement: Statement,
}

/// Two halves, of which the older goes when the younger is full: what is in use moves to the younger in time.
#[derive(Default)]
struct Part {
    younger: HashMap<u64, Arc<Known>>,
    younger_bytes: usize,
    older: HashMap<u64, Arc<Known>>,
}

/// What one thread has at hand, found without a lock.
pub(crate) struct Front {
    /// The last one is for the last long text.
    slots: [Option<Arc<Known>>; FRONT_ENTRIES + 1],
    /// In which slot the text was that was last seen at an address: most texts are constants, found without a hash.
    near: [usize; FRONT_ENTRIES],
}

impl Default for Front {
    fn default() -> Self {
        Self { slots: [const { None }; FRONT_ENTRIES + 1], near: [0; FRONT_ENTRIES] }
    }
}

impl Front {
    fn holds(&self, slot: usize, cache: u64, system: System, sql: &[u8]) -> bool {
        self.slots[slot].as_ref().is_some_and(|known| known.is(cache, system, sql))
    }

    /// The slot that the statement is in or belongs in; what stands there otherwise goes.
    fn slot_of(&mut self, cache: u64, system: System, sql: &[u8]) -> usize {
        let near = (sql.as_ptr().addr() >> 3) % FRONT_ENTRIES;
        if self.holds(self.near[near], cache, system, sql) {
            return self.near[near];
        }
        let slot = if sql.len() <= FRONT_SQL_BYTES {
            usize::try_from(text_hash(system, sql) >> 32).unwrap_or(0) % FRONT_ENTRIES
        } else {
            FRONT_ENTRIES
        };
        self.near[near] = slot;
        if !self.holds(slot, cache, system, sql) {
            self.slots[slot] = None;
        }
        slot
    }
}

fn text_hash(system: System, sql: &[u8]) -> u64 {
    xxh3_64_with_seed(sql, system.code().into())
}

impl Statements {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), parts: Default::default() }
    }

    /// Finds the statement, or works it out.
    pub(crate) fn get<'f>(
        &self,
        system: System,
        sql: &[u8],
        redaction: &Redaction,
        limits: &Limits,
        front: &'f mut Front,
    ) -> &'f Known {
        let slot = front.slot_of(self.id, system, sql);
        front.slots[slot].get_or_insert_with(|| self.get_shared(system, sql, redaction, limits))
    }

    #[cold]
    fn get_shared(&self, system: System, sql: &[u8], redaction: &Redaction, limits: &Limits) -> Arc<Known> {
        let hash = text_hash(system, sql);
        let mut part =
            self.parts[usize::try_from(hash).unwrap_or(0) % PARTS].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = part.get(hash).filter(|known| known.is(self.id, system, sql)) {
            return known;
        }
        drop(part);
        let keeps = sql.len() <= SQL_BYTES_MAX;
        let known = Arc::new(Known {
            cache: self.id,
            system,
            sql: if keeps { sql.into() } else { Box::default() },
            keyed_hash: keyed_hash(&sql),
            statement: Statement::analyse(sql, system, redaction, limits),
        });
        if keeps {
            part =
                self.parts[usize::try_from(hash).unwrap_or(0) % PARTS].lock().unwrap_or_else(PoisonError::into_inner);
            part.insert(hash, Arc::clone(&known));
        }
        known
    }
}

impl Known {
    fn is(&self, cache: u64, system: System, sql: &[u8]) -> bool {
        self.cache == cache && self.system == system && *self.sql == *sql && !sql.is_empty()
    }
}

impl Part {
    fn get(&mut self, hash: u64) -> Option<Arc<Known>> {
        if let Some(known) = self.younger.get(&hash) {
            return Some(Arc::clone(known));
        }
        let known = self.older.remove(&hash)?;
        self.insert(hash, Arc::clone(&known));
        Some(known)
    }

    fn insert(&mut self, hash: u64, known: Arc<Known>) {
        if self.younger.len() >= PART_ENTRIES || self.younger_bytes + known.sql.len() > PART_BYTES {
            self.older = std::mem::take(&mut self.younger);
            self.younger_bytes = 0;
        }
        self.younger_bytes += known.sql.len();
        self.younger.insert(hash, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'f>(cache: &Statements, sql: &str, front: &'f mut Front) -> &'f Known {
        cache.get(System::Sqlite, sql.as_bytes(), &Redaction::new([1; 32]), &Limits::default(), front)
    }

    #[test]
    fn a_text_is_worked_out_once_for_all_threads() {
        let cache = Statements::new();
        let (mut one, mut two) = (Front::default(), Front::default());
        let first: *const Known = get(&cache, "SELECT 1", &mut one);
        assert!(std::ptr::eq(first, get(&cache, "SELECT 1", &mut two)));
        assert!(!std::ptr::eq(first, get(&cache, "SELECT 2", &mut two)));
    }

    #[test]
    fn what_one_recorder_knows_is_not_used_by_another() {
        let mut front = Front::default();
        let (one, two) = (Statements::new(), Statements::new());
        let first: *const Known = get(&one, "SELECT 1", &mut front);
        let first_id = one.id;
        assert!(!first.is_null());
        assert_ne!(get(&two, "SELECT 1", &mut front).cache, first_id);
    }

    #[test]
    fn the_same_text_for_another_engine_is_another_statement() {
        let (cache, mut front) = (Statements::new(), Front::default());
        get(&cache, "SELECT `a`", &mut front);
        let known = cache.get(System::Mysql, b"SELECT `a`", &Redaction::new([1; 32]), &Limits::default(), &mut front);
        assert_eq!(known.system, System::Mysql);
    }

    #[test]
    fn the_cache_is_bounded_in_entries_and_in_bytes() {
        let (cache, mut front) = (Statements::new(), Front::default());
        for number in 0..10_000 {
            get(&cache, &format!("SELECT {number}"), &mut front);
        }
        for number in 0..200 {
            get(&cache, &format!("SELECT {number}, '{}'", "x".repeat(60_000)), &mut front);
        }
        get(&cache, &format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX)), &mut front);
        assert!(front.slots[FRONT_ENTRIES].as_ref().unwrap().sql.is_empty(), "too long to be kept");
        for part in &cache.parts {
            let part = part.lock().unwrap();
            let bytes = |half: &HashMap<u64, Arc<Known>>| half.values().map(|known| known.sql.len()).sum::<usize>();
            assert!(part.younger.len() <= PART_ENTRIES && part.older.len() <= PART_ENTRIES);
            assert!(bytes(&part.younger) <= PART_BYTES && bytes(&part.older) <= PART_BYTES);
        }
    }
}
