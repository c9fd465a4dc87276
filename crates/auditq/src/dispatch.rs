use std::time::Duration;

use auditq_event::{Binding, Event, Occurrence, Record, Value, encode_bindings, encode_route, query_hash};

use crate::context::Context;
use crate::journal::now_us;
use crate::observed::Source;
use crate::recorder::{Inner, Recorder};
use crate::scratch::{self, Scratch};

/// An event on its way: it is recorded when this is dropped, so `audit.dispatch(event);` is enough.
///
/// Such an event goes the way of every other: limits, redaction of secrets, only with somebody signed in (the event's
/// own actor, or the context's). The SQL's operation, tables and fingerprint are worked out here, and times that are
/// 0 are now. It is never taken for a repeat: whoever dispatches twice means two.
#[derive(Debug)]
pub struct Dispatch {
    recorder: Recorder,
    event: Event,
    /// As it was when the event was dispatched, wherever this is dropped.
    context: Context,
    queue: Option<String>,
    delay: Duration,
}

impl Dispatch {
    pub(crate) fn new(recorder: Recorder, event: Event) -> Self {
        let context = context_of(&event);
        Self { recorder, event, context, queue: None, delay: Duration::ZERO }
    }

    /// Lets the event wait in the queue before a worker may store it. Counted from when it reaches the queue, in
    /// milliseconds; what is finer is rounded up.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends the event to this queue, in place of the configured one. Some worker must be told to serve it.
    pub fn on_queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Puts the way in front of the record, where it has one of its own.
    fn routed(&self, record: &[u8]) -> Option<Vec<u8>> {
        (self.queue.is_some() || !self.delay.is_zero()).then(|| {
            let mut routed = Vec::with_capacity(record.len() + 64);
            encode_route(self.queue.as_deref(), self.delay, &mut routed);
            routed.extend_from_slice(record);
            routed
        })
    }
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        let this = &*self;
        this.recorder.guarded(|inner| scratch::with(|scratch| inner.dispatch(this, scratch)));
    }
}

impl Inner {
    fn dispatch(&self, dispatch: &Dispatch, scratch: &mut Scratch) {
        let Some(journal) = &self.journal else { return self.counters.skipped_disabled.increment() };
        let event = &dispatch.event;
        let context = &dispatch.context;
        if !self.wants(context) {
            return;
        }
        let occurred_at = if event.occurred_at == 0 { now_us() } else { event.occurred_at };
        self.encode_event(event, occurred_at, context, scratch);
        let routed = dispatch.routed(&scratch.record);
        match journal.append(occurred_at, routed.as_deref().unwrap_or(&scratch.record)) {
            Ok(_) => self.counters.recorded.increment(),
            Err(loss) => self.count(loss),
        }
    }

    fn encode_event(&self, event: &Event, occurred_at: i64, context: &Context, scratch: &mut Scratch) {
        let Scratch { front, bindings, record } = scratch;
        let source = Source::of(event.database.clone());
        let sql = event.statement.sql.as_bytes();
        let known = self.statements.get(source.system(), sql, &self.redaction, &self.limits, front);
        let values = || event.bindings.iter().map(value_of);
        encode_bindings(values(), &known.statement, &self.redaction, &self.limits, bindings);
        let outcome = &event.outcome;
        let message = outcome.error_message.as_deref();
        let message = message.map(|message| self.redaction.redact_error(message, &known.statement, values()));
        Occurrence {
            occurred_at,
            recorded_at: if event.recorded_at == 0 { now_us() } else { event.recorded_at },
            duration_us: event.duration_us,
            query_hash: query_hash(known.statement.hash(), bindings, context.user()),
            statement: known.statement.encoded(),
            bindings,
            context: [
                context.encoded_actor(&self.limits),
                context.encoded_origin(&self.limits),
                &source.code().encoded,
            ],
            status: outcome.status,
            error_code: outcome.error_code.as_deref(),
            error_message: message.as_deref(),
            rows_affected: outcome.rows_affected,
            rows_returned: outcome.rows_returned,
            transaction_id: outcome.transaction_id.as_deref(),
            transaction_outcome: outcome.transaction_outcome,
        }
        .encode(&self.limits, record);
        if event.bindings.iter().any(|binding| !is_whole(binding)) {
            restore_bindings(event, record);
        }
    }
}

/// The event's own actor, or whoever is signed in at the moment.
fn context_of(event: &Event) -> Context {
    let current = Context::current();
    if event.actor == Default::default() {
        return current;
    }
    let origin =
        if event.origin == Default::default() { current.origin().cloned() } else { Some(event.origin.clone()) };
    Context::new(origin.unwrap_or_default()).acting_as(event.actor.clone())
}

fn is_whole(binding: &Binding) -> bool {
    !matches!(binding, Binding::Shortened { .. } | Binding::Redacted { .. })
}

fn value_of(binding: &Binding) -> Value<'_> {
    match binding {
        Binding::Bool(value) => Value::Bool(*value),
        Binding::Int(value) => Value::Int(*value),
        Binding::Uint(value) => Value::Uint(*value),
        Binding::Float(value) => Value::Float(*value),
        Binding::Text(text) => Value::Text(text),
        Binding::InvalidText(bytes) => Value::RawText(bytes),
        Binding::Typed(name, text) => Value::Typed(name, text),
        Binding::Null | Binding::Shortened { .. } | Binding::Redacted { .. } => Value::Null,
    }
}

/// Puts bindings that were shortened or redacted before back as they were: there is no value to encode them from.
fn restore_bindings(event: &Event, record: &mut Vec<u8>) {
    if let Ok(Record::Event(mut encoded)) = Record::decode(record, [0; 16], 0) {
        for (to, from) in encoded.bindings.iter_mut().zip(&event.bindings).filter(|(_, from)| !is_whole(from)) {
            to.clone_from(from);
        }
        *record = encoded.encode();
    }
}
