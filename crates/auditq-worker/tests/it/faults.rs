//! Engines that do not answer, hang, or come back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use auditq_worker::{Limits, StopReason, WorkEvent, Worker};

use crate::support::{World, message_of, within};

#[tokio::test]
async fn a_store_that_is_down_costs_no_attempt_and_buries_nothing() {
    let world = World::with_retry_after(Duration::from_secs(1)).await;
    world.push(&[message_of(0..100)]).await;
    world.store.down.store(true, Ordering::Relaxed);
    let worker = world.worker(Limits { stop_when_empty: true, ..Limits::default() });
    let running = tokio::spawn(async move { worker.run().await });
    // Longer than a reservation lasts: the worker has to keep extending it.
    within(Duration::from_secs(20), async || world.heard(|event| matches!(event, WorkEvent::Waiting { .. })) >= 5)
        .await;
    assert_eq!(world.sizes().await.reserved, 1, "it keeps what it holds");

    world.store.down.store(false, Ordering::Relaxed);
    assert_eq!(running.await.unwrap().unwrap(), StopReason::Empty);
    assert_eq!(world.stored().await.len(), 100);
    assert_eq!(world.sizes().await.failed, 0);
    assert_eq!(world.heard(|event| matches!(event, WorkEvent::Recovered { .. })), 1);
    assert_eq!(world.heard(|event| matches!(event, WorkEvent::Started { .. })), 1);
}

#[tokio::test]
async fn a_worker_that_is_stopped_during_an_outage_gives_its_messages_back() {
    let world = World::new().await;
    world.push(&[message_of(0..100)]).await;
    world.store.down.store(true, Ordering::Relaxed);
    let worker = world.worker(Limits::default());
    let running = tokio::spawn(async move { worker.run().await });
    world.until(|event| matches!(event, WorkEvent::Waiting { .. })).await;
    world.shutdown.request();
    assert_eq!(running.await.unwrap().unwrap(), StopReason::Interrupted);
    let sizes = world.sizes().await;
    assert_eq!((sizes.ready, sizes.reserved, sizes.failed), (1, 0, 0));
}

#[tokio::test]
async fn a_store_that_hangs_is_given_up_after_the_timeout_and_tried_again() {
    let world = World::new().await;
    world.push(&[message_of(0..10)]).await;
    world.store.hangs.store(true, Ordering::Relaxed);
    let mut worker: Worker = world.worker(Limits { stop_when_empty: true, ..Limits::default() });
    worker.options.timeout = Duration::from_millis(100);
    let running = tokio::spawn(async move { worker.run().await });
    world.until(|event| matches!(event, WorkEvent::Waiting { error, .. } if error.contains("worker.timeout"))).await;
    world.store.hangs.store(false, Ordering::Relaxed);
    assert_eq!(running.await.unwrap().unwrap(), StopReason::Empty);
    assert_eq!((world.stored().await.len(), world.sizes().await.failed), (10, 0));
}

#[tokio::test]
async fn a_table_that_is_gone_ends_the_worker_with_an_error_and_loses_nothing() {
    let world = World::new().await;
    world.push(&[message_of(0..10)]).await;
    let drop_table =
        |connection: &auditq_sqlite::rusqlite::Connection| connection.execute_batch("drop table audit_sql_logs");
    world.store.inner.database().write("drop the table", drop_table).await.unwrap();
    let error = world.work().await.unwrap_err().to_string();
    assert!(error.contains("audit_sql_logs") && error.contains("auditq migrate"), "{error}");
    let sizes = world.sizes().await;
    assert_eq!((sizes.ready, sizes.failed), (1, 0));
}
