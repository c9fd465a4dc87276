//! How the jobs of a Laravel application are read, as the configuration says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use auditq_config::Config;
use auditq_event::{Limits, Redaction};
use auditq_laravel::{AppKey, Decoder, Duty, Envelope, Field, JobEvent, KeyError, Mapping, QueriesReader};

/// Settings for Laravel that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaravelError {
    /// A key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A zone is none.
    #[error(
        "cannot use laravel.timezone {0:?}: there is no such zone; write it as in config/app.php, such as UTC or Europe/Berlin"
    )]
    Timezone(String),
}

/// Makes the reader of a Laravel application's jobs.
///
/// # Errors
/// When `APP_KEY` is no key, or `laravel.timezone` no zone.
pub fn laravel_decoder(config: &Config, redaction: Redaction, limits: Limits) -> Result<Decoder, LaravelError> {
    let laravel = &config.laravel;
    let mut mapping = Mapping::new(redaction).with_limits(limits);
    for (key, names) in &laravel.map {
        if let Some(field) = Field::ALL.iter().find(|field| field.key() == key) {
            mapping = mapping.with_names(*field, names);
        }
    }
    mapping.property.clone_from(&laravel.property);
    mapping.app.clone_from(&config.capture.app);
    let mapping = mapping.with_timezone(&laravel.timezone);
    let mapping = mapping.ok_or_else(|| LaravelError::Timezone(laravel.timezone.clone()))?;
    let keys = laravel.keys.iter().map(|key| AppKey::parse(key.expose())).collect::<Result<_, _>>()?;
    Ok(Decoder { keys, ..Decoder::new(mapping) })
}

/// The jobs of a Laravel application that a worker stores.
#[derive(Clone, Debug)]
pub struct LaravelJobs {
    /// How they are read.
    pub decoder: Decoder,
    /// Their classes; jobs of others are left in the queue.
    pub classes: Vec<String>,
    /// How the queries are read that the package `clients/laravel` sends.
    pub(crate) queries: QueriesReader,
    /// Jobs of others that were met, and told of.
    told: Arc<Mutex<BTreeSet<Foreign>>>,
    /// Until when all workers of the process leave the queue to those whose jobs were met.
    left_until: Arc<Mutex<Option<Instant>>>,
}

/// For how long an idle process looks at nothing once it has met jobs of others: their own worker is to find them.
const COURTESY: Duration = Duration::from_secs(4);

/// As much of a foreign class's name as is told.
const CLASS_CHARS: usize = 100;

/// As many classes as are remembered to have been told of: a queue may hold anything.
const TOLD_MAX: usize = 1_000;

/// The class of our own messages, as Laravel sees them.
const OURS: &str = "auditq";

/// A job that is left to others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Foreign {
    pub(crate) class: String,
    /// What else is to be done for it; `None` when it is its class that is not served.
    pub(crate) duty: Option<Duty>,
}

/// A payload that is no job to be stored.
#[derive(Debug)]
pub(crate) enum NotRead {
    /// A message of ours, in another order: Redis writes what it pops anew.
    Ours,
    /// A job of another class, or one that leaves Laravel's own worker something to do.
    Foreign(Foreign),
    /// Not to be read, and why.
    Damaged(String),
}

impl LaravelJobs {
    /// The jobs that the configuration names.
    ///
    /// # Errors
    /// As [`laravel_decoder`].
    pub fn new(config: &Config, redaction: Redaction, limits: Limits) -> Result<Self, LaravelError> {
        let queries = QueriesReader::new(redaction.clone(), limits);
        let decoder = laravel_decoder(config, redaction, limits)?;
        let (classes, told, left_until) = (config.laravel.jobs.clone(), Arc::default(), Arc::default());
        Ok(Self { decoder, classes, queries, told, left_until })
    }

    /// True when such jobs were not met before.
    pub(crate) fn is_news(&self, foreign: &Foreign) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < TOLD_MAX && told.insert(foreign.clone())
    }

    /// Notes that jobs of others were met.
    pub(crate) fn met_others(&self) {
        *self.left_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + COURTESY);
    }

    /// For how long they are still to be left to their own worker.
    pub(crate) fn courtesy(&self) -> Option<Duration> {
        let until = *self.left_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.and_then(|until| until.checked_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    pub(crate) fn read(&self, payload: &[u8]) -> Result<JobEvent, NotRead> {
        let damaged = |error: &dyn std::error::Error| NotRead::Damaged(error.to_string());
        let envelope = Envelope::read(payload, &self.decoder.limits).map_err(|error| damaged(&error))?;
        let class = envelope.class();
        if class == OURS {
            return Err(NotRead::Ours);
        }
        // A payload need not name the class of its command; then the command itself does.
        if !envelope.is_nameless() && !self.is_stored(class) {
            return Err(NotRead::foreign(class, None));
        }
        let job = self.decoder.event_of(&envelope).map_err(|error| damaged(&error))?;
        match job.duty {
            _ if !self.is_stored(&job.class) => Err(NotRead::foreign(&job.class, None)),
            Some(duty) => Err(NotRead::foreign(&job.class, Some(duty))),
            None => Ok(job),
        }
    }

    /// As in PHP, the names of classes are the same in either case.
    fn is_stored(&self, class: &str) -> bool {
        self.classes.iter().any(|known| known.trim_start_matches('\\').eq_ignore_ascii_case(class))
    }
}

/// How queries are read where nothing is said of jobs. The application has taken the secrets out already; the built-in
/// names are looked for once more, under a key that nobody knows.
pub(crate) fn usual_queries() -> &'static QueriesReader {
    static USUAL: OnceLock<QueriesReader> = OnceLock::new();
    USUAL.get_or_init(|| {
        let key = std::array::from_fn(|_| fastrand::u8(..));
        QueriesReader::new(Redaction::new(key), Limits::default())
    })
}

impl NotRead {
    fn foreign(class: &str, duty: Option<Duty>) -> Self {
        Self::Foreign(Foreign { class: class.chars().take(CLASS_CHARS).collect(), duty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_event_can_be_named_in_the_configuration() {
        let parts: Vec<&str> = Field::ALL.iter().map(|field| field.key()).collect();
        assert_eq!(auditq_config::LARAVEL_PARTS, parts);
    }

    #[test]
    fn names_property_zone_and_keys_are_those_of_the_configuration() {
        let mut config = Config::default();
        config.laravel.map.insert("sql".to_owned(), vec!["text".to_owned()]);
        config.laravel.property = Some("entry".to_owned());
        config.laravel.timezone = "Europe/Berlin".to_owned();
        config.laravel.keys = vec![auditq_config::Secret::new("k".repeat(32))];
        let make = |config: &Config| laravel_decoder(config, Redaction::new([0; 32]), Limits::default());
        let decoder = make(&config).unwrap();
        assert_eq!(decoder.mapping.names(Field::Sql)[0], "text");
        assert_eq!((decoder.mapping.property.as_deref(), decoder.keys.len()), (Some("entry"), 1));
        config.laravel.timezone = "Berlin".to_owned();
        assert!(make(&config).unwrap_err().to_string().contains("no such zone; write it as in config/app.php"));
        config.laravel.timezone = "UTC".to_owned();
        config.laravel.keys = vec![auditq_config::Secret::new("short")];
        assert!(make(&config).unwrap_err().to_string().contains("it has 5 bytes"));
    }
}
