//! Which cache an application uses, and which of its connections its jobs are on.

use crate::application::{Cache, Settings};
use crate::error::ConfigError;
use crate::php_config::{PhpConfig, Value};
use crate::url::EngineUrl;

/// Which of a Redis server's databases is the application's connection `default`: the variable, and what it is without.
pub(crate) const REDIS_DEFAULT: (&str, &str) = ("REDIS_DB", "0");
/// And which is its connection `cache`.
const REDIS_CACHE: (&str, &str) = ("REDIS_CACHE_DB", "1");

impl Settings<'_> {
    pub(crate) fn cache_prefix(&self) -> Result<String, ConfigError> {
        if let Some(prefix) = self.variables.get("CACHE_PREFIX") {
            return Ok(prefix.clone());
        }
        let config = self.config("cache.php")?;
        if let Some(Value::Plain(prefix)) = config.value(None, "prefix") {
            return Ok(prefix.to_owned());
        }
        Ok(match config.first_of(&["-cache-", "_cache_"]) {
            Some("-cache-") => format!("{}-cache-", self.slug('-')),
            Some(_) => format!("{}_cache_", self.slug('_')),
            // An application that has no such file is of Laravel 11 or later.
            None if !config.is_own() => format!("{}-cache-", self.slug('-')),
            None => format!("{}_cache", self.slug('_')),
        })
    }

    pub(crate) fn cache(&self, database: &EngineUrl) -> Result<Cache, ConfigError> {
        let config = self.config("cache.php")?;
        let default = if config.is_own() { "file" } else { "database" };
        let store = match config.value(None, "default") {
            Some(value) => self.resolve(value),
            None => self.any(&["CACHE_STORE", "CACHE_DRIVER"]).map(|(_, store)| store.to_owned()),
        };
        self.store(store.as_deref().unwrap_or(default), database)
    }

    /// The cache that the application calls `store`.
    fn store(&self, store: &str, database: &EngineUrl) -> Result<Cache, ConfigError> {
        let config = self.config("cache.php")?;
        let setting = |driver: &str, key: &str| {
            let value = config.value(Some(&format!("'driver' => '{driver}'")), key);
            value.and_then(|value| self.resolve(value))
        };
        Ok(match store {
            "file" => Cache::Files(self.dir.join("storage/framework/cache/data")),
            "database" => {
                let connection =
                    setting("database", "connection").or(self.get("DB_CACHE_CONNECTION").map(str::to_owned));
                let table = setting("database", "table").or(self.get("DB_CACHE_TABLE").map(str::to_owned));
                match (connection, table) {
                    (Some(other), _) if other != self.default_connection()? => {
                        Cache::Unseen(format!("database, on the connection {other}"))
                    }
                    (_, Some(other)) if other != "cache" => Cache::Unseen(format!("database, in the table {other}")),
                    _ => Cache::Database(database.clone()),
                }
            }
            "redis" => {
                let connection =
                    setting("redis", "connection").or(self.get("REDIS_CACHE_CONNECTION").map(str::to_owned));
                match self.redis_number(Some(connection.as_deref().unwrap_or("cache"))) {
                    Some((number, default)) => {
                        Cache::Redis(self.redis(number, default, &self.redis_prefix()?, "cache")?)
                    }
                    None => Cache::Unseen(format!("redis, on the connection {}", connection.unwrap_or_default())),
                }
            }
            other => Cache::Unseen(other.to_owned()),
        })
    }

    /// The cache that `down` leaves word in; `None` when it is a file, as it is unless the application says otherwise.
    pub(crate) fn maintenance(&self, database: &EngineUrl, default: &Cache) -> Result<Option<Cache>, ConfigError> {
        let config = self.config("app.php")?;
        let setting = |key: &str, variable: &str| self.value_or(config.value(Some("'maintenance'"), key), variable);
        if setting("driver", "APP_MAINTENANCE_DRIVER").as_deref() != Some("cache") {
            return Ok(None);
        }
        match setting("store", "APP_MAINTENANCE_STORE") {
            Some(store) => self.store(&store, database).map(Some),
            None => Ok(Some(default.clone())),
        }
    }

    /// Why jobs are not where the application's other settings lead: they have a connection of their own.
    ///
    /// # Errors
    /// That, when `queue.url` is needed.
    pub(crate) fn jobs_are_within_reach(&self) -> Result<(), ConfigError> {
        if self.is_cached() {
            return Ok(());
        }
        let Some(connection) = self.queue_connection()? else { return Ok(()) };
        let (variable, is_known) = match self.get("QUEUE_CONNECTION") {
            Some("redis") => ("REDIS_QUEUE_CONNECTION", self.redis_number(Some(&connection)).is_some()),
            _ => ("DB_QUEUE_CONNECTION", connection == self.default_connection()?),
        };
        if is_known {
            return Ok(());
        }
        let message = format!(
            "is {connection:?} (or config/queue.php says so), a connection of config/database.php that cannot be read \
             from outside: say where its jobs are in queue.url of auditq.toml"
        );
        Err(ConfigError::variable(variable, message))
    }

    /// Which connection of `config/database.php` the jobs are on, where `config/queue.php` names one.
    pub(crate) fn queue_connection(&self) -> Result<Option<String>, ConfigError> {
        let variable = match self.get("QUEUE_CONNECTION") {
            Some("redis") => "REDIS_QUEUE_CONNECTION",
            _ => "DB_QUEUE_CONNECTION",
        };
        self.queue_setting("connection", variable)
    }

    /// What `config/queue.php` says of the connection that is used; where it says nothing, what the variable does.
    pub(crate) fn queue_setting(&self, key: &str, variable: &str) -> Result<Option<String>, ConfigError> {
        let driver = if self.get("QUEUE_CONNECTION") == Some("redis") { "redis" } else { "database" };
        let config = self.config("queue.php")?;
        Ok(self.value_or(config.value(Some(&format!("'driver' => '{driver}'")), key), variable))
    }

    /// What the application calls the database that its other settings lead to.
    fn default_connection(&self) -> Result<String, ConfigError> {
        let config = self.config("database.php")?;
        let named = config.value(None, "default").and_then(|value| self.resolve(value));
        Ok(named.or(self.get("DB_CONNECTION").map(str::to_owned)).unwrap_or_else(|| "sqlite".to_owned()))
    }

    /// The number of the database that a connection to Redis is to, and its default; `None` for one of the application's own.
    pub(crate) fn redis_number(&self, connection: Option<&str>) -> Option<(&'static str, &'static str)> {
        match connection.unwrap_or("default") {
            "default" => Some(REDIS_DEFAULT),
            "cache" => Some(REDIS_CACHE),
            _ => None,
        }
    }

    pub(crate) fn config(&self, name: &str) -> Result<PhpConfig, ConfigError> {
        PhpConfig::read(self.dir, name)
    }

    /// What a file says, or the variable where it says nothing.
    fn value_or(&self, value: Option<Value<'_>>, variable: &str) -> Option<String> {
        value.map_or_else(|| self.get(variable).map(str::to_owned), |value| self.resolve(value))
    }

    fn resolve(&self, value: Value<'_>) -> Option<String> {
        match value {
            Value::Plain(text) => Some(text.to_owned()),
            Value::Env(name, default) => self.get(name).or(default).map(str::to_owned),
        }
    }
}
