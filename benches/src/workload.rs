//! The statement that is recorded: an ordinary read with three bindings, about 400 bytes as a record.

use std::time::Duration;

use auditq::{Context, Observed, Recorder, Source};
use auditq_event::{Actor, ActorType, Origin, OriginKind, System, Value};

pub(crate) const SQL: &str = "select o.id, o.status, o.total_cents, c.name, c.email from orders o join customers c on \
                              c.id = o.customer_id where o.customer_id = ? and o.status = ? and o.created_at > ? \
                              order by o.created_at desc limit 50";

pub(crate) fn source() -> Source {
    Source::new(System::Sqlite, "primary", "shop.db")
}

/// The context of one request by a signed-in user.
pub(crate) fn context(user: u64) -> Context {
    let context = Context::new(Origin {
        kind: OriginKind::Http,
        request_id: Some(format!("0190f3b2-7c11-7a4e-9d55-{user:012x}")),
        ip: Some("192.0.2.17".to_owned()),
        http_method: Some("GET".to_owned()),
        url_path: Some("/customers/4711/orders".to_owned()),
        ..Origin::default()
    });
    context.sign_in(Actor {
        actor_type: ActorType::User,
        user_id: Some(user.to_string()),
        username: Some(format!("user-{user}@example.com")),
        ..Actor::default()
    });
    context
}

/// Records the execution with the number `n`; no two have the same bindings.
pub(crate) fn record(recorder: &Recorder, source: &Source, n: i64) {
    let bindings = [Value::Int(n), Value::Text("shipped"), Value::Text("2026-11-01 00:00:00")];
    let mut observed = Observed::new(source, SQL);
    observed.bindings = &bindings;
    observed.duration = Duration::from_micros(180);
    observed.rows_returned = Some(12);
    recorder.record(&observed);
}
