//! What every command starts from: the configuration, and the engines that it names.

use std::path::PathBuf;

use anyhow::{Result, bail};
use auditq_config::{Config, EngineUrl, Scheme};
use auditq_queue::QueueName;
use auditq_worker::Engines;

/// The configuration that a command works with.
#[derive(Debug)]
pub(crate) struct Session {
    /// Defaults, file and environment; flags are the command's business.
    pub(crate) config: Config,
}

impl Session {
    /// Loads the configuration from `file`, or the default one, and from the environment.
    pub(crate) fn load(file: Option<PathBuf>) -> Result<Self> {
        // An empty variable counts as unset, as everywhere in the environment.
        let file = file.filter(|file| !file.as_os_str().is_empty());
        Ok(Self { config: Config::load(file.as_deref(), std::env::vars_os())? })
    }

    /// Opens queue and store, which must be there: a look at them makes no empty ones.
    pub(crate) async fn engines(&self) -> Result<Engines> {
        must_exist(&self.config.queue.url)?;
        must_exist(&self.config.store.url)?;
        self.create_engines().await
    }

    /// Opens queue and store, and makes what is missing.
    pub(crate) async fn create_engines(&self) -> Result<Engines> {
        Ok(Engines::open(&self.config).await?)
    }

    /// The queue that events are pushed to.
    pub(crate) fn queue(&self) -> Result<QueueName> {
        Ok(QueueName::new(self.config.queue.name.as_str())?)
    }
}

fn must_exist(url: &EngineUrl) -> Result<()> {
    if url.scheme() == Scheme::Sqlite && !url.file().exists() {
        bail!(
            "there is no database at {}; run `auditq migrate` to make it, or name another one with --config, \
             AUDITQ_QUEUE_URL or AUDITQ_STORE_URL",
            url.file().display()
        );
    }
    Ok(())
}
