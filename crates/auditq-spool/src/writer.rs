//! Appending: the side of the application.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::desk::{Log, Stop};
use crate::disk::{Disk, RealDisk};
use crate::error::{AppendError, Attempt as _, OpenError};
use crate::frame;
use crate::id::ProducerId;
use crate::maintenance;
use crate::options::{Durability, Options};

/// A process's own spool: a directory `<root>/<producer id>/` that any number of threads append to.
///
/// Cloning it gives another handle to the same spool. The last handle to go closes it; what was appended stays for a
/// [`Reader`](crate::Reader), in this process or another.
///
/// After a `fork` without `exec` the child's appends are refused with [`AppendError::Forked`], and if the parent is
/// killed before it closes the spool, the spool counts as alive until the child, too, has ended.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<Log>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How a spool is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolStats {
    /// Records that were given a seq, which is also the next seq.
    pub appended: u64,
    /// Records given up for want of room.
    pub dropped: u64,
    /// Bytes of segments that no reader has committed yet, at most.
    pub bytes_waiting: u64,
    /// Segment files on disk, the ones made ready ahead included.
    pub segments: u64,
    /// A sync failed: every append is refused.
    pub poisoned: bool,
    /// Why there is no room for another segment, when there is none.
    pub shortage: Option<String>,
}

impl Spool {
    /// Creates a spool of its own for this process under `root`, which is created too where it is missing.
    ///
    /// # Errors
    /// `Invalid` when a setting is out of its range. `Disk` when the directory cannot be used or has no room for the
    /// first segment; nothing is left behind.
    pub fn open(root: &Path, options: Options) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealDisk), root, options)
    }

    /// As [`Spool::open`], on a disk that the caller provides.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_on(disk: Arc<dyn Disk>, root: &Path, options: Options) -> Result<Self, OpenError> {
        let log = Arc::new(Log::create(disk, root, options)?);
        let spool = Self { inner: Arc::new(Inner { log: Arc::clone(&log), threads: Mutex::default() }) };
        spool.inner.spawn("auditq-spool", Arc::clone(&log), |log| maintenance::run(&log))?;
        if log.options.durability == Durability::PowerLoss {
            spool.inner.spawn("auditq-sync", log, |log| log.syncs.run(|| log.sync()))?;
        }
        Ok(spool)
    }

    /// Returns who writes this spool.
    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        self.inner.log.id
    }

    /// Appends one record, given in parts, and returns its seq.
    ///
    /// When it returns Ok the record survives what the spool's [`Durability`] says. Seqs start at 0 and have no holes.
    /// With [`Durability::ProcessCrash`] it makes no system call, takes no lock and allocates nothing, but for the one
    /// append in a segment that has to open the next.
    ///
    /// # Errors
    /// The record was not kept, or after `Poisoned` may not have been: see [`AppendError`]. `Full` is counted.
    #[inline]
    pub fn append(&self, parts: &[&[u8]]) -> Result<u64, AppendError> {
        let log = &*self.inner.log;
        let (len, bytes) = log.measure(parts)?;
        if log.fork.is_child() {
            return Err(AppendError::Forked);
        }
        let place = loop {
            match log.tail.reserve(bytes) {
                Some(place) => break place,
                None => log.make_room(bytes)?,
            }
        };
        let seq = place.write(parts, len);
        if log.options.durability == Durability::PowerLoss {
            log.syncs.wait().map_err(AppendError::from)?;
        }
        Ok(seq)
    }

    /// Returns how the spool is doing; it reads the cursor, so it is not for the hot path.
    #[must_use]
    pub fn stats(&self) -> SpoolStats {
        self.inner.log.stats()
    }

    /// Ends the spool: later appends are refused with [`AppendError::Closed`], and a reader knows that nothing more
    /// will come. Dropping the last handle does the same.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Log {
    /// Returns the length of a record and of its frame.
    #[inline]
    fn measure(&self, parts: &[&[u8]]) -> Result<(u32, u32), AppendError> {
        let total = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let limit = self.record_bytes_max;
        let fits = u32::try_from(total).ok().filter(|&len| len <= limit);
        fits.and_then(|len| Some((len, frame::frame_bytes(len)?))).ok_or(AppendError::TooLarge { bytes: total, limit })
    }
}

impl Inner {
    fn spawn(&self, name: &str, log: Arc<Log>, body: impl FnOnce(Arc<Log>) + Send + 'static) -> Result<(), OpenError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn({
            let log = Arc::clone(&log);
            move || body(log)
        });
        let thread = thread.attempt("start a thread for", &log.directory)?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if self.log.fork.is_child() {
            // The threads exist in the parent only: waiting for them here would never end.
            return;
        }
        self.log.stop(Stop::Closed);
        for thread in threads {
            // A panic in a thread of ours cannot be mended here, and what it left is what a kill leaves.
            drop(thread.join());
        }
        self.log.let_go();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("directory", &self.inner.log.directory).finish_non_exhaustive()
    }
}
