//! Redis and Valkey: the keys that Laravel uses for a queue.
//!
//! A queue is a list of what is ready, a sorted set of what is delayed and one of what is reserved, scored by time, and
//! a list of tokens to block on. What Laravel has no key for lives under `auditq:`. Each operation is a script that moves
//! many messages in one atomic step: there is no instant at which a message is popped and not reserved.
//!
//! A receipt is fenced by the message's handle and its attempts, which a member carries in itself and under which its score
//! is known; no two reservations have the same score. Times are the server's, in microseconds. Messages whose queues share a
//! hash tag (`{audit-logs}`), or have none, are pushed all or none, and known by their ids among each other.

mod admin;
mod cache;
mod errors;
mod failed;
mod health;
mod keys;
mod link;
mod listen;
mod member;
mod moving;
mod scripts;
mod url;
mod waiting;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::{ScriptInvocation, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::message::RESERVED_BYTES_MAX;
use crate::{Error, ErrorKind, NewMessage, Queue, QueueName, Receipt, Remainder, Reserved, Result};

pub use cache::RedisCache;
pub use health::Durability;
use keys::{Keys, NO_TAG, QueueKeys, SharedKeys};
use link::Link;
use listen::Listeners;
pub(crate) use moving::is_text;
use waiting::{Held, Left, chunks, remainders};

const DRIVER: &str = "redis";

/// How long a waiting caller goes without looking, at the least; a token on the `:notify` key wakes it at once.
const LOOK_EVERY_MS: std::ops::Range<u64> = 1_000..1_250;

/// How a queue in Redis works.
#[derive(Clone, Debug)]
pub struct RedisQueueOptions {
    /// How long a reservation lasts unless it is extended. Defaults to 90 seconds.
    pub retry_after: Duration,
    /// Where the time comes from, for tests. Defaults to `None`: the server's clock, one for all workers.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Default for RedisQueueOptions {
    fn default() -> Self {
        Self { retry_after: Duration::from_secs(90), clock: None }
    }
}

/// A queue on a Redis or Valkey server.
#[derive(Debug)]
pub struct RedisQueue {
    link: Arc<Link>,
    keys: Keys,
    options: RedisQueueOptions,
    listeners: Listeners,
    /// Counts what may have become available.
    arrivals: watch::Sender<u64>,
    /// What callers knew when they found their queues empty.
    empty: Mutex<HashMap<Vec<QueueName>, Empty>>,
    /// The hash tags that this process has made known.
    tags: Mutex<HashSet<String>>,
}

/// The state of things when some queues were found empty.
#[derive(Clone, Debug)]
struct Empty {
    arrivals: u64,
    /// When the next message becomes available by itself.
    due: Option<Instant>,
    /// What is not paused; a paused queue has tokens that nobody takes.
    open: Vec<QueueName>,
}

impl RedisQueue {
    /// Uses the servers in `url`: `redis://USER:PASSWORD@HOST:6379/0`, `rediss://` with TLS, `unix:///SOCKET`.
    ///
    /// Several hosts (`redis://a:6379,b:6379/0`) are a server and its replicas: the one that takes writes is found at
    /// the start and again after a failover. `?prefix=laravel_database_` is what all keys begin with. Connects later.
    ///
    /// # Errors
    /// `Misconfigured` when `retry_after` is zero or the URL cannot be read.
    pub fn open(url: &str, options: RedisQueueOptions) -> Result<Self> {
        if options.retry_after.is_zero() {
            let message =
                "cannot open the queue: `retry_after` is 0, so every message would be handed out again at once";
            return Err(Error::new(ErrorKind::Misconfigured, DRIVER, message));
        }
        let target = url::read(url)?;
        // Whoever else has chosen how TLS is done in this process has done it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let (arrivals, _) = watch::channel(0);
        Ok(Self {
            link: Arc::new(Link::new(target.nodes)),
            keys: Keys::new(&target.prefix),
            options,
            listeners: Listeners::default(),
            arrivals,
            empty: Mutex::default(),
            tags: Mutex::default(),
        })
    }

    /// What a crash of the server can cost, and whether it may drop messages while it runs.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer.
    pub async fn durability(&self) -> Result<Durability> {
        health::durability(&self.link).await
    }

    /// The time for a script: the test's, or nothing for the server's own.
    fn clock(&self) -> String {
        self.options.clock.as_ref().map_or_else(String::new, |clock| clock.now().as_micros().to_string())
    }

    /// The microsecond so long ago; `None` when no age is asked for.
    async fn micros_before(&self, age: Duration) -> Result<Option<u64>> {
        if age.is_zero() {
            return Ok(None);
        }
        let now = match &self.options.clock {
            Some(clock) => micros(clock.now()),
            None => {
                let (seconds, more): (u64, u64) = self.link.command("read the time", &redis::cmd("TIME")).await?;
                seconds * 1_000_000 + more
            }
        };
        Ok(Some(now.saturating_sub(micros(age))))
    }

    fn announce(&self) {
        self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Makes a queue's hash tag known, so that people see what is kept under it.
    async fn register(&self, keys: &QueueKeys) -> Result<()> {
        let tag = &keys.shared.tag;
        if tag == NO_TAG || self.tags.lock().unwrap_or_else(PoisonError::into_inner).contains(tag) {
            return Ok(());
        }
        let mut command = redis::cmd("SADD");
        command.arg(self.keys.tags()).arg(tag);
        self.link.command::<()>("name a queue's tag", &command).await?;
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).insert(tag.clone());
        Ok(())
    }

    /// The keys that are shared under each tag.
    async fn shared_keys(&self) -> Result<Vec<SharedKeys>> {
        let mut tags: BTreeSet<String> = self.members("list the tags of queues", &self.keys.tags()).await?;
        tags.insert(NO_TAG.to_owned());
        Ok(tags.iter().map(|tag| self.keys.shared(tag)).collect())
    }

    async fn members(&self, operation: &'static str, key: &str) -> Result<BTreeSet<String>> {
        let found: Vec<Vec<u8>> = self.link.command(operation, redis::cmd("SMEMBERS").arg(key)).await?;
        Ok(found.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect())
    }

    fn remember_empty(&self, queues: &[QueueName], found: Empty) {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        if empty.len() >= 64 && !empty.contains_key(queues) {
            // Callers ask for a handful of lists; forgetting one costs a look at the queue.
            empty.clear();
        }
        empty.insert(queues.to_vec(), found);
    }

    /// Runs a script for each chunk of what is held; returns the receipts that were stale, in the order of `held`.
    async fn settle<'r>(
        &self,
        operation: &'static str,
        held: &[Left<'r>],
        script: impl Fn(&QueueKeys, &Held<'_>) -> ScriptInvocation<'static>,
    ) -> Result<Vec<Receipt>> {
        let all = held.iter().copied().enumerate();
        self.settle_in_order(operation, all, script).await.map(|stale| receipts_at(&stale, held))
    }

    async fn settle_in_order<'r>(
        &self,
        operation: &'static str,
        held: impl Iterator<Item = (usize, Left<'r>)>,
        script: impl Fn(&QueueKeys, &Held<'_>) -> ScriptInvocation<'static>,
    ) -> Result<Vec<usize>> {
        let (chunks, mut stale) = chunks(held);
        for chunk in chunks {
            let script = script(&self.keys.of(&chunk.queue), &chunk);
            let places: Vec<usize> = self.link.script(operation, &script).await?;
            stale.extend(places.into_iter().filter_map(|place| chunk.messages.get(place)).map(|message| message.place));
        }
        stale.sort_unstable();
        Ok(stale)
    }

    async fn change_set(&self, operation: &'static str, command: &str, queue: &QueueName) -> Result<()> {
        let keys = self.keys.of(queue);
        self.register(&keys).await?;
        let mut command = redis::cmd(command);
        command.arg(&keys.shared.paused).arg(queue.as_str());
        self.link.command(operation, &command).await
    }

    async fn give_back(
        &self,
        operation: &'static str,
        held: &[Left<'_>],
        how: (Duration, u32),
    ) -> Result<Vec<Receipt>> {
        let clock = self.clock();
        let script = |keys: &QueueKeys, held: &Held<'_>| waiting::release(keys, held, how, &clock);
        // Handles count pushes: what was pushed first is to be taken first again.
        let mut sorted: Vec<_> = held.iter().copied().enumerate().collect();
        sorted.sort_by_key(|(_, (receipt, _))| receipt.id.as_str());
        let stale = self.settle_in_order(operation, sorted.into_iter(), script).await?;
        self.announce();
        Ok(receipts_at(&stale, held))
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, batch: &[NewMessage]) -> Result<()> {
        let scripts = waiting::push(&self.keys, batch, &self.clock())?;
        for queue in batch.iter().map(|message| &message.queue).collect::<HashSet<_>>() {
            self.register(&self.keys.of(queue)).await?;
        }
        for script in scripts {
            self.link.repeatable::<u64>("push messages", &script).await?;
        }
        self.announce();
        Ok(())
    }

    async fn reserve(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Reserved>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let arrivals = *self.arrivals.borrow();
        let (mut reserved, mut bytes) = (Vec::new(), 0);
        let (mut due, mut open) = (None::<Duration>, Vec::new());
        for queue in queues {
            if reserved.len() >= limit || bytes >= RESERVED_BYTES_MAX {
                break;
            }
            let keys = self.keys.of(queue);
            self.register(&keys).await?;
            let room = (limit - reserved.len(), RESERVED_BYTES_MAX - bytes);
            let script = waiting::reserve(&keys, queue, room, self.options.retry_after, &self.clock());
            let answer: Vec<Value> = self.link.script("reserve messages", &script).await?;
            let taken = waiting::read_taken(answer, queue)?;
            bytes += taken.messages.iter().map(|message| message.payload.len()).sum::<usize>();
            reserved.extend(taken.messages);
            if !taken.is_paused {
                open.push(queue.clone());
            }
            due = taken.due.into_iter().chain(due).min();
        }
        if reserved.is_empty() {
            let due = due.and_then(|due| Instant::now().checked_add(due));
            self.remember_empty(queues, Empty { arrivals, due, open });
        }
        Ok(reserved)
    }

    async fn extend(&self, held: &[Receipt]) -> Result<Vec<Receipt>> {
        let (held, clock) = (held.iter().map(|receipt| (receipt, None)).collect::<Vec<_>>(), self.clock());
        let script = |keys: &QueueKeys, held: &Held<'_>| waiting::extend(keys, held, self.options.retry_after, &clock);
        self.settle("extend reservations", &held, script).await
    }

    async fn delete(&self, done: &[Receipt]) -> Result<Vec<Receipt>> {
        let done: Vec<_> = done.iter().map(|receipt| (receipt, None)).collect();
        self.settle("delete messages", &done, waiting::delete).await
    }

    async fn release(&self, held: &[Remainder], delay: Duration) -> Result<Vec<Receipt>> {
        self.give_back("release messages", &remainders(held)?, (delay, 0)).await
    }

    async fn decline(&self, held: &[Receipt], delay: Duration) -> Result<Vec<Receipt>> {
        let held: Vec<Left<'_>> = held.iter().map(|receipt| (receipt, None)).collect();
        self.give_back("decline messages", &held, (delay, 1)).await
    }

    async fn bury(&self, held: &[Remainder], reason: &str) -> Result<Vec<Receipt>> {
        let (held, clock) = (remainders(held)?, self.clock());
        let script = |keys: &QueueKeys, held: &Held<'_>| waiting::bury(keys, held, reason, &clock);
        self.settle("bury messages", &held, script).await
    }

    async fn wait(&self, queues: &[QueueName], at_most: Duration) {
        let mut arrivals = self.arrivals.subscribe();
        let known = self.empty.lock().unwrap_or_else(PoisonError::into_inner).get(queues).cloned();
        let known = known.unwrap_or_else(|| Empty { arrivals: *self.arrivals.borrow(), due: None, open: Vec::new() });
        for queue in &known.open {
            self.listeners.listen(&self.link, &self.keys.of(queue).notify, &self.arrivals);
        }
        // What is delayed elsewhere meanwhile has no token yet, and a token may be lost with its server.
        let look = Duration::from_millis(fastrand::u64(LOOK_EVERY_MS));
        let due = known.due.map_or(look, |due| due.saturating_duration_since(Instant::now()));
        let changed = arrivals.wait_for(|count| *count != known.arrivals);
        // Running out of time is one of the ways to return.
        drop(tokio::time::timeout(at_most.min(look).min(due), changed).await);
    }

    fn retry_after(&self) -> Duration {
        self.options.retry_after
    }
}

fn receipts_at(places: &[usize], held: &[Left<'_>]) -> Vec<Receipt> {
    places.iter().map(|place| held[*place].0.clone()).collect()
}

/// Microseconds, up to a time that a score can hold beside the present.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(4_000_000_000_000_000)
}
