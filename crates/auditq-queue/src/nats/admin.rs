use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::desk::Desk;
use super::mirror::{Entry, Mirror};
use super::names::{escape, token};
use super::streams::{self, StreamState, WORKERS};
use super::{NatsQueue, QueueNote};
use crate::{Control, FailedFilter, FailedPage, MessageId, QueueAdmin, QueueName, QueueSizes, Result, Selection};

/// How many messages are looked at to find the oldest that nobody has taken.
const LOOKED_AT_MAX: usize = 20;

/// How long after a message was handed out its record is in the ledger, as a rule.
const ON_ITS_WAY_AT_MOST: Duration = Duration::from_millis(500);

/// What is wrong with a server that loses what it has not written through.
const NOT_SYNCED: &str = "a power cut at the server costs up to two minutes of messages, because it writes its files through \
    only so often: keep `replicas=3` in the URL with a cluster of three on machines apart, or set `sync_interval: always` \
    on a server of 2.10 or later";

#[async_trait]
impl QueueAdmin for NatsQueue {
    /// Makes the streams that all queues share, does what workers left undone that died, and removes what nothing refers to.
    async fn migrate(&self) -> Result<()> {
        let desk = self.desk().await?;
        desk.read_anew().await?;
        for info in streams::list(&desk.link, &desk.names.all("m")).await? {
            if let Some(queue) = info.config.queue() {
                let token = desk.make_queue(&queue).await?;
                desk.find_forgotten(&token).await?;
            }
        }
        desk.sweep_parts().await
    }

    async fn warnings(&self) -> Result<Vec<String>> {
        let desk = self.desk().await?;
        let wanted = desk.link.target.replicas;
        let replicas =
            streams::info(&desk.link, &desk.names.ledger()).await?.map_or(1, |info| info.config.num_replicas);
        let mut warnings = Vec::new();
        if replicas != wanted {
            warnings.push(format!(
                "the streams have {replicas} replicas and the URL asks for {wanted}: they keep what they were made with; \
                 change them with `nats stream edit --replicas {wanted}`"
            ));
        }
        if replicas == 1 {
            warnings.push(NOT_SYNCED.to_owned());
        }
        Ok(warnings)
    }

    async fn sizes(&self, queue: &QueueName) -> Result<QueueSizes> {
        let (desk, token) = (self.desk().await?, token(queue.as_str()));
        let exact = desk.catch_up().await?;
        let state = |info: Option<streams::StreamInfo>| info.map_or_else(StreamState::default, |info| info.state);
        let messages = state(streams::info(&desk.link, &desk.names.messages(&token)).await?).messages;
        let failed = state(streams::info(&desk.link, &desk.names.failed(&token)).await?).messages;
        let time = desk.lapse();
        let counts = desk.books().current.counts(&token, time);
        let untouched = messages.saturating_sub(counts.held + counts.delayed + counts.due);
        let first = if untouched > 0 { desk.first_untouched(&token).await? } else { None };
        // In the order in which they came: with a first one of the future, on a clock set back, all are.
        let (early, late) = if first.is_some_and(|at| at > time.now) { (0, untouched) } else { (untouched, 0) };
        let oldest = counts.oldest.into_iter().chain(first.filter(|at| *at <= time.now)).min();
        Ok(QueueSizes {
            ready: counts.due + early,
            delayed: counts.delayed + late,
            reserved: counts.held,
            failed,
            oldest: oldest.map(|at| Duration::from_micros(time.now.saturating_sub(at))),
            estimated: !exact,
        })
    }

    async fn queues(&self) -> Result<Vec<QueueName>> {
        let desk = self.desk().await?;
        let mut names = BTreeSet::new();
        for kind in ["m", "f"] {
            let found = streams::list(&desk.link, &desk.names.all(kind)).await?;
            let full = found.into_iter().filter(|info| info.state.messages > 0);
            names.extend(full.filter_map(|info| info.config.queue()));
        }
        Ok(names.into_iter().collect())
    }

    async fn failed(&self, filter: &FailedFilter) -> Result<FailedPage> {
        self.desk().await?.failed_page(filter).await
    }

    async fn failed_payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        self.desk().await?.failed_payload_of(id).await
    }

    async fn retry(&self, which: &Selection) -> Result<u64> {
        let desk = self.desk().await?;
        let retried = desk.settle_failed(which, true).await?;
        desk.wake().await?;
        Ok(retried)
    }

    async fn forget(&self, which: &Selection) -> Result<u64> {
        self.desk().await?.settle_failed(which, false).await
    }

    async fn clear(&self, queue: &QueueName) -> Result<u64> {
        let (desk, token) = (self.desk().await?, token(queue.as_str()));
        // The messages first: a crash after that leaves records of messages that have gone, which are found and removed.
        let dropped = streams::purge(&desk.link, &desk.names.messages(&token), None).await?;
        streams::purge(&desk.link, &desk.names.ledger(), Some(&desk.names.records(&token))).await?;
        let seq = desk.ask_workers("clear a queue", &format!("cleared.{token}"), escape(queue.as_str())).await?;
        desk.books().each(|mirror| mirror.clear(&token, seq));
        if dropped > 0 {
            // A server of 2.9 goes on counting what was dropped among what is to be handed out.
            desk.hand_out_anew(&token).await?;
        }
        Ok(dropped)
    }

    async fn pause(&self, queue: &QueueName) -> Result<()> {
        self.set_paused(queue, Some(queue.clone())).await
    }

    async fn resume(&self, queue: &QueueName) -> Result<()> {
        self.set_paused(queue, None).await?;
        self.desk().await?.wake().await
    }

    async fn restart(&self) -> Result<()> {
        let desk = self.desk().await?;
        let number = desk.count_restart().await?;
        desk.books().each(|mirror| mirror.set_restart(number));
        desk.wake().await
    }

    async fn control(&self) -> Result<Control> {
        let desk = self.desk().await?;
        desk.catch_up().await?;
        let known = |mirror: &Mirror| Control { paused: mirror.paused(), restart: mirror.restart() };
        Ok(known(&desk.books().current))
    }
}

impl NatsQueue {
    async fn set_paused(&self, queue: &QueueName, paused: QueueNote) -> Result<()> {
        let (desk, token) = (self.desk().await?, token(queue.as_str()));
        let line = paused.as_ref().map_or_else(String::new, |name| escape(name.as_str()));
        let seq = desk.ask_workers("pause or resume a queue", &format!("paused.{token}"), line).await?;
        desk.books().each(|mirror| mirror.set_paused(&token, seq, paused.clone()));
        Ok(())
    }
}

impl Desk {
    /// When the oldest message became available that nobody has taken; `None` when it is not soon found.
    async fn first_untouched(&self, queue: &str) -> Result<Option<u64>> {
        let stream = self.names.messages(queue);
        let floor =
            streams::consumer_info(&self.link, &stream, WORKERS).await?.map_or(0, |info| info.ack_floor.stream_seq);
        let (mut from, all) = (floor + 1, format!("{}.{queue}.*", self.names.all("m").trim_end_matches(".>")));
        for _ in 0..LOOKED_AT_MAX {
            let which = json!({ "seq": from, "next_by_subj": all });
            let Some(found) = streams::get(&self.link, &stream, &which).await? else { return Ok(None) };
            let known: Option<Entry> = self.books().current.get(queue, found.seq);
            if known.is_none() {
                return Ok(Some(found.note().due()));
            }
            from = found.seq + 1;
        }
        Ok(None)
    }

    /// Has everything handed out anew where messages are in nobody's hands: neither to be handed out, nor in the ledger.
    ///
    /// That is what a power cut can leave, when the server has kept what was last said to one stream and not to another.
    pub(super) async fn find_forgotten(&self, queue: &str) -> Result<()> {
        // Where others are at work a message may be on its way from one to the other.
        if self.are_forgotten(queue).await? {
            tokio::time::sleep(ON_ITS_WAY_AT_MOST).await;
            if self.are_forgotten(queue).await? {
                self.hand_out_anew(queue).await?;
            }
        }
        Ok(())
    }

    async fn are_forgotten(&self, queue: &str) -> Result<bool> {
        let stream = self.names.messages(queue);
        let Some(workers) = streams::consumer_info(&self.link, &stream, WORKERS).await? else { return Ok(false) };
        if workers.num_pending > 0 || workers.num_ack_pending > 0 {
            return Ok(false);
        }
        let Some(info) = streams::info(&self.link, &stream).await? else { return Ok(false) };
        let exact = self.catch_up().await?;
        let counts = self.books().current.counts(queue, self.lapse());
        Ok(exact && info.state.messages > counts.held + counts.delayed + counts.due)
    }
}
