//! Texts that somebody chose to do harm with.

use auditq_event::{Binding, Event};
use auditq_store::conformance::ordinary_event;
use auditq_store::{Filter, StoreReader};
use proptest::prelude::*;

use crate::support::{InFile, insert};

/// Puts a text wherever an application's user can put one.
fn with_text(n: u64, text: &str) -> Event {
    let mut event = ordinary_event(n);
    let some = || Some(text.to_owned());
    event.statement.sql = text.to_owned();
    event.statement.tables = vec![text.to_owned()];
    event.bindings = vec![Binding::Text(text.to_owned()), Binding::InvalidText([text.as_bytes(), &[0xFF]].concat())];
    event.outcome.error_message = some();
    event.actor.username = some();
    event.origin.user_agent = some();
    event.origin.url_path = some();
    event
}

async fn round_trip(events: Vec<Event>) {
    let setup = InFile::new().await;
    insert(&setup.store, events.clone()).await.unwrap();
    for event in events {
        let page = setup.store.search(&Filter { event_id: Some(event.event_id), ..Filter::default() }).await.unwrap();
        assert_eq!(page.rows.len(), 1);
        assert!(page.rows[0].event == event, "event {} came back as another", event.producer_seq);
        let user = Filter { user: event.actor.username.clone(), limit: 1_000, ..Filter::default() };
        let found = setup.store.search(&user).await.unwrap().rows;
        assert!(found.iter().any(|row| row.event.event_id == event.event_id), "it is found by its user");
    }
}

#[tokio::test]
async fn control_characters_come_back_as_they_went_in() {
    let every: String = (0..=0x9F_u8).map(char::from).collect();
    let texts = [every.as_str(), "\0", "\0\0'; DROP TABLE audit_sql_logs; --", "\u{feff}\u{202e}\u{2028}\u{10ffff}"];
    round_trip((0..).zip(texts).map(|(n, text)| with_text(n, text)).collect()).await;
}

#[tokio::test]
async fn a_megabyte_comes_back_as_it_went_in() {
    let long = ["x".repeat(1 << 20), "\u{1f9fe}".repeat(1 << 18), "\0".repeat(1 << 20)];
    round_trip((0..).zip(&long).map(|(n, text)| with_text(n, text)).collect()).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn any_text_comes_back_as_it_went_in(texts in prop::collection::vec(any::<String>(), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(round_trip((0..).zip(&texts).map(|(n, text)| with_text(n, text)).collect()));
    }
}
