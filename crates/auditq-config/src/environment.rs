use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::Config;
use crate::application::Settings;
use crate::error::ConfigError;
use crate::file::Given;
use crate::sections::{Durability, Layout, Secret};
use crate::url::{EngineUrl, Scheme};

/// The variables that auditq reads; any other `AUDITQ_*` is taken for a misspelling.
const KNOWN: &[&str] = &[
    "APP_KEY",
    "APP_PREVIOUS_KEYS",
    "AUDIT_LOG_ENABLED",
    "AUDIT_LOG_TTL",
    "QUEUE_CONNECTION",
    "QUEUE_NAME",
    "AUDITQ_APP",
    "AUDITQ_CONFIG",
    "AUDITQ_DURABILITY",
    "AUDITQ_LARAVEL",
    "AUDITQ_LOG",
    "AUDITQ_QUEUE_URL",
    "AUDITQ_REDACTION_KEY",
    "AUDITQ_SPOOL_DIR",
    "AUDITQ_STORE_URL",
];

/// What the project's own tests are told: no setting.
const FOR_TESTS: &str = "AUDITQ_TEST_";

/// How the names of variables begin that a Laravel application reads as well.
const OF_APPLICATIONS: &[&str] = &["APP_", "CACHE_", "DATABASE_URL", "DB_", "MYSQL_ATTR_SSL_CA", "QUEUE_", "REDIS_"];

/// The variables of the environment that concern auditq.
pub(crate) struct Environment {
    ours: BTreeMap<String, String>,
    /// What an application's `.env` does not override.
    of_applications: BTreeMap<String, String>,
}

impl Environment {
    pub(crate) fn read<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        let (mut ours, mut of_applications) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in variables {
            let Ok(name) = name.into().into_string() else { continue };
            let value = value.into();
            if let Some(value) = value.to_str().filter(|_| OF_APPLICATIONS.iter().any(|begin| name.starts_with(begin)))
            {
                of_applications.insert(name.clone(), value.to_owned());
            }
            if KNOWN.contains(&name.as_str()) {
                let value = value.into_string();
                let value = value.map_err(|_| ConfigError::variable(&name, "is not UTF-8"))?;
                ours.insert(name, value);
            } else if name.starts_with("AUDITQ_") && !name.starts_with(FOR_TESTS) {
                let known: Vec<_> = KNOWN.iter().filter(|known| known.starts_with("AUDITQ_")).copied().collect();
                return Err(ConfigError::variable(&name, format!("is unknown; known are {}", known.join(", "))));
            }
        }
        Ok(Self { ours, of_applications })
    }

    /// Takes what the file `given` does not say from the `.env` of the Laravel application, where one is served.
    ///
    /// Its variables that are auditq's too, such as `QUEUE_NAME`, count unless the process has them.
    pub(crate) fn serve(&self, config: &mut Config, given: &Given) -> Result<(), ConfigError> {
        if let Some(dir) = self.get("AUDITQ_LARAVEL") {
            config.laravel.app = Some(PathBuf::from(dir));
        }
        let Some(dir) = config.laravel.app.clone() else { return Ok(()) };
        let settings = Settings::read(&dir, &self.of_applications)?;
        config.laravel.keys = settings.keys();
        if let Some(name) = settings.get("QUEUE_NAME").filter(|_| !given.has("queue", "name")) {
            name.clone_into(&mut config.queue.name);
        }
        if !given.has("laravel", "timezone") {
            config.laravel.timezone = settings.timezone()?.map_or_else(|| "UTC".to_owned(), |(zone, _)| zone);
        }
        let application = settings.application()?;
        if !given.has("queue", "url") {
            if self.get("AUDITQ_QUEUE_URL").is_none() {
                settings.jobs_are_within_reach()?;
            }
            config.queue.url = application.queue_url.clone();
        }
        if !given.has("queue", "connection") {
            application.connection.clone_into(&mut config.queue.connection);
        }
        if !given.has("queue", "retry_after") {
            config.queue.retry_after = Some(application.retry_after);
        }
        if !given.has("store", "url") {
            config.store.url = application.database_url.clone();
        }
        if !given.has("worker", "batch") {
            // A job holds one statement where a message of auditq's holds hundreds.
            config.worker.batch = 1_000;
        }
        let on_server = matches!(config.queue.url.scheme(), Scheme::Mysql | Scheme::Postgres);
        if on_server && !given.has("worker", "workers") {
            // While one waits for the server's disk, others can go on.
            config.worker.workers = 4;
        }
        if !given.has("store", "layout") {
            config.store.layout = Layout::Laravel;
        }
        if !given.has("spool", "dir") {
            config.spool.dir = application.dir.join("storage/auditq-spool");
        }
        config.application = Some(application);
        Ok(())
    }

    /// An empty variable counts as unset, as in a shell's `NAME= command`.
    fn get(&self, name: &str) -> Option<&str> {
        self.ours.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        self.get("AUDITQ_CONFIG").map(PathBuf::from)
    }

    pub(crate) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(value) = self.get("AUDIT_LOG_ENABLED") {
            config.capture.enabled = boolean("AUDIT_LOG_ENABLED", value)?;
        }
        if let Some(value) = self.get("AUDIT_LOG_TTL") {
            config.capture.ttl = value.parse().map_err(|_| {
                ConfigError::variable("AUDIT_LOG_TTL", format!("is {value:?}, not a number of seconds"))
            })?;
        }
        if let Some(value) = self.get("QUEUE_NAME") {
            value.clone_into(&mut config.queue.name);
        }
        if let Some(value) = self.get("AUDITQ_APP") {
            config.capture.app = Some(value.to_owned());
        }
        if let Some(value) = self.get("AUDITQ_SPOOL_DIR") {
            config.spool.dir = PathBuf::from(value);
        }
        if let Some(value) = self.get("AUDITQ_DURABILITY") {
            config.spool.durability = durability(value)?;
        }
        if let Some(value) = self.get("AUDITQ_REDACTION_KEY") {
            if value.len() != 64 || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(ConfigError::variable("AUDITQ_REDACTION_KEY", "takes 64 hexadecimal digits (32 bytes)"));
            }
            config.capture.redact.key = Some(Secret::new(value));
        }
        if let Some(value) = self.get("AUDITQ_STORE_URL") {
            config.store.url = url("AUDITQ_STORE_URL", value)?;
        }
        if config.application.is_none() {
            let previous = self.get("APP_PREVIOUS_KEYS").unwrap_or_default().split(',');
            let keys = self.get("APP_KEY").into_iter().chain(previous).map(str::trim).filter(|key| !key.is_empty());
            config.laravel.keys = keys.map(Secret::new).collect();
        }
        self.apply_queue(config)
    }

    /// `QUEUE_CONNECTION` names a connection of Laravel's; of those, `database` and `sqlite` are the default engine.
    fn apply_queue(&self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(value) = self.get("AUDITQ_QUEUE_URL") {
            config.queue.url = url("AUDITQ_QUEUE_URL", value)?;
            return Ok(());
        }
        match self.get("QUEUE_CONNECTION") {
            None | Some("database" | "sqlite") => Ok(()),
            // What its own `.env` says was understood.
            Some(_) if config.application.is_some() => Ok(()),
            Some(_) if config.queue.url != EngineUrl::default() => Ok(()),
            Some(other) => Err(ConfigError::variable(
                "QUEUE_CONNECTION",
                format!(
                    "is {other:?}, which does not say where the queue is; set AUDITQ_QUEUE_URL, such as sqlite:auditq.db"
                ),
            )),
        }
    }
}

/// Laravel's `env()` takes these, and so does everyone who writes a `.env` file.
fn boolean(name: &str, value: &str) -> Result<bool, ConfigError> {
    match value.trim_matches(['(', ')']).to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err(ConfigError::variable(name, format!("is {value:?}; it takes true or false"))),
    }
}

fn durability(value: &str) -> Result<Durability, ConfigError> {
    match value {
        "process" => Ok(Durability::Process),
        "fsync" => Ok(Durability::Fsync),
        _ => Err(ConfigError::variable("AUDITQ_DURABILITY", format!("is {value:?}; it takes process or fsync"))),
    }
}

fn url(name: &str, value: &str) -> Result<EngineUrl, ConfigError> {
    EngineUrl::parse(value).map_err(|message| ConfigError::variable(name, format!("is not usable: {message}")))
}
