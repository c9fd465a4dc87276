//! Measures how many messages a second the SQLite driver takes in and gives out.
//!
//! `cargo run --release -p auditq-queue --features sqlite --example sqlite_rate [DIRECTORY]`

#![expect(clippy::print_stdout, reason = "its purpose is to print")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_queue::{MessageId, NewMessage, Queue, QueueAdmin, QueueName};
use auditq_sqlite::{Database, Options};
use bytes::Bytes;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    println!("{:>8} {:>6} {:>12} {:>14} {:>8}", "bytes", "batch", "pushed/s", "taken, done/s", "commits");
    for (bytes, messages) in [(200_000, 640), (500, 6_400)] {
        for batch in [1, 8, 64] {
            measure(&directory, bytes, batch, messages * batch.min(8) / 8).await?;
        }
    }
    Ok(())
}

async fn measure(
    directory: &std::path::Path,
    bytes: usize,
    batch: usize,
    messages: usize,
) -> Result<(), Box<dyn Error>> {
    let path = directory.join(format!("sqlite_rate-{}-{bytes}-{batch}.db", std::process::id()));
    let database = Database::open(&path, Options::default())?;
    let queue = SqliteQueue::open(database, SqliteQueueOptions::default())?;
    queue.migrate().await?;
    let name = QueueName::new("audit-logs")?;
    let payload = Bytes::from("x".repeat(bytes));
    let messages: Vec<_> = (0..messages)
        .map(|number| NewMessage {
            id: MessageId::new(format!("018f-{number}")),
            queue: name.clone(),
            payload: payload.clone(),
            delay: Duration::ZERO,
        })
        .collect();

    let began = Instant::now();
    for batch in messages.chunks(batch) {
        queue.push(batch).await?;
    }
    let pushed = began.elapsed();

    let began = Instant::now();
    let mut done = 0;
    while done < messages.len() {
        let reserved = queue.reserve(std::slice::from_ref(&name), batch).await?;
        let receipts: Vec<_> = reserved.into_iter().map(|message| message.receipt).collect();
        queue.delete(&receipts).await?;
        done += receipts.len();
    }
    let taken = began.elapsed();

    let rate = |time: Duration| messages.len() as f64 / time.as_secs_f64();
    println!("{bytes:>8} {batch:>6} {:>12.0} {:>14.0} {:>8}", rate(pushed), rate(taken), queue.database().commits());
    drop(queue);
    for suffix in ["", "-wal", "-shm"] {
        // The log and its index are gone when the database was closed before this.
        let _gone = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    Ok(())
}
