//! The forwarder: reads the spools of this host into the queue.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditq_queue::{ErrorKind, NewMessage, Queue, QueueName};
use auditq_spool::{Chunk, ProducerId, ReadError, Reader, Removal};

use crate::inbox::{Inbox, Letter};
use crate::observer::{Observer, WorkEvent};
use crate::parcel;
use crate::retry::{Decision, RetryPolicy};
use crate::settlement::SettleError;
use crate::shutdown::Shutdown;

/// Bytes that are read from a spool at once; what bounds the forwarder's memory.
const CHUNK_BYTES: usize = 4 << 20;
/// How many messages one read fills at the most.
const CHUNK_MESSAGES: usize = 16;
/// How often it looks for spools of new processes.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at spools that had something: enough for a few events to share a message.
const LINGER: Duration = Duration::from_millis(20);
/// Between two looks at spools that had nothing.
const IDLE_MAX: Duration = Duration::from_millis(200);

/// Reads every spool under one folder that nobody else reads, of live processes and of dead ones.
///
/// A position is committed only after the queue has the messages, so that a crash at any moment repeats records and
/// loses none; their event ids are the same the second time.
#[derive(Debug)]
pub struct Forwarder {
    root: PathBuf,
    queue: Arc<dyn Queue>,
    queue_name: QueueName,
    message_events: usize,
    policy: RetryPolicy,
    shutdown: Shutdown,
    observer: Observer,
    sources: HashMap<ProducerId, Source>,
    discovered: Option<Instant>,
    /// `None` only while it is being read.
    inbox: Option<Inbox>,
}

/// One spool that is being read.
#[derive(Debug)]
struct Source {
    reader: Box<Reader>,
    chunk: Chunk,
}

impl Forwarder {
    /// Reads the spools under `root` into `queue_name` of `queue`, up to `message_events` records a message.
    #[must_use]
    pub fn new(
        root: PathBuf,
        queue: Arc<dyn Queue>,
        queue_name: QueueName,
        message_events: usize,
        policy: RetryPolicy,
        shutdown: Shutdown,
        observer: Observer,
    ) -> Self {
        let (sources, discovered) = Default::default();
        let inbox = Some(Inbox::new(&root, queue_name.clone()));
        Self { root, queue, queue_name, message_events, policy, shutdown, observer, sources, discovered, inbox }
    }

    /// Forwards until it is asked to end. A queue that does not answer is waited for, and the spools grow meanwhile.
    ///
    /// # Errors
    /// A queue that cannot work as configured.
    pub async fn run(&mut self) -> Result<(), SettleError> {
        let mut pause = LINGER;
        while !self.shutdown.is_requested() {
            let forwarded = self.pass().await?;
            pause = if forwarded > 0 { LINGER } else { (pause * 2).min(IDLE_MAX) };
            // A full read means that there is more.
            if forwarded < self.message_events {
                self.shutdown.sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Forwards what there is, and returns how many records that were.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn drain(&mut self) -> Result<usize, SettleError> {
        self.discovered = None;
        let mut total = 0;
        loop {
            let forwarded = self.pass().await?;
            total += forwarded;
            if forwarded == 0 || self.shutdown.is_requested() {
                return Ok(total);
            }
        }
    }

    /// Takes one chunk from each spool, and as much from the inbox.
    async fn pass(&mut self) -> Result<usize, SettleError> {
        if self.discovered.is_none_or(|at| at.elapsed() >= DISCOVERY_INTERVAL) {
            self.discover();
            self.discovered = Some(Instant::now());
        }
        let mut forwarded = 0;
        let producers: Vec<ProducerId> = self.sources.keys().copied().collect();
        for producer in producers {
            let Some(source) = self.sources.remove(&producer) else { continue };
            match self.forward_chunk(source).await? {
                Ok((Some(source), records)) => {
                    self.sources.insert(producer, source);
                    forwarded += records;
                }
                Ok((None, records)) => forwarded += records,
                // The reader is let go of and taken again at the next discovery: a disk that failed may work then.
                Err(error) => self.tell_waiting(&error.to_string(), DISCOVERY_INTERVAL),
            }
        }
        Ok(forwarded + self.forward_inbox().await?)
    }

    /// Pushes messages that were left in the inbox, and takes their files away once the queue has them.
    async fn forward_inbox(&mut self) -> Result<usize, SettleError> {
        let Some(inbox) = self.inbox.take() else { return Ok(0) };
        let (inbox, letters) = with_inbox(inbox, Inbox::read).await;
        self.inbox = Some(inbox);
        let letters = match letters {
            Ok(letters) => letters,
            Err(error) => {
                self.tell_inbox_trouble(&error);
                return Ok(0);
            }
        };
        if letters.is_empty() {
            return Ok(0);
        }
        let records = letters.iter().map(|letter| letter.records).sum();
        let Some(pushed) = self.push_letters(letters).await? else { return Ok(0) };
        self.observer.tell(&WorkEvent::Forwarded { messages: pushed.len(), records });
        if let Some(inbox) = self.inbox.take() {
            let (inbox, ()) = with_inbox(inbox, move |inbox| inbox.remove(&pushed)).await;
            self.inbox = Some(inbox);
        }
        Ok(records)
    }

    /// Pushes all of them, or puts aside what the queue refuses; `None` when it was asked to end before.
    async fn push_letters(&mut self, letters: Vec<Letter>) -> Result<Option<Vec<Letter>>, SettleError> {
        let messages: Vec<NewMessage> = letters.iter().map(|letter| letter.message.clone()).collect();
        match self.queue.push(&messages).await {
            Ok(()) => return Ok(Some(letters)),
            // Of one that is refused the others are not to suffer.
            Err(error) if error.kind() == ErrorKind::Rejected => {}
            Err(_) => return Ok(self.push(&messages).await?.then_some(letters)),
        }
        let mut pushed = Vec::with_capacity(letters.len());
        for letter in letters {
            let message = std::slice::from_ref(&letter.message);
            match self.queue.push(message).await {
                Ok(()) => pushed.push(letter),
                Err(error) if error.kind() == ErrorKind::Rejected => {
                    self.inbox.iter_mut().for_each(|inbox| inbox.reject(letter.name(), &error.to_string()));
                }
                Err(_) if self.push(message).await? => pushed.push(letter),
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(pushed))
    }

    /// Told as often as spools are looked for.
    fn tell_inbox_trouble(&self, error: &std::io::Error) {
        if self.discovered.is_some_and(|at| at.elapsed() < LINGER) {
            let inbox = self.root.join("inbox");
            self.tell_waiting(&format!("cannot read the inbox {}: {error}", inbox.display()), DISCOVERY_INTERVAL);
        }
    }

    /// Takes over the spools that nobody reads. One that cannot be opened does not keep the others from it.
    fn discover(&mut self) {
        let producers = match Reader::producers(&self.root) {
            Ok(producers) => producers,
            Err(error) => return self.tell_waiting(&error.to_string(), DISCOVERY_INTERVAL),
        };
        for producer in producers {
            if self.sources.contains_key(&producer) {
                continue;
            }
            match Reader::open(&self.root, producer) {
                Ok(None) => {}
                Ok(Some(mut reader)) => {
                    if reader.writer_is_dead().unwrap_or(false) {
                        self.observer.tell(&WorkEvent::Adopted { producer: producer.to_string() });
                    }
                    if let Some(why) = reader.restarted() {
                        tracing::warn!(target: "auditq", %producer, "reading the spool from its start again: {why}");
                    }
                    self.sources.insert(producer, Source { reader: Box::new(reader), chunk: Chunk::default() });
                }
                Err(error) => self.tell_waiting(&error.to_string(), DISCOVERY_INTERVAL),
            }
        }
    }

    /// Moves one chunk from a spool to the queue; gives the spool back unless it is finished for good.
    async fn forward_chunk(&self, source: Source) -> Result<Result<(Option<Source>, usize), ReadError>, SettleError> {
        let records_max = self.message_events.saturating_mul(CHUNK_MESSAGES);
        let source =
            match blocking(source, move |source| source.reader.read(&mut source.chunk, records_max, CHUNK_BYTES)).await
            {
                Ok(source) => source,
                Err(error) => return Ok(Err(error)),
            };
        if source.chunk.is_empty() {
            return Ok(remove_if_finished(source).await.map(|source| (source, 0)));
        }
        let messages = parcel::pack(&source.reader, &source.chunk, &self.queue_name, self.message_events);
        if !self.push(&messages).await? {
            return Ok(Ok((None, 0)));
        }
        let records = source.chunk.records().len() + source.chunk.gaps().len();
        self.observer.tell(&WorkEvent::Forwarded { messages: messages.len(), records });
        self.tell_gaps(&source);
        let end = source.chunk.end();
        let committed = blocking(source, move |source| source.reader.commit(end)).await;
        Ok(committed.map(|source| (Some(source), records)))
    }

    /// Pushes until the queue has it; false when it was asked to end before.
    async fn push(&self, messages: &[NewMessage]) -> Result<bool, SettleError> {
        let began = Instant::now();
        for waits in 0.. {
            let error = match self.queue.push(messages).await {
                Ok(()) => {
                    if waits > 0 {
                        self.observer.tell(&WorkEvent::Recovered { after: began.elapsed() });
                    }
                    return Ok(true);
                }
                Err(error) => SettleError::from(error),
            };
            let Decision::Wait(delay) = self.policy.decide(waits, error.failure(0), fastrand::f64()) else {
                return Err(error);
            };
            self.tell_waiting(&error.to_string(), delay);
            if !self.shutdown.sleep(delay).await {
                break;
            }
        }
        Ok(false)
    }

    fn tell_gaps(&self, source: &Source) {
        for gap in source.chunk.gaps() {
            self.observer.tell(&WorkEvent::GapFound {
                producer: source.reader.producer_id().to_string(),
                records: gap.records,
                what: parcel::describe(&gap.reason),
            });
        }
    }

    fn tell_waiting(&self, error: &str, delay: Duration) {
        self.observer.tell(&WorkEvent::Waiting { error: error.to_owned(), delay });
    }
}

/// Removes the spool of a dead process when nothing is left in it; gives it back otherwise.
async fn remove_if_finished(mut source: Source) -> Result<Option<Source>, ReadError> {
    if !source.reader.writer_is_dead()? {
        return Ok(Some(source));
    }
    let Source { reader, chunk } = source;
    let removal = tokio::task::spawn_blocking(move || reader.remove_if_finished()).await;
    match removal.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))? {
        Removal::Removed | Removal::ForeignFiles(_) => Ok(None),
        Removal::NotFinished(reader) => Ok(Some(Source { reader, chunk })),
    }
}

/// Works with the inbox where it may block.
async fn with_inbox<T: Send + 'static>(
    mut inbox: Inbox,
    work: impl FnOnce(&mut Inbox) -> T + Send + 'static,
) -> (Inbox, T) {
    let task = tokio::task::spawn_blocking(move || {
        let done = work(&mut inbox);
        (inbox, done)
    });
    task.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Does file work where it may block.
async fn blocking(
    mut source: Source,
    work: impl FnOnce(&mut Source) -> Result<(), ReadError> + Send + 'static,
) -> Result<Source, ReadError> {
    let task = tokio::task::spawn_blocking(move || work(&mut source).map(|()| source));
    task.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}
