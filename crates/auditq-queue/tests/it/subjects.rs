use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auditq_mysql::testing::TestDatabase;
use auditq_postgres::testing::TestDatabase as PostgresDatabase;
use auditq_queue::conformance::Subject;
use auditq_queue::memory::MemoryQueue;
use auditq_queue::mysql::{MysqlQueue, MysqlQueueOptions};
use auditq_queue::nats::{NatsQueue, NatsQueueOptions};
use auditq_queue::postgres::{PostgresQueue, PostgresQueueOptions};
use auditq_queue::redis::{RedisQueue, RedisQueueOptions};
use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_queue::{Clock, ManualClock, QueueAdmin};
use auditq_sqlite::{Database, Options};

use crate::nats_support::TestStreams;
use crate::redis_support::TestKeys;

pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(90);

/// A clock at a time that nobody mistakes for the real one.
pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Duration::from_secs(1_700_000_000)))
}

pub(crate) async fn memory() -> Subject {
    let clock = clock();
    let queue = Arc::new(MemoryQueue::with_clock(RETRY_AFTER, Arc::clone(&clock) as Arc<dyn Clock>));
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(()) }
}

pub(crate) async fn sqlite() -> Subject {
    let (clock, directory) = (clock(), tempfile::tempdir().unwrap());
    let queue = Arc::new(sqlite_at(&directory.path().join("auditq.db"), Arc::clone(&clock) as _).await);
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(directory) }
}

pub(crate) async fn sqlite_at(path: &Path, clock: Arc<dyn Clock>) -> SqliteQueue {
    let database = Database::open(path, Options::default()).unwrap();
    let options = SqliteQueueOptions { retry_after: RETRY_AFTER, clock, ..SqliteQueueOptions::default() };
    let queue = SqliteQueue::open(database, options).unwrap();
    queue.migrate().await.unwrap();
    queue
}

pub(crate) async fn mysql() -> Subject {
    let (clock, database) = (clock(), TestDatabase::new().await);
    let queue = Arc::new(mysql_in(&database, Some(Arc::clone(&clock) as _)).await);
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(database) }
}

pub(crate) async fn mysql_in(database: &TestDatabase, clock: Option<Arc<dyn Clock>>) -> MysqlQueue {
    let options = MysqlQueueOptions { retry_after: RETRY_AFTER, clock, ..MysqlQueueOptions::default() };
    let queue = MysqlQueue::open(database.open(), options).unwrap();
    queue.migrate().await.unwrap();
    queue
}

pub(crate) async fn postgres() -> Subject {
    let (clock, database) = (clock(), PostgresDatabase::new().await);
    let queue = Arc::new(postgres_in(&database, Some(Arc::clone(&clock) as _)).await);
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(database) }
}

pub(crate) async fn postgres_in(database: &PostgresDatabase, clock: Option<Arc<dyn Clock>>) -> PostgresQueue {
    let options = PostgresQueueOptions { retry_after: RETRY_AFTER, clock, ..PostgresQueueOptions::default() };
    let queue = PostgresQueue::open(database.open(), options).unwrap();
    queue.migrate().await.unwrap();
    queue
}

pub(crate) async fn redis() -> Subject {
    let (clock, keys) = (clock(), TestKeys::new());
    let queue = Arc::new(redis_in(&keys.url(), Some(Arc::clone(&clock) as _)).await);
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(keys) }
}

pub(crate) async fn redis_in(url: &str, clock: Option<Arc<dyn Clock>>) -> RedisQueue {
    let queue = RedisQueue::open(url, RedisQueueOptions { retry_after: RETRY_AFTER, clock }).unwrap();
    queue.migrate().await.unwrap();
    queue
}

pub(crate) async fn nats() -> Subject {
    let (clock, streams) = (clock(), TestStreams::new().await);
    let queue = Arc::new(nats_in(&streams.url(), Some(Arc::clone(&clock) as _)).await);
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(streams) }
}

pub(crate) async fn nats_in(url: &str, clock: Option<Arc<dyn Clock>>) -> NatsQueue {
    let queue = NatsQueue::open(url, NatsQueueOptions { retry_after: RETRY_AFTER, clock }).unwrap();
    queue.migrate().await.unwrap();
    queue
}
