//! What PostgreSQL adds: tables that Laravel made, killed connections, many workers, old snapshots, pgbouncer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditq_postgres::testing::TestDatabase;
use auditq_postgres::tokio_postgres::Client;
use auditq_postgres::{Database, Options};
use auditq_queue::conformance::Subject;
use auditq_queue::postgres::{PostgresQueue, PostgresQueueOptions};
use auditq_queue::{
    Clock, ErrorKind, FailedFilter, MessageId, NewMessage, Queue, QueueAdmin, QueueName, Remainder, Reserved, Selection,
};
use bytes::Bytes;

use crate::subjects::{RETRY_AFTER, clock, postgres_in};

/// As Laravel 11's migrations make them on PostgreSQL.
const TABLES: &str = "create table \"jobs\" (\"id\" bigserial not null primary key, \"queue\" varchar(255) not null, \
    \"payload\" text not null, \"attempts\" smallint not null, \"reserved_at\" integer null, \
    \"available_at\" integer not null, \"created_at\" integer not null); \
    create index \"jobs_queue_index\" on \"jobs\" (\"queue\"); \
    create table \"failed_jobs\" (\"id\" bigserial not null primary key, \"uuid\" varchar(255) not null, \
    \"connection\" text not null, \"queue\" text not null, \"payload\" text not null, \"exception\" text not null, \
    \"failed_at\" timestamp(0) without time zone not null default CURRENT_TIMESTAMP); \
    alter table \"failed_jobs\" add constraint \"failed_jobs_uuid_unique\" unique (\"uuid\")";

pub(crate) fn name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

pub(crate) fn message(id: u64) -> NewMessage {
    let payload = Bytes::from(format!("payload of {id}"));
    NewMessage { id: MessageId::new(id.to_string()), queue: name("audit"), payload, delay: Duration::ZERO }
}

/// An application's database, and our queue on it.
struct App {
    database: TestDatabase,
    laravel: Client,
    queue: Arc<PostgresQueue>,
}

impl App {
    async fn with(clock: Option<Arc<dyn Clock>>) -> Self {
        let database = TestDatabase::new().await;
        let laravel = database.connect().await;
        laravel.batch_execute(TABLES).await.unwrap();
        let options = PostgresQueueOptions {
            retry_after: RETRY_AFTER,
            clock,
            connection: "database".to_owned(),
            ..PostgresQueueOptions::default()
        };
        let queue = Arc::new(PostgresQueue::open(database.open(), options).unwrap());
        queue.migrate().await.unwrap();
        Self { database, laravel, queue }
    }

    /// As Laravel's `pushToDatabase`.
    async fn push(&self, payload: &str) {
        let sql = "insert into \"jobs\" (\"queue\", \"attempts\", \"reserved_at\", \"available_at\", \"created_at\", \
                   \"payload\") values ('audit', 0, null, floor(extract(epoch from now())), floor(extract(epoch from now())), $1)";
        self.laravel.execute(sql, &[&payload]).await.unwrap();
    }

    async fn reserve(&self) -> Vec<Reserved> {
        self.queue.reserve(&[name("audit")], 10).await.unwrap()
    }

    async fn sizes(&self) -> [u64; 4] {
        let sizes = self.queue.sizes(&name("audit")).await.unwrap();
        [sizes.ready, sizes.delayed, sizes.reserved, sizes.failed]
    }
}

/// Any command may migrate, and one that only looks must not wait for a worker that stands still in a transaction.
#[tokio::test]
async fn migrating_what_is_up_to_date_waits_for_nobody() {
    let App { database, laravel, queue } = App::with(None).await;
    let tables = "jobs, failed_jobs, auditq_messages, auditq_paused, auditq_control";
    laravel.batch_execute(&format!("BEGIN; LOCK TABLE {tables} IN ROW EXCLUSIVE MODE")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), queue.migrate()).await.unwrap().unwrap();
    laravel.batch_execute("ROLLBACK").await.unwrap();
    drop(database);
}

/// The suite's subject on Laravel's tables.
pub(crate) async fn on_tables_of_laravel() -> Subject {
    let clock = clock();
    let App { database, queue, .. } = App::with(Some(Arc::clone(&clock) as _)).await;
    Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(database) }
}

#[tokio::test]
async fn what_laravel_does_to_its_tables_is_seen_and_counted() {
    let app = App::with(None).await;
    for _ in 0..3 {
        app.push("{}").await;
    }
    assert_eq!(app.sizes().await, [3, 0, 0, 0]);
    let held = app.reserve().await;
    assert_eq!(held.len(), 3);
    // Laravel releases by deleting the row and inserting another.
    app.laravel.batch_execute("delete from jobs where id = 1").await.unwrap();
    app.push("{}").await;
    let receipts: Vec<_> = held.into_iter().map(|message| message.receipt).collect();
    assert_eq!(app.queue.delete(&receipts).await.unwrap(), receipts[..1]);
    assert_eq!(app.sizes().await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_buried_job_has_laravels_columns_filled_as_laravel_does() {
    let app = App::with(None).await;
    let payload = r#"{"uuid":"0b2c\u002d1","displayName":"App\\Jobs\\ProcessAuditLog","attempts":2}"#;
    app.push(payload).await;
    app.push("not JSON").await;
    let held: Vec<_> = app.reserve().await.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
    assert_eq!(app.queue.bury(&held, "App\\Exceptions\\Bad: no\nStack trace:").await.unwrap(), []);
    let sql = "select uuid, connection, queue, payload, exception from failed_jobs order by id limit 1";
    let row = app.laravel.query_one(sql, &[]).await.unwrap();
    let row: Vec<&str> = (0..5).map(|column| row.get(column)).collect();
    assert_eq!(row, ["0b2c-1", "database", "audit", payload, "App\\Exceptions\\Bad: no\nStack trace:"]);
    let failed = app.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert!(failed[0].id.as_str().len() == 36, "{failed:?}");
    app.laravel.batch_execute("update failed_jobs set connection = 'redis' where uuid <> '0b2c-1'").await.unwrap();
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 1);
    assert_eq!(&app.reserve().await[0].payload[..], payload.as_bytes());
}

/// Laravel's worker loops on the error for ever.
#[tokio::test]
async fn a_job_whose_attempts_fill_laravels_two_bytes_can_still_be_taken() {
    let app = App::with(None).await;
    app.push("{}").await;
    app.laravel.batch_execute("update jobs set attempts = 32767").await.unwrap();
    let reserved = app.reserve().await;
    assert_eq!(reserved[0].attempts, 32_767);
    assert_eq!(app.queue.delete(&[reserved[0].receipt.clone()]).await.unwrap(), []);
}

/// Laravel removes a job without a word to `auditq_messages`.
#[tokio::test]
async fn an_id_whose_job_laravel_has_done_is_free_again() {
    let app = App::with(None).await;
    app.queue.push(&[message(1), message(2)]).await.unwrap();
    app.laravel.batch_execute("delete from jobs").await.unwrap();
    app.queue.push(&[message(2), message(3)]).await.unwrap();
    assert_eq!(app.sizes().await, [2, 0, 0, 0]);
}

#[tokio::test]
async fn tables_of_another_shape_are_refused_with_a_way_out() {
    for (table, says) in [
        ("create table jobs (id int primary key, task text)", "no column `queue`"),
        // As Laravel 5.1 made them: `reserved` says what later `reserved_at` does.
        (
            "create table jobs (id bigserial primary key, queue varchar(255) not null, payload text not null, \
             attempts smallint not null, reserved smallint not null, reserved_at integer, available_at integer not null, \
             created_at integer not null)",
            "its column `reserved` demands a value",
        ),
        // As Laravel 7 made them.
        (
            "create table failed_jobs (id bigserial primary key, connection text not null, queue text not null, \
             payload text not null, exception text not null, failed_at timestamp(0) not null default now())",
            "no column `uuid`",
        ),
    ] {
        let database = TestDatabase::new().await;
        database.run(table).await;
        let queue = PostgresQueue::open(database.open(), PostgresQueueOptions::default()).unwrap();
        let error = queue.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("rename that table"), "{text}");
    }
}

#[tokio::test]
async fn without_tables_it_is_misconfigured_and_says_what_to_run() {
    let database = TestDatabase::new().await;
    let queue = PostgresQueue::open(database.open(), PostgresQueueOptions::default()).unwrap();
    let error = queue.reserve(&[name("audit")], 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("auditq migrate"), "{error}");
}

#[tokio::test]
async fn a_missing_right_is_misconfigured_and_names_what_the_user_needs() {
    let database = TestDatabase::new().await;
    postgres_in(&database, None).await.push(&[message(1)]).await.unwrap();
    let role = format!("auditq_test_reader_{:08x}", fastrand::u32(..));
    database.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")).await;
    database.run(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")).await;
    let reader = Database::open(&database.url_of(&role, "hunter2"), Options::default()).unwrap();
    let queue = PostgresQueue::open(reader, PostgresQueueOptions::default()).unwrap();
    let read = queue.sizes(&name("audit")).await;
    let errors = [queue.reserve(&[name("audit")], 1).await.unwrap_err(), queue.push(&[message(2)]).await.unwrap_err()];
    drop(queue);
    database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    assert_eq!(read.unwrap().ready, 1);
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("the user needs SELECT, INSERT, UPDATE and DELETE") && !text.contains("hunter2"),
            "{text}"
        );
    }
}

/// An operation whose connection is cut says so, or succeeds; the next one succeeds.
#[tokio::test]
async fn workers_whose_connections_are_killed_lose_nothing() {
    const MESSAGES: u64 = 2_000;
    let database = TestDatabase::new().await;
    let options = PostgresQueueOptions { retry_after: Duration::from_secs(1), ..PostgresQueueOptions::default() };
    let queue = PostgresQueue::open(database.open(), options).unwrap();
    queue.migrate().await.unwrap();
    let (done, refused) = (RefCell::new(BTreeSet::new()), Cell::new(0));
    let worker = async |number: u64| {
        let ids: Vec<_> = (0..MESSAGES).filter(|id| id % 3 == number).collect();
        for ids in ids.chunks(10) {
            let batch: Vec<_> = ids.iter().map(|id| message(*id)).collect();
            until_done(&refused, async || queue.push(&batch).await).await;
        }
        // What was pushed twice, because the answer to the first push was lost, is to be done twice.
        while queue.sizes(&name("audit")).await.map_or(1, |sizes| sizes.total()) > 0 {
            let reserved = until_done(&refused, async || queue.reserve(&[name("audit")], 20).await).await;
            let receipts: Vec<_> = reserved.iter().map(|message| message.receipt.clone()).collect();
            until_done(&refused, async || queue.delete(&receipts).await).await;
            done.borrow_mut().extend(reserved.into_iter().map(|message| message.payload));
            if receipts.is_empty() {
                queue.wait(&[name("audit")], Duration::from_millis(50)).await;
            }
        }
    };
    let killer = database.connect().await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5";
    let mut killed = 0;
    let kill = async {
        loop {
            killed += killer.query_one(cut, &[]).await.unwrap().get::<_, i64>(0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ((), (), ()) = async { tokio::join!(worker(0), worker(1), worker(2)) } => {}
        () = kill => {}
    }
    assert_eq!(done.borrow().len() as u64, MESSAGES);
    assert!(killed > 0 && refused.get() > 0, "{killed} connections were killed, {refused:?} operations refused");
}

/// Does something until it succeeds, and counts how often it was refused.
async fn until_done<T>(refused: &Cell<u32>, work: impl AsyncFn() -> auditq_queue::Result<T>) -> T {
    for _ in 0..1_000 {
        match work().await {
            Ok(value) => return value,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        refused.set(refused.get() + 1);
    }
    panic!("it never succeeds")
}

#[tokio::test]
async fn times_are_the_servers_own() {
    let database = TestDatabase::new().await;
    let options = PostgresQueueOptions { retry_after: Duration::from_secs(1), ..PostgresQueueOptions::default() };
    let queue = PostgresQueue::open(database.open(), options).unwrap();
    queue.migrate().await.unwrap();
    queue.push(&[message(1)]).await.unwrap();
    let first = queue.reserve(&[name("audit")], 1).await.unwrap().remove(0);
    let connection = database.connect().await;
    let sql = "SELECT extract(epoch FROM now())::bigint";
    let now: i64 = connection.query_one(sql, &[]).await.unwrap().get(0);
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

/// What another process pushed, heard of or looked for.
#[tokio::test]
async fn a_message_from_elsewhere_ends_the_wait_soon() {
    let database = TestDatabase::new().await;
    let queue = postgres_in(&database, None).await;
    assert!(queue.reserve(&[name("audit")], 1).await.unwrap().is_empty());
    let elsewhere = Database::open(&format!("{}?keepalives_idle=60", database.url()), Options::default()).unwrap();
    let other = PostgresQueue::open(elsewhere, PostgresQueueOptions::default()).unwrap();
    other.push(&[message(1)]).await.unwrap();
    let began = Instant::now();
    queue.wait(&[name("audit")], Duration::from_secs(3_600)).await;
    assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    assert_eq!(queue.reserve(&[name("audit")], 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_push_whose_connection_is_killed_is_unavailable_and_may_be_repeated() {
    let database = TestDatabase::new().await;
    let queue = Arc::new(postgres_in(&database, None).await);
    queue.push(&[message(1)]).await.unwrap();
    // Holds the id that the push wants, uncommitted.
    let other = database.connect().await;
    other.batch_execute("BEGIN; INSERT INTO auditq_messages VALUES (999, '5')").await.unwrap();
    let pushing = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.push(&[message(4), message(5)]).await }
    });
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while other.execute(cut, &[]).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    let error = pushing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    other.batch_execute("ROLLBACK").await.unwrap();
    queue.push(&[message(4), message(5)]).await.unwrap();
    queue.push(&[message(4), message(5)]).await.unwrap();
    assert_eq!(queue.sizes(&name("audit")).await.unwrap().ready, 3);
}

/// What a push that took long to commit, or a reservation that was rolled back, leaves before what was taken already.
#[tokio::test]
async fn what_comes_to_stand_before_the_head_of_the_queue_is_found_soon() {
    let database = TestDatabase::new().await;
    let queue = postgres_in(&database, None).await;
    queue.push(&[message(1)]).await.unwrap();
    assert_eq!(queue.reserve(&[name("audit")], 1).await.unwrap().len(), 1);
    let late =
        "INSERT INTO jobs (queue, payload, attempts, available_at, created_at) VALUES ('audit', 'late', 0, 1, 1)";
    database.run(late).await;
    let began = Instant::now();
    while queue.reserve(&[name("audit")], 1).await.unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(30), "it is not found");
        queue.wait(&[name("audit")], Duration::from_secs(1)).await;
    }
}

/// While another session holds an old snapshot, nothing that is gone can be vacuumed.
#[tokio::test]
async fn what_an_old_snapshot_keeps_is_passed_over_but_for_a_small_share_of_the_time() {
    let database = TestDatabase::new().await;
    let queue = postgres_in(&database, None).await;
    let old = database.connect().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM jobs").await.unwrap();
    let gone = "INSERT INTO jobs (queue, payload, attempts, available_at, created_at) \
                SELECT 'audit', '{}', 0, 1, 1 FROM generate_series(1, 200000); DELETE FROM jobs";
    database.run(gone).await;
    queue.push(&(0..40).map(message).collect::<Vec<_>>()).await.unwrap();
    let mut times = Vec::new();
    for id in 0..40 {
        let began = Instant::now();
        let reserved = queue.reserve(&[name("audit")], 1).await.unwrap();
        times.push(began.elapsed());
        assert_eq!(reserved[0].payload, message(id).payload);
    }
    let whole = times[0];
    times.sort_unstable();
    assert!(times[20] * 5 < whole, "the first took {whole:?}, half of the others longer than {:?}", times[20]);
    queue.push(&[message(40), message(41)]).await.unwrap();
    for _ in 0..3 {
        let sizes = queue.sizes(&name("audit")).await.unwrap();
        assert_eq!((sizes.ready, sizes.delayed, sizes.reserved), (2, 0, 40));
        assert!(sizes.oldest.is_some_and(|age| age < Duration::from_secs(60)), "{sizes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushers_of_the_same_ids_at_the_same_time_add_each_once() {
    let database = TestDatabase::new().await;
    let queue = Arc::new(postgres_in(&database, None).await);
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

/// An index counts one by one; what costs more with each message must not be promised to be exact.
#[tokio::test]
async fn sizes_beyond_twenty_thousand_say_that_they_are_estimates() {
    let database = TestDatabase::new().await;
    let queue = postgres_in(&database, None).await;
    let add = "INSERT INTO jobs (queue, payload, attempts, available_at, created_at) \
               SELECT 'audit', '{}', 0, 1, 1 FROM generate_series(1, 40000)";
    database.run(add).await;
    queue.push(&[NewMessage { delay: Duration::from_secs(3_600), ..message(1) }]).await.unwrap();
    let sizes = queue.sizes(&name("audit")).await.unwrap();
    assert!(sizes.estimated && (35_000..45_000).contains(&sizes.ready), "{sizes:?}");
    assert_eq!((sizes.delayed, sizes.reserved), (1, 0));
    database.run("DELETE FROM jobs WHERE id > 2 AND available_at = 1").await;
    let sizes = queue.sizes(&name("audit")).await.unwrap();
    assert!(!sizes.estimated && sizes.ready <= 2, "{sizes:?}");
}

/// A search that sorted what waits would read all of it for each message.
#[tokio::test]
async fn a_reservation_reads_no_more_of_a_long_queue_than_it_takes() {
    const RESERVATIONS: i64 = 20;
    let database = TestDatabase::new().await;
    let queue = postgres_in(&database, None).await;
    let add = "INSERT INTO jobs (queue, payload, attempts, available_at, created_at) \
               SELECT 'audit', '{}', 0, n / 100, 1 FROM generate_series(1, 40000) AS n; ANALYZE jobs";
    database.run(add).await;
    for _ in 0..RESERVATIONS {
        assert_eq!(queue.reserve(&[name("audit")], 5).await.unwrap().len(), 5);
    }
    // What a connection has counted is written down a second later.
    let client = database.connect().await;
    let counted = "SELECT idx_scan, idx_tup_read, (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'jobs') \
                   FROM pg_stat_user_indexes WHERE indexrelname = 'auditq_jobs_ready'";
    let began = Instant::now();
    loop {
        let row = client.query_one(counted, &[]).await.unwrap();
        let [scans, read, all]: [i64; 3] = std::array::from_fn(|column| row.get(column));
        assert!(read < 2_000 && all < 200_000, "{read} entries and {all} rows were read");
        if scans >= RESERVATIONS * 3 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the index was used {scans} times");
        // Whoever uses the connection again has it written down.
        queue.control().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_workers_do_ten_thousand_messages_once_each() {
    let database = TestDatabase::new().await;
    work_off(Arc::new(postgres_in(&database, None).await), 10_000).await;
}

/// Pushing, taking, deleting, giving back and extending at once: each message is done once, and nobody hears of a
/// deadlock.
pub(crate) async fn work_off(queue: Arc<PostgresQueue>, messages: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for pusher in 0..2 {
        let queue = Arc::clone(&queue);
        tasks.spawn(async move {
            let ids: Vec<_> = (0..messages).filter(|id| id % 2 == pusher).collect();
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
            while *done.borrow() < messages {
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
    let distinct = payloads.iter().collect::<BTreeSet<_>>().len();
    assert_eq!((payloads.len() as u64, distinct as u64), (messages, messages));
    assert_eq!(queue.sizes(&name("audit")).await.unwrap().total(), 0);
}
