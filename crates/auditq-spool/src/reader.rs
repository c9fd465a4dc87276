//! Reading: the side of the forwarder.

mod start;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chunk::{Chunk, DROPPED_AT, Gap, GapReason, MISSING_AT};
use crate::cursor::{self, Position};
use crate::desk::OWNER_LOCK;
use crate::disk::{Disk, Lock, RealDisk, remove_if_there, try_lock, try_lock_if_there};
use crate::error::{Attempt as _, DiskError, OpenError, ReadError};
use crate::id::ProducerId;
use crate::label;
use crate::listing;
use crate::scan::{Frames, Halt, Limits, Rest};
use crate::segment::{self, Identity, Seal, Tally};
use crate::spare::NAME_PREFIX;

const READER_LOCK: &str = "reader.lock";
/// Bytes that a read takes at least, however little it was asked for.
const READ_BYTES_MIN: usize = 4096;

/// The one reader of a producer's spool, in any process, while the producer lives or after it died.
///
/// It delivers at least once: what was read and not committed is read again by the next reader. It maps nothing, so a
/// file that is cut off under it cannot raise SIGBUS.
#[derive(Debug)]
pub struct Reader {
    producer: ProducerId,
    directory: PathBuf,
    label: Vec<u8>,
    disk: Arc<dyn Disk>,
    position: Position,
    committed: Position,
    current: Option<Open>,
    dead: bool,
    /// Of a dead writer's segments those before this one are gone.
    cleared_before: u64,
    restarted: Option<&'static str>,
    /// Only looks: it makes no file and commits nothing.
    looks: bool,
    /// Kept open: the lock that makes this the only reader. Who looks has none where nobody has read yet.
    _lock: Option<Lock>,
}

/// The segment that is being read.
#[derive(Debug)]
struct Open {
    number: u64,
    file: File,
    /// `None` when the header is damaged in both copies.
    identity: Option<Identity>,
}

/// What became of a spool that was to be removed.
#[derive(Debug)]
pub enum Removal {
    /// The directory is gone.
    Removed,
    /// The writer lives, or there is something left to read or to commit: here is the reader back.
    NotFinished(Box<Reader>),
    /// All of the spool is gone, but its directory holds files of somebody else.
    ForeignFiles(PathBuf),
}

impl Reader {
    /// Lists the producers that have a spool under `root`, in no particular order; none when `root` is not there.
    ///
    /// # Errors
    /// `root` cannot be listed.
    pub fn producers(root: &Path) -> Result<Vec<ProducerId>, DiskError> {
        Ok(listing::names(root)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Becomes the reader of a producer's spool, from its last committed position on; `None` when another reader has
    /// it, or when it is gone.
    ///
    /// A cursor that is damaged, or that leads what the records say, is not believed: reading starts over from the
    /// oldest segment, and [`Reader::restarted`] says so.
    ///
    /// # Errors
    /// The directory or a file in it cannot be read.
    pub fn open(root: &Path, producer: ProducerId) -> Result<Option<Self>, OpenError> {
        Self::open_on(Arc::new(RealDisk), root, producer)
    }

    /// As [`Reader::open`], on a disk that the caller provides.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_on(disk: Arc<dyn Disk>, root: &Path, producer: ProducerId) -> Result<Option<Self>, OpenError> {
        let lock = root.join(producer.to_string()).join(READER_LOCK);
        match try_lock(&lock) {
            Ok(Some(lock)) => Self::begin(disk, root, producer, Some(lock), false).map(Some),
            Ok(None) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::new("lock", &lock, error).into()),
        }
    }

    /// As [`Reader::open`], for a look at what waits: it makes and changes no file, needs no right to, and its
    /// [`commit`](Reader::commit) is refused. Another reader that comes meanwhile has to wait for its turn.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn look(root: &Path, producer: ProducerId) -> Result<Option<Self>, OpenError> {
        let directory = root.join(producer.to_string());
        let lock = directory.join(READER_LOCK);
        let lock = match try_lock_if_there(&lock) {
            Ok(Some(file)) => Some(file),
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory.is_dir() => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::new("lock", &lock, error).into()),
        };
        Self::begin(Arc::new(RealDisk), root, producer, lock, true).map(Some)
    }

    fn begin(
        disk: Arc<dyn Disk>,
        root: &Path,
        producer: ProducerId,
        lock: Option<Lock>,
        looks: bool,
    ) -> Result<Self, OpenError> {
        let directory = root.join(producer.to_string());
        let label = listing::label(&directory)?;
        let mut reader = Self {
            producer,
            directory,
            label,
            disk,
            position: Position::default(),
            committed: Position::default(),
            current: None,
            dead: false,
            cleared_before: 0,
            restarted: None,
            looks,
            _lock: lock,
        };
        reader.position = reader.start()?;
        reader.committed = reader.position;
        Ok(reader)
    }

    /// Returns whose spool this is.
    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        self.producer
    }

    /// Returns what the producer said of itself; empty when that file is missing or damaged.
    #[must_use]
    pub fn label(&self) -> &[u8] {
        &self.label
    }

    /// Returns why the cursor was not believed and reading started over, if so.
    #[must_use]
    pub fn restarted(&self) -> Option<&'static str> {
        self.restarted
    }

    /// Returns the last committed position.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.committed
    }

    /// Replaces what is in `chunk` by what comes next: at most `records_max` records (at least 1), and about
    /// `bytes_max` bytes, or one record if that is larger. An empty chunk means that there is nothing more for now;
    /// if [`Reader::writer_is_dead`] was true before the call, that there never will be.
    ///
    /// # Errors
    /// A file cannot be read. Nothing is lost: the same records come with the next call.
    pub fn read(&mut self, chunk: &mut Chunk, records_max: usize, bytes_max: usize) -> Result<(), ReadError> {
        chunk.clear(self.position);
        let limits = Limits { records: records_max.max(1), bytes: bytes_max.max(READ_BYTES_MIN), stop_at: u32::MAX };
        let start = self.position;
        let read = self.read_on(chunk, limits);
        if read.is_err() {
            self.position = start;
            self.current = None;
            chunk.clear(start);
        }
        chunk.end = self.position;
        Ok(read?)
    }

    /// Remembers, also for the next reader, that everything before `upto` is safe elsewhere.
    ///
    /// A live writer reuses the segments before it; those of a dead one are removed.
    ///
    /// # Errors
    /// `NotRead` when `upto` was not read, or lies before what is committed, or the reader only looks; nothing has
    /// changed. `Disk`: the cursor
    /// may be the old or the new one; calling again is safe.
    pub fn commit(&mut self, upto: Position) -> Result<(), ReadError> {
        if self.looks || upto < self.committed || upto > self.position {
            return Err(ReadError::NotRead);
        }
        if upto > self.committed {
            cursor::store(&*self.disk, &self.directory, self.producer, upto)?;
            self.committed = upto;
        }
        if self.cleared_before < upto.segment && self.writer_is_dead()? {
            for number in listing::segments(&self.directory)?.into_iter().take_while(|&number| number < upto.segment) {
                self.remove_file(&segment::file_name(number))?;
            }
            self.cleared_before = upto.segment;
        }
        Ok(())
    }

    /// Tells whether the writer's process is gone, or has closed the spool: nothing will be appended any more.
    ///
    /// # Errors
    /// The writer's lock cannot be looked at.
    pub fn writer_is_dead(&mut self) -> Result<bool, DiskError> {
        if !self.dead {
            let path = self.directory.join(OWNER_LOCK);
            let lock = if self.looks { try_lock_if_there(&path) } else { try_lock(&path) };
            self.dead = match lock {
                // The last thing but one that goes when a finished spool is removed.
                Err(error) if self.looks && error.kind() == io::ErrorKind::NotFound => true,
                lock => lock.attempt("look at the lock", &path)?.is_some(),
            };
        }
        Ok(self.dead)
    }

    /// Removes the spool of a dead writer once all of it is read and committed.
    ///
    /// A crash in the middle leaves a spool without records, which the next call removes.
    ///
    /// # Errors
    /// A file cannot be read or removed; a later reader can do it again.
    pub fn remove_if_finished(mut self) -> Result<Removal, ReadError> {
        let mut chunk = Chunk::default();
        let position = std::mem::replace(&mut self.position, self.committed);
        self.current = None;
        self.read(&mut chunk, 1, READ_BYTES_MIN)?;
        if !chunk.is_empty() || !self.writer_is_dead()? {
            self.position = position;
            self.current = None;
            return Ok(Removal::NotFinished(Box::new(self)));
        }
        self.commit(self.position)?;
        self.remove_all()
    }

    fn remove_all(self) -> Result<Removal, ReadError> {
        for name in listing::names(&self.directory)? {
            if name.starts_with(NAME_PREFIX) || segment::number_of(&name).is_some() {
                self.remove_file(&name)?;
            }
        }
        self.remove_file(label::FILE_NAME)?;
        cursor::remove(&*self.disk, &self.directory)?;
        self.remove_file(OWNER_LOCK)?;
        self.remove_file(READER_LOCK)?;
        match fs::remove_dir(&self.directory) {
            Ok(()) => Ok(Removal::Removed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removal::Removed),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Removal::ForeignFiles(self.directory)),
            Err(error) => Err(DiskError::new("remove", &self.directory, error).into()),
        }
    }

    fn remove_file(&self, name: &str) -> Result<(), DiskError> {
        let path = self.directory.join(name);
        remove_if_there(&*self.disk, &path).attempt("remove", &path)
    }

    fn read_on(&mut self, chunk: &mut Chunk, limits: Limits) -> Result<(), DiskError> {
        while chunk.is_empty() && self.advance(chunk, limits)? {}
        Ok(())
    }

    /// Reads on in the current segment, or goes to the next; false when there is nothing more for now.
    fn advance(&mut self, chunk: &mut Chunk, limits: Limits) -> Result<bool, DiskError> {
        // Asked before the data is looked at: what is there after the writer's death is final.
        let dead = self.writer_is_dead()?;
        if !self.open_current()? {
            // No file by that name: everything before has been read, or it was taken away.
            return self.go_to_next(chunk, dead, Rest { bytes: 0, torn: true }, None);
        }
        let Some(open) = &self.current else { return Ok(false) };
        let path = self.directory.join(segment::file_name(open.number));
        let file_bytes = open.file.metadata().attempt("look at", &path)?.len();
        let Some(identity) = open.identity else {
            let bytes = u32::try_from(file_bytes).unwrap_or(u32::MAX);
            return self.go_to_next(chunk, dead, Rest { bytes, torn: false }, None);
        };
        let page = listing::header_page(&open.file).attempt("read", &path)?;
        let seal = Seal::parse(&page, identity.seed());
        let mut frames = Frames::new(&identity, seal, dead, file_bytes);
        match frames.read(&open.file, &mut self.position, chunk, limits).attempt("read", &path)? {
            Halt::Full => Ok(true),
            Halt::Wait => Ok(false),
            Halt::End(rest) => {
                self.go_to_next(chunk, dead, rest, Some((&identity, seal, Tally::parse(&page, identity.seed()))))
            }
        }
    }

    /// Opens the segment of the position unless it is open; false when it is not there.
    fn open_current(&mut self) -> Result<bool, DiskError> {
        let number = self.position.segment;
        if self.current.as_ref().is_none_or(|open| open.number != number || open.identity.is_none()) {
            self.current = self.open_segment(number)?;
        }
        Ok(self.current.is_some())
    }

    fn open_segment(&self, number: u64) -> Result<Option<Open>, DiskError> {
        let path = self.directory.join(segment::file_name(number));
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::new("open", &path, error)),
        };
        let page = listing::header_page(&file).attempt("read", &path)?;
        let is_ours = |identity: &Identity| identity.number == number && identity.producer == self.producer;
        Ok(Some(Open { number, file, identity: Identity::parse(&page).filter(is_ours) }))
    }

    /// Moves on from the end of a segment, and reports what is missing between its last record and the next one.
    fn go_to_next(
        &mut self,
        chunk: &mut Chunk,
        dead: bool,
        rest: Rest,
        ended: Option<(&Identity, Option<Seal>, Tally)>,
    ) -> Result<bool, DiskError> {
        let here = self.position;
        let there = self.current.is_some();
        let next = listing::segment_after(&self.directory, here.segment)?;
        let Some(number) = next.or_else(|| (dead && there).then(|| here.segment + 1)) else { return Ok(false) };
        let next_base = if next.is_some() {
            self.open_segment(number)?.and_then(|open| open.identity).map(|identity| identity.base_seq)
        } else {
            None
        };
        let sealed =
            ended.and_then(|(identity, seal, _)| seal.map(|seal| identity.base_seq.saturating_add(seal.records)));
        let next_seq = next_base.or(sealed).unwrap_or(here.seq).max(here.seq);
        let missing = next_seq - here.seq;
        if let Some((.., tally)) = ended.filter(|(.., tally)| tally.count > 0) {
            let reason = GapReason::DroppedFull { first_at_us: tally.first_at_us, last_at_us: tally.last_at_us };
            chunk.gaps.push(Gap::new(here.segment, DROPPED_AT, here.seq, tally.count, reason));
        }
        let (segment, offset, bytes) = (here.segment, here.offset, rest.bytes);
        let complete = bytes == 0 && ended.is_some() && sealed.is_none_or(|end| end <= here.seq);
        if missing > 0 && (!there || complete && number > here.segment + 1) {
            let reason = GapReason::Missing { before_segment: number };
            chunk.gaps.push(Gap::new(number, MISSING_AT, here.seq, missing, reason));
        } else if there && (missing > 0 || !complete) {
            let reason = if rest.torn {
                GapReason::Torn { segment, offset, bytes }
            } else {
                GapReason::Corrupt { segment, offset, bytes }
            };
            chunk.gaps.push(Gap::new(segment, offset, here.seq, missing, reason));
        }
        self.position = Position::start_of(number, next_seq);
        self.current = None;
        Ok(true)
    }
}
