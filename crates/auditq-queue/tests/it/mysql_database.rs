//! What MySQL adds: tables that Laravel made, killed connections, many workers, and the server's clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditq_mysql::mysql_async::Conn;
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::testing::TestDatabase;
use auditq_mysql::{Database, Options};
use auditq_queue::conformance::Subject;
use auditq_queue::mysql::{MysqlQueue, MysqlQueueOptions};
use auditq_queue::{
    Clock, ErrorKind, FailedFilter, MessageId, NewMessage, Queue, QueueAdmin, QueueName, Remainder, Reserved, Selection,
};
use bytes::Bytes;

use crate::subjects::{RETRY_AFTER, clock, mysql_in};

/// As Laravel 11's migrations make them on MySQL.
const TABLES: [&str; 2] = [
    "create table `jobs` (`id` bigint unsigned not null auto_increment primary key, `queue` varchar(255) not null, \
     `payload` longtext not null, `attempts` tinyint unsigned not null, `reserved_at` int unsigned null, \
     `available_at` int unsigned not null, `created_at` int unsigned not null, index `jobs_queue_index`(`queue`)) \
     default character set utf8mb4 collate 'utf8mb4_unicode_ci'",
    "create table `failed_jobs` (`id` bigint unsigned not null auto_increment primary key, `uuid` varchar(255) not null, \
     `connection` text not null, `queue` text not null, `payload` longtext not null, `exception` longtext not null, \
     `failed_at` timestamp not null default CURRENT_TIMESTAMP, unique `failed_jobs_uuid_unique`(`uuid`)) \
     default character set utf8mb4 collate 'utf8mb4_unicode_ci'",
];

fn name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

fn message(id: u64) -> NewMessage {
    let payload = Bytes::from(format!("payload of {id}"));
    NewMessage { id: MessageId::new(id.to_string()), queue: name("audit"), payload, delay: Duration::ZERO }
}

/// An application's database, and our queue on it.
struct App {
    database: TestDatabase,
    laravel: Conn,
    queue: Arc<MysqlQueue>,
}

impl App {
    async fn with(clock: Option<Arc<dyn Clock>>) -> Self {
        let database = TestDatabase::new().await;
        let mut laravel = database.connect().await;
        for table in TABLES {
            laravel.query_drop(table).await.unwrap();
        }
        let options = MysqlQueueOptions {
            retry_after: RETRY_AFTER,
            clock,
            connection: "database".to_owned(),
            ..MysqlQueueOptions::default()
        };
        let queue = Arc::new(MysqlQueue::open(database.open(), options).unwrap());
        queue.migrate().await.unwrap();
        Self { database, laravel, queue }
    }

    /// As Laravel's `pushToDatabase`.
    async fn push(&mut self, payload: &[u8]) {
        let sql = "insert into `jobs` (`queue`, `attempts`, `reserved_at`, `available_at`, `created_at`, `payload`) \
                   values ('audit', 0, null, unix_timestamp(), unix_timestamp(), ?)";
        self.laravel.exec_drop(sql, (payload,)).await.unwrap();
    }

    async fn reserve(&self) -> Vec<Reserved> {
        self.queue.reserve(&[name("audit")], 10).await.unwrap()
    }

    async fn sizes(&self) -> [u64; 4] {
        let sizes = self.queue.sizes(&name("audit")).await.unwrap();
        [sizes.ready, sizes.delayed, sizes.reserved, sizes.failed]
    }
}

/// The suite's subject on Laravel's tables.
pub(crate) async fn on_tables_of_laravel() -> Subject {
    let clock = clock();
    let App { database, laravel, queue } = App::with(Some(Arc::clone(&clock) as _)).await;
    laravel.disconnect().await.unwrap();
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(database) }
}

#[tokio::test]
async fn what_laravel_does_to_its_tables_is_seen_and_counted() {
    let mut app = App::with(None).await;
    for _ in 0..3 {
        app.push(b"{}").await;
    }
    assert_eq!(app.sizes().await, [3, 0, 0, 0]);
    let held = app.reserve().await;
    assert_eq!(held.len(), 3);
    // Laravel releases by deleting the row and inserting another.
    app.laravel.query_drop("delete from jobs where id = 1").await.unwrap();
    app.push(b"{}").await;
    let receipts: Vec<_> = held.into_iter().map(|message| message.receipt).collect();
    assert_eq!(app.queue.delete(&receipts).await.unwrap(), receipts[..1]);
    assert_eq!(app.sizes().await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_buried_job_has_laravels_columns_filled_as_laravel_does() {
    let mut app = App::with(None).await;
    let payload = br#"{"uuid":"0b2c\u002d1","displayName":"App\\Jobs\\ProcessAuditLog","attempts":2}"#;
    app.push(payload).await;
    app.push(b"not JSON").await;
    let held: Vec<_> = app.reserve().await.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
    assert_eq!(app.queue.bury(&held, "App\\Exceptions\\Bad: no\nStack trace:").await.unwrap(), []);
    let sql = "select uuid, connection, queue, payload, exception from failed_jobs order by id limit 1";
    let row: (String, String, String, Vec<u8>, String) = app.laravel.query_first(sql).await.unwrap().unwrap();
    let exception = "App\\Exceptions\\Bad: no\nStack trace:".to_owned();
    assert_eq!(row, ("0b2c-1".to_owned(), "database".to_owned(), "audit".to_owned(), payload.to_vec(), exception));
    let failed = app.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert!(failed[0].id.as_str().len() == 36, "{failed:?}");
    app.laravel.query_drop("update failed_jobs set connection = 'redis' where uuid <> '0b2c-1'").await.unwrap();
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 1);
    assert_eq!(&app.reserve().await[0].payload[..], payload);
}

/// Laravel's worker loops on the error for ever.
#[tokio::test]
async fn a_job_whose_attempts_fill_laravels_byte_can_still_be_taken() {
    let mut app = App::with(None).await;
    app.push(b"{}").await;
    app.laravel.query_drop("update jobs set attempts = 255").await.unwrap();
    let reserved = app.reserve().await;
    assert_eq!(reserved[0].attempts, 255);
    assert_eq!(app.queue.delete(&[reserved[0].receipt.clone()]).await.unwrap(), []);
}

/// Laravel removes a job without a word to `auditq_messages`.
#[tokio::test]
async fn an_id_whose_job_laravel_has_done_is_free_again() {
    let mut app = App::with(None).await;
    app.queue.push(&[message(1), message(2)]).await.unwrap();
    app.laravel.query_drop("delete from jobs").await.unwrap();
    app.queue.push(&[message(2), message(3)]).await.unwrap();
    assert_eq!(app.sizes().await, [2, 0, 0, 0]);
}

#[tokio::test]
async fn tables_of_another_shape_are_refused_with_a_way_out() {
    for (table, says) in [
        ("create table jobs (id int primary key, task text)", "no column `queue`"),
        ("create table failed_jobs (id int primary key)", "no column `uuid`"),
    ] {
        let database = TestDatabase::new().await;
        database.run(table).await;
        let queue = MysqlQueue::open(database.open(), MysqlQueueOptions::default()).unwrap();
        let error = queue.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("rename that table"), "{text}");
    }
}

#[tokio::test]
async fn without_tables_it_is_misconfigured_and_says_what_to_run() {
    let database = TestDatabase::new().await;
    let queue = MysqlQueue::open(database.open(), MysqlQueueOptions::default()).unwrap();
    let error = queue.reserve(&[name("audit")], 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("auditq migrate"), "{error}");
}

#[tokio::test]
async fn a_payload_larger_than_a_packet_is_rejected_by_its_name() {
    let database = TestDatabase::new().await;
    let queue = mysql_in(&database, None).await;
    let packet = queue.database().packet_bytes_max().await.unwrap();
    let large = NewMessage { payload: Bytes::from(vec![b'x'; packet]), ..message(7) };
    let error = queue.push(&[message(1), large]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.to_string().contains("message 7"), "{error}");
    // Several that fit one by one are more than a packet together.
    let half = |id| NewMessage { payload: Bytes::from(vec![b'x'; packet / 2]), ..message(id) };
    queue.push(&[half(1), half(2), half(3)]).await.unwrap();
    assert_eq!(queue.sizes(&name("audit")).await.unwrap().ready, 3);
}

#[tokio::test]
async fn times_are_the_servers_own() {
    let database = TestDatabase::new().await;
    let options = MysqlQueueOptions { retry_after: Duration::from_secs(1), ..MysqlQueueOptions::default() };
    let queue = MysqlQueue::open(database.open(), options).unwrap();
    queue.migrate().await.unwrap();
    queue.push(&[message(1)]).await.unwrap();
    let first = queue.reserve(&[name("audit")], 1).await.unwrap().remove(0);
    let mut connection = database.connect().await;
    let now: i64 = connection.query_first("SELECT unix_timestamp()").await.unwrap().unwrap();
    assert!((now - first.created_at).abs() < 60, "{} is not {now}", first.created_at);
    // It lapses by itself, and the wait ends when it does.
    let second = loop {
        if let Some(again) = queue.reserve(&[name("audit")], 1).await.unwrap().pop() {
            break again;
        }
        queue.wait(&[name("audit")], Duration::from_secs(60)).await;
    };
    let stale = queue.delete(std::slice::from_ref(&first.receipt)).await.unwrap();
    assert_eq!((second.attempts, stale), (2, vec![first.receipt]));
}

/// What another process pushed, which nobody tells us of.
#[tokio::test]
async fn a_message_from_elsewhere_ends_the_wait_soon() {
    let database = TestDatabase::new().await;
    let queue = mysql_in(&database, None).await;
    assert!(queue.reserve(&[name("audit")], 1).await.unwrap().is_empty());
    let elsewhere = Database::open(&format!("{}?tcp_keepalive=60000", database.url()), Options::default()).unwrap();
    let other = MysqlQueue::open(elsewhere, MysqlQueueOptions::default()).unwrap();
    other.push(&[message(1)]).await.unwrap();
    let began = std::time::Instant::now();
    queue.wait(&[name("audit")], Duration::from_secs(3_600)).await;
    assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    assert_eq!(queue.reserve(&[name("audit")], 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_push_whose_connection_is_killed_is_unavailable_and_may_be_repeated() {
    let database = TestDatabase::new().await;
    let queue = Arc::new(mysql_in(&database, None).await);
    queue.push(&[message(1)]).await.unwrap();
    // Holds the id that the push wants, uncommitted.
    let mut other = database.connect().await;
    other.query_drop("START TRANSACTION").await.unwrap();
    other.query_drop("INSERT INTO auditq_messages VALUES (999, '5')").await.unwrap();
    let pushing = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.push(&[message(4), message(5)]).await }
    });
    let waiting = "SELECT id FROM information_schema.processlist \
                   WHERE db = database() AND info LIKE 'INSERT INTO auditq_messages%' LIMIT 1";
    let id = loop {
        if let Some(id) = other.query_first::<u64, _>(waiting).await.unwrap() {
            break id;
        }
        tokio::task::yield_now().await;
    };
    other.query_drop(format!("KILL {id}")).await.unwrap();
    let error = pushing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    other.query_drop("ROLLBACK").await.unwrap();
    queue.push(&[message(4), message(5)]).await.unwrap();
    queue.push(&[message(4), message(5)]).await.unwrap();
    assert_eq!(queue.sizes(&name("audit")).await.unwrap().ready, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushers_of_the_same_ids_at_the_same_time_add_each_once() {
    let database = TestDatabase::new().await;
    let queue = Arc::new(mysql_in(&database, None).await);
    for round in 0..20 {
        let mut pushers = tokio::task::JoinSet::new();
        for shift in 0..4 {
            let queue = Arc::clone(&queue);
            let ids = (0..8).map(move |n| message(round * 8 + (n + shift) % 8));
            pushers.spawn(async move { queue.push(&ids.collect::<Vec<_>>()).await });
        }
        for pushed in pushers.join_all().await {
            pushed.unwrap();
        }
    }
    assert_eq!(queue.sizes(&name("audit")).await.unwrap().ready, 160);
}

/// While another session holds an old snapshot, nothing that is gone can be purged.
#[tokio::test]
async fn what_an_old_snapshot_keeps_is_passed_over_but_for_a_small_share_of_the_time() {
    let mut app = App::with(None).await;
    let mut old = app.database.connect().await;
    old.query_drop("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    old.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").await.unwrap();
    let digit = "(SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 \
                 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let gone = format!(
        "INSERT INTO jobs (queue, payload, attempts, available_at, created_at) SELECT 'audit', '{{}}', 0, 1, 1 \
         FROM {digit} AS a, {digit} AS b, {digit} AS c, {digit} AS d, {digit} AS e"
    );
    app.laravel.query_drop(gone).await.unwrap();
    app.laravel.query_drop("DELETE FROM jobs").await.unwrap();
    app.queue.push(&(0..40).map(message).collect::<Vec<_>>()).await.unwrap();
    let mut times = Vec::new();
    for id in 0..40 {
        let began = Instant::now();
        let reserved = app.queue.reserve(&[name("audit")], 1).await.unwrap();
        times.push(began.elapsed());
        assert_eq!(reserved[0].payload, message(id).payload);
    }
    let whole = times[0];
    times.sort_unstable();
    assert!(times[20] * 5 < whole, "the first took {whole:?}, half of the others longer than {:?}", times[20]);
    old.query_drop("ROLLBACK").await.unwrap();
}

/// A search begins where the one before ended; what has come to stand before that place is found all the same.
#[tokio::test]
async fn a_job_older_than_those_that_were_taken_is_found_soon() {
    let mut app = App::with(None).await;
    for n in 0..30_u32 {
        app.push(n.to_string().as_bytes()).await;
    }
    app.laravel.query_drop("UPDATE jobs SET available_at = available_at - 60").await.unwrap();
    assert_eq!(app.reserve().await.len(), 10);
    app.push(b"old").await;
    app.laravel.query_drop("UPDATE jobs SET available_at = available_at - 90 WHERE payload = 'old'").await.unwrap();
    let began = Instant::now();
    let mut payloads: Vec<Bytes> = Vec::new();
    while !payloads.contains(&Bytes::from_static(b"old")) {
        assert!(began.elapsed() < Duration::from_secs(10), "{payloads:?}");
        payloads.extend(app.reserve().await.into_iter().map(|message| message.payload));
    }
    payloads.extend(app.reserve().await.into_iter().chain(app.reserve().await).map(|message| message.payload));
    let last_of_the_others = payloads.contains(&Bytes::from_static(b"29"));
    assert!(last_of_the_others && payloads.len() == 21, "{payloads:?}");
}

/// An index counts one by one; what costs more with each message must not be promised to be exact.
#[tokio::test]
async fn sizes_beyond_twenty_thousand_say_that_they_are_estimates() {
    let database = TestDatabase::new().await;
    let queue = mysql_in(&database, None).await;
    let mut connection = database.connect().await;
    let add = "INSERT INTO jobs (queue, payload, attempts, available_at, created_at)";
    connection.query_drop(format!("{add} VALUES ('audit', '{{}}', 0, 1, 1)")).await.unwrap();
    for _ in 0..15 {
        connection.query_drop(format!("{add} SELECT queue, payload, 0, 1, 1 FROM jobs")).await.unwrap();
    }
    connection.query_drop("ANALYZE TABLE jobs").await.unwrap();
    queue.push(&[NewMessage { delay: Duration::from_secs(3_600), ..message(1) }]).await.unwrap();
    let sizes = queue.sizes(&name("audit")).await.unwrap();
    // There are 32,768 of them; an estimate that is half of it would be the server's, which is capped there.
    assert!(sizes.estimated && (26_000..40_000).contains(&sizes.ready), "{sizes:?}");
    assert_eq!((sizes.delayed, sizes.reserved), (1, 0));
    connection.query_drop("DELETE FROM jobs WHERE id > 2 AND available_at = 1").await.unwrap();
    let sizes = queue.sizes(&name("audit")).await.unwrap();
    assert!(!sizes.estimated && sizes.ready <= 2, "{sizes:?}");
}

/// Pushing, taking, deleting, giving back and extending at once: each message is done once, and nobody hears of a
/// deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_workers_do_ten_thousand_messages_once_each() {
    const MESSAGES: u64 = 10_000;
    let database = TestDatabase::new().await;
    let queue = Arc::new(mysql_in(&database, None).await);
    let mut tasks = tokio::task::JoinSet::new();
    for pusher in 0..2 {
        let queue = Arc::clone(&queue);
        tasks.spawn(async move {
            let ids: Vec<_> = (0..MESSAGES).filter(|id| id % 2 == pusher).collect();
            for ids in ids.chunks(100) {
                queue.push(&ids.iter().map(|id| message(*id)).collect::<Vec<_>>()).await.unwrap();
            }
            Vec::new()
        });
    }
    let (done, _) = tokio::sync::watch::channel(0_u64);
    for _ in 0..10 {
        let (queue, done) = (Arc::clone(&queue), done.clone());
        tasks.spawn(async move {
            let (mut mine, mut rounds) = (Vec::new(), 0);
            while *done.borrow() < MESSAGES {
                let reserved = queue.reserve(&[name("audit")], 50).await.unwrap();
                if reserved.is_empty() {
                    queue.wait(&[name("audit")], Duration::from_millis(20)).await;
                    continue;
                }
                let receipts: Vec<_> = reserved.iter().map(|message| message.receipt.clone()).collect();
                assert_eq!(queue.extend(&receipts).await.unwrap(), []);
                rounds += 1;
                if rounds % 5 == 0 {
                    let held: Vec<_> = receipts.into_iter().map(Remainder::whole).collect();
                    assert_eq!(queue.release(&held, Duration::ZERO).await.unwrap(), []);
                    continue;
                }
                assert_eq!(queue.delete(&receipts).await.unwrap(), []);
                done.send_modify(|done| *done += receipts.len() as u64);
                mine.extend(reserved.into_iter().map(|message| message.payload));
            }
            mine
        });
    }
    let payloads: Vec<Bytes> = tasks.join_all().await.concat();
    assert_eq!((payloads.len(), payloads.iter().collect::<BTreeSet<_>>().len()), (10_000, 10_000));
    assert_eq!(queue.sizes(&name("audit")).await.unwrap().total(), 0);
}
