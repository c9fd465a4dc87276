//! What `StoreReader` answers.

use std::sync::Arc;

use auditq_event::{Event, Operation, Status};

use super::{Setup, all, ordinary_event, ordinary_events, strange_events};
use crate::{Batch, Filter, Pruned, StatsFilter, Store, StoreReader};

async fn fill(setup: &impl Setup, events: Vec<Event>) {
    setup.store().insert(Arc::new(Batch { events, amendments: Vec::new() })).await.expect("insert");
}

/// The sequence numbers that a filter finds, in its order.
async fn found(setup: &impl Setup, filter: Filter) -> Vec<u64> {
    let page = setup.store().search(&Filter { limit: 1_000, ..filter }).await.expect("search");
    page.rows.iter().map(|row| row.event.producer_seq).collect()
}

/// What a filter should find among the ordinary events.
fn expected(count: u64, matches: impl Fn(&Event) -> bool) -> Vec<u64> {
    (0..count).rev().filter(|n| matches(&ordinary_event(*n))).collect()
}

/// Every row once, newest first, whatever is stored in between.
pub async fn reading_pages_follow_each_other_without_holes(setup: &impl Setup) {
    fill(setup, ordinary_events(25)).await;
    let mut filter = Filter { limit: 10, ..Filter::default() };
    let mut seen = Vec::new();
    loop {
        let page = setup.store().search(&filter).await.expect("search");
        seen.extend(page.rows.iter().map(|row| row.event.producer_seq));
        fill(setup, vec![ordinary_event(100 + u64::try_from(seen.len()).unwrap_or(0))]).await;
        let Some(next) = page.next else { break };
        filter.stored_before = Some(next);
    }
    assert_eq!(seen, (0..25).rev().collect::<Vec<_>>());
}

/// Oldest first, from the last row that was seen.
pub async fn reading_can_follow_what_is_stored(setup: &impl Setup) {
    fill(setup, ordinary_events(3)).await;
    let seen = all(setup.store()).await.last().map(|row| row.id);
    assert_eq!(found(setup, Filter { stored_after: seen, ..Filter::default() }).await, [0_u64; 0]);
    fill(setup, (3..6).map(ordinary_event).collect()).await;
    let page = setup.store().search(&Filter { stored_after: seen, limit: 2, ..Filter::default() }).await;
    let page = page.expect("search");
    assert_eq!(page.rows.iter().map(|row| row.event.producer_seq).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(found(setup, Filter { stored_after: page.next, ..Filter::default() }).await, [5]);
}

/// The name or the id, exactly.
pub async fn reading_finds_by_user_name_and_user_id(setup: &impl Setup) {
    fill(setup, ordinary_events(200)).await;
    let by = |user: &str| Filter { user: Some(user.to_owned()), ..Filter::default() };
    let of_three = expected(200, |event| event.actor.username.as_deref() == Some("user-3"));
    assert!(!of_three.is_empty());
    assert_eq!(found(setup, by("user-3")).await, of_three);
    assert_eq!(found(setup, by("1003")).await, of_three);
    assert_eq!(found(setup, by("user-")).await, [0_u64; 0]);
    assert_eq!(found(setup, by("user-%")).await, [0_u64; 0]);
}

/// Whole names only, whatever characters they hold.
pub async fn reading_finds_by_table_exactly(setup: &impl Setup) {
    let tables: [&[&str]; 8] = [
        &["orders", "users"],
        &["orders_old"],
        &["a\"orders\"b"],
        &["a", "b"],
        &[","],
        &["Größe"],
        &[],
        &["we\0ird\\", "]", "["],
    ];
    let events = (0_u64..).zip(tables).map(|(n, tables)| {
        let mut event = ordinary_event(n);
        event.statement.tables = tables.iter().map(|&table| table.to_owned()).collect();
        event
    });
    fill(setup, events.collect()).await;
    let cases: [(&str, &[u64]); 11] = [
        ("orders", &[0]),
        ("users", &[0]),
        ("order", &[]),
        ("orders_old", &[1]),
        ("a\"orders\"b", &[2]),
        ("b", &[3]),
        (",", &[4]),
        ("Größe", &[5]),
        ("", &[]),
        ("we\0ird\\", &[7]),
        ("]", &[7]),
    ];
    for (table, expected) in cases {
        let filter = Filter { table: Some(table.to_owned()), ..Filter::default() };
        assert_eq!(found(setup, filter).await, expected, "table {table:?}");
    }
}

/// A part of the text, without wildcards.
pub async fn reading_finds_by_text_regardless_of_ascii_case(setup: &impl Setup) {
    let texts = ["SELECT 100% FROM a_b", "select 100 from axb", "SELECT 'É'", "SELECT '\0 behind a NUL'"];
    let events = (0_u64..).zip(texts).map(|(n, text)| {
        let mut event = ordinary_event(n);
        event.statement.sql = text.to_owned();
        event
    });
    fill(setup, events.collect()).await;
    let cases: [(&str, &[u64]); 7] = [
        ("Select", &[3, 2, 1, 0]),
        ("100%", &[0]),
        ("a_b", &[0]),
        ("FROM AXB", &[1]),
        ("'É'", &[2]),
        ("Behind", &[3]),
        ("nowhere", &[]),
    ];
    for (text, expected) in cases {
        let filter = Filter { text: Some(text.to_owned()), ..Filter::default() };
        assert_eq!(found(setup, filter).await, expected, "text {text:?}");
    }
}

/// Operation, status, request, fingerprint, event, span, and several at once.
pub async fn reading_finds_by_each_other_condition(setup: &impl Setup) {
    fill(setup, ordinary_events(200)).await;
    let sample = ordinary_event(99);
    let base = Filter::default;
    let cases: [(Filter, Vec<u64>); 8] = [
        (
            Filter { operation: Some(Operation::Delete), ..base() },
            expected(200, |event| event.statement.operation == Operation::Delete),
        ),
        (
            Filter { status: Some(Status::Error), ..base() },
            expected(200, |event| event.outcome.status == Status::Error),
        ),
        (
            Filter { request_id: sample.origin.request_id.clone(), ..base() },
            expected(200, |event| event.origin.request_id == sample.origin.request_id),
        ),
        (
            Filter { fingerprint: Some(sample.statement.fingerprint), ..base() },
            expected(200, |event| event.statement.fingerprint == sample.statement.fingerprint),
        ),
        (Filter { event_id: Some(sample.event_id), ..base() }, vec![99]),
        (
            Filter { since: Some(sample.occurred_at), until: Some(ordinary_event(102).occurred_at), ..base() },
            vec![101, 100, 99],
        ),
        (Filter { status: Some(Status::Error), until: Some(sample.occurred_at), ..base() }, vec![49]),
        (Filter { user: Some("nobody".to_owned()), status: Some(Status::Ok), ..base() }, vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(found(setup, filter.clone()).await, expected, "{filter:?}");
    }
}

/// Totals, users and statements of a span, gaps apart.
pub async fn reading_counts_what_happened_in_a_span(setup: &impl Setup) {
    let mut events = ordinary_events(120);
    let mut gap = ordinary_event(110);
    gap.event_id = ordinary_event(500).event_id;
    gap.statement.operation = Operation::Gap;
    gap.outcome.status = Status::Error;
    gap.repeat_count = 33;
    gap.duration_us = 1_000_000;
    events.push(gap);
    events[105].repeat_count = 5;
    events[106].outcome.status = Status::Cancelled;
    fill(setup, events).await;

    let since = ordinary_event(100).occurred_at;
    let filter = StatsFilter { since, until: ordinary_event(120).occurred_at, top: 3 };
    let stats = setup.store().stats(&filter).await.expect("stats");
    assert_eq!((stats.rows, stats.errors, stats.cancelled), (21, 0, 1));
    assert_eq!((stats.executions, stats.lost), (24, 33));
    let durations: Vec<u64> = (100..120).map(|n| ordinary_event(n).duration_us).collect();
    assert_eq!(Some(stats.duration_us_max), durations.iter().copied().max());
    let mean = f64::from(u32::try_from(durations.iter().sum::<u64>()).expect("small")) / 20.0;
    assert!((stats.duration_us_mean - mean).abs() < 0.001, "{} is not {mean}", stats.duration_us_mean);
    assert!(stats.processing_us_mean > 0.0);
    assert_eq!((stats.users.len(), stats.statements.len()), (3, 3));
    assert!(stats.users.is_sorted_by(|a, b| a.rows >= b.rows));
    assert_eq!(stats.statements[0].rows, 2);
    assert!(stats.statements.iter().all(|statement| statement.sql.contains(' ')));
}

/// No sum overflows.
pub async fn reading_statistics_survive_extremes(setup: &impl Setup) {
    let events = strange_events();
    let gaps = events.iter().filter(|event| event.statement.operation == Operation::Gap).count();
    fill(setup, events.clone()).await;
    let filter = StatsFilter { since: i64::MIN, until: i64::MAX, top: 100 };
    let stats = setup.store().stats(&filter).await.expect("stats");
    // The span ends before its end: the event at the last microsecond of time is not in it.
    assert_eq!(stats.rows, u64::try_from(events.len() - 1).expect("few"));
    let listed: u64 = stats.statements.iter().map(|statement| statement.rows).sum();
    assert_eq!(listed, u64::try_from(events.len() - 1 - gaps).expect("few"));
}

/// Oldest first, never more than was asked for, and it says when it is done.
pub async fn pruning_removes_the_oldest_a_few_at_a_time(setup: &impl Setup) {
    fill(setup, (0..30).rev().map(ordinary_event).collect()).await;
    let before = ordinary_event(25).occurred_at;
    let mut left = Vec::new();
    for _ in 0..3 {
        let pruned = setup.store().prune(before, 10).await.expect("prune");
        left.push((pruned, setup.store().count().await.expect("count")));
    }
    let expected = [
        (Pruned { rows: 10, finished: false }, 20),
        (Pruned { rows: 10, finished: false }, 10),
        (Pruned { rows: 5, finished: true }, 5),
    ];
    assert_eq!(left, expected);
    assert_eq!(found(setup, Filter::default()).await, [25, 26, 27, 28, 29]);
}

/// Who follows the log by number would otherwise miss what is stored after everything was pruned.
pub async fn pruning_never_gives_a_number_twice(setup: &impl Setup) {
    fill(setup, ordinary_events(5)).await;
    let last = all(setup.store()).await.last().map(|row| row.id);
    setup.store().prune(i64::MAX, 100).await.expect("prune");
    assert_eq!(setup.store().count().await.expect("count"), 0);
    fill(setup, vec![ordinary_event(9)]).await;
    assert_eq!(found(setup, Filter { stored_after: last, ..Filter::default() }).await, [9]);
}
