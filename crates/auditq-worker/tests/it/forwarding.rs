//! From spool to queue.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use auditq_queue::Queue;
use auditq_spool::{Options, Reader, Spool, WhenFull};
use auditq_store::{Filter, StoreReader};
use auditq_worker::{Forwarder, Observer, RetryPolicy, Shutdown};

use crate::support::{Watched, World, event, queue_name, unavailable, within};

fn spool(root: &Path) -> Spool {
    Spool::open(root, Options { segment_bytes: 64 << 10, ..Options::default() }).unwrap()
}

fn record(spool: &Spool, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        assert_eq!(spool.append(&[&event(seq, "alice").encode()]).unwrap(), seq);
    }
}

fn forwarder(root: &Path, queue: Arc<dyn Queue>, shutdown: &Shutdown) -> Forwarder {
    let policy = RetryPolicy { tries: 3, max_exceptions: 3, backoff: vec![] };
    Forwarder::new(root.to_owned(), queue, queue_name(), 100, policy, shutdown.clone(), Observer::default())
}

#[tokio::test]
async fn spooled_events_become_rows() {
    let world = World::new().await;
    let root = world.dir.path().join("spool");
    let spool = spool(&root);
    record(&spool, 0..1_000);
    let mut forwarder = forwarder(&root, world.queue.clone(), &world.shutdown);
    assert_eq!(forwarder.drain().await.unwrap(), 1_000);
    // Of 100 records each, and a short one at each end of a segment.
    assert!((10..=15).contains(&world.sizes().await.ready));
    world.work().await.unwrap();
    assert_eq!(world.stored().await, (0..1_000).collect::<Vec<_>>());
    assert_eq!(forwarder.drain().await.unwrap(), 0);
    record(&spool, 1_000..1_001);
    assert_eq!(forwarder.drain().await.unwrap(), 1);
}

#[tokio::test]
async fn the_spool_of_a_dead_process_is_adopted_emptied_and_removed() {
    let world = World::new().await;
    let root = world.dir.path().join("spool");
    let first = spool(&root);
    record(&first, 0..50);
    drop(first);
    let second = spool(&root);
    record(&second, 0..70);
    assert_eq!(Reader::producers(&root).unwrap().len(), 2);
    let mut forwarder = forwarder(&root, world.queue.clone(), &world.shutdown);
    assert_eq!(forwarder.drain().await.unwrap(), 120);
    assert_eq!(Reader::producers(&root).unwrap(), [second.producer_id()]);
    world.work().await.unwrap();
    assert_eq!(world.stored().await.len(), 120);
}

#[tokio::test]
async fn two_forwarders_do_not_read_the_same_spool() {
    let world = World::new().await;
    let root = world.dir.path().join("spool");
    let spool = spool(&root);
    let mut first = forwarder(&root, world.queue.clone(), &world.shutdown);
    let mut second = forwarder(&root, world.queue.clone(), &world.shutdown);
    record(&spool, 0..10);
    assert_eq!(first.drain().await.unwrap(), 10);
    record(&spool, 10..20);
    assert_eq!(second.drain().await.unwrap(), 0);
    drop(first);
    assert_eq!(second.drain().await.unwrap(), 10);
}

#[tokio::test]
async fn what_was_pushed_and_not_committed_is_pushed_again_and_stored_once() {
    let world = World::new().await;
    let root = world.dir.path().join("spool");
    let spool = spool(&root);
    record(&spool, 0..100);
    let cursor = root.join(spool.producer_id().to_string()).join("cursor");
    for _ in 0..2 {
        forwarder(&root, world.queue.clone(), &world.shutdown).drain().await.unwrap();
        world.work().await.unwrap();
        // As after a crash between push and commit.
        std::fs::remove_file(&cursor).unwrap();
    }
    assert_eq!(world.stored().await, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_queue_that_is_down_leaves_the_events_in_the_spool() {
    let world = World::new().await;
    let root = world.dir.path().join("spool");
    let spool = spool(&root);
    record(&spool, 0..10);
    let (down, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_down, called) = (down.clone(), calls.clone());
    let at = move |step| {
        called.fetch_add(usize::from(step == "push"), Ordering::Relaxed);
        if is_down.load(Ordering::Relaxed) { Err(unavailable()) } else { Ok(()) }
    };
    let mut forwarder = forwarder(&root, Arc::new(Watched { inner: world.queue.clone(), at }), &world.shutdown);
    let running = tokio::spawn(async move { forwarder.run().await });
    within(Duration::from_secs(10), async || calls.load(Ordering::Relaxed) >= 3).await;
    assert_eq!(world.sizes().await.total(), 0);
    record(&spool, 10..20);
    down.store(false, Ordering::Relaxed);
    within(Duration::from_secs(10), async || world.sizes().await.ready >= 2).await;
    world.work().await.unwrap();
    assert_eq!(world.stored().await, (0..20).collect::<Vec<_>>());
    world.shutdown.request();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn dropped_events_leave_a_gap_in_the_log_that_says_how_many() {
    let world = World::new().await;
    let root = world.dir.path().join("spool");
    let options =
        Options { segment_bytes: 8 << 10, max_bytes: 16 << 10, when_full: WhenFull::DropNewest, ..Options::default() };
    let spool = Spool::open(&root, options).unwrap();
    let mut dropped = 0;
    while dropped < 5 {
        dropped += u64::from(spool.append(&[&event(0, "alice").encode()]).is_err());
    }
    drop(spool);
    for _ in 0..2 {
        forwarder(&root, world.queue.clone(), &world.shutdown).drain().await.unwrap();
        world.work().await.unwrap();
    }
    let filter = Filter { operation: Some(auditq_event::Operation::Gap), ..Filter::default() };
    let gaps = world.store.inner.search(&filter).await.unwrap().rows;
    let lost: u64 = gaps.iter().map(|row| row.event.repeat_count).sum();
    assert_eq!(lost, dropped, "{gaps:?}");
}
