//! Measures how many messages a second go through the PostgreSQL driver, and how many pages the server touches for
//! each, second by second, while another session holds an old snapshot.
//!
//! `cargo run --release -p auditq-queue --features postgres --example postgres_rate URL [SECONDS [nosnapshot]]`
//!
//! The database of the URL must be empty; its tables stay behind. With 0 seconds it only counts what is there.

#![expect(clippy::print_stdout, reason = "its purpose is to print")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use auditq_postgres::{Database, Options, attempt};
use auditq_queue::postgres::{PostgresQueue, PostgresQueueOptions};
use auditq_queue::{MessageId, NewMessage, Queue, QueueAdmin, QueueName};
use bytes::Bytes;

type Failure = Box<dyn Error + Send + Sync>;

const BATCH: usize = 100;
/// Pushers wait while so many messages wait.
const BACKLOG: u64 = 10_000;

#[derive(Debug, Default)]
struct Counts {
    pushed: AtomicU64,
    done: AtomicU64,
    /// The slowest reservation of a second.
    slowest_us: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("name the URL of an empty database")?;
    let seconds: u64 = arguments.next().map_or(Ok(60), |seconds| seconds.parse())?;
    let with_snapshot = arguments.next().as_deref() != Some("nosnapshot");
    let queue =
        Arc::new(PostgresQueue::open(Database::open(&url, Options::default())?, PostgresQueueOptions::default())?);
    queue.migrate().await?;

    let other = Database::open(&format!("{url}?application_name=old-snapshot"), Options::default())?;
    let mut old = other.snapshot("hold a snapshot");
    if with_snapshot {
        old.begin().await?.batch_execute("SELECT count(*) FROM jobs").await?;
    }
    let counts = Arc::new(Counts::default());
    for worker in 0..if seconds == 0 { 0 } else { 2 } {
        tokio::spawn(report(push(Arc::clone(&queue), Arc::clone(&counts), worker)));
        tokio::spawn(report(work(Arc::clone(&queue), Arc::clone(&counts))));
    }
    let (mut before, mut pages_before) = (0, pages(&other).await?);
    for second in 1..=seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let done = counts.done.load(Ordering::Relaxed);
        let slowest = Duration::from_micros(counts.slowest_us.swap(0, Ordering::Relaxed));
        let (messages, touched) = (done - before, pages(&other).await?);
        let each = (touched - pages_before).checked_div(i64::try_from(messages)?).unwrap_or(0);
        println!(
            "second {second:>4}: {messages:>6} messages done, {each:>4} pages each, slowest reservation {slowest:?}"
        );
        (before, pages_before) = (done, touched);
    }
    for _ in 0..3 {
        let began = Instant::now();
        let sizes = queue.sizes(&name()?).await?;
        println!("{sizes:?} in {:?}", began.elapsed());
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    Ok(())
}

/// How many pages the server has looked at, in memory or not: a figure that the load of the machine does not change.
async fn pages(database: &Database) -> Result<i64, Failure> {
    let sql = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()";
    Ok(attempt!(database.single("count pages"), connection => {
        connection.query_typed_one(sql, &[]).await.map(|row| row.get(0)).map_err(Into::into)
    })?)
}

fn name() -> Result<QueueName, Failure> {
    Ok(QueueName::new("audit-logs")?)
}

async fn report(work: impl Future<Output = Result<(), Failure>>) {
    if let Err(error) = work.await {
        println!("{error}");
    }
}

async fn push(queue: Arc<PostgresQueue>, counts: Arc<Counts>, pusher: u64) -> Result<(), Failure> {
    let payload = Bytes::from("x".repeat(500));
    for round in 0_u64.. {
        let message = |n: usize| -> Result<_, Failure> {
            let id = MessageId::new(format!("{pusher}-{round}-{n}"));
            Ok(NewMessage { id, queue: name()?, payload: payload.clone(), delay: Duration::ZERO })
        };
        queue.push(&(0..BATCH).map(message).collect::<Result<Vec<_>, _>>()?).await?;
        let pushed = counts.pushed.fetch_add(BATCH as u64, Ordering::Relaxed);
        while pushed > counts.done.load(Ordering::Relaxed) + BACKLOG {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}

async fn work(queue: Arc<PostgresQueue>, counts: Arc<Counts>) -> Result<(), Failure> {
    let queues = [name()?];
    loop {
        let began = Instant::now();
        let taken = queue.reserve(&queues, BATCH).await?;
        let took = u64::try_from(began.elapsed().as_micros())?;
        counts.slowest_us.fetch_max(took, Ordering::Relaxed);
        let receipts: Vec<_> = taken.into_iter().map(|message| message.receipt).collect();
        queue.delete(&receipts).await?;
        counts.done.fetch_add(receipts.len() as u64, Ordering::Relaxed);
    }
}
