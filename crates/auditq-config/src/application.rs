//! What a Laravel application's `.env` says of its queue, its database and its cache.

use std::path::{Path, PathBuf};

use crate::cached::Cached;
use crate::connections::REDIS_DEFAULT;
use crate::dotenv::{self, Variables};
use crate::error::ConfigError;
use crate::php_config::Value;
use crate::sections::Secret;
use crate::url::EngineUrl;

/// The application's sessions have the server's zone, and its times are written and read in it.
const SERVER_ZONE: &str = "time-zone=server";

/// Longer than any `.env`, and than any file of settings.
const BYTES_MAX: u64 = 1 << 20;

/// How Laravel's own workers are told to stop, and queues to pause: by keys in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Files below this folder.
    Files(PathBuf),
    /// The table `cache` of this database.
    Database(EngineUrl),
    /// A Redis server.
    Redis(EngineUrl),
    /// One that other processes do not see, or none that is known; the name that the application gives it.
    Unseen(String),
}

/// A Laravel application whose queue is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    /// Its folder, where `artisan` is.
    pub dir: PathBuf,
    /// What it calls its queue connection, `database` or `redis`: what failed jobs are filed under.
    pub connection: String,
    /// Where its jobs wait.
    pub queue_url: EngineUrl,
    /// Seconds that a job stays reserved.
    pub retry_after: u64,
    /// Its database, where `audit_sql_logs` and `failed_jobs` are.
    pub database_url: EngineUrl,
    /// Where `queue:restart` and `queue:pause` leave word.
    pub cache: Cache,
    /// What its cache puts before each key.
    pub cache_prefix: String,
    /// Where `down` leaves word, if not in a file.
    pub maintenance: Option<Cache>,
    /// What was found, each with the variable it is from: for people, without passwords.
    pub found: Vec<String>,
}

/// The variables of an application: those of the process before those of its `.env`, as Laravel has it.
pub(crate) struct Settings<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) variables: Variables,
    /// What counts instead of them where the application's settings are cached.
    cached: Option<Cached>,
}

impl<'a> Settings<'a> {
    /// Those that have a value, and no others.
    pub(crate) fn of(dir: &'a Path, named: impl IntoIterator<Item = (&'static str, Option<&'a str>)>) -> Self {
        let with_value = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        Self { dir, variables: with_value.collect(), cached: None }
    }

    /// Reads `DIR/.env`, where there is one, and the cached settings.
    pub(crate) fn read(dir: &'a Path, process: &Variables) -> Result<Self, ConfigError> {
        let refuse = |message: String| ConfigError::rule("laravel.app", message);
        if !dir.join("artisan").is_file() {
            let shown = dir.display();
            return Err(refuse(format!("is {shown}, which is no Laravel application: it holds no `artisan`")));
        }
        let file = dir.join(".env");
        let mut variables = match text(&file)? {
            Some(text) => dotenv::read(&text, process).map_err(|(line, why)| ConfigError::Invalid {
                path: file,
                line: Some(line),
                message: why.to_owned(),
            })?,
            None => Variables::new(),
        };
        variables.extend(process.iter().map(|(name, value)| (name.clone(), value.clone())));
        Ok(Self { dir, variables, cached: Cached::read(dir, process)? })
    }

    /// A variable as Laravel's `env()` gives it; an empty one, and `null`, count as unset.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name)?.trim();
        let is_none = matches!(value.to_ascii_lowercase().as_str(), "" | "null" | "(null)" | "empty" | "(empty)");
        (!is_none).then_some(value)
    }

    /// True where the settings are cached, so that every connection is known.
    pub(crate) fn is_cached(&self) -> bool {
        self.cached.is_some()
    }

    pub(crate) fn any(&self, names: &[&'static str]) -> Option<(&'static str, &str)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    /// `APP_KEY`, then those of `APP_PREVIOUS_KEYS`.
    pub(crate) fn keys(&self) -> Vec<Secret> {
        if let Some(cached) = &self.cached {
            return cached.keys();
        }
        let previous = self.get("APP_PREVIOUS_KEYS").unwrap_or_default().split(',');
        let keys = self.get("APP_KEY").into_iter().chain(previous);
        keys.map(str::trim).filter(|key| !key.is_empty()).map(Secret::new).collect()
    }

    /// The application's zone, and where that is said: its file may name a variable, or leave it no choice.
    pub(crate) fn timezone(&self) -> Result<Option<(String, &'static str)>, ConfigError> {
        if let Some(cached) = &self.cached {
            return Ok(cached.timezone().map(|zone| (zone.to_owned(), "app.timezone")));
        }
        let file = self.config("app.php")?;
        let (fixed, default) = match file.value(None, "timezone") {
            Some(Value::Plain(zone)) => (Some(zone), None),
            Some(Value::Env("APP_TIMEZONE", default)) => (None, default),
            _ => (None, None),
        };
        let of_file = |zone: &str| (zone.to_owned(), "config/app.php");
        let of_variable = || Some((self.get("APP_TIMEZONE")?.to_owned(), "APP_TIMEZONE"));
        Ok(fixed.map(of_file).or_else(of_variable).or_else(|| default.map(of_file)))
    }

    /// What the application's settings say of queue, database and cache.
    pub(crate) fn application(&self) -> Result<Application, ConfigError> {
        if let Some(cached) = &self.cached {
            return cached.application(self.dir);
        }
        let mut found = Vec::new();
        let database_url = self.database(&mut found)?;
        let (connection, retry) = match self.get("QUEUE_CONNECTION").unwrap_or("database") {
            "database" => ("database", "DB_QUEUE_RETRY_AFTER"),
            "redis" => ("redis", "REDIS_QUEUE_RETRY_AFTER"),
            "sync" => {
                return Err(ConfigError::variable(
                    "QUEUE_CONNECTION",
                    "is sync: the application runs its jobs itself, in the request, and nothing waits for a worker; set \
                     it to database or redis",
                ));
            }
            other => {
                let message = format!(
                    "is {other:?}; auditq serves the connections `database` and `redis`. Say where its jobs are in \
                     queue.url of auditq.toml, and leave laravel.app out"
                );
                return Err(ConfigError::variable("QUEUE_CONNECTION", message));
            }
        };
        let queue_url = match connection {
            "redis" => {
                let (number, default) = self.redis_number(self.queue_connection()?.as_deref()).unwrap_or(REDIS_DEFAULT);
                self.redis(number, default, &self.redis_prefix()?, "queue")?
            }
            _ => database_url.clone(),
        };
        found.push(format!("queue: {connection} at {queue_url} (QUEUE_CONNECTION)"));
        self.tables()?;
        let (retry_after, by) = match self.queue_setting("retry_after", retry)? {
            Some(seconds) if self.get(retry) == Some(seconds.as_str()) => (seconds, retry),
            Some(seconds) => (seconds, "config/queue.php"),
            None => ("90".to_owned(), "Laravel's default; must be retry_after of config/queue.php"),
        };
        let retry_after = retry_after
            .parse()
            .map_err(|_| ConfigError::variable(retry, format!("is {retry_after:?}, not a number of seconds")))?;
        found.extend(self.timezone()?.map(|(zone, by)| format!("times: {zone} ({by})")));
        found.push(format!("reservations: {retry_after} s ({by})"));
        let cache = self.cache(&database_url)?;
        let cache_prefix = self.cache_prefix()?;
        let maintenance = self.maintenance(&database_url, &cache)?;
        Ok(Application {
            dir: self.dir.to_owned(),
            connection: connection.to_owned(),
            queue_url,
            retry_after,
            database_url,
            cache,
            cache_prefix,
            maintenance,
            found,
        })
    }

    /// Tables of other names are not served.
    fn tables(&self) -> Result<(), ConfigError> {
        for (name, wanted) in [("DB_PREFIX", ""), ("DB_QUEUE_TABLE", "jobs")] {
            if let Some(value) = self.get(name).filter(|value| *value != wanted) {
                let message =
                    format!("is {value:?}: auditq works on the tables `jobs` and `failed_jobs` by these names");
                return Err(ConfigError::variable(name, message));
            }
        }
        Ok(())
    }

    pub(crate) fn database(&self, found: &mut Vec<String>) -> Result<EngineUrl, ConfigError> {
        let default = if self.any(&["DB_HOST", "DB_URL", "DATABASE_URL"]).is_some() { "mysql" } else { "sqlite" };
        let driver = self.get("DB_CONNECTION").unwrap_or(default);
        let (scheme, port) = match driver {
            "sqlite" => {
                let file = self.get("DB_DATABASE").map_or(PathBuf::from("database/database.sqlite"), PathBuf::from);
                let file = self.dir.join(file);
                let file = std::path::absolute(&file).unwrap_or(file);
                let url = EngineUrl::sqlite(&file);
                found.push(format!("database: {url} (DB_CONNECTION, DB_DATABASE)"));
                return Ok(url);
            }
            "mysql" | "mariadb" => ("mysql", "3306"),
            "pgsql" => ("postgres", "5432"),
            other => {
                let message = format!(
                    "is {other:?}; auditq knows sqlite, mysql, mariadb and pgsql. Say where jobs and log are in \
                     queue.url and store.url of auditq.toml, and leave laravel.app out"
                );
                return Err(ConfigError::variable("DB_CONNECTION", message));
            }
        };
        if let Some((name, given)) = self.any(&["DB_URL", "DATABASE_URL"]) {
            let rest = given.split_once("://").map(|(_, rest)| rest);
            let rest = rest.ok_or_else(|| ConfigError::variable(name, "is not a URL"))?;
            let zone = match (scheme, rest.contains('?')) {
                ("mysql", true) => format!("&{SERVER_ZONE}"),
                ("mysql", false) => format!("?{SERVER_ZONE}"),
                _ => String::new(),
            };
            let url = parse(name, &format!("{scheme}://{rest}{zone}"))?;
            found.push(format!("database: {url} ({name})"));
            return Ok(url);
        }
        let user = self.get("DB_USERNAME").unwrap_or(if scheme == "mysql" { "root" } else { "postgres" });
        let database = self.get("DB_DATABASE").unwrap_or("laravel");
        let login = login(Some(user), self.get("DB_PASSWORD"));
        let host = self.get("DB_HOST").unwrap_or("127.0.0.1");
        let port = self.get("DB_PORT").unwrap_or(port);
        let mut url = format!("{scheme}://{login}{}:{port}/{}", bracketed(host), encoded(database));
        match (scheme, self.get("DB_SOCKET"), self.get("DB_SSLMODE"), self.get("MYSQL_ATTR_SSL_CA")) {
            ("mysql", Some(socket), ..) => url.push_str(&format!("?{SERVER_ZONE}&socket={}", encoded(socket))),
            ("mysql", _, _, Some(ca)) => {
                url.push_str(&format!("?{SERVER_ZONE}&ssl-mode=verify_ca&ssl-ca={}", encoded(ca)));
            }
            ("mysql", ..) => url.push_str(&format!("?{SERVER_ZONE}")),
            ("postgres", _, Some(mode), _) => url.push_str(&format!("?sslmode={}", encoded(mode))),
            _ => {}
        }
        let url = parse("DB_HOST", &url)?;
        found.push(format!("database: {url} (DB_CONNECTION, DB_HOST, DB_PORT, DB_DATABASE, DB_USERNAME)"));
        Ok(url)
    }

    pub(crate) fn redis(
        &self,
        database: &'static str,
        default: &str,
        prefix: &str,
        what: &str,
    ) -> Result<EngineUrl, ConfigError> {
        let number = self.get(database).unwrap_or(default);
        let query = if prefix.is_empty() { String::new() } else { format!("?prefix={prefix}") };
        if let Some(given) = self.get("REDIS_URL") {
            let (server, _) = given.split_once('?').unwrap_or((given, ""));
            let has_number = server.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
            let number = if has_number { String::new() } else { format!("/{number}") };
            return parse("REDIS_URL", &format!("{server}{number}{query}"));
        }
        let (user, password) = (self.get("REDIS_USERNAME"), self.get("REDIS_PASSWORD"));
        let host = self.get("REDIS_HOST").unwrap_or("127.0.0.1");
        if host.starts_with('/') {
            let message = format!("is a socket; name it for the {what} in auditq.toml: unix://{host}?db={number}");
            return Err(ConfigError::variable("REDIS_HOST", message));
        }
        let (scheme, host) = match host.split_once("://") {
            Some(("tls" | "ssl" | "rediss", host)) => ("rediss", host),
            Some((_, host)) => ("redis", host),
            None => (if self.get("REDIS_SCHEME") == Some("tls") { "rediss" } else { "redis" }, host),
        };
        let (port, login) = (self.get("REDIS_PORT").unwrap_or("6379"), login(user, password));
        parse("REDIS_HOST", &format!("{scheme}://{login}{}:{port}/{number}{query}", bracketed(host)))
    }

    /// What the client puts before each key: `REDIS_PREFIX`, or what the application's skeleton makes of `APP_NAME`.
    pub(crate) fn redis_prefix(&self) -> Result<String, ConfigError> {
        if let Some(prefix) = self.variables.get("REDIS_PREFIX") {
            return Ok(prefix.clone());
        }
        // Since Laravel 12.1 it is written with hyphens; the file says which one this application is of.
        let written = self.config("database.php")?.first_of(&["-database-", "_database_"]);
        let separator = if written == Some("-database-") { '-' } else { '_' };
        Ok(format!("{}{separator}database{separator}", self.slug(separator)))
    }

    /// `APP_NAME` as Laravel's `Str::slug` writes it, for names of letters and digits.
    pub(crate) fn slug(&self, separator: char) -> String {
        let name = self.get("APP_NAME").unwrap_or("laravel").to_lowercase();
        let flip = if separator == '-' { '_' } else { '-' };
        let name = name.replace('@', " at ");
        let is_space = |character: char| character.is_whitespace() || character == separator || character == flip;
        let words = name.split(is_space).map(|word| word.chars().filter(|letter| letter.is_alphanumeric()));
        let words: Vec<String> = words.map(String::from_iter).filter(|word| !word.is_empty()).collect();
        words.join(&separator.to_string())
    }
}

pub(crate) fn text(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > BYTES_MAX => Err(unreadable(std::io::Error::other("it is over 1 MiB"))),
        Ok(_) => std::fs::read_to_string(path).map(Some).map_err(unreadable),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error)),
    }
}

fn parse(variable: &str, url: &str) -> Result<EngineUrl, ConfigError> {
    EngineUrl::parse(url).map_err(|message| ConfigError::variable(variable, format!("is not usable: {message}")))
}

fn login(user: Option<&str>, password: Option<&str>) -> String {
    match (user, password) {
        (None, None) => String::new(),
        (user, None) => format!("{}@", encoded(user.unwrap_or_default())),
        (user, Some(password)) => format!("{}:{}@", encoded(user.unwrap_or_default()), encoded(password)),
    }
}

/// An address of the sixth version as it stands in a URL.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// The text as it stands in any part of a URL.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}
