//! A job of Laravel's, decoded.

use std::borrow::Cow;

use auditq_event::Event;
use serde_json::{Map, Value as Json};

use crate::crypt::{AppKey, CryptError, decrypt};
use crate::data::{Data, from_json};
use crate::envelope::{CALL_QUEUED_HANDLER, Envelope, EnvelopeError, JobLimits};
use crate::event::{EventError, event};
use crate::mapping::Mapping;
use crate::php::{Document, ExpandError, Limits, ParseError, Value, parse, shown};

/// As much of a class's or a property's name as is shown, and as many names.
const NAME_BYTES: usize = 100;
const NAMES_MAX: usize = 20;

/// Reads jobs.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// `APP_KEY`, then the previous ones.
    pub keys: Vec<AppKey>,
    /// How a job's data becomes an event.
    pub mapping: Mapping,
    /// What is read of a payload.
    pub limits: Limits,
}

/// What has to be done when a job is done, beside the job itself. Laravel's own worker does it, and nobody else can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Duty {
    /// The next job of its chain is to be dispatched.
    Chain,
    /// Its batch is to be counted.
    Batch,
    /// The lock is to be released that keeps it the only one.
    Unique,
    /// It is to be dropped when a later one has taken its place.
    Debounce,
}

impl Duty {
    /// What such a job is called.
    #[must_use]
    pub fn adjective(self) -> &'static str {
        match self {
            Self::Chain => "chained",
            Self::Batch => "batched",
            Self::Unique => "unique",
            Self::Debounce => "debounced",
        }
    }

    /// The duty that a job's command and payload tell of. Middleware, and the locks of Laravel up to 11.38 where the class
    /// says nothing of them in its properties, leave no trace.
    fn of(envelope: &Envelope, value: &Value<'_>) -> Option<Self> {
        let document = Document::new(value);
        let property = |name: &str| {
            let value = document.property(value.as_object()?, name)?;
            let is_empty = matches!(value, Value::Null)
                || value.as_text().is_some_and(str::is_empty)
                || matches!(value, Value::Array(items) if items.is_empty());
            (!is_empty).then_some(())
        };
        let batch = envelope.fields.get("data").and_then(|data| data.get("batchId"));
        let is_locked = envelope
            .fields
            .get("illuminate:log:context")
            .and_then(|context| context.get("hidden")?.get("laravel_unique_job_key"))
            .is_some();
        if property("chained").is_some() {
            Some(Self::Chain)
        } else if property("batchId").is_some() || batch.is_some_and(|id| !id.is_null() && id != "") {
            Some(Self::Batch)
        } else if is_locked || ["uniqueLockOwner", "uniqueId", "uniqueFor"].iter().any(|name| property(name).is_some())
        {
            Some(Self::Unique)
        } else {
            property("debounceOwner").map(|()| Self::Debounce)
        }
    }
}

/// A job, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The payload without its command.
    pub envelope: Map<String, Json>,
    /// Its class.
    pub class: String,
    /// True when the command was encrypted.
    pub encrypted: bool,
    /// What it says of its own tries.
    pub limits: JobLimits,
    /// The query's data, as JSON.
    pub query_data: Json,
    /// The names of the command's properties.
    pub properties: Vec<String>,
    /// What is stored of it.
    pub event: Event,
    /// What else is to be done when it is done.
    pub duty: Option<Duty>,
}

/// As much of a job as a worker needs.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEvent {
    /// Its class.
    pub class: String,
    /// What it says of its own tries.
    pub limits: JobLimits,
    /// What is stored of it.
    pub event: Event,
    /// What else is to be done when it is done.
    pub duty: Option<Duty>,
}

/// A job that cannot be read, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The payload is no job.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// It has no command.
    #[error("cannot read the job {class}: the payload has no data.command")]
    NoCommand {
        /// Its class.
        class: String,
    },
    /// The command cannot be opened.
    #[error("cannot read the job {class}: data.command cannot be decrypted: {source}")]
    Crypt {
        /// Its class.
        class: String,
        /// Why.
        source: CryptError,
    },
    /// The command cannot be read.
    #[error("cannot read the job {class}: data.command: {source}")]
    Command {
        /// Its class.
        class: String,
        /// Why and where.
        source: ParseError,
    },
    /// The command is another class's.
    #[error("cannot read the job {class}: data.command holds {found}, and data.commandName says {class}")]
    OtherClass {
        /// What the payload says.
        class: String,
        /// What is in it.
        found: String,
    },
    /// There is no query in it.
    #[error(
        "cannot read the job {class}: no query data in its properties ({}); name the one that holds it as property in the \
         table [laravel]",
        properties.join(", ")
    )]
    NoQueryData {
        /// Its class.
        class: String,
        /// What it has.
        properties: Vec<String>,
    },
    /// The data grows without end.
    #[error("cannot read the job {class}: {source}")]
    Expand {
        /// Its class.
        class: String,
        /// Why.
        source: ExpandError,
    },
    /// The data makes no event.
    #[error("cannot read the job {class}: {source}")]
    Event {
        /// Its class.
        class: String,
        /// Why.
        source: EventError,
    },
}

impl Decoder {
    /// Reads jobs that are not encrypted; give [`keys`](Self::keys) for those that are.
    #[must_use]
    pub fn new(mapping: Mapping) -> Self {
        Self { keys: Vec::new(), mapping, limits: Limits::default() }
    }

    /// Reads a job's payload, as it stands in the queue.
    ///
    /// # Errors
    /// What cannot be read, with the class, the byte and the way there.
    pub fn decode(&self, payload: &[u8]) -> Result<Job, JobError> {
        self.decode_envelope(&Envelope::read(payload, &self.limits)?)
    }

    /// Reads a job whose payload was read already.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_envelope(&self, envelope: &Envelope) -> Result<Job, JobError> {
        self.open(envelope, |class, encrypted, value| self.whole(envelope, class, encrypted, value))
    }

    /// Reads what is stored of a job whose payload was read already, and nothing that is only there to be shown.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn event_of(&self, envelope: &Envelope) -> Result<JobEvent, JobError> {
        self.open(envelope, |class, _, value| {
            let document = Document::new(value);
            let data = self.data(&document, &class)?;
            if may_refer(envelope) {
                // What refers to itself may be larger than it looks.
                self.query_data(&data, &class)?;
            }
            let event = self.event(envelope, &data, &class)?;
            Ok(JobEvent { class, limits: envelope.limits(), event, duty: Duty::of(envelope, value) })
        })
    }

    /// Hands the job's command, or the data of one that is no object, to `read`: its class, and whether it was encrypted.
    fn open<T>(
        &self,
        envelope: &Envelope,
        read: impl FnOnce(String, bool, &Value<'_>) -> Result<T, JobError>,
    ) -> Result<T, JobError> {
        let class = shown(envelope.class(), NAME_BYTES);
        if envelope.job() != CALL_QUEUED_HANDLER {
            let value = envelope.fields.get("data").map(from_json).unwrap_or(Value::Null);
            return read(class, false, &value);
        }
        let Some(text) = &envelope.command else { return Err(JobError::NoCommand { class }) };
        let encrypted = !text.starts_with("O:");
        let command = if encrypted { self.decrypted(text, &class)?.into() } else { Cow::Borrowed(text.as_bytes()) };
        let value =
            parse(&command, &self.limits).map_err(|source| JobError::Command { class: class.clone(), source })?;
        let found = value.as_object().map_or("no object", |object| &object.class);
        let named = !envelope.is_nameless();
        if named && !found.eq_ignore_ascii_case(envelope.class()) {
            return Err(JobError::OtherClass { class, found: shown(found, NAME_BYTES) });
        }
        let class = if named { class } else { shown(found, NAME_BYTES) };
        read(class, encrypted, &value)
    }

    /// Decrypts a command. Laravel serializes what it encrypts a second time.
    fn decrypted(&self, text: &str, class: &str) -> Result<Vec<u8>, JobError> {
        let plain = decrypt(text, &self.keys).map_err(|source| JobError::Crypt { class: class.to_owned(), source })?;
        match parse(&plain, &self.limits) {
            Ok(Value::Str(inner)) => Ok(inner.into_owned()),
            Ok(_) => Ok(plain),
            Err(source) => Err(JobError::Command { class: class.to_owned(), source }),
        }
    }

    fn whole(&self, envelope: &Envelope, class: String, encrypted: bool, value: &Value<'_>) -> Result<Job, JobError> {
        let document = Document::new(value);
        let data = self.data(&document, &class)?;
        Ok(Job {
            query_data: self.query_data(&data, &class)?,
            event: self.event(envelope, &data, &class)?,
            envelope: envelope.fields.clone(),
            class,
            encrypted,
            limits: envelope.limits(),
            properties: names_of(value),
            duty: Duty::of(envelope, value),
        })
    }

    fn data<'d, 'v, 'a>(&self, document: &'d Document<'v, 'a>, class: &str) -> Result<Data<'d, 'v, 'a>, JobError> {
        Data::find(document, &self.mapping).ok_or_else(|| {
            let properties = names_of(document.root());
            let properties = properties.iter().take(NAMES_MAX).map(|name| shown(name, NAME_BYTES)).collect();
            JobError::NoQueryData { class: class.to_owned(), properties }
        })
    }

    fn query_data(&self, data: &Data<'_, '_, '_>, class: &str) -> Result<Json, JobError> {
        data.json(&self.limits).map_err(|source| JobError::Expand { class: class.to_owned(), source })
    }

    fn event(&self, envelope: &Envelope, data: &Data<'_, '_, '_>, class: &str) -> Result<Event, JobError> {
        let made = event(envelope, data, &self.mapping, &self.limits);
        made.map_err(|source| JobError::Event { class: class.to_owned(), source })
    }
}

/// The names of a job's properties.
fn names_of(value: &Value<'_>) -> Vec<String> {
    match value {
        Value::Object(object) => object.properties.iter().map(|(property, _)| property.shown().into_owned()).collect(),
        Value::Array(items) => items.iter().map(|(key, _)| key.shown().into_owned()).collect(),
        _ => Vec::new(),
    }
}

/// False when nothing in the job can be a reference, as PHP writes them; what is encrypted may hold anything.
fn may_refer(envelope: &Envelope) -> bool {
    let command = envelope.command.as_deref().unwrap_or_default();
    !command.starts_with("O:") || command.contains("r:") || command.contains("R:")
}
