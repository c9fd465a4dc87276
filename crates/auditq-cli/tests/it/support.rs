//! A folder with settings, the program run in it, and what it says.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auditq::{Actor, ActorExt as _, Config, Context, Observed, Recorder, Source, System};
use auditq_event::{Event, Message, ProducerLabel};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The longest that anything may take before a test counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `done` holds.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < give_up_at, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder that a worker and an application run in.
pub(crate) struct World {
    pub(crate) dir: TempDir,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// With small spools, and tries that follow each other at once.
    pub(crate) fn new() -> Self {
        Self::with("[worker]\nbackoff = [0]\n")
    }

    /// With these settings besides that of small spools.
    pub(crate) fn with(settings: &str) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.write("auditq.toml", &format!("[spool]\nsegment_bytes = 65536\nmax_bytes = 1048576\n{settings}"));
        world
    }

    /// With an empty queue and an empty log.
    pub(crate) fn migrated() -> Self {
        let world = Self::new();
        world.run("migrate").ok();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The program in this folder, with these arguments, and without settings from the environment.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditq"));
        command.args(line.split(' ').filter(|word| !word.is_empty())).current_dir(self.dir.path());
        for (name, _) in std::env::vars_os() {
            let name = name.into_string().unwrap_or_default();
            if name.starts_with("AUDIT") || name.starts_with("QUEUE_") {
                command.env_remove(name);
            }
        }
        command.env("TZ", "UTC").env("COLUMNS", "100").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Done {
        Done::of(self.command(line).output().unwrap())
    }

    /// Starts the program and follows what it says.
    pub(crate) fn start(&self, line: &str) -> Running {
        Running::of(self.command(line))
    }

    /// The database of queue and log.
    pub(crate) fn database(&self) -> rusqlite::Connection {
        open(&self.path("auditq.db"))
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        number(&self.database(), sql)
    }

    pub(crate) fn rows(&self) -> i64 {
        self.number("SELECT count(*) FROM audit_sql_logs")
    }

    pub(crate) fn waiting(&self) -> i64 {
        self.number("SELECT count(*) FROM jobs")
    }

    /// Records statements as an application does that ends afterwards.
    pub(crate) fn record(&self, statements: &[(&str, &str)]) {
        let config = Config::load(Some(&self.path("auditq.toml")), std::iter::empty::<(String, String)>());
        let mut config = config.unwrap();
        config.spool.dir = self.path("auditq-spool");
        let recorder = Recorder::open(&config).unwrap();
        let source = Source::new(System::Sqlite, "default", "shop.db");
        for (index, (user, sql)) in statements.iter().enumerate() {
            let context = Context::of(Actor::user(index, *user));
            context.run(|| recorder.record(&Observed::new(&source, sql)));
        }
    }

    /// Puts a message with these events into the queue `audit-logs`.
    pub(crate) fn push(&self, events: &[Event]) {
        self.push_payload("audit-logs", &message(events));
    }

    /// Puts `count` messages of one event each into the queue; their numbers begin with `first`.
    pub(crate) fn push_many(&self, first: u64, count: u64) {
        let mut database = self.database();
        let transaction = database.transaction().unwrap();
        for number in first..first + count {
            insert(&transaction, "audit-logs", &message(&[event(number)]));
        }
        transaction.commit().unwrap();
    }

    pub(crate) fn push_payload(&self, queue: &str, payload: &str) {
        insert(&self.database(), queue, payload);
    }
}

fn insert(connection: &rusqlite::Connection, queue: &str, payload: &str) {
    let sql = "INSERT INTO jobs (queue, payload, attempts, reserved_at, available_at, created_at) \
               VALUES (?1, ?2, 0, NULL, unixepoch(), unixepoch())";
    connection.execute(sql, [queue, payload]).unwrap();
}

pub(crate) fn open(path: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection
}

pub(crate) fn number(connection: &rusqlite::Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// The event with this number.
pub(crate) fn event(number: u64) -> Event {
    let at = 1_790_000_000_000_000 + i64::try_from(number).unwrap();
    let mut event = Event { occurred_at: at, recorded_at: at, last_at: at, repeat_count: 1, ..Event::default() };
    event.producer_seq = number;
    event.statement.sql = format!("SELECT * FROM orders WHERE id = {number}");
    event.actor.username = Some("alice".to_owned());
    event
}

/// The payload of a message of these events.
pub(crate) fn message(events: &[Event]) -> String {
    let encoded: Vec<_> = events.iter().map(|event| (event.producer_seq, event.encode())).collect();
    message_of(&encoded)
}

/// The payload of a message of these encoded records.
pub(crate) fn message_of(records: &[(u64, Vec<u8>)]) -> String {
    let label = ProducerLabel { producer_id: [7; 16], ..ProducerLabel::default() };
    let records: Vec<_> = records.iter().map(|(number, bytes)| (*number, bytes.as_slice())).collect();
    String::from_utf8(Message::build(&label, &records)).unwrap()
}

/// Everything under a folder, each file with a hash of what is in it.
///
/// Of the index that SQLite keeps in shared memory only the name counts: readers note in it that they read.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut tree = BTreeMap::new();
    for path in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
        let mut hasher = DefaultHasher::new();
        if path.is_dir() {
            tree.extend(self::tree(&path));
        } else if !path.to_str().unwrap().ends_with("-shm") {
            hasher.write(&std::fs::read(&path).unwrap());
        }
        tree.insert(path, hasher.finish());
    }
    tree
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// It must have ended with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It must have ended with 1, and have said these things on stderr.
    #[track_caller]
    pub(crate) fn failed(self, said: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        for said in said {
            assert!(self.stderr.contains(said), "{said:?} is missing: {}", self.stderr);
        }
        self
    }

    /// The JSON objects of stdout, one a line.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A process at work. It is killed when the test is done with it.
pub(crate) struct Running {
    child: Child,
    said: [Arc<Mutex<String>>; 2],
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let said: [Arc<Mutex<String>>; 2] = Default::default();
        let readers = vec![follow(stdout, Arc::clone(&said[0])), follow(stderr, Arc::clone(&said[1]))];
        Self { child, said, readers }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has held at one time.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub(crate) fn stdout(&self) -> String {
        self.said[0].lock().unwrap().clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.said[1].lock().unwrap().clone()
    }

    /// Waits until it has said this on stdout.
    #[track_caller]
    pub(crate) fn says(&mut self, what: &str) {
        let give_up_at = Instant::now() + PATIENCE;
        while !self.stdout().contains(what) {
            let ended = self.child.try_wait().unwrap();
            let more = ended.is_none() && Instant::now() < give_up_at;
            assert!(more, "{what:?} was not said ({ended:?}): {} {}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Done {
        let give_up_at = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < give_up_at, "it did not end: {} {}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        Done { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Asks it to end as a service manager does, and waits until it has.
    #[track_caller]
    pub(crate) fn terminated(self) -> Done {
        self.signal(Signal::TERM);
        self.ended()
    }
}

fn follow(pipe: impl Read + Send + 'static, said: Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let line = line.unwrap();
            said.lock().unwrap().push_str(&format!("{line}\n"));
        }
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A Redis server of a test's own.
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    child: Child,
    _folder: TempDir,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("this test starts a server: install `redis-server` or Valkey's ({error})"));
        let server = Self { port, child, _folder: folder };
        eventually("a Redis server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A small file system, for as long as it lives.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    pub(crate) fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], dir.path());
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn make_read_only(&self) {
        mount(&["-o", "remount,ro"], self.path());
    }

    /// Takes all the room there is.
    pub(crate) fn fill(&self) {
        // Ends with "no space left", which is the purpose.
        assert!(std::fs::write(self.path().join("filler"), vec![0; 64 << 20]).is_err());
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.path()).status());
    }
}

fn mount(arguments: &[&str], path: &Path) {
    let status = Command::new("mount").args(arguments).arg(path).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "this test mounts a small file system, for which it must run as root on Linux: {status:?}"
    );
}
