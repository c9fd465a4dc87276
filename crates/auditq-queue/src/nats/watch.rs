//! Following the ledger: a consumer tells of each change, and every now and then all is read anew.
//!
//! What was missed (a lost connection, a record that came and went, a worker that died between two steps) is found then,
//! so nothing else has to be exact.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_nats::{Message, StatusCode};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::Instant;

use super::desk::{Desk, all};
use super::errors::{corrupt, unavailable};
use super::fetch::{Delivery, header};
use super::mirror::{Entry, Mirror};
use super::names::unescape;
use super::record::{LINE, Record};
use super::settle::Left;
use super::streams::{self, ConsumerInfo};
use super::time::micros;
use crate::{QueueName, Result};

/// How often the ledger is read anew.
const ANEW_EVERY_MS: std::ops::Range<u64> = 60_000..90_000;
/// How often the server says that it is there, and when it is taken to be gone.
const HEARTBEAT: Duration = Duration::from_secs(2);
const SILENCE_AT_MOST: Duration = Duration::from_secs(7);
/// How long it rests after a failure.
const REST: Duration = Duration::from_millis(500);
/// For how long a record that is over stays, so that every worker hears of it.
pub(super) const OVER_FOR: Duration = Duration::from_secs(2);
/// How many records that others left behind are seen to at once.
const SWEPT_MAX: usize = 1_000;

/// Follows the ledger for as long as the driver lives.
pub(super) async fn follow(desk: Arc<Desk>) {
    loop {
        if let Err(error) = follow_once(&desk).await {
            *desk.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            tokio::time::sleep(REST).await;
            // Somebody may have removed the ledger; any other failure is met again when it is followed.
            drop(desk.make_shared().await);
        }
    }
}

/// Removes what is over, and finds what is in nobody's hands, for as long as the driver lives.
pub(super) async fn clean_up(desk: Arc<Desk>) {
    let in_a_while = || Instant::now() + Duration::from_millis(fastrand::u64(ANEW_EVERY_MS));
    let mut next = in_a_while();
    loop {
        tokio::time::sleep(OVER_FOR / 2).await;
        // What stays behind over a failure is found when the ledger is read anew.
        drop(desk.remove_retired(OVER_FOR).await);
        if Instant::now() > next {
            next = in_a_while();
            for queue in desk.known_queues() {
                // Tried again the next time.
                drop(desk.find_forgotten(&queue).await);
            }
        }
    }
}

/// One reading of the ledger, and what comes after it, until it is time for another.
struct Reading<'d> {
    desk: &'d Desk,
    /// How many records there were to read.
    to_read: u64,
    /// What the ledger's last place was before.
    last: u64,
    /// How many deliveries have come.
    count: u64,
    is_read: bool,
    /// Records that are over and that nobody has removed.
    left: Vec<Left>,
}

async fn follow_once(desk: &Desk) -> Result<()> {
    let mut losses = desk.link.losses();
    losses.mark_unchanged();
    desk.time.learn(&desk.link, &desk.names).await?;
    let client = desk.link.client().await?;
    let failed = |error: String| unavailable("follow the ledger", &desk.link.target.place, &error);
    let mut wakes = client.subscribe(desk.names.wake()).await.map_err(|error| failed(error.to_string()))?;
    let inbox = client.new_inbox();
    let mut news = client.subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
    let stream = desk.names.ledger();
    let last = streams::info(&desk.link, &stream).await?.map_or(0, |info| info.state.last_seq);
    desk.books().anew = Some(Mirror::default());
    let made = make_consumer(desk, &stream, &inbox).await?;
    let mut reading = Reading { desk, to_read: made.num_pending, last, count: 0, is_read: false, left: Vec::new() };
    reading.settle();
    desk.announce();
    let next = Instant::now() + Duration::from_millis(fastrand::u64(ANEW_EVERY_MS));
    loop {
        tokio::select! {
            message = tokio::time::timeout(SILENCE_AT_MOST, news.next()) => {
                let Ok(Some(message)) = message else { return Err(failed("the server fell silent".to_owned())) };
                if !reading.hear(&message).await? {
                    return Ok(());
                }
                if reading.is_read && !reading.left.is_empty() {
                    let left = std::mem::take(&mut reading.left);
                    let is_all = left.len() < SWEPT_MAX;
                    finish(desk, left).await?;
                    if !is_all {
                        return Ok(());
                    }
                }
            }
            Some(_) = wakes.next() => desk.announce(),
            // An answer may be lost with a connection, and a record may go before it is heard of.
            _ = losses.changed() => return Ok(()),
            () = desk.anew.notified() => return Ok(()),
            () = tokio::time::sleep_until(next) => return Ok(()),
        }
    }
}

async fn make_consumer(desk: &Desk, stream: &str, inbox: &str) -> Result<ConsumerInfo> {
    let config = json!({
        "deliver_subject": inbox,
        "deliver_policy": "all",
        "ack_policy": "none",
        "max_deliver": 1,
        "mem_storage": true,
        "num_replicas": 1,
        "flow_control": true,
        "idle_heartbeat": u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
        "replay_policy": "instant",
    });
    let body = json!({ "stream_name": stream, "config": config });
    desk.link.api("make a consumer", &format!("CONSUMER.CREATE.{stream}"), &body).await
}

impl Reading<'_> {
    /// Takes note of what the server tells; false when something was missed.
    async fn hear(&mut self, message: &Message) -> Result<bool> {
        if message.status == Some(StatusCode::IDLE_HEARTBEAT) {
            self.answer(message).await?;
            return Ok(true);
        }
        let delivery = Delivery::read(message).ok_or_else(|| corrupt("a delivery of the ledger"))?;
        self.count += 1;
        if delivery.count != self.count {
            return Ok(false);
        }
        self.note(message, delivery)?;
        if self.is_read {
            self.desk.position.send_replace(Some(delivery.seq));
        } else {
            // Some may have come after the last place was asked for.
            self.last = self.last.max(delivery.seq);
            self.settle();
        }
        Ok(true)
    }

    /// The server waits with more until it is told that this has come.
    async fn answer(&self, message: &Message) -> Result<()> {
        let stalled = header(message.headers.as_ref(), "Nats-Consumer-Stalled");
        if let Some(reply) = message.reply.as_ref().map(async_nats::Subject::as_str).or(stalled) {
            self.desk.link.say(reply, "").await?;
        }
        Ok(())
    }

    fn note(&mut self, message: &Message, delivery: Delivery) -> Result<()> {
        let (desk, seq) = (self.desk, delivery.seq);
        let line = header(message.headers.as_ref(), LINE);
        match desk.names.split(&message.subject) {
            Some(("l", rest)) => {
                let place = rest.split_once('.').and_then(|(queue, number)| Some((queue, number.parse::<u64>().ok()?)));
                let record = line.and_then(Record::read);
                let (Some((queue, number)), Some(record)) = (place, record) else {
                    return Err(corrupt(&format!("record {seq} of the ledger")));
                };
                let entry = Entry { seq, record };
                desk.books().each(|mirror| mirror.apply(queue, number, entry, true));
                let age = desk.time.server_now().saturating_sub(delivery.taken_at);
                let is_left = record.state.is_over() && age >= micros(desk.retry_after);
                if !self.is_read && is_left && self.left.len() < SWEPT_MAX {
                    self.left.push(Left { queue: queue.to_owned(), number, entry, written_at: delivery.taken_at });
                }
                if record.state == super::record::State::Free {
                    desk.announce();
                }
            }
            Some(("c", what)) => {
                desk.books().each(|mirror| note_control(mirror, what, line, seq));
                desk.announce();
            }
            _ => {}
        }
        Ok(())
    }

    /// Goes by what was read, once that is all.
    fn settle(&mut self) {
        if self.count < self.to_read {
            return;
        }
        self.is_read = true;
        let mut books = self.desk.books();
        if let Some(anew) = books.anew.take() {
            books.current = anew;
        }
        drop(books);
        self.desk.position.send_replace(Some(self.last));
        self.desk.readings.send_modify(|count| *count = count.wrapping_add(1));
        self.desk.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn note_control(mirror: &mut Mirror, what: &str, line: Option<&str>, seq: u64) {
    let name = || line.map(|name| QueueName::from_engine(unescape(name)));
    match what.split_once('.') {
        Some(("paused", queue)) => mirror.set_paused(queue, seq, name().filter(|name| !name.as_str().is_empty())),
        Some(("cleared", queue)) => mirror.clear(queue, seq),
        None if what == "restart" => {
            mirror.set_restart(line.and_then(|number| number.parse().ok()).unwrap_or_default());
        }
        _ => {}
    }
}

/// Does what workers left undone that died between two steps.
async fn finish(desk: &Desk, left: Vec<Left>) -> Result<()> {
    all(left.iter().map(|left| desk.finish_left(left))).await.map(drop)
}

impl Desk {
    /// Has the ledger read from the beginning, and waits for it.
    pub(super) async fn read_anew(&self) -> Result<()> {
        let mut readings = self.readings.subscribe();
        self.anew.notify_one();
        if matches!(tokio::time::timeout(SILENCE_AT_MOST * 2, readings.changed()).await, Ok(Ok(()))) {
            return Ok(());
        }
        Err(unavailable("read the ledger anew", &self.link.target.place, "it takes too long"))
    }
}
