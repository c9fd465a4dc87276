//! What becomes of messages that are held: the record is changed first, which decides, and all else follows from it.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::desk::{Changed, Desk, all};
use super::link::{Published, expect_last};
use super::mirror::Entry;
use super::names::{escape, token};
use super::record::{FailedNote, ID, LINE, Parts, REASON, Record, State, headers};
use super::streams::{self, Stored};
use super::time::micros;
use crate::message::check_text;
use crate::{QueueName, Receipt, Remainder, Result};

use super::DRIVER;

/// A receipt that was read.
struct Held<'r> {
    queue: QueueName,
    token: String,
    number: u64,
    nonce: u64,
    receipt: &'r Receipt,
    left: Option<&'r Bytes>,
}

/// A record that is over, and that nobody has removed.
pub(super) struct Left {
    pub(super) queue: String,
    pub(super) number: u64,
    pub(super) entry: Entry,
    /// When the server took it, in microseconds since 1970.
    pub(super) written_at: u64,
}

/// What is to become of messages.
#[derive(Clone, Copy)]
pub(super) enum Fate<'a> {
    Extend,
    Done,
    /// Available after a delay; so many attempts did not count.
    Free(Duration, u32),
    Buried(&'a str),
}

/// The receipt of a reservation.
pub(super) fn receipt(queue: &QueueName, number: u64, record: &Record) -> Receipt {
    Receipt { id: format!("{queue},{number}.{:016x}", record.nonce), attempt: record.attempts }
}

fn read<'r>(receipt: &'r Receipt, left: Option<&'r Bytes>) -> Option<Held<'r>> {
    let (queue, handle) = receipt.id.rsplit_once(',')?;
    let (number, nonce) = handle.split_once('.')?;
    Some(Held {
        queue: QueueName::from_engine(queue.to_owned()),
        token: token(queue),
        number: number.parse().ok()?,
        nonce: u64::from_str_radix(nonce, 16).ok()?,
        receipt,
        left,
    })
}

impl Held<'_> {
    fn is(&self, entry: &Entry) -> bool {
        let Record { state, attempts, nonce, .. } = entry.record;
        state == State::Held && nonce == self.nonce && attempts == self.receipt.attempt
    }
}

/// What is left of messages, once it is known to be text.
pub(super) fn check(held: &[Remainder]) -> Result<()> {
    held.iter().try_for_each(|Remainder { receipt, payload }| match payload {
        Some(payload) => check_text(DRIVER, &receipt.id, payload).map(drop),
        None => Ok(()),
    })
}

impl Desk {
    /// Settles what is held; returns the receipts that were stale, in their order.
    pub(super) async fn settle<'r>(
        &self,
        held: impl IntoIterator<Item = (&'r Receipt, Option<&'r Bytes>)>,
        fate: Fate<'_>,
    ) -> Result<Vec<Receipt>> {
        let now = self.time.now();
        let mut seen = HashSet::new();
        let asks = held.into_iter().zip(0_u64..).map(|((receipt, left), place)| {
            // The second of the same settles nothing any more; what is only extended is still held.
            let is_first = |held: &Held<'_>| {
                matches!(fate, Fate::Extend) || seen.insert((held.token.clone(), held.number, held.nonce))
            };
            let held = read(receipt, left).filter(is_first);
            async move {
                let settled = match held {
                    Some(held) => self.settle_one(&held, fate, (now, place)).await.inspect_err(|_| {
                        // Somebody may have removed the stream that it goes to.
                        self.forget_queue(&held.token);
                    })?,
                    None => false,
                };
                Ok((!settled).then(|| receipt.clone()))
            }
        });
        if matches!(fate, Fate::Buried(_)) {
            // The failed are listed as they came, so they go one after the other.
            let mut stale = Vec::new();
            for ask in asks {
                let ask: Result<Option<Receipt>> = ask.await;
                stale.extend(ask?);
            }
            return Ok(stale);
        }
        let stale = all(asks).await?;
        Ok(stale.into_iter().flatten().collect())
    }

    async fn settle_one(&self, held: &Held<'_>, fate: Fate<'_>, time: (u64, u64)) -> Result<bool> {
        let Some(entry) = self.find_held(held).await? else { return Ok(false) };
        // A crash after this leaves parts that belong to nothing; see `sweep_parts`.
        let left = match held.left {
            Some(payload) => {
                let id = self.id_of(held).await?;
                Some((self.store_parts(&held.token, &id, payload).await?, payload.len() as u64))
            }
            None => None,
        };
        let Some(changed) = self.decide(held, entry, fate, left, time).await? else {
            self.drop_parts(&held.token, left.map(|(parts, _)| parts)).await?;
            return Ok(false);
        };
        match fate {
            Fate::Extend | Fate::Free(..) => {}
            // A crash before or within leaves a record that says what is to be done; see `watch::finish`.
            Fate::Done | Fate::Buried(_) => {
                self.finish(&held.token, held.number, &changed).await?;
                self.retire(changed.seq);
            }
        }
        if left.is_some() && entry.record.parts.is_some() {
            self.drop_parts(&held.token, entry.record.parts).await?;
        }
        Ok(true)
    }

    /// The record of a message, if the receipt is good for it.
    async fn find_held(&self, held: &Held<'_>) -> Result<Option<Entry>> {
        let known = self.books().current.get(&held.token, held.number);
        if let Some(entry) = known.filter(|entry| held.is(entry)) {
            return Ok(Some(entry));
        }
        // What is known here may be old; whether a receipt is stale the ledger alone says.
        Ok(self.look_up(&held.token, held.number).await?.filter(|entry| held.is(entry)))
    }

    /// The change that decides: after it, and not before, the message is settled.
    async fn decide(
        &self,
        held: &Held<'_>,
        mut entry: Entry,
        fate: Fate<'_>,
        left: Option<(Parts, u64)>,
        (now, place): (u64, u64),
    ) -> Result<Option<Entry>> {
        if let Fate::Buried(_) = fate {
            self.make_queue(&held.queue).await?;
        }
        loop {
            let mut record = entry.record;
            if let Some((parts, bytes)) = left {
                (record.parts, record.bytes) = (Some(parts), bytes);
            }
            (record.state, record.at) = match fate {
                Fate::Extend => (State::Held, now),
                Fate::Done => (State::Done, now),
                Fate::Free(delay, _) => (State::Free, now.saturating_add(micros(delay))),
                // Those of one call keep their order.
                Fate::Buried(_) => (State::Buried, now + place),
            };
            let reason = match fate {
                Fate::Buried(reason) => Some(reason),
                _ => None,
            };
            if let Fate::Free(_, uncounted) = fate {
                record.attempts = record.attempts.saturating_sub(uncounted);
            }
            match self.change("settle a message", (&held.token, held.number), entry.seq, record, reason).await? {
                Changed::To(entry) => return Ok(Some(entry)),
                // Extended meanwhile by its own holder, it is still held.
                Changed::Lost => match self.find_held(held).await? {
                    Some(found) if found.seq != entry.seq => entry = found,
                    _ => return Ok(None),
                },
            }
        }
    }

    /// The id of a message, escaped.
    async fn id_of(&self, held: &Held<'_>) -> Result<String> {
        let found = self.message(&held.token, held.number).await?;
        Ok(found.as_ref().map(Stored::id).unwrap_or_default().to_owned())
    }

    pub(super) async fn message(&self, queue: &str, number: u64) -> Result<Option<Stored>> {
        streams::get(&self.link, &self.names.messages(queue), &json!({ "seq": number })).await
    }

    /// Does what the record of a message that is over says. Doing it again changes nothing.
    pub(super) async fn finish(&self, queue: &str, number: u64, entry: &Entry) -> Result<()> {
        if entry.record.state == State::Buried {
            // The message goes last, so a crash in between is one before.
            if let Some(message) = self.message(queue, number).await? {
                self.add_failed(queue, &message, entry).await?;
            }
            self.remove_message(queue, number).await?;
        } else {
            self.remove_message(queue, number).await?;
            self.drop_parts(queue, entry.record.parts).await?;
        }
        Ok(())
    }

    /// Does what a record says that whoever wrote it has left behind, and removes it.
    pub(super) async fn finish_left(&self, left: &Left) -> Result<()> {
        let Left { queue, number, entry, written_at } = left;
        let message = self.message(queue, *number).await?;
        // In a stream that was removed and made anew, or that a power cut has shortened, numbers come again.
        let is_of_another = message.is_some_and(|message| message.taken_at() > *written_at);
        if !is_of_another {
            self.finish(queue, *number, entry).await?;
        }
        streams::remove(&self.link, &self.names.ledger(), entry.seq).await.map(drop)
    }

    /// Puts a message among the failed ones, unless it is there.
    async fn add_failed(&self, queue: &str, message: &Stored, entry: &Entry) -> Result<()> {
        let id = message.id();
        let Record { at, bytes, parts, .. } = entry.record;
        let reason = self.reason_of(queue, message.seq).await?;
        let note = FailedNote { at, bytes, parts, number: message.seq };
        let payload = if parts.is_some() { Bytes::new() } else { message.payload.clone() };
        let subject = self.names.failed_message(queue, &super::names::unescape(id));
        let mut expected = 0;
        loop {
            let mut headers = headers(note.to_line());
            headers.insert(ID, id);
            headers.insert(REASON, reason.as_str());
            expect_last(&mut headers, expected);
            if let Published::At(_) = self.link.publish("bury a message", &subject, &headers, &payload).await? {
                return Ok(());
            }
            let found =
                streams::get(&self.link, &self.names.failed(queue), &json!({ "last_by_subj": subject })).await?;
            expected = match found {
                // Whoever began this got so far.
                Some(found)
                    if found
                        .header(LINE)
                        .and_then(FailedNote::read)
                        .is_some_and(|known| known.number >= message.seq) =>
                {
                    return Ok(());
                }
                // It was put back and has failed again; what it was before is a leftover of that.
                Some(found) => found.seq,
                None => 0,
            };
        }
    }

    async fn reason_of(&self, queue: &str, number: u64) -> Result<String> {
        let which = json!({ "last_by_subj": self.names.record(queue, number) });
        let record = streams::get(&self.link, &self.names.ledger(), &which).await?;
        Ok(record.as_ref().and_then(|record| record.header(REASON)).map_or_else(|| escape("unknown"), str::to_owned))
    }
}
