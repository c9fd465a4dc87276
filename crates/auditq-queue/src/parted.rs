//! A queue in Redis whose failed messages are in the table of a Laravel application.
//!
//! There is no transaction over both. Giving up writes the table first and removes the message second; putting back
//! pushes first and removes the row second. A crash in between leaves the message in both places, and doing it again
//! ends in one. A job that is held at the moment is left as it is when it is to be put back: either it is being given up,
//! or it will be delivered again. What the table cannot hold, which no application writes, stays in a key beside the
//! queue: all that is asked of the failed set looks at both.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::failed_jobs::{FailedJobs, GivenUp, Kept};
use crate::redis::{RedisQueue, is_text};
use crate::renewed::renewed;
use crate::{
    Control, ErrorKind, FailedFilter, FailedPage, MessageId, NewMessage, Queue, QueueAdmin, QueueName, QueueSizes,
    Receipt, Remainder, Reserved, Result, Selection,
};

/// How many failed messages are moved at a time: their payloads are held in memory.
const CHUNK: usize = 50;

/// How a cursor into the key begins, where the table has been listed to its end.
const BESIDE: &str = "beside:";

/// A queue in Redis with its failed set in a table.
#[derive(Debug)]
pub struct PartedQueue {
    queue: RedisQueue,
    failed: Arc<dyn FailedJobs>,
}

impl PartedQueue {
    /// Keeps what `queue` gives up in `failed`.
    #[must_use]
    pub fn new(queue: RedisQueue, failed: Arc<dyn FailedJobs>) -> Self {
        Self { queue, failed }
    }

    /// Writes into the table what of `held` it can hold; returns the receipts that are left to the key beside the queue.
    async fn keep(&self, held: &[(Receipt, GivenUp)], reason: &str) -> Result<Vec<Receipt>> {
        let mut left = Vec::new();
        for (receipt, message) in held {
            let kept = match is_text(&message.payload) {
                true => self.failed.keep(std::slice::from_ref(message), reason).await,
                false => {
                    left.push(receipt.clone());
                    continue;
                }
            };
            match kept {
                Err(error) if error.kind() == ErrorKind::Rejected => left.push(receipt.clone()),
                kept => kept?,
            }
        }
        Ok(left)
    }

    /// Puts back what the table holds of a selection, or drops it, a chunk at a time; returns how many.
    async fn settle_table(&self, which: &Selection, back: bool) -> Result<u64> {
        let (newest, mut total) = (self.failed.newest().await?, 0);
        loop {
            let rows = self.failed.rows(which, newest, CHUNK).await?;
            let before = total;
            for rows in rows.chunks(CHUNK) {
                total += if back { self.put_back(rows).await? } else { self.failed.remove(rows).await? };
            }
            // A chunk of nothing but what is left as it is would be found again and again.
            if rows.len() < CHUNK || total == before || matches!(which, Selection::Ids(_)) {
                return Ok(total);
            }
        }
    }

    async fn put_back(&self, rows: &[i64]) -> Result<u64> {
        let kept = self.failed.read(rows).await?;
        let messages: Vec<GivenUp> = kept.iter().map(|kept| kept.message.clone()).collect();
        let held = self.queue.are_held(&messages).await?;
        let (rows, mut messages): (Vec<i64>, Vec<GivenUp>) = kept
            .into_iter()
            .filter(|kept| !held.contains(&kept.message.id))
            .map(|Kept { row, message }| (row, message))
            .unzip();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        for message in &mut messages {
            if let Some(payload) = renewed(&message.payload, now) {
                message.payload = Bytes::from(payload);
            }
        }
        self.queue.put_back(&messages).await?;
        let removed = self.failed.remove(&rows).await?;
        self.queue.is_back(&messages).await?;
        Ok(removed)
    }
}

#[async_trait]
impl Queue for PartedQueue {
    async fn push(&self, batch: &[NewMessage]) -> Result<()> {
        let ids: Vec<MessageId> = batch.iter().map(|message| message.id.clone()).collect();
        let known = self.failed.known(&ids).await?;
        if known.is_empty() {
            return self.queue.push(batch).await;
        }
        let new: Vec<_> = batch.iter().filter(|message| !known.contains(&message.id)).cloned().collect();
        self.queue.push(&new).await
    }

    async fn reserve(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Reserved>> {
        self.queue.reserve(queues, limit).await
    }

    async fn extend(&self, held: &[Receipt]) -> Result<Vec<Receipt>> {
        self.queue.extend(held).await
    }

    async fn delete(&self, done: &[Receipt]) -> Result<Vec<Receipt>> {
        self.queue.delete(done).await
    }

    async fn release(&self, held: &[Remainder], delay: Duration) -> Result<Vec<Receipt>> {
        self.queue.release(held, delay).await
    }

    async fn decline(&self, held: &[Receipt], delay: Duration) -> Result<Vec<Receipt>> {
        self.queue.decline(held, delay).await
    }

    async fn bury(&self, held: &[Remainder], reason: &str) -> Result<Vec<Receipt>> {
        let receipts: Vec<Receipt> = held.iter().map(|remainder| remainder.receipt.clone()).collect();
        // Begun anew, so that nobody takes them over between the two steps.
        let stale: HashSet<Receipt> = self.queue.extend(&receipts).await?.into_iter().collect();
        let mut messages = Vec::with_capacity(held.len());
        for (place, mut message) in self.queue.held(&receipts).await? {
            if let Some(left) = &held[place].payload {
                message.payload = left.clone();
            }
            messages.push((receipts[place].clone(), message));
        }
        let beside = self.keep(&messages, reason).await?;
        let (beside, kept): (Vec<_>, Vec<_>) = held.iter().cloned().partition(|one| beside.contains(&one.receipt));
        let kept: Vec<Receipt> = kept.into_iter().map(|one| one.receipt).filter(|one| !stale.contains(one)).collect();
        let mut gone: HashSet<Receipt> = self.queue.delete(&kept).await?.into_iter().collect();
        if !beside.is_empty() {
            gone.extend(self.queue.bury(&beside, reason).await?);
        }
        Ok(receipts.into_iter().filter(|receipt| stale.contains(receipt) || gone.contains(receipt)).collect())
    }

    async fn wait(&self, queues: &[QueueName], at_most: Duration) {
        self.queue.wait(queues, at_most).await;
    }

    fn retry_after(&self) -> Duration {
        self.queue.retry_after()
    }
}

#[async_trait]
impl QueueAdmin for PartedQueue {
    async fn migrate(&self) -> Result<()> {
        self.queue.migrate().await?;
        self.failed.migrate().await
    }

    async fn check(&self) -> Result<()> {
        self.queue.check().await?;
        self.failed.check().await
    }

    async fn warnings(&self) -> Result<Vec<String>> {
        self.queue.warnings().await
    }

    async fn sizes(&self, queue: &QueueName) -> Result<QueueSizes> {
        let (sizes, (failed, estimated)) = (self.queue.sizes(queue).await?, self.failed.count(queue).await?);
        Ok(QueueSizes { failed: sizes.failed + failed, estimated: sizes.estimated || estimated, ..sizes })
    }

    async fn queues(&self) -> Result<Vec<QueueName>> {
        let mut names: BTreeSet<QueueName> = self.queue.queues().await?.into_iter().collect();
        names.extend(self.failed.queues().await?);
        Ok(names.into_iter().collect())
    }

    async fn failed(&self, filter: &FailedFilter) -> Result<FailedPage> {
        let of_key = |page: FailedPage| FailedPage { next: page.next.map(|next| format!("{BESIDE}{next}")), ..page };
        if let Some(after) = filter.after.as_deref().and_then(|after| after.strip_prefix(BESIDE)) {
            let after = (!after.is_empty()).then(|| after.to_owned());
            return Ok(of_key(self.queue.failed(&FailedFilter { after, ..filter.clone() }).await?));
        }
        let mut page = self.failed.page(filter).await?;
        if page.next.is_some() {
            return Ok(page);
        }
        let room = filter.limit - page.messages.len();
        // One at least, to know whether there is any.
        let rest = FailedFilter { limit: room.max(1), after: None, ..filter.clone() };
        let beside = of_key(self.queue.failed(&rest).await?);
        if room > 0 {
            page.messages.extend(beside.messages);
            page.next = beside.next;
        } else if !beside.messages.is_empty() {
            page.next = Some(BESIDE.to_owned());
        }
        Ok(page)
    }

    async fn failed_payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        match self.failed.payload(id).await? {
            Some(payload) => Ok(Some(payload)),
            None => self.queue.failed_payload(id).await,
        }
    }

    async fn retry(&self, which: &Selection) -> Result<u64> {
        let of_table = self.settle_table(which, true).await?;
        Ok(of_table + self.queue.retry(which).await?)
    }

    async fn forget(&self, which: &Selection) -> Result<u64> {
        let of_table = self.settle_table(which, false).await?;
        Ok(of_table + self.queue.forget(which).await?)
    }

    async fn clear(&self, queue: &QueueName) -> Result<u64> {
        self.queue.clear(queue).await
    }

    async fn pause(&self, queue: &QueueName) -> Result<()> {
        self.queue.pause(queue).await
    }

    async fn resume(&self, queue: &QueueName) -> Result<()> {
        self.queue.resume(queue).await
    }

    async fn restart(&self) -> Result<()> {
        self.queue.restart().await
    }

    async fn control(&self) -> Result<Control> {
        self.queue.control().await
    }
}
