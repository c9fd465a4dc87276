use auditq_event::{Message, ProducerLabel, Record, Target};
use auditq_queue::{Receipt, Remainder, Reserved};
use auditq_store::{Amendment, Batch};
use bytes::Bytes;

/// Longer than any message that a forwarder writes.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A reserved message, read.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) receipt: Receipt,
    pub(crate) attempts: u32,
    pub(crate) message: Message,
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
    /// Reads a message's envelope.
    ///
    /// # Errors
    /// The message's receipt and attempts, with the reason why it is not one of ours.
    pub(crate) fn read(reserved: Reserved) -> Result<Self, (Receipt, u32, String)> {
        match Message::parse(&reserved.payload, MESSAGE_BYTES_MAX) {
            Ok(message) => Ok(Self { receipt: reserved.receipt, attempts: reserved.attempts, message }),
            Err(error) => Err((reserved.receipt, reserved.attempts, error.to_string())),
        }
    }

    /// Adds everything that can be decoded to `batch`; returns what cannot.
    pub(crate) fn add_to(&self, batch: &mut Batch) -> Vec<Part> {
        let label = self.message.label();
        let mut unknown = Vec::new();
        for (index, (seq, record)) in self.message.records().enumerate() {
            match record {
                Ok(record) => add_record(record, seq, label, batch),
                Err(error) => unknown.push(Part::undecodable(index, &error.to_string())),
            }
        }
        unknown
    }

    /// Every record on its own, those that cannot be decoded too.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let decoded = self.message.records().enumerate();
        decoded
            .map(|(index, (seq, record))| match record {
                Ok(record) => Part { index, record: Some((seq, record)), reason: None },
                Err(error) => Part::undecodable(index, &error.to_string()),
            })
            .collect()
    }

    /// The message with nothing in it but these parts.
    pub(crate) fn remainder(&self, parts: &[Part], exceptions: u32) -> Remainder {
        let payload = self.message.keep(|index| parts.iter().any(|part| part.index == index), exceptions);
        Remainder { receipt: self.receipt.clone(), payload: Some(Bytes::from(payload)) }
    }
}

impl Part {
    /// The same part, with why it could not be stored.
    pub(crate) fn refused(&self, reason: String) -> Self {
        Self { reason: Some(reason), ..self.clone() }
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
