//! What the slow path decides under a lock: which segment is the newest, which come next, which are done with.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cursor::{self, Position};
use crate::disk::{Disk, Lock, try_lock};
use crate::error::{AppendError, Attempt as _, DiskError, OpenError};
use crate::id::{ProducerId, random_bytes};
use crate::label;
use crate::listing;
use crate::mapping::{ForkGuard, Mapping};
use crate::options::{Durability, Options, WhenFull};
use crate::segment::{self, Identity, Tally};
use crate::spare::Spare;
use crate::sync::SyncQueue;
use crate::tail::{Extent, Tail};
use crate::writer::SpoolStats;

/// File name of the lock that a spool's process holds as long as it lives.
pub(crate) const OWNER_LOCK: &str = "owner.lock";
/// How often room is looked for while there is none: the reader is another process and cannot wake this one.
pub(crate) const SHORTAGE_POLL: Duration = Duration::from_millis(50);

/// How a directory is called that is still being made, and how old one is that nobody makes any more.
const STAGING_PREFIX: &str = ".new-";
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Everything that the threads of one spool share.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) id: ProducerId,
    pub(crate) directory: PathBuf,
    pub(crate) options: Options,
    pub(crate) record_bytes_max: u32,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) tail: Tail,
    pub(crate) fork: ForkGuard,
    pub(crate) syncs: SyncQueue,
    desk: Mutex<Desk>,
    /// A segment became ready, or the spool stopped.
    pub(crate) room: Condvar,
    /// The maintenance thread has something to do.
    pub(crate) work: Condvar,
    dropped: AtomicU64,
    owner: Mutex<Option<Lock>>,
}

/// Why nothing is appended any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Closed,
    Poisoned,
}

impl From<Stop> for AppendError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Closed => Self::Closed,
            Stop::Poisoned => Self::Poisoned,
        }
    }
}

/// The state behind the lock.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) newest: Option<Segment>,
    /// Warm and empty, to be the newest in turn.
    pub(crate) ready: Vec<Spare>,
    /// Not the newest any more, but appends may still be under way in them; oldest first.
    pub(crate) retired: VecDeque<(Segment, Extent)>,
    /// Numbers of those that will not change any more, oldest first.
    pub(crate) settled: VecDeque<u64>,
    /// Segment files on disk.
    pub(crate) files: u64,
    /// Why no further segment could be made ready.
    pub(crate) shortage: Option<String>,
    pub(crate) stopped: Option<Stop>,
    /// The maintenance thread has not looked since the last rotation or stop.
    pub(crate) changed: bool,
    /// Files to be synced besides the newest, kept for power-loss durability only.
    unsynced: Vec<Arc<File>>,
    /// A segment got its name since the directory was last synced.
    names_changed: bool,
    /// Where the last retired segment ended: its number, its end and the seq after its last record.
    ended_at: (u64, u32, u64),
}

/// A segment that has, or had, the newest records.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    base_seq: u64,
    pub(crate) seed: u32,
    pub(crate) mapping: Arc<Mapping>,
    file: Arc<File>,
    tally: Tally,
}

impl Log {
    /// Creates the directory, takes its lock, writes the label and opens the first segment.
    pub(crate) fn create(disk: Arc<dyn Disk>, root: &Path, options: Options) -> Result<Self, OpenError> {
        options.validate()?;
        let id = ProducerId::random().attempt("draw a random id for", root)?;
        let (directory, owner) = create_directory(&*disk, root, id, &options)?;
        let log = Self {
            id,
            record_bytes_max: options.record_bytes_max(),
            disk,
            tail: Tail::stopped(options.segment_bytes),
            fork: ForkGuard::new().attempt("map a page for", &directory)?,
            syncs: SyncQueue::default(),
            desk: Mutex::default(),
            room: Condvar::new(),
            work: Condvar::new(),
            dropped: AtomicU64::new(0),
            owner: Mutex::new(Some(owner)),
            directory,
            options,
        };
        let begun = log.first_segments();
        if begun.is_err() {
            // Nothing was promised yet; a directory that cannot even be removed is an empty orphan for a reader.
            drop(fs::remove_dir_all(&log.directory));
        }
        begun.map(|()| log).map_err(OpenError::from)
    }

    /// Begins the first segment and makes the second ready: with two, a spool goes on for as long as it is read, even
    /// if the disk has no room for another.
    fn first_segments(&self) -> Result<(), DiskError> {
        let (first, second) = (Spare::create(self)?, Spare::create(self)?);
        let mut desk = self.desk();
        desk.files = 2;
        desk.ready.push(second);
        self.begin(&mut desk, 0, first).map_err(|(_, error)| error)
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once there may be room for `bytes` bytes: another thread may take it first.
    ///
    /// # Errors
    /// `Full` when the policy gives the record up, which is then counted; `Closed`, `Poisoned`.
    #[cold]
    pub(crate) fn make_room(&self, bytes: u32) -> Result<(), AppendError> {
        let give_up_at = self.options.block_at_most.and_then(|patience| Instant::now().checked_add(patience));
        let mut desk = self.desk();
        loop {
            if let Some(stop) = desk.stopped {
                return Err(stop.into());
            }
            let has_room =
                |newest: Extent| newest.end.checked_add(bytes).is_some_and(|end| end <= self.options.segment_bytes);
            if self.tail.extent().is_some_and(has_room) || self.open_next(&mut desk) {
                return Ok(());
            }
            let left = match self.options.when_full {
                WhenFull::DropNewest if desk.shortage.is_some() => Duration::ZERO,
                WhenFull::Block if give_up_at.is_some() => {
                    give_up_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
                }
                WhenFull::DropNewest | WhenFull::Block => SHORTAGE_POLL,
            };
            if left.is_zero() {
                self.count_drop(&mut desk);
                return Err(AppendError::Full);
            }
            self.work.notify_one();
            let waited = self.room.wait_timeout(desk, left.min(SHORTAGE_POLL));
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes the next ready segment the newest; false when there is none, or it could not be.
    fn open_next(&self, desk: &mut Desk) -> bool {
        let Some(slot) = self.tail.free_slot().filter(|_| !desk.ready.is_empty()) else { return false };
        let spare = desk.ready.remove(0);
        match self.begin(desk, slot, spare) {
            Ok(()) => {
                desk.shortage = None;
                desk.changed = true;
                self.room.notify_all();
                self.work.notify_one();
                true
            }
            Err((spare, error)) => {
                desk.ready.insert(0, spare);
                desk.shortage = Some(error.to_string());
                false
            }
        }
    }

    /// Retires the newest segment and puts `spare` in its place; on failure the newest goes on as it was.
    fn begin(&self, desk: &mut Desk, slot: usize, mut spare: Spare) -> Result<(), (Spare, DiskError)> {
        let salt = match random_bytes().attempt("draw a salt for", &spare.path) {
            Ok(salt) => u64::from_le_bytes(salt),
            Err(error) => return Err((spare, error)),
        };
        let before = self.tail.stop();
        let (number, base_seq) = match (&desk.newest, before) {
            (Some(newest), Some(extent)) => (newest.number + 1, newest.base_seq + extent.records),
            _ => (0, 0),
        };
        let segment_bytes = self.options.segment_bytes;
        let identity = Identity { producer: self.id, number, base_seq, salt, created_at_us: now_us(), segment_bytes };
        spare.mapping.write(0, &identity.page());
        // The name comes last before the first record: a reader that sees the file sees a whole header.
        let path = self.directory.join(segment::file_name(number));
        if let Err(error) = self.disk.rename(&spare.path, &path).attempt("put a segment in place as", &path) {
            if let Some(extent) = before {
                self.tail.resume(extent);
            }
            return Err((spare, error));
        }
        self.retire(desk, before);
        desk.names_changed = true;
        let seed = identity.seed();
        let mapping = Arc::new(spare.mapping);
        self.tail.publish(slot, Arc::clone(&mapping), base_seq, seed);
        desk.newest = Some(Segment { number, base_seq, seed, mapping, file: spare.file, tally: Tally::default() });
        Ok(())
    }

    fn retire(&self, desk: &mut Desk, extent: Option<Extent>) {
        let (Some(newest), Some(extent)) = (desk.newest.take(), extent) else { return };
        if self.options.durability == Durability::PowerLoss {
            desk.unsynced.push(Arc::clone(&newest.file));
        }
        desk.ended_at = (newest.number, extent.end, newest.base_seq + extent.records);
        desk.retired.push_back((newest, extent));
    }

    /// Counts a dropped record where the count survives this process, and will be read when the newest segment is.
    fn count_drop(&self, desk: &mut Desk) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if let Some(newest) = &mut desk.newest {
            newest.tally.add(now_us());
            let (at, words) = newest.tally.words(newest.seed);
            for (word, at) in words.into_iter().zip((at..).step_by(8)) {
                newest.mapping.store(at, word, Ordering::Release);
            }
        }
    }

    /// Lets nobody append any more. The first reason given stays.
    pub(crate) fn stop(&self, why: Stop) {
        let mut desk = self.desk();
        if desk.stopped.is_none() {
            desk.stopped = Some(why);
            desk.changed = true;
            let extent = self.tail.stop();
            self.retire(&mut desk, extent);
        }
        drop(desk);
        self.syncs.stop(why);
        self.room.notify_all();
        self.work.notify_all();
    }

    /// Brings everything appended so far to the disk.
    pub(crate) fn sync(&self) -> bool {
        let mut desk = self.desk();
        let mut files = std::mem::take(&mut desk.unsynced);
        let names_changed = std::mem::take(&mut desk.names_changed);
        files.extend(desk.newest.as_ref().map(|newest| Arc::clone(&newest.file)));
        drop(desk);
        let synced = files.iter().try_for_each(|file| self.disk.sync_data(file));
        let named =
            synced.and_then(|()| if names_changed { self.disk.sync_directory(&self.directory) } else { Ok(()) });
        if named.is_err() {
            self.stop(Stop::Poisoned);
        }
        named.is_ok()
    }

    /// Gives up the lock, so that a reader knows the writer is gone.
    pub(crate) fn let_go(&self) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn stats(&self) -> SpoolStats {
        // A cursor that cannot be read now only makes more bytes count as waiting.
        let cursor = cursor::load(&self.directory, self.id).ok().flatten().unwrap_or_default();
        let desk = self.desk();
        let (number, end, appended) = match (&desk.newest, self.tail.extent()) {
            (Some(newest), Some(extent)) => (newest.number, extent.end, newest.base_seq + extent.records),
            _ => desk.ended_at,
        };
        let between = number.saturating_sub(cursor.segment) * u64::from(self.options.segment_bytes) + u64::from(end);
        SpoolStats {
            appended,
            dropped: self.dropped.load(Ordering::Relaxed),
            bytes_waiting: between.saturating_sub(u64::from(cursor.offset.max(segment::HEADER_BYTES))),
            segments: desk.files,
            poisoned: desk.stopped == Some(Stop::Poisoned),
            shortage: desk.shortage.clone(),
        }
    }
}

/// Removes what processes left that were killed while they made their directory. Best effort: it holds no records.
fn sweep(root: &Path) {
    let is_old = |path: &Path| {
        let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
        changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED_AFTER))
    };
    for name in listing::names(root).unwrap_or_default() {
        let path = root.join(&name);
        if name.starts_with(STAGING_PREFIX) && is_old(&path) {
            drop(fs::remove_dir_all(&path));
        }
    }
}

/// Makes the producer's directory, locked from the moment that it has its name: a reader never takes it for a dead one.
fn create_directory(
    disk: &dyn Disk,
    root: &Path,
    id: ProducerId,
    options: &Options,
) -> Result<(PathBuf, Lock), DiskError> {
    DirBuilder::new().recursive(true).mode(0o700).create(root).attempt("create the spool directory", root)?;
    sweep(root);
    let (staging, directory) = (root.join(format!("{STAGING_PREFIX}{id}")), root.join(id.to_string()));
    DirBuilder::new().mode(0o700).create(&staging).attempt("create a directory for this process at", &staging)?;
    let fill = || {
        let lock = staging.join(OWNER_LOCK);
        let owner = try_lock(&lock).attempt("lock", &lock)?;
        let owner = owner.ok_or(std::io::ErrorKind::WouldBlock.into()).attempt("lock", &lock)?;
        let path = staging.join(label::FILE_NAME);
        let mut file = disk.create(&path).attempt("create", &path)?;
        file.write_all(&label::encode(&options.label)).attempt("write", &path)?;
        // Its block is there from now on: the reader can move it when the disk is full.
        cursor::store(disk, &staging, id, Position::start_of(0, 0))?;
        disk.rename(&staging, &directory).attempt("create", &directory)?;
        if options.durability == Durability::PowerLoss {
            disk.sync_data(&file).attempt("sync", &path)?;
            disk.sync_directory(&directory).attempt("sync", &directory)?;
            disk.sync_directory(root).attempt("sync", root)?;
        }
        Ok(owner)
    };
    let filled = fill();
    if filled.is_err() {
        // Nothing was promised yet, and the error that matters is the first one.
        drop(fs::remove_dir_all(&staging).or_else(|_| fs::remove_dir_all(&directory)));
    }
    filled.map(|owner| (directory.clone(), owner))
}

/// Returns the time, as microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
