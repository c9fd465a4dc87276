//! The application: an axum server with a sqlx pool, audited as a user's own would be.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use auditq::{Actor, ActorOfRequest as _, Recorder};
use auditq_sqlx::AuditedPool;
use axum::Router;
use axum::routing::{delete, get, post, put};
use sqlx::Sqlite;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::analytics::{self, Query};
use super::meter::Meter;
use super::refresh::Refresh;
use super::sessions::{Sessions, SignedIn, authenticate};
use super::{routes, secrets::Secrets};

/// Connections of the application's pool.
const CONNECTIONS: u32 = 8;
/// SQLite takes one writer at a time, and the others wait.
const WRITER_WAITS_AT_MOST: Duration = Duration::from_secs(60);

/// What every handler works with.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) pool: AuditedPool<Sqlite>,
    pub(super) refresh: Refresh,
    pub(super) reports: Vec<Query>,
    pub(super) meter: Arc<Meter>,
    pub(super) secrets: Arc<Secrets>,
}

/// The application at work.
#[derive(Debug)]
pub(super) struct Server {
    /// Where it listens on the loopback interface.
    pub(super) port: u16,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
    pool: AuditedPool<Sqlite>,
}

impl Server {
    /// Opens the shop's database and serves it on a free port.
    pub(super) async fn start(
        database: &Path,
        recorder: &Recorder,
        sessions: Sessions,
        meter: Arc<Meter>,
        secrets: Arc<Secrets>,
    ) -> Result<Self> {
        let pool = AuditedPool::new(open(database).await?, recorder);
        let (refresh, reports) = (Refresh::generate(), analytics::queries());
        let shop = Shop { pool: pool.clone(), refresh, reports, meter, secrets };
        let router = router(Arc::new(shop), recorder, Arc::new(sessions));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on the loopback interface")?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = oneshot::channel();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
            // A sender that is gone asks for the same.
            let _asked = stopped.await;
        });
        Ok(Self { port, stop, task: tokio::spawn(serving.into_future()), pool })
    }

    /// Stops serving, and gives up pool and recorder.
    pub(super) async fn stop(self) -> Result<()> {
        // A server that has ended already is asked for its error below.
        let _gone = self.stop.send(());
        self.task.await?.context("the demo's application failed")?;
        self.pool.close().await;
        Ok(())
    }
}

async fn open(database: &Path) -> Result<sqlx::SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(WRITER_WAITS_AT_MOST);
    let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(WRITER_WAITS_AT_MOST);
    pool.connect_with(options).await.with_context(|| format!("cannot open the demo's shop in {}", database.display()))
}

fn router(shop: Arc<Shop>, recorder: &Recorder, sessions: Arc<Sessions>) -> Router {
    Router::new()
        .route("/customers/{id}", get(routes::customer))
        .route("/orders/{key}", get(routes::order))
        .route("/parts/{id}", get(routes::part))
        .route("/nations", get(routes::nations))
        .route("/reports/{number}", get(routes::report))
        .route("/orders", post(routes::place_order).delete(routes::remove_order))
        .route("/parts/{id}/price", put(routes::try_price))
        .route("/customers/{id}/cart", delete(routes::abandon_cart))
        .route("/regions", post(routes::add_region))
        .route("/returns", get(routes::returns))
        .route("/nations", post(routes::add_nation))
        .route("/account", get(routes::account))
        .route("/account/password", put(routes::change_password).get(routes::check_password))
        .with_state(shop)
        .layer(recorder.layer(Actor::from_extension::<SignedIn>))
        .layer(axum::middleware::from_fn_with_state(sessions, authenticate))
}
