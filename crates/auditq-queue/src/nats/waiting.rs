//! Messages on their way in, and to a worker.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::desk::{Changed, Desk, all};
use super::errors::corrupt;
use super::fetch::{Delivery, fetch, header};
use super::link::{Published, expect_last};
use super::mirror::Entry;
use super::names::{escape, token};
use super::record::{ID, LINE, Note, RETRIED, Record, State, headers};
use super::settle::receipt;
use super::streams::{self, WORKERS};
use super::time::micros;
use crate::message::check_text;
use crate::{NewMessage, QueueName, Reserved, Result};

use super::DRIVER;

/// How many messages one reservation takes at the most, however many are asked for.
const TAKEN_MAX: usize = 2_000;

/// What a delivery has besides payload and headers, at the most: its subjects.
const DELIVERY_BYTES_MAX: usize = 4 << 10;

/// After how long it is doubted that a message that was handed out is still there: before the record of one that is
/// done goes, as it does after [`OVER_FOR`](super::watch::OVER_FOR).
const FRESH_FOR: Duration = Duration::from_secs(1);

/// A message that may be taken.
enum Candidate {
    /// Handed out for the first time, in this answer.
    New { message: Message, delivery: Delivery, note: Note },
    /// Known from the ledger.
    Known { number: u64, entry: Entry },
}

/// A message that was taken.
struct Taken {
    number: u64,
    record: Record,
    /// When it came, where that is known yet.
    created_at: Option<u64>,
    payload: Option<Bytes>,
}

/// A message that waits for its turn to be taken, and when it became available.
type Queued = ((u64, u64), Candidate);

impl Desk {
    pub(super) async fn push(&self, batch: &[NewMessage]) -> Result<()> {
        for message in batch {
            check_text(DRIVER, &message.id, &message.payload)?;
        }
        for queue in batch.iter().map(|message| &message.queue).collect::<HashSet<_>>() {
            self.make_queue(queue).await?;
        }
        let mut seen = HashSet::new();
        let once: Vec<_> = batch.iter().filter(|message| seen.insert((&message.queue, &message.id))).collect();
        let (new, call) = (self.without_failed(once).await?, fastrand::u64(..));
        let pushed = all(new.into_iter().map(|message| self.push_one(message, call))).await;
        if pushed.is_err() {
            // Somebody may have removed the streams.
            batch.iter().for_each(|message| self.forget_queue(&token(message.queue.as_str())));
        }
        pushed?;
        self.wake().await
    }

    /// Those that are not among the failed. Costs a question for each queue, and one for each message where some failed.
    async fn without_failed<'b>(&self, batch: Vec<&'b NewMessage>) -> Result<Vec<&'b NewMessage>> {
        let mut with_failed = HashSet::new();
        for queue in batch.iter().map(|message| &message.queue).collect::<HashSet<_>>() {
            let info = streams::info(&self.link, &self.names.failed(&token(queue.as_str()))).await?;
            if info.is_some_and(|info| info.state.messages > 0) {
                with_failed.insert(queue);
            }
        }
        let asks = batch.into_iter().map(|message| {
            let asked = with_failed.contains(&message.queue);
            async move {
                if !asked {
                    return Ok(Some(message));
                }
                let queue = token(message.queue.as_str());
                let which = json!({ "last_by_subj": self.names.failed_message(&queue, message.id.as_str()) });
                let found = streams::get(&self.link, &self.names.failed(&queue), &which).await?;
                Ok(found.is_none().then_some(message))
            }
        });
        Ok(all(asks).await?.into_iter().flatten().collect())
    }

    async fn push_one(&self, message: &NewMessage, call: u64) -> Result<()> {
        let (queue, id) = (token(message.queue.as_str()), escape(message.id.as_str()));
        let bytes = message.payload.len();
        let parts = if bytes > self.link.payload_bytes_max().await? {
            Some(self.store_parts(&queue, &id, &message.payload).await?)
        } else {
            None
        };
        let note = Note { at: self.time.now(), delay: micros(message.delay), bytes: bytes as u64, parts };
        let mut headers = headers(note.to_line());
        headers.insert(ID, id.as_str());
        // By this a publish that is repeated within this call is known, also once the message has been taken and is done.
        headers.insert("Nats-Msg-Id", format!("{call:016x}{}", token(message.id.as_str())));
        expect_last(&mut headers, 0);
        let subject = self.names.message(&queue, message.id.as_str());
        let inline = if parts.is_some() { &Bytes::new() } else { &message.payload };
        match self.link.publish("push a message", &subject, &headers, inline).await? {
            Published::At(number) if note.delay > 0 => self.set_aside(&queue, number, note).await.map(drop),
            Published::At(_) => Ok(()),
            // An earlier try may have put it there, with these parts; if not, they are swept.
            Published::Refused { perhaps_mine: true } => Ok(()),
            // It is in the queue already.
            Published::Refused { perhaps_mine: false } => self.drop_parts(&queue, parts).await,
        }
    }

    /// Notes that a message is available later. A crash before leaves that to whom the message is handed out to.
    async fn set_aside(&self, queue: &str, number: u64, note: Note) -> Result<Changed> {
        let (at, nonce) = (note.due(), fastrand::u64(..));
        let record = Record { state: State::Free, attempts: 0, nonce, at, bytes: note.bytes, parts: note.parts };
        self.change("delay a message", (queue, number), 0, record, None).await
    }

    /// Takes messages of one queue, up to `limit` and about `bytes`.
    pub(super) async fn reserve(&self, queue: &QueueName, limit: usize, bytes: usize) -> Result<Vec<Reserved>> {
        let Some(token) = self.find_queue(queue).await? else { return Ok(Vec::new()) };
        let (mut reserved, mut taken_bytes) = (Vec::new(), 0);
        // Whoever is late for all of them looks for others.
        for _ in 0..4 {
            let room = (limit.min(TAKEN_MAX) - reserved.len(), bytes - taken_bytes);
            let (taken, lost) = self.take(&token, room).await?;
            for message in self.load(&token, taken).await? {
                taken_bytes += message.payload.as_ref().map_or(0, Bytes::len);
                reserved.push(Reserved {
                    receipt: receipt(queue, message.number, &message.record),
                    queue: queue.clone(),
                    attempts: message.record.attempts,
                    created_at: message.created_at.map_or(0, |at| i64::try_from(at / 1_000_000).unwrap_or(i64::MAX)),
                    payload: message.payload.unwrap_or_default(),
                });
            }
            if lost == 0 || reserved.len() >= limit.min(TAKEN_MAX) || taken_bytes >= bytes {
                break;
            }
        }
        Ok(reserved)
    }

    /// Those that were taken, and how many somebody else was faster with.
    async fn take(&self, queue: &str, (limit, bytes): (usize, usize)) -> Result<(Vec<Taken>, usize)> {
        let (began, time) = (Instant::now(), self.lapse());
        let known = |found: Vec<(u64, Entry)>| {
            let known = |(number, entry): (u64, Entry)| ((entry.record.at, number), Candidate::Known { number, entry });
            found.into_iter().map(known).collect::<Vec<Queued>>()
        };
        let lapsed = known(self.books().current.lapsed(queue, time, limit));
        let mut others = Vec::new();
        let lapsed_bytes: u64 = lapsed.iter().map(|(_, candidate)| candidate.bytes()).sum();
        if lapsed.len() < limit && lapsed_bytes < bytes as u64 {
            others = known(self.books().current.due(queue, time.now, limit - lapsed.len()));
            let room = bytes.saturating_sub(usize::try_from(lapsed_bytes).unwrap_or(usize::MAX));
            others.extend(self.handed_out(queue, (limit - lapsed.len(), room), time.now).await?);
            others.sort_by_key(|(order, _)| *order);
        }
        let (mut chosen, mut room) = (Vec::new(), bytes as u64);
        let mut rest = Vec::new();
        for (_, candidate) in lapsed.into_iter().chain(others) {
            if chosen.len() < limit && room > 0 {
                room = room.saturating_sub(candidate.bytes());
                chosen.push(candidate);
            } else if let Candidate::New { message, .. } = candidate {
                rest.push(message);
            }
        }
        self.hand_back(rest).await?;
        let asked = chosen.len();
        let taken = all(chosen.into_iter().map(|candidate| self.take_one(queue, candidate, time.now, began))).await?;
        let taken: Vec<Taken> = taken.into_iter().flatten().collect();
        let lost = asked - taken.len();
        Ok((taken, lost))
    }

    /// What the server hands out that is not in the ledger, and available.
    async fn handed_out(&self, queue: &str, (limit, room): (usize, usize), now: u64) -> Result<Vec<Queued>> {
        // Any message fits into that, so one that is too large for the rest is still seen. More would be handed back, and
        // read once more when it comes again.
        let bytes = room.max(self.link.client().await?.max_payload() + DELIVERY_BYTES_MAX);
        let (stream, mut found) = (self.names.messages(queue), Vec::new());
        loop {
            let asked = limit - found.len();
            let Some(batch) = fetch(&self.link, &stream, WORKERS, asked, bytes).await? else {
                self.forget_queue(queue);
                self.hand_out_anew(queue).await?;
                return Ok(found);
            };
            let is_all = batch.len() < asked;
            for message in batch {
                found.extend(self.sort_out(queue, message, now).await?);
            }
            // What was handed out and is none to take will not be handed out again, so this comes to an end.
            if is_all || found.len() >= limit {
                return Ok(found);
            }
        }
    }

    /// A message that was handed out, if it is new and available; what is not is left to the ledger.
    async fn sort_out(&self, queue: &str, message: Message, now: u64) -> Result<Option<Queued>> {
        let delivery = Delivery::read(&message).ok_or_else(|| corrupt("a delivery"))?;
        let line = header(message.headers.as_ref(), LINE);
        let note = Note::of(line, delivery.taken_at, message.payload.len());
        let is_known = self.books().current.get(queue, delivery.seq).is_some();
        // By the clock of whoever pushed it, which is this one within a few milliseconds.
        if !is_known && (note.delay == 0 || note.due() <= now) {
            return Ok(Some(((note.due(), delivery.seq), Candidate::New { message, delivery, note })));
        }
        if !is_known {
            self.set_aside(queue, delivery.seq, note).await?;
        }
        self.take_over(&message).await?;
        Ok(None)
    }

    /// Tells the server that a message is in the ledger, which sees to it from now on. Lost, it is handed out again, and
    /// whoever gets it finds it there.
    async fn take_over(&self, message: &Message) -> Result<()> {
        match &message.reply {
            Some(reply) => self.link.say(reply, "+ACK").await,
            None => Ok(()),
        }
    }

    /// Gives back what was handed out and not taken, and waits until that is done, so that it comes first again.
    async fn hand_back(&self, messages: Vec<Message>) -> Result<()> {
        let nak = Bytes::from_static(b"-NAK");
        let asks = messages.iter().filter_map(|message| message.reply.as_ref()).map(|reply| {
            let nak = &nak;
            async move { self.link.ask("hand a message back", reply, None, nak).await.map(drop) }
        });
        all(asks).await.map(drop)
    }

    async fn take_one(&self, queue: &str, candidate: Candidate, now: u64, began: Instant) -> Result<Option<Taken>> {
        const OPERATION: &str = "reserve a message";
        let nonce = fastrand::u64(..);
        match candidate {
            Candidate::Known { number, entry } => {
                let attempts = entry.record.attempts.saturating_add(1);
                let record = Record { state: State::Held, attempts, nonce, at: now, ..entry.record };
                match self.change(OPERATION, (queue, number), entry.seq, record, None).await? {
                    Changed::To(_) => Ok(Some(Taken { number, record, created_at: None, payload: None })),
                    Changed::Lost => Ok(None),
                }
            }
            Candidate::New { message, delivery, note } => {
                let Note { bytes, parts, .. } = note;
                let record = Record { state: State::Held, attempts: 1, nonce, at: now, bytes, parts };
                let number = delivery.seq;
                let changed = self.change(OPERATION, (queue, number), 0, record, None).await?;
                self.take_over(&message).await?;
                let Changed::To(_) = changed else { return Ok(None) };
                self.remove_leftover(queue, &message).await?;
                // Handed out long ago or before, it may have been done by somebody else, and its record removed.
                let doubted = delivery.deliveries > 1 || began.elapsed() > FRESH_FOR;
                let payload = (parts.is_none() && !doubted).then(|| message.payload.clone());
                Ok(Some(Taken { number, record, created_at: Some(note.at), payload }))
            }
        }
    }

    /// A message that came back from the failed ones may have been left among them by a crash.
    async fn remove_leftover(&self, queue: &str, message: &Message) -> Result<()> {
        let Some(seq) = header(message.headers.as_ref(), RETRIED).and_then(|seq| seq.parse().ok()) else {
            return Ok(());
        };
        streams::remove(&self.link, &self.names.failed(queue), seq).await.map(drop)
    }

    /// Reads the payloads that are not in hand. A message that has gone meanwhile is left out.
    async fn load(&self, queue: &str, taken: Vec<Taken>) -> Result<Vec<Taken>> {
        let loads = taken.into_iter().map(|mut taken| async move {
            if taken.payload.is_some() {
                return Ok(Some(taken));
            }
            let Some(message) = self.message(queue, taken.number).await? else {
                // Cleared, or done: nothing is left but the record.
                self.put_away(queue, &taken).await?;
                return Ok(None);
            };
            taken.created_at = Some(message.note().at);
            taken.payload = match taken.record.parts {
                // Parts that somebody removed are lost: the message goes on without, is read in vain, and buried. An error
                // would hold up all that is taken with it.
                Some(parts) => Some(self.load_parts(queue, parts).await?.unwrap_or_default()),
                None => Some(message.payload),
            };
            Ok(Some(taken))
        });
        Ok(all(loads).await?.into_iter().flatten().collect())
    }

    async fn put_away(&self, queue: &str, taken: &Taken) -> Result<()> {
        let found = self.look_up(queue, taken.number).await?;
        let Some(entry) = found.filter(|entry| entry.record == taken.record) else { return Ok(()) };
        let record = Record { state: State::Done, ..taken.record };
        match self.change("put a record away", (queue, taken.number), entry.seq, record, None).await? {
            Changed::To(entry) => {
                self.finish(queue, taken.number, &entry).await?;
                self.retire(entry.seq);
                Ok(())
            }
            Changed::Lost => Ok(()),
        }
    }
}

impl Candidate {
    fn bytes(&self) -> u64 {
        match self {
            Self::New { note, .. } => note.bytes,
            Self::Known { entry, .. } => entry.record.bytes,
        }
    }
}
