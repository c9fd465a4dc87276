//! The inbox: a folder beside the spools in which processes of other languages leave messages, one whole file each.
//!
//! Who writes there need not be trusted with more than that: nothing in it is followed, nothing of unknown size is read,
//! and what is no message is put aside in `rejected`, where it holds up nobody.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ffi::{CStr, CString};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auditq_event::cut_at_char_boundary;
use auditq_laravel::Postmark;
use auditq_queue::{MessageId, NewMessage, QueueName};
use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// The folder's name in that of the spools.
const FOLDER: &str = "inbox";
/// Where what is no message is put aside.
const REJECTED: &str = "rejected";
/// Whoever holds it reads the inbox.
const LOCK: &str = ".lock";

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Files, and bytes of them, that are pushed together.
const LETTERS_MAX: usize = 64;
const LETTERS_BYTES_MAX: usize = 4 << 20;
/// Names that are remembered of one look into the folder: the oldest.
const LISTED_MAX: usize = 10_000;
/// After so long a file that was not finished never will be.
const UNFINISHED_MAX: Duration = Duration::from_secs(3_600);

/// The inbox of a folder of spools, as a forwarder reads it.
#[derive(Debug)]
pub(crate) struct Inbox {
    folder: PathBuf,
    queue: QueueName,
    held: Option<Held>,
    listed: VecDeque<String>,
    /// Files that cannot be taken away: once pushed they must not be pushed again and again.
    stuck: HashSet<CString>,
}

/// The folder itself, whatever its name comes to mean, and its lock.
#[derive(Debug)]
struct Held {
    dir: OwnedFd,
    _lock: File,
}

/// A file of the inbox that is a message.
#[derive(Debug)]
pub(crate) struct Letter {
    name: String,
    /// What is pushed.
    pub(crate) message: NewMessage,
    /// How many records it says it holds.
    pub(crate) records: usize,
}

/// What waits in an inbox, looked at from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxStatus {
    /// Messages that wait to be forwarded.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What was put aside because it is no message.
    pub rejected: u64,
    /// When the oldest of them was written, UTC microseconds.
    pub oldest_at: Option<i64>,
}

impl InboxStatus {
    /// Looks into the inbox beside the spools under `root`; nothing where there is none. Makes and changes nothing.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn look(root: &Path) -> io::Result<Self> {
        let folder = root.join(FOLDER);
        let mut status = Self::default();
        for entry in entries(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(written_at) = name.to_str().and_then(letter_time) else { continue };
            status.files += 1;
            // What has gone meanwhile counts as nothing.
            status.bytes += entry.metadata().map_or(0, |file| file.len());
            status.oldest_at = status.oldest_at.into_iter().chain([written_at]).min();
        }
        status.rejected = entries(&folder.join(REJECTED))?.count() as u64;
        Ok(status)
    }
}

impl Inbox {
    pub(crate) fn new(root: &Path, queue: QueueName) -> Self {
        let (held, listed, stuck) = Default::default();
        Self { folder: root.join(FOLDER), queue, held, listed, stuck }
    }

    /// Reads the oldest messages; none when there is no inbox, or another forwarder reads it.
    ///
    /// # Errors
    /// The folder cannot be listed, or its lock not be opened.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Letter>> {
        self.take_hold()?;
        if self.held.is_none() {
            return Ok(Vec::new());
        }
        if self.listed.is_empty() {
            self.listed = self.list()?;
        }
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < LETTERS_MAX && bytes < LETTERS_BYTES_MAX {
            let Some(name) = self.listed.pop_front() else { break };
            match self.open(&name) {
                Ok(Some(letter)) => {
                    bytes += letter.message.payload.len();
                    letters.push(letter);
                }
                Ok(None) => {}
                Err(why) => self.reject(&name, &why),
            }
        }
        Ok(letters)
    }

    /// Takes away what the queue has.
    pub(crate) fn remove(&mut self, letters: &[Letter]) {
        for Letter { name, .. } in letters {
            let Some(held) = &self.held else { return };
            match unlinkat(&held.dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => self.stay(&c_string(name), error),
            }
        }
    }

    /// Puts a file aside, whatever it is.
    pub(crate) fn reject(&mut self, name: &str, why: &str) {
        self.put_aside(&c_string(name), why);
    }

    fn put_aside(&mut self, name: &CStr, why: &str) {
        let Some(held) = &self.held else { return };
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        // A name of its own: what was put aside before is not lost.
        let shown = name.to_string_lossy();
        let moved = rejected(&held.dir)
            .and_then(|aside| renameat(&held.dir, name, &aside, format!("{at}-{}", cut_at_char_boundary(&shown, 200))));
        match moved {
            Ok(()) => {
                let folder = self.folder.join(REJECTED);
                tracing::warn!(target: "auditq", file = %shown, folder = %folder.display(), "put aside a file of the inbox: {why}");
            }
            Err(Errno::NOENT) => {}
            Err(error) => self.stay(name, error),
        }
    }

    /// Leaves alone what cannot be moved.
    fn stay(&mut self, name: &CStr, error: Errno) {
        if self.stuck.len() < LISTED_MAX && self.stuck.insert(name.to_owned()) {
            let path = self.folder.join(&*name.to_string_lossy());
            tracing::error!(
                target: "auditq", path = %path.display(),
                "cannot take a file out of the inbox: {error}; let the user of the workers write in its folder"
            );
        }
    }

    /// Opens the folder and takes its lock, unless that is done, there is no folder, or another forwarder has it.
    fn take_hold(&mut self) -> io::Result<()> {
        let there = match fs::symlink_metadata(&self.folder) {
            Ok(there) => (there.dev(), there.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.held = None;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(held) = &self.held {
            let stat = fstat(&held.dir)?;
            if (stat.st_dev, stat.st_ino) == there {
                return Ok(());
            }
        }
        self.held = None;
        self.listed.clear();
        let dir = openat(CWD, &self.folder, DIRECTORY, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let lock = File::from(openat(&dir, LOCK, flags, Mode::RUSR | Mode::WUSR)?);
        match lock.try_lock() {
            Ok(()) => self.held = Some(Held { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(())
    }

    /// The names of messages, the oldest first; deals with everything else that is there.
    fn list(&mut self) -> io::Result<VecDeque<String>> {
        let Some(held) = &self.held else { return Ok(VecDeque::new()) };
        let mut oldest = BTreeSet::new();
        let mut strange: Vec<CString> = Vec::new();
        for entry in Dir::read_from(&held.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            match name.to_str() {
                Ok(text) if text == REJECTED || text.starts_with('.') || self.stuck.contains(name) => {}
                Ok(text) if letter_time(text).is_some() => {
                    oldest.insert(text.to_owned());
                    if oldest.len() > LISTED_MAX {
                        oldest.pop_last();
                    }
                }
                _ if strange.len() < LETTERS_MAX && !self.stuck.contains(name) => strange.push(name.to_owned()),
                _ => {}
            }
        }
        strange.retain(|name| !is_being_written(&held.dir, name));
        for name in strange {
            self.put_aside(&name, "it is no message");
        }
        Ok(oldest.into_iter().collect())
    }

    /// Reads a message; `None` when it has gone.
    fn open(&self, name: &str) -> Result<Option<Letter>, String> {
        let Some(held) = &self.held else { return Ok(None) };
        // Neither follows a link nor waits for a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&held.dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(format!("it cannot be opened: {error}")),
        };
        let payload = content(file)?;
        let postmark = Postmark::read(&payload).map_err(|error| error.to_string())?;
        Ok(Some(Letter {
            name: name.to_owned(),
            records: postmark.records,
            message: NewMessage {
                id: MessageId::new(postmark.uuid),
                queue: self.queue.clone(),
                payload: Bytes::from(payload),
                delay: Duration::ZERO,
            },
        }))
    }
}

impl Letter {
    /// The file's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

fn content(file: File) -> Result<Vec<u8>, String> {
    let about = file.metadata().map_err(|error| format!("it cannot be looked at: {error}"))?;
    if !about.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut payload = Vec::with_capacity(usize::try_from(about.len().min(FILE_BYTES_MAX)).unwrap_or_default());
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut payload).map_err(|error| format!("it cannot be read: {error}"))?;
    if payload.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(payload)
}

/// When a message was written, UTC microseconds; `None` for the name of anything else. Its name is that time in 16 digits, a
/// hyphen, the message's uuid and `.json`.
fn letter_time(name: &str) -> Option<i64> {
    let (time, uuid) = name.strip_suffix(".json")?.split_once('-')?;
    let is_time = time.len() == 16 && time.bytes().all(|byte| byte.is_ascii_digit());
    let is_uuid = uuid.len() == 36 && uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_time && is_uuid { time.parse().ok() } else { None }
}

/// A folder, and no link to one.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder of what was put aside, made where it is missing.
fn rejected(inbox: &OwnedFd) -> Result<OwnedFd, Errno> {
    match mkdirat(inbox, REJECTED, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => openat(inbox, REJECTED, DIRECTORY, Mode::empty()),
        Err(error) => Err(error),
    }
}

/// A name that a process still writes under, and has not given up.
fn is_being_written(inbox: &OwnedFd, name: &CStr) -> bool {
    let Ok(stat) = statat(inbox, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let modified = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_file && name.to_bytes().ends_with(b".tmp") && modified.elapsed().is_ok_and(|age| age < UNFINISHED_MAX)
}

/// Names come from the folder or are our own: no NUL is in them.
fn c_string(name: &str) -> CString {
    CString::new(name).unwrap_or_default()
}

/// What is in a folder; nothing when it is not there.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}
