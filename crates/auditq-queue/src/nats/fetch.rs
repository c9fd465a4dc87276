//! Reading from consumers: what waits for a worker, and all that a stream holds from a place on.

use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode};
use futures_util::StreamExt as _;
use serde_json::json;

use super::errors::{corrupt, unavailable};
use super::link::Link;
use super::record::{ID, LINE};
use super::streams::{self, ConsumerInfo};
use crate::Result;

/// For how long the next message of a batch is waited for.
const NEXT_AT_MOST: Duration = Duration::from_secs(3);

/// What the server says of a delivery, in the subject that it is answered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) deliveries: u64,
    /// The place in the stream.
    pub(super) seq: u64,
    /// Counts what this consumer has delivered.
    pub(super) count: u64,
    /// When the server took the message, in microseconds since 1970.
    pub(super) taken_at: u64,
    /// How many more there are.
    pub(super) pending: u64,
}

impl Delivery {
    /// Reads `$JS.ACK.STREAM.CONSUMER.1.7.3.NANOS.0`, which newer servers write with two more fields in front.
    pub(super) fn read(message: &Message) -> Option<Self> {
        let fields: Vec<&str> = message.reply.as_ref()?.as_str().split('.').collect();
        let fields = match fields.len() {
            9 => fields.get(4..)?,
            11.. => fields.get(6..)?,
            _ => return None,
        };
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Self {
            deliveries: number(0)?,
            seq: number(1)?,
            count: number(2)?,
            taken_at: number(3)? / 1_000,
            pending: number(4)?,
        })
    }
}

pub(super) fn header<'h>(headers: Option<&'h HeaderMap>, name: &str) -> Option<&'h str> {
    headers?.get(name).map(async_nats::HeaderValue::as_str)
}

/// The line and the id that a message carries.
pub(super) fn line_and_id(message: &Message) -> Result<(&str, &str)> {
    let headers = message.headers.as_ref();
    match (header(headers, LINE), header(headers, ID)) {
        (Some(line), Some(id)) => Ok((line, id)),
        _ => Err(corrupt(&format!("the message {}", message.subject))),
    }
}

/// Takes what is there, up to `limit` messages and about `bytes`; `None` when there is no such consumer, or it is stuck.
pub(super) async fn fetch(
    link: &Link,
    stream: &str,
    consumer: &str,
    limit: usize,
    bytes: usize,
) -> Result<Option<Vec<Message>>> {
    const OPERATION: &str = "take messages";
    let place = &link.target.place;
    let failed = |error: String| unavailable(OPERATION, place, &error);
    let client = link.client().await?;
    let mut losses = link.losses();
    losses.mark_unchanged();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
    let mut body = json!({ "batch": limit, "no_wait": true });
    if bytes > 0 {
        body["max_bytes"] = json!(bytes);
    }
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
    let sent = client.publish_with_reply(subject, inbox, body.to_string().into()).await;
    sent.map_err(|error| failed(error.to_string()))?;
    let mut found = Vec::new();
    while found.len() < limit {
        let message = match tokio::time::timeout(NEXT_AT_MOST, answers.next()).await {
            Ok(Some(message)) => message,
            // What was delivered is in hand; the rest comes again.
            _ if !found.is_empty() => break,
            // The question or its answer went with it, which says nothing of the consumer.
            _ if losses.has_changed().unwrap_or(true) => return Err(failed("the connection was lost".to_owned())),
            // No answer comes for a consumer that there is not, and on 2.9 for one that counts messages which were removed.
            // A server that does not answer this either is away.
            _ => {
                streams::consumer_info(link, stream, consumer).await?;
                return Ok(None);
            }
        };
        match message.status {
            None => found.push(message),
            Some(StatusCode::IDLE_HEARTBEAT) => {}
            Some(StatusCode::NO_RESPONDERS) => return Ok(None),
            // Nothing more, or nothing more that fits.
            Some(_) => break,
        }
    }
    Ok(Some(found))
}

/// Reads the headers in a stream from a place on: up to `limit` messages, those before `until`.
pub(super) async fn scan(link: &Link, stream: &str, from: u64, until: u64, limit: usize) -> Result<Vec<Message>> {
    let config = json!({
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": from.max(1),
        "ack_policy": "none",
        "headers_only": true,
        "mem_storage": true,
        "num_replicas": 1,
        "max_waiting": 8,
        "inactive_threshold": 30_000_000_000_u64,
        "replay_policy": "instant",
    });
    let body = json!({ "stream_name": stream, "config": config });
    let made: ConsumerInfo = link.api("make a consumer", &format!("CONSUMER.CREATE.{stream}"), &body).await?;
    let (mut found, mut is_last) = (Vec::new(), made.num_pending == 0);
    while !is_last && found.len() < limit {
        let batch = fetch(link, stream, &made.name, (limit - found.len()).min(1_000), 0).await?;
        let batch = batch.ok_or_else(|| unavailable("read a stream", &link.target.place, "its consumer is gone"))?;
        is_last = batch.is_empty();
        for message in batch {
            let delivery = Delivery::read(&message).ok_or_else(|| corrupt("a delivery"))?;
            is_last |= delivery.pending == 0 || delivery.seq >= until;
            if delivery.seq < until {
                found.push(message);
            }
        }
    }
    // It would go by itself, later.
    link.api::<streams::Done>("remove a consumer", &format!("CONSUMER.DELETE.{stream}.{}", made.name), &json!(null))
        .await?;
    Ok(found)
}
