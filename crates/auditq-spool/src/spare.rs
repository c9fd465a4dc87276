//! Segments made ready ahead of their use, so that an append never meets a page fault or a file operation.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::desk::Log;
use crate::disk::remove_if_there;
use crate::error::{Attempt as _, DiskError};
use crate::mapping::Mapping;
use crate::segment;

/// How a file starts whose segment has not begun; no reader looks at it.
pub(crate) const NAME_PREFIX: &str = "spare-";

/// An empty segment file: all zeros, mapped and warm.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    pub(crate) mapping: Mapping,
}

impl Spare {
    /// Creates a new file; leaves none behind when that fails.
    pub(crate) fn create(log: &Log) -> Result<Self, DiskError> {
        let path = log.directory.join(next_name());
        let segment_bytes = log.options.segment_bytes;
        let make = || {
            let file = log.disk.create(&path).attempt("create a segment at", &path)?;
            log.disk.allocate(&file, u64::from(segment_bytes)).attempt("allocate a segment at", &path)?;
            let mapping = Mapping::new(&file, segment_bytes).attempt("map a segment at", &path)?;
            Ok(Self { path: path.clone(), file: Arc::new(file), mapping })
        };
        let made = make();
        if made.is_err() {
            // The error to report is the first one; the file is removed with the directory at the latest.
            drop(remove_if_there(&*log.disk, &path));
        }
        made
    }

    /// Makes a segment that every reader is done with into an empty one.
    ///
    /// It loses its name first, so that nobody takes what is left of its records for a segment.
    pub(crate) fn recycle(log: &Log, number: u64) -> Result<Self, DiskError> {
        let (old, path) = (log.directory.join(segment::file_name(number)), log.directory.join(next_name()));
        log.disk.rename(&old, &path).attempt("recycle a segment at", &old)?;
        let segment_bytes = log.options.segment_bytes;
        let make = || {
            let file = OpenOptions::new().read(true).write(true).open(&path).attempt("open", &path)?;
            let mut mapping = Mapping::new(&file, segment_bytes).attempt("map a segment at", &path)?;
            mapping.zero(segment_bytes);
            Ok(Self { path: path.clone(), file: Arc::new(file), mapping })
        };
        let made = make();
        if made.is_err() {
            // As in `create`.
            drop(remove_if_there(&*log.disk, &path));
        }
        made
    }
}

fn next_name() -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    format!("{NAME_PREFIX}{:x}", MADE.fetch_add(1, Ordering::Relaxed))
}
