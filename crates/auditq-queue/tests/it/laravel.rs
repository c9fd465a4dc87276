//! Tables that Laravel made, and what Laravel does to them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auditq_queue::conformance::Subject;
use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_queue::{Clock, FailedFilter, Queue, QueueAdmin, QueueName, Remainder, Reserved, Selection};
use auditq_sqlite::{Database, Options};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::subjects::{RETRY_AFTER, clock};

/// As Laravel 12's migrations make them on SQLite.
const TABLES: &str = r#"
create table "jobs" ("id" integer primary key autoincrement not null, "queue" varchar not null,
    "payload" text not null, "attempts" integer not null, "reserved_at" integer, "available_at" integer not null,
    "created_at" integer not null);
create index "jobs_queue_index" on "jobs" ("queue");
create table "failed_jobs" ("id" integer primary key autoincrement not null, "uuid" varchar not null,
    "connection" text not null, "queue" text not null, "payload" text not null, "exception" text not null,
    "failed_at" datetime not null default CURRENT_TIMESTAMP);
create unique index "failed_jobs_uuid_unique" on "failed_jobs" ("uuid");
"#;

const NOW: i64 = 1_700_000_000;

/// An application's database file, and our queue on it.
struct App {
    directory: TempDir,
    laravel: Connection,
    queue: SqliteQueue,
}

impl App {
    /// The jobs in `before` are there before our tables and triggers are.
    async fn with(before: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let laravel = Connection::open(directory.path().join("database.sqlite")).unwrap();
        laravel.busy_timeout(Duration::from_secs(10)).unwrap();
        laravel.execute_batch(TABLES).unwrap();
        for (queue, payload) in before {
            push(&laravel, queue, payload, 0);
        }
        let queue = open(directory.path(), clock()).await;
        Self { directory, laravel, queue }
    }

    async fn reserve(&self) -> Vec<Reserved> {
        self.queue.reserve(&[name("audit")], 10).await.unwrap()
    }

    async fn sizes(&self) -> [u64; 4] {
        let sizes = self.queue.sizes(&name("audit")).await.unwrap();
        [sizes.ready, sizes.delayed, sizes.reserved, sizes.failed]
    }

    async fn bury_all(&self, reason: &str) {
        let held: Vec<_> = self.reserve().await.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
        assert_eq!(self.queue.bury(&held, reason).await.unwrap(), []);
    }

    async fn failed(&self) -> Vec<(String, String)> {
        let page = self.queue.failed(&FailedFilter::default()).await.unwrap();
        page.messages.into_iter().map(|failed| (failed.id.to_string(), failed.reason)).collect()
    }
}

async fn open(directory: &Path, clock: Arc<dyn Clock>) -> SqliteQueue {
    let database = Database::open(&directory.join("database.sqlite"), Options::default()).unwrap();
    let options = SqliteQueueOptions {
        retry_after: RETRY_AFTER,
        clock,
        connection: "database".to_owned(),
        ..SqliteQueueOptions::default()
    };
    let queue = SqliteQueue::open(database, options).unwrap();
    queue.migrate().await.unwrap();
    queue
}

fn push(laravel: &Connection, queue: &str, payload: &[u8], delay: i64) {
    let sql = "insert into jobs (queue, attempts, reserved_at, available_at, created_at, payload) \
               values (?1, 0, null, ?2, ?3, cast(?4 as text))";
    laravel.execute(sql, params![queue, NOW + delay, NOW, payload]).unwrap();
}

fn name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

/// The suite's subject on Laravel's tables.
pub(crate) async fn subject() -> Subject {
    let directory = tempfile::tempdir().unwrap();
    Connection::open(directory.path().join("database.sqlite")).unwrap().execute_batch(TABLES).unwrap();
    let clock = clock();
    let queue = Arc::new(open(directory.path(), Arc::clone(&clock) as _).await);
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(directory) }
}

#[tokio::test]
async fn jobs_that_were_there_before_are_counted_and_taken() {
    let app = App::with(&[("audit", b"{}"), ("audit", b"{}"), ("mail", b"{}")]).await;
    assert_eq!(app.sizes().await, [2, 0, 0, 0]);
    assert_eq!(app.queue.queues().await.unwrap(), [name("audit"), name("mail")]);
    let reserved = app.reserve().await;
    assert_eq!((reserved.len(), reserved[0].created_at), (2, NOW));
}

/// Its statements, word for word but for the parameters.
#[tokio::test]
async fn counts_follow_what_laravel_does_to_its_tables() {
    let app = App::with(&[]).await;
    for _ in 0..4 {
        push(&app.laravel, "audit", b"{}", 0);
    }
    push(&app.laravel, "audit", b"{}", 60);
    assert_eq!(app.sizes().await, [4, 1, 0, 0]);
    let run = |sql| app.laravel.execute(sql, []).unwrap();
    run("update jobs set reserved_at = 1700000000, attempts = 1 where id in (1, 2)");
    assert_eq!(app.sizes().await, [2, 1, 2, 0]);
    run("delete from jobs where id = 1");
    run("insert into jobs (queue, attempts, reserved_at, available_at, created_at, payload) \
         values ('audit', 1, null, 1700000030, 1700000000, '{}')");
    assert_eq!(app.sizes().await, [2, 2, 1, 0]);
    run("update jobs set queue = 'mail' where id = 3");
    run(
        "insert into failed_jobs (uuid, connection, queue, payload, exception) values ('u', 'database', 'audit', '{}', 'e')",
    );
    assert_eq!(app.sizes().await, [1, 2, 1, 1]);
    run("delete from failed_jobs");
    run("delete from jobs");
    assert_eq!(app.sizes().await, [0; 4]);
    assert_eq!(app.queue.queues().await.unwrap(), []);
}

/// Laravel releases by deleting the row and inserting another.
#[tokio::test]
async fn a_receipt_is_stale_once_laravel_has_released_the_job() {
    let app = App::with(&[("audit", b"{}")]).await;
    let held = app.reserve().await.remove(0).receipt;
    app.laravel.execute("delete from jobs", []).unwrap();
    push(&app.laravel, "audit", b"{}", 0);
    assert_eq!(app.queue.delete(std::slice::from_ref(&held)).await.unwrap(), [held]);
    assert_eq!(app.sizes().await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_buried_job_has_laravels_columns_filled_as_laravel_does() {
    let payload =
        br#"{"uuid":"0b2c\u002d1","displayName":"App\\Jobs\\ProcessAuditLog","attempts":2,"data":{"command":"O:1"}}"#;
    let app = App::with(&[("audit", payload)]).await;
    app.bury_all("App\\Exceptions\\Bad: no\nStack trace:").await;
    let row = app.laravel.query_row("select * from failed_jobs", [], |row| {
        Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
    });
    let row: (String, String, String, String, String, String) = row.unwrap();
    let expected = ("0b2c-1", "database", "audit", "App\\Exceptions\\Bad: no\nStack trace:", "2023-11-14 22:13:20");
    assert_eq!((&*row.0, &*row.1, &*row.2, &*row.4, &*row.5), expected);
    assert_eq!(row.3.as_bytes(), payload);
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 1);
    assert_eq!(&app.reserve().await[0].payload[..], payload);
}

/// Laravel loses such jobs: the column must not be null, and the job is deleted by then.
#[tokio::test]
async fn a_job_without_a_usable_uuid_gets_one_when_it_is_buried() {
    let long = format!(r#"{{"uuid":"{}"}}"#, "u".repeat(500));
    let payloads: [&[u8]; 6] = [b"{}", b"not JSON", b"", br#"{"uuid":7}"#, b"\xff\xfe", long.as_bytes()];
    let app = App::with(&payloads.map(|payload| ("audit", payload))).await;
    app.bury_all("no").await;
    let failed = app.failed().await;
    assert_eq!(failed.len(), payloads.len());
    for (id, _) in failed {
        assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id}");
    }
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 6);
    let reserved = app.reserve().await;
    assert_eq!(reserved.iter().map(|message| &message.payload[..]).collect::<Vec<_>>(), payloads);
}

#[tokio::test]
async fn a_uuid_that_has_failed_before_loses_neither_message() {
    let app = App::with(&[("audit", br#"{"uuid":"u","n":1}"#), ("audit", br#"{"uuid":"u","n":2}"#)]).await;
    app.bury_all("no").await;
    let failed = app.failed().await;
    assert_eq!(failed[1].0, "u");
    assert!(failed[0].0.starts_with("u-"), "{failed:?}");
    push(&app.laravel, "audit", br#"{"uuid":"u","n":1}"#, 0);
    app.bury_all("the same message again").await;
    let failed = app.failed().await;
    assert_eq!((failed.len(), &failed[0]), (2, &("u".to_owned(), "the same message again".to_owned())));
    assert_eq!(app.sizes().await, [0, 0, 0, 2]);
}

#[tokio::test]
async fn failed_jobs_of_another_connection_are_left_alone() {
    let app = App::with(&[]).await;
    let sql = "insert into failed_jobs (uuid, connection, queue, payload, exception) \
               values ('u', 'redis', 'audit', '{}', 'e')";
    app.laravel.execute(sql, []).unwrap();
    assert_eq!((app.failed().await.len(), app.sizes().await), (0, [0; 4]));
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 0);
    assert_eq!(app.queue.forget(&Selection::all()).await.unwrap(), 0);
    let left: i64 = app.laravel.query_row("select count(*) from failed_jobs", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
}

/// One bad row must not stop the queue.
#[tokio::test]
async fn rows_that_hold_anything_are_taken_as_they_are() {
    let app = App::with(&[]).await;
    let insert = "insert into jobs (queue, attempts, reserved_at, available_at, created_at, payload) values ";
    for values in [
        "('audit', -5, null, 1700000000, 'long ago', x'00ff')",
        "('audit', 9223372036854775807, null, 0, 0, 42)",
        "('audit', 'many', null, -1, 1.5, '')",
    ] {
        app.laravel.execute(&format!("{insert}{values}"), []).unwrap();
    }
    let reserved = app.reserve().await;
    let mut payloads: Vec<_> = reserved.iter().map(|message| &message.payload[..]).collect();
    payloads.sort_unstable();
    assert_eq!(payloads, [&b""[..], b"\x00\xff", b"42"]);
    let receipts: Vec<_> = reserved.into_iter().map(|message| message.receipt).collect();
    assert_eq!(app.queue.extend(&receipts).await.unwrap(), []);
    assert_eq!(app.queue.delete(&receipts).await.unwrap(), []);
    assert_eq!(app.sizes().await, [0; 4]);
}

/// `migrate:refresh` drops the tables and with them what keeps count.
#[tokio::test]
async fn a_table_that_laravel_made_anew_is_counted_again_after_a_migration() {
    let app = App::with(&[("audit", b"{}")]).await;
    app.laravel.execute_batch("drop table jobs; drop table failed_jobs;").unwrap();
    app.laravel.execute_batch(TABLES).unwrap();
    push(&app.laravel, "audit", b"{}", 0);
    push(&app.laravel, "audit", b"{}", 60);
    let error = app.queue.sizes(&name("audit")).await.unwrap_err();
    assert!(error.to_string().contains("run `auditq migrate`"), "{error}");
    app.queue.migrate().await.unwrap();
    assert_eq!(app.sizes().await, [1, 1, 0, 0]);
    assert!(app.directory.path().exists());
}
