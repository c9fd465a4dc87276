use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use tokio::sync::oneshot;

use super::DRIVER;
use crate::backup::{Partial, kind_of_io};
use crate::{Error, ErrorKind, Result};

/// Why a backup was not made. Nothing stands under its name.
#[derive(Debug, thiserror::Error)]
#[error("cannot back up {} to {}: {reason}", from.display(), to.display())]
struct Failure {
    from: PathBuf,
    to: PathBuf,
    kind: ErrorKind,
    reason: String,
}

/// Copies the whole database, as it is at one moment, to a new file that only its owner can read.
///
/// `VACUUM INTO` reads one snapshot and locks nobody out; the stepwise backup interface would begin again at every
/// commit of another process. A caller that stops waiting stops the copy.
pub(super) async fn run(from: PathBuf, to: PathBuf) -> Result<u64> {
    let source = open(&from).map_err(|error| fail(&from, &to, kind_of(&error), error.to_string()))?;
    let stop = StopOnDrop(source.get_interrupt_handle());
    let (reply, answer) = oneshot::channel();
    let names = (from.clone(), to.clone());
    let copy = move || drop(reply.send(copy(&source, &from, &to)));
    let (from, to) = names;
    std::thread::Builder::new()
        .name("auditq-backup".to_owned())
        .spawn(copy)
        .map_err(|error| fail(&from, &to, ErrorKind::Unavailable, format!("cannot start a thread: {error}")))?;
    let copied = answer.await;
    drop(stop);
    copied
        .unwrap_or_else(|_| Err(fail(&from, &to, ErrorKind::Unavailable, "its thread has ended, after a panic".into())))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    // Read-write flags: the reader of a WAL database may have to create its shared-memory file.
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

struct StopOnDrop(InterruptHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

/// Makes the copy beside its place, and moves it there when it is whole and on the disk.
fn copy(source: &Connection, from: &Path, to: &Path) -> Result<u64> {
    let io_failed = |error: &io::Error| fail(from, to, kind_of_io(error), error.to_string());
    let partial = Partial::claim(to).map_err(|error| io_failed(&error))?;
    if to.symlink_metadata().is_ok() {
        let reason = "that file exists already, and a backup is never overwritten; name another".to_owned();
        return Err(fail(from, to, ErrorKind::Misconfigured, reason));
    }
    let Some(target) = partial.path.to_str() else {
        return Err(fail(from, to, ErrorKind::Misconfigured, "SQLite needs a path that is UTF-8".to_owned()));
    };
    source.execute("VACUUM INTO ?1", [target]).map_err(|error| fail(from, to, kind_of(&error), error.to_string()))?;
    let counted = Connection::open_with_flags(target, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|copy| copy.query_row("SELECT count(*) FROM audit_sql_logs", [], |row| row.get::<_, i64>(0)));
    let rows = counted.map_err(|error| fail(from, to, kind_of(&error), error.to_string()))?;
    partial.finish(to).map_err(|error| io_failed(&error))?;
    Ok(rows.unsigned_abs())
}

fn kind_of(error: &rusqlite::Error) -> ErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => ErrorKind::Misconfigured,
        _ => ErrorKind::Unavailable,
    }
}

fn fail(from: &Path, to: &Path, kind: ErrorKind, reason: String) -> Error {
    Error::new(kind, DRIVER, Failure { from: from.to_owned(), to: to.to_owned(), kind, reason })
}
