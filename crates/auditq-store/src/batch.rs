use std::collections::HashMap;

use auditq_event::{Event, EventId, TransactionOutcome};

/// Events and amendments that are written together, or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// New rows.
    pub events: Vec<Event>,
    /// Changes to rows, whether they are in this batch, in the table already, or still on their way.
    pub amendments: Vec<Amendment>,
}

/// What became known of an event after it was recorded. Applying it twice, or in another order, changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amendment {
    /// Which event.
    pub event_id: EventId,
    /// How often the statement was asked by then, and when last (Unix microseconds). The greater count wins; of equal
    /// counts, the later time.
    pub repeated: Option<(u64, i64)>,
    /// What became of its transaction. A known outcome is never replaced by `Unknown`; of two known ones that differ,
    /// the one with the higher code stays, whichever came first.
    pub transaction_outcome: Option<TransactionOutcome>,
}

/// What an insert did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Rows that were new.
    pub stored: u64,
    /// Events that were there already: delivered twice, stored once.
    pub duplicates: u64,
    /// Amendments of the batch: each was applied, or kept for an event that is still to come.
    pub amended: u64,
}

impl std::ops::AddAssign for Inserted {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.amended += other.amended;
    }
}

impl Batch {
    /// Moves amendments into the events that stand in the same batch, and folds several for one event into one.
    ///
    /// Most amendments follow their event by milliseconds and are settled here, at no cost to the store. Nothing is
    /// lost where the event turns out to be stored already: a store amends a row by what its duplicate carries.
    pub fn fold(&mut self) {
        if self.amendments.is_empty() {
            return;
        }
        let mut pending: HashMap<EventId, Amendment> = HashMap::with_capacity(self.amendments.len());
        for amendment in self.amendments.drain(..) {
            pending.entry(amendment.event_id).and_modify(|known| known.merge(&amendment)).or_insert(amendment);
        }
        for event in &mut self.events {
            if let Some(amendment) = pending.remove(&event.event_id) {
                amendment.apply_to(event);
            }
        }
        self.amendments.extend(pending.into_values());
        self.amendments.sort_unstable_by_key(|amendment| amendment.event_id);
    }
}

impl Amendment {
    /// What an event itself says of the things that may be amended.
    #[must_use]
    pub fn carried_by(event: &Event) -> Self {
        Self {
            event_id: event.event_id,
            repeated: Some((event.repeat_count, event.last_at)),
            transaction_outcome: Some(event.outcome.transaction_outcome),
        }
    }

    /// Takes over what `other` knows more.
    pub fn merge(&mut self, other: &Self) {
        self.repeated = self.repeated.max(other.repeated);
        self.transaction_outcome = self.transaction_outcome.max(other.transaction_outcome);
    }

    /// Writes it into an event, where it knows more than the event does.
    pub fn apply_to(&self, event: &mut Event) {
        let mut known = Self::carried_by(event);
        known.merge(self);
        if let Some((count, last_at)) = known.repeated {
            event.repeat_count = count;
            event.last_at = last_at;
        }
        if let Some(outcome) = known.transaction_outcome {
            event.outcome.transaction_outcome = outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EventId {
        EventId::from_bytes([n; 16])
    }

    fn event(n: u8) -> Event {
        Event { event_id: id(n), repeat_count: 1, ..Event::default() }
    }

    fn repeated(n: u8, count: u64, last_at: i64) -> Amendment {
        Amendment { event_id: id(n), repeated: Some((count, last_at)), transaction_outcome: None }
    }

    #[test]
    fn an_amendment_of_an_event_in_the_batch_moves_into_the_event() {
        let mut batch =
            Batch { events: vec![event(1), event(2)], amendments: vec![repeated(2, 3, 30), repeated(2, 2, 40)] };
        batch.fold();
        assert_eq!(batch.amendments, []);
        assert_eq!(batch.events[0].repeat_count, 1);
        assert_eq!((batch.events[1].repeat_count, batch.events[1].last_at), (3, 30));
    }

    #[test]
    fn amendments_of_events_elsewhere_become_one_for_each_event() {
        let outcome =
            Amendment { event_id: id(7), repeated: None, transaction_outcome: Some(TransactionOutcome::Committed) };
        let mut batch = Batch { events: vec![], amendments: vec![outcome, repeated(9, 2, 1), repeated(7, 2, 5)] };
        batch.fold();
        let folded = Amendment { repeated: Some((2, 5)), ..outcome };
        assert_eq!(batch.amendments, [folded, repeated(9, 2, 1)]);
    }

    #[test]
    fn a_known_outcome_is_not_replaced_by_unknown() {
        let mut event = event(1);
        event.outcome.transaction_outcome = TransactionOutcome::RolledBack;
        let unknown =
            Amendment { event_id: id(1), repeated: None, transaction_outcome: Some(TransactionOutcome::Unknown) };
        unknown.apply_to(&mut event);
        assert_eq!(event.outcome.transaction_outcome, TransactionOutcome::RolledBack);
    }

    #[test]
    fn counts_of_two_amendments_give_the_same_in_either_order() {
        for (first, second) in [(repeated(1, 5, 100), repeated(1, 5, 200)), (repeated(1, 5, 200), repeated(1, 6, 100))]
        {
            let (mut forth, mut back) = (event(1), event(1));
            first.apply_to(&mut forth);
            second.apply_to(&mut forth);
            second.apply_to(&mut back);
            first.apply_to(&mut back);
            assert_eq!(forth, back);
        }
    }
}
