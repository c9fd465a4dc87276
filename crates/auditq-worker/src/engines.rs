//! The engines that a configuration names, opened.

use std::sync::Arc;
use std::time::Duration;

use auditq_config::{Config, EngineUrl, Layout, Scheme};
use auditq_queue::memory::MemoryQueue;
#[cfg(feature = "nats")]
use auditq_queue::nats::{NatsQueue, NatsQueueOptions};
#[cfg(feature = "redis")]
use auditq_queue::redis::{RedisQueue, RedisQueueOptions};
#[cfg(feature = "redis")]
use auditq_queue::{FailedJobs, FailedJobsOptions, PartedQueue};
use auditq_queue::{Queue, QueueAdmin, WallClock};
use auditq_store::{LaravelLayout, Store, StoreReader};

use crate::laravel::LaravelError;
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

/// The database that a queue is in: a store in the same one settles with it in one transaction.
pub(crate) enum QueueHome {
    /// None that can be shared.
    Apart,
    #[cfg(feature = "mysql")]
    Mysql(Arc<auditq_queue::mysql::MysqlQueue>),
    #[cfg(feature = "postgres")]
    Postgres(auditq_postgres::Database),
    #[cfg(feature = "sqlite")]
    Sqlite(auditq_sqlite::Database),
}

/// A store that can settle together with a queue in its database.
enum StoreHome {
    #[cfg(feature = "mysql")]
    Mysql(auditq_store::mysql::MysqlStore),
    #[cfg(feature = "postgres")]
    Postgres(auditq_store::postgres::PostgresStore),
    #[cfg(feature = "sqlite")]
    Sqlite(auditq_store::sqlite::SqliteStore),
}

impl Engines {
    /// Opens what `config` names, any queue with any store, and makes or updates their tables.
    ///
    /// # Errors
    /// As the drivers': `Unavailable` when a server does not answer, `Misconfigured` when it can never work.
    pub async fn open(config: &Config) -> Result<Self, SettleError> {
        let (queue, admin, queue_home) = open_queue(config)?;
        let (store, reader, store_home) = open_store(config)?;
        let settlement: Arc<dyn Settlement> = match (queue_home, store_home) {
            #[cfg(feature = "mysql")]
            (QueueHome::Mysql(queue), StoreHome::Mysql(store)) if queue.database().is_same(store.database()) => {
                crate::mysql::one_transaction(queue, store)
            }
            #[cfg(feature = "postgres")]
            (QueueHome::Postgres(queue), StoreHome::Postgres(store)) if queue.is_same(store.database()) => {
                crate::postgres::one_transaction(store)
            }
            #[cfg(feature = "sqlite")]
            (QueueHome::Sqlite(queue), StoreHome::Sqlite(store)) if queue.is_same(store.database()) => {
                crate::sqlite::one_transaction(store)
            }
            _ => Arc::new(StoreThenDelete { queue: queue.clone(), store: store.clone() }),
        };
        admin.migrate().await?;
        store.migrate().await?;
        Ok(Self { queue, admin, store, reader, settlement })
    }

    /// The queue that `config` names, for people, as it is: no table is made, and a server is not asked anything yet.
    ///
    /// # Errors
    /// `Misconfigured` when it can never work.
    pub fn queue_as_it_is(config: &Config) -> Result<Arc<dyn QueueAdmin>, SettleError> {
        let (_, admin, _) = open_queue(config)?;
        Ok(admin)
    }

    /// The store that `config` names, for people, as it is: no table is made, and a server is not asked anything yet.
    ///
    /// # Errors
    /// `Misconfigured` when it can never work.
    pub fn store_as_it_is(config: &Config) -> Result<Arc<dyn StoreReader>, SettleError> {
        let (_, reader, _) = open_store(config)?;
        Ok(reader)
    }
}

type QueueSide = (Arc<dyn Queue>, Arc<dyn QueueAdmin>, QueueHome);
type StoreSide = (Arc<dyn Store>, Arc<dyn StoreReader>, StoreHome);

fn open_queue(config: &Config) -> Result<QueueSide, SettleError> {
    let section = &config.queue;
    let url = &section.url;
    let retry_after = Duration::from_secs(section.retry_after_seconds());
    match url.scheme() {
        Scheme::Memory => {
            let queue = Arc::new(MemoryQueue::new(retry_after));
            Ok((queue.clone(), queue, QueueHome::Apart))
        }
        #[cfg(feature = "sqlite")]
        Scheme::Sqlite => {
            let queue = Arc::new(crate::sqlite::open_queue(section, wall(config)?)?);
            let home = QueueHome::Sqlite(queue.database().clone());
            Ok((queue.clone(), queue, home))
        }
        #[cfg(feature = "mysql")]
        Scheme::Mysql => {
            let queue = Arc::new(crate::mysql::open_queue(section, wall(config)?)?);
            Ok((queue.clone(), queue.clone(), QueueHome::Mysql(queue)))
        }
        #[cfg(feature = "postgres")]
        Scheme::Postgres => {
            let queue = Arc::new(crate::postgres::open_queue(section, wall(config)?)?);
            let home = QueueHome::Postgres(queue.database().clone());
            Ok((queue.clone(), queue, home))
        }
        #[cfg(feature = "redis")]
        Scheme::Redis => {
            let options = RedisQueueOptions { retry_after, ..RedisQueueOptions::default() };
            let queue = RedisQueue::open(url.with_password(), options)?;
            match failed_jobs(config)? {
                Some(failed) => {
                    let queue = Arc::new(PartedQueue::new(queue, failed));
                    Ok((queue.clone(), queue, QueueHome::Apart))
                }
                None => {
                    let queue = Arc::new(queue);
                    Ok((queue.clone(), queue, QueueHome::Apart))
                }
            }
        }
        #[cfg(feature = "nats")]
        Scheme::Nats => {
            let options = NatsQueueOptions { retry_after, ..NatsQueueOptions::default() };
            let queue = Arc::new(NatsQueue::open(url.with_password(), options)?);
            Ok((queue.clone(), queue, QueueHome::Apart))
        }
        #[allow(unreachable_patterns, reason = "a build with every engine has none left over")]
        _ => Err(unsupported("queue", url)),
    }
}

/// Where a Laravel application keeps what failed of a queue that is not in its database; `None` without one.
#[cfg(feature = "redis")]
fn failed_jobs(config: &Config) -> Result<Option<Arc<dyn FailedJobs>>, SettleError> {
    let Some(application) = &config.application else { return Ok(None) };
    let (url, options) = (&application.database_url, failed_jobs_options(config)?);
    match url.scheme() {
        #[cfg(feature = "sqlite")]
        Scheme::Sqlite => Ok(Some(Arc::new(crate::sqlite::open_failed_jobs(url, options)?))),
        #[cfg(feature = "mysql")]
        Scheme::Mysql => Ok(Some(Arc::new(crate::mysql::open_failed_jobs(url, options)?))),
        #[cfg(feature = "postgres")]
        Scheme::Postgres => Ok(Some(Arc::new(crate::postgres::open_failed_jobs(url, options)?))),
        _ => Err(unsupported("store", url)),
    }
}

/// Rows as the application writes them: under its connection's name, with times in its zone.
#[cfg(feature = "redis")]
fn failed_jobs_options(config: &Config) -> Result<FailedJobsOptions, SettleError> {
    Ok(FailedJobsOptions { wall: wall(config)?, ..FailedJobsOptions::new(config.queue.connection.as_str()) })
}

/// The clock by which the application notes when a job failed.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite", feature = "redis"))]
fn wall(config: &Config) -> Result<WallClock, SettleError> {
    let zone = auditq_laravel::Zone::named(&config.laravel.timezone);
    let zone = zone.ok_or_else(|| misconfigured(LaravelError::Timezone(config.laravel.timezone.clone())))?;
    Ok(WallClock::new(move |unix| zone.offset_at(unix)))
}

fn misconfigured(error: LaravelError) -> SettleError {
    auditq_store::Error::new(auditq_store::ErrorKind::Misconfigured, "laravel", error).into()
}

fn open_store(config: &Config) -> Result<StoreSide, SettleError> {
    let section = &config.store;
    let (url, layout) = (&section.url, laravel_layout(config)?);
    match url.scheme() {
        #[cfg(feature = "sqlite")]
        Scheme::Sqlite => {
            let store = crate::sqlite::open_store(section)?;
            let store = layout.into_iter().fold(store, auditq_store::sqlite::SqliteStore::with_layout);
            let shared = Arc::new(store.clone());
            Ok((shared.clone(), shared, StoreHome::Sqlite(store)))
        }
        #[cfg(feature = "mysql")]
        Scheme::Mysql => {
            let store = crate::mysql::open_store(section)?;
            let store = layout.into_iter().fold(store, auditq_store::mysql::MysqlStore::with_layout);
            let shared = Arc::new(store.clone());
            Ok((shared.clone(), shared, StoreHome::Mysql(store)))
        }
        #[cfg(feature = "postgres")]
        Scheme::Postgres => {
            let store = crate::postgres::open_store(section)?;
            let store = layout.into_iter().fold(store, auditq_store::postgres::PostgresStore::with_layout);
            let shared = Arc::new(store.clone());
            Ok((shared.clone(), shared, StoreHome::Postgres(store)))
        }
        _ => Err(unsupported("store", url)),
    }
}

/// How a table that a Laravel application made is to be filled; `None` where the table is auditq's own.
///
/// # Errors
/// `Misconfigured` when `laravel.timezone` is no zone.
pub fn laravel_layout(config: &Config) -> Result<Option<LaravelLayout>, SettleError> {
    if config.store.layout == Layout::Auditq {
        return Ok(None);
    }
    let zone = &config.laravel.timezone;
    let layout = LaravelLayout::new(config.store.columns.clone(), zone);
    let layout = layout.ok_or_else(|| misconfigured(LaravelError::Timezone(zone.clone())))?;
    Ok(Some(layout))
}

fn unsupported(what: &str, url: &EngineUrl) -> SettleError {
    let engines = match what {
        "store" => "SQLite, PostgreSQL and MySQL are stores",
        _ => "SQLite, PostgreSQL, MySQL, Redis and NATS hold queues",
    };
    let message = format!("this build has no engine for the {what} {url}; {engines}");
    auditq_store::Error::new(auditq_store::ErrorKind::Misconfigured, "none", message).into()
}
