//! Messages that are stored by the transaction that takes them, and those that are reserved before.

use auditq_queue::Reserved;
use auditq_store::Batch;

use crate::delivery::Delivery;
use crate::settlement::Settlement;
use crate::worker::WorkerOptions;

/// How many messages a worker takes first. A message that ends its worker's process has that counted as an attempt only when it
/// was reserved. So each start reserves some: whatever it is that ends processes comes to be among them.
const FIRST: usize = 64;

/// A message with more bytes is reserved: reading it may take long, or much memory.
const PLAIN_BYTES_MAX: usize = 1 << 20;

/// How the next messages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The first ones of a process are reserved: an attempt counts, whatever becomes of it.
    First,
    /// They are stored by the transaction that takes them.
    AtOnce,
    /// They are reserved, then stored.
    Reserved,
}

impl Way {
    /// The same where queue and store can store at once; where they cannot, all are reserved.
    pub(crate) fn with(self, settlement: &dyn Settlement) -> Self {
        if settlement.at_once().is_some() { self } else { Self::Reserved }
    }

    /// How many messages are taken at a time, of a `batch` at the most.
    pub(crate) fn limit(self, batch: usize) -> usize {
        if self == Self::First { batch.min(FIRST) } else { batch }
    }
}

/// The rows of messages when there is nothing particular about any of them: each is taken for the first time, can be read
/// whole, and may take as long as the worker's setting says.
pub(crate) fn rows_of(messages: &[Reserved], options: &WorkerOptions) -> Option<Batch> {
    let mut batch = Batch::default();
    for message in messages {
        if message.attempts > 1 || message.payload.len() > PLAIN_BYTES_MAX {
            return None;
        }
        let delivery = Delivery::read(message.clone(), options.laravel.as_deref()).ok()?;
        let is_timed = delivery.timeout(options.timeout) != options.timeout || delivery.fails_on_timeout();
        if is_timed || !delivery.add_to(&mut batch).is_empty() {
            return None;
        }
    }
    batch.fold();
    Some(batch)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use auditq_config::Config;
    use auditq_event::{Event, Limits, Message, ProducerLabel, Redaction};
    use auditq_laravel::php::{Key, Object, Value};
    use auditq_laravel::{JobLimits, NewJob};
    use auditq_queue::{QueueName, Receipt};

    use super::*;
    use crate::laravel::LaravelJobs;
    use crate::retry::RetryPolicy;

    fn options() -> WorkerOptions {
        let laravel = LaravelJobs::new(&Config::default(), Redaction::new([3; 32]), Limits::default()).unwrap();
        WorkerOptions {
            number: 0,
            queues: Vec::new(),
            batch: 8,
            timeout: Duration::from_secs(30),
            policy: RetryPolicy { tries: 3, max_exceptions: 3, backoff: Vec::new() },
            idle: Duration::ZERO,
            rest: Duration::ZERO,
            laravel: Some(Arc::new(laravel)),
            closed: crate::Closed::default(),
        }
    }

    fn reserved(payload: Vec<u8>) -> Reserved {
        Reserved {
            receipt: Receipt { id: "1".to_owned(), attempt: 1 },
            queue: QueueName::new("audit-logs").unwrap(),
            attempts: 1,
            created_at: 0,
            payload: payload.into(),
        }
    }

    fn message(records: &[(u64, &[u8])]) -> Reserved {
        reserved(Message::build(&ProducerLabel::default(), records))
    }

    fn job(class: &'static str, limits: JobLimits) -> Reserved {
        let data = Value::Array(vec![(Key::text("sql"), Value::text("select 1"))]);
        let command = Object::new(class).with("queryData", data);
        let job = NewJob { uuid: uuid::Uuid::from_u128(7), command, created_at: 1, limits, redis_id: None };
        reserved(job.payload().unwrap().into_bytes())
    }

    #[test]
    fn messages_with_nothing_particular_about_them_are_rows() {
        let event = Event::default().encode();
        let messages = [
            message(&[(1, event.as_slice()), (2, event.as_slice())]),
            job("App\\Jobs\\ProcessAuditLog", JobLimits { timeout: Some(30), ..JobLimits::default() }),
        ];
        assert_eq!(rows_of(&messages, &options()).unwrap().events.len(), 3);
    }

    #[test]
    fn one_that_has_something_particular_is_reserved_with_those_beside_it() {
        let event = Event::default().encode();
        let good = || message(&[(1, event.as_slice())]);
        let ours = |limits| job("App\\Jobs\\ProcessAuditLog", limits);
        let particular = [
            ("taken before", Reserved { attempts: 2, ..good() }),
            ("large", reserved(vec![b' '; PLAIN_BYTES_MAX + 1])),
            ("unreadable", reserved(b"?".to_vec())),
            ("partly unreadable", message(&[(1, event.as_slice()), (2, b"from a later version")])),
            ("another's", job("App\\Jobs\\SendMail", JobLimits::default())),
            ("timed by itself", ours(JobLimits { timeout: Some(5), ..JobLimits::default() })),
            ("failing on timeout", ours(JobLimits { fail_on_timeout: true, ..JobLimits::default() })),
        ];
        for (what, message) in particular {
            assert_eq!(rows_of(&[good(), message], &options()), None, "{what}");
        }
    }
}
