//! The failed set: what is known of each message by its id, and the payloads apart, so that lists need not read them.

use redis::Value;
use serde::Deserialize;

use super::RedisQueue;
use super::keys::{QueueKeys, SharedKeys};
use super::waiting::{CHUNK, next};
use super::{DRIVER, member, scripts};
use crate::{Error, ErrorKind, FailedFilter, FailedMessage, FailedPage, MessageId, QueueName, Result, Selection};

/// How many failed messages one script lists.
const LISTED: usize = 500;

/// What is known of a failed message.
#[derive(Deserialize)]
struct Info {
    queue: String,
    reason: String,
    /// When it failed, in microseconds.
    at: String,
    bytes: String,
}

/// A failed message: its id as keys hold it, its number, and what is known of it.
struct Found {
    id: Vec<u8>,
    number: u64,
    info: Info,
}

/// Which failed messages an operation is about, all of one tag.
struct Which {
    list: String,
    shared: SharedKeys,
}

impl Found {
    fn into_message(self) -> FailedMessage {
        FailedMessage {
            id: member::id_from_text(&self.id),
            queue: QueueName::from_engine(self.info.queue),
            reason: self.info.reason,
            failed_at: self.info.at.parse::<i64>().unwrap_or(0).div_euclid(1_000_000),
            payload_bytes: self.info.bytes.parse().unwrap_or(0),
        }
    }
}

fn read_info(id: &[u8], info: &[u8]) -> Result<Info> {
    serde_json::from_slice(info).or_else(|_| serde_json::from_str(&String::from_utf8_lossy(info))).map_err(|error| {
        let id = member::id_from_text(id);
        let message =
            format!("cannot read what is known of the failed message {id}: {error}; `auditq queue forget` it");
        Error::new(ErrorKind::Corrupt, DRIVER, message)
    })
}

impl RedisQueue {
    async fn lists_of(&self, queue: Option<&QueueName>) -> Result<Vec<Which>> {
        if let Some(queue) = queue {
            let QueueKeys { failed, shared, .. } = self.keys.of(queue);
            return Ok(vec![Which { list: failed, shared }]);
        }
        let all = |shared: SharedKeys| Which { list: shared.all_failed.clone(), shared };
        Ok(self.shared_keys().await?.into_iter().map(all).collect())
    }

    /// Up to `limit` failed messages from one number on to another, newest first or oldest first.
    async fn find(&self, which: &Which, way: &str, (from, to): (&str, &str), limit: usize) -> Result<Vec<Found>> {
        let (mut found, mut from) = (Vec::new(), from.to_owned());
        while found.len() < limit {
            let step = LISTED.min(limit - found.len());
            let mut script = scripts::FAILED.prepare_invoke();
            script.key(&which.list).key(&which.shared.failed).arg(way).arg(&from).arg(to).arg(step);
            let answer: Vec<Value> = self.link.repeatable("list failed messages", &script).await?;
            let (count, mut values) = (answer.len() / 3, answer.into_iter());
            for _ in 0..count {
                let id: Vec<u8> = next(&mut values)?;
                let number: u64 = next(&mut values)?;
                let info: Vec<u8> = next(&mut values)?;
                from = format!("({number}");
                found.push(Found { info: read_info(&id, &info)?, id, number });
            }
            if count < step {
                break;
            }
        }
        Ok(found)
    }

    pub(super) async fn failed_page(&self, filter: &FailedFilter) -> Result<FailedPage> {
        let from = match filter.after.as_deref().map(str::parse::<u64>) {
            None => "+inf".to_owned(),
            Some(Ok(number)) => format!("({number}"),
            Some(Err(_)) => {
                let after = filter.after.as_deref().unwrap_or_default();
                let message = format!("cannot list failed messages after {after:?}: it is not the `next` of a page");
                return Err(Error::new(ErrorKind::Rejected, DRIVER, message));
            }
        };
        let mut found = Vec::new();
        for which in self.lists_of(filter.queue.as_ref()).await? {
            // One more than a page, to know whether there is a next.
            found.extend(self.find(&which, "newest", (&from, "-inf"), filter.limit.saturating_add(1)).await?);
        }
        found.sort_by_key(|found| std::cmp::Reverse(found.number));
        let has_more = found.len() > filter.limit;
        found.truncate(filter.limit);
        let next = found.last().filter(|_| has_more).map(|last| last.number.to_string());
        Ok(FailedPage { messages: found.into_iter().map(Found::into_message).collect(), next })
    }

    pub(super) async fn payload_of(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        for shared in self.shared_keys().await? {
            let mut command = redis::cmd("HGET");
            command.arg(&shared.payloads).arg(member::id_to_text(id));
            let found: Option<Vec<u8>> = self.link.command("read a failed message", &command).await?;
            if let Some(member) = found {
                return Ok(Some(member::decode(member)?.into()));
            }
        }
        Ok(None)
    }

    /// Puts failed messages back, or drops them; returns how many.
    pub(super) async fn settle_failed(&self, which: &Selection, back: bool) -> Result<u64> {
        match which {
            Selection::Ids(ids) => self.settle_ids(ids, back).await,
            Selection::Matching { queue, older_than } => {
                let until = self.micros_before(*older_than).await?;
                let mut total = 0;
                for which in self.lists_of(queue.as_ref()).await? {
                    total += self.settle_matching(&which, until, back).await?;
                }
                Ok(total)
            }
        }
    }

    async fn settle_ids(&self, ids: &[MessageId], back: bool) -> Result<u64> {
        let mut total = 0;
        for shared in self.shared_keys().await? {
            for ids in ids.chunks(LISTED) {
                let texts: Vec<String> = ids.iter().map(member::id_to_text).collect();
                let (mut numbers, mut infos) = (redis::cmd("ZMSCORE"), redis::cmd("HMGET"));
                numbers.arg(&shared.all_failed).arg(&texts);
                infos.arg(&shared.failed).arg(&texts);
                let numbers: Vec<Option<f64>> = self.link.command("find failed messages", &numbers).await?;
                let infos: Vec<Option<Vec<u8>>> = self.link.command("find failed messages", &infos).await?;
                let mut found = Vec::new();
                for ((id, number), info) in texts.into_iter().zip(numbers).zip(infos) {
                    let (Some(number), Some(info)) = (number, info) else { continue };
                    let info = read_info(id.as_bytes(), &info)?;
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "microseconds since 1970"
                    )]
                    found.push(Found { id: id.into_bytes(), number: number as u64, info });
                }
                total += self.settle_found(found, back).await?;
            }
        }
        Ok(total)
    }

    async fn settle_matching(&self, which: &Which, until: Option<u64>, back: bool) -> Result<u64> {
        // What fails from now on is not among those that a person decided on.
        let Some(newest) = self.find(which, "newest", ("+inf", "-inf"), 1).await?.pop() else { return Ok(0) };
        let (mut from, to, mut total) = ("-inf".to_owned(), newest.number.to_string(), 0);
        loop {
            let mut found = self.find(which, "oldest", (&from, &to), LISTED).await?;
            let Some(last) = found.last() else { return Ok(total) };
            from = format!("({}", last.number);
            found.retain(|found| until.is_none_or(|until| found.info.at.parse::<u64>().is_ok_and(|at| at <= until)));
            total += self.settle_found(found, back).await?;
        }
    }

    /// What was found, in its order, each message in one step.
    async fn settle_found(&self, found: Vec<Found>, back: bool) -> Result<u64> {
        let mut chunks: Vec<Vec<Found>> = Vec::new();
        for found in found {
            let has_room = |chunk: &&mut Vec<Found>| chunk[0].info.queue == found.info.queue && chunk.len() < CHUNK;
            match chunks.last_mut().filter(has_room) {
                Some(chunk) => chunk.push(found),
                None => chunks.push(vec![found]),
            }
        }
        let mut total = 0;
        for chunk in chunks {
            let queue = QueueName::from_engine(chunk[0].info.queue.clone());
            let keys = self.keys.of(&queue);
            let (mut script, shared) = if back {
                (scripts::RETRY.prepare_invoke(), &keys.shared)
            } else {
                (scripts::FORGET.prepare_invoke(), &keys.shared)
            };
            if back {
                script.key(&keys.list).key(&keys.delayed).key(&keys.notify).key(&shared.ids).key(&shared.seq);
                script.arg(self.clock()).arg(queue.as_str());
            }
            script.key(&shared.failed).key(&shared.payloads).key(&shared.all_failed).key(&keys.failed);
            for found in chunk {
                script.arg(found.id).arg(found.number);
            }
            let operation = if back { "retry failed messages" } else { "forget failed messages" };
            total += self.link.script::<u64>(operation, &script).await?;
        }
        Ok(total)
    }
}
