//! Several processes that store at once, and processes that are killed while they store.

use std::path::Path;
use std::time::{Duration, Instant};

use auditq_store::StoreReader;

use crate::child;
use crate::support::{BATCH, batch, insert, open, seqs_in};

/// Two processes store the same batches, and two others some that overlap with them.
#[tokio::test]
async fn processes_that_store_at_once_store_each_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.db");
    let acks = folder.path().join("acks");
    let children = [0..30, 0..30, 10..50, 40..60].map(|batches| child::start(&file, &acks, batches));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(seqs_in(&file), (0..60 * BATCH).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_kill_while_storing_leaves_whole_batches_and_they_can_be_stored_again() {
    let folder = tempfile::tempdir().unwrap();
    let (file, acks) = (folder.path().join("audit.db"), folder.path().join("acks"));
    let rounds: u64 = std::env::var("AUDITQ_TEST_CRASH_ROUNDS").map_or(15, |rounds| rounds.parse().unwrap());
    let mut first = 0;
    for round in 0..rounds {
        kill_after_some(&file, &acks, first, Duration::from_micros(round % 20 * 700));
        first = check_and_repeat(&file, &acks, first).await;
    }
    println!("{rounds} kills, {} batches acknowledged, 0 lost, 0 in part, 0 twice", child::acknowledged(&acks).len());
}

/// Kills a process that stores batches from `first` on, so long after it has stored the first.
fn kill_after_some(file: &Path, acks: &Path, first: u64, later: Duration) {
    let before = child::acknowledged(acks).len();
    let mut running = child::start(file, acks, first..u64::MAX);
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while child::acknowledged(acks).len() == before {
        assert!(running.try_wait().unwrap().is_none(), "the child ended by itself");
        assert!(Instant::now() < give_up_at, "the child stores nothing");
        std::thread::yield_now();
    }
    std::thread::sleep(later);
    running.kill().unwrap();
    running.wait().unwrap();
}

/// Every acknowledged batch is there, every batch whole or not at all; stored again they change nothing. Returns the
/// number of the next batch.
async fn check_and_repeat(file: &Path, acks: &Path, first: u64) -> u64 {
    let acknowledged = child::acknowledged(acks);
    let next = acknowledged.iter().max().map_or(0, |last| last + 1);
    let stored = seqs_in(file);
    // The one under way may have been stored and not acknowledged; none after it was begun.
    let whole = u64::try_from(stored.len()).unwrap() / BATCH;
    assert!(whole == next || whole == next + 1, "{next} acknowledged and {} rows stored", stored.len());
    assert_eq!(stored, (0..whole * BATCH).collect::<Vec<_>>());
    let store = open(file).await;
    for number in first..=next {
        let inserted = insert(&store, batch(number)).await.unwrap();
        let new = if number < whole { 0 } else { BATCH };
        assert_eq!((inserted.stored, inserted.duplicates), (new, BATCH - new), "batch {number}");
    }
    assert_eq!(store.count().await.unwrap(), (next + 1) * BATCH);
    next + 1
}
