//! What the parts of the driver share: the connection, the ledger as it is known, and how one record is changed.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::RequestErrorKind;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::Instant;

use super::DRIVER;
use super::errors::{corrupt, explain, unavailable};
use super::link::{IN_FLIGHT, Link, Published, expect_last};
use super::mirror::{Entry, Mirror};
use super::names::{Names, escape, token};
use super::record::{LINE, REASON, Record, headers};
use super::streams::{self, Done};
use super::time::{Time, micros};
use crate::{Error, ErrorKind, QueueName, Result};

/// For how long the ledger is read at the start before that counts as a failure.
const READ_AT_MOST: Duration = Duration::from_secs(15);
/// For how long the news of the ledger are waited for.
const NEWS_AT_MOST: Duration = Duration::from_secs(3);
/// The longest reason that is kept, escaped.
const REASON_BYTES_MAX: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) link: Link,
    pub(super) names: Names,
    pub(super) time: Time,
    pub(super) retry_after: Duration,
    /// Counts what may have become available.
    pub(super) arrivals: watch::Sender<u64>,
    pub(super) books: Mutex<Books>,
    /// How far the ledger was read; `None` until it was read once.
    pub(super) position: watch::Sender<Option<u64>>,
    /// Counts how often the ledger was read from the beginning.
    pub(super) readings: watch::Sender<u64>,
    /// Why the ledger cannot be read.
    pub(super) trouble: Mutex<Option<Error>>,
    /// Has the ledger read anew.
    pub(super) anew: Notify,
    /// Records that are over, and since when, to be removed once everybody has heard of them.
    pub(super) over: Mutex<Vec<(Instant, u64)>>,
    /// The queues whose streams are there.
    known: Mutex<HashSet<String>>,
    prepared: OnceCell<()>,
}

/// The ledger as it is known, and as it is being read anew.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) current: Mirror,
    pub(super) anew: Option<Mirror>,
}

impl Books {
    /// Changes what is known, and what is being read.
    pub(super) fn each(&mut self, change: impl Fn(&mut Mirror)) {
        change(&mut self.current);
        if let Some(anew) = &mut self.anew {
            change(anew);
        }
    }
}

/// What became of a change to a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Changed {
    /// It is made; this is the record now.
    To(Entry),
    /// Somebody else was first.
    Lost,
}

impl Desk {
    pub(super) fn new(link: Link, names: Names, time: Time, retry_after: Duration) -> Self {
        Self {
            link,
            names,
            time,
            retry_after,
            arrivals: watch::Sender::new(0),
            books: Mutex::default(),
            position: watch::Sender::new(None),
            readings: watch::Sender::new(0),
            trouble: Mutex::default(),
            anew: Notify::new(),
            over: Mutex::default(),
            known: Mutex::default(),
            prepared: OnceCell::new(),
        }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn announce(&self) {
        self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Lets whoever waits know, here and elsewhere. Lost, it costs them a few seconds.
    pub(super) async fn wake(&self) -> Result<()> {
        self.announce();
        self.link.say(&self.names.wake(), "").await
    }

    pub(super) fn lapse(&self) -> super::mirror::Time {
        super::mirror::Time { now: self.time.now(), retry_after: micros(self.retry_after) }
    }

    /// Connects and sees to what all queues share, once.
    pub(super) async fn prepare(&self) -> Result<()> {
        self.prepared
            .get_or_try_init(|| async {
                let client = self.link.client().await?;
                // Nobody answers where it is off, and for a moment while the server reads its configuration anew.
                let asked = client.request("$JS.API.INFO", bytes::Bytes::new()).await;
                let unanswered = asked.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders);
                if unanswered && !client.server_info().jetstream {
                    let place = &self.link.target.place;
                    let message = format!("cannot use {place}: JetStream is off; start the server with `-js`");
                    return Err(Error::new(ErrorKind::Misconfigured, DRIVER, message));
                }
                self.make_shared().await
            })
            .await
            .copied()
    }

    /// Makes the streams that all queues share, unless they are there.
    pub(super) async fn make_shared(&self) -> Result<()> {
        let (names, link) = (&self.names, &self.link);
        let mut ledger = streams::stream(link, &names.ledger(), &names.all("l"), true, None);
        ledger["subjects"] = json!([names.all("c"), names.all("l")]);
        ledger["discard"] = json!("old");
        streams::ensure(link, &ledger).await?;
        streams::ensure(link, &streams::stream(link, &names.parts(), &names.all("p"), true, None)).await
    }

    /// Waits until the ledger was read once.
    pub(super) async fn read_once(&self) -> Result<()> {
        let mut position = self.position.subscribe();
        let read = tokio::time::timeout(READ_AT_MOST, position.wait_for(Option::is_some)).await;
        if matches!(read, Ok(Ok(_))) {
            return Ok(());
        }
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(trouble.unwrap_or_else(|| unavailable("read the ledger", &self.link.target.place, "it takes too long")))
    }

    /// Waits until everything is known that is in the ledger now; false when that takes too long.
    pub(super) async fn catch_up(&self) -> Result<bool> {
        let info = streams::info(&self.link, &self.names.ledger()).await?;
        let last = info.map_or(0, |info| info.state.last_seq);
        let mut position = self.position.subscribe();
        let reached = position.wait_for(|position| position.is_some_and(|position| position >= last));
        Ok(matches!(tokio::time::timeout(NEWS_AT_MOST, reached).await, Ok(Ok(_))))
    }

    /// Makes the streams of a queue, once. Returns the queue's token.
    pub(super) async fn make_queue(&self, queue: &QueueName) -> Result<String> {
        let token = token(queue.as_str());
        if self.is_known(&token) {
            return Ok(token);
        }
        let (names, link) = (&self.names, &self.link);
        let messages = names.messages(&token);
        let subjects = |kind: &str| format!("{}.{token}.*", names.all(kind).trim_end_matches(".>"));
        streams::ensure(link, &streams::stream(link, &messages, &subjects("m"), false, Some(queue))).await?;
        streams::ensure(link, &streams::stream(link, &names.failed(&token), &subjects("f"), true, Some(queue))).await?;
        streams::ensure_workers(link, &messages).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone());
        Ok(token)
    }

    /// The queue's token, if its streams are there.
    pub(super) async fn find_queue(&self, queue: &QueueName) -> Result<Option<String>> {
        let token = token(queue.as_str());
        if self.is_known(&token) {
            return Ok(Some(token));
        }
        match streams::info(&self.link, &self.names.messages(&token)).await? {
            Some(_) => self.make_queue(queue).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn is_known(&self, token: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(token)
    }

    /// The tokens of the queues that this process has used.
    pub(super) fn known_queues(&self) -> Vec<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Streams may have been removed by hand: looks for them anew.
    pub(super) fn forget_queue(&self, token: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    /// The last record of a message, as the ledger has it.
    pub(super) async fn look_up(&self, queue: &str, number: u64) -> Result<Option<Entry>> {
        let which = json!({ "last_by_subj": self.names.record(queue, number) });
        let Some(found) = streams::get(&self.link, &self.names.ledger(), &which).await? else { return Ok(None) };
        let line = found.header(LINE).and_then(Record::read);
        let record = line.ok_or_else(|| corrupt(&format!("record {} of the ledger", found.seq)))?;
        let entry = Entry { seq: found.seq, record };
        self.books().each(|mirror| mirror.apply(queue, number, entry, false));
        Ok(Some(entry))
    }

    /// Writes a message's record, if the last one is still at `expected`; 0 is none.
    pub(super) async fn change(
        &self,
        operation: &str,
        (queue, number): (&str, u64),
        expected: u64,
        record: Record,
        reason: Option<&str>,
    ) -> Result<Changed> {
        let mut headers = headers(record.to_line());
        expect_last(&mut headers, expected);
        if let Some(reason) = reason {
            headers.insert(REASON, reason_to_header(reason));
        }
        let subject = self.names.record(queue, number);
        let seq = match self.link.publish(operation, &subject, &headers, &bytes::Bytes::new()).await? {
            Published::At(seq) => seq,
            Published::Refused { perhaps_mine } => match self.look_up(queue, number).await? {
                // An earlier try has done it, and its answer was lost. No two records are the same.
                Some(found) if perhaps_mine && found.record == record => found.seq,
                Some(_) => return Ok(Changed::Lost),
                None => {
                    self.books().each(|mirror| mirror.drop_until(queue, number, expected));
                    return Ok(Changed::Lost);
                }
            },
        };
        let entry = Entry { seq, record };
        self.books().each(|mirror| mirror.apply(queue, number, entry, false));
        Ok(Changed::To(entry))
    }

    /// Has a record that is over removed, later.
    pub(super) fn retire(&self, seq: u64) {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), seq));
    }

    /// Removes the records that were over for `age` or longer.
    pub(super) async fn remove_retired(&self, age: Duration) -> Result<()> {
        let stream = self.names.ledger();
        let due: Vec<u64> = {
            let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
            let (due, rest) = over.iter().partition::<Vec<_>, _>(|(since, _)| since.elapsed() >= age);
            *over = rest;
            due.into_iter().map(|(_, seq)| seq).collect()
        };
        // Lost over a failure, they are found when the ledger is read anew.
        let removals = due.into_iter().map(|seq| streams::remove(&self.link, &stream, seq));
        all(removals).await.map(drop)
    }

    /// Publishes what is asked of workers; returns its place.
    pub(super) async fn ask_workers(&self, operation: &str, what: &str, line: String) -> Result<u64> {
        let subject = self.names.control(what);
        match self.link.publish(operation, &subject, &headers(line), &bytes::Bytes::new()).await? {
            Published::At(seq) => Ok(seq),
            Published::Refused { .. } => Err(corrupt("the answer to a publish that expects nothing")),
        }
    }

    /// Counts one more restart; returns its number.
    pub(super) async fn count_restart(&self) -> Result<u64> {
        const OPERATION: &str = "ask for a restart";
        let subject = self.names.control("restart");
        loop {
            let last = streams::get(&self.link, &self.names.ledger(), &json!({ "last_by_subj": subject })).await?;
            let number = last.as_ref().and_then(|last| last.header(LINE)?.parse::<u64>().ok()).unwrap_or(0) + 1;
            let mut headers = headers(number.to_string());
            expect_last(&mut headers, last.map_or(0, |last| last.seq));
            // Of two at once each counts.
            if let Published::At(_) = self.link.publish(OPERATION, &subject, &headers, &bytes::Bytes::new()).await? {
                return Ok(number);
            }
        }
    }

    /// Removes a message of a queue.
    pub(super) async fn remove_message(&self, queue: &str, number: u64) -> Result<bool> {
        streams::remove(&self.link, &self.names.messages(queue), number).await
    }

    /// Removes the consumer of a queue and makes it anew, so that it hands out everything once more.
    pub(super) async fn hand_out_anew(&self, queue: &str) -> Result<()> {
        let stream = self.names.messages(queue);
        let what = format!("CONSUMER.DELETE.{stream}.{}", streams::WORKERS);
        // One that is missing is as good as removed.
        let removed = self.link.try_api::<Done>("remove a consumer", &what, &serde_json::Value::Null).await?;
        if let Err(refusal) =
            removed.map(drop).or_else(|refusal| if refusal.is_missing() { Ok(()) } else { Err(refusal) })
        {
            return Err(explain("remove a consumer", &self.link.target.place, &refusal));
        }
        streams::ensure_workers(&self.link, &stream).await
    }
}

/// A reason, escaped, and cut where it would not fit into a header.
pub(super) fn reason_to_header(reason: &str) -> String {
    let mut escaped = String::new();
    for character in reason.chars() {
        let next = escape(character.encode_utf8(&mut [0; 4]));
        if escaped.len() + next.len() > REASON_BYTES_MAX {
            break;
        }
        escaped.push_str(&next);
    }
    escaped
}

/// Runs questions, many at once, and gives the answers in their order.
pub(super) async fn all<T, F: Future<Output = Result<T>>>(asks: impl IntoIterator<Item = F>) -> Result<Vec<T>> {
    let asks: Vec<F> = asks.into_iter().collect();
    futures_util::stream::iter(asks).buffered(IN_FLIGHT).try_collect().await
}
