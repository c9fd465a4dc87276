//! Copies of a log in files: made whole or not at all, and never over another.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::foreign::{AboutTable, ForeignColumn, ForeignRow, Value};
use crate::{Error, ErrorKind, LogRow, Result, own};

/// The release of the format.
const VERSION: u32 = 1;

/// Longer than any row that an engine takes; a wrong file is refused instead of read.
const LINE_BYTES_MAX: u64 = 1 << 30;

/// The first line of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// The release of the format.
    pub auditq_backup: u32,
    /// True when its rows are those of auditq's own table.
    pub own: bool,
    /// Engine, database and table.
    pub source: String,
    /// The server, for people.
    pub place: String,
    /// The columns of its rows.
    pub columns: Vec<ForeignColumn>,
    /// The columns that tell rows apart.
    pub key: Vec<String>,
}

/// Writes a backup: a line that says what it is, a line for each row, and a line that says how many.
#[derive(Debug)]
pub(crate) struct BackupWriter {
    to: PathBuf,
    out: BufWriter<File>,
    partial: Partial,
    rows: u64,
}

impl BackupWriter {
    pub(crate) fn begin(driver: &'static str, to: &Path, header: &BackupHeader) -> Result<Self> {
        let cannot =
            |kind, reason: String| Error::new(kind, driver, format!("cannot back up to {}: {reason}", to.display()));
        let io = |error: io::Error| cannot(kind_of_io(&error), error.to_string());
        let partial = Partial::claim(to).map_err(io)?;
        if to.symlink_metadata().is_ok() {
            let reason = "that file exists already, and a backup is never overwritten; name another";
            return Err(cannot(ErrorKind::Misconfigured, reason.to_owned()));
        }
        let out = BufWriter::with_capacity(1 << 16, partial.file.try_clone().map_err(io)?);
        let mut writer = Self { to: to.to_owned(), out, partial, rows: 0 };
        writer.line(&json!(header)).map_err(io)?;
        Ok(writer)
    }

    /// True when rows are in it already: what was read before must not be written again.
    pub(crate) fn is_begun(&self) -> bool {
        self.rows > 0
    }

    pub(crate) fn row(&mut self, row: &ForeignRow) -> io::Result<()> {
        let list = |values: &[Value]| values.iter().map(Value::to_json).collect::<Vec<_>>();
        self.rows += 1;
        self.line(&json!([list(&row.key), list(&row.values)]))
    }

    pub(crate) fn log_row(&mut self, row: &LogRow) -> io::Result<()> {
        self.row(&ForeignRow { key: vec![Value::Int(row.id)], values: own::values(row) })
    }

    fn line(&mut self, json: &Json) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, json)?;
        self.out.write_all(b"\n")
    }

    /// Puts the file in its place, on the disk; says how many rows are in it.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        let rows = self.rows;
        self.line(&json!({"rows": rows}))?;
        self.out.flush()?;
        self.partial.finish(&self.to)?;
        Ok(rows)
    }
}

impl BackupHeader {
    pub(crate) fn of(about: &AboutTable) -> Self {
        Self {
            auditq_backup: VERSION,
            own: false,
            source: about.source.clone(),
            place: about.place.clone(),
            columns: about.columns.clone(),
            key: about.key.clone(),
        }
    }

    /// That of auditq's own table.
    pub(crate) fn own(source: String, place: &str) -> Self {
        let columns = own::COLUMNS.iter().map(|name| ForeignColumn { name: (*name).to_owned(), kind: String::new() });
        let (place, columns) = (place.to_owned(), columns.collect());
        Self { auditq_backup: VERSION, own: true, source, place, columns, key: vec!["id".to_owned()] }
    }
}

/// Reads a backup, line by line.
#[derive(Debug)]
pub struct BackupReader {
    path: PathBuf,
    input: BufReader<File>,
    header: BackupHeader,
    /// Where the next line begins.
    offset: u64,
    /// How many rows the last line says there are, and how many bytes there are.
    rows: u64,
    bytes: u64,
}

/// A line of a backup.
#[derive(Clone, Debug, PartialEq)]
pub enum BackupLine {
    /// A row.
    Row(ForeignRow),
    /// A row that cannot be read, and why.
    Unreadable(String),
}

impl BackupReader {
    /// Opens a backup that is whole.
    ///
    /// # Errors
    /// When it cannot be read, is none, or its end is missing.
    pub fn open(path: &Path) -> std::result::Result<Self, String> {
        let cannot = |why: &dyn std::fmt::Display| format!("cannot read the backup {}: {why}", path.display());
        let mut file = File::open(path).map_err(|error| cannot(&error))?;
        let rows = last_line(&mut file).map_err(|error| cannot(&error))?;
        let rows =
            rows.ok_or_else(|| cannot(&"its last line is missing, so it is cut short or none; name a whole one"))?;
        let bytes = file.metadata().map_err(|error| cannot(&error))?.len();
        file.seek(SeekFrom::Start(0)).map_err(|error| cannot(&error))?;
        let (mut input, mut line) = (BufReader::with_capacity(1 << 16, file), Vec::new());
        let offset = read_line(&mut input, &mut line).map_err(|error| cannot(&error))?;
        let header: BackupHeader =
            serde_json::from_slice(&line).map_err(|_| cannot(&"its first line is not that of a backup by auditq"))?;
        if header.auditq_backup != VERSION {
            return Err(cannot(&"a newer release of auditq made it; install that release"));
        }
        Ok(Self { path: path.to_owned(), input, header, offset, rows, bytes })
    }

    /// What it is a backup of.
    #[must_use]
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// How many rows are in it.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Where the next line begins: what [`seek`](Self::seek) goes back to.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes to where a line begins.
    ///
    /// # Errors
    /// What the system says.
    pub fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.offset = offset.min(self.bytes);
        self.input.seek(SeekFrom::Start(self.offset)).map(drop)
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// What the system says.
    pub fn next_line(&mut self) -> io::Result<Option<BackupLine>> {
        let mut line = Vec::new();
        let read = read_line(&mut self.input, &mut line)?;
        self.offset += read;
        let json: Json = match serde_json::from_slice(&line) {
            Ok(json) => json,
            Err(_) if read == 0 => return Ok(None),
            Err(error) => {
                return Ok(Some(BackupLine::Unreadable(format!("a line of {}: {error}", self.path.display()))));
            }
        };
        if json.is_object() {
            return Ok(None);
        }
        let row = row_of(json).filter(|row| row.values.len() == self.header.columns.len());
        Ok(Some(row.map_or_else(|| BackupLine::Unreadable("a line that is no row".to_owned()), BackupLine::Row)))
    }
}

/// The row of auditq's own table that a line of its backup holds.
///
/// # Errors
/// Which column cannot be read.
pub fn own_event(columns: &[ForeignColumn], values: &[Value]) -> std::result::Result<auditq_event::Event, String> {
    own::event(columns, values)
}

fn row_of(json: Json) -> Option<ForeignRow> {
    let Json::Array(pair) = json else { return None };
    let mut lists = pair.into_iter().map(|list| match list {
        Json::Array(values) => values.into_iter().map(Value::from_json).collect::<Option<Vec<_>>>(),
        _ => None,
    });
    Some(ForeignRow { key: lists.next()??, values: lists.next()?? })
}

fn read_line(input: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<u64> {
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    Ok(read as u64)
}

/// The number of rows that the last line says.
fn last_line(file: &mut File) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(64)))?;
    let mut end = Vec::new();
    std::io::Read::by_ref(file).take(64).read_to_end(&mut end)?;
    let Some(end) = end.strip_suffix(b"\n") else { return Ok(None) };
    let line = end.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice::<Json>(line).ok().and_then(|json| json.get("rows")?.as_u64()))
}

/// The unfinished copy: removed when it is dropped before it is finished.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl Partial {
    /// Makes an empty file beside `to` that only its owner can read, or takes over what a killed process left.
    ///
    /// The lock ends with the process, so a leftover never has to be removed by hand.
    pub(crate) fn claim(to: &Path) -> io::Result<Self> {
        let mut path = to.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another backup is writing {}; wait for it", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(Self { path, file })
    }

    pub(crate) fn finish(self, to: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, to)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was finished. A leftover that cannot be removed does no harm.
        drop(std::fs::remove_file(&self.path));
    }
}

pub(crate) fn kind_of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::Interrupted => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Misconfigured,
    }
}
