//! Whatever the order, the batches and the repetitions, the rows are the same.

use std::sync::Arc;

use auditq_event::{Event, TransactionOutcome};
use auditq_sqlite::rusqlite::Connection;
use auditq_store::conformance::ordinary_event;
use auditq_store::{Amendment, Batch, Filter, Store, StoreReader};
use proptest::prelude::*;

use crate::support::InFile;

const EVENTS: u64 = 6;

/// What is delivered: the event of that number, or something that became known of it.
#[derive(Clone, Debug)]
enum Item {
    Event(u64),
    Amendment(Amendment),
}

fn amendment() -> impl Strategy<Value = Item> {
    let repeated = prop::option::of((1..5_u64, 0..4_i64));
    let outcome = prop::option::of(prop::sample::select(TransactionOutcome::ALL.to_vec()));
    (0..EVENTS, repeated, outcome).prop_map(|(event, repeated, transaction_outcome)| {
        let event = ordinary_event(event);
        // Times on both sides of the event's own.
        let repeated = repeated.map(|(count, at)| (count, event.last_at + at - 1));
        Item::Amendment(Amendment { event_id: event.event_id, repeated, transaction_outcome })
    })
}

/// Every event and some amendments, all of them once and some more often, in any order, cut into any batches.
fn deliveries() -> impl Strategy<Value = Vec<(Vec<Item>, bool)>> {
    let items = prop::collection::vec(amendment(), 0..12)
        .prop_map(|amendments| (0..EVENTS).map(Item::Event).chain(amendments).collect::<Vec<_>>());
    items
        .prop_flat_map(|items| {
            let again = prop::collection::vec(prop::sample::select(items.clone()), 0..12);
            again.prop_map(move |again| items.iter().cloned().chain(again).collect::<Vec<_>>())
        })
        .prop_shuffle()
        .prop_flat_map(|items| {
            let cuts = prop::collection::vec((any::<bool>(), any::<bool>()), items.len());
            cuts.prop_map(move |cuts| cut(&items, &cuts))
        })
}

/// Ends a batch after an item where the first of its two says so; the second says whether the batch is folded.
fn cut(items: &[Item], cuts: &[(bool, bool)]) -> Vec<(Vec<Item>, bool)> {
    let (mut batches, mut open) = (Vec::new(), Vec::new());
    for (item, (ends, folded)) in items.iter().zip(cuts) {
        open.push(item.clone());
        if *ends {
            batches.push((std::mem::take(&mut open), *folded));
        }
    }
    batches.push((open, true));
    batches
}

/// What the rows must be: each event, with everything applied that was ever said of it.
fn expected(batches: &[(Vec<Item>, bool)]) -> Vec<Event> {
    let mut events: Vec<Event> = (0..EVENTS).map(ordinary_event).collect();
    for item in batches.iter().flat_map(|(items, _)| items) {
        let Item::Amendment(amendment) = item else { continue };
        for event in events.iter_mut().filter(|event| event.event_id == amendment.event_id) {
            amendment.apply_to(event);
        }
    }
    events
}

async fn deliver(setup: &InFile, batches: &[(Vec<Item>, bool)]) {
    for (items, folded) in batches {
        let mut batch = Batch::default();
        for item in items {
            match item {
                Item::Event(number) => batch.events.push(ordinary_event(*number)),
                Item::Amendment(amendment) => batch.amendments.push(*amendment),
            }
        }
        if *folded {
            batch.fold();
        }
        setup.store.insert(Arc::new(batch)).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn events_and_amendments_give_the_same_rows_however_they_come(batches in deliveries()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (rows, left) = runtime.block_on(async {
            let setup = InFile::new().await;
            deliver(&setup, &batches).await;
            let page = setup.store.search(&Filter { limit: 100, ..Filter::default() }).await.unwrap();
            let connection = Connection::open(setup.store.database().path()).unwrap();
            let left: i64 = connection.query_row("SELECT count(*) FROM auditq_amendments", [], |row| row.get(0)).unwrap();
            (page.rows, left)
        });
        let mut events: Vec<Event> = rows.into_iter().map(|row| row.event).collect();
        events.sort_by_key(|event| event.producer_seq);
        prop_assert_eq!(events, expected(&batches));
        prop_assert_eq!(left, 0, "every amendment found its event");
    }
}
