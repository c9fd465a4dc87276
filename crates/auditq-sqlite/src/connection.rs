use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Error, Kind, Result};
use crate::follower::beside;

const OPEN: &str = "open the database";
/// How often a file that is being closed is looked at again, and after how long.
const LOOKS_MAX: u32 = 25;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
const NOT_WRITABLE: &str = "the file and its folder must exist and be writable for this user";

/// Makes an empty database file when there is none. Only its owner may read what people asked a database for.
pub(crate) fn create(path: &Path) -> Result<()> {
    // SQLite gives the files beside it the same rights. What goes wrong here, it says better below.
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path));
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, flags).map(drop)
}

/// Opens the connection that writes and sets the file to WAL.
pub(crate) fn open_writer(path: &Path) -> Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // SQLite opens a file that it may not write for reading, without a word.
    if connection.is_readonly("main").map_err(|error| describe(path, &error))? {
        return Err(Error::plain(Kind::Misconfigured, OPEN, path, NOT_WRITABLE));
    }
    let mode = set_up_writer(&connection).map_err(|error| describe(path, &error))?;
    if !mode.eq_ignore_ascii_case("wal") {
        // Without WAL, readers and the writer lock each other out. Network file systems lack it.
        let message = format!("its file system does not support WAL (journal mode is {mode}); use a local disk");
        return Err(Error::plain(Kind::Misconfigured, OPEN, path, message));
    }
    Ok(connection)
}

/// Opens a connection that changes nothing: not the file, and nothing beside it.
pub(crate) fn open_looker(path: &Path) -> Result<Connection> {
    let missing = || Error::plain(Kind::Misconfigured, OPEN, path, "the file must exist and be readable for this user");
    std::fs::File::open(path).map_err(|_| missing())?;
    let text = path.to_str().ok_or_else(missing)?;
    // Who closes the file last removes first the index of its log and then the log: a moment later it is settled.
    let mut attempt = 0;
    loop {
        match look_at(path, text) {
            Err(error) if error.kind() == Kind::Misconfigured && attempt < LOOKS_MAX => {
                attempt += 1;
                std::thread::sleep(LOOK_AGAIN_AFTER);
            }
            outcome => return outcome,
        }
    }
}

fn look_at(path: &Path, text: &str) -> Result<Connection> {
    // SQLite makes an index of the write-ahead log where there is none. Where there is none, nobody has the file open,
    // and it can be read as one that does not change.
    let open_elsewhere = beside(path, "-shm").exists();
    if !open_elsewhere && beside(path, "-wal").metadata().is_ok_and(|log| log.len() > 0) {
        let message = "its write-ahead log was left behind by a crash, or copied without its index; open it once as a \
                       user who may write: auditq migrate";
        return Err(Error::plain(Kind::Misconfigured, OPEN, path, message));
    }
    let settled = if open_elsewhere { "" } else { "&immutable=1" };
    let uri = format!("file:{}?mode=ro{settled}", escaped(text));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(Path::new(&uri), flags).map_err(|error| error.about(path))?;
    let keep_log = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    keep_log.map_err(|error| describe(path, &error))?;
    // Opens the index, which nobody removes from then on. What else is wrong is said by whoever reads.
    match connection.pragma_query(None, "schema_version", |_| Ok(())) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => Err(describe(path, &error)),
        _ => Ok(connection),
    }
}

/// A path in a URI.
fn escaped(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

/// Opens a connection that can only read.
pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    // Read-write flags: the reader of a WAL database may have to create its shared-memory file.
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.pragma_update(None, "query_only", "ON").map_err(|error| describe(path, &error))?;
    Ok(connection)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags).map_err(|error| describe(path, &error))?;
    connection.busy_handler(Some(wait_for_lock)).map_err(|error| describe(path, &error))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn set_up_writer(connection: &Connection) -> rusqlite::Result<String> {
    let mode = switch_to_wal(connection)?;
    // FULL: a commit that returned is on the disk. Group commit shares its cost.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -24_576)?;
    connection.pragma_update(None, "wal_autocheckpoint", 16_000)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    Ok(mode)
}

/// Sets the journal mode. Several processes that do so at once meet a lock that SQLite does not wait for.
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<String> {
    let mut attempt = 0;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)) {
            Err(error) if is_busy(&error) && wait_for_lock(attempt) => attempt += 1,
            outcome => return outcome,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Names an error at opening. "Cannot open" is then a wrong path or a missing right, which waiting does not mend.
fn describe(path: &Path, error: &rusqlite::Error) -> Error {
    if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
        let message = "the file and its folder must exist and be writable for this user";
        return Error::plain(Kind::Misconfigured, OPEN, path, message);
    }
    Error::new(OPEN, path, error)
}

/// Waits a moment for another process's lock; gives up after about 20 seconds, and the caller waits on a longer scale.
///
/// SQLite's own busy timeout backs off to 100 ms, which starves a process among busy ones; a short wait with jitter
/// is fair.
fn wait_for_lock(attempt: i32) -> bool {
    let jitter = u64::from(std::process::id().wrapping_add(attempt.unsigned_abs()).wrapping_mul(2_654_435_761) >> 21);
    std::thread::sleep(Duration::from_micros(500 + jitter));
    attempt < 13_000
}
