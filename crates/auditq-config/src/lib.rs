//! The one configuration of auditq: defaults, auditq.toml, environment.
//!
//! The same file serves the application that records and the worker that stores. Flags come last and are the
//! business of the binary.

mod application;
mod cached;
mod connections;
mod dotenv;
mod environment;
mod error;
mod file;
mod laravel;
mod php_config;
mod sections;
mod url;

use std::path::{Path, PathBuf};

pub use application::{Application, Cache};
pub use error::ConfigError;
pub use laravel::{LARAVEL_PARTS, Laravel};
pub use sections::{
    Capture, Duplicates, Durability, Layout, Limits, Literals, Partitions, Queue, RETRY_AFTER_SECONDS, Redact, Secret,
    Spool, Store, WhenFull, Worker,
};
pub use url::{EngineUrl, Scheme};

/// Everything that can be set, validated.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is recorded of a statement.
    pub capture: Capture,
    /// The local log between application and queue.
    pub spool: Spool,
    /// Where messages wait.
    pub queue: Queue,
    /// Where rows end up.
    pub store: Store,
    /// How messages become rows.
    pub worker: Worker,
    /// The jobs of a Laravel application that are served.
    pub laravel: Laravel,
    /// The file it was read from.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// The Laravel application that `laravel.app` names, as its `.env` describes it.
    #[serde(skip)]
    pub application: Option<Application>,
}

/// The file that is read when no other is named.
pub const DEFAULT_FILE: &str = "auditq.toml";

impl Config {
    /// Loads defaults, then `auditq.toml` where there is one, then the process's environment.
    ///
    /// `AUDITQ_CONFIG` names another file, which must exist.
    ///
    /// # Errors
    /// An unknown key, a value out of its range, or a file that cannot be read: the error names key and file.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::load(None, std::env::vars_os())
    }

    /// Loads from a named file, or the default one when `file` is `None`, and from the given variables.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn load<K, V>(file: Option<&Path>, variables: impl IntoIterator<Item = (K, V)>) -> Result<Self, ConfigError>
    where
        K: Into<std::ffi::OsString>,
        V: Into<std::ffi::OsString>,
    {
        let environment = environment::Environment::read(variables)?;
        let (mut config, given) = match file.map(Path::to_owned).or_else(|| environment.config_file()) {
            Some(named) => file::read(&named)?.ok_or_else(|| ConfigError::missing_file(&named))?,
            None => file::read(Path::new(DEFAULT_FILE))?.unwrap_or_default(),
        };
        environment.serve(&mut config, &given)?;
        environment.apply(&mut config)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what one value cannot say alone.
    ///
    /// # Errors
    /// The first rule that is broken, with what to do about it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.spool.validate()?;
        self.worker.validate()?;
        self.queue.validate(self.worker.timeout)?;
        self.store.validate()
    }
}
