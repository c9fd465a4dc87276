//! What every command starts from: the configuration, and the engines that it names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use auditq_config::{Config, EngineUrl, Scheme};
use auditq_queue::QueueName;
use auditq_sqlite::{Database, Options};
use auditq_store::StoreReader;
use auditq_store::sqlite::SqliteStore;
use auditq_worker::{Engines, laravel_layout};

/// The configuration that a command works with.
#[derive(Debug)]
pub(crate) struct Session {
    /// Defaults, file and environment; flags are the command's business.
    pub(crate) config: Config,
}

impl Session {
    /// Loads the configuration from `file`, or the default one, and from the environment; with `laravel`, from the
    /// application in that folder too.
    pub(crate) fn load(file: Option<PathBuf>, laravel: Option<PathBuf>) -> Result<Self> {
        // An empty variable counts as unset, as everywhere in the environment.
        let file = file.filter(|file| !file.as_os_str().is_empty());
        let laravel = laravel.map(|dir| (OsString::from("AUDITQ_LARAVEL"), dir.into_os_string()));
        Ok(Self { config: Config::load(file.as_deref(), std::env::vars_os().chain(laravel))? })
    }

    /// Opens queue and store, which must be there: a look at them makes no empty ones.
    pub(crate) async fn engines(&self) -> Result<Engines> {
        must_exist(&self.config.queue.url)?;
        must_exist(&self.config.store.url)?;
        self.create_engines().await
    }

    /// Opens the store alone, which must be there, for those who have no queue: a backup, an auditor's copy.
    ///
    /// One that this user may not write is only looked at.
    pub(crate) async fn log(&self) -> Result<Arc<dyn StoreReader>> {
        let url = &self.config.store.url;
        must_exist(url)?;
        if url.scheme() == Scheme::Sqlite && !may_write(&url.file()) {
            let database = Database::open(&url.file(), Options { read_only: true, ..Options::default() })?;
            let store = sqlite_store(&self.config, database)?;
            store.check().await?;
            return Ok(Arc::new(store));
        }
        let mut config = self.config.clone();
        config.queue.url = EngineUrl::memory();
        Ok(Engines::open(&config).await?.reader)
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

/// The log in a SQLite file, whoever made its table.
pub(crate) fn sqlite_store(config: &Config, database: Database) -> Result<SqliteStore> {
    let store = SqliteStore::new(database);
    Ok(laravel_layout(config)?.into_iter().fold(store, SqliteStore::with_layout))
}

/// True when this user may write the file, and beside it.
fn may_write(file: &Path) -> bool {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    [file, folder].iter().all(|path| rustix::fs::access(*path, rustix::fs::Access::WRITE_OK).is_ok())
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
