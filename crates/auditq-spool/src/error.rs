//! What can go wrong, told by what the caller may do.

use std::io;
use std::path::{Path, PathBuf};

/// A spool or a reader could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is out of its range; nothing was opened.
    #[error("spool setting refused: {0}")]
    Invalid(String),
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A record was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The record can never fit; it was not counted as dropped.
    #[error("a record of {bytes} bytes is too large for a segment: at most {limit} fit")]
    TooLarge {
        /// Size of the record.
        bytes: usize,
        /// Size of the largest that fits.
        limit: u32,
    },
    /// There was no room; the loss is counted, and the reader will report it.
    #[error("the spool is full and the record was dropped; see its stats for the cause")]
    Full,
    /// A sync failed, so that nothing can be promised any more: open a new spool. What was written stays readable.
    #[error("the spool is poisoned by a failed sync; open a new one")]
    Poisoned,
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
    /// This process was forked from the one that opened the spool: open a spool of its own.
    #[error("the spool belongs to the parent process; open a new one after a fork")]
    Forked,
}

/// A reader could not go on. Nothing is lost: it can be called again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The position lies before the committed one or after what was read.
    #[error("cannot commit a position that this reader has not read up to")]
    NotRead,
}

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
pub struct DiskError {
    /// What was attempted.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl DiskError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }
}

/// Lets `io::Result`s say what was attempted on what.
pub(crate) trait Attempt<T> {
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError::new(action, path, source))
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            " (give this user the right to write there, or name another spool directory)"
        }
        io::ErrorKind::ReadOnlyFilesystem => " (name a spool directory on a writable file system)",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (free some space, or name another spool directory)"
        }
        io::ErrorKind::NotADirectory => " (name a directory, not a file, as the spool directory)",
        _ => "",
    }
}
