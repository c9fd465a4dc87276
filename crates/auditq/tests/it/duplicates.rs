use auditq::{Binding, Status, Value};
use auditq_config::Duplicates;

use crate::support::{alice, bob, repeats, setup, setup_with, target_of};

const START: i64 = 1_700_000_000_000_000;
const SECOND: i64 = 1_000_000;

#[test]
fn collapse_keeps_one_event_and_an_absolute_count() {
    let setup = setup();
    alice().run(|| {
        for number in 0..4 {
            setup.record_at("SELECT 1", START + number);
        }
    });
    let records = setup.read();
    let events = setup.events();
    assert_eq!(events.len(), 1);
    let target = target_of(&events[0]);
    assert_eq!(repeats(&records), [(target, 2), (target, 3), (target, 4)]);
    let stats = setup.recorder.stats();
    assert_eq!((stats.recorded, stats.collapsed), (1, 3));
}

#[test]
fn drop_keeps_the_first_one_only() {
    let setup = setup_with(|config| config.capture.duplicates = Duplicates::Drop);
    alice().run(|| (0..4).for_each(|_| setup.record("SELECT 1")));
    assert_eq!(setup.read().len(), 1);
    assert_eq!(setup.recorder.stats().dropped_duplicates, 3);
}

#[test]
fn off_keeps_every_one() {
    let setup = setup_with(|config| config.capture.duplicates = Duplicates::Off);
    alice().run(|| (0..4).for_each(|_| setup.record("SELECT 1")));
    assert_eq!(setup.events().len(), 4);
}

#[test]
fn a_repeat_after_the_time_to_live_is_an_event_of_its_own() {
    let setup = setup_with(|config| config.capture.ttl = 10);
    alice().run(|| {
        setup.record_at("SELECT 1", START);
        setup.record_at("SELECT 1", START + 10 * SECOND - 1);
        setup.record_at("SELECT 1", START + 10 * SECOND);
        setup.record_at("SELECT 1", START + 11 * SECOND);
    });
    let events = setup.events();
    assert_eq!(events.iter().map(|event| event.occurred_at - START).collect::<Vec<_>>(), [0, 10 * SECOND]);
    assert_eq!(repeats(&setup.read()), [(target_of(&events[0]), 2), (target_of(&events[1]), 2)]);
}

#[test]
fn other_bindings_another_user_or_another_request_are_no_repeat() {
    let setup = setup();
    let record = |number| {
        let bindings = [Value::Int(number)];
        let mut observed = setup.observed("SELECT ?");
        observed.bindings = &bindings;
        setup.recorder.record(&observed);
    };
    let context = alice();
    context.run(|| record(1));
    context.run(|| record(2));
    bob().run(|| record(1));
    alice().run(|| record(1));
    let bindings: Vec<_> = setup.events().into_iter().flat_map(|event| event.bindings).collect();
    assert_eq!(bindings, [Binding::Int(1), Binding::Int(2), Binding::Int(1), Binding::Int(1)]);
}

#[test]
fn an_error_never_hides_behind_a_success_nor_many_rows_behind_none() {
    let setup = setup();
    alice().run(|| {
        setup.record("SELECT a FROM t");
        let mut failed = setup.observed("SELECT a FROM t");
        failed.status = Status::Error;
        setup.recorder.record(&failed);
        let mut larger = setup.observed("SELECT a FROM t");
        larger.rows_returned = Some(1_000);
        setup.recorder.record(&larger);
    });
    assert_eq!(setup.events().len(), 3);
}

#[test]
fn outside_every_context_the_process_remembers() {
    let setup = setup_with(|config| config.capture.track_anonymous = true);
    std::thread::scope(|scope| {
        scope.spawn(|| setup.record_at("SELECT 1", START)).join().unwrap();
        scope.spawn(|| setup.record_at("SELECT 1", START + 1)).join().unwrap();
    });
    assert_eq!((setup.events().len(), setup.recorder.stats().collapsed), (1, 1));
}
