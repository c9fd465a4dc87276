//! Messages on their way through a queue: what the scripts are given, and what their answers mean.

use std::time::Duration;

use redis::{FromRedisValue, ScriptInvocation, Value};

use super::keys::{Keys, QueueKeys};
use super::member::{self, Encoded};
use super::scripts;
use super::{DRIVER, micros};
use crate::message::check_text;
use crate::{Error, ErrorKind, NewMessage, QueueName, Receipt, Remainder, Reserved, Result};

/// How many messages one script settles, so that others get their turn.
pub(super) const CHUNK: usize = 200;

/// How many bytes one script is given to settle.
const CHUNK_BYTES: usize = 8 << 20;

/// The largest payload; the server takes no longer string than 512 MiB.
const PAYLOAD_BYTES_MAX: usize = 500 << 20;

/// How many messages one reservation takes at the most, however many are asked for.
const TAKEN_MAX: usize = 2_000;

/// The payload as text that the server takes.
pub(super) fn check(id: impl std::fmt::Display, payload: &[u8]) -> Result<&str> {
    let text = check_text(DRIVER, &id, payload)?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        let message = format!(
            "cannot take the payload of message {id}: its {} bytes are more than the {PAYLOAD_BYTES_MAX} that fit into \
             one string of the server",
            payload.len()
        );
        return Err(Error::new(ErrorKind::Rejected, DRIVER, message));
    }
    Ok(text)
}

/// The messages of a batch whose queues share a hash tag.
struct Tagged<'b> {
    queues: Vec<(QueueKeys, &'b QueueName)>,
    /// Each with the place of its queue.
    messages: Vec<(usize, &'b NewMessage)>,
}

impl<'b> Tagged<'b> {
    fn place_of(&self, queue: &QueueName) -> Option<usize> {
        self.queues.iter().position(|(_, name)| *name == queue)
    }

    fn sort(keys: &Keys, batch: &'b [NewMessage]) -> Vec<Self> {
        let mut tags: Vec<Self> = Vec::new();
        for message in batch {
            let known = tags.iter().enumerate().find_map(|(tag, tagged)| Some((tag, tagged.place_of(&message.queue)?)));
            let (tag, place) = known.unwrap_or_else(|| {
                let queue = keys.of(&message.queue);
                let same = |tagged: &Self| tagged.queues[0].0.shared.tag == queue.shared.tag;
                let tag = tags.iter().position(same).unwrap_or_else(|| {
                    tags.push(Self { queues: Vec::new(), messages: Vec::new() });
                    tags.len() - 1
                });
                tags[tag].queues.push((queue, &message.queue));
                (tag, tags[tag].queues.len() - 1)
            });
            tags[tag].messages.push((place, message));
        }
        tags
    }

    fn push<'s>(&self, clock: &str) -> Result<ScriptInvocation<'s>> {
        let (mut script, shared) = (scripts::PUSH.prepare_invoke(), &self.queues[0].0.shared);
        script.key(&shared.ids).key(&shared.failed).key(&shared.seq).key(&shared.queues);
        script.arg(clock).arg(self.queues.len());
        for (queue, name) in &self.queues {
            script.key(&queue.list).key(&queue.delayed).key(&queue.notify).arg(name.as_str());
        }
        for (place, message) in &self.messages {
            let Encoded { kind, body } = member::encode(check(&message.id, &message.payload)?, Some(&message.id));
            script.arg(place + 1).arg(micros(message.delay)).arg(kind);
            script.arg(member::id_to_text(&message.id)).arg(message.payload.len()).arg(body);
        }
        Ok(script)
    }
}

/// The scripts that push a batch, one for each hash tag in it.
pub(super) fn push<'s>(keys: &Keys, batch: &[NewMessage], clock: &str) -> Result<Vec<ScriptInvocation<'s>>> {
    Tagged::sort(keys, batch).iter().map(|tagged| tagged.push(clock)).collect()
}

/// The script that takes messages of one queue.
pub(super) fn reserve<'s>(
    keys: &QueueKeys,
    queue: &QueueName,
    (limit, bytes): (usize, usize),
    retry_after: Duration,
    clock: &str,
) -> ScriptInvocation<'s> {
    let mut script = scripts::RESERVE.prepare_invoke();
    script.key(&keys.list).key(&keys.delayed).key(&keys.reserved).key(&keys.notify).key(&keys.held);
    script.key(&keys.shared.paused).key(&keys.shared.seq).key(&keys.shared.queues);
    script.arg(clock).arg(micros(retry_after)).arg(limit.min(TAKEN_MAX)).arg(bytes).arg(queue.as_str());
    script
}

/// What a queue had to give.
pub(super) struct Taken {
    pub(super) is_paused: bool,
    /// In how long there will be something, where it is in sight.
    pub(super) due: Option<Duration>,
    pub(super) messages: Vec<Reserved>,
}

/// Reads the answer to [`reserve`].
pub(super) fn read_taken(answer: Vec<Value>, queue: &QueueName) -> Result<Taken> {
    let mut values = answer.into_iter();
    let is_paused = next::<i64>(&mut values)? == 1;
    let due = u64::try_from(next::<i64>(&mut values)?).ok().map(Duration::from_micros);
    let mut messages = Vec::new();
    while values.len() > 0 {
        let handle: String = next(&mut values)?;
        let attempts = next(&mut values)?;
        let created_at: String = next(&mut values)?;
        let id: Vec<u8> = next(&mut values)?;
        messages.push(Reserved {
            receipt: Receipt { id: held_as(&handle, queue, &id), attempt: attempts },
            queue: queue.clone(),
            attempts,
            created_at: created_at.parse().unwrap_or(0),
            payload: member::decode(next(&mut values)?)?,
        });
    }
    Ok(Taken { is_paused, due, messages })
}

/// What a receipt calls a message: its handle, queue and id, which may have commas in them but for the handle.
fn held_as(handle: &str, queue: &QueueName, id: &[u8]) -> String {
    format!("{handle},{},{queue},{}", queue.as_str().len(), String::from_utf8_lossy(id))
}

/// The handle, queue and id that a receipt of ours names.
fn named_in(receipt: &Receipt) -> Option<(&str, &str, &str)> {
    let (handle, rest) = receipt.id.split_once(',')?;
    let (length, rest) = rest.split_once(',')?;
    let (queue, id) = rest.split_at_checked(length.parse().ok()?)?;
    Some((handle, queue, id.strip_prefix(',')?))
}

/// The next value of an answer, as what it should be.
pub(super) fn next<T: FromRedisValue>(values: &mut std::vec::IntoIter<Value>) -> Result<T> {
    let value = values.next().unwrap_or(Value::Nil);
    T::from_redis_value(value).map_err(|error| {
        let message = format!("cannot read the server's answer: {error}; is it Redis 6.2, Valkey, or later?");
        Error::new(ErrorKind::Misconfigured, DRIVER, message)
    })
}

/// A receipt, and what is left of its message.
pub(super) type Left<'r> = (&'r Receipt, Option<&'r [u8]>);

/// Some receipts of one queue, for one script.
pub(super) struct Held<'r> {
    pub(super) queue: QueueName,
    pub(super) messages: Vec<HeldMessage<'r>>,
}

/// A message that is held.
pub(super) struct HeldMessage<'r> {
    /// Its place in what the caller gave.
    pub(super) place: usize,
    pub(super) handle: &'r str,
    pub(super) attempt: u32,
    id: &'r str,
    left: Option<&'r [u8]>,
}

/// Cuts what is held into chunks of one queue, in their order; what names no queue is stale, and its place is returned.
pub(super) fn chunks<'r>(held: impl Iterator<Item = (usize, Left<'r>)>) -> (Vec<Held<'r>>, Vec<usize>) {
    let (mut chunks, mut bytes, mut stale) = (Vec::<Held<'r>>::new(), 0, Vec::new());
    for (place, (receipt, left)) in held {
        let Some((handle, queue, id)) = named_in(receipt) else {
            stale.push(place);
            continue;
        };
        bytes += left.map_or(0, <[u8]>::len);
        let message = HeldMessage { place, handle, attempt: receipt.attempt, id, left };
        match chunks.last_mut() {
            Some(open) if open.queue.as_str() == queue && open.messages.len() < CHUNK && bytes <= CHUNK_BYTES => {
                open.messages.push(message);
            }
            _ => {
                bytes = left.map_or(0, <[u8]>::len);
                chunks.push(Held { queue: QueueName::from_engine(queue.to_owned()), messages: vec![message] });
            }
        }
    }
    (chunks, stale)
}

pub(super) fn extend<'s>(
    keys: &QueueKeys,
    held: &Held<'_>,
    retry_after: Duration,
    clock: &str,
) -> ScriptInvocation<'s> {
    let mut script = scripts::EXTEND.prepare_invoke();
    script.key(&keys.reserved).key(&keys.held).arg(clock).arg(micros(retry_after));
    for message in &held.messages {
        script.arg(message.handle).arg(message.attempt);
    }
    script
}

pub(super) fn delete<'s>(keys: &QueueKeys, held: &Held<'_>) -> ScriptInvocation<'s> {
    let mut script = scripts::DELETE.prepare_invoke();
    script.key(&keys.reserved).key(&keys.held).key(&keys.shared.ids);
    for message in &held.messages {
        script.arg(message.handle).arg(message.attempt).arg(message.id);
    }
    script
}

/// Gives messages back; `uncounted` of their attempts are as if they had not been.
pub(super) fn release<'s>(
    keys: &QueueKeys,
    held: &Held<'_>,
    (delay, uncounted): (Duration, u32),
    clock: &str,
) -> ScriptInvocation<'s> {
    let mut script = scripts::RELEASE.prepare_invoke();
    script.key(&keys.list).key(&keys.delayed).key(&keys.reserved).key(&keys.notify).key(&keys.held);
    script.key(&keys.shared.ids).key(&keys.shared.seq).arg(clock).arg(micros(delay)).arg(uncounted);
    add_remainders(&mut script, held);
    script
}

pub(super) fn bury<'s>(keys: &QueueKeys, held: &Held<'_>, reason: &str, clock: &str) -> ScriptInvocation<'s> {
    let (mut script, shared) = (scripts::BURY.prepare_invoke(), &keys.shared);
    script.key(&keys.reserved).key(&keys.held).key(&shared.ids).key(&shared.seq);
    script.key(&shared.failed).key(&shared.payloads).key(&shared.all_failed).key(&keys.failed).key(&shared.last_failed);
    script.arg(clock).arg(held.queue.as_str()).arg(reason);
    add_remainders(&mut script, held);
    script
}

fn add_remainders(script: &mut ScriptInvocation<'_>, held: &Held<'_>) {
    for message in &held.messages {
        script.arg(message.handle).arg(message.attempt);
        // Checked to be text when it came in.
        match message.left.and_then(|left| std::str::from_utf8(left).ok()) {
            Some(left) => {
                let Encoded { kind, body } = member::encode(left, None);
                script.arg(kind).arg(left.len()).arg(body);
            }
            None => {
                script.arg("").arg(0).arg("");
            }
        }
    }
}

/// What is held and what is left of it, once it is known to be text.
pub(super) fn remainders(held: &[Remainder]) -> Result<Vec<Left<'_>>> {
    let one = |remainder: &'_ Remainder| match &remainder.payload {
        Some(payload) => check(&remainder.receipt.id, payload).map(drop),
        None => Ok(()),
    };
    held.iter().try_for_each(one)?;
    Ok(held.iter().map(|remainder| (&remainder.receipt, remainder.payload.as_deref())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_leads_back_to_handle_queue_and_id() {
        for (queue, id) in [("audit-logs", "42"), ("{a,b}", "x,y"), ("é,1,", ""), ("", "id")] {
            let name = QueueName::from_engine(queue.to_owned());
            let receipt = Receipt { id: held_as("0000000000000001", &name, id.as_bytes()), attempt: 1 };
            assert_eq!(named_in(&receipt), Some(("0000000000000001", queue, id)));
        }
        for id in ["", "handle", "handle,queue", "handle,9,short,id", "handle,1,é,id", "handle,-1,,"] {
            assert_eq!(named_in(&Receipt { id: id.to_owned(), attempt: 1 }), None, "{id}");
        }
    }
}
