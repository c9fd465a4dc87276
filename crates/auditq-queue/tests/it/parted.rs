//! A queue in Redis whose failed messages are in a Laravel application's `failed_jobs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auditq_mysql::testing::TestDatabase as Mysql;
use auditq_postgres::testing::TestDatabase as Postgres;
use auditq_queue::conformance::Subject;
use auditq_queue::mysql::MysqlFailedJobs;
use auditq_queue::postgres::PostgresFailedJobs;
use auditq_queue::sqlite::SqliteFailedJobs;
use auditq_queue::{
    Error, ErrorKind, FailedFilter, FailedJobs, FailedJobsOptions, FailedPage, GivenUp, Kept, MessageId, PartedQueue,
    Queue, QueueAdmin, QueueName, Remainder, Reserved, Result, Selection, WallClock,
};
use auditq_sqlite::{Database, Options};
use redis::Commands as _;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::redis_support::TestKeys;
use crate::subjects::{clock, redis_in};

const JOB: &str = r#"{"uuid":"u-1","job":"a@b","data":{"x":[]},"id":"i-1","attempts":0,"retryUntil":5}"#;

fn options(clock: Arc<auditq_queue::ManualClock>) -> FailedJobsOptions {
    FailedJobsOptions { clock, ..FailedJobsOptions::new("redis") }
}

async fn subject(
    failed: impl FailedJobs,
    clock: Arc<auditq_queue::ManualClock>,
    keep: impl Send + Sync + 'static,
) -> Subject {
    let keys = TestKeys::new();
    let queue = PartedQueue::new(redis_in(&keys.url(), Some(Arc::clone(&clock) as _)).await, Arc::new(failed));
    queue.migrate().await.unwrap();
    let queue = Arc::new(queue);
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new((keys, keep)) }
}

pub(crate) async fn with_sqlite() -> Subject {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    subject(SqliteFailedJobs::new(database(&folder), options(Arc::clone(&clock))), clock, folder).await
}

pub(crate) async fn with_mysql() -> Subject {
    let (database, clock) = (Mysql::new().await, clock());
    subject(MysqlFailedJobs::new(database.open(), options(Arc::clone(&clock))), clock, database).await
}

pub(crate) async fn with_postgres() -> Subject {
    let (database, clock) = (Postgres::new().await, clock());
    subject(PostgresFailedJobs::new(database.open(), options(Arc::clone(&clock))), clock, database).await
}

fn database(folder: &TempDir) -> Database {
    Database::open(&folder.path().join("app.sqlite"), Options::default()).unwrap()
}

/// The table, of which each step can be made to fail once after it was done, as a crash would.
#[derive(Debug)]
pub(crate) struct Crashing {
    table: SqliteFailedJobs,
    after_keeping: Arc<AtomicBool>,
    before_removing: Arc<AtomicBool>,
    /// How long it stays there otherwise.
    pause: Duration,
}

impl Crashing {
    pub(crate) fn of(table: SqliteFailedJobs, pause: Duration) -> Self {
        Self { table, after_keeping: Arc::default(), before_removing: Arc::default(), pause }
    }
}

/// The table in the file at `path`.
pub(crate) fn table_at(path: &std::path::Path, clock: Arc<auditq_queue::ManualClock>) -> SqliteFailedJobs {
    SqliteFailedJobs::new(Database::open(path, Options::default()).unwrap(), options(clock))
}

fn crash() -> Error {
    Error::new(ErrorKind::Unavailable, "test", "crashed")
}

#[async_trait]
impl FailedJobs for Crashing {
    async fn migrate(&self) -> Result<()> {
        self.table.migrate().await
    }
    async fn check(&self) -> Result<()> {
        self.table.check().await
    }
    async fn keep(&self, given_up: &[GivenUp], reason: &str) -> Result<()> {
        self.table.keep(given_up, reason).await?;
        tokio::time::sleep(self.pause).await;
        if self.after_keeping.swap(false, Ordering::SeqCst) { Err(crash()) } else { Ok(()) }
    }
    async fn known(&self, ids: &[MessageId]) -> Result<HashSet<MessageId>> {
        self.table.known(ids).await
    }
    async fn count(&self, queue: &QueueName) -> Result<(u64, bool)> {
        self.table.count(queue).await
    }
    async fn queues(&self) -> Result<Vec<QueueName>> {
        self.table.queues().await
    }
    async fn page(&self, filter: &FailedFilter) -> Result<FailedPage> {
        self.table.page(filter).await
    }
    async fn payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        self.table.payload(id).await
    }
    async fn newest(&self) -> Result<i64> {
        self.table.newest().await
    }
    async fn rows(&self, which: &Selection, newest: i64, limit: usize) -> Result<Vec<i64>> {
        self.table.rows(which, newest, limit).await
    }
    async fn read(&self, rows: &[i64]) -> Result<Vec<Kept>> {
        self.table.read(rows).await
    }
    async fn remove(&self, rows: &[i64]) -> Result<u64> {
        tokio::time::sleep(self.pause).await;
        if self.before_removing.swap(false, Ordering::SeqCst) { Err(crash()) } else { self.table.remove(rows).await }
    }
}

/// An application's queue in Redis, its database, and our queue over both.
struct App {
    keys: TestKeys,
    folder: TempDir,
    clock: Arc<auditq_queue::ManualClock>,
    queue: PartedQueue,
    after_keeping: Arc<AtomicBool>,
    before_removing: Arc<AtomicBool>,
}

impl App {
    async fn new(wall: WallClock) -> Self {
        let (keys, folder, clock) = (TestKeys::new(), tempfile::tempdir().unwrap(), clock());
        let options = FailedJobsOptions { wall, ..options(Arc::clone(&clock)) };
        let failed = Crashing::of(SqliteFailedJobs::new(database(&folder), options), Duration::ZERO);
        let (after_keeping, before_removing) = (failed.after_keeping.clone(), failed.before_removing.clone());
        let redis = redis_in(&keys.url(), Some(Arc::clone(&clock) as _)).await;
        let queue = PartedQueue::new(redis, Arc::new(failed));
        queue.migrate().await.unwrap();
        Self { keys, folder, clock, queue, after_keeping, before_removing }
    }

    /// As Laravel does it.
    fn push(&self, payload: &[u8]) {
        let list = self.keys.key("queues:audit");
        let _: u64 = self.keys.connect().rpush(list, payload).unwrap();
    }

    async fn reserve(&self) -> Vec<Reserved> {
        self.queue.reserve(&[name()], 10).await.unwrap()
    }

    async fn bury_all(&self) -> Result<()> {
        let held: Vec<_> = self.reserve().await.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
        assert!(!held.is_empty());
        self.queue.bury(&held, "no good").await.map(|stale| assert_eq!(stale, []))
    }

    fn rows(&self) -> Vec<(String, String, String, String, String)> {
        let laravel = Connection::open(self.folder.path().join("app.sqlite")).unwrap();
        let sql = "select uuid, connection, queue, payload, failed_at from failed_jobs order by id";
        let mut statement = laravel.prepare(sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
        statement.query_map([], row).unwrap().map(std::result::Result::unwrap).collect()
    }

    async fn waiting_and_failed(&self) -> (u64, u64) {
        let sizes = self.queue.sizes(&name()).await.unwrap();
        (sizes.total(), sizes.failed)
    }
}

fn name() -> QueueName {
    QueueName::new("audit").unwrap()
}

#[tokio::test]
async fn a_job_is_kept_as_laravel_keeps_it_in_the_zone_of_its_application() {
    let app = App::new(WallClock::new(|_| 3_600)).await;
    app.push(JOB.as_bytes());
    app.bury_all().await.unwrap();
    let expected = ("u-1", "redis", "audit", JOB, "2023-11-14 23:13:20");
    let (uuid, connection, queue, payload, failed_at) = &app.rows()[0];
    assert_eq!((uuid.as_str(), connection.as_str(), queue.as_str(), payload.as_str(), failed_at.as_str()), expected);
    let page = app.queue.failed(&FailedFilter::default()).await.unwrap();
    assert_eq!((page.messages[0].failed_at, page.messages[0].reason.as_str()), (1_700_000_000, "no good"));
    assert_eq!(app.waiting_and_failed().await, (0, 1));
}

#[tokio::test]
async fn a_crash_between_keeping_and_removing_delivers_it_again_and_keeps_it_once() {
    let app = App::new(WallClock::utc()).await;
    app.push(JOB.as_bytes());
    app.after_keeping.store(true, Ordering::SeqCst);
    app.bury_all().await.unwrap_err();
    assert_eq!(app.waiting_and_failed().await, (1, 1));
    app.clock.advance(Duration::from_secs(92));
    app.bury_all().await.unwrap();
    assert_eq!(app.waiting_and_failed().await, (0, 1));
    assert_eq!(app.rows().len(), 1);
}

#[tokio::test]
async fn a_crash_between_putting_back_and_removing_adds_it_once() {
    let app = App::new(WallClock::utc()).await;
    app.push(JOB.as_bytes());
    app.bury_all().await.unwrap();
    app.before_removing.store(true, Ordering::SeqCst);
    app.queue.retry(&Selection::all()).await.unwrap_err();
    assert_eq!(app.waiting_and_failed().await, (1, 1));
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 1);
    assert_eq!(app.waiting_and_failed().await, (1, 0));
    // What Laravel needs to take it: the time that has passed is gone, and no try counts.
    let back = app.reserve().await;
    assert_eq!(back[0].attempts, 1);
    assert_eq!(back[0].payload, JOB.replace("\"retryUntil\":5", "\"retryUntil\":null").as_bytes());
}

/// Laravel's worker takes what was put back, fails it, and tells us nothing of it.
#[tokio::test]
async fn a_job_that_fails_again_elsewhere_can_be_put_back_again() {
    let app = App::new(WallClock::utc()).await;
    app.push(JOB.as_bytes());
    app.bury_all().await.unwrap();
    for _ in 0..3 {
        assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 1);
        let _: Vec<u8> = app.keys.connect().lpop(app.keys.key("queues:audit"), None).unwrap();
        let laravel = Connection::open(app.folder.path().join("app.sqlite")).unwrap();
        let sql = "insert into failed_jobs (uuid, connection, queue, payload, exception, failed_at) \
                   values ('u-1', 'redis', 'audit', ?1, 'no', '2024-01-01 00:00:00')";
        laravel.execute(sql, [JOB]).unwrap();
        assert_eq!(app.waiting_and_failed().await, (0, 1));
    }
}

#[tokio::test]
async fn another_job_with_the_same_uuid_displaces_nothing() {
    let app = App::new(WallClock::utc()).await;
    for other in ["1", "2"] {
        app.push(JOB.replace("\"x\":[]", &format!("\"x\":{other}")).as_bytes());
        app.bury_all().await.unwrap();
    }
    let rows = app.rows();
    assert_eq!((rows.len(), rows[0].0.as_str()), (2, "u-1"));
    assert!(rows[1].0.starts_with("u-1-"), "{}", rows[1].0);
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 2);
    assert_eq!(app.reserve().await.len(), 2);
}

#[tokio::test]
async fn what_no_table_of_text_holds_is_kept_beside_the_queue_and_listed_with_the_rest() {
    let app = App::new(WallClock::utc()).await;
    app.push(JOB.as_bytes());
    app.push(b"\xff\xfe\0 no text");
    app.bury_all().await.unwrap();
    assert_eq!((app.rows().len(), app.waiting_and_failed().await), (1, (0, 2)));
    for limit in [1, 2, 3] {
        let (mut filter, mut ids) = (FailedFilter { limit, ..FailedFilter::default() }, Vec::new());
        loop {
            let page = app.queue.failed(&filter).await.unwrap();
            ids.extend(page.messages.into_iter().map(|failed| failed.id));
            filter.after = page.next;
            if filter.after.is_none() {
                break;
            }
        }
        assert_eq!(ids.len(), 2, "{limit}");
        let payload = app.queue.failed_payload(&ids[1]).await.unwrap().unwrap();
        assert_eq!(payload, b"\xff\xfe\0 no text");
    }
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 2);
    assert_eq!(app.waiting_and_failed().await, (2, 0));
}
