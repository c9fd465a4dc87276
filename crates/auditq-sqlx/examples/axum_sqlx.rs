//! A web application with an audit log: the lines of the README at work.
//!
//! ```sh
//! cargo run -p auditq-sqlx --example axum_sqlx &
//! curl -H 'authorization: alice' localhost:3000/orders/1
//! cargo run -- work --stop-when-empty && cargo run -- log
//! ```

use auditq::{Actor, ActorExt};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use sqlx::{Sqlite, SqlitePool};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let shop = std::env::temp_dir().join(format!("auditq-example-{}.db", std::process::id()));
    let url = &format!("sqlite://{}?mode=rwc", shop.display());
    sqlx::raw_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL); INSERT INTO orders VALUES (1, 9.5)")
        .execute(&SqlitePool::connect(url).await?)
        .await?;

    let audit = auditq::Recorder::from_env()?;
    let pool = auditq_sqlx::AuditedPool::new(SqlitePool::connect(url).await?, &audit);
    let app = Router::new()
        .route("/orders/{id}", get(order))
        .layer(audit.layer(|request| request.extensions().get::<Session>().map(Session::actor)))
        .with_state(pool);

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 3000)).await?;
    axum::serve(listener, app.layer(from_fn(authenticate))).await?;
    Ok(())
}

/// What the application's authentication finds out about a request.
#[derive(Clone)]
struct Session {
    user: String,
}

impl Session {
    fn actor(&self) -> Actor {
        Actor::user(&self.user, &self.user)
    }
}

/// Stands for the application's own authentication, which would look at a cookie.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let user = request.headers().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    if let Some(user) = user {
        request.extensions_mut().insert(Session { user });
    }
    next.run(request).await
}

async fn order(
    State(pool): State<auditq_sqlx::AuditedPool<Sqlite>>,
    Path(id): Path<i64>,
) -> Result<String, StatusCode> {
    let total: f64 = sqlx::query_scalar("SELECT total FROM orders WHERE id = ?")
        .bind(id)
        .fetch_optional(&pool)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?
        .ok_or(StatusCode::NOT_FOUND)?;
    Ok(format!("{total}\n"))
}
