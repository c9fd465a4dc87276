//! A whole runner on SQLite files to which things happen, and clocks that jump.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use auditq::{Actor, ActorExt as _, Context, Observed, Origin, Recorder, Source, System, Value};
use auditq_config::{Config, EngineUrl};
use auditq_event::Binding;
use auditq_queue::memory::MemoryQueue;
use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_queue::{Clock, ManualClock, Queue, QueueAdmin, Remainder};
use auditq_sqlite::Database;
use auditq_sqlite::rusqlite::Connection;
use auditq_store::{Batch, Filter, StoreReader};
use auditq_worker::{Limits, Observer, RunError, Runner, Settlement, Shutdown, StopReason, StoreThenDelete, WorkEvent};
use tokio::task::JoinHandle;

use crate::support::{World, event, message_of, open_store, queue_name, stored_in, within};

/// How long a test waits for what must come to pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// A recorder and a runner that share a folder.
struct Service {
    folder: tempfile::TempDir,
    recorder: Recorder,
    source: Source,
    heard: Arc<Mutex<Vec<WorkEvent>>>,
    shutdown: Shutdown,
}

impl Service {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::open(&config(folder.path())).unwrap();
        let source = Source::new(System::Sqlite, "default", "shop.db");
        Self { folder, recorder, source, heard: Arc::default(), shutdown: Shutdown::new() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("audit.db")
    }

    fn runner(&self, limits: Limits) -> JoinHandle<Result<StopReason, RunError>> {
        let heard = Arc::clone(&self.heard);
        let runner = Runner::new(config(self.folder.path())).unwrap().limits(limits).shutdown(self.shutdown.clone());
        let runner = runner.observer(Observer::new(move |event| heard.lock().unwrap().push(event.clone())));
        tokio::spawn(async move { runner.run().await })
    }

    /// Records statements with these numbers.
    fn record(&self, numbers: std::ops::Range<u64>) {
        let _inside = Context::of(Actor::user(1, "alice")).enter();
        for number in numbers {
            self.recorder.record(&Observed::new(&self.source, &format!("SELECT {number}")));
        }
    }

    fn heard(&self, wanted: impl Fn(&WorkEvent) -> bool) -> bool {
        self.heard.lock().unwrap().iter().any(wanted)
    }

    async fn until_waiting(&self, because: &str) {
        let waits = |event: &WorkEvent| matches!(event, WorkEvent::Waiting { error, .. } if error.contains(because));
        within(PATIENCE, async || self.heard(waits)).await;
    }

    /// How many rows another program finds; none while there is no table.
    fn rows(&self) -> i64 {
        let count =
            |connection: Connection| connection.query_row("SELECT count(*) FROM audit_sql_logs", [], |row| row.get(0));
        Connection::open(self.file()).and_then(count).unwrap_or(0)
    }

    async fn until_rows(&self, rows: i64) {
        within(PATIENCE, async || self.rows() >= rows).await;
    }

    /// Ends the runner, and checks that each statement is there once and nothing was given up.
    async fn end(self, running: JoinHandle<Result<StopReason, RunError>>, events: u64) {
        self.shutdown.request();
        assert_eq!(running.await.unwrap().unwrap(), StopReason::Interrupted);
        let store = open_store(&self.file()).await;
        assert_eq!(stored_in(&store).await, (0..events).collect::<Vec<_>>());
        assert!(!self.heard(|event| matches!(event, WorkEvent::Buried { .. } | WorkEvent::Released { .. })));
    }
}

fn config(folder: &Path) -> Config {
    let mut config = Config::default();
    config.spool.dir = folder.join("spool");
    config.spool.segment_bytes = 1 << 20;
    config.queue.url = EngineUrl::sqlite(&folder.join("audit.db"));
    config.store.url = EngineUrl::sqlite(&folder.join("audit.db"));
    config.queue.retry_after = None;
    config.worker.timeout = 1;
    config
}

/// `LOCK_SECONDS` sets how long: with 25, longer than SQLite's own patience of about 20.
#[tokio::test]
async fn a_database_that_another_process_locks_for_a_while_is_waited_for() {
    let service = Service::new();
    let running = service.runner(Limits::default());
    service.record(0..100);
    service.until_rows(100).await;
    let other = Connection::open(service.file()).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    service.record(100..200);
    let seconds = std::env::var("LOCK_SECONDS").map_or(1, |seconds| seconds.parse().unwrap());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(service.rows(), 100);
    other.execute_batch("COMMIT").unwrap();
    service.until_rows(200).await;
    service.end(running, 200).await;
}

#[tokio::test]
async fn a_database_file_that_goes_away_is_waited_for_and_worked_on_with_when_it_is_back() {
    let service = Service::new();
    let running = service.runner(Limits::default());
    service.record(0..100);
    service.until_rows(100).await;
    let away = service.folder.path().join("away.db");
    std::fs::rename(service.file(), &away).unwrap();
    service.record(100..200);
    service.until_waiting("the file has gone; put it back, or restart to begin a new one").await;
    std::fs::rename(&away, service.file()).unwrap();
    service.until_rows(200).await;
    service.end(running, 200).await;
}

#[tokio::test]
async fn a_database_file_that_is_deleted_is_begun_anew_by_a_restart_and_the_spool_is_stored_in_it() {
    let service = Service::new();
    let running = service.runner(Limits::default());
    service.record(0..100);
    service.until_rows(100).await;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = service.file().into_os_string();
        name.push(suffix);
        std::fs::remove_file(name).unwrap();
    }
    service.record(100..200);
    service.until_waiting("the file has gone").await;
    service.shutdown.request();
    assert_eq!(running.await.unwrap().unwrap(), StopReason::Interrupted);

    let service = Service { shutdown: Shutdown::new(), ..service };
    let drained = service.runner(Limits { stop_when_empty: true, ..Limits::default() });
    assert_eq!(drained.await.unwrap().unwrap(), StopReason::Empty);
    let store = open_store(&service.file()).await;
    assert_eq!(stored_in(&store).await, (100..200).collect::<Vec<_>>(), "what was in the file is gone with it");
}

#[tokio::test]
async fn a_table_that_is_dropped_ends_the_runner_with_a_hint_and_a_restart_makes_it_again() {
    let service = Service::new();
    let running = service.runner(Limits::default());
    service.record(0..100);
    service.until_rows(100).await;
    let other = Connection::open(service.file()).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("DROP TABLE audit_sql_logs").unwrap();
    service.record(100..200);
    let error = running.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("no such table: audit_sql_logs") && error.contains("run `auditq migrate`"), "{error}");
    let service = Service { shutdown: Shutdown::new(), ..service };
    let drained = service.runner(Limits { stop_when_empty: true, ..Limits::default() });
    assert_eq!(drained.await.unwrap().unwrap(), StopReason::Empty);
    let store = open_store(&service.file()).await;
    assert_eq!(stored_in(&store).await, (100..200).collect::<Vec<_>>(), "what was in the table is gone with it");
}

/// The clock of the test's own runtime, which can be made to fly.
#[derive(Debug)]
struct RuntimeClock(tokio::time::Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Duration {
        Duration::from_secs(1_800_000_000) + self.0.elapsed()
    }
}

#[tokio::test]
async fn an_outage_of_an_hour_uses_up_no_try_and_buries_nothing() {
    let mut world = World::new().await;
    let clock = Arc::new(RuntimeClock(tokio::time::Instant::now()));
    world.queue = Arc::new(MemoryQueue::with_clock(Duration::from_secs(8), clock));
    world.push(&[message_of(0..10), message_of(10..20)]).await;
    world.store.down.store(true, std::sync::atomic::Ordering::Relaxed);
    let worker = world.worker(Limits::default());
    let running = tokio::spawn(async move { worker.run().await });
    world.until(|event| matches!(event, WorkEvent::Waiting { .. })).await;

    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    tokio::time::resume();
    assert!(world.queue.reserve(&[queue_name()], 10).await.unwrap().is_empty(), "the worker holds them still");
    world.shutdown.request();
    assert_eq!(running.await.unwrap().unwrap(), StopReason::Interrupted);

    let held = world.queue.reserve(&[queue_name()], 10).await.unwrap();
    assert_eq!(held.iter().map(|message| message.attempts).collect::<Vec<_>>(), [1, 1], "this one and none before");
    let held: Vec<_> = held.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
    world.queue.release(&held, Duration::ZERO).await.unwrap();
    assert_eq!(world.heard(|event| matches!(event, WorkEvent::Buried { .. } | WorkEvent::Released { .. })), 0);

    world.shutdown = Shutdown::new();
    world.store.down.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.work().await.unwrap(), StopReason::Empty);
    assert_eq!(world.stored().await, (0..20).collect::<Vec<_>>());
}

/// A worker sleeps, the clock jumps a day on, and another worker takes its message; then the first wakes up.
#[tokio::test]
async fn two_workers_on_one_message_store_it_once_and_the_first_is_told_that_it_was_late() {
    let (mut world, clock) = (World::new().await, Arc::new(ManualClock::new(Duration::from_secs(1_800_000_000))));
    let path = world.dir.path().join("queue.db");
    let database = Database::open(&path, auditq_sqlite::Options::default()).unwrap();
    let options = SqliteQueueOptions { clock: clock.clone(), ..SqliteQueueOptions::default() };
    let queue = Arc::new(SqliteQueue::open(database, options).unwrap());
    queue.migrate().await.unwrap();
    queue.push(&[message_of(0..10)]).await.unwrap();
    let slow = queue.reserve(&[queue_name()], 1).await.unwrap().remove(0);

    clock.advance(Duration::from_secs(86_400));
    let mut fast = world.worker(Limits { stop_when_empty: true, ..Limits::default() });
    fast.queue = queue.clone();
    let settlement = Arc::new(StoreThenDelete { queue: queue.clone(), store: world.store.clone() });
    fast.settlement = settlement.clone();
    assert_eq!(fast.run().await.unwrap(), StopReason::Empty);
    assert_eq!(world.stored().await, (0..10).collect::<Vec<_>>());

    let events = (0..10).map(decoded).collect();
    let batch = Arc::new(Batch { events, amendments: Vec::new() });
    let settled = settlement.settle(batch, std::slice::from_ref(&slow.receipt)).await.unwrap();
    assert_eq!((settled.inserted.stored, settled.inserted.duplicates), (0, 10));
    assert_eq!(settled.stale, std::slice::from_ref(&slow.receipt));
    let buried = queue.bury(&[Remainder::whole(slow.receipt.clone())], "late").await.unwrap();
    assert_eq!(buried, [slow.receipt]);
    let sizes = queue.sizes(&queue_name()).await.unwrap();
    assert_eq!((sizes.total(), sizes.failed), (0, 0));

    // And back again: what was pushed and reserved in the wrong time is neither lost nor hidden.
    queue.push(&[message_of(10..20)]).await.unwrap();
    assert_eq!(queue.reserve(&[queue_name()], 1).await.unwrap().len(), 1);
    clock.set(Duration::from_secs(1_800_000_000));
    world.shutdown = Shutdown::new();
    let mut third = world.worker(Limits { stop_when_empty: true, ..Limits::default() });
    third.queue = queue;
    third.settlement = settlement;
    assert_eq!(third.run().await.unwrap(), StopReason::Empty);
    assert_eq!(world.stored().await, (0..20).collect::<Vec<_>>());
}

/// The event as a worker reads it from a message of the tests.
fn decoded(seq: u64) -> auditq_event::Event {
    match auditq_event::Record::decode(&event(seq, "alice").encode(), crate::support::PRODUCER, seq) {
        Ok(auditq_event::Record::Event(event)) => *event,
        other => panic!("{other:?}"),
    }
}

/// Everything that a user can make too long or not UTF-8, at once.
#[tokio::test]
async fn an_event_over_every_limit_and_not_utf_8_is_cut_marked_and_stored() {
    let service = Service::new();
    let long = "\u{1f9fe}".repeat(1 << 18);
    let origin = Origin { user_agent: Some(long.clone()), url_path: Some(long.clone()), ..Origin::default() };
    let context = Context::new(origin).acting_as(Actor::user(1, long.as_str()));
    let sql = [b"SELECT '\xfe\0' -- ".as_slice(), long.as_bytes()].concat();
    let mut bindings = vec![Value::RawText(b"a\xff\0"), Value::Text(&long), Value::Bytes(long.as_bytes())];
    bindings.resize(1_000, Value::Int(7));
    context.run(|| {
        let mut observed = Observed::new(&service.source, &sql);
        observed.bindings = &bindings;
        observed.error_message = Some(&long);
        service.recorder.record(&observed);
    });
    let drained = service.runner(Limits { stop_when_empty: true, ..Limits::default() });
    assert_eq!(drained.await.unwrap().unwrap(), StopReason::Empty);

    let rows = open_store(&service.file()).await.search(&Filter::default()).await.unwrap().rows;
    let [row] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    let event = &row.event;
    assert!(event.statement.sql.len() <= 64 << 10 && event.statement.cut.is_some() && event.statement.invalid_utf8);
    assert_eq!((event.bindings_total, event.bindings.len()), (1_000, 256));
    assert_eq!(event.bindings[0], Binding::InvalidText(b"a\xff\0".to_vec()));
    assert!(event.bindings[1..3].iter().all(|binding| matches!(binding, Binding::Shortened { .. })));
    let lengths =
        [&event.outcome.error_message, &event.origin.user_agent, &event.origin.url_path, &event.actor.username]
            .map(|text| text.as_ref().map_or(0, String::len));
    assert!(lengths.iter().all(|length| (1..=4 << 10).contains(length)), "{lengths:?}");
}
