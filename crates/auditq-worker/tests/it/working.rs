//! What a worker does with good messages and bad ones.

use std::time::Duration;

use auditq_event::{Message, Record, Target, TransactionOutcome};
use auditq_queue::{FailedFilter, MessageId, NewMessage, Queue, QueueAdmin, Selection};
use auditq_store::{Filter, StoreReader};
use auditq_worker::{Limits, StopReason, WorkEvent};

use crate::support::{World, event, id_of, message, message_of, queue_name};

#[tokio::test]
async fn messages_become_rows_and_are_gone() {
    let world = World::new().await;
    world.push(&[message_of(0..500), message_of(500..700)]).await;
    assert_eq!(world.work().await.unwrap(), StopReason::Empty);
    assert_eq!(world.stored().await, (0..700).collect::<Vec<_>>());
    assert_eq!(world.sizes().await.total(), 0);
}

#[tokio::test]
async fn a_message_that_comes_twice_is_stored_once() {
    let world = World::new().await;
    world.push(&[message_of(0..10)]).await;
    world.work().await.unwrap();
    world.push(&[message_of(0..10), message_of(5..15)]).await;
    world.work().await.unwrap();
    assert_eq!(world.stored().await, (0..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refused_event_is_found_by_halving_and_only_it_is_retried_and_buried() {
    let world = World::new().await;
    world.refuse("refused").await;
    let records: Vec<_> =
        (0..500).map(|seq| (seq, event(seq, if seq == 321 { "refused" } else { "alice" }).encode())).collect();
    world.push(&[message(&records), message_of(500..600)]).await;
    world.work().await.unwrap();

    assert_eq!(world.stored().await, (0..600).filter(|seq| *seq != 321).collect::<Vec<_>>());
    let inserts = world.store.inserts.load(std::sync::atomic::Ordering::Relaxed);
    // 1 for all, about 2·log2(600) to find it, and two tries of it alone with a confirming one each.
    assert!(inserts <= 30, "{inserts} inserts to find one event among 600");
    assert_eq!(world.heard(|event| matches!(event, WorkEvent::Released { events: 1, .. })), 2);
    let failed = world.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert_eq!(failed.len(), 1);
    assert!(failed[0].reason.contains("refused by the owner"), "{}", failed[0].reason);
    assert!(
        failed[0].payload_bytes < 1_000,
        "it holds what failed and nothing else: {} bytes",
        failed[0].payload_bytes
    );
}

#[tokio::test]
async fn what_was_buried_can_be_retried_once_the_cause_is_gone() {
    let world = World::new().await;
    world.refuse("refused").await;
    let records: Vec<_> =
        (0..20).map(|seq| (seq, event(seq, if seq % 7 == 3 { "refused" } else { "bob" }).encode())).collect();
    world.push(&[message(&records)]).await;
    world.work().await.unwrap();
    assert_eq!((world.stored().await.len(), world.sizes().await.failed), (17, 1));

    world.accept_all().await;
    assert_eq!(world.queue.retry(&Selection::all()).await.unwrap(), 1);
    world.work().await.unwrap();
    assert_eq!(world.stored().await, (0..20).collect::<Vec<_>>());
    assert_eq!((world.sizes().await.failed, world.sizes().await.total()), (0, 0));
}

#[tokio::test]
async fn a_message_that_no_parser_takes_is_buried_at_once_and_holds_up_nothing() {
    let world = World::new().await;
    let garbage = |text: &'static str| NewMessage {
        id: MessageId::new(format!("garbage-{}", text.len())),
        queue: queue_name(),
        payload: text.into(),
        delay: Duration::ZERO,
    };
    world
        .push(&[
            garbage("not a message"),
            message_of(0..10),
            garbage("{\"uuid\":\"x\",\"job\":\"auditq@batch\",\"data\":{}}"),
        ])
        .await;
    world.work().await.unwrap();
    assert_eq!(world.stored().await, (0..10).collect::<Vec<_>>());
    assert_eq!((world.sizes().await.failed, world.sizes().await.total()), (2, 0));
}

#[tokio::test]
async fn a_record_of_an_unknown_version_is_buried_alone() {
    let world = World::new().await;
    let mut unknown = event(1, "alice").encode();
    unknown[0] = 250;
    let records = vec![(0, event(0, "alice").encode()), (1, unknown), (2, event(2, "alice").encode())];
    world.push(&[message(&records)]).await;
    world.work().await.unwrap();
    assert_eq!(world.stored().await, [0, 2]);
    let failed = world.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert!(failed.len() == 1 && failed[0].reason.contains("version"), "{failed:?}");
}

#[tokio::test]
async fn what_nobody_can_read_is_kept_beside_what_the_store_refuses() {
    let world = World::new().await;
    world.refuse("refused").await;
    let records = |first: u64, middle: &str| {
        let mut unknown = event(first, "alice").encode();
        unknown[0] = 250;
        message(&[(first, unknown), (first + 1, event(first + 1, middle).encode())])
    };
    world.push(&[records(0, "alice"), records(2, "refused"), message_of(4..6)]).await;
    world.work().await.unwrap();
    assert_eq!((world.stored().await, world.sizes().await.total()), (vec![1, 4, 5], 0));
    let failed = world.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    let mut kept = Vec::new();
    for failed in &failed {
        let payload = world.queue.failed_payload(&failed.id).await.unwrap().unwrap();
        kept.extend(Message::parse(&payload, 1 << 20).unwrap().records().map(|(seq, _)| seq));
    }
    kept.sort_unstable();
    assert_eq!(kept, [0, 2, 3]);
}

#[tokio::test]
async fn amendments_reach_their_event_before_with_and_after_it() {
    let world = World::new().await;
    let target = |seq| Target { occurred_at: event(seq, "").occurred_at, seq };
    let outcome =
        Record::Outcome { outcome: TransactionOutcome::Committed, targets: vec![target(0), target(1), target(2)] };
    let repeat = |count| Record::Repeat { target: target(2), count, last_at: 1_900_000_000_000_000 }.encode();
    world.push(&[message(&[(0, event(0, "a").encode())])]).await;
    world.work().await.unwrap();
    world.push(&[message(&[(1, event(1, "a").encode()), (3, outcome.encode()), (4, repeat(5)), (5, repeat(3))])]).await;
    world.work().await.unwrap();
    world.push(&[message(&[(2, event(2, "a").encode())])]).await;
    world.work().await.unwrap();

    for seq in 0..3 {
        let filter = Filter { event_id: Some(id_of(seq)), ..Filter::default() };
        let rows = world.store.inner.search(&filter).await.unwrap().rows;
        assert_eq!(rows.len(), 1, "{seq}");
        assert_eq!(rows[0].event.outcome.transaction_outcome, TransactionOutcome::Committed, "{seq}");
        assert_eq!(rows[0].event.repeat_count, if seq == 2 { 5 } else { 1 });
    }
}

#[tokio::test]
async fn a_message_that_workers_did_not_survive_is_handled_by_itself() {
    let world = World::with_retry_after(Duration::ZERO).await;
    world.push(&[message_of(0..10)]).await;
    for _ in 0..5 {
        // A worker that took it and died.
        assert_eq!(world.queue.reserve(&[queue_name()], 1).await.unwrap().len(), 1);
    }
    world.push(&[message_of(10..20)]).await;
    world.work().await.unwrap();
    assert_eq!(world.stored().await, (0..20).collect::<Vec<_>>());
    assert_eq!(world.heard(|event| matches!(event, WorkEvent::Stored { messages: 1, .. })), 2);
}

#[tokio::test]
async fn once_and_max_jobs_take_no_more_than_they_say() {
    let world = World::new().await;
    world.push(&(0..10).map(|n| message_of(n * 10..n * 10 + 10)).collect::<Vec<_>>()).await;
    let reason = world.worker(Limits { once: true, ..Limits::default() }).run().await.unwrap();
    assert_eq!((reason, world.stored().await.len()), (StopReason::Empty, 10));
    let reason = world.worker(Limits { max_jobs: 4, ..Limits::default() }).run().await.unwrap();
    assert_eq!((reason, world.stored().await.len()), (StopReason::MaxJobs, 50));
    assert_eq!(world.sizes().await.ready, 5);
}

#[tokio::test]
async fn several_workers_share_the_work_and_store_each_event_once() {
    let world = World::new().await;
    world.push(&(0..100).map(|n| message_of(n * 10..n * 10 + 10)).collect::<Vec<_>>()).await;
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let worker = world.worker(Limits { stop_when_empty: true, ..Limits::default() });
            tokio::spawn(async move { worker.run().await.unwrap() })
        })
        .collect();
    for worker in workers {
        assert_eq!(worker.await.unwrap(), StopReason::Empty);
    }
    assert_eq!(world.stored().await, (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_finishes_and_holds_nothing() {
    let world = World::new().await;
    world.push(&[message_of(0..10)]).await;
    let worker = world.worker(Limits::default());
    let running = tokio::spawn(async move { worker.run().await });
    world.until(|event| matches!(event, WorkEvent::Stored { .. })).await;
    world.shutdown.request();
    assert_eq!(running.await.unwrap().unwrap(), StopReason::Interrupted);
    assert_eq!(world.sizes().await.total(), 0);
}
