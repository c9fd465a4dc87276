//! The engines that a configuration names, opened.

use std::sync::Arc;
use std::time::Duration;

use auditq_config::{Config, EngineUrl, Scheme};
use auditq_queue::memory::MemoryQueue;
#[cfg(feature = "redis")]
use auditq_queue::redis::{RedisQueue, RedisQueueOptions};
use auditq_queue::{Queue, QueueAdmin};
use auditq_store::{Store, StoreReader};

use crate::settlement::{SettleError, Settlement, StoreThenDelete};

/// A queue and a store, and how they settle together.
#[derive(Clone, Debug)]
pub struct Engines {
    /// Where messages wait.
    pub queue: Arc<dyn Queue>,
    /// The same queue, for people.
    pub admin: Arc<dyn QueueAdmin>,
    /// Where rows go.
    pub store: Arc<dyn Store>,
    /// The same store, for people.
    pub reader: Arc<dyn StoreReader>,
    /// One transaction where they share a database, else the rows first and the messages after.
    pub settlement: Arc<dyn Settlement>,
}

/// A database in which a queue or a store may be: where both are in the same one, they settle in one transaction.
pub(crate) enum Home {
    /// None that can be shared.
    Apart,
    #[cfg(feature = "mysql")]
    Mysql(auditq_mysql::Database),
    #[cfg(feature = "postgres")]
    Postgres(auditq_postgres::Database),
    #[cfg(feature = "sqlite")]
    Sqlite(auditq_sqlite::Database),
}

impl Engines {
    /// Opens what `config` names, any queue with any store, and makes or updates their tables.
    ///
    /// # Errors
    /// As the drivers': `Unavailable` when a server does not answer, `Misconfigured` when it can never work.
    pub async fn open(config: &Config) -> Result<Self, SettleError> {
        let retry_after = Duration::from_secs(config.queue.retry_after_seconds());
        let (queue, admin, queue_home) = open_queue(&config.queue.url, retry_after)?;
        let (store, reader, store_home) = open_store(&config.store)?;
        let settlement: Arc<dyn Settlement> = match (queue_home, store_home) {
            #[cfg(feature = "mysql")]
            (Home::Mysql(queue), Home::Mysql(store)) if queue.is_same(&store) => crate::mysql::one_transaction(queue),
            #[cfg(feature = "postgres")]
            (Home::Postgres(queue), Home::Postgres(store)) if queue.is_same(&store) => {
                crate::postgres::one_transaction(queue)
            }
            #[cfg(feature = "sqlite")]
            (Home::Sqlite(queue), Home::Sqlite(store)) if queue.is_same(&store) => {
                crate::sqlite::one_transaction(queue)
            }
            _ => Arc::new(StoreThenDelete { queue: queue.clone(), store: store.clone() }),
        };
        admin.migrate().await?;
        for warning in admin.warnings().await? {
            tracing::warn!(queue = %config.queue.url, "{warning}");
        }
        store.migrate().await?;
        Ok(Self { queue, admin, store, reader, settlement })
    }
}

type QueueSide = (Arc<dyn Queue>, Arc<dyn QueueAdmin>, Home);
type StoreSide = (Arc<dyn Store>, Arc<dyn StoreReader>, Home);

fn open_queue(url: &EngineUrl, retry_after: Duration) -> Result<QueueSide, SettleError> {
    match url.scheme() {
        Scheme::Memory => {
            let queue = Arc::new(MemoryQueue::new(retry_after));
            Ok((queue.clone(), queue, Home::Apart))
        }
        #[cfg(feature = "sqlite")]
        Scheme::Sqlite => {
            let queue = Arc::new(crate::sqlite::open_queue(url, retry_after)?);
            let home = Home::Sqlite(queue.database().clone());
            Ok((queue.clone(), queue, home))
        }
        #[cfg(feature = "mysql")]
        Scheme::Mysql => {
            let queue = Arc::new(crate::mysql::open_queue(url, retry_after)?);
            let home = Home::Mysql(queue.database().clone());
            Ok((queue.clone(), queue, home))
        }
        #[cfg(feature = "postgres")]
        Scheme::Postgres => {
            let queue = Arc::new(crate::postgres::open_queue(url, retry_after)?);
            let home = Home::Postgres(queue.database().clone());
            Ok((queue.clone(), queue, home))
        }
        #[cfg(feature = "redis")]
        Scheme::Redis => {
            let options = RedisQueueOptions { retry_after, ..RedisQueueOptions::default() };
            let queue = Arc::new(RedisQueue::open(url.with_password(), options)?);
            Ok((queue.clone(), queue, Home::Apart))
        }
        _ => Err(unsupported("queue", url)),
    }
}

fn open_store(section: &auditq_config::Store) -> Result<StoreSide, SettleError> {
    let url = &section.url;
    match url.scheme() {
        #[cfg(feature = "sqlite")]
        Scheme::Sqlite => {
            let store = Arc::new(crate::sqlite::open_store(url)?);
            let home = Home::Sqlite(store.database().clone());
            Ok((store.clone(), store, home))
        }
        #[cfg(feature = "mysql")]
        Scheme::Mysql => {
            let store = Arc::new(crate::mysql::open_store(url)?);
            let home = Home::Mysql(store.database().clone());
            Ok((store.clone(), store, home))
        }
        #[cfg(feature = "postgres")]
        Scheme::Postgres => {
            let store = Arc::new(crate::postgres::open_store(section)?);
            let home = Home::Postgres(store.database().clone());
            Ok((store.clone(), store, home))
        }
        _ => Err(unsupported("store", url)),
    }
}

fn unsupported(what: &str, url: &EngineUrl) -> SettleError {
    let engines = match what {
        "store" => "SQLite, PostgreSQL and MySQL are stores",
        _ => "SQLite, PostgreSQL, MySQL and Redis hold queues",
    };
    let message = format!("this build has no engine for the {what} {url}; {engines}");
    auditq_store::Error::new(auditq_store::ErrorKind::Misconfigured, "none", message).into()
}
