use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use auditq_event::{Gap, Record};
use auditq_spool::{AppendError, Disk, OpenError, Options, RealDisk, Spool};

use crate::stats::Counter;

/// The shortest and the longest time between two attempts to open a spool in place of a failed one.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// How often a lock is tried before an event is given up: threads leave it within microseconds, or milliseconds while
/// one opens a spool. After a fork a thread that is not there any more may hold it for ever.
const LOCK_TRIES: usize = 10_000;

/// Where an event was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Which of the process's spools; an event of an earlier one cannot be added to.
    pub(crate) generation: u32,
    pub(crate) occurred_at: i64,
    pub(crate) seq: u64,
}

/// The spool, and the next one when it has failed.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    options: Options,
    /// Read by every event, so no thread may have to write to it for that, as it would for a lock.
    current: ArcSwap<Current>,
    attempts: Mutex<Attempts>,
    /// Lost since the last spool that worked; the next one begins with a gap that says so.
    lost: Counter,
    pub(crate) reopened: Counter,
}

/// Why a record was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// There was no room; the spool counts it, and its reader reports it as a gap.
    Full,
    /// It is larger than a segment; a gap stands in its place.
    Oversized,
    /// The spool had failed, and no other could be had; the next one begins with a gap.
    Unavailable,
}

struct Current {
    generation: u32,
    spool: Spool,
}

struct Attempts {
    wait: Duration,
    not_before: Instant,
}

impl Journal {
    pub(crate) fn open(root: PathBuf, options: Options) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealDisk), root, options)
    }

    fn open_on(disk: Arc<dyn Disk>, root: PathBuf, options: Options) -> Result<Self, OpenError> {
        let spool = Spool::open_on(Arc::clone(&disk), &root, options.clone())?;
        Ok(Self {
            disk,
            root,
            options,
            current: ArcSwap::from_pointee(Current { generation: 0, spool }),
            attempts: Mutex::new(Attempts { wait: WAIT.0, not_before: Instant::now() }),
            lost: Counter::default(),
            reopened: Counter::default(),
        })
    }

    pub(crate) fn generation(&self) -> u32 {
        self.current.load().generation
    }

    pub(crate) fn spool(&self) -> Spool {
        self.current.load().spool.clone()
    }

    /// Appends a record.
    ///
    /// A spool that failed is replaced, and the record goes to the new one: it may then be in both, which is better
    /// than in neither.
    #[inline]
    pub(crate) fn append(&self, occurred_at: i64, record: &[u8]) -> Result<Entry, Loss> {
        self.append_to_current(occurred_at, record)
            .or_else(|(generation, error)| self.append_otherwise(occurred_at, record, generation, error))
    }

    #[inline]
    fn append_to_current(&self, occurred_at: i64, record: &[u8]) -> Result<Entry, (u32, AppendError)> {
        let current = self.current.load();
        match current.spool.append(&[record]) {
            Ok(seq) => Ok(Entry { generation: current.generation, occurred_at, seq }),
            Err(error) => Err((current.generation, error)),
        }
    }

    #[cold]
    fn append_otherwise(&self, at: i64, record: &[u8], generation: u32, error: AppendError) -> Result<Entry, Loss> {
        match error {
            AppendError::Full => return Err(Loss::Full),
            AppendError::TooLarge { .. } => {
                self.append_gap(at, 1, &error.to_string());
                return Err(Loss::Oversized);
            }
            AppendError::Poisoned | AppendError::Forked if self.replace(generation) => {
                if let Ok(entry) = self.append_to_current(at, record) {
                    return Ok(entry);
                }
            }
            _ => {}
        }
        self.lost.increment();
        Err(Loss::Unavailable)
    }

    /// Says in the log itself that something is missing.
    fn append_gap(&self, at: i64, lost: u64, reason: &str) {
        let gap = Gap { first_at: at, last_at: at, lost, reason: reason.to_owned() };
        if self.append_to_current(at, &Record::Gap(gap).encode()).is_err() {
            self.lost.add(lost);
        }
    }

    /// Puts another spool in the place of the failed one. `false` when it is too soon to try, or did not work.
    fn replace(&self, failed: u32) -> bool {
        let Some(mut attempts) = self.attempts() else { return false };
        if self.generation() != failed {
            return true;
        }
        if !attempts.begin(Instant::now()) {
            return false;
        }
        let Ok(spool) = Spool::open_on(Arc::clone(&self.disk), &self.root, self.options.clone()) else { return false };
        self.current.store(Arc::new(Current { generation: failed + 1, spool }));
        self.reopened.increment();
        self.report_lost();
        true
    }

    /// Waits for whoever is replacing the spool, but not for ever.
    fn attempts(&self) -> Option<MutexGuard<'_, Attempts>> {
        for _ in 0..LOCK_TRIES {
            match self.attempts.try_lock() {
                Ok(attempts) => return Some(attempts),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        None
    }

    fn report_lost(&self) {
        let lost = self.lost.take();
        if lost > 0 {
            self.append_gap(now_us(), lost, "the spool had failed and no other could be opened");
        }
    }
}

impl Attempts {
    /// Counts an attempt; `false` when it is too soon for one. Each waits twice as long for the next, until one holds.
    fn begin(&mut self, now: Instant) -> bool {
        if now < self.not_before {
            return false;
        }
        let held = now.duration_since(self.not_before) > WAIT.1;
        self.wait = if held { WAIT.0 } else { (self.wait * 2).min(WAIT.1) };
        self.not_before = now + self.wait;
        true
    }
}

/// The time in UTC microseconds, as events carry it.
#[must_use]
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use auditq_spool::{Chunk, Durability, Reader};

    use super::*;

    /// A disk on which files cannot be synced, or not even made, as the test says.
    #[derive(Debug, Default)]
    struct Failing {
        sync: AtomicBool,
        create: AtomicBool,
    }

    impl Disk for Failing {
        fn create(&self, path: &Path) -> io::Result<File> {
            if self.create.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            RealDisk.create(path)
        }

        fn sync_data(&self, file: &File) -> io::Result<()> {
            if self.sync.swap(false, Ordering::Relaxed) {
                return Err(io::Error::other("the disk is broken"));
            }
            file.sync_data()
        }
    }

    fn journal(root: &Path, disk: &Arc<Failing>) -> Journal {
        let options = Options { durability: Durability::PowerLoss, segment_bytes: 64 << 10, ..Options::default() };
        Journal::open_on(Arc::<Failing>::clone(disk), root.to_owned(), options).unwrap()
    }

    fn gaps(root: &Path) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for producer in Reader::producers(root).unwrap() {
            let (mut reader, mut chunk) = (Reader::open(root, producer).unwrap().unwrap(), Chunk::default());
            reader.read(&mut chunk, 1000, 1 << 20).unwrap();
            gaps.extend(chunk.records().filter_map(|record| {
                match Record::decode(record.payload, producer.0, record.seq) {
                    Ok(Record::Gap(gap)) => Some(gap),
                    _ => None,
                }
            }));
        }
        gaps
    }

    #[test]
    fn a_spool_that_failed_to_sync_is_replaced_and_recording_goes_on() {
        let (folder, disk) = (tempfile::tempdir().unwrap(), Arc::new(Failing::default()));
        let journal = journal(folder.path(), &disk);
        let first = journal.append(1, b"one").unwrap();
        disk.sync.store(true, Ordering::Relaxed);
        let second = journal.append(2, b"two").unwrap();
        assert_eq!((first.generation, second.generation), (0, 1));
        assert_eq!(journal.append(3, b"three").unwrap().generation, 1);
        assert_eq!(journal.reopened.get(), 1);
        assert_eq!(gaps(folder.path()), []);
    }

    #[test]
    fn what_is_lost_while_no_spool_can_be_opened_is_said_by_the_next_one() {
        let (folder, disk) = (tempfile::tempdir().unwrap(), Arc::new(Failing::default()));
        let journal = journal(folder.path(), &disk);
        disk.sync.store(true, Ordering::Relaxed);
        disk.create.store(true, Ordering::Relaxed);
        assert_eq!(journal.append(1, b"one"), Err(Loss::Unavailable));
        assert_eq!(journal.append(2, b"two"), Err(Loss::Unavailable));
        disk.create.store(false, Ordering::Relaxed);
        journal.attempts.lock().unwrap().not_before = Instant::now();
        journal.append(3, b"three").unwrap();
        let gaps = gaps(folder.path());
        assert_eq!(gaps.iter().map(|gap| gap.lost).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn attempts_wait_longer_and_longer_until_one_holds() {
        let start = Instant::now();
        let mut attempts = Attempts { wait: WAIT.0, not_before: start };
        assert!(attempts.begin(start));
        assert!(!attempts.begin(start + WAIT.0));
        assert!(attempts.begin(start + WAIT.0 * 2));
        assert_eq!(attempts.wait, WAIT.0 * 4);
        assert!(attempts.begin(start + WAIT.1 * 3));
        assert_eq!(attempts.wait, WAIT.0);
    }
}
