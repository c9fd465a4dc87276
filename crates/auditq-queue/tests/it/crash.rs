//! A process that is killed between two steps leaves each message in exactly one place.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use auditq_queue::{ManualClock, MessageId, NewMessage, Queue, QueueAdmin, QueueName, Remainder, Selection};
use bytes::Bytes;
use rusqlite::Connection;

use crate::subjects::{clock, sqlite_at};

const FILE: &str = "AUDITQ_TEST_FILE";
const TIME: &str = "AUDITQ_TEST_TIME";
const MESSAGES: usize = 50;
const ROUNDS: u64 = 20;

fn queue_name() -> QueueName {
    QueueName::new("audit-logs").unwrap()
}

#[tokio::test]
async fn a_kill_around_bury_and_retry_leaves_each_message_in_exactly_one_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("auditq.db");
    {
        let queue = sqlite_at(&path, clock()).await;
        let message = |number| NewMessage {
            id: MessageId::new(format!("message {number}")),
            queue: queue_name(),
            payload: Bytes::from(format!("payload of {number} {}", "x".repeat(20_000))),
            delay: Duration::ZERO,
        };
        queue.push(&(0..MESSAGES).map(message).collect::<Vec<_>>()).await.unwrap();
    }
    let mut busy_rounds = 0;
    for round in 0..ROUNDS {
        let before = steps(&path);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "crash::child_that_buries_and_retries"])
            .env(FILE, &path)
            // So much later that what the child before held when it was killed has lapsed.
            .env(TIME, (1_700_000_000 + round * 1_000).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Each round is cut off at another moment after the child began to work.
        while steps(&path) == before {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(round * 1_700)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        busy_rounds += u64::from(steps(&path) > before);
        assert_eq!(places(&path), [1; MESSAGES], "round {round}");
    }
    assert_eq!(busy_rounds, ROUNDS);
    let queue = sqlite_at(&path, clock()).await;
    let sizes = queue.sizes(&queue_name()).await.unwrap();
    assert_eq!(sizes.total() + sizes.failed, MESSAGES as u64, "the counts are off: {sizes:?}");
}

/// How often the child asked for a restart, which it does at each turn of its loop.
fn steps(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection.query_row("SELECT coalesce(max(value), 0) FROM auditq_control", [], |row| row.get(0)).unwrap()
}

/// In how many places each message is, by its own number.
fn places(path: &Path) -> Vec<usize> {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut places = vec![0; MESSAGES];
    let sql = "SELECT payload FROM jobs UNION ALL SELECT payload FROM failed_jobs";
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let payload: String = row.get(0).unwrap();
        let number: usize = payload.split(' ').nth(2).unwrap().parse().unwrap();
        places[number] += 1;
    }
    places
}

#[tokio::test]
#[ignore = "is run as a child process by the test above"]
async fn child_that_buries_and_retries() {
    let path = std::env::var_os(FILE).expect("the parent names the file");
    let time = std::env::var(TIME).expect("the parent tells the time").parse().unwrap();
    let clock = Arc::new(ManualClock::new(Duration::from_secs(time)));
    let queue = sqlite_at(Path::new(&path), clock).await;
    loop {
        let reserved = queue.reserve(&[queue_name()], 7).await.unwrap();
        assert!(!reserved.is_empty(), "nothing is left to bury");
        let held: Vec<_> = reserved.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
        let (give_back, give_up) = held.split_at(held.len() / 2);
        queue.bury(give_up, "for the test").await.unwrap();
        queue.release(give_back, Duration::ZERO).await.unwrap();
        queue.restart().await.unwrap();
        queue.retry(&Selection::all()).await.unwrap();
    }
}
