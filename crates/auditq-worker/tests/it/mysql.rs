//! Queue and store in one MySQL database: one transaction settles both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use auditq_config::{Config, EngineUrl};
use auditq_event::Event;
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::testing::TestDatabase;
use auditq_queue::{FailedFilter, Receipt, Reserved};
use auditq_store::{Batch, Filter};
use auditq_worker::{
    Budget, Engines, Limits, Observer, RetryPolicy, SettleError, Shutdown, StopReason, Worker, WorkerOptions,
};

use crate::support::{event, message, message_of, queue_name};

/// A queue and a store in one database.
pub(crate) struct InOneDatabase {
    pub(crate) database: TestDatabase,
    pub(crate) engines: Engines,
}

impl InOneDatabase {
    async fn new() -> Self {
        Self::with_retry_after(None).await
    }

    pub(crate) async fn with_retry_after(seconds: Option<u64>) -> Self {
        let database = TestDatabase::new().await;
        let engines = open(&database.url(), &database.url(), seconds).await;
        Self { database, engines }
    }

    pub(crate) async fn reserve(&self, limit: usize) -> Vec<Reserved> {
        self.engines.queue.reserve(&[queue_name()], limit).await.unwrap()
    }

    pub(crate) async fn waiting(&self) -> u64 {
        self.engines.admin.sizes(&queue_name()).await.unwrap().total()
    }

    pub(crate) async fn stored(&self) -> Vec<u64> {
        let filter = Filter { limit: 100_000, ..Filter::default() };
        let rows = self.engines.reader.search(&filter).await.unwrap().rows;
        let mut seqs: Vec<_> = rows.into_iter().map(|row| row.event.producer_seq).collect();
        seqs.sort_unstable();
        seqs
    }

    /// Makes the database itself refuse the events of a user.
    pub(crate) async fn refuse(&self, username: &str) {
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_sql_logs FOR EACH ROW IF NEW.username = '{username}' THEN \
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused by the owner of the database'; END IF"
        );
        self.database.run(&trigger).await;
    }

    pub(crate) fn worker(&self, number: usize) -> Worker {
        Worker {
            options: WorkerOptions {
                number,
                queues: vec![queue_name()],
                batch: 8,
                timeout: Duration::from_secs(30),
                policy: RetryPolicy { tries: 3, max_exceptions: 3, backoff: vec![Duration::ZERO] },
                idle: Duration::from_millis(50),
                rest: Duration::ZERO,
                laravel: None,
                closed: auditq_worker::Closed::default(),
            },
            queue: self.engines.queue.clone(),
            store: self.engines.store.clone(),
            settlement: self.engines.settlement.clone(),
            budget: Arc::new(Budget::new(Limits { stop_when_empty: true, ..Limits::default() })),
            shutdown: Shutdown::new(),
            observer: Observer::default(),
        }
    }
}

async fn open(queue: &str, store: &str, retry_after: Option<u64>) -> Engines {
    let mut config = Config::default();
    config.queue.retry_after = retry_after;
    config.queue.url = EngineUrl::parse(queue).unwrap();
    config.store.url = EngineUrl::parse(store).unwrap();
    Engines::open(&config).await.unwrap()
}

fn batch(events: Vec<Event>) -> Arc<Batch> {
    Arc::new(Batch { events, amendments: Vec::new() })
}

/// Ten events with ids of their own.
fn events() -> Vec<Event> {
    (0..10).map(|seq| Event { event_id: crate::support::id_of(seq), ..event(seq, "alice") }).collect()
}

fn receipts(reserved: &[Reserved]) -> Vec<Receipt> {
    reserved.iter().map(|message| message.receipt.clone()).collect()
}

#[tokio::test]
async fn rows_are_stored_and_their_messages_gone_in_one_transaction() {
    let world = InOneDatabase::new().await;
    assert!(format!("{:?}", world.engines.settlement).contains("OneTransaction"));
    world.engines.queue.push(&[message_of(0..5), message_of(5..10), message_of(10..15)]).await.unwrap();
    let held = receipts(&world.reserve(2).await);
    let stale = Receipt { attempt: 9, ..held[0].clone() };
    let done = [held[0].clone(), stale.clone(), held[1].clone()];
    let settled = world.engines.settlement.settle(batch(events()), &done).await.unwrap();
    assert_eq!((settled.inserted.stored, settled.stale), (10, vec![stale]));
    assert_eq!(world.waiting().await, 1);
    // After an answer that was lost it is asked for again.
    let again = world.engines.settlement.settle(batch(events()), &held).await.unwrap();
    assert_eq!((again.inserted.stored, again.inserted.duplicates, again.stale), (0, 10, held));
}

#[tokio::test]
async fn a_refused_row_leaves_its_messages_and_the_other_rows_out() {
    let world = InOneDatabase::new().await;
    world.refuse("refused").await;
    world.engines.queue.push(&[message_of(0..10)]).await.unwrap();
    let held = receipts(&world.reserve(1).await);
    let mut events = events();
    events[7].actor.username = Some("refused".to_owned());
    let error = world.engines.settlement.settle(batch(events), &held).await.unwrap_err();
    assert!(
        matches!(&error, SettleError::Store(error) if error.kind() == auditq_store::ErrorKind::Rejected),
        "{error}"
    );
    assert_eq!((world.stored().await.len(), world.waiting().await), (0, 1));
}

#[tokio::test]
async fn a_settlement_that_is_killed_before_its_commit_leaves_the_messages_and_no_row() {
    let world = InOneDatabase::new().await;
    world.engines.queue.push(&[message_of(0..10)]).await.unwrap();
    let held = receipts(&world.reserve(1).await);
    // The rows are inserted by then, and the delete waits for this lock.
    let mut other = world.database.connect().await;
    other.query_drop("START TRANSACTION").await.unwrap();
    other.query_drop("SELECT 1 FROM jobs FOR UPDATE").await.unwrap();
    let settlement = world.engines.settlement.clone();
    let (events, done) = (batch(events()), held.clone());
    let settling = tokio::spawn(async move { settlement.settle(events, &done).await });
    let waiting = "SELECT id FROM information_schema.processlist \
                   WHERE db = database() AND info LIKE 'DELETE FROM jobs%' LIMIT 1";
    let began = Instant::now();
    let id = loop {
        if let Some(id) = other.query_first::<u64, _>(waiting).await.unwrap() {
            break id;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the delete does not come");
        tokio::task::yield_now().await;
    };
    other.query_drop(format!("KILL {id}")).await.unwrap();
    let error = settling.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, SettleError::Store(error) if error.kind() == auditq_store::ErrorKind::Unavailable),
        "{error}"
    );
    other.query_drop("ROLLBACK").await.unwrap();
    assert_eq!((world.stored().await.len(), world.waiting().await), (0, 1));
    assert_eq!(world.engines.settlement.settle(batch(self::events()), &held).await.unwrap().inserted.stored, 10);
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test]
async fn two_databases_are_settled_one_after_the_other() {
    let (queue, store) = (TestDatabase::new().await, TestDatabase::new().await);
    let engines = open(&queue.url(), &store.url(), None).await;
    assert!(format!("{:?}", engines.settlement).starts_with("StoreThenDelete"));
    engines.queue.push(&[message_of(0..10)]).await.unwrap();
    let held = receipts(&engines.queue.reserve(&[queue_name()], 1).await.unwrap());
    assert_eq!(engines.settlement.settle(batch(events()), &held).await.unwrap().inserted.stored, 10);
    assert_eq!(engines.admin.sizes(&queue_name()).await.unwrap().total(), 0);
}

#[tokio::test]
async fn a_worker_stores_the_good_events_and_buries_the_bad_one() {
    let world = InOneDatabase::new().await;
    world.refuse("refused").await;
    let records: Vec<_> =
        (0..100).map(|seq| (seq, event(seq, if seq == 42 { "refused" } else { "alice" }).encode())).collect();
    world.engines.queue.push(&[message(&records), message_of(100..150)]).await.unwrap();
    assert_eq!(world.worker(0).run().await.unwrap(), StopReason::Empty);
    assert_eq!(world.stored().await, (0..150).filter(|seq| *seq != 42).collect::<Vec<_>>());
    let failed = world.engines.admin.failed(&FailedFilter::default()).await.unwrap().messages;
    assert!(failed.len() == 1 && failed[0].reason.contains("refused by the owner"), "{failed:?}");
}

/// Every connection of the database, over and over, while four workers work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_killed_again_and_again_lose_and_double_nothing() {
    let world = InOneDatabase::new().await;
    for n in 0..50 {
        world.engines.queue.push(&[message_of(n * 40..n * 40 + 40)]).await.unwrap();
    }
    let mut killer = world.database.connect().await;
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let worker = world.worker(number);
        workers.spawn(async move { worker.run().await });
    }
    let connections = "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()";
    let mut killed = 0;
    while killed < 20 && !workers.is_empty() {
        for id in killer.query::<u64, _>(connections).await.unwrap() {
            // It may have ended by itself.
            killed += u32::from(killer.query_drop(format!("KILL {id}")).await.is_ok());
        }
        // What ended early, for want of messages that the killed still hold, is not started again.
        while let Some(ended) = workers.try_join_next() {
            ended.unwrap().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(killed > 0);
    for ended in workers.join_all().await {
        ended.unwrap();
    }
    // A reservation whose answer was lost comes back when it lapses; here by hand. Such are looked for once a second.
    world.database.run("UPDATE jobs SET reserved_at = 1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.worker(9).run().await.unwrap();
    assert_eq!(world.stored().await, (0..2_000).collect::<Vec<_>>());
    assert_eq!(world.waiting().await, 0);
}
