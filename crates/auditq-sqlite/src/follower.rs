use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::database::FileState;
use crate::error::{Error, Kind, Result};

/// A connection that goes on with the new file when another one is put in its place.
///
/// Writing on into the old one would fill a file that nobody can see.
pub(crate) struct Follower {
    path: Arc<PathBuf>,
    open: fn(&Path) -> Result<Connection>,
    connection: Connection,
    /// Device and inode of the file that is open.
    file: (u64, u64),
    /// The same of its write-ahead log.
    log: Option<(u64, u64)>,
}

/// One reopening at a time, so that the new file's log is never taken for the old one's.
static REOPENING: Mutex<()> = Mutex::new(());

impl Follower {
    /// Opens the file at `path`, and with the same function whatever takes its place.
    pub(crate) fn open(path: Arc<PathBuf>, open: fn(&Path) -> Result<Connection>) -> Result<Self> {
        let connection = open(&path)?;
        let file = present(&path, "open the database")?.identity;
        let log = identity(&beside(&path, "-wal"));
        Ok(Self { path, open, connection, file, log })
    }

    /// The connection to the file that stands at the path now.
    pub(crate) fn connection(&mut self, operation: &'static str) -> Result<&Connection> {
        if present(&self.path, operation)?.identity == self.file {
            self.log = identity(&beside(&self.path, "-wal"));
        } else {
            self.reopen(operation)?;
        }
        Ok(&self.connection)
    }

    /// The connection as it is, without a look at the path.
    pub(crate) fn current(&self) -> &Connection {
        &self.connection
    }

    fn reopen(&mut self, operation: &'static str) -> Result<()> {
        let _guard = REOPENING.lock().unwrap_or_else(PoisonError::into_inner);
        // The old file's log must not be read into the new file. Closing the old one does not touch what stands at its
        // path, because SQLite sees that it was moved.
        let log = beside(&self.path, "-wal");
        if self.log.is_some() && identity(&log) == self.log {
            for stale in [log, beside(&self.path, "-shm")] {
                remove(&stale).map_err(|error| {
                    let message = format!("the file was replaced, and {} is in the way: {error}", stale.display());
                    Error::plain(Kind::Unavailable, operation, &self.path, message)
                })?;
            }
        }
        let connection = (self.open)(&self.path)?;
        self.file = present(&self.path, operation)?.identity;
        self.log = identity(&beside(&self.path, "-wal"));
        self.connection = connection;
        Ok(())
    }
}

fn present(path: &Path, operation: &'static str) -> Result<FileState> {
    FileState::of(path).ok_or_else(|| {
        let message = "the file has gone; put it back, or restart to begin a new one";
        Error::plain(Kind::Unavailable, operation, path, message)
    })
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    FileState::of(path).map(|state| state.identity)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The path of a file that SQLite keeps beside the database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
