//! Promise 3: rows come back as they went in.

use std::sync::Arc;

use auditq_event::{Binding, Event};

use super::{Setup, all, ordinary_event, strange_events};
use crate::{Batch, Filter, Store, StoreReader};

async fn read_back(setup: &impl Setup, events: Vec<Event>) -> Vec<Event> {
    let batch = Batch { events, amendments: Vec::new() };
    setup.store().insert(Arc::new(batch)).await.expect("insert");
    all(setup.store()).await.into_iter().map(|row| row.event).collect()
}

/// Compares bit by bit what `==` calls different although it is the same: NaN.
fn assert_same(back: &Event, went_in: &Event) {
    let texts = |event: &Event| event.bindings.iter().map(|binding| format!("{binding:?}")).collect::<Vec<_>>();
    assert_eq!(texts(back), texts(went_in));
    let without = |event: &Event| Event { bindings: Vec::<Binding>::new(), ..event.clone() };
    assert_eq!(without(back), without(went_in));
}

/// Promise 3.
pub async fn promise_3_an_ordinary_event_comes_back_as_it_went_in(setup: &impl Setup) {
    let event = ordinary_event(49);
    assert_eq!(read_back(setup, vec![event.clone()]).await, [event]);
}

/// Promise 3.
pub async fn promise_3_strange_events_come_back_as_they_went_in(setup: &impl Setup) {
    let events = strange_events();
    let back = read_back(setup, events.clone()).await;
    assert_eq!(back.len(), events.len());
    for (back, went_in) in back.iter().zip(&events) {
        assert_same(back, went_in);
    }
}

/// Promise 3.
pub async fn promise_3_nothing_and_the_empty_text_stay_different(setup: &impl Setup) {
    let mut empty = ordinary_event(1);
    empty.actor.username = Some(String::new());
    let mut nothing = ordinary_event(2);
    nothing.actor.username = None;
    read_back(setup, vec![empty, nothing]).await;
    let filter = Filter { user: Some(String::new()), ..Filter::default() };
    let found = setup.store().search(&filter).await.expect("search").rows;
    assert_eq!(found.iter().map(|row| row.event.producer_seq).collect::<Vec<_>>(), [1]);
}
