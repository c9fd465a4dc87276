//! The engines that a configuration names, opened.

use std::sync::Arc;
use std::time::Duration;

use auditq_config::{Config, EngineUrl, Scheme};
use auditq_queue::memory::MemoryQueue;
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

impl Engines {
    /// Opens what `config` names, and makes or updates their tables where the engine is embedded.
    ///
    /// # Errors
    /// As the drivers': `Unavailable` when a server does not answer, `Misconfigured` when it can never work.
    pub async fn open(config: &Config) -> Result<Self, SettleError> {
        let retry_after = Duration::from_secs(config.queue.retry_after_seconds());
        let engines = match (config.queue.url.scheme(), config.store.url.scheme()) {
            #[cfg(feature = "sqlite")]
            (Scheme::Sqlite, Scheme::Sqlite) => {
                let queue = Arc::new(crate::sqlite::open_queue(&config.queue.url, retry_after)?);
                let store = Arc::new(crate::sqlite::open_store(&config.store.url)?);
                let settlement = crate::sqlite::settlement(&queue, &store);
                Self { queue: queue.clone(), admin: queue, store: store.clone(), reader: store, settlement }
            }
            #[cfg(feature = "sqlite")]
            (Scheme::Memory, Scheme::Sqlite) => {
                let queue = Arc::new(MemoryQueue::new(retry_after));
                let store = Arc::new(crate::sqlite::open_store(&config.store.url)?);
                let settlement = Arc::new(StoreThenDelete { queue: queue.clone(), store: store.clone() });
                Self { queue: queue.clone(), admin: queue, store: store.clone(), reader: store, settlement }
            }
            _ => return Err(unsupported(&config.queue.url, &config.store.url)),
        };
        engines.admin.migrate().await?;
        engines.store.migrate().await?;
        Ok(engines)
    }
}

fn unsupported(queue: &EngineUrl, store: &EngineUrl) -> SettleError {
    let message =
        format!("this build has no engine for the queue {queue} with the store {store}; use sqlite:FILE for both");
    auditq_store::Error::new(auditq_store::ErrorKind::Misconfigured, "none", message).into()
}
