use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::ConfigError;
use crate::url::EngineUrl;

/// What is recorded of a statement.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// Record at all. `AUDIT_LOG_ENABLED`. Defaults to true.
    pub enabled: bool,
    /// For how many seconds a repeated statement counts as the same. `AUDIT_LOG_TTL`. Defaults to 300.
    pub ttl: u64,
    /// What happens with the same statement asked again in one request. Defaults to `collapse`.
    pub duplicates: Duplicates,
    /// Record statements for which nobody is signed in. Defaults to false: they are skipped and counted.
    pub track_anonymous: bool,
    /// Hold a transaction's events until it ends. Defaults to false: recorded at once, the outcome follows.
    pub after_commit: bool,
    /// The application's name in the log. `AUDITQ_APP`. Defaults to the program's name.
    pub app: Option<String>,
    /// How much of a statement is kept.
    pub limits: Limits,
    /// What is taken out of a statement.
    pub redact: Redact,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: 300,
            duplicates: Duplicates::Collapse,
            track_anonymous: false,
            after_commit: false,
            app: None,
            limits: Limits::default(),
            redact: Redact::default(),
        }
    }
}

/// What happens with the same statement, by the same user with the same bindings, asked again in one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// One row, whose `repeat_count` and `last_at` tell how often.
    #[default]
    Collapse,
    /// The first one only.
    Drop,
    /// A row each.
    Off,
}

/// How much of a statement is kept; what is over is cut, and marked with its length and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of SQL text. Defaults to 65,536.
    pub sql_bytes: usize,
    /// Bytes of one binding. Defaults to 4,096.
    pub binding_bytes: usize,
    /// Bytes of all bindings of a statement. Defaults to 16,384.
    pub bindings_bytes: usize,
    /// Bindings of a statement. Defaults to 256.
    pub bindings_count: usize,
    /// Bytes of an error message. Defaults to 1,024.
    pub error_bytes: usize,
    /// Bytes of a user agent. Defaults to 512.
    pub user_agent_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sql_bytes: 65_536,
            binding_bytes: 4_096,
            bindings_bytes: 16_384,
            bindings_count: 256,
            error_bytes: 1_024,
            user_agent_bytes: 512,
        }
    }
}

/// What is taken out of a statement before it first touches a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redact {
    /// Names of columns and parameters that hold secrets, besides the built-in ones. Defaults to none.
    pub names: Vec<String>,
    /// Built-in names that are not secrets here. Defaults to none.
    pub except: Vec<String>,
    /// Which literals in the SQL text are taken out. Defaults to `sensitive`.
    pub literals: Literals,
    /// Take out every binding, not only the sensitive ones. Defaults to false.
    pub all_bindings: bool,
    /// File that holds the key of the HMACs. Defaults to `redaction.key` in the spool folder, made when missing.
    pub key_file: Option<PathBuf>,
    /// The key itself, 64 hexadecimal digits, before the file. `AUDITQ_REDACTION_KEY`; never in the configuration file.
    #[serde(skip)]
    pub key: Option<Secret>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into keeping.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Which literals in the SQL text are taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Literals {
    /// Those that stand at a sensitive column.
    #[default]
    Sensitive,
    /// Every one.
    All,
    /// None.
    None,
}

/// The local log between application and queue.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Its folder. `AUDITQ_SPOOL_DIR`. Defaults to `auditq-spool`.
    pub dir: PathBuf,
    /// What a recorded event survives. Defaults to `process`.
    pub durability: Durability,
    /// Bytes that one process may have waiting. Defaults to 1 GiB.
    pub max_bytes: u64,
    /// Bytes of one segment file. Defaults to 8 MiB.
    pub segment_bytes: u32,
    /// What happens when it is full. Defaults to `drop-newest`.
    pub when_full: WhenFull,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("auditq-spool"),
            durability: Durability::Process,
            max_bytes: 1 << 30,
            segment_bytes: 8 << 20,
            when_full: WhenFull::DropNewest,
        }
    }
}

impl Spool {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if !(64 << 10..=1 << 30).contains(&self.segment_bytes) {
            return Err(ConfigError::rule("spool.segment_bytes", "takes 65,536 to 1,073,741,824"));
        }
        if self.max_bytes < 2 * u64::from(self.segment_bytes) {
            return Err(ConfigError::rule("spool.max_bytes", "must hold at least two segments (spool.segment_bytes)"));
        }
        Ok(())
    }
}

/// What a recorded event survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// `kill -9` of the process, but not a power cut.
    #[default]
    Process,
    /// A power cut too: recording waits for the disk, about a millisecond.
    Fsync,
}

/// What happens to an event for which the spool has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// It is dropped, counted, and the gap is itself stored in the log.
    #[default]
    DropNewest,
    /// The statement waits until there is room.
    Block,
}

/// Where messages wait.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// The engine. `AUDITQ_QUEUE_URL`. Defaults to `sqlite:auditq.db`.
    pub url: EngineUrl,
    /// The queue that events are pushed to. `QUEUE_NAME`. Defaults to `audit-logs`.
    pub name: String,
    /// Under which name failed messages are filed in `failed_jobs.connection`; those of other names are not touched. A
    /// Laravel application calls it as its queue connection. Defaults to `auditq`.
    pub connection: String,
    /// Seconds that a reservation lasts. Unset, it is short, and a live worker keeps extending it, so that the
    /// messages of a killed one run again within seconds. Set, it must exceed `worker.timeout`.
    pub retry_after: Option<u64>,
}

/// Seconds that a reservation lasts when nothing else is said; a live worker extends it at a quarter of that.
pub const RETRY_AFTER_SECONDS: u64 = 8;

impl Default for Queue {
    fn default() -> Self {
        Self {
            url: EngineUrl::default(),
            name: "audit-logs".to_owned(),
            connection: "auditq".to_owned(),
            retry_after: None,
        }
    }
}

impl Queue {
    /// Seconds that a reservation lasts unless it is extended.
    #[must_use]
    pub fn retry_after_seconds(&self) -> u64 {
        self.retry_after.unwrap_or(RETRY_AFTER_SECONDS)
    }

    pub(crate) fn validate(&self, timeout: u64) -> Result<(), ConfigError> {
        match self.retry_after {
            Some(retry_after) if retry_after <= timeout => Err(ConfigError::rule(
                "queue.retry_after",
                format!(
                    "is {retry_after} s, which must exceed worker.timeout ({timeout} s), or a message would run twice; \
                     raise it, lower worker.timeout, or leave it out"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// Where rows end up.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The engine. `AUDITQ_STORE_URL`. Defaults to `sqlite:auditq.db`.
    pub url: EngineUrl,
    /// Whose columns `audit_sql_logs` has. Defaults to `auditq`, and to `laravel` where a Laravel application is served.
    pub layout: Layout,
    /// For a column of a table that an application made itself, the part of an event that goes into it: such as
    /// `sql`, `username`, `extra.KEY`; an empty text leaves the column to the table. Comes before the usual names.
    pub columns: BTreeMap<String, String>,
    /// How a new audit table in PostgreSQL is partitioned. Defaults to `none`.
    pub partitions: Partitions,
}

/// Whose columns the audit table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// The table that `auditq migrate` makes.
    #[default]
    Auditq,
    /// One that a Laravel application made, which stays as it is.
    Laravel,
}

impl Store {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.partitions != Partitions::None && self.url.scheme() != crate::Scheme::Postgres {
            return Err(ConfigError::rule("store.partitions", "is for a store in PostgreSQL; leave it out"));
        }
        if self.partitions != Partitions::None && self.layout == Layout::Laravel {
            return Err(ConfigError::rule("store.partitions", "is for a table of auditq's own; leave it out"));
        }
        if !self.columns.is_empty() && self.layout == Layout::Auditq {
            return Err(ConfigError::rule(
                "store.columns",
                "is for store.layout = \"laravel\"; set that, or leave it out",
            ));
        }
        Ok(())
    }
}

/// How the audit table is divided by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partitions {
    /// Not at all.
    #[default]
    None,
    /// By the month in which a statement occurred, UTC: `prune` drops a month whole.
    Monthly,
}

/// How messages become rows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Worker {
    /// Workers in one process: while one waits for the disk, the other reads what comes next. Defaults to 2, and to
    /// 4 for Laravel's jobs on a database server, whose disk they wait for.
    pub workers: usize,
    /// How often a message is tried; 0 is without limit. Defaults to 3.
    pub tries: u32,
    /// Seconds that storing a batch may take. Defaults to 30.
    pub timeout: u64,
    /// How many rejections bury an event; 0 is without limit. Defaults to 3.
    pub max_exceptions: u32,
    /// Seconds to wait before the second, third, … try; the last one goes on. Defaults to 1, 5, 10.
    pub backoff: Vec<u64>,
    /// Seconds to wait when the queue is empty, at most; a push ends the wait. Defaults to 3.
    pub sleep: f64,
    /// Seconds to rest after each batch. Defaults to 0.
    pub rest: f64,
    /// Events that one message holds at the most. Defaults to 500.
    pub message_events: usize,
    /// Messages that are reserved and stored together. Defaults to 8.
    pub batch: usize,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            workers: 2,
            tries: 3,
            timeout: 30,
            max_exceptions: 3,
            backoff: vec![1, 5, 10],
            sleep: 3.0,
            rest: 0.0,
            message_events: 500,
            batch: 8,
        }
    }
}

impl Worker {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let in_range = |key, value: usize, most: usize| {
            if (1..=most).contains(&value) { Ok(()) } else { Err(ConfigError::rule(key, format!("takes 1 to {most}"))) }
        };
        in_range("worker.workers", self.workers, 256)?;
        in_range("worker.message_events", self.message_events, 10_000)?;
        in_range("worker.batch", self.batch, 1_000)?;
        if !(1..=86_400).contains(&self.timeout) {
            return Err(ConfigError::rule("worker.timeout", "takes 1 to 86,400 seconds"));
        }
        let is_wait = |seconds: f64| (0.0..=86_400.0).contains(&seconds);
        if !is_wait(self.sleep) || !is_wait(self.rest) {
            return Err(ConfigError::rule("worker.sleep and worker.rest", "take 0 to 86,400 seconds"));
        }
        Ok(())
    }
}
