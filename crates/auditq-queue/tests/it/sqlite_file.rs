//! What is SQLite's own: the shape of tables, the cost of looking, and what others do to the file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions, delete_in};
use auditq_queue::{
    Error, ErrorKind, FailedFilter, MessageId, NewMessage, Queue, QueueAdmin, QueueName, Receipt, Remainder,
};
use auditq_sqlite::{Database, Options};
use bytes::Bytes;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, StatementStatus};
use tempfile::TempDir;

use crate::subjects::{clock, sqlite_at};

fn name() -> QueueName {
    QueueName::new("audit-logs").unwrap()
}

fn message(id: &str) -> NewMessage {
    let payload = Bytes::from_static(b"payload");
    NewMessage { id: MessageId::new(id), queue: name(), payload, delay: Duration::ZERO }
}

/// A queue whose tables are made by `sql` alone.
fn unmigrated(directory: &TempDir, sql: &str) -> SqliteQueue {
    let path = directory.path().join("auditq.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let database = Database::open(&path, Options::default()).unwrap();
    SqliteQueue::open(database, SqliteQueueOptions::default()).unwrap()
}

fn assert_misconfigured(error: &Error, says: &[&str]) {
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    for text in says {
        assert!(error.to_string().contains(text), "{error} does not say {text}");
    }
}

#[tokio::test]
async fn missing_tables_are_named_and_so_is_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let queue = unmigrated(&directory, "");
    let receipt = Receipt { id: "1".to_owned(), attempt: 1 };
    let says = ["no such table: ", "run `auditq migrate`"];
    assert_misconfigured(&queue.push(&[message("a")]).await.unwrap_err(), &says);
    assert_misconfigured(&queue.reserve(&[name()], 1).await.unwrap_err(), &says);
    assert_misconfigured(&queue.delete(&[receipt]).await.unwrap_err(), &["no such table: jobs", says[1]]);
    assert_misconfigured(&queue.sizes(&name()).await.unwrap_err(), &[says[1]]);
}

#[tokio::test]
async fn a_table_of_another_shape_is_named_with_its_column() {
    let directory = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE jobs (id integer primary key, queue, payload, reserved_at, available_at, created_at)";
    let queue = unmigrated(&directory, sql);
    let error = queue.migrate().await.unwrap_err();
    assert_misconfigured(&error, &["`jobs`", "no column `attempts`", "run `auditq migrate`"]);
}

#[tokio::test]
async fn a_column_that_nobody_fills_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE failed_jobs (id integer primary key, uuid, connection, queue, payload, exception, \
               failed_at, tenant text not null)";
    let error = unmigrated(&directory, sql).migrate().await.unwrap_err();
    assert_misconfigured(&error, &["`failed_jobs`", "`tenant` demands a value"]);
}

#[tokio::test]
async fn reservations_that_end_at_once_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("a.db"), Options::default()).unwrap();
    let options = SqliteQueueOptions { retry_after: Duration::ZERO, ..SqliteQueueOptions::default() };
    assert_misconfigured(&SqliteQueue::open(database, options).unwrap_err(), &["`retry_after` is 0"]);
}

/// Inserts rows as fast as SQLite can: ready, delayed, reserved and failed ones in turn.
async fn fill(queue: &SqliteQueue, rows: u32) {
    let work = move |connection: &Connection| {
        let rows = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})");
        connection.execute_batch(&format!(
            "{rows} INSERT INTO jobs (queue, payload, attempts, reserved_at, available_at, created_at)
             SELECT 'audit-logs', '{{}}', 0, iif(i % 3 = 0, 1700000000, NULL),
                 1700000000 + iif(i % 3 = 1, 60, 0), 1700000000 FROM n;
             {rows} INSERT INTO failed_jobs (uuid, connection, queue, payload, exception)
             SELECT 'u' || i, 'auditq', 'audit-logs', '{{}}', 'e' FROM n;"
        ))
    };
    queue.database().write("fill the queue", work).await.unwrap();
}

static STEPS: AtomicU64 = AtomicU64::new(0);

fn count_steps(event: TraceEvent<'_>) {
    if let TraceEvent::Profile(statement, _) = event {
        let steps = statement.get_status(StatementStatus::VmStep);
        STEPS.fetch_add(u64::try_from(steps).unwrap(), Ordering::Relaxed);
    }
}

/// How many steps of SQLite's virtual machine `operation` costs.
async fn steps_of<T>(queue: &SqliteQueue, operation: impl Future<Output = auditq_queue::Result<T>>) -> u64 {
    let trace = |connection: &Connection| {
        connection.trace_v2(TraceEventCodes::SQLITE_TRACE_PROFILE, Some(count_steps));
        Ok(())
    };
    queue.database().read("trace", trace).await.unwrap();
    queue.database().write("trace", trace).await.unwrap();
    STEPS.store(0, Ordering::Relaxed);
    operation.await.unwrap();
    STEPS.load(Ordering::Relaxed)
}

/// The same for looking at the queue, and for taking from it and settling.
async fn steps_of_use(queue: &SqliteQueue) -> [u64; 4] {
    let cycle = async {
        let mut reserved = queue.reserve(&[name()], 2).await?;
        let receipts = [reserved.remove(0).receipt];
        queue.extend(&receipts).await?;
        queue.release(&[Remainder::whole(reserved.remove(0).receipt)], Duration::ZERO).await?;
        queue.delete(&receipts).await
    };
    [
        steps_of(queue, queue.sizes(&name())).await,
        steps_of(queue, queue.queues()).await,
        steps_of(queue, queue.failed(&FailedFilter { limit: 3, ..FailedFilter::default() })).await,
        steps_of(queue, cycle).await,
    ]
}

#[tokio::test]
async fn promise_9_looking_and_taking_cost_the_same_at_20_and_at_200_000_messages() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let small = sqlite_at(&directory.path().join("small.db"), Arc::clone(&clock) as _).await;
    let large = sqlite_at(&directory.path().join("large.db"), Arc::clone(&clock) as _).await;
    fill(&small, 20).await;
    fill(&large, 200_000).await;
    let sizes = large.sizes(&name()).await.unwrap();
    assert_eq!((sizes.ready, sizes.delayed, sizes.reserved, sizes.failed), (66_667, 66_667, 66_666, 200_000));
    small.sizes(&name()).await.unwrap();
    for queue in [&small, &large] {
        // Notes that what was filled in is ready, and lets every statement be compiled.
        queue.push(&[message("a")]).await.unwrap();
        steps_of_use(queue).await;
    }
    let (few, many) = (steps_of_use(&small).await, steps_of_use(&large).await);
    assert!(few.iter().all(|steps| *steps > 0), "no step was counted: {few:?}");
    assert_eq!(few, many);

    // And when everything that was delayed has become due at once, it is counted once.
    clock.advance(Duration::from_secs(70));
    for queue in [&small, &large] {
        queue.push(&[message("b")]).await.unwrap();
        steps_of_use(queue).await;
    }
    assert_eq!(steps_of_use(&small).await, steps_of_use(&large).await);
    assert_eq!(large.sizes(&name()).await.unwrap().delayed, 0);
}

/// How many bytes of log `operation` writes.
async fn logged<T>(queue: &SqliteQueue, operation: impl Future<Output = auditq_queue::Result<T>>) -> (u64, T) {
    let path = queue.database().path();
    let connection = Connection::open(path).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let answer = operation.await.unwrap();
    (std::fs::metadata(path.with_extension("db-wal")).unwrap().len(), answer)
}

#[tokio::test]
async fn a_long_payload_is_written_once_and_not_with_each_reservation() {
    let laravels = "CREATE TABLE jobs (id integer primary key autoincrement not null, queue varchar not null, \
                    payload text not null, attempts integer not null, reserved_at integer, \
                    available_at integer not null, created_at integer not null)";
    for tables in ["", laravels] {
        let directory = tempfile::tempdir().unwrap();
        let queue = unmigrated(&directory, tables);
        queue.migrate().await.unwrap();
        let payload = Bytes::from("x".repeat(1_000_000));
        queue.push(&[NewMessage { payload, ..message("a") }]).await.unwrap();
        let (reserving, mut held) = logged(&queue, queue.reserve(&[name()], 1)).await;
        let held = held.remove(0).receipt;
        let (extending, _) = logged(&queue, queue.extend(std::slice::from_ref(&held))).await;
        let (releasing, _) = logged(&queue, queue.release(&[Remainder::whole(held)], Duration::ZERO)).await;
        for bytes in [reserving, extending, releasing] {
            assert!((1..100_000).contains(&bytes), "{bytes} bytes: {reserving}, {extending}, {releasing}");
        }
    }
}

#[tokio::test]
async fn wait_asks_the_database_nothing_and_sees_what_another_process_pushes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let queue = Arc::new(sqlite_at(&path, clock()).await);
    assert!(queue.reserve(&[name()], 1).await.unwrap().is_empty());
    let operations = queue.database().operations();
    queue.wait(&[name()], Duration::from_millis(300)).await;
    assert_eq!(queue.database().operations(), operations);

    let waiting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.wait(&[name()], Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    let began = Instant::now();
    let other = Connection::open(&path).unwrap();
    let sql =
        "INSERT INTO jobs (queue, payload, attempts, available_at, created_at) VALUES ('audit-logs', '', 0, 0, 0)";
    other.execute(sql, []).unwrap();
    waiting.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    assert_eq!(queue.database().operations(), operations);
}

#[tokio::test]
async fn rows_and_the_messages_they_came_from_change_in_one_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let queue = sqlite_at(&directory.path().join("a.db"), clock()).await;
    queue.push(&[message("a"), message("b")]).await.unwrap();
    let held: Vec<_> = queue.reserve(&[name()], 10).await.unwrap().into_iter().map(|held| held.receipt).collect();
    let settle = |done: Vec<Receipt>, sql: &'static str| {
        queue.database().write("settle", move |connection| {
            let stale = delete_in(connection, &done)?;
            connection.execute_batch(sql)?;
            Ok(stale)
        })
    };
    settle(held.clone(), "INSERT INTO nowhere VALUES (1)").await.unwrap_err();
    assert_eq!(queue.sizes(&name()).await.unwrap().reserved, 2);
    let stale = Receipt { attempt: 7, ..held[0].clone() };
    let done = vec![held[0].clone(), held[1].clone(), stale.clone()];
    assert_eq!(settle(done, "CREATE TABLE audit (x)").await.unwrap(), [stale]);
    assert_eq!(queue.sizes(&name()).await.unwrap().total(), 0);
}

/// More than one transaction's worth.
#[tokio::test]
async fn many_failed_messages_are_retried_forgotten_and_cleared() {
    let directory = tempfile::tempdir().unwrap();
    let queue = sqlite_at(&directory.path().join("a.db"), clock()).await;
    fill(&queue, 2_000).await;
    let all = auditq_queue::Selection::all();
    assert_eq!(queue.clear(&name()).await.unwrap(), 2_000);
    // They failed at the real time, which the test's clock is behind: all of them are meant all the same.
    assert_eq!(queue.retry(&all).await.unwrap(), 2_000);
    let mut held = queue.reserve(&[name()], 1_500).await.unwrap();
    let held: Vec<_> = held.drain(..).map(|message| Remainder::whole(message.receipt)).collect();
    queue.bury(&held, "no").await.unwrap();
    assert_eq!(queue.forget(&all).await.unwrap(), 1_500);
    assert_eq!(queue.clear(&name()).await.unwrap(), 500);
    assert_eq!(queue.queues().await.unwrap(), []);
}
