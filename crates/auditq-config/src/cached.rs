//! The settings of a Laravel application that `php artisan config:cache` has put together.
//!
//! Once that file is there Laravel reads neither `.env` nor `config/*.php`, so it is what counts here too.

mod exported;

use std::path::{Path, PathBuf};

use crate::application::{Application, Cache, Settings, text};
use crate::dotenv::Variables;
use crate::error::ConfigError;
use crate::sections::Secret;
use crate::url::EngineUrl;
use exported::Exported;

/// `PDO::MYSQL_ATTR_SSL_CA`, the file of certificates, as PHP numbers it with its own driver.
const SSL_CA: &str = "1009";

/// The connection to Redis where none is named.
const REDIS_DEFAULT: &str = "default";

/// Those settings.
#[derive(Debug)]
pub(crate) struct Cached {
    path: PathBuf,
    values: Exported,
}

impl Cached {
    /// Reads `bootstrap/cache/config.php`, or what `APP_CONFIG_CACHE` names, where it is.
    pub(crate) fn read(dir: &Path, process: &Variables) -> Result<Option<Self>, ConfigError> {
        let named = process.get("APP_CONFIG_CACHE").filter(|path| !path.is_empty());
        let path = dir.join(named.map_or("bootstrap/cache/config.php", String::as_str));
        let Some(text) = text(&path)? else { return Ok(None) };
        match exported::read(&text) {
            Ok(values) => Ok(Some(Self { path, values })),
            Err(line) => Err(ConfigError::Invalid {
                path,
                line: Some(line),
                message: "is not what `php artisan config:cache` writes; run that again, or `config:clear`".to_owned(),
            }),
        }
    }

    fn text(&self, path: &[&str]) -> Option<&str> {
        self.values.at(path)?.text()
    }

    fn refuse(&self, message: impl std::fmt::Display) -> ConfigError {
        ConfigError::Invalid { path: self.path.clone(), line: None, message: message.to_string() }
    }

    pub(crate) fn keys(&self) -> Vec<Secret> {
        let previous = match self.values.at(&["app", "previous_keys"]) {
            Some(Exported::Array(keys)) => keys.iter().filter_map(|(_, key)| key.text()).collect(),
            _ => Vec::new(),
        };
        self.text(&["app", "key"]).into_iter().chain(previous).map(Secret::new).collect()
    }

    pub(crate) fn timezone(&self) -> Option<&str> {
        self.text(&["app", "timezone"])
    }

    /// What these settings say of queue, database and cache.
    pub(crate) fn application(&self, dir: &Path) -> Result<Application, ConfigError> {
        let mut found =
            vec![format!("settings: {} (config:cache; Laravel does not read .env then)", self.path.display())];
        let database_url = self.database(dir, None)?;
        found.push(format!("database: {database_url} (database.default)"));
        let connection = self.text(&["queue", "default"]).unwrap_or("sync");
        let setting = |key: &str| self.text(&["queue", "connections", connection, key]);
        let queue_url = match setting("driver") {
            Some("database") => {
                if let Some(other) = setting("table").filter(|table| *table != "jobs") {
                    return Err(self.refuse(format!("has its jobs in the table {other:?}: auditq works on `jobs`")));
                }
                self.database(dir, setting("connection"))?
            }
            Some("redis") => self.redis(dir, setting("connection"), "queue")?.ok_or_else(|| {
                self.refuse(format!(
                    "has no connection {:?} to a single Redis server: say where its jobs are in queue.url of auditq.toml",
                    setting("connection").unwrap_or(REDIS_DEFAULT)
                ))
            })?,
            other => {
                let message = format!(
                    "has the queue connection {connection:?} with the driver {:?}; auditq serves `database` and `redis`",
                    other.unwrap_or("sync")
                );
                return Err(self.refuse(message));
            }
        };
        found.push(format!("queue: {connection} at {queue_url} (queue.default)"));
        let retry_after = setting("retry_after").map_or(Ok(90), str::parse);
        let retry_after = retry_after.map_err(|_| self.refuse("has a `retry_after` that is no number of seconds"))?;
        found.extend(self.timezone().map(|zone| format!("times: {zone} (app.timezone)")));
        found.push(format!("reservations: {retry_after} s (retry_after of that connection)"));
        let maintenance = match self.text(&["app", "maintenance", "driver"]) {
            Some("cache") => Some(self.cache(dir, self.text(&["app", "maintenance", "store"]))?),
            _ => None,
        };
        Ok(Application {
            dir: dir.to_owned(),
            connection: connection.to_owned(),
            queue_url,
            retry_after,
            database_url,
            cache: self.cache(dir, None)?,
            cache_prefix: self.cache_prefix().to_owned(),
            maintenance,
            found,
        })
    }

    /// The cache that the application calls `store`; without a name the one that it uses.
    fn cache(&self, dir: &Path, store: Option<&str>) -> Result<Cache, ConfigError> {
        let store = store.unwrap_or_else(|| self.default_store());
        let setting = |key: &str| self.text(&["cache", "stores", store, key]);
        Ok(match setting("driver") {
            Some("file") => {
                Cache::Files(setting("path").map_or_else(|| dir.join("storage/framework/cache/data"), PathBuf::from))
            }
            Some("database") => match setting("table") {
                Some(other) if other != "cache" => Cache::Unseen(format!("{store}, in the table {other}")),
                _ => Cache::Database(self.database(dir, setting("connection"))?),
            },
            Some("redis") => match self.redis(dir, setting("connection"), "cache")? {
                Some(url) => Cache::Redis(url),
                None => Cache::Unseen(format!("{store}, on a connection that is to no single Redis server")),
            },
            _ => Cache::Unseen(store.to_owned()),
        })
    }

    fn default_store(&self) -> &str {
        self.text(&["cache", "default"]).unwrap_or("file")
    }

    /// What the cache that the application uses puts before its keys.
    fn cache_prefix(&self) -> &str {
        let of_store = self.text(&["cache", "stores", self.default_store(), "prefix"]);
        of_store.or(self.text(&["cache", "prefix"])).unwrap_or_default()
    }

    /// The database that a connection is to; without a name the application's own.
    fn database(&self, dir: &Path, name: Option<&str>) -> Result<EngineUrl, ConfigError> {
        let name = name.or(self.text(&["database", "default"])).unwrap_or("sqlite");
        let setting = |key: &str| self.text(&["database", "connections", name, key]);
        let driver = setting("driver").ok_or_else(|| self.refuse(format!("has no database connection {name:?}")))?;
        if setting("prefix").is_some() {
            return Err(self.refuse(format!(
                "has a prefix for the tables of {name:?}: auditq works on `jobs` and `failed_jobs` by these names"
            )));
        }
        let named = [
            ("DB_URL", setting("url")),
            ("DB_HOST", setting("host")),
            ("DB_PORT", setting("port")),
            ("DB_DATABASE", setting("database")),
            ("DB_USERNAME", setting("username")),
            ("DB_PASSWORD", setting("password")),
            ("DB_SOCKET", setting("unix_socket")),
            ("DB_SSLMODE", setting("sslmode")),
            ("DB_CONNECTION", Some(driver)),
            ("MYSQL_ATTR_SSL_CA", self.text(&["database", "connections", name, "options", SSL_CA])),
        ];
        // What it would tell names variables.
        Settings::of(dir, named).database(&mut Vec::new())
    }

    /// The server that a connection to Redis is to, and what is before its keys; `None` when it is to no single one.
    fn redis(&self, dir: &Path, name: Option<&str>, what: &str) -> Result<Option<EngineUrl>, ConfigError> {
        let name = name.unwrap_or(REDIS_DEFAULT);
        let setting = |key: &str| self.text(&["database", "redis", name, key]);
        if self.values.at(&["database", "redis", name]).is_none() {
            return Ok(None);
        }
        let named = [
            ("REDIS_URL", setting("url")),
            ("REDIS_HOST", setting("host")),
            ("REDIS_PORT", setting("port")),
            ("REDIS_USERNAME", setting("username")),
            ("REDIS_PASSWORD", setting("password")),
            ("REDIS_SCHEME", setting("scheme")),
            ("REDIS_DB", setting("database")),
        ];
        let of_connection = setting("prefix").or(self.text(&["database", "redis", name, "options", "prefix"]));
        let prefix = of_connection.or(self.text(&["database", "redis", "options", "prefix"]));
        Settings::of(dir, named).redis("REDIS_DB", "0", prefix.unwrap_or_default(), what).map(Some)
    }
}
