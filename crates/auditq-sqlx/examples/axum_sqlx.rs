//! A web application with an audit log: what auditq adds is marked with `// +`.
//!
//! ```sh
//! cargo run -p auditq-sqlx --example axum_sqlx &
//! curl -H 'authorization: alice' localhost:3000/orders/1
//! cargo run -- work --stop-when-empty && cargo run -- log
//! ```

use auditq::{Actor, ActorExt, Recorder};
use auditq_sqlx::AuditedPool;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::routing::get;
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePoolOptions;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    sqlx::raw_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL); INSERT INTO orders VALUES (1, 9.5)")
        .execute(&pool)
        .await?;

    let audit = Recorder::from_env()?; // +
    let pool = AuditedPool::new(pool, &audit); // +
    let app = Router::new()
        .route("/orders/{id}", get(order))
        .layer(audit.layer(signed_in)) // +
        .with_state(pool);

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 3000)).await?;
    axum::serve(listener, app).await?;
    Ok(())
}

/// Stands for the application's own authentication, which would look at a session.
fn signed_in(request: &Request) -> Option<Actor> {
    let name = request.headers().get("authorization")?.to_str().ok()?;
    Some(Actor::user(name, name))
}

async fn order(State(pool): State<AuditedPool<Sqlite>>, Path(id): Path<i64>) -> Result<String, StatusCode> {
    let total: f64 = sqlx::query_scalar("SELECT total FROM orders WHERE id = ?")
        .bind(id)
        .fetch_optional(&pool)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?
        .ok_or(StatusCode::NOT_FOUND)?;
    Ok(format!("{total}\n"))
}
