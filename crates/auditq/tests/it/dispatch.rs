use std::time::Duration;

use auditq::{Actor, ActorExt, Binding, Event, Operation, StatementText};
use auditq_event::{Route, route_of};
use auditq_spool::{Chunk, Reader};

use crate::support::{Setup, alice, open, setup};

fn event(sql: &str) -> Event {
    Event { statement: StatementText { sql: sql.to_owned(), ..StatementText::default() }, ..Event::default() }
}

fn routes(setup: &Setup) -> Vec<Option<Route>> {
    let producer = Reader::producers(setup.folder.path()).unwrap()[0];
    let mut chunk = Chunk::default();
    let mut reader = open(setup.folder.path(), producer);
    reader.read(&mut chunk, 100, 1 << 20).unwrap();
    chunk.records().map(|record| route_of(record.payload)).collect()
}

#[test]
fn an_event_is_recorded_as_soon_as_it_is_dispatched() {
    let setup = setup();
    alice().run(|| {
        setup.recorder.dispatch(event("DELETE FROM carts WHERE id = 7"));
        setup.recorder.dispatch(event("DELETE FROM carts WHERE id = 7"));
    });
    let events = setup.events();
    assert_eq!(events.len(), 2, "whoever dispatches twice means two");
    assert_eq!(events[0].statement.operation, Operation::Delete);
    assert_eq!(events[0].statement.tables, ["carts"]);
    assert_eq!(events[0].actor.username.as_deref(), Some("alice"));
    assert!(events[0].occurred_at > 0);
    assert_eq!(routes(&setup), [None, None]);
}

#[test]
fn delay_and_queue_travel_with_the_event() {
    let setup = setup();
    let audit = &setup.recorder;
    alice().run(|| {
        audit.dispatch(event("SELECT 1")).delay(Duration::from_secs(90)).on_queue("high-priority");
        audit.dispatch(event("SELECT 2")).on_queue("low");
        audit.dispatch(event("SELECT 3")).delay(Duration::from_micros(1));
    });
    let route = |queue: Option<&str>, delay_ms| Some(Route { queue: queue.map(str::to_owned), delay_ms });
    assert_eq!(routes(&setup), [route(Some("high-priority"), 90_000), route(Some("low"), 0), route(None, 1)]);
    assert_eq!(setup.events().len(), 3);
}

#[test]
fn the_events_own_actor_goes_before_the_contexts() {
    let setup = setup();
    let mut own = event("SELECT 1");
    own.actor = Actor::job("nightly");
    alice().run(|| setup.recorder.dispatch(own));
    assert_eq!(setup.events()[0].actor.username.as_deref(), Some("nightly"));
}

#[test]
fn nobody_signed_in_is_skipped_and_counted() {
    let setup = setup();
    setup.recorder.dispatch(event("SELECT 1"));
    assert_eq!((setup.recorder.stats().skipped_anonymous, setup.read().len()), (1, 0));
}

#[test]
fn secrets_are_taken_out_and_what_was_taken_out_before_stays() {
    let setup = setup();
    let mut secret = event("INSERT INTO users (name, password, token) VALUES (?, ?, ?)");
    let before = Binding::Redacted { kind: "text".into(), hmac: [7; 16] };
    secret.bindings = vec![Binding::Text("alice".into()), Binding::Text("hunter2".into()), before.clone()];
    alice().run(|| setup.recorder.dispatch(secret).on_queue("low"));
    let event = &setup.events()[0];
    assert_eq!(event.bindings[0], Binding::Text("alice".into()));
    assert!(matches!(&event.bindings[1], Binding::Redacted { hmac, .. } if *hmac != [7; 16]));
    assert_eq!(event.bindings[2], before);
    assert_eq!(routes(&setup)[0].as_ref().unwrap().queue.as_deref(), Some("low"));
}
