//! The inbox: a folder beside the spools in which processes of other languages leave messages, one whole file each.
//!
//! Who writes there need not be trusted with more than that: nothing in it is followed, nothing of unknown size is read,
//! and what is no message is put aside in `rejected`, where it holds up nobody.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auditq_laravel::Postmark;
use auditq_queue::{MessageId, NewMessage, QueueName};
use bytes::Bytes;
use rustix::fs::OFlags;

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
    lock: Option<File>,
    listed: VecDeque<String>,
    /// Files that cannot be taken away: once pushed they must not be pushed again and again.
    stuck: HashSet<String>,
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
        let (lock, listed, stuck) = Default::default();
        Self { folder: root.join(FOLDER), queue, lock, listed, stuck }
    }

    /// Reads the oldest messages; none when there is no inbox, or another forwarder reads it.
    ///
    /// # Errors
    /// The folder cannot be listed, or its lock not be opened.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Letter>> {
        if !self.take_lock()? {
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
            match fs::remove_file(self.folder.join(name)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.stay(name, &error),
            }
        }
    }

    /// Puts a file aside, whatever it is.
    pub(crate) fn reject(&mut self, name: &str, why: &str) {
        let aside = self.folder.join(REJECTED);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let made = DirBuilder::new().mode(0o700).create(&aside);
        let moved = match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            // A name of its own: what was put aside before is not lost.
            _ => fs::rename(self.folder.join(name), aside.join(format!("{at}-{}", head(name)))),
        };
        match moved {
            Ok(()) => {
                tracing::warn!(target: "auditq", file = name, folder = %aside.display(), "put aside a file of the inbox: {why}");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.stay(name, &error),
        }
    }

    /// Leaves alone what cannot be moved.
    fn stay(&mut self, name: &str, error: &io::Error) {
        let path = self.folder.join(name);
        if self.stuck.len() < LISTED_MAX && self.stuck.insert(name.to_owned()) {
            tracing::error!(
                target: "auditq", path = %path.display(),
                "cannot take a file out of the inbox: {error}; let the user of the workers write in its folder"
            );
        }
    }

    fn take_lock(&mut self) -> io::Result<bool> {
        if self.lock.is_some() && self.folder.is_dir() {
            return Ok(true);
        }
        self.lock = None;
        if !self.folder.is_dir() {
            return Ok(false);
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(self.folder.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(true)
    }

    /// The names of messages, the oldest first; deals with everything else that is there.
    fn list(&mut self) -> io::Result<VecDeque<String>> {
        let mut oldest = BTreeSet::new();
        let mut strange = Vec::new();
        for entry in entries(&self.folder)? {
            let name = entry?.file_name();
            match name.to_str() {
                Some(name) if name == REJECTED || name.starts_with('.') || self.stuck.contains(name) => {}
                Some(name) if letter_time(name).is_some() => {
                    oldest.insert(name.to_owned());
                    if oldest.len() > LISTED_MAX {
                        oldest.pop_last();
                    }
                }
                _ if strange.len() < LETTERS_MAX => strange.push(name.to_string_lossy().into_owned()),
                _ => {}
            }
        }
        for name in strange {
            if !self.is_being_written(&name) {
                self.reject(&name, "it is no message");
            }
        }
        Ok(oldest.into_iter().collect())
    }

    /// A name that a process still writes under, and has not given up.
    fn is_being_written(&self, name: &str) -> bool {
        let file = fs::symlink_metadata(self.folder.join(name));
        let age = file.ok().filter(fs::Metadata::is_file).and_then(|file| file.modified().ok()?.elapsed().ok());
        name.ends_with(".tmp") && age.is_none_or(|age| age < UNFINISHED_MAX)
    }

    /// Reads a message; `None` when it has gone.
    fn open(&self, name: &str) -> Result<Option<Letter>, String> {
        let path = self.folder.join(name);
        let file = OpenOptions::new()
            .read(true)
            // Neither follows a link nor waits for a pipe.
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
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

/// As much of a name as leaves room for more in front of it.
fn head(name: &str) -> &str {
    auditq_event::cut_at_char_boundary(name, 200)
}

/// What is in a folder; nothing when it is not there.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}
