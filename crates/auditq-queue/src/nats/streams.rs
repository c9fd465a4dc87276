//! The streams and the consumers, and the few questions about what is in them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::DRIVER;
use super::errors::{NAME_IN_USE, Refusal, corrupt, explain};
use super::link::Link;
use super::record::{ID, LINE, Note};
use super::time;
use crate::{Error, ErrorKind, QueueName, Result};

/// The consumer that hands each message of a queue to one of the workers.
pub(super) const WORKERS: &str = "workers";

/// For how long a message is somebody's whose reservation is not in the ledger yet.
pub(super) const HANDED_OUT_SECONDS: u64 = 30;

/// For how long a publish that is repeated under the same number is known, which is longer than it is repeated for.
const REPEATED_SECONDS: u64 = 30;

const NANOS: u64 = 1_000_000_000;

/// What a stream's description begins with; the name of the queue follows.
const OF_QUEUE: &str = "auditq queue ";

#[derive(Debug, Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: StreamConfig,
    pub(super) state: StreamState,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamConfig {
    #[serde(default)]
    description: String,
    #[serde(default)]
    subjects: Vec<String>,
    retention: String,
    storage: String,
    #[serde(default)]
    max_msgs_per_subject: i64,
    #[serde(default)]
    pub(super) num_replicas: u8,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct StreamState {
    #[serde(default)]
    pub(super) messages: u64,
    #[serde(default)]
    pub(super) first_seq: u64,
    #[serde(default)]
    pub(super) last_seq: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ConsumerInfo {
    #[serde(default)]
    pub(super) name: String,
    pub(super) ack_floor: Floor,
    #[serde(default)]
    pub(super) num_ack_pending: u64,
    #[serde(default)]
    pub(super) num_pending: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Floor {
    #[serde(default)]
    pub(super) stream_seq: u64,
}

/// A message as a stream keeps it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) seq: u64,
    pub(super) payload: Bytes,
    /// When the server took it, RFC 3339 in UTC.
    time: String,
    subject: String,
    headers: String,
}

/// What the answer to a change is good for.
#[derive(Debug, Deserialize)]
pub(super) struct Done {}

impl StreamConfig {
    /// The queue whose messages it holds.
    pub(super) fn queue(&self) -> Option<QueueName> {
        self.description.strip_prefix(OF_QUEUE).map(|name| QueueName::from_engine(name.to_owned()))
    }
}

impl Stored {
    /// When the server took it, in microseconds since 1970.
    pub(super) fn taken_at(&self) -> u64 {
        time::read(&self.time).unwrap_or_default()
    }

    /// The id that it carries, escaped; of one that somebody else has published, what its subject ends with.
    pub(super) fn id(&self) -> &str {
        self.header(ID).unwrap_or_else(|| self.subject.rsplit('.').next().unwrap_or_default())
    }

    /// What it says of itself.
    pub(super) fn note(&self) -> Note {
        Note::of(self.header(LINE), self.taken_at(), self.payload.len())
    }

    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    }
}

/// A stream of messages that are removed one by one.
pub(super) fn stream(link: &Link, name: &str, subjects: &str, last_only: bool, queue: Option<&QueueName>) -> Value {
    json!({
        "name": name,
        "description": queue.map_or_else(|| "auditq".to_owned(), |queue| format!("{OF_QUEUE}{queue}")),
        "subjects": [subjects],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": if last_only { 1 } else { -1 },
        "num_replicas": link.target.replicas,
        "duplicate_window": REPEATED_SECONDS * NANOS,
    })
}

/// Makes a stream unless it is there, in the same shape.
pub(super) async fn ensure(link: &Link, config: &Value) -> Result<()> {
    const OPERATION: &str = "make a stream";
    let name = config["name"].as_str().unwrap_or_default();
    let refusal = match link.try_api::<Done>(OPERATION, &format!("STREAM.CREATE.{name}"), config).await? {
        Ok(_) => return Ok(()),
        Err(refusal) => refusal,
    };
    if refusal.err_code != NAME_IN_USE {
        return Err(explain(OPERATION, &link.target.place, &refusal));
    }
    let found = info(link, name).await?;
    let same = found.as_ref().is_some_and(|StreamInfo { config: found, .. }| {
        config["subjects"] == json!(found.subjects)
            && config["max_msgs_per_subject"] == found.max_msgs_per_subject
            && (found.retention.as_str(), found.storage.as_str()) == ("limits", "file")
    });
    if same {
        return Ok(());
    }
    let message = format!(
        "cannot use the stream {name} in {}: it was made by something else, or for something else; choose another prefix \
         in the URL, nats://HOST/PREFIX",
        link.target.place
    );
    Err(Error::new(ErrorKind::Misconfigured, DRIVER, message))
}

/// Makes the consumer that hands out messages, unless it is there.
pub(super) async fn ensure_workers(link: &Link, stream: &str) -> Result<()> {
    let config = json!({
        "durable_name": WORKERS,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": HANDED_OUT_SECONDS * NANOS,
        "max_ack_pending": -1,
        "max_deliver": -1,
        "max_waiting": 4096,
        "replay_policy": "instant",
    });
    let body = json!({ "stream_name": stream, "config": config });
    link.api::<Done>("make a consumer", &format!("CONSUMER.DURABLE.CREATE.{stream}.{WORKERS}"), &body).await.map(drop)
}

/// What a stream holds; `None` when there is none of that name.
pub(super) async fn info(link: &Link, name: &str) -> Result<Option<StreamInfo>> {
    missing_is_none(
        link,
        "look at a stream",
        link.try_api("look at a stream", &format!("STREAM.INFO.{name}"), &Value::Null).await?,
    )
}

/// How far a consumer of a stream is; `None` when there is none.
pub(super) async fn consumer_info(link: &Link, stream: &str, consumer: &str) -> Result<Option<ConsumerInfo>> {
    const OPERATION: &str = "look at a consumer";
    missing_is_none(
        link,
        OPERATION,
        link.try_api(OPERATION, &format!("CONSUMER.INFO.{stream}.{consumer}"), &Value::Null).await?,
    )
}

fn missing_is_none<T>(link: &Link, operation: &str, answer: std::result::Result<T, Refusal>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(refusal) if refusal.is_missing() || refusal.is_no_message() => Ok(None),
        Err(refusal) => Err(explain(operation, &link.target.place, &refusal)),
    }
}

/// All streams that listen to some of these subjects.
pub(super) async fn list(link: &Link, subjects: &str) -> Result<Vec<StreamInfo>> {
    #[derive(Deserialize)]
    struct Page {
        total: usize,
        #[serde(default)]
        streams: Option<Vec<StreamInfo>>,
    }
    let mut found = Vec::new();
    loop {
        let body = json!({ "subject": subjects, "offset": found.len() });
        let page: Page = link.api("list queues", "STREAM.LIST", &body).await?;
        let streams = page.streams.unwrap_or_default();
        let is_last = streams.is_empty();
        found.extend(streams);
        if is_last || found.len() >= page.total {
            return Ok(found);
        }
    }
}

/// One message, asked of the stream's leader, which knows the last word: `{"seq": 7}`, `{"last_by_subj": "a.b"}`.
pub(super) async fn get(link: &Link, stream: &str, which: &Value) -> Result<Option<Stored>> {
    #[derive(Deserialize)]
    struct Answer {
        message: Raw,
    }
    #[derive(Deserialize)]
    struct Raw {
        seq: u64,
        #[serde(default)]
        hdrs: String,
        #[serde(default)]
        data: String,
        #[serde(default)]
        time: String,
        #[serde(default)]
        subject: String,
    }
    const OPERATION: &str = "read a message";
    let answer = link.try_api(OPERATION, &format!("STREAM.MSG.GET.{stream}"), which).await?;
    let Some(Answer { message }) = missing_is_none(link, OPERATION, answer)? else { return Ok(None) };
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| corrupt("an answer"));
    Ok(Some(Stored {
        seq: message.seq,
        payload: decode(&message.data)?.into(),
        time: message.time,
        subject: message.subject,
        headers: String::from_utf8_lossy(&decode(&message.hdrs)?).into_owned(),
    }))
}

/// Removes a message by its place; false when it is not there any more.
pub(super) async fn remove(link: &Link, stream: &str, seq: u64) -> Result<bool> {
    const OPERATION: &str = "remove a message";
    let body = json!({ "seq": seq, "no_erase": true });
    let answer = link.try_api::<Done>(OPERATION, &format!("STREAM.MSG.DELETE.{stream}"), &body).await?;
    Ok(missing_is_none(link, OPERATION, answer)?.is_some())
}

/// Removes the messages of some subjects, or all; returns how many.
pub(super) async fn purge(link: &Link, stream: &str, subjects: Option<&str>) -> Result<u64> {
    #[derive(Deserialize)]
    struct Purged {
        #[serde(default)]
        purged: u64,
    }
    const OPERATION: &str = "remove messages";
    let body = subjects.map_or(Value::Null, |subjects| json!({ "filter": subjects }));
    let answer = link.try_api::<Purged>(OPERATION, &format!("STREAM.PURGE.{stream}"), &body).await?;
    Ok(missing_is_none(link, OPERATION, answer)?.map_or(0, |purged| purged.purged))
}
