use crate::event::{Event, Operation, StatementText, Status, TransactionOutcome};
use crate::id::EventId;
use crate::label::ProducerLabel;

/// One record of a spool: an event, or something learnt about earlier ones.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A statement that ran.
    Event(Box<Event>),
    /// The same statement was asked again.
    Repeat {
        /// The event that the repeats are counted on.
        target: Target,
        /// How often it was asked in all: absolute, so that a second delivery changes nothing.
        count: u64,
        /// When it was last asked, UTC microseconds.
        last_at: i64,
    },
    /// What became of a transaction whose events were recorded before it ended.
    Outcome {
        /// What became of it.
        outcome: TransactionOutcome,
        /// Its events.
        targets: Vec<Target>,
    },
    /// Events that were lost.
    Gap(Gap),
}

/// An earlier event of the same producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    /// When its statement began, UTC microseconds.
    pub occurred_at: i64,
    /// Its sequence number.
    pub seq: u64,
}

impl Target {
    /// The id of that event.
    #[must_use]
    pub fn event_id(&self, producer_id: &[u8; 16]) -> EventId {
        EventId::derive(self.occurred_at, producer_id, self.seq)
    }
}

/// Events that could not be kept: counted, and itself written to the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// When the first one was lost, UTC microseconds; 0 when it is not known. The gap's event id follows from it.
    pub first_at: i64,
    /// When the last one was lost, or when the gap was found, UTC microseconds.
    pub last_at: i64,
    /// How many.
    pub lost: u64,
    /// Why, in a few words.
    pub reason: String,
}

impl Gap {
    /// Makes the event that stands for the gap in the audit table.
    ///
    /// Its operation is [`Operation::Gap`], its `repeat_count` the number of lost events (at least 1).
    #[must_use]
    pub fn to_event(&self, label: &ProducerLabel, seq: u64) -> Event {
        let mut event = Event {
            event_id: EventId::derive(self.first_at, &label.producer_id, seq),
            producer_id: label.producer_id,
            producer_seq: seq,
            occurred_at: if self.first_at == 0 { self.last_at } else { self.first_at },
            recorded_at: self.last_at,
            last_at: self.last_at,
            repeat_count: self.lost.max(1),
            statement: StatementText {
                sql: format!("-- {} events lost: {}", self.lost, self.reason),
                operation: Operation::Gap,
                ..StatementText::default()
            },
            ..Event::default()
        };
        event.outcome.status = Status::Error;
        event.outcome.error_message = Some(self.reason.clone());
        label.fill(&mut event.database);
        event
    }
}
