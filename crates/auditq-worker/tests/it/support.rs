//! What the tests share: a world of its own folder, engines that can be made to fail, and a count of what was stored.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auditq_event::{Event, EventId, Message, ProducerLabel};
use auditq_queue::memory::MemoryQueue;
use auditq_queue::{MessageId, NewMessage, Queue, QueueAdmin, QueueName, Receipt, Remainder, Reserved};
use auditq_sqlite::{Database, Options};
use auditq_store::sqlite::SqliteStore;
use auditq_store::{Batch, ErrorKind, Filter, Inserted, Store, StoreReader};
use auditq_worker::{
    Budget, LaravelJobs, Limits, Observer, RetryPolicy, SettleError, Shutdown, StopReason, StoreThenDelete, WorkEvent,
    Worker, WorkerOptions,
};

pub(crate) const PRODUCER: [u8; 16] = [7; 16];

pub(crate) fn queue_name() -> QueueName {
    QueueName::new("audit-logs").unwrap()
}

/// The event with the number `seq`, by a user of that name.
pub(crate) fn event(seq: u64, user: &str) -> Event {
    let occurred_at = 1_800_000_000_000_000 + i64::try_from(seq).unwrap();
    let mut event =
        Event { occurred_at, recorded_at: occurred_at, last_at: occurred_at, repeat_count: 1, ..Event::default() };
    event.statement.sql = format!("select * from orders where id = {seq}");
    event.actor.username = Some(user.to_owned());
    event
}

/// A message of these records.
pub(crate) fn message(records: &[(u64, Vec<u8>)]) -> NewMessage {
    let label = ProducerLabel { producer_id: PRODUCER, ..ProducerLabel::default() };
    let borrowed: Vec<(u64, &[u8])> = records.iter().map(|(seq, record)| (*seq, record.as_slice())).collect();
    let (id, payload) = (Message::uuid_of(&label, &borrowed), Message::build(&label, &borrowed));
    NewMessage { id: MessageId::new(id), queue: queue_name(), payload: payload.into(), delay: Duration::ZERO }
}

/// A message of good events with these numbers.
pub(crate) fn message_of(seqs: std::ops::Range<u64>) -> NewMessage {
    message(&seqs.map(|seq| (seq, event(seq, "alice").encode())).collect::<Vec<_>>())
}

/// The payload of a request's queries, as the package for Laravel sends it: with these numbers and users.
pub(crate) fn queries(uuid: u128, queries: &[(u64, &str)]) -> String {
    let actors: Vec<_> = queries.iter().map(|(_, user)| serde_json::json!({"id": user, "name": user})).collect();
    let item = |(at, (seq, _)): (usize, &(u64, &str))| {
        let time = 1_800_000_000_000_000 + *seq;
        serde_json::json!({
            "seq": seq, "at": time, "us": 40, "statement": 0, "database": 0, "actor": at, "bindings": [seq, "paid"],
            "returned": 1, "outcome": "autocommit",
        })
    };
    let batch = serde_json::json!({
        "actors": actors,
        "databases": [{"connection": "app", "system": "mysql", "name": "shop"}],
        "statements": ["select * from orders where id = ? and status = ?"],
        "items": queries.iter().enumerate().map(item).collect::<Vec<_>>(),
    });
    let uuid = uuid::Uuid::from_u128(uuid).to_string();
    let data = serde_json::json!({
        "auditq": 1, "producer": "07070707070707070707070707070707", "app": "shop", "host": "web-1", "pid": 17,
        "origin": {"kind": "http", "method": "GET", "path": "/orders"}, "count": queries.len(),
        "batch": batch.to_string(),
    });
    let payload = serde_json::json!({
        "uuid": uuid, "displayName": "auditq: queries", "job": "auditq@queries", "maxTries": null, "data": data,
        "id": uuid, "attempts": 0,
    });
    payload.to_string()
}

/// A real SQLite store that can be made not to answer, and refuses the events of users named `refused`.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<SqliteStore>,
    pub(crate) down: AtomicBool,
    pub(crate) hangs: AtomicBool,
    pub(crate) inserts: AtomicU64,
}

#[async_trait]
impl Store for FaultyStore {
    async fn insert(&self, batch: Arc<Batch>) -> auditq_store::Result<Inserted> {
        self.inserts.fetch_add(1, Ordering::Relaxed);
        let is_slow = batch.events.iter().any(|event| event.actor.username.as_deref() == Some("slow"));
        if self.hangs.load(Ordering::Relaxed) || is_slow {
            std::future::pending::<()>().await;
        }
        if self.down.load(Ordering::Relaxed) {
            return Err(auditq_store::Error::new(ErrorKind::Unavailable, "faulty", "made not to answer"));
        }
        self.inner.insert(batch).await
    }

    async fn migrate(&self) -> auditq_store::Result<()> {
        self.inner.migrate().await
    }
}

/// A folder with a store in it, a queue in memory, and what the worker said.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) events: Arc<std::sync::Mutex<Vec<WorkEvent>>>,
    pub(crate) shutdown: Shutdown,
    pub(crate) laravel: Option<Arc<LaravelJobs>>,
}

pub(crate) async fn open_store(path: &Path) -> Arc<SqliteStore> {
    let store = Arc::new(SqliteStore::new(Database::open(path, Options::default()).unwrap()));
    store.migrate().await.unwrap();
    store
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_retry_after(Duration::from_secs(8)).await
    }

    pub(crate) async fn with_retry_after(retry_after: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inner = open_store(&dir.path().join("audit.db")).await;
        let (down, hangs, inserts) = Default::default();
        let store = Arc::new(FaultyStore { inner, down, hangs, inserts });
        let (events, shutdown, laravel) = Default::default();
        Self { dir, queue: Arc::new(MemoryQueue::new(retry_after)), store, events, shutdown, laravel }
    }

    /// Makes the database itself refuse the events of some users, as a trigger of its owner's would.
    pub(crate) async fn refuse(&self, username: &'static str) {
        let sql = format!(
            "create trigger if not exists refuse before insert on audit_sql_logs when new.username = '{username}'
             begin select raise(abort, 'refused by the owner of the database'); end"
        );
        self.store
            .inner
            .database()
            .write("make a trigger", move |connection| connection.execute_batch(&sql))
            .await
            .unwrap();
    }

    pub(crate) async fn accept_all(&self) {
        let work = |connection: &auditq_sqlite::rusqlite::Connection| connection.execute_batch("drop trigger refuse");
        self.store.inner.database().write("drop a trigger", work).await.unwrap();
    }

    pub(crate) async fn push(&self, messages: &[NewMessage]) {
        self.queue.push(messages).await.unwrap();
    }

    pub(crate) fn worker(&self, limits: Limits) -> Worker {
        let events = Arc::clone(&self.events);
        Worker {
            options: WorkerOptions {
                number: 0,
                queues: vec![queue_name()],
                batch: 8,
                timeout: Duration::from_secs(30),
                policy: RetryPolicy { tries: 3, max_exceptions: 3, backoff: vec![Duration::ZERO] },
                idle: Duration::from_millis(50),
                rest: Duration::ZERO,
                laravel: self.laravel.clone(),
                closed: auditq_worker::Closed::default(),
            },
            queue: self.queue.clone(),
            store: self.store.clone(),
            settlement: Arc::new(StoreThenDelete { queue: self.queue.clone(), store: self.store.clone() }),
            budget: Arc::new(Budget::new(limits)),
            shutdown: self.shutdown.clone(),
            observer: Observer::new(move |event| events.lock().unwrap().push(event.clone())),
        }
    }

    /// Works until the queue has nothing to give.
    pub(crate) async fn work(&self) -> Result<StopReason, SettleError> {
        self.worker(Limits { stop_when_empty: true, ..Limits::default() }).run().await
    }

    /// The sequence numbers that are stored, sorted.
    pub(crate) async fn stored(&self) -> Vec<u64> {
        stored_in(&self.store.inner).await
    }

    pub(crate) async fn sizes(&self) -> auditq_queue::QueueSizes {
        self.queue.sizes(&queue_name()).await.unwrap()
    }

    pub(crate) fn heard(&self, wanted: impl Fn(&WorkEvent) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| wanted(event)).count()
    }

    /// After which try each message was given up.
    pub(crate) fn buried_after(&self) -> Vec<u32> {
        let events = self.events.lock().unwrap();
        let tries = events.iter().filter_map(|event| match event {
            WorkEvent::Buried { attempts, .. } => Some(*attempts),
            _ => None,
        });
        tries.collect()
    }

    /// Returns once the worker has said so.
    pub(crate) async fn until(&self, wanted: impl Fn(&WorkEvent) -> bool) {
        within(Duration::from_secs(20), async || self.heard(&wanted) > 0).await;
    }
}

/// Returns once `condition` holds; fails the test when it does not in time.
pub(crate) async fn within(limit: Duration, condition: impl AsyncFn() -> bool) {
    let polled = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(limit, polled).await.expect("it did not come to pass in time");
}

/// Every row's sequence number, sorted; each once for each row that there is.
pub(crate) async fn stored_in(store: &SqliteStore) -> Vec<u64> {
    let mut seqs = Vec::new();
    let mut filter = Filter { limit: 5_000, ..Filter::default() };
    loop {
        let page = store.search(&filter).await.unwrap();
        seqs.extend(page.rows.iter().map(|row| row.event.producer_seq));
        filter.stored_before = page.next;
        if page.next.is_none() {
            seqs.sort_unstable();
            return seqs;
        }
    }
}

pub(crate) fn id_of(seq: u64) -> EventId {
    EventId::derive(event(seq, "").occurred_at, &PRODUCER, seq)
}

/// A queue that calls `at` around each operation, for tests that kill, count, or refuse.
pub(crate) struct Watched<F> {
    pub(crate) inner: Arc<dyn Queue>,
    pub(crate) at: F,
}

/// What a queue says that does not answer.
pub(crate) fn unavailable() -> auditq_queue::Error {
    auditq_queue::Error::new(auditq_queue::ErrorKind::Unavailable, "down", "made not to answer")
}

impl<F> std::fmt::Debug for Watched<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

#[async_trait]
impl<F: Fn(&'static str) -> auditq_queue::Result<()> + Send + Sync + 'static> Queue for Watched<F> {
    async fn push(&self, batch: &[NewMessage]) -> auditq_queue::Result<()> {
        (self.at)("push")?;
        self.inner.push(batch).await?;
        (self.at)("pushed")
    }

    async fn reserve(&self, queues: &[QueueName], limit: usize) -> auditq_queue::Result<Vec<Reserved>> {
        let reserved = self.inner.reserve(queues, limit).await?;
        (self.at)("reserved")?;
        Ok(reserved)
    }

    async fn extend(&self, held: &[Receipt]) -> auditq_queue::Result<Vec<Receipt>> {
        self.inner.extend(held).await
    }

    async fn delete(&self, done: &[Receipt]) -> auditq_queue::Result<Vec<Receipt>> {
        (self.at)("delete")?;
        let stale = self.inner.delete(done).await?;
        (self.at)("deleted")?;
        Ok(stale)
    }

    async fn release(&self, held: &[Remainder], delay: Duration) -> auditq_queue::Result<Vec<Receipt>> {
        (self.at)("release")?;
        self.inner.release(held, delay).await
    }

    async fn decline(&self, held: &[Receipt], delay: Duration) -> auditq_queue::Result<Vec<Receipt>> {
        self.inner.decline(held, delay).await
    }

    async fn bury(&self, held: &[Remainder], reason: &str) -> auditq_queue::Result<Vec<Receipt>> {
        (self.at)("bury")?;
        self.inner.bury(held, reason).await
    }

    async fn wait(&self, queues: &[QueueName], at_most: Duration) {
        self.inner.wait(queues, at_most).await;
    }

    fn retry_after(&self) -> Duration {
        self.inner.retry_after()
    }
}
