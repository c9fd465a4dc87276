//! Jobs that a Laravel application dispatched, stored by our worker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use auditq_config::Config;
use auditq_event::{Limits, Redaction};
use auditq_laravel::php::{Key, Object, Value};
use auditq_laravel::{JobLimits, NewJob};
use auditq_queue::{FailedFilter, MessageId, NewMessage, Queue, QueueAdmin};
use auditq_store::{Filter, StoreReader};
use auditq_worker::{LaravelJobs, WorkEvent};
use uuid::Uuid;

use crate::support::{World, message_of, queue_name};

const CLASS: &str = "App\\Jobs\\ProcessAuditLog";

fn jobs() -> Arc<LaravelJobs> {
    Arc::new(LaravelJobs::new(&Config::default(), Redaction::new([3; 32]), Limits::default()).unwrap())
}

fn job(number: u128, class: &'static str, username: &str, limits: JobLimits) -> NewMessage {
    let parts = [
        ("sql", Value::text(format!("select {number}"))),
        ("username", Value::text(username)),
        ("executed_at", Value::text("2026-11-24 10:00:00")),
    ];
    let data = Value::Array(parts.into_iter().map(|(name, value)| (Key::text(name), value)).collect());
    let uuid = Uuid::from_u128(number);
    let job =
        NewJob { uuid, command: Object::new(class).with("queryData", data), created_at: 1, limits, redis_id: None };
    message(&uuid.to_string(), job.payload().unwrap().into_bytes())
}

fn message(id: &str, payload: Vec<u8>) -> NewMessage {
    NewMessage { id: MessageId::new(id), queue: queue_name(), payload: payload.into(), delay: Duration::ZERO }
}

fn plain(number: u128) -> NewMessage {
    job(number, CLASS, "alice", JobLimits::default())
}

async fn statements(world: &World) -> Vec<String> {
    let rows = world.store.inner.search(&Filter { limit: 1_000, ..Filter::default() }).await.unwrap().rows;
    let mut statements: Vec<String> = rows.into_iter().map(|row| row.event.statement.sql).collect();
    statements.sort();
    statements
}

#[tokio::test]
async fn jobs_become_rows_beside_messages_of_ours() {
    let mut world = World::new().await;
    world.laravel = Some(jobs());
    world.push(&[plain(1), message_of(0..3), plain(2)]).await;
    world.work().await.unwrap();
    assert_eq!(statements(&world).await.iter().filter(|sql| sql.starts_with("select * from orders")).count(), 3);
    assert_eq!(
        statements(&world).await.iter().filter(|sql| ["select 1", "select 2"].contains(&sql.as_str())).count(),
        2
    );
    assert_eq!(world.sizes().await.total(), 0);
}

#[tokio::test]
async fn a_job_that_comes_twice_is_stored_once() {
    let mut world = World::new().await;
    world.laravel = Some(jobs());
    for _ in 0..2 {
        world.push(&[plain(1)]).await;
        world.work().await.unwrap();
    }
    assert_eq!(statements(&world).await, ["select 1"]);
}

#[tokio::test]
async fn jobs_of_other_classes_are_left_as_they_were() {
    let mut world = World::new().await;
    world.laravel = Some(jobs());
    world.push(&[job(1, "App\\Jobs\\SendMail", "alice", JobLimits::default()), plain(2), plain(3)]).await;
    world.work().await.unwrap();
    assert_eq!(statements(&world).await, ["select 2", "select 3"]);
    let sizes = world.sizes().await;
    assert_eq!((sizes.total(), sizes.failed), (1, 0));
    assert_eq!(
        world.heard(|event| matches!(event, WorkEvent::Declined { class, .. } if class == "App\\Jobs\\SendMail")),
        1
    );
    // Whoever serves them finds one that was never tried.
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let [taken] = &world.queue.reserve(&[queue_name()], 1).await.unwrap()[..] {
                assert_eq!(taken.attempts, 1);
                break;
            }
            world.queue.wait(&[queue_name()], Duration::from_secs(1)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_buried_with_the_place_and_the_others_go_on() {
    let mut world = World::new().await;
    world.laravel = Some(jobs());
    let damaged = String::from_utf8(plain(1).payload.to_vec()).unwrap().replace("a:3:{", "a:999999999:{");
    world.push(&[message("1", damaged.into_bytes()), message("2", b"{\"job\":".to_vec()), plain(3)]).await;
    world.work().await.unwrap();
    assert_eq!(statements(&world).await, ["select 3"]);
    let failed = world.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    let reasons: Vec<&str> = failed.iter().map(|failed| failed.reason.as_str()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("cannot read the payload at byte 7: it is not JSON"), "{reasons:?}");
    assert!(
        reasons[1].contains(
            "data.command: cannot read serialized PHP data at byte 53 (App\\Jobs\\ProcessAuditLog > queryData)"
        ),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_job_is_tried_as_often_as_it_says_and_kept_as_it_was() {
    let mut world = World::new().await;
    world.laravel = Some(jobs());
    world.refuse("refused").await;
    let limits = |tries, max_exceptions| JobLimits {
        tries: Some(tries),
        max_exceptions,
        backoff: Some(vec![0]),
        ..JobLimits::default()
    };
    let five = job(1, CLASS, "refused", limits(5, None));
    world
        .push(&[five.clone(), job(2, CLASS, "refused", limits(5, Some(2))), job(3, CLASS, "refused", limits(1, None))])
        .await;
    world.work().await.unwrap();
    let failed = world.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert_eq!(failed.len(), 3);
    let mut tries = world.buried_after();
    tries.sort_unstable();
    assert_eq!(tries, [1, 2, 5]);
    let kept = failed.iter().find(|failed| failed.id == five.id).unwrap();
    let payload = world.queue.failed_payload(&kept.id).await.unwrap().unwrap();
    assert_eq!(payload, five.payload, "Laravel's queue:retry finds what it dispatched");
}

#[tokio::test]
async fn until_its_retry_until_a_job_is_tried_without_limit() {
    let mut world = World::new().await;
    world.laravel = Some(jobs());
    world.refuse("refused").await;
    let until = |retry_until| JobLimits {
        retry_until: Some(retry_until),
        tries: Some(1),
        backoff: Some(vec![0]),
        ..JobLimits::default()
    };
    world.push(&[job(1, CLASS, "refused", until(1))]).await;
    world.work().await.unwrap();
    assert_eq!(world.buried_after(), [1], "its time is over: the first refusal is the last");
    let in_two_seconds = now() + 2;
    world.push(&[job(2, CLASS, "refused", until(in_two_seconds))]).await;
    world.work().await.unwrap();
    assert!(world.buried_after()[1] > 3, "{:?}", world.buried_after());
    assert!(now() >= in_two_seconds);
}

#[tokio::test]
async fn while_the_store_does_not_answer_no_job_is_given_up() {
    let mut world = World::new().await;
    world.laravel = Some(jobs());
    world.store.down.store(true, Ordering::Relaxed);
    world.push(&[job(1, CLASS, "alice", JobLimits { tries: Some(1), ..JobLimits::default() })]).await;
    let store = Arc::clone(&world.store);
    let mending = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        store.down.store(false, Ordering::Relaxed);
    });
    world.work().await.unwrap();
    mending.await.unwrap();
    assert_eq!(statements(&world).await, ["select 1"]);
    assert_eq!(world.sizes().await.failed, 0);
}

/// With a worker's timeout of seconds, and a job's own of one.
#[tokio::test]
async fn a_job_that_fails_on_timeout_is_given_up_when_others_can_be_stored() {
    let mut world = World::new().await;
    world.laravel = Some(jobs());
    let strict = JobLimits { timeout: Some(1), fail_on_timeout: true, ..JobLimits::default() };
    world.push(&[plain(1), job(2, CLASS, "slow", strict.clone()), job(3, CLASS, "alice", strict), plain(4)]).await;
    world.work().await.unwrap();
    assert_eq!(statements(&world).await, ["select 1", "select 3", "select 4"]);
    let failed = world.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert_eq!(failed[0].reason, "App\\Jobs\\ProcessAuditLog has timed out: others could be stored, and it could not");
    assert_eq!((failed.len(), world.sizes().await.total()), (1, 0));
}

/// A store that hangs is one that does not answer: each try ends after the job's own second.
#[tokio::test]
async fn a_jobs_timeout_ends_a_try_and_gives_nothing_up() {
    let mut world = World::new().await;
    world.laravel = Some(jobs());
    world.store.hangs.store(true, Ordering::Relaxed);
    let strict =
        |seconds| JobLimits { tries: Some(1), timeout: Some(seconds), fail_on_timeout: true, ..JobLimits::default() };
    world.push(&[job(1, CLASS, "alice", strict(1)), job(2, CLASS, "alice", strict(0))]).await;
    let store = Arc::clone(&world.store);
    let mending = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        store.hangs.store(false, Ordering::Relaxed);
    });
    world.work().await.unwrap();
    mending.await.unwrap();
    assert_eq!(statements(&world).await, ["select 1", "select 2"]);
    assert!(world.heard(|event| matches!(event, WorkEvent::Waiting { error, .. } if error.contains("1 s"))) > 0);
    assert_eq!(world.sizes().await.failed, 0);
}

#[tokio::test]
async fn a_job_that_was_tried_too_often_is_given_up_before_it_is_tried_again() {
    let mut world = World::with_retry_after(Duration::from_millis(100)).await;
    world.laravel = Some(jobs());
    world.push(&[job(1, CLASS, "alice", JobLimits { tries: Some(2), ..JobLimits::default() }), plain(2)]).await;
    // Two workers died over it.
    for _ in 0..2 {
        assert_eq!(world.queue.reserve(&[queue_name()], 1).await.unwrap().len(), 1);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    world.work().await.unwrap();
    assert_eq!(statements(&world).await, ["select 2"]);
    let failed = world.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert!(failed[0].reason.contains("has been attempted too many times"), "{}", failed[0].reason);
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}
