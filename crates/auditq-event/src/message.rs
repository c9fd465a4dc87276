//! A queue message: the records of one producer in an envelope that Laravel's tools can show.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use memchr::memmem;
use serde::Deserialize;
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::xxh3_128;

use crate::fields::FORMAT_VERSION;
use crate::label::ProducerLabel;
use crate::record::Record;
use crate::wire::{DecodeError, Reader, put_sized, put_varint};

/// The job name that tells our messages from a Laravel application's jobs.
const JOB: &str = "auditq@batch";

/// The job as it stands in the envelope, and how far from the beginning it is looked for.
const JOB_KEY: &[u8] = b"\"job\":\"auditq@batch\"";
const JOB_KEY_WITHIN: usize = 1024;

/// Most records one message may hold.
pub const MAX_MESSAGE_RECORDS: usize = 65_536;

/// Most bytes one message may have, unless the caller says otherwise: 16 MiB.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A payload that cannot be read as a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It is some other job.
    #[error("cannot read message: it is a job of another application ({0:?}), not a batch of audit records")]
    NotOurs(String),
    /// Over the limit on bytes or records.
    #[error("cannot read message: it has {have} {unit}, more than the limit of {limit}")]
    TooLarge {
        /// What is counted: `bytes` or `records`.
        unit: &'static str,
        /// How many there are.
        have: usize,
        /// How many may be.
        limit: usize,
    },
    /// Written by a release with another envelope.
    #[error(
        "cannot read message: its envelope is of version {0}, this release reads version 1; upgrade auditq, then retry"
    )]
    UnknownVersion(u64),
    /// Not the JSON that an envelope is.
    #[error("cannot read message: its envelope is not as auditq writes it")]
    Envelope(#[source] serde_json::Error),
    /// The records are no base64.
    #[error("cannot read message: its records are not base64")]
    Base64(#[source] base64::DecodeError),
    /// The records are no LZ4 block of the size that the envelope tells.
    #[error("cannot read message: its records cannot be decompressed")]
    Lz4(#[source] lz4_flex::block::DecompressError),
    /// The records are cut or mixed up.
    #[error("cannot read message: its records cannot be told apart")]
    Records(#[source] DecodeError),
    /// The uuid is none.
    #[error("cannot read message: its uuid is not one")]
    Uuid(#[source] uuid::Error),
}

/// A batch of records of one producer, as it travels through the queue.
#[derive(Clone, Debug)]
pub struct Message {
    uuid: Uuid,
    exceptions: u32,
    label: ProducerLabel,
    /// What the envelope carries, decoded.
    body: Vec<u8>,
    records: Vec<(u64, Range<usize>)>,
}

#[derive(Deserialize)]
struct Envelope<'p> {
    #[serde(borrow)]
    uuid: Cow<'p, str>,
    #[serde(borrow)]
    job: Cow<'p, str>,
    #[serde(default)]
    exceptions: u32,
    #[serde(borrow)]
    data: Option<Data<'p>>,
}

#[derive(Deserialize)]
struct Data<'p> {
    auditq: u64,
    /// Bytes of the records before they were compressed.
    size: usize,
    /// An LZ4 block in base64.
    #[serde(borrow)]
    records: Cow<'p, str>,
}

/// The part that is read first, whatever the rest is.
#[derive(Deserialize)]
struct AnyJob<'p> {
    #[serde(borrow)]
    job: Option<Cow<'p, str>>,
}

impl Message {
    /// The uuid that [`build`](Self::build) gives a message of these records.
    #[must_use]
    pub fn uuid_of(label: &ProducerLabel, records: &[(u64, &[u8])]) -> String {
        message_uuid(label, records).as_hyphenated().to_string()
    }

    /// Writes records, each with its sequence number, as a message: UTF-8 text without NUL.
    ///
    /// The message's uuid follows from producer, first and last sequence number, so a batch that is built again after
    /// a crash is the same message.
    #[must_use]
    pub fn build(label: &ProducerLabel, records: &[(u64, &[u8])]) -> Vec<u8> {
        write_message(message_uuid(label, records), 0, label, records)
    }

    /// Reads a message. The records themselves are read by [`records`](Self::records).
    ///
    /// # Errors
    /// When the payload is another application's job, over `max_bytes` or [`MAX_MESSAGE_RECORDS`], of another version,
    /// or damaged.
    pub fn parse(payload: &[u8], max_bytes: usize) -> Result<Self, MessageError> {
        if payload.len() > max_bytes {
            return Err(MessageError::TooLarge { unit: "bytes", have: payload.len(), limit: max_bytes });
        }
        let envelope = read_envelope(payload)?;
        let Some(data) = envelope.data else { return Err(MessageError::NotOurs(shown(&envelope.job))) };
        if data.auditq != 1 {
            return Err(MessageError::UnknownVersion(data.auditq));
        }
        if data.size > max_bytes {
            return Err(MessageError::TooLarge { unit: "bytes", have: data.size, limit: max_bytes });
        }
        let body = decompress(&decode_base64(&data.records)?, data.size)?;
        let (label, records) = split(&body)?;
        let uuid = Uuid::try_parse(&envelope.uuid).map_err(MessageError::Uuid)?;
        Ok(Self { uuid, exceptions: envelope.exceptions, label, body, records })
    }

    /// Identity of the message; stays the same when it shrinks.
    #[must_use]
    pub fn uuid(&self) -> String {
        self.uuid.as_hyphenated().to_string()
    }

    /// How often storing it has failed with its events at fault.
    #[must_use]
    pub const fn exceptions(&self) -> u32 {
        self.exceptions
    }

    /// Which process recorded it.
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

    /// Reads the records one by one, each with its sequence number.
    ///
    /// Events that do not say their application, host and process get those of the message. One record that cannot be
    /// read does not hold up the others.
    pub fn records(&self) -> impl ExactSizeIterator<Item = (u64, Result<Record, DecodeError>)> + '_ {
        self.records.iter().map(|(seq, place)| {
            let bytes = self.body.get(place.clone()).unwrap_or_default();
            let mut record = Record::decode(bytes, self.label.producer_id, *seq);
            if let Ok(Record::Event(event)) = &mut record {
                self.label.fill(&mut event.database);
            }
            (*seq, record)
        })
    }

    /// Writes the message again with only the records that `wanted` holds for, by index, and a new count of
    /// exceptions. The uuid stays.
    #[must_use]
    pub fn keep(&self, wanted: impl Fn(usize) -> bool, exceptions: u32) -> Vec<u8> {
        let kept: Vec<(u64, &[u8])> = (self.records.iter().enumerate())
            .filter(|(index, _)| wanted(*index))
            .map(|(_, (seq, place))| (*seq, self.body.get(place.clone()).unwrap_or_default()))
            .collect();
        write_message(self.uuid, exceptions, &self.label, &kept)
    }
}

/// Tells whether a payload is a message of ours, without reading all of it.
#[must_use]
pub fn is_auditq(payload: &[u8]) -> bool {
    let front = &payload[..payload.len().min(JOB_KEY_WITHIN)];
    front.starts_with(b"{") && memmem::find(front, JOB_KEY).is_some()
}

fn read_envelope(payload: &[u8]) -> Result<Envelope<'_>, MessageError> {
    // Checking UTF-8 once is quicker than leaving it to each string.
    let text = str::from_utf8(payload).map_err(|error| MessageError::Envelope(serde::de::Error::custom(error)))?;
    match serde_json::from_str::<Envelope<'_>>(text) {
        Ok(envelope) if envelope.job == JOB => Ok(envelope),
        Ok(envelope) => Err(MessageError::NotOurs(shown(&envelope.job))),
        Err(error) => match serde_json::from_str::<AnyJob<'_>>(text) {
            Ok(AnyJob { job: Some(job) }) if job != JOB => Err(MessageError::NotOurs(shown(&job))),
            _ => Err(MessageError::Envelope(error)),
        },
    }
}

/// The beginning of a foreign job's name.
fn shown(job: &str) -> String {
    job.chars().take(100).collect()
}

/// We write the alphabet that JSON encoders leave alone; the standard one is read as well.
fn decode_base64(text: &str) -> Result<Vec<u8>, MessageError> {
    URL_SAFE_NO_PAD.decode(text).or_else(|error| STANDARD.decode(text).map_err(|_| MessageError::Base64(error)))
}

/// The size is believed only as far as a block of this length can grow, so that a lie costs no memory.
fn decompress(block: &[u8], size: usize) -> Result<Vec<u8>, MessageError> {
    const GROWTH_MAX: usize = 255;
    let size = size.min(block.len().saturating_mul(GROWTH_MAX));
    lz4_flex::block::decompress(block, size).map_err(MessageError::Lz4)
}

fn message_uuid(label: &ProducerLabel, records: &[(u64, &[u8])]) -> Uuid {
    let seq = |record: Option<&(u64, &[u8])>| record.map_or(0, |record| record.0).to_le_bytes();
    let source = [b"auditq message v1\0", label.producer_id.as_slice(), &seq(records.first()), &seq(records.last())];
    Builder::from_custom_bytes(xxh3_128(&source.concat()).to_be_bytes()).into_uuid()
}

fn write_message(uuid: Uuid, exceptions: u32, label: &ProducerLabel, records: &[(u64, &[u8])]) -> Vec<u8> {
    let size: usize = records.iter().map(|record| record.1.len() + 14).sum();
    let mut body = Vec::with_capacity(size + 1200);
    body.push(FORMAT_VERSION);
    put_sized(&mut body, &label.encode());
    put_varint(&mut body, records.len() as u64);
    for (seq, record) in records {
        put_varint(&mut body, *seq);
        put_sized(&mut body, record);
    }

    let count = records.len();
    let statements = if count == 1 { "statement" } else { "statements" };
    let head = format!(
        "{{\"uuid\":\"{uuid}\",\"displayName\":\"auditq: {count} {statements}\",\"job\":\"{JOB}\",\"maxTries\":null,\
         \"timeout\":null,\"exceptions\":{exceptions},\"data\":{{\"auditq\":1,\"size\":{},\"records\":\"",
        body.len()
    );
    // Statements of one application are much alike: a fifth of the bytes remains, in every queue and its logs.
    let block = lz4_flex::block::compress(&body);
    let mut out = String::with_capacity(head.len() + block.len().div_ceil(3) * 4 + 3);
    out.push_str(&head);
    URL_SAFE_NO_PAD.encode_string(&block, &mut out);
    out.push_str("\"}}");
    out.into_bytes()
}

type Records = Vec<(u64, Range<usize>)>;

/// Finds the label and where each record stands.
fn split(body: &[u8]) -> Result<(ProducerLabel, Records), MessageError> {
    let mut reader = Reader::new(body);
    match reader.byte().map_err(MessageError::Records)? {
        FORMAT_VERSION => {}
        version => return Err(MessageError::UnknownVersion(version.into())),
    }
    let label = reader.sized().and_then(ProducerLabel::decode).map_err(MessageError::Records)?;
    let count = reader.varint().map_err(MessageError::Records)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MAX_MESSAGE_RECORDS {
        return Err(MessageError::TooLarge { unit: "records", have: count, limit: MAX_MESSAGE_RECORDS });
    }
    // Each record takes two bytes at least.
    let mut records = Vec::with_capacity(count.min(reader.len() / 2));
    for _ in 0..count {
        let seq = reader.varint().map_err(MessageError::Records)?;
        let len = reader.sized().map_err(MessageError::Records)?.len();
        let end = body.len() - reader.len();
        records.push((seq, end - len..end));
    }
    if reader.is_empty() {
        Ok((label, records))
    } else {
        Err(MessageError::Records(DecodeError::Malformed("bytes follow the last record")))
    }
}
