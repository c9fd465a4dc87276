use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auditq_event::{Message, ProducerLabel, Record, Target, is_auditq};
use auditq_laravel::{JobEvent, Queries};
use auditq_queue::{Receipt, Remainder, Reserved};
use auditq_store::{Amendment, Batch};
use bytes::Bytes;

use crate::laravel::{Foreign, LaravelJobs, NotRead, usual_queries};
use crate::retry::RetryPolicy;

/// Longer than any message that a forwarder writes.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A reserved message, read.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) receipt: Receipt,
    pub(crate) attempts: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Records of a spool.
    Batch(Message),
    /// A job that a Laravel application dispatched: one event.
    Job(Box<JobEvent>),
    /// The queries of one request of a Laravel application, as our package for it sends them.
    Queries(Box<Queries>),
}

/// A reserved message that is not stored.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is somebody else's.
    Foreign { receipt: Receipt, foreign: Foreign },
    /// Nobody can read it.
    Unreadable { receipt: Receipt, attempts: u32, reason: String },
}

/// One record of a message on its own.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Its place in the message.
    pub(crate) index: usize,
    /// What it says; `None` when no decoder takes it.
    record: Option<(u64, Record)>,
    /// Why it could not be stored.
    pub(crate) reason: Option<String>,
}

impl Delivery {
    /// Reads a message's envelope, or what a Laravel application sent whole.
    ///
    /// # Errors
    /// The message's receipt, with the reason why it is not stored.
    pub(crate) fn read(reserved: Reserved, laravel: Option<&LaravelJobs>) -> Result<Self, Refused> {
        let Reserved { receipt, attempts, payload, .. } = reserved;
        if is_auditq(&payload) {
            return Self::of(batch(&payload), receipt, attempts);
        }
        let queries = match laravel {
            Some(laravel) => laravel.queries.read(&payload),
            None => usual_queries().read(&payload),
        };
        let body = match (queries, laravel) {
            (Ok(Some(queries)), _) => Ok(Body::Queries(Box::new(queries))),
            (Err(error), _) => Err(error.to_string()),
            (Ok(None), None) => batch(&payload),
            (Ok(None), Some(laravel)) => match laravel.read(&payload) {
                Ok(job) => Ok(Body::Job(Box::new(job))),
                Err(NotRead::Foreign(foreign)) => return Err(Refused::Foreign { receipt, foreign }),
                Err(NotRead::Damaged(reason)) => Err(reason),
                Err(NotRead::Ours) => batch(&payload),
            },
        };
        Self::of(body, receipt, attempts)
    }

    fn of(body: Result<Body, String>, receipt: Receipt, attempts: u32) -> Result<Self, Refused> {
        match body {
            Ok(body) => Ok(Self { receipt, attempts, body }),
            Err(reason) => Err(Refused::Unreadable { receipt, attempts, reason }),
        }
    }

    /// When it is tried again and when given up: a job's own settings go before the worker's.
    pub(crate) fn policy<'p>(&self, workers: &'p RetryPolicy) -> Cow<'p, RetryPolicy> {
        match &self.body {
            Body::Batch(_) | Body::Queries(_) => Cow::Borrowed(workers),
            Body::Job(job) => Cow::Owned(workers.of_job(&job.limits, unix_now())),
        }
    }

    /// What is to be given up for before it is tried, if anything: as in Laravel, one try too many.
    pub(crate) fn is_over(&self, policy: &RetryPolicy) -> Option<String> {
        match &self.body {
            Body::Job(job) if policy.is_suspect(self.attempts) => Some(format!(
                "{} has been attempted too many times: {} tries have ended without a result, and it allows {}",
                job.class,
                self.attempts.saturating_sub(1),
                policy.tries
            )),
            _ => None,
        }
    }

    /// How long storing it may take: what a job says, else `workers`; zero is without limit.
    pub(crate) fn timeout(&self, workers: Duration) -> Duration {
        match &self.body {
            Body::Batch(_) | Body::Queries(_) => workers,
            Body::Job(job) => job.limits.timeout.map_or(workers, |seconds| Duration::from_secs(seconds.into())),
        }
    }

    /// True when it is not to be tried again once that was too long.
    pub(crate) fn fails_on_timeout(&self) -> bool {
        matches!(&self.body, Body::Job(job) if job.limits.fail_on_timeout)
    }

    /// What it is called in a reason.
    pub(crate) fn class(&self) -> &str {
        match &self.body {
            Body::Batch(_) | Body::Queries(_) => "the message",
            Body::Job(job) => &job.class,
        }
    }

    /// How many records it holds.
    pub(crate) fn len(&self) -> usize {
        match &self.body {
            Body::Batch(message) => message.len(),
            Body::Job(_) => 1,
            Body::Queries(queries) => queries.len(),
        }
    }

    /// How often storing it has failed with its events at fault. A job does not say: every try counts.
    pub(crate) fn exceptions(&self) -> u32 {
        match &self.body {
            Body::Batch(message) => message.exceptions(),
            Body::Queries(queries) => queries.exceptions(),
            Body::Job(_) => self.attempts.saturating_sub(1),
        }
    }

    /// Which process recorded it.
    pub(crate) fn label(&self) -> Cow<'_, ProducerLabel> {
        match &self.body {
            Body::Batch(message) => Cow::Borrowed(message.label()),
            Body::Queries(queries) => Cow::Borrowed(queries.label()),
            Body::Job(_) => Cow::Owned(ProducerLabel::default()),
        }
    }

    /// Adds everything that can be decoded to `batch`; returns what cannot.
    pub(crate) fn add_to(&self, batch: &mut Batch) -> Vec<Part> {
        let label = self.label();
        let mut unknown = Vec::new();
        for part in self.parts() {
            match part.record {
                Some((seq, record)) => add_record(record, seq, &label, batch),
                None => unknown.push(part),
            }
        }
        unknown
    }

    /// Every record on its own, those that cannot be decoded too.
    pub(crate) fn parts(&self) -> Vec<Part> {
        match &self.body {
            Body::Batch(message) => {
                let decoded = message.records().enumerate();
                decoded
                    .map(|(index, (seq, record))| match record {
                        Ok(record) => Part { index, record: Some((seq, record)), reason: None },
                        Err(error) => Part::undecodable(index, &error.to_string()),
                    })
                    .collect()
            }
            Body::Job(job) => {
                let record = Record::Event(Box::new(job.event.clone()));
                vec![Part { index: 0, record: Some((0, record)), reason: None }]
            }
            Body::Queries(queries) => {
                let decoded = queries.records().enumerate();
                decoded
                    .map(|(index, (seq, record))| match record {
                        Ok(record) => Part { index, record: Some((*seq, record.clone())), reason: None },
                        Err(error) => Part::undecodable(index, &error.to_string()),
                    })
                    .collect()
            }
        }
    }

    /// The message with nothing in it but these parts. A job stays as its application wrote it.
    pub(crate) fn remainder(&self, parts: &[Part], exceptions: u32) -> Remainder {
        let wanted = |index| parts.iter().any(|part| part.index == index);
        let payload = match &self.body {
            Body::Batch(message) => Some(Bytes::from(message.keep(wanted, exceptions))),
            Body::Queries(queries) => Some(Bytes::from(queries.keep(wanted, exceptions))),
            Body::Job(_) => None,
        };
        Remainder { receipt: self.receipt.clone(), payload }
    }
}

/// What a worker stores of a message of queries; and of each record that it gives up, why.
#[must_use]
pub fn stored_of_queries(queries: &Queries) -> (Batch, Vec<String>) {
    let (mut batch, mut given_up) = (Batch::default(), Vec::new());
    for (seq, record) in queries.records() {
        match record {
            Ok(record) => add_record(record.clone(), *seq, queries.label(), &mut batch),
            Err(error) => given_up.push(error.to_string()),
        }
    }
    batch.fold();
    (batch, given_up)
}

fn batch(payload: &[u8]) -> Result<Body, String> {
    Message::parse(payload, MESSAGE_BYTES_MAX).map(Body::Batch).map_err(|error| error.to_string())
}

fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

impl Part {
    /// The same part, with why it could not be stored.
    pub(crate) fn refused(&self, reason: String) -> Self {
        Self { reason: Some(reason), ..self.clone() }
    }

    /// True when no decoder takes it: there is nothing to store.
    pub(crate) fn is_unknown(&self) -> bool {
        self.record.is_none()
    }

    fn undecodable(index: usize, reason: &str) -> Self {
        Self { index, record: None, reason: Some(reason.to_owned()) }
    }

    /// Adds it to `batch`; `label` is that of its message.
    pub(crate) fn add_to(&self, label: &ProducerLabel, batch: &mut Batch) {
        if let Some((seq, record)) = &self.record {
            add_record(record.clone(), *seq, label, batch);
        }
    }
}

fn add_record(record: Record, seq: u64, label: &ProducerLabel, batch: &mut Batch) {
    let id_of = |target: &Target| target.event_id(&label.producer_id);
    match record {
        Record::Event(event) => batch.events.push(*event),
        Record::Gap(gap) => batch.events.push(gap.to_event(label, seq)),
        Record::Repeat { target, count, last_at } => batch.amendments.push(Amendment {
            event_id: id_of(&target),
            repeated: Some((count, last_at)),
            transaction_outcome: None,
        }),
        Record::Outcome { outcome, targets } => {
            batch.amendments.extend(targets.iter().map(|target| Amendment {
                event_id: id_of(target),
                repeated: None,
                transaction_outcome: Some(outcome),
            }));
        }
    }
}
