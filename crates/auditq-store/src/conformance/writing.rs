//! Promises 1 and 2: all or nothing, once, and what an error says.

use std::sync::Arc;

use auditq_event::{Event, TransactionOutcome};

use super::{Setup, all, ordinary_event, ordinary_events};
use crate::{Amendment, Batch, ErrorKind, Inserted, Store, StoreReader};

async fn insert(setup: &impl Setup, events: &[Event], amendments: &[Amendment]) -> Inserted {
    let batch = Batch { events: events.to_vec(), amendments: amendments.to_vec() };
    setup.store().insert(Arc::new(batch)).await.expect("insert")
}

fn repeated(event: &Event, count: u64, last_at: i64) -> Amendment {
    Amendment { event_id: event.event_id, repeated: Some((count, last_at)), transaction_outcome: None }
}

fn ended(event: &Event, outcome: TransactionOutcome) -> Amendment {
    Amendment { event_id: event.event_id, repeated: None, transaction_outcome: Some(outcome) }
}

/// What the table says of repeats and outcome of its only row.
async fn only_row(setup: &impl Setup) -> (u64, i64, TransactionOutcome) {
    let rows = all(setup.store()).await;
    let [row] = &rows[..] else { panic!("expected one row, found {}", rows.len()) };
    (row.event.repeat_count, row.event.last_at, row.event.outcome.transaction_outcome)
}

/// Promise 1.
pub async fn promise_1_a_new_event_is_stored_and_counted(setup: &impl Setup) {
    let inserted = insert(setup, &ordinary_events(3), &[]).await;
    assert_eq!(inserted, Inserted { stored: 3, ..Inserted::default() });
    assert_eq!(setup.store().count().await.expect("count"), 3);
}

/// Promise 1.
pub async fn promise_1_a_redelivered_event_is_skipped_and_counted(setup: &impl Setup) {
    insert(setup, &ordinary_events(3), &[]).await;
    let inserted = insert(setup, &ordinary_events(5), &[]).await;
    assert_eq!(inserted, Inserted { stored: 2, duplicates: 3, amended: 0 });
    assert_eq!(setup.store().count().await.expect("count"), 5);
}

/// Promise 1.
pub async fn promise_1_an_event_twice_in_one_batch_is_stored_once(setup: &impl Setup) {
    let inserted = insert(setup, &[ordinary_event(1), ordinary_event(1)], &[]).await;
    assert_eq!(inserted, Inserted { stored: 1, duplicates: 1, amended: 0 });
    assert_eq!(setup.store().count().await.expect("count"), 1);
}

/// Promise 1.
pub async fn promise_1_an_empty_batch_changes_nothing(setup: &impl Setup) {
    assert_eq!(insert(setup, &[], &[]).await, Inserted::default());
    assert_eq!(setup.store().count().await.expect("count"), 0);
}

/// Promise 1: neither the events nor the amendments of a batch with a bad event are kept.
pub async fn promise_1_all_or_nothing(setup: &impl Setup) {
    insert(setup, &[ordinary_event(0)], &[]).await;
    setup.refuse("SELECT bad").await;
    let mut events = ordinary_events(100);
    events[60].statement.sql = "SELECT bad".to_owned();
    let amendments = vec![repeated(&events[0], 7, 7)];
    let refused = setup.store().insert(Arc::new(Batch { events, amendments })).await;
    assert!(refused.is_err());
    assert_eq!(only_row(setup).await.0, 1);
}

/// Promise 1.
pub async fn promise_1_a_batch_of_thousands_is_stored_whole(setup: &impl Setup) {
    let inserted = insert(setup, &ordinary_events(5_000), &[]).await;
    assert_eq!(inserted.stored, 5_000);
    assert_eq!(setup.store().count().await.expect("count"), 5_000);
}

/// Promise 1.
pub async fn promise_1_batches_at_the_same_time_store_each_event_once(setup: &impl Setup) {
    let batch = Arc::new(Batch { events: ordinary_events(500), amendments: Vec::new() });
    let store = setup.store();
    let results = together(store, &batch).await;
    let mut sum = Inserted::default();
    for inserted in results {
        sum += inserted.expect("insert");
    }
    assert_eq!(sum, Inserted { stored: 500, duplicates: 1_500, amended: 0 });
    assert_eq!(store.count().await.expect("count"), 500);
}

/// Four inserts of one batch, all under way before any is awaited to its end.
async fn together(store: &impl Store, batch: &Arc<Batch>) -> Vec<crate::Result<Inserted>> {
    let mut waiting: Vec<_> = (0..4).map(|_| store.insert(Arc::clone(batch))).collect();
    let mut results = Vec::new();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|insert| match insert.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                results.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    results
}

/// Promise 1.
pub async fn promise_1_an_amendment_changes_a_stored_row(setup: &impl Setup) {
    let event = ordinary_event(1);
    insert(setup, std::slice::from_ref(&event), &[]).await;
    let amendments = [repeated(&event, 4, 99), ended(&event, TransactionOutcome::Committed)];
    assert_eq!(insert(setup, &[], &amendments).await, Inserted { stored: 0, duplicates: 0, amended: 2 });
    assert_eq!(only_row(setup).await, (4, 99, TransactionOutcome::Committed));
}

/// Promise 1.
pub async fn promise_1_an_amendment_may_come_before_its_event(setup: &impl Setup) {
    let event = ordinary_event(1);
    insert(setup, &[ordinary_event(0)], &[repeated(&event, 4, 99)]).await;
    insert(setup, &[], &[ended(&event, TransactionOutcome::RolledBack)]).await;
    assert_eq!(setup.store().count().await.expect("count"), 1);
    insert(setup, &[ordinary_event(2), event.clone(), ordinary_event(3)], &[]).await;
    let rows = all(setup.store()).await;
    let row = rows.iter().find(|row| row.event.event_id == event.event_id).expect("its row");
    assert_eq!((row.event.repeat_count, row.event.last_at), (4, 99));
    assert_eq!(row.event.outcome.transaction_outcome, TransactionOutcome::RolledBack);
    assert_eq!(rows.iter().filter(|row| row.event.repeat_count == 1).count(), 3);
}

/// Promise 1: whether the batch was folded or not.
pub async fn promise_1_an_amendment_in_the_batch_reaches_its_event(setup: &impl Setup) {
    let event = ordinary_event(1);
    insert(setup, std::slice::from_ref(&event), &[repeated(&event, 2, 5)]).await;
    assert_eq!(only_row(setup).await.0, 2);
}

/// Promise 1: the event was stored, its message was not deleted, and comes again with what followed.
pub async fn promise_1_a_folded_amendment_reaches_a_row_that_was_stored_before(setup: &impl Setup) {
    let event = ordinary_event(1);
    insert(setup, std::slice::from_ref(&event), &[]).await;
    let amendments = vec![repeated(&event, 9, i64::MAX), ended(&event, TransactionOutcome::Committed)];
    let mut batch = Batch { events: vec![event], amendments };
    batch.fold();
    let inserted = setup.store().insert(Arc::new(batch)).await.expect("insert");
    assert_eq!(inserted.duplicates, 1);
    assert_eq!(only_row(setup).await, (9, i64::MAX, TransactionOutcome::Committed));
}

/// Promise 1: every order of an event and its amendments gives the same row.
pub async fn promise_1_amendments_commute(setup: &impl Setup) {
    let mut numbers = 0..;
    let mut rows = Vec::new();
    for order in permutations(4) {
        let event = ordinary_event(numbers.next().unwrap_or_default());
        let steps: [(&[Event], &[Amendment]); 4] = [
            (std::slice::from_ref(&event), &[]),
            (&[], &[repeated(&event, 3, 30)]),
            (&[], &[repeated(&event, 3, 40)]),
            (&[], &[ended(&event, TransactionOutcome::Committed), repeated(&event, 2, 90)]),
        ];
        for step in order {
            insert(setup, steps[step].0, steps[step].1).await;
        }
        rows.push(event.event_id);
    }
    let stored = all(setup.store()).await;
    assert_eq!(stored.len(), rows.len());
    for row in stored {
        let outcome = row.event.outcome.transaction_outcome;
        assert_eq!((row.event.repeat_count, row.event.last_at, outcome), (3, 40, TransactionOutcome::Committed));
    }
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(of - 1);
    (0..of)
        .flat_map(|place| {
            shorter.iter().map(move |order| {
                let mut order = order.clone();
                order.insert(place, of - 1);
                order
            })
        })
        .collect()
}

/// Promise 1.
pub async fn promise_1_amendments_are_idempotent(setup: &impl Setup) {
    let event = ordinary_event(1);
    let amendments = [repeated(&event, 6, 60), ended(&event, TransactionOutcome::RolledBack)];
    for _ in 0..3 {
        insert(setup, &[], &amendments).await;
    }
    for _ in 0..3 {
        insert(setup, std::slice::from_ref(&event), &amendments).await;
    }
    assert_eq!(only_row(setup).await, (6, 60, TransactionOutcome::RolledBack));
}

/// Promise 1.
pub async fn promise_1_a_lesser_count_and_an_unknown_outcome_change_nothing(setup: &impl Setup) {
    let event = ordinary_event(1);
    insert(setup, std::slice::from_ref(&event), &[repeated(&event, u64::MAX, 60)]).await;
    insert(setup, &[], &[ended(&event, TransactionOutcome::Committed)]).await;
    insert(setup, &[], &[repeated(&event, 5, 70), ended(&event, TransactionOutcome::Unknown)]).await;
    assert_eq!(only_row(setup).await, (u64::MAX, 60, TransactionOutcome::Committed));
}

/// Promise 1.
pub async fn promise_1_migrating_again_keeps_every_row(setup: &impl Setup) {
    insert(setup, &ordinary_events(10), &[]).await;
    setup.store().migrate().await.expect("migrate");
    setup.store().migrate().await.expect("migrate");
    assert_eq!(setup.store().count().await.expect("count"), 10);
}

/// Promise 2.
pub async fn promise_2_an_event_that_the_engine_refuses_is_rejected(setup: &impl Setup) {
    setup.refuse("SELECT bad").await;
    let mut event = ordinary_event(1);
    event.statement.sql = "SELECT bad".to_owned();
    let batch = Batch { events: vec![event], amendments: Vec::new() };
    let error = setup.store().insert(Arc::new(batch)).await.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
}

/// Promise 2: bisecting a rejected batch ends with everything stored but the bad event.
pub async fn promise_2_the_good_rest_of_a_rejected_batch_can_be_stored(setup: &impl Setup) {
    setup.refuse("SELECT bad").await;
    let mut events = ordinary_events(100);
    events[37].statement.sql = "SELECT bad".to_owned();
    let mut parts = vec![events];
    while let Some(events) = parts.pop() {
        let batch = Batch { events: events.clone(), amendments: Vec::new() };
        match setup.store().insert(Arc::new(batch)).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
                if events.len() > 1 {
                    let (left, right) = events.split_at(events.len() / 2);
                    parts.extend([left.to_vec(), right.to_vec()]);
                }
            }
        }
    }
    assert_eq!(setup.store().count().await.expect("count"), 99);
}

/// Promise 2.
pub async fn promise_2_a_missing_table_is_misconfigured_and_migrate_mends_it(setup: &impl Setup) {
    setup.remove_table().await;
    let batch = Arc::new(Batch { events: ordinary_events(2), amendments: Vec::new() });
    let error = setup.store().insert(Arc::clone(&batch)).await.expect_err("there is no table");
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("auditq migrate"), "{error}");
    setup.store().migrate().await.expect("migrate");
    assert_eq!(setup.store().insert(batch).await.expect("insert").stored, 2);
}
