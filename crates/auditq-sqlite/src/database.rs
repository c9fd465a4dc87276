use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::closing::OpenFile;
use crate::connection;
use crate::error::{Error, Kind, Result};
use crate::follower::{Follower, beside};
use crate::writer::{Pending, Write, Writer, guarded};

/// How a database file is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Make the file when it is not there, for its owner alone. Defaults to true.
    pub create: bool,
    /// Only look: make and change nothing, neither the file nor what SQLite keeps beside it. For a moment's look, by
    /// somebody who may not write too; a file that nobody has open is taken not to change meanwhile. Defaults to false.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { create: true, read_only: false }
    }
}

/// A SQLite file, with one thread in this process that writes to it and one that reads.
///
/// Handles are cheap to clone. Opening the same file again in the same process gives the same threads, so that
/// whoever shares a file shares its commits.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    path: Arc<PathBuf>,
    /// `None` when it is only looked at.
    writes: Option<Sender<Box<dyn Write>>>,
    reads: Sender<Read>,
    operations: AtomicU64,
    commits: Arc<AtomicU64>,
}

/// One read that waits for its turn; it is told why when the file cannot be read.
type Read = Box<dyn FnOnce(Result<&Connection>) + Send>;

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// The databases that are open in this process, by the canonical path of their file.
static OPEN: Mutex<Option<HashMap<PathBuf, Weak<Inner>>>> = Mutex::new(None);

impl Database {
    /// Opens a database file, in WAL mode and with commits that are on the disk when they return.
    ///
    /// # Errors
    /// `Misconfigured` when the path cannot be opened or written, `Corrupt` when the file is not a database,
    /// `Unavailable` when another process keeps it locked.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        if options.read_only {
            let path = canonical(path).unwrap_or_else(|| path.to_owned());
            return Ok(Self { inner: Arc::new(Inner::look(path)?) });
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_with(HashMap::new);
        if let Some(inner) = canonical(path).and_then(|path| open.get(&path)?.upgrade()) {
            return Ok(Self { inner });
        }
        if options.create {
            connection::create(path)?;
        }
        let path = canonical(path).unwrap_or_else(|| path.to_owned());
        let inner = Arc::new(Inner::start(path.clone())?);
        open.retain(|_, inner| inner.strong_count() > 0);
        open.insert(path, Arc::downgrade(&inner));
        Ok(Self { inner })
    }

    /// The file's canonical path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// True when both are the same file in this process, so that one transaction can change what each looks after.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Runs `work` inside a transaction on the writer thread; returns when it is committed to the disk.
    ///
    /// Other callers' writes may share the commit; a `work` that fails undoes only its own changes. A caller that
    /// stops waiting before its turn withdraws its write. `operation` is a verb phrase for error messages.
    ///
    /// # Errors
    /// The error of `work`, or of the commit: then nothing was changed. `Rejected` when `work` panics.
    pub async fn write<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.enqueue(operation, true, work).await
    }

    /// As [`write`](Self::write), but a power cut soon after may undo it; the end of the process does not.
    ///
    /// For what may be done again, such as a reservation. Spares the wait for the disk, unless a durable write
    /// shares the commit.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_relaxed<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.enqueue(operation, false, work).await
    }

    async fn enqueue<T, F>(&self, operation: &'static str, durable: bool, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.inner.operations.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let path = Arc::clone(&self.inner.path);
        let pending = Pending { operation, path, durable, work: Some(work), outcome: None, reply };
        let Some(writes) = &self.inner.writes else {
            return Err(Error::plain(Kind::Misconfigured, operation, &self.inner.path, "it is open for reading only"));
        };
        writes.send(Box::new(pending)).map_err(|_| self.stopped(operation))?;
        answer.await.map_err(|_| self.stopped(operation))?
    }

    /// Runs `work` on the reader thread, beside whatever is being written, on a consistent snapshot.
    ///
    /// # Errors
    /// The error of `work`; `Rejected` when it panics.
    pub async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.inner.operations.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let path = Arc::clone(&self.inner.path);
        let job = move |connection: Result<&Connection>| {
            if reply.is_closed() {
                return;
            }
            let read = |connection| guarded(operation, &path, || in_snapshot(connection, work));
            // A caller that stopped waiting does not need its answer.
            drop(reply.send(connection.and_then(read)));
        };
        self.inner.reads.send(Box::new(job)).map_err(|_| self.stopped(operation))?;
        answer.await.map_err(|_| self.stopped(operation))?
    }

    /// True when it was opened to look only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.inner.writes.is_none()
    }

    /// How many reads and writes this process has asked for.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.inner.operations.load(Ordering::Relaxed)
    }

    /// How many transactions this process has committed: fewer than its writes, where several shared one.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.inner.commits.load(Ordering::Relaxed)
    }

    /// What changes whenever any process commits: two file look-ups, no query.
    #[must_use]
    pub fn state(&self) -> (Option<FileState>, Option<FileState>) {
        (FileState::of(&self.inner.path), FileState::of(&beside(&self.inner.path, "-wal")))
    }

    fn stopped(&self, operation: &'static str) -> Error {
        Error::plain(Kind::Unavailable, operation, &self.inner.path, "its thread has ended")
    }
}

impl Inner {
    fn start(path: PathBuf) -> Result<Self> {
        let path = Arc::new(path);
        let file = Follower::open(Arc::clone(&path), connection::open_writer)?;
        let reader = Follower::open(Arc::clone(&path), connection::open_reader)?;
        let (writes, queue) = mpsc::channel();
        let commits = Arc::new(AtomicU64::new(0));
        let writer = Writer { path: Arc::clone(&path), file, queue, commits: Arc::clone(&commits) };
        spawn("auditq-sqlite-write", &path, move || writer.run())?;
        let reads = spawn_reader(&path, reader)?;
        Ok(Self { path, writes: Some(writes), reads, operations: AtomicU64::new(0), commits })
    }

    fn look(path: PathBuf) -> Result<Self> {
        let path = Arc::new(path);
        let reader = Follower::open(Arc::clone(&path), connection::open_looker)?;
        let reads = spawn_reader(&path, reader)?;
        Ok(Self { path, writes: None, reads, operations: AtomicU64::new(0), commits: Arc::default() })
    }
}

/// Starts the thread that reads.
fn spawn_reader(path: &Path, mut reader: Follower) -> Result<Sender<Read>> {
    let (reads, queue) = mpsc::channel::<Read>();
    spawn("auditq-sqlite-read", path, move || {
        for job in queue {
            job(reader.connection("read"));
        }
    })?;
    Ok(reads)
}

/// Reads in one transaction, so that several statements see the same rows.
fn in_snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.unchecked_transaction()?;
    let value = work(&transaction)?;
    transaction.finish()?;
    Ok(value)
}

fn spawn(name: &str, path: &Path, body: impl FnOnce() + Send + 'static) -> Result<()> {
    let open = OpenFile::count();
    let body = move || {
        body();
        drop(open);
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(|error| {
        Error::plain(Kind::Unavailable, "open the database", path, format!("cannot start a thread: {error}"))
    })
}

fn canonical(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

/// What a file looks like from outside: which one it is, how long, and when it was last written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Device and inode.
    pub identity: (u64, u64),
    /// Length in bytes.
    pub len: u64,
    /// Last modification.
    pub modified: Option<SystemTime>,
}

impl FileState {
    /// Looks at the file at `path`; `None` when there is none.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = path.metadata().ok()?;
        Some(Self {
            identity: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}
