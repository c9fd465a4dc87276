use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::waiting::next;
use super::{DRIVER, RedisQueue, scripts};
use crate::{
    Control, Error, ErrorKind, FailedFilter, FailedPage, MessageId, QueueAdmin, QueueName, QueueSizes, Result,
    Selection,
};

/// How many messages and bytes of payload one script drops when a queue is cleared.
const CLEARED: usize = 1_000;
const CLEARED_BYTES: usize = 8 << 20;

#[async_trait]
impl QueueAdmin for RedisQueue {
    /// There is nothing to make; refuses a server that drops messages when its memory is short.
    async fn migrate(&self) -> Result<()> {
        let durability = self.durability().await?;
        match durability.eviction().filter(|_| durability.maxmemory > 0) {
            Some(why) => {
                let message = format!("cannot keep messages in {}: {why}", self.link.places());
                Err(Error::new(ErrorKind::Misconfigured, DRIVER, message))
            }
            None => Ok(()),
        }
    }

    async fn warnings(&self) -> Result<Vec<String>> {
        let durability = self.durability().await?;
        let costs = durability.loses_much().then(|| durability.statement.clone());
        Ok(costs.into_iter().chain(durability.eviction()).collect())
    }

    async fn sizes(&self, queue: &QueueName) -> Result<QueueSizes> {
        let keys = self.keys.of(queue);
        let mut script = scripts::SIZES.prepare_invoke();
        script.key(&keys.list).key(&keys.delayed).key(&keys.reserved).key(&keys.failed).arg(self.clock());
        let answer: Vec<Value> = self.link.repeatable("count messages", &script).await?;
        let mut counts = answer.into_iter();
        Ok(QueueSizes {
            ready: next(&mut counts)?,
            delayed: next(&mut counts)?,
            reserved: next(&mut counts)?,
            failed: next(&mut counts)?,
            oldest: u64::try_from(next::<i64>(&mut counts)?).ok().map(Duration::from_micros),
            estimated: false,
        })
    }

    async fn queues(&self) -> Result<Vec<QueueName>> {
        let mut names = BTreeSet::new();
        for shared in self.shared_keys().await? {
            for name in self.members("list queues", &shared.queues).await? {
                let keys = self.keys.of(&QueueName::from_engine(name.clone()));
                let mut command = redis::cmd("EXISTS");
                command.arg(&keys.list).arg(&keys.delayed).arg(&keys.reserved).arg(&keys.failed);
                if self.link.command::<u64>("list queues", &command).await? > 0 {
                    names.insert(name);
                }
            }
        }
        Ok(names.into_iter().map(QueueName::from_engine).collect())
    }

    async fn failed(&self, filter: &FailedFilter) -> Result<FailedPage> {
        self.failed_page(filter).await
    }

    async fn failed_payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        self.payload_of(id).await
    }

    async fn retry(&self, which: &Selection) -> Result<u64> {
        let retried = self.settle_failed(which, true).await?;
        self.announce();
        Ok(retried)
    }

    async fn forget(&self, which: &Selection) -> Result<u64> {
        self.settle_failed(which, false).await
    }

    async fn clear(&self, queue: &QueueName) -> Result<u64> {
        let (keys, mut total) = (self.keys.of(queue), 0);
        loop {
            let mut script = scripts::CLEAR.prepare_invoke();
            script.key(&keys.list).key(&keys.delayed).key(&keys.reserved).key(&keys.notify).key(&keys.held);
            script.key(&keys.shared.ids).arg(CLEARED).arg(CLEARED_BYTES);
            let dropped: u64 = self.link.script("clear a queue", &script).await?;
            total += dropped;
            if dropped == 0 {
                return Ok(total);
            }
        }
    }

    async fn pause(&self, queue: &QueueName) -> Result<()> {
        self.change_set("pause a queue", "SADD", queue).await
    }

    async fn resume(&self, queue: &QueueName) -> Result<()> {
        self.change_set("resume a queue", "SREM", queue).await?;
        self.announce();
        Ok(())
    }

    async fn restart(&self) -> Result<()> {
        let command = redis::cmd("INCR").arg(self.keys.restarts()).clone();
        self.link.command::<()>("ask for a restart", &command).await?;
        self.announce();
        Ok(())
    }

    async fn control(&self) -> Result<Control> {
        const OPERATION: &str = "read what is asked of workers";
        let mut paused = BTreeSet::new();
        for shared in self.shared_keys().await? {
            paused.extend(self.members(OPERATION, &shared.paused).await?);
        }
        let restart: Option<u64> = self.link.command(OPERATION, redis::cmd("GET").arg(self.keys.restarts())).await?;
        let paused = paused.into_iter().map(QueueName::from_engine).collect();
        Ok(Control { paused, restart: restart.unwrap_or(0) })
    }
}
