//! Messages on their way to a failed set that is elsewhere, and back.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use redis::Value;

use super::member::{self, Encoded};
use super::waiting::{CHUNK, check, chunks, next};
use super::{RedisQueue, scripts};
use crate::failed_jobs::GivenUp;
use crate::identity::uuid_in;
use crate::{MessageId, QueueName, Receipt, Result};

impl RedisQueue {
    /// The messages that are held, each with the place of its receipt, as they were before; those that are stale are
    /// missing.
    pub(crate) async fn held(&self, receipts: &[Receipt]) -> Result<Vec<(usize, GivenUp)>> {
        let (chunks, _) = chunks(receipts.iter().map(|receipt| (receipt, None)).enumerate());
        let mut held = Vec::new();
        for chunk in chunks {
            let keys = self.keys.of(&chunk.queue);
            let mut script = scripts::HELD.prepare_invoke();
            script.key(&keys.reserved).key(&keys.held);
            for message in &chunk.messages {
                script.arg(message.handle).arg(message.attempt);
            }
            let answer: Vec<Value> = self.link.repeatable("read held messages", &script).await?;
            let mut values = answer.into_iter();
            while values.len() > 0 {
                let place: usize = next(&mut values)?;
                let id: Vec<u8> = next(&mut values)?;
                let payload = member::decode(next(&mut values)?)?;
                let Some(message) = chunk.messages.get(place) else { continue };
                let id = member::id_from_text(&id);
                held.push((message.place, GivenUp { id, queue: chunk.queue.clone(), payload }));
            }
        }
        held.sort_unstable_by_key(|(place, _)| *place);
        Ok(held)
    }

    /// Which of these jobs of Laravel's are held at the moment, whether their reservations have lapsed or not.
    pub(crate) async fn are_held(&self, messages: &[GivenUp]) -> Result<HashSet<MessageId>> {
        let mut held = HashSet::new();
        for (queue, messages) in by_queue(messages) {
            let keys = self.keys.of(queue);
            for messages in messages.chunks(CHUNK) {
                let mut script = scripts::IS_HELD.prepare_invoke();
                script.key(&keys.reserved).key(&keys.held);
                for message in messages {
                    script.arg(&message.payload[..]);
                }
                let places: Vec<usize> = self.link.repeatable("look for held messages", &script).await?;
                held.extend(
                    places.into_iter().filter_map(|place| messages.get(place)).map(|message| message.id.clone()),
                );
            }
        }
        Ok(held)
    }

    /// Adds messages that failed as new. What an earlier call added and nobody took is not added twice.
    pub(crate) async fn put_back(&self, messages: &[GivenUp]) -> Result<()> {
        for (queue, messages) in by_queue(messages) {
            let keys = self.keys.of(queue);
            self.register(&keys).await?;
            for messages in messages.chunks(CHUNK) {
                let (mut script, shared) = (scripts::PUT_BACK.prepare_invoke(), &keys.shared);
                script.key(&keys.list).key(&keys.delayed).key(&keys.notify);
                script.key(&shared.ids).key(&shared.seq).key(&shared.queues).key(&shared.returning);
                script.arg(self.clock()).arg(queue.as_str());
                for message in messages {
                    let payload = check(&message.id, &message.payload)?;
                    // A job names itself; its row may have got a suffix.
                    let own = uuid_in(payload.as_bytes()).map(MessageId::new);
                    let Encoded { kind, body } = member::encode(payload, Some(own.as_ref().unwrap_or(&message.id)));
                    script.arg(member::id_to_text(&message.id)).arg(kind).arg(payload.len()).arg(body);
                }
                self.link.script::<u64>("put back failed messages", &script).await?;
            }
        }
        self.announce();
        Ok(())
    }

    /// Says that these are no longer kept where they were.
    pub(crate) async fn is_back(&self, messages: &[GivenUp]) -> Result<()> {
        for (queue, messages) in by_queue(messages) {
            let mut command = redis::cmd("SREM");
            command.arg(&self.keys.of(queue).shared.returning);
            for message in messages {
                command.arg(member::id_to_text(&message.id));
            }
            self.link.command::<()>("forget what was put back", &command).await?;
        }
        Ok(())
    }
}

/// In the order of each queue.
fn by_queue(messages: &[GivenUp]) -> Vec<(&QueueName, Vec<&GivenUp>)> {
    let (mut queues, mut places) = (Vec::<(&QueueName, Vec<&GivenUp>)>::new(), HashMap::new());
    for message in messages {
        let place = *places.entry(&message.queue).or_insert_with(|| {
            queues.push((&message.queue, Vec::new()));
            queues.len() - 1
        });
        queues[place].1.push(message);
    }
    queues
}

/// True when a table of text can hold it.
pub(crate) fn is_text(payload: &Bytes) -> bool {
    std::str::from_utf8(payload).is_ok_and(|text| !text.contains('\0'))
}
