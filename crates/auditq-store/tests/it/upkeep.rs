//! Pruning and backing up while others go on storing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use auditq_store::conformance::ordinary_event;
use auditq_store::sqlite::SqliteStore;
use auditq_store::{ErrorKind, StoreReader};
use tokio::task::JoinHandle;

use crate::support::{BATCH, InFile, batch, insert, seqs_in};

/// Stores one batch after the other until it is told to stop; then says how many.
struct Inserting {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Inserting {
    fn begin(store: &SqliteStore, first: u64) -> Self {
        let (stop, done): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let (store, stopped, count) = (store.clone(), Arc::clone(&stop), Arc::clone(&done));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                insert(&store, batch(first + count.load(Ordering::Relaxed))).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, done, task }
    }

    /// Returns once so many more batches are stored.
    async fn more(&self, batches: u64) {
        let wanted = self.done.load(Ordering::Relaxed) + batches;
        while self.done.load(Ordering::Relaxed) < wanted {
            assert!(!self.task.is_finished(), "an insert failed");
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.done.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_while_others_store_is_sound_and_as_of_one_moment() {
    let setup = InFile::new().await;
    let inserting = Inserting::begin(&setup.store, 0);
    let mut before = 0;
    for number in 0..5 {
        inserting.more(5).await;
        let stored = inserting.done.load(Ordering::Relaxed);
        let copy = setup.folder.path().join(format!("backup {number}.db"));
        assert_eq!(setup.store.backup(&copy).await.unwrap(), seqs_in(&copy).len() as u64);
        let seqs = seqs_in(&copy);
        let batches = u64::try_from(seqs.len()).unwrap() / BATCH;
        assert_eq!(seqs, (0..batches * BATCH).collect::<Vec<_>>(), "whole batches, and none is missing");
        assert!(stored <= batches && before < batches, "what was stored before the backup is in it");
        before = batches;
    }
    let all = inserting.end().await;
    assert_eq!(seqs_in(setup.store.database().path()), (0..all * BATCH).collect::<Vec<_>>());
    let again = setup.store.backup(&setup.folder.path().join("backup 0.db")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Misconfigured, "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_while_others_store_removes_what_is_old_and_nothing_else() {
    let setup = InFile::new().await;
    let old = 40;
    for number in 0..old {
        insert(&setup.store, batch(number)).await.unwrap();
    }
    let inserting = Inserting::begin(&setup.store, old);
    inserting.more(1).await;
    let before = ordinary_event(old * BATCH).occurred_at;
    let mut removed = 0;
    loop {
        let pruned = setup.store.prune(before, 100).await.unwrap();
        assert!(pruned.rows <= 100);
        removed += pruned.rows;
        if pruned.finished {
            break;
        }
    }
    inserting.more(1).await;
    let new = inserting.end().await;
    assert_eq!(removed, old * BATCH);
    assert_eq!(seqs_in(setup.store.database().path()), (old * BATCH..(old + new) * BATCH).collect::<Vec<_>>());
}
