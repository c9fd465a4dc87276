use auditq::{Event, TransactionOutcome, TransactionScope};

use crate::support::{Setup, alice, outcome_of, repeats, setup, setup_with};

fn record_in(setup: &Setup, scope: &TransactionScope, sql: &str) {
    let mut observed = setup.observed(sql);
    observed.transaction = Some(scope);
    setup.recorder.record(&observed);
}

fn outcomes(setup: &Setup) -> Vec<(String, TransactionOutcome)> {
    let records = setup.read();
    let outcome = |event: Event| (event.statement.sql.clone(), outcome_of(&records, &event));
    setup.events().into_iter().map(outcome).collect()
}

fn both_ways() -> [Setup; 2] {
    [setup(), setup_with(|config| config.capture.after_commit = true)]
}

#[test]
fn a_transaction_is_marked_by_how_it_ended() {
    for setup in both_ways() {
        alice().run(|| {
            let committed = setup.recorder.begin();
            record_in(&setup, &committed, "INSERT INTO a VALUES (1)");
            committed.commit();
            let rolled_back = setup.recorder.begin();
            record_in(&setup, &rolled_back, "INSERT INTO a VALUES (2)");
            rolled_back.roll_back();
            let dropped = setup.recorder.begin();
            record_in(&setup, &dropped, "INSERT INTO a VALUES (3)");
            drop(dropped);
            let lost = setup.recorder.begin();
            record_in(&setup, &lost, "INSERT INTO a VALUES (4)");
            lost.lose();
        });
        use TransactionOutcome::{Committed, RolledBack, Unknown};
        let outcomes: Vec<_> = outcomes(&setup).into_iter().map(|(_, outcome)| outcome).collect();
        assert_eq!(outcomes, [Committed, RolledBack, RolledBack, Unknown]);
        let ids: std::collections::HashSet<_> =
            setup.events().into_iter().map(|event| event.outcome.transaction_id).collect();
        assert_eq!(ids.len(), 4);
        assert_eq!(setup.recorder.stats().held, 0);
    }
}

#[test]
fn events_are_there_at_once_unless_they_wait_for_the_commit() {
    for (setup, there_before) in both_ways().into_iter().zip([1, 0]) {
        alice().run(|| {
            let scope = setup.recorder.begin();
            record_in(&setup, &scope, "INSERT INTO a VALUES (1)");
            assert_eq!(setup.events().len(), there_before);
            assert_eq!(setup.recorder.stats().held, 1 - there_before as u64);
            scope.commit();
            assert_eq!(setup.events().len(), 1);
        });
    }
}

#[test]
fn a_savepoint_that_is_rolled_back_takes_only_its_own_statements_with_it() {
    for setup in both_ways() {
        alice().run(|| {
            let scope = setup.recorder.begin();
            record_in(&setup, &scope, "INSERT INTO a VALUES (1)");
            let savepoint = scope.savepoint();
            record_in(&setup, &savepoint, "INSERT INTO a VALUES (2)");
            savepoint.roll_back();
            let savepoint = scope.savepoint();
            record_in(&setup, &savepoint, "INSERT INTO a VALUES (2)");
            savepoint.commit();
            scope.commit();
        });
        let mut outcomes = outcomes(&setup);
        outcomes.sort_by_key(|(sql, outcome)| (sql.clone(), *outcome));
        let outcomes: Vec<_> = outcomes.iter().map(|(sql, outcome)| (&sql[22..23], *outcome)).collect();
        use TransactionOutcome::{Committed, RolledBack};
        assert_eq!(outcomes, [("1", Committed), ("2", Committed), ("2", RolledBack)], "the second try is no repeat");
        let ids: std::collections::HashSet<_> =
            setup.events().into_iter().map(|event| event.outcome.transaction_id).collect();
        assert_eq!(ids.len(), 1, "a savepoint has the transaction's id");
    }
}

#[test]
fn a_repeat_in_a_transaction_is_counted_and_shares_its_outcome() {
    for setup in both_ways() {
        alice().run(|| {
            let scope = setup.recorder.begin();
            (0..3).for_each(|_| record_in(&setup, &scope, "UPDATE a SET b = 1"));
            scope.commit();
        });
        assert_eq!(outcomes(&setup), [("UPDATE a SET b = 1".to_owned(), TransactionOutcome::Committed)]);
        assert_eq!(repeats(&setup.read()).len(), 2);
        let stats = setup.recorder.stats();
        assert_eq!((stats.recorded, stats.collapsed, stats.held), (1, 2, 0));
    }
}

#[test]
fn what_is_held_back_is_bounded_and_the_rest_recorded_at_once() {
    let setup = setup_with(|config| config.capture.after_commit = true);
    alice().run(|| {
        let scope = setup.recorder.begin();
        for number in 0..5_000 {
            record_in(&setup, &scope, &format!("INSERT INTO a VALUES ({number}, '{}')", "x".repeat(400)));
        }
        let before = setup.recorder.stats();
        assert!(before.recorded > 2_000 && before.held > 1_000, "{before:?}");
        scope.commit();
    });
    let stats = setup.recorder.stats();
    assert_eq!((stats.recorded, stats.held, stats.outcomes_unknown), (5_000, 0, 0));
    assert!(outcomes(&setup).iter().all(|(_, outcome)| *outcome == TransactionOutcome::Committed));
}
