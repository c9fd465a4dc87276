//! The failed messages: a stream for each queue, listed from its end backwards.

use std::collections::BTreeMap;

use async_nats::Message;
use bytes::Bytes;
use serde_json::json;

use super::desk::{Desk, all};
use super::errors::corrupt;
use super::fetch::{Delivery, header, line_and_id, scan};
use super::link::{Published, expect_last};
use super::names::{token, unescape};
use super::record::{FailedNote, ID, LINE, Note, REASON, RETRIED, headers};
use super::streams::{self, Stored};
use super::time::micros;
use crate::{Error, ErrorKind, FailedFilter, FailedMessage, FailedPage, MessageId, QueueName, Result, Selection};

use super::DRIVER;

/// How many failed messages are put back or dropped at once.
const CHUNK: usize = 500;

/// A failed message without its payload.
#[derive(Clone, Debug)]
struct Found {
    queue: QueueName,
    token: String,
    seq: u64,
    /// Escaped.
    id: String,
    reason: String,
    note: FailedNote,
}

impl Found {
    fn read(queue: &QueueName, token: &str, message: &Message) -> Result<Self> {
        let seq = Delivery::read(message).ok_or_else(|| corrupt("a delivery"))?.seq;
        let (line, id) = line_and_id(message)?;
        let note = FailedNote::read(line).ok_or_else(|| corrupt(&format!("the failed message {id}")))?;
        let reason = header(message.headers.as_ref(), REASON).unwrap_or_default().to_owned();
        Ok(Self { queue: queue.clone(), token: token.to_owned(), seq, id: id.to_owned(), reason, note })
    }

    fn read_stored(queue: &QueueName, token: &str, stored: &Stored) -> Result<Self> {
        let (note, id) = (stored.header(LINE).and_then(FailedNote::read), stored.header(ID));
        let (Some(note), Some(id)) = (note, id) else { return Err(corrupt(&format!("failed message {}", stored.seq))) };
        let reason = stored.header(REASON).unwrap_or_default().to_owned();
        Ok(Self { queue: queue.clone(), token: token.to_owned(), seq: stored.seq, id: id.to_owned(), reason, note })
    }

    fn into_message(self) -> FailedMessage {
        FailedMessage {
            id: MessageId::new(unescape(&self.id)),
            queue: self.queue,
            reason: unescape(&self.reason),
            failed_at: i64::try_from(self.note.at / 1_000_000).unwrap_or(i64::MAX),
            payload_bytes: self.note.bytes,
        }
    }
}

/// Where the next page begins, for each queue, as `NAME=PLACE,NAME=PLACE` with the tokens of queues.
#[derive(Debug, Default)]
struct Places(BTreeMap<String, u64>);

impl Places {
    fn read(text: &str) -> Option<Self> {
        let one = |pair: &str| {
            let (queue, place) = pair.rsplit_once(':')?;
            Some((queue.to_owned(), place.parse().ok()?))
        };
        text.split(',').map(one).collect::<Option<_>>().map(Self)
    }

    fn to_text(&self) -> String {
        self.0.iter().map(|(queue, place)| format!("{queue}:{place}")).collect::<Vec<_>>().join(",")
    }
}

impl Desk {
    /// The queues that have streams for failed messages, or the one that is asked for.
    async fn failed_queues(&self, queue: Option<&QueueName>) -> Result<Vec<(QueueName, String)>> {
        if let Some(queue) = queue {
            return Ok(vec![(queue.clone(), token(queue.as_str()))]);
        }
        let found = streams::list(&self.link, &self.names.all("f")).await?;
        let named = found.into_iter().filter_map(|info| info.config.queue());
        Ok(named.map(|queue| (queue.clone(), token(queue.as_str()))).collect())
    }

    pub(super) async fn failed_page(&self, filter: &FailedFilter) -> Result<FailedPage> {
        let mut places = match filter.after.as_deref().map(Places::read) {
            None => Places::default(),
            Some(Some(places)) => places,
            Some(None) => {
                let after = filter.after.as_deref().unwrap_or_default();
                let message = format!("cannot list failed messages after {after:?}: it is not the `next` of a page");
                return Err(Error::new(ErrorKind::Rejected, DRIVER, message));
            }
        };
        let mut found = Vec::new();
        for (queue, token) in self.failed_queues(filter.queue.as_ref()).await? {
            let Some(info) = streams::info(&self.link, &self.names.failed(&token)).await? else { continue };
            let until = *places.0.entry(token.clone()).or_insert(info.state.last_seq + 1);
            let (first, wanted) = (info.state.first_seq, filter.limit.saturating_add(1));
            // Among themselves those of a queue keep the order of its stream, which is that of the places.
            let mut latest = u64::MAX;
            for failed in self.newest(&queue, &token, (first, until), wanted).await?.into_iter().rev() {
                latest = latest.min(failed.note.at);
                found.push((latest, failed));
            }
        }
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let has_more = found.len() > filter.limit;
        found.truncate(filter.limit);
        for (_, last) in &found {
            places.0.insert(last.token.clone(), last.seq);
        }
        let next = has_more.then(|| places.to_text());
        Ok(FailedPage { messages: found.into_iter().map(|(_, found)| found.into_message()).collect(), next })
    }

    /// The newest `limit` failed messages of a queue between two places of its stream.
    async fn newest(
        &self,
        queue: &QueueName,
        token: &str,
        (first, until): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Found>> {
        let mut span = (limit as u64).saturating_mul(2).max(64);
        loop {
            let from = until.saturating_sub(span).max(first);
            let mut found = self.between(queue, token, (from, until), usize::MAX).await?.0;
            if found.len() >= limit || from <= first {
                found.drain(..found.len().saturating_sub(limit));
                return Ok(found);
            }
            // Most of what was there has been retried or forgotten.
            span = span.saturating_mul(8);
        }
    }

    /// The failed messages of a queue from one place of its stream on to another, and where to go on.
    async fn between(
        &self,
        queue: &QueueName,
        token: &str,
        (from, until): (u64, u64),
        limit: usize,
    ) -> Result<(Vec<Found>, u64)> {
        if from >= until {
            return Ok((Vec::new(), until));
        }
        let messages = scan(&self.link, &self.names.failed(token), from, until, limit).await?;
        let found: Vec<Found> =
            messages.iter().map(|message| Found::read(queue, token, message)).collect::<Result<_>>()?;
        let next = found.last().map_or(until, |last| last.seq + 1);
        Ok((self.without_leftovers(token, found).await?, next))
    }

    /// Those that are not in their queue again: a retry puts a message there first, and removes it here after that.
    async fn without_leftovers(&self, token: &str, found: Vec<Found>) -> Result<Vec<Found>> {
        let waiting = streams::info(&self.link, &self.names.messages(token)).await?;
        if waiting.is_none_or(|info| info.state.messages == 0) {
            return Ok(found);
        }
        let asks = found.into_iter().map(|found| async move {
            let subject = self.names.message(&found.token, &unescape(&found.id));
            let which = json!({ "last_by_subj": subject });
            let waiting = streams::get(&self.link, &self.names.messages(&found.token), &which).await?;
            // An older one is what was buried, whose removal is under way.
            Ok(waiting.is_none_or(|waiting| waiting.seq <= found.note.number).then_some(found))
        });
        Ok(all(asks).await?.into_iter().flatten().collect())
    }

    async fn failed_by_id(&self, id: &MessageId) -> Result<Option<(Found, Stored)>> {
        for (queue, token) in self.failed_queues(None).await? {
            let which = json!({ "last_by_subj": self.names.failed_message(&token, id.as_str()) });
            let Some(stored) = streams::get(&self.link, &self.names.failed(&token), &which).await? else { continue };
            let found = vec![Found::read_stored(&queue, &token, &stored)?];
            if let Some(found) = self.without_leftovers(&token, found).await?.pop() {
                return Ok(Some((found, stored)));
            }
        }
        Ok(None)
    }

    pub(super) async fn failed_payload_of(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        let Some((found, stored)) = self.failed_by_id(id).await? else { return Ok(None) };
        match found.note.parts {
            Some(parts) => Ok(self.load_parts(&found.token, parts).await?.map(Into::into)),
            None => Ok(Some(stored.payload.into())),
        }
    }

    /// Puts failed messages back, or drops them; returns how many.
    pub(super) async fn settle_failed(&self, which: &Selection, back: bool) -> Result<u64> {
        let (queue, older_than) = match which {
            Selection::Ids(ids) => return self.settle_ids(ids, back).await,
            Selection::Matching { queue, older_than } => (queue.as_ref(), micros(*older_than)),
        };
        let Some(until) = self.time.now().checked_sub(older_than) else { return Ok(0) };
        let mut total = 0;
        for (queue, token) in self.failed_queues(queue).await? {
            let Some(info) = streams::info(&self.link, &self.names.failed(&token)).await? else { continue };
            // What fails from now on is not among those that a person decided on.
            let (mut from, end) = (info.state.first_seq, info.state.last_seq + 1);
            while from < end {
                let (found, next) = self.between(&queue, &token, (from, end), CHUNK).await?;
                from = next;
                let old = found.into_iter().filter(|found| older_than == 0 || found.note.at <= until);
                total += self.settle_found(old, back).await?;
            }
        }
        Ok(total)
    }

    async fn settle_ids(&self, ids: &[MessageId], back: bool) -> Result<u64> {
        let mut total = 0;
        for ids in ids.chunks(CHUNK) {
            let found = all(ids.iter().map(|id| self.failed_by_id(id))).await?;
            let mut seen = std::collections::HashSet::new();
            let found = found.into_iter().flatten().map(|(found, _)| found);
            let once = found.filter(|found| seen.insert((found.token.clone(), found.seq)));
            total += self.settle_found(once.collect::<Vec<_>>(), back).await?;
        }
        Ok(total)
    }

    async fn settle_found(&self, found: impl IntoIterator<Item = Found>, back: bool) -> Result<u64> {
        let settled = all(found.into_iter().map(|found| self.settle_failed_one(found, back))).await?;
        Ok(settled.into_iter().filter(|settled| *settled).count() as u64)
    }

    async fn settle_failed_one(&self, found: Found, back: bool) -> Result<bool> {
        let failed = self.names.failed(&found.token);
        if !back {
            let removed = streams::remove(&self.link, &failed, found.seq).await?;
            self.drop_parts(&found.token, found.note.parts.filter(|_| removed)).await?;
            return Ok(removed);
        }
        let Some(stored) = streams::get(&self.link, &failed, &json!({ "seq": found.seq })).await? else {
            return Ok(false);
        };
        let retried = self.put_back(&found, stored.payload).await?;
        // A crash before this leaves it here too, where nobody sees it; whoever reserves the message removes it.
        streams::remove(&self.link, &failed, found.seq).await?;
        Ok(retried)
    }

    /// Puts a failed message into its queue; false when it is there already.
    async fn put_back(&self, found: &Found, payload: Bytes) -> Result<bool> {
        self.make_queue(&found.queue).await?;
        let FailedNote { bytes, parts, number, .. } = found.note;
        let note = Note { at: self.time.now(), delay: 0, bytes, parts };
        let mut headers = headers(note.to_line());
        headers.insert(ID, found.id.as_str());
        headers.insert(RETRIED, found.seq.to_string());
        headers.insert("Nats-Msg-Id", format!("retry {} {}", found.seq, found.id));
        expect_last(&mut headers, 0);
        let subject = self.names.message(&found.token, &unescape(&found.id));
        for _ in 0..2 {
            if let Published::At(_) = self.link.publish("retry a message", &subject, &headers, &payload).await? {
                return Ok(true);
            }
            // What was buried is not removed yet; its number says that it is that one.
            let removed = self.remove_message(&found.token, number).await?;
            if !removed {
                break;
            }
        }
        Ok(false)
    }
}
