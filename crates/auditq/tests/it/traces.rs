use auditq::{AuditqLayer, SeenByAdapter};
use tracing_subscriber::layer::SubscriberExt;

use crate::support::{Setup, alice, setup};

/// As sqlx writes it: short statements stand in the summary, longer ones in full beside it.
fn sqlx_event(summary: &str, statement: &str) {
    tracing::debug!(
        target: "sqlx::query",
        summary,
        db.statement = statement,
        rows_affected = 0_u64,
        rows_returned = 3_u64,
        elapsed_secs = 0.002_f64,
    );
}

fn layered(setup: &Setup, work: impl FnOnce()) {
    let subscriber = tracing_subscriber::registry().with(AuditqLayer::new(&setup.recorder));
    tracing::subscriber::with_default(subscriber, work);
}

#[test]
fn the_statements_of_a_pool_that_nobody_wrapped_are_recorded() {
    let setup = setup();
    layered(&setup, || {
        alice().run(|| {
            sqlx_event("SELECT 1", "");
            sqlx_event("SELECT a, b FROM …", "\n\nSELECT a, b FROM t WHERE c = 1\n");
            tracing::debug!(target: "another", summary = "SELECT 2");
        });
    });
    let events = setup.events();
    let sql: Vec<_> = events.iter().map(|event| event.statement.sql.as_str()).collect();
    assert_eq!(sql, ["SELECT 1", "SELECT a, b FROM t WHERE c = 1"]);
    assert_eq!((events[0].duration_us, events[0].outcome.rows_returned), (2_000, Some(3)));
    assert_eq!(events[0].actor.username.as_deref(), Some("alice"));
}

#[test]
fn what_an_adapter_sees_is_not_recorded_again() {
    let setup = setup();
    layered(&setup, || {
        alice().run(|| {
            let mark = SeenByAdapter::mark();
            let marked = mark.enter();
            sqlx_event("SELECT 1", "");
            drop(marked);
            sqlx_event("SELECT 2", "");
        });
    });
    let events = setup.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].statement.sql, "SELECT 2");
}

#[test]
fn the_user_comes_with_the_span_to_another_thread() {
    let setup = setup();
    layered(&setup, || {
        let span = alice().run(|| tracing::info_span!("request"));
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let worker = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || span.in_scope(|| sqlx_event("SELECT 1", "")));
        });
        worker.join().unwrap();
    });
    assert_eq!(setup.events()[0].actor.username.as_deref(), Some("alice"));
}

#[test]
fn a_field_of_a_span_names_the_user() {
    let setup = setup();
    layered(&setup, || {
        tracing::info_span!("request", enduser.id = "42").in_scope(|| sqlx_event("SELECT 1", ""));
        let late = tracing::info_span!("request", user.id = tracing::field::Empty);
        late.record("user.id", 43);
        late.in_scope(|| sqlx_event("SELECT 2", ""));
        sqlx_event("SELECT 3", "");
    });
    let users: Vec<_> = setup.events().into_iter().map(|event| event.actor.user_id).collect();
    assert_eq!(users, [Some("42".to_owned()), Some("43".to_owned())]);
    assert_eq!(setup.recorder.stats().skipped_anonymous, 1);
}
