//! Payloads that are kept apart from their messages: what is left of one, and one that is too large for a publish.
//!
//! They are stored before anything refers to them and removed after nothing does; a crash between leaves parts that take
//! room and do nothing else, until [`Desk::sweep_parts`] finds them.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::desk::{Desk, all};
use super::errors::corrupt;
use super::fetch::{Delivery, header, scan};
use super::link::Published;
use super::names::unescape;
use super::record::{FailedNote, ID, LINE, Note, Parts};
use super::streams;
use super::time::micros;
use crate::Result;

/// How old parts are before anybody asks whom they belong to: longer than any message is on its way.
const ALONE_AT_LEAST: Duration = Duration::from_secs(3_600);

/// How many parts are looked at in one go.
const SWEPT_MAX: usize = 10_000;

impl Desk {
    /// Stores a payload apart from the message `id`, which is the escaped one.
    pub(super) async fn store_parts(&self, queue: &str, id: &str, payload: &Bytes) -> Result<Parts> {
        let room = self.link.payload_bytes_max().await?;
        let nonce = fastrand::u64(..);
        let mut headers = HeaderMap::new();
        headers.insert(ID, id);
        let places = 0..u32::try_from(payload.len().div_ceil(room).max(1)).unwrap_or(u32::MAX);
        let count = places.end;
        let publishes = places.map(|place| {
            let begin = place as usize * room;
            let part = payload.slice(begin..payload.len().min(begin + room));
            let (subject, headers) = (self.names.part(queue, nonce, place), &headers);
            async move { self.link.publish("store a payload", &subject, headers, &part).await }
        });
        all::<Published, _>(publishes).await?;
        Ok(Parts { nonce, count })
    }

    /// A payload that was stored apart; `None` when its message has gone and it with it.
    pub(super) async fn load_parts(&self, queue: &str, parts: Parts) -> Result<Option<Bytes>> {
        let stream = self.names.parts();
        let reads = (0..parts.count).map(|place| {
            let (stream, which) = (&stream, json!({ "last_by_subj": self.names.part(queue, parts.nonce, place) }));
            async move { streams::get(&self.link, stream, &which).await }
        });
        let mut payload = BytesMut::new();
        for part in all(reads).await? {
            let Some(part) = part else { return Ok(None) };
            payload.extend_from_slice(&part.payload);
        }
        Ok(Some(payload.freeze()))
    }

    /// Removes a payload that nothing refers to any more.
    pub(super) async fn drop_parts(&self, queue: &str, parts: Option<Parts>) -> Result<()> {
        let Some(Parts { nonce, .. }) = parts else { return Ok(()) };
        let subjects = self.names.parts_of(queue, nonce);
        streams::purge(&self.link, &self.names.parts(), Some(&subjects)).await.map(drop)
    }

    /// Removes old parts that belong to nothing: what a crash has left, or a queue that was cleared.
    pub(super) async fn sweep_parts(&self) -> Result<()> {
        let (stream, mut found) = (self.names.parts(), HashMap::<(String, u64), String>::new());
        for part in scan(&self.link, &stream, 0, u64::MAX, SWEPT_MAX).await? {
            let delivery = Delivery::read(&part).ok_or_else(|| corrupt("a delivery"))?;
            let age = self.time.server_now().saturating_sub(delivery.taken_at);
            let place = self.names.split(&part.subject).and_then(|(_, rest)| rest.split_once('.'));
            let nonce = place.and_then(|(_, rest)| u64::from_str_radix(rest.split('.').next()?, 16).ok());
            if let (Some((queue, _)), Some(nonce), true) = (place, nonce, age >= micros(ALONE_AT_LEAST)) {
                let id = header(part.headers.as_ref(), ID).unwrap_or_default();
                found.insert((queue.to_owned(), nonce), unescape(id));
            }
        }
        for ((queue, nonce), id) in found {
            if !self.belongs(&queue, nonce, &id).await? {
                self.drop_parts(&queue, Some(Parts { nonce, count: 0 })).await?;
            }
        }
        Ok(())
    }

    /// Whether a message, its record, or a failed message refers to these parts.
    async fn belongs(&self, queue: &str, nonce: u64, id: &str) -> Result<bool> {
        let is_it = |parts: Option<Parts>| parts.is_some_and(|parts| parts.nonce == nonce);
        let failed = json!({ "last_by_subj": self.names.failed_message(queue, id) });
        let failed = streams::get(&self.link, &self.names.failed(queue), &failed).await?;
        let note = failed.as_ref().and_then(|failed| FailedNote::read(failed.header(LINE)?));
        if note.is_some_and(|note| is_it(note.parts)) {
            return Ok(true);
        }
        let message = json!({ "last_by_subj": self.names.message(queue, id) });
        let Some(message) = streams::get(&self.link, &self.names.messages(queue), &message).await? else {
            return Ok(false);
        };
        let note = message.header(LINE).and_then(Note::read);
        let record = self.look_up(queue, message.seq).await?;
        Ok(note.is_some_and(|note| is_it(note.parts)) || record.is_some_and(|entry| is_it(entry.record.parts)))
    }
}
