//! The tracing layer beside an audited pool, with sqlx's own events. A program of its own, because SQLite's threads
//! write to the subscriber of the whole process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use auditq::{AuditqLayer, InContext};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

#[path = "it/support.rs"]
#[expect(dead_code, reason = "shared with the other tests, which need more of it")]
mod support;

use support::{alice, shop};

#[tokio::test]
async fn a_pool_that_nobody_wrapped_is_recorded_and_a_wrapped_one_only_once() {
    let shop = shop().await;
    let layer = AuditqLayer::new(&shop.recorder);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    async {
        let span = tracing::info_span!("request");
        sqlx::query("SELECT id FROM orders WHERE id = 1").fetch_all(&shop.pool).instrument(span.clone()).await.unwrap();
        sqlx::query("SELECT id FROM orders WHERE id = 2").fetch_one(&shop.pool).instrument(span.clone()).await.unwrap();
        sqlx::query("SELECT id FROM orders WHERE id = 3").fetch_all(shop.pool.inner()).instrument(span).await.unwrap();
    }
    .audited(alice())
    .await;
    // SQLite's threads write their events after the answer: they have when they are gone.
    shop.pool.close().await;
    let mut events = shop.events();
    // The pool may have made a connection for a statement that went past the wrapper, and set it up.
    events.retain(|event| event.statement.operation == auditq::Operation::Select);
    events.sort_by(|one, other| one.statement.sql.cmp(&other.statement.sql));
    let sql: Vec<_> = events.iter().map(|event| event.statement.sql.as_str()).collect();
    assert_eq!(sql, [1, 2, 3].map(|id| format!("SELECT id FROM orders WHERE id = {id}")));
    assert!(events.iter().all(|event| event.actor.username.as_deref() == Some("alice")));
    assert_eq!(events[2].outcome.rows_returned, Some(1));
}
