//! The queries of one request in one message, as the package `clients/laravel` writes it.
//!
//! Around it is the payload of a job of Laravel's, so that Laravel's commands can show it, keep it and put it back. What
//! must come through unharmed is one JSON text in `data.batch`: a pop by Laravel in Redis writes everything else anew,
//! with numbers cut to 14 digits and empty lists as objects.

mod binding;
mod item;

use auditq_event::{Limits, MAX_MESSAGE_RECORDS, ProducerLabel, Record, Redaction, cut_at_char_boundary};
use memchr::memmem;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::envelope::{Envelope, EnvelopeError, json_of, whole};
use crate::php::Limits as Bounds;
use item::Reading;

pub use item::ItemError;

/// The `job` of these messages; what stands before `@` is what Laravel's own worker looks up in its container.
const JOB: &str = "auditq@queries";

/// The version of the envelope that is read here.
const VERSION: i64 = 1;

/// As many values as `data.batch` may have: an item has about ten.
const BATCH_VALUES_MAX: usize = 1 << 20;

/// A payload that is no message of queries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueriesError {
    /// Not the payload of any job.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Written by a release with another envelope.
    #[error("cannot read the queries: data.auditq is {0}, this release reads 1; upgrade auditq, then retry")]
    Version(String),
    /// Something that must be there is not.
    #[error("cannot read the queries: {0}")]
    Missing(&'static str),
    /// The batch is no JSON, or over a limit.
    #[error("cannot read the queries in data.batch: {0}")]
    Batch(EnvelopeError),
    /// More than one message may hold.
    #[error("cannot read the queries: there are {0}, more than the limit of {MAX_MESSAGE_RECORDS}")]
    TooMany(usize),
}

/// Reads messages of queries.
#[derive(Clone, Debug)]
pub struct QueriesReader {
    /// What is taken out of an event that the application has left in.
    pub redaction: Redaction,
    /// How much of each text is kept.
    pub limits: Limits,
    /// What is read of a payload.
    pub bounds: Bounds,
}

/// A message of queries, read.
#[derive(Clone, Debug)]
pub struct Queries {
    /// The payload without `data.batch`.
    envelope: Map<String, Json>,
    /// What stands in `data.batch`.
    batch: Map<String, Json>,
    label: ProducerLabel,
    records: Vec<(u64, Result<Record, ItemError>)>,
}

impl QueriesReader {
    /// Reads with the usual limits.
    #[must_use]
    pub fn new(redaction: Redaction, limits: Limits) -> Self {
        Self { redaction, limits, bounds: Bounds::default() }
    }

    /// Reads a payload; `None` when it is a job of another kind. One item that cannot be read does not hold up the
    /// others.
    ///
    /// # Errors
    /// When it is ours and damaged, over a limit, or of another version.
    pub fn read(&self, payload: &[u8]) -> Result<Option<Queries>, QueriesError> {
        if !may_be_queries(payload) {
            return Ok(None);
        }
        let Envelope { fields: mut envelope, .. } = Envelope::read(payload, &self.bounds)?;
        if envelope.get("job").and_then(Json::as_str) != Some(JOB) {
            return Ok(None);
        }
        let Some(Json::Object(data)) = envelope.get_mut("data") else {
            return Err(QueriesError::Missing("data is no object"));
        };
        check_version(data)?;
        let Some(Json::String(text)) = data.remove("batch") else {
            return Err(QueriesError::Missing("data.batch is no text"));
        };
        let batch = self.batch(&text)?;
        let label = self.label(data)?;
        let items = items_of(&batch)?;
        let reading = Reading::new(self, &label, data, &batch);
        let records = items.iter().enumerate().map(|(index, item)| reading.record(index, item)).collect();
        Ok(Some(Queries { envelope, batch, label, records }))
    }

    fn batch(&self, text: &str) -> Result<Map<String, Json>, QueriesError> {
        let bounds = Bounds { values: BATCH_VALUES_MAX, ..self.bounds };
        match json_of(text.as_bytes(), &bounds).map_err(QueriesError::Batch)? {
            Json::Object(batch) => Ok(batch),
            _ => Err(QueriesError::Missing("data.batch is no object")),
        }
    }

    fn label(&self, data: &Map<String, Json>) -> Result<ProducerLabel, QueriesError> {
        let producer = data.get("producer").and_then(Json::as_str).and_then(|text| Uuid::try_parse(text).ok());
        let Some(producer) = producer else { return Err(QueriesError::Missing("data.producer is no 32 hex digits")) };
        let text = |key: &str| {
            let text = data.get(key).and_then(Json::as_str).filter(|text| !text.is_empty())?;
            Some(cut_at_char_boundary(text, self.limits.text_bytes).to_owned())
        };
        Ok(ProducerLabel {
            producer_id: producer.into_bytes(),
            app: text("app"),
            host: text("host"),
            pid: data.get("pid").and_then(whole).and_then(|pid| u32::try_from(pid).ok()),
        })
    }
}

impl Queries {
    /// The payload without `data.batch`.
    #[must_use]
    pub const fn envelope(&self) -> &Map<String, Json> {
        &self.envelope
    }

    /// The message's identity, where the payload says it: under which it is pushed.
    #[must_use]
    pub fn uuid(&self) -> Option<&str> {
        self.envelope.get("uuid").and_then(Json::as_str)
    }

    /// How often storing it has failed with its events at fault.
    #[must_use]
    pub fn exceptions(&self) -> u32 {
        let exceptions = self.envelope.get("exceptions").and_then(whole);
        exceptions.and_then(|count| u32::try_from(count).ok()).unwrap_or_default()
    }

    /// Which request recorded it: each is a producer of its own.
    #[must_use]
    pub const fn label(&self) -> &ProducerLabel {
        &self.label
    }

    /// How many records it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Tells whether it holds no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Its records in order, each with its sequence number, those that cannot be read too.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &(u64, Result<Record, ItemError>)> {
        self.records.iter()
    }

    /// Writes the message again with only the records that `wanted` holds for, by index, and a new count of exceptions.
    /// Everything else stays, its uuid too.
    #[must_use]
    pub fn keep(&self, wanted: impl Fn(usize) -> bool, exceptions: u32) -> Vec<u8> {
        let mut batch = self.batch.clone();
        if let Some(Json::Array(items)) = batch.get_mut("items") {
            let mut index = 0..;
            items.retain(|_| index.next().is_some_and(&wanted));
            let kept = items.len();
            item::forget_statements(&mut batch);
            return self.with_batch(batch, kept, exceptions);
        }
        self.with_batch(batch, 0, exceptions)
    }

    fn with_batch(&self, batch: Map<String, Json>, count: usize, exceptions: u32) -> Vec<u8> {
        let mut envelope = self.envelope.clone();
        envelope.insert("exceptions".to_owned(), exceptions.into());
        envelope.insert("displayName".to_owned(), format!("auditq: {count} queries").into());
        if let Some(Json::Object(data)) = envelope.get_mut("data") {
            data.insert("batch".to_owned(), Json::Object(batch).to_string().into());
        }
        Json::Object(envelope).to_string().into_bytes()
    }
}

/// What is on the outside of a message: enough to push it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postmark {
    /// Its identity.
    pub uuid: String,
    /// How many records it says it holds; at least 1.
    pub records: usize,
}

impl Postmark {
    /// Reads it, whatever is inside: that is for the worker, who keeps what he cannot read.
    ///
    /// # Errors
    /// When the payload is no message of queries.
    pub fn read(payload: &[u8]) -> Result<Self, QueriesError> {
        let Envelope { fields, .. } = Envelope::read(payload, &Bounds::default())?;
        if fields.get("job").and_then(Json::as_str) != Some(JOB) {
            return Err(QueriesError::Missing("it is a job of another kind"));
        }
        let uuid = fields.get("uuid").and_then(Json::as_str).and_then(|uuid| Uuid::try_parse(uuid).ok());
        let uuid = uuid.ok_or(QueriesError::Missing("its uuid is none"))?;
        let count = fields.get("data").and_then(|data| data.get("count")).and_then(whole);
        let records = count.and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
        Ok(Self { uuid: uuid.as_hyphenated().to_string(), records: records.clamp(1, MAX_MESSAGE_RECORDS) })
    }
}

/// Looked for first, because most payloads are something else; the name may also stand in another job's data.
fn may_be_queries(payload: &[u8]) -> bool {
    memmem::find(payload, JOB.as_bytes()).is_some() && str::from_utf8(payload).is_ok()
}

fn check_version(data: &Map<String, Json>) -> Result<(), QueriesError> {
    match data.get("auditq") {
        Some(version) if whole(version) == Some(VERSION) => Ok(()),
        Some(version) => Err(QueriesError::Version(version.to_string().chars().take(40).collect())),
        None => Err(QueriesError::Missing("data.auditq, the version, is missing")),
    }
}

fn items_of(batch: &Map<String, Json>) -> Result<&[Json], QueriesError> {
    match batch.get("items") {
        Some(Json::Array(items)) if items.len() > MAX_MESSAGE_RECORDS => Err(QueriesError::TooMany(items.len())),
        Some(Json::Array(items)) if !items.is_empty() => Ok(items),
        _ => Err(QueriesError::Missing("data.batch has no items")),
    }
}
