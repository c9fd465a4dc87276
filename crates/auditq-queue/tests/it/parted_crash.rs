//! A process that is killed between the two engines of a parted queue loses no message and doubles none.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use auditq_queue::{FailedJobs as _, ManualClock, PartedQueue, Queue, QueueAdmin, QueueName, Remainder, Selection};
use redis::Commands as _;
use rusqlite::Connection;

use crate::parted::{Crashing, table_at};
use crate::redis_support::TestKeys;
use crate::subjects::redis_in;

const FILE: &str = "AUDITQ_TEST_FILE";
const TIME: &str = "AUDITQ_TEST_TIME";
const KEYS: &str = "AUDITQ_TEST_KEYS";
const MESSAGES: usize = 40;
const ROUNDS: u64 = 24;
const STARTED_AT: u64 = 1_700_000_000;

/// How long the child stays between the two steps: long enough that most kills fall there.
const BETWEEN: Duration = Duration::from_millis(4);

fn name() -> QueueName {
    QueueName::new("audit").unwrap()
}

/// The queue in Redis over the table in a file, at a time, with a pause between the steps.
async fn queue_at(keys: &str, path: &Path, time: u64, pause: Duration) -> PartedQueue {
    let clock = Arc::new(ManualClock::new(Duration::from_secs(time)));
    let table = Crashing::of(table_at(path, Arc::clone(&clock)), pause);
    table.migrate().await.unwrap();
    let queue = PartedQueue::new(redis_in(keys, Some(clock)).await, Arc::new(table));
    queue.migrate().await.unwrap();
    queue
}

/// Where each message is, by its uuid: how often in the queue, and how often in the table.
fn places(keys: &TestKeys, path: &Path) -> BTreeMap<String, (usize, usize)> {
    // At one moment: what a killed child has asked for may still be done.
    let [list, reserved, delayed] = ["", ":reserved", ":delayed"].map(|end| keys.key(&format!("queues:audit{end}")));
    let mut all = redis::pipe();
    all.atomic().lrange(list, 0, -1).zrange(reserved, 0, -1).zrange(delayed, 0, -1);
    let waiting: [Vec<String>; 3] = all.query(&mut keys.connect()).unwrap();
    let table = Connection::open(path).unwrap();
    table.busy_timeout(Duration::from_secs(10)).unwrap();
    let mut statement = table.prepare("SELECT payload FROM failed_jobs").unwrap();
    let failed: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let uuid = |payload: &String| serde_json::from_str::<serde_json::Value>(payload).unwrap()["uuid"].to_string();
    let mut places: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    waiting.iter().flatten().for_each(|payload| places.entry(uuid(payload)).or_default().0 += 1);
    failed.iter().for_each(|payload| places.entry(uuid(payload)).or_default().1 += 1);
    places
}

fn start(keys: &TestKeys, path: &Path, time: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "parted_crash::child_that_buries_and_retries"])
        .env(FILE, path)
        .env(KEYS, keys.url())
        .env(TIME, time.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_kill_between_table_and_queue_loses_no_message_and_doubles_none() {
    let (keys, folder) = (TestKeys::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("app.sqlite");
    let watched = queue_at(&keys.url(), &path, STARTED_AT, Duration::ZERO).await;
    for number in 0..MESSAGES {
        let job = format!(r#"{{"uuid":"u-{number}","job":"a@b","data":[],"id":"i-{number}","attempts":0}}"#);
        let _: u64 = keys.connect().rpush(keys.key("queues:audit"), job).unwrap();
    }
    let (mut between, mut busy) = (0, 0);
    for round in 1..=ROUNDS {
        let before = watched.control().await.unwrap().restart;
        // So much later that what the child before held when it was killed has lapsed.
        let mut child = start(&keys, &path, STARTED_AT + round * 1_000);
        while watched.control().await.unwrap().restart == before {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Each round is cut off at another moment after the child began to work.
        tokio::time::sleep(Duration::from_micros(round * 2_300)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        busy += u64::from(watched.control().await.unwrap().restart > before);
        let places = places(&keys, &path);
        assert_eq!(places.len(), MESSAGES, "round {round}: {places:?}");
        for (uuid, (waiting, failed)) in &places {
            assert!(*waiting <= 1 && *failed <= 1, "round {round}: {uuid} is {waiting} and {failed} times there");
        }
        between += u64::from(places.values().any(|place| *place == (1, 1)));
    }
    assert_eq!(busy, ROUNDS);
    assert!(between >= 4, "only {between} of {ROUNDS} kills fell between the two steps");

    // Whoever goes on finds each message, and each once.
    let time = STARTED_AT + (ROUNDS + 1) * 1_000;
    let queue = queue_at(&keys.url(), &path, time, Duration::ZERO).await;
    let reserved = queue.reserve(&[name()], MESSAGES + 1).await.unwrap();
    let held: Vec<_> = reserved.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
    assert_eq!(queue.bury(&held, "given up at last").await.unwrap(), []);
    assert!(places(&keys, &path).values().all(|place| *place == (0, 1)));
    assert_eq!(queue.retry(&Selection::all()).await.unwrap(), MESSAGES as u64);
    assert!(places(&keys, &path).values().all(|place| *place == (1, 0)));
    let back = queue.reserve(&[name()], MESSAGES + 1).await.unwrap();
    assert_eq!(back.len(), MESSAGES);
    let done: Vec<_> = back.into_iter().map(|message| message.receipt).collect();
    assert_eq!(queue.delete(&done).await.unwrap(), []);
    let sizes = queue.sizes(&name()).await.unwrap();
    assert_eq!((sizes.total(), sizes.failed), (0, 0));
}

#[tokio::test]
#[ignore = "is run as a child process by the test above"]
async fn child_that_buries_and_retries() {
    let path = std::env::var_os(FILE).expect("the parent names the file");
    let keys = std::env::var(KEYS).expect("the parent names the keys");
    let time = std::env::var(TIME).expect("the parent tells the time").parse().unwrap();
    let queue = queue_at(&keys, Path::new(&path), time, BETWEEN).await;
    queue.retry(&Selection::all()).await.unwrap();
    loop {
        let reserved = queue.reserve(&[name()], 7).await.unwrap();
        assert!(!reserved.is_empty(), "nothing is left to bury");
        let held: Vec<_> = reserved.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
        queue.restart().await.unwrap();
        queue.bury(&held, "for the test").await.unwrap();
        queue.retry(&Selection::all()).await.unwrap();
    }
}
