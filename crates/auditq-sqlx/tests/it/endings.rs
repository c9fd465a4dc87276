use std::time::Duration;

use auditq::{Binding, InContext, Status};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqlitePoolOptions;

use crate::support::{alice, shop};

#[tokio::test]
async fn a_statement_that_the_database_refuses_is_recorded_with_code_and_message() {
    let shop = shop().await;
    let query = sqlx::query("INSERT INTO orders (id, customer, total) VALUES (?, 'x', 1)").bind(1);
    query.execute(&shop.pool).audited(alice()).await.unwrap_err();
    let event = shop.event();
    assert_eq!((event.outcome.status, event.outcome.error_code.as_deref()), (Status::Error, Some("1555")));
    assert_eq!(event.outcome.error_message.as_deref(), Some("UNIQUE constraint failed: orders.id"));
    assert_eq!(event.bindings, [Binding::Int(1)]);
}

#[tokio::test]
async fn a_statement_that_is_no_sql_is_recorded() {
    let shop = shop().await;
    sqlx::query("SELEKT 1").fetch_optional(&shop.pool).audited(alice()).await.unwrap_err();
    let event = shop.event();
    assert_eq!(event.outcome.status, Status::Error);
    assert!(event.outcome.error_message.unwrap().contains("SELEKT"));
}

#[tokio::test]
async fn an_error_message_does_not_give_away_a_secret() {
    let shop = shop().await;
    let query = sqlx::query("INSERT INTO users (name, password) VALUES (?, abs(?))");
    query.bind("a").bind("hunter2 hunter2").execute(&shop.pool).audited(alice()).await.ok();
    let raised = sqlx::query("UPDATE users SET password = 'open sesame', missing = 1");
    raised.execute(&shop.pool).audited(alice()).await.unwrap_err();
    let text = format!("{:?}", shop.events());
    assert!(!text.contains("hunter2") && !text.contains("open sesame"), "{text}");
}

#[tokio::test]
async fn a_stream_that_is_read_half_way_was_cancelled() {
    let shop = shop().await;
    async {
        let mut rows = sqlx::query("SELECT id FROM orders").fetch(&shop.pool);
        rows.try_next().await.unwrap().unwrap();
        rows.try_next().await.unwrap().unwrap();
    }
    .audited(alice())
    .await;
    let event = shop.event();
    assert_eq!((event.outcome.status, event.outcome.rows_returned), (Status::Cancelled, Some(2)));
}

#[tokio::test]
async fn a_future_that_is_dropped_while_it_runs_was_cancelled() {
    let shop = shop().await;
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT max(i) FROM n";
    let query = sqlx::query(slow).fetch_one(&shop.pool).audited(alice());
    assert!(tokio::time::timeout(Duration::from_millis(5), query).await.is_err());
    let event = shop.event();
    assert_eq!(event.outcome.status, Status::Cancelled);
    assert!(event.duration_us >= 1_000, "{}", event.duration_us);
}

#[tokio::test]
async fn a_future_that_is_never_polled_ran_nothing() {
    let shop = shop().await;
    alice().run(|| {
        drop(sqlx::query("DELETE FROM orders").fetch(&shop.pool));
        drop(sqlx::query("DELETE FROM orders").fetch_all(&shop.pool));
    });
    assert_eq!(shop.records().len(), 0);
}

#[tokio::test]
async fn an_attempt_that_gets_no_connection_is_recorded() {
    let shop = shop().await;
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(1))
        .connect("sqlite::memory:")
        .await
        .unwrap();
    let pool = auditq_sqlx::AuditedPool::new(pool, &shop.recorder);
    let held = pool.acquire().await.unwrap();
    sqlx::query("SELECT 1").execute(&pool).audited(alice()).await.unwrap_err();
    drop(held);
    let event = shop.event();
    assert_eq!(event.outcome.status, Status::Error);
    assert!(event.outcome.error_message.unwrap().contains("timed out"));
}
