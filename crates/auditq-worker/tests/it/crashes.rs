//! Processes that are killed by SIGKILL at every step, and what the log says afterwards.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_queue::{Queue, QueueAdmin};
use auditq_spool::{Options, Spool};
use auditq_sqlite::Database;
use auditq_worker::{
    Budget, Forwarder, Limits, Observer, RetryPolicy, Shutdown, StoreThenDelete, Worker, WorkerOptions,
};

use crate::support::{Watched, event, open_store, queue_name, stored_in};

const EVENTS: u64 = 2_000;
const MESSAGE_EVENTS: usize = 100;

/// The child: forwards and works in `dir`, and kills itself at the first `step` after `CRASH_AFTER` of them.
#[tokio::test]
#[ignore = "the child process of the tests below, which start it"]
async fn child_that_kills_itself_at_a_step() {
    let dir = std::env::var_os("CRASH_DIR").expect("started by a test");
    let dir = Path::new(&dir);
    let step = std::env::var("CRASH_STEP").unwrap();
    let left = std::sync::atomic::AtomicI64::new(std::env::var("CRASH_AFTER").unwrap().parse().unwrap());
    let at = move |now: &'static str| {
        if now == step && left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        Ok(())
    };
    let queue: Arc<dyn Queue> = Arc::new(Watched { inner: Arc::new(open_queue(dir).await), at });
    let store = open_store(&dir.join("audit.db")).await;
    let policy = RetryPolicy { tries: 3, max_exceptions: 3, backoff: vec![Duration::ZERO] };
    let shutdown = Shutdown::new();
    let mut forwarder = Forwarder::new(
        dir.join("spool"),
        queue.clone(),
        queue_name(),
        MESSAGE_EVENTS,
        policy.clone(),
        shutdown.clone(),
        Observer::default(),
    );
    forwarder.drain().await.unwrap();
    let worker = Worker {
        options: WorkerOptions {
            number: 0,
            queues: vec![queue_name()],
            batch: 3,
            timeout: Duration::from_secs(30),
            policy,
            idle: Duration::from_millis(10),
            rest: Duration::ZERO,
            laravel: None,
            closed: auditq_worker::Closed::default(),
        },
        queue: queue.clone(),
        store: store.clone(),
        settlement: Arc::new(StoreThenDelete { queue, store }),
        budget: Arc::new(Budget::new(Limits { stop_when_empty: true, ..Limits::default() })),
        shutdown,
        observer: Observer::default(),
    };
    worker.run().await.unwrap();
}

async fn open_queue(dir: &Path) -> SqliteQueue {
    let database = Database::open(&dir.join("queue.db"), auditq_sqlite::Options::default()).unwrap();
    let options = SqliteQueueOptions { retry_after: Duration::from_secs(1), ..SqliteQueueOptions::default() };
    let queue = SqliteQueue::open(database, options).unwrap();
    queue.migrate().await.unwrap();
    queue
}

fn child(dir: &Path, name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("crashes::{name}"), "--exact", "--ignored", "--quiet"]).env("CRASH_DIR", dir);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::inherit());
    command
}

fn fill_spool(dir: &Path) {
    let spool = Spool::open(&dir.join("spool"), Options { segment_bytes: 64 << 10, ..Options::default() }).unwrap();
    for seq in 0..EVENTS {
        spool.append(&[&event(seq, "alice").encode()]).unwrap();
    }
}

async fn killed_at(step: &str) {
    let dir = tempfile::tempdir().unwrap();
    fill_spool(dir.path());
    for after in [0, 0, 1, 0] {
        let mut command = child(dir.path(), "child_that_kills_itself_at_a_step");
        let status = command.env("CRASH_STEP", step).env("CRASH_AFTER", after.to_string()).status().unwrap();
        assert!(!status.success(), "{step} + {after}: it was to be killed, and ended by itself");
        // Its reservations lapse after one second, counted in whole ones; the next child must find them again.
        tokio::time::sleep(Duration::from_millis(2100)).await;
    }
    let mut command = child(dir.path(), "child_that_kills_itself_at_a_step");
    assert!(command.env("CRASH_STEP", "never").env("CRASH_AFTER", "0").status().unwrap().success());
    assert_eq!(stored_in(&*open_store(&dir.path().join("audit.db")).await).await, (0..EVENTS).collect::<Vec<_>>());
    let sizes = open_queue(dir.path()).await.sizes(&queue_name()).await.unwrap();
    assert_eq!((sizes.total(), sizes.failed), (0, 0), "{step}");
}

#[tokio::test]
async fn killed_before_a_push() {
    killed_at("push").await;
}

#[tokio::test]
async fn killed_between_push_and_cursor() {
    killed_at("pushed").await;
}

#[tokio::test]
async fn killed_after_reserving() {
    killed_at("reserved").await;
}

#[tokio::test]
async fn killed_between_insert_and_delete() {
    killed_at("delete").await;
}

#[tokio::test]
async fn killed_after_deleting() {
    killed_at("deleted").await;
}
