use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::sections::Secret;

/// The jobs of a Laravel application that are served.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Laravel {
    /// The application's folder: what this file does not say of queue, log and keys is taken from its `.env`. `--laravel`,
    /// `AUDITQ_LARAVEL`. Unset, nothing is.
    pub app: Option<PathBuf>,
    /// Classes of the jobs that hold a query; jobs of other classes stay in the queue. Defaults to
    /// `App\Jobs\ProcessAuditLog`.
    pub jobs: Vec<String>,
    /// The job's property that holds the query's data; points lead into arrays. Unset, it is looked for.
    pub property: Option<String>,
    /// The zone of times that do not say theirs: the application's `app.timezone`. Defaults to `UTC`.
    pub timezone: String,
    /// What the application calls the parts of a query's data: for each of [`LARAVEL_PARTS`] a name or several.
    #[serde(deserialize_with = "map")]
    pub map: BTreeMap<String, Vec<String>>,
    /// Keys that encrypted jobs are read with: `APP_KEY`, then those of `APP_PREVIOUS_KEYS`; never in the configuration
    /// file.
    #[serde(skip)]
    pub keys: Vec<Secret>,
}

impl Default for Laravel {
    fn default() -> Self {
        Self {
            app: None,
            jobs: vec!["App\\Jobs\\ProcessAuditLog".to_owned()],
            property: None,
            timezone: "UTC".to_owned(),
            map: BTreeMap::new(),
            keys: Vec::new(),
        }
    }
}

/// The keys of the table `[laravel.map]`.
pub const LARAVEL_PARTS: &[&str] = &[
    "sql",
    "bindings",
    "duration_ms",
    "duration_us",
    "occurred_at",
    "username",
    "user_id",
    "session",
    "tenant",
    "request_id",
    "trace_id",
    "ip",
    "http_method",
    "url",
    "user_agent",
    "connection",
    "db_system",
    "db_name",
    "app",
    "host",
    "pid",
    "rows_affected",
    "rows_returned",
    "status",
    "error_message",
    "error_code",
    "transaction_id",
    "query_hash",
];

/// A name, or several of which the first that is there counts.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a name or a list of names")]
enum Names {
    One(String),
    Several(Vec<String>),
}

/// One of [`LARAVEL_PARTS`].
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Part(String);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if LARAVEL_PARTS.contains(&name.as_str()) {
            Ok(Self(name))
        } else {
            Err(D::Error::unknown_field(&name, LARAVEL_PARTS))
        }
    }
}

fn map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let given = BTreeMap::<Part, Names>::deserialize(deserializer)?;
    let parts = given.into_iter().map(|(Part(part), names)| match names {
        Names::One(name) => (part, vec![name]),
        Names::Several(names) => (part, names),
    });
    Ok(parts.collect())
}
