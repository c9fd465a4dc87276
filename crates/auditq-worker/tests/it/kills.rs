//! The whole way under SIGKILL: what an application recorded is in the audit table, and once.
//!
//! `AUDITQ_TEST_CRASH_ROUNDS` sets how often each test kills; 20 times unless it is set.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use auditq::{Actor, ActorExt as _, Context, Observed, Recorder, Source, System};
use auditq_config::{Config, EngineUrl};
use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_queue::{ManualClock, QueueAdmin};
use auditq_spool::{Options, Spool};
use auditq_sqlite::rusqlite::Connection;
use auditq_sqlite::rusqlite::trace::{TraceEvent, TraceEventCodes};
use auditq_sqlite::{Database, rusqlite};
use auditq_worker::{
    Budget, Forwarder, Limits, Observer, RetryPolicy, Runner, Shutdown, StopReason, StoreThenDelete, Worker,
    WorkerOptions,
};

use crate::support::{event, open_store, queue_name};

const DIR: &str = "KILL_DIR";
const QUEUE: &str = "KILL_QUEUE";
const ROUND: &str = "KILL_ROUND";
const AT: &str = "KILL_AT";
/// Events that a round of the tests of forwarder and worker adds.
const EVENTS: u64 = 300;
const MESSAGE_EVENTS: usize = 50;

fn rounds() -> u64 {
    std::env::var("AUDITQ_TEST_CRASH_ROUNDS")
        .map_or(20, |rounds| rounds.parse().expect("AUDITQ_TEST_CRASH_ROUNDS is a number"))
}

/// A folder with a spool, and queue and store in one file or in two.
struct Place {
    dir: PathBuf,
    queue: &'static str,
}

const ONE_FILE: &str = "audit.db";
const TWO_FILES: &str = "queue.db";

impl Place {
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.spool.dir = self.dir.join("spool");
        config.spool.segment_bytes = 64 << 10;
        config.queue.url = EngineUrl::sqlite(&self.dir.join(self.queue));
        config.store.url = EngineUrl::sqlite(&self.dir.join("audit.db"));
        config.queue.retry_after = None;
        config.worker.message_events = MESSAGE_EVENTS;
        config.worker.batch = 3;
        config
    }

    fn child(&self, name: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&format!("kills::{name}"), "--exact", "--ignored", "--quiet"]);
        command.env(DIR, &self.dir).env(QUEUE, self.queue).stdout(Stdio::null());
        command
    }

    fn of_child() -> Self {
        let dir = PathBuf::from(std::env::var_os(DIR).expect("started by a test"));
        let queue = if std::env::var(QUEUE).unwrap() == ONE_FILE { ONE_FILE } else { TWO_FILES };
        Self { dir, queue }
    }

    /// Forwards and stores everything. Its clock is an hour ahead, so that what the dead had reserved has lapsed.
    async fn drain(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let clock = Arc::new(ManualClock::new(now + Duration::from_secs(3_600)));
        let database = Database::open(&self.dir.join(self.queue), auditq_sqlite::Options::default()).unwrap();
        let options = SqliteQueueOptions { clock, ..SqliteQueueOptions::default() };
        let queue = Arc::new(SqliteQueue::open(database, options).unwrap());
        queue.migrate().await.unwrap();
        let store = open_store(&self.dir.join("audit.db")).await;
        let policy = RetryPolicy { tries: 3, max_exceptions: 3, backoff: vec![Duration::ZERO] };
        let (shutdown, root) = (Shutdown::new(), self.dir.join("spool"));
        Forwarder::new(root, queue.clone(), queue_name(), 500, policy.clone(), shutdown.clone(), Observer::default())
            .drain()
            .await
            .unwrap();
        let worker = Worker {
            options: WorkerOptions {
                number: 0,
                queues: vec![queue_name()],
                batch: 8,
                timeout: Duration::from_secs(60),
                policy,
                idle: Duration::from_millis(10),
                rest: Duration::ZERO,
                laravel: None,
                closed: auditq_worker::Closed::default(),
            },
            queue: queue.clone(),
            store: store.clone(),
            settlement: Arc::new(StoreThenDelete { queue: queue.clone(), store }),
            budget: Arc::new(Budget::new(Limits { stop_when_empty: true, ..Limits::default() })),
            shutdown,
            observer: Observer::default(),
        };
        assert_eq!(worker.run().await.unwrap(), StopReason::Empty);
        let sizes = queue.sizes(&queue_name()).await.unwrap();
        assert_eq!((sizes.total(), sizes.failed), (0, 0));
    }

    /// How often each statement is in the log, as another program finds it.
    fn stored(&self) -> HashMap<String, u64> {
        let connection = Connection::open(self.dir.join("audit.db")).unwrap();
        let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        let mut rows = connection.prepare("SELECT sql, count(*) FROM audit_sql_logs GROUP BY sql").unwrap();
        let pairs = rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).unwrap();
        pairs.map(|pair| pair.map(|(sql, count)| (sql, u64::try_from(count).unwrap())).unwrap()).collect()
    }
}

/// What became of the events that were promised.
struct Outcome {
    acked: usize,
    stored: usize,
    lost: usize,
    duplicated: usize,
}

fn compare(what: &str, kills: u64, promised: &[String], stored: &HashMap<String, u64>) -> Outcome {
    let outcome = Outcome {
        acked: promised.len(),
        stored: stored.len(),
        lost: promised.iter().filter(|sql| !stored.contains_key(*sql)).count(),
        duplicated: stored.values().filter(|&&times| times > 1).count(),
    };
    let Outcome { acked, stored, lost, duplicated } = outcome;
    println!("{what}: {kills} kills, {acked} acked, {stored} stored, {lost} lost, {duplicated} duplicated");
    outcome
}

/// The child: two threads record numbered events, and note each number once `record` has returned.
#[test]
#[ignore = "the child process of the tests below, which start it"]
fn child_that_records() {
    let place = Place::of_child();
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let recorder = Recorder::open(&place.config()).unwrap();
    let source = Source::new(System::Sqlite, "default", "shop.db");
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (recorder, source, place) = (&recorder, &source, &place);
            scope.spawn(move || {
                let mut acks = OpenOptions::new().append(true).open(place.dir.join("acks")).unwrap();
                let _inside = Context::of(Actor::user(1, "alice")).enter();
                for index in 0.. {
                    let number = (round * 2 + thread) << 32 | index;
                    recorder.record(&Observed::new(source, &format!("SELECT {number}")));
                    acks.write_all(&number.to_le_bytes()).unwrap();
                }
            });
        }
    });
}

/// The child: forwards and stores until it is killed; by itself at one statement, when it is told which.
#[tokio::test]
#[ignore = "the child process of the tests below, which start it"]
async fn child_that_runs() {
    let place = Place::of_child();
    let counted = std::env::var(AT).ok();
    // Kept open, so that the runner finds them and with them the hooks.
    let mut databases = Vec::new();
    if let Some(at) = &counted {
        DIE_AT.store(at.parse().unwrap(), Ordering::Relaxed);
        for file in [place.queue, "audit.db"] {
            databases.push(Database::open(&place.dir.join(file), auditq_sqlite::Options::default()).unwrap());
        }
        for database in &databases {
            database.write("listen", listen).await.unwrap();
        }
    }
    let limits = Limits { stop_when_empty: counted.is_some(), ..Limits::default() };
    Runner::new(place.config()).unwrap().limits(limits).run().await.unwrap();
    std::fs::write(place.dir.join("steps"), STEPS.load(Ordering::Relaxed).to_string()).unwrap();
}

static STEPS: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);
static DIE_AT: AtomicU64 = AtomicU64::new(u64::MAX);

fn listen(connection: &Connection) -> rusqlite::Result<()> {
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(count_step));
    Ok(())
}

/// Counts the statements that begin on the connections that write, the same one again and again as one step. Before
/// the one that was named, the process ends: inside a transaction, at its commit, or between two.
fn count_step(event: TraceEvent<'_>) {
    let TraceEvent::Stmt(_, sql) = event else { return };
    let this = sql.as_ptr().addr() as u64 ^ (sql.len() as u64) << 48;
    if LAST.swap(this, Ordering::Relaxed) != this
        && STEPS.fetch_add(1, Ordering::Relaxed) == DIE_AT.load(Ordering::Relaxed)
    {
        kill_myself();
    }
}

fn kill_myself() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
}

/// Starts a process that records, and kills it a little after it has recorded something.
fn record_and_kill(place: &Place, round: u64) {
    let length = |acks: &Path| acks.metadata().unwrap().len();
    let acks = place.dir.join("acks");
    let before = length(&acks);
    let mut recording = place.child("child_that_records").env(ROUND, round.to_string()).spawn().unwrap();
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while length(&acks) == before {
        assert!(recording.try_wait().unwrap().is_none() && Instant::now() < give_up_at, "nothing is recorded");
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_micros(fastrand::u64(0..20_000)));
    kill(&mut recording);
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// In every other round a forwarder and a worker are at the recorder's heels, and are killed after it.
async fn recorders_are_killed(queue: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { dir: folder.path().to_owned(), queue };
    File::create(place.dir.join("acks")).unwrap();
    for round in 0..rounds() {
        let mut running = (round % 2 == 1).then(|| place.child("child_that_runs").spawn().unwrap());
        record_and_kill(&place, round);
        if let Some(running) = &mut running {
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..100_000)));
            kill(running);
            place.drain().await;
        } else {
            let limits = Limits { stop_when_empty: true, ..Limits::default() };
            let reason = Runner::new(place.config()).unwrap().limits(limits).run().await.unwrap();
            assert_eq!(reason, StopReason::Empty);
        }
    }
    let acks = std::fs::read(place.dir.join("acks")).unwrap();
    let numbers = acks.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().unwrap()));
    let promised: Vec<String> = numbers.map(|number| format!("SELECT {number}")).collect();
    // The log says of itself what it lost: an event that was killed half-way, which nobody was promised.
    let stored: HashMap<_, _> = place.stored().into_iter().filter(|(sql, _)| sql.starts_with("SELECT ")).collect();
    let outcome = compare(&format!("recorders, queue in {queue}"), rounds(), &promised, &stored);
    assert!(outcome.acked > 0);
    assert_eq!((outcome.lost, outcome.duplicated), (0, 0));
    let unpromised = u64::try_from(outcome.stored - outcome.acked).unwrap();
    assert!(unpromised <= 2 * rounds(), "{unpromised} events more than were under way");
}

#[tokio::test]
async fn every_event_whose_record_returned_is_in_the_log_once_in_one_file() {
    recorders_are_killed(ONE_FILE).await;
}

#[tokio::test]
async fn every_event_whose_record_returned_is_in_the_log_once_in_two_files() {
    recorders_are_killed(TWO_FILES).await;
}

/// Adds a dead process's spool with the next events, and returns their statements.
fn add_events(place: &Place, first: u64) -> Vec<String> {
    let options = Options { segment_bytes: 64 << 10, ..Options::default() };
    let spool = Spool::open(&place.dir.join("spool"), options).unwrap();
    let events = (first..first + EVENTS).map(|number| event(number, "alice"));
    events
        .map(|event| {
            spool.append(&[&event.encode()]).unwrap();
            event.statement.sql
        })
        .collect()
}

/// Every step once, when there are as many rounds as steps; else some, evenly.
async fn runners_are_killed_at_statements(queue: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { dir: folder.path().to_owned(), queue };
    let mut promised = add_events(&place, 0);
    let whole = place.child("child_that_runs").env(AT, u64::MAX.to_string()).status().unwrap();
    assert!(whole.success());
    let steps: u64 = std::fs::read_to_string(place.dir.join("steps")).unwrap().parse().unwrap();
    assert!(steps > 20, "{steps} steps");
    let mut kills = 0;
    for round in 0..rounds() {
        promised.extend(add_events(&place, u64::try_from(promised.len()).unwrap()));
        let at = if rounds() < steps { round * steps / rounds() } else { round % steps };
        let status = place.child("child_that_runs").env(AT, at.to_string()).status().unwrap();
        kills += u64::from(!status.success());
        place.drain().await;
    }
    // The tables are there after the first run, so that a later one has somewhat fewer steps.
    assert!(kills > rounds() / 2, "{kills} of {} runs were killed", rounds());
    let outcome = compare(&format!("{steps} statements, queue in {queue}"), kills, &promised, &place.stored());
    assert_eq!((outcome.lost, outcome.duplicated, outcome.stored), (0, 0, outcome.acked));
}

#[tokio::test]
async fn killed_at_every_statement_in_one_file() {
    runners_are_killed_at_statements(ONE_FILE).await;
}

#[tokio::test]
async fn killed_at_every_statement_in_two_files() {
    runners_are_killed_at_statements(TWO_FILES).await;
}

/// Two runners at a time, the one killed at one moment and the other at another.
async fn runners_are_killed_at_random_moments(queue: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { dir: folder.path().to_owned(), queue };
    let mut promised = Vec::new();
    for _ in 0..rounds() {
        promised.extend(add_events(&place, u64::try_from(promised.len()).unwrap()));
        let mut running = [(); 2].map(|()| place.child("child_that_runs").spawn().unwrap());
        for child in &mut running {
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..60_000)));
            kill(child);
        }
    }
    place.drain().await;
    let outcome = compare(&format!("random moments, queue in {queue}"), 2 * rounds(), &promised, &place.stored());
    assert_eq!((outcome.lost, outcome.duplicated, outcome.stored), (0, 0, outcome.acked));
}

#[tokio::test]
async fn killed_at_random_moments_in_one_file() {
    runners_are_killed_at_random_moments(ONE_FILE).await;
}

#[tokio::test]
async fn killed_at_random_moments_in_two_files() {
    runners_are_killed_at_random_moments(TWO_FILES).await;
}
