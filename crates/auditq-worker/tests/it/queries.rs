//! Messages of the package for Laravel: many events each, none of which holds up the others.

use std::time::Duration;

use auditq_queue::{FailedFilter, MessageId, NewMessage, QueueAdmin, Selection};
use auditq_store::{Filter, StoreReader};

use crate::support::{World, message_of, queries, queue_name};

fn message(uuid: u128, payload: String) -> NewMessage {
    let id = MessageId::new(uuid::Uuid::from_u128(uuid).to_string());
    NewMessage { id, queue: queue_name(), payload: payload.into(), delay: Duration::ZERO }
}

#[tokio::test]
async fn each_query_becomes_a_row_beside_messages_of_ours() {
    let world = World::new().await;
    world.push(&[message(1, queries(1, &[(1, "alice"), (2, "bob")])), message_of(3..5)]).await;
    world.work().await.unwrap();
    assert_eq!(world.stored().await, [1, 2, 3, 4]);
    assert_eq!(world.sizes().await.total(), 0);
    let rows = world.store.inner.search(&Filter { user: Some("bob".to_owned()), ..Filter::default() }).await.unwrap();
    let event = &rows.rows[0].event;
    assert_eq!((event.database.app.as_deref(), event.database.pid), (Some("shop"), Some(17)));
    assert_eq!(event.origin.url_path.as_deref(), Some("/orders"));
}

#[tokio::test]
async fn a_message_that_comes_twice_is_stored_once() {
    let world = World::new().await;
    for _ in 0..2 {
        world.push(&[message(1, queries(1, &[(1, "alice"), (2, "alice")]))]).await;
        world.work().await.unwrap();
    }
    assert_eq!(world.stored().await, [1, 2]);
}

#[tokio::test]
async fn only_what_the_store_refuses_is_tried_again_and_given_up() {
    let world = World::new().await;
    world.refuse("refused").await;
    world.push(&[message(1, queries(1, &[(1, "alice"), (2, "refused"), (3, "bob")]))]).await;
    world.work().await.unwrap();
    assert_eq!(world.stored().await, [1, 3]);
    assert_eq!(world.buried_after(), [3]);
    let failed = world.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].id.as_str(), uuid::Uuid::from_u128(1).to_string());
    world.accept_all().await;
    world.queue.retry(&Selection::all()).await.unwrap();
    world.work().await.unwrap();
    assert_eq!(world.stored().await, [1, 2, 3]);
}

#[tokio::test]
async fn a_damaged_query_is_given_up_with_its_reason_and_the_others_are_stored() {
    let world = World::new().await;
    let damaged = queries(1, &[(1, "alice"), (2, "alice")]).replacen("\\\"statement\\\":0", "\\\"statement\\\":9", 1);
    world
        .push(&[message(1, damaged), message(2, "{\"job\":\"auditq@queries\",\"data\":{\"auditq\":7}}".to_owned())])
        .await;
    world.work().await.unwrap();
    assert_eq!(world.stored().await, [2]);
    let failed = world.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    let mut reasons: Vec<&str> = failed.iter().map(|failed| failed.reason.as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            "cannot read item 0 of the queries: its statement is not in the message",
            "cannot read the queries: data.auditq is 7, this release reads 1; upgrade auditq, then retry",
        ]
    );
}
