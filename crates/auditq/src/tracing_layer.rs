use std::fmt;
use std::time::Duration;

use auditq_event::{Actor, System};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context as Spans, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::actor::ActorExt;
use crate::context::Context;
use crate::journal::now_us;
use crate::observed::{Observed, Source};
use crate::recorder::Recorder;
use crate::seen::{self, MARKER, TARGET};

/// Fields of spans that name the user.
const USER_FIELDS: [&str; 2] = ["enduser.id", "user.id"];

/// Records the statements of sqlx pools that nobody wrapped, from the events that sqlx writes for its log.
///
/// A belt beside the braces: such events have no bindings and do not say whether the statement failed, so every
/// statement counts as ok, and they are missing where a filter, `release_max_level_*` or `disable_statement_logging`
/// hides sqlx's DEBUG events. Statements that an adapter sees are not recorded again.
///
/// The user is the thread's [`Context`], or the one a span around the event was made in, or a span's field
/// `enduser.id` or `user.id`.
#[derive(Debug)]
pub struct AuditqLayer {
    recorder: Recorder,
    source: Source,
}

/// The context that a span was made in, kept with the span because sqlx has SQLite's statements run on another thread.
struct Carried(Context);

impl AuditqLayer {
    /// Makes the layer; it may sit anywhere among other layers.
    #[must_use]
    pub fn new(recorder: &Recorder) -> Self {
        seen::expect_events();
        Self { recorder: recorder.clone(), source: Source::new(System::Other, "", "") }
    }

    /// Says which database the statements run on; the events do not.
    #[must_use]
    pub fn on(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    fn context_of<S: for<'s> LookupSpan<'s> + Subscriber>(event: &Event<'_>, spans: &Spans<'_, S>) -> Context {
        let current = Context::current();
        if current.has_actor() || current.is_suppressed() {
            return current;
        }
        let carried = spans.event_scope(event).into_iter().flatten().find_map(|span| {
            let extensions = span.extensions();
            extensions.get::<Carried>().map(|carried| carried.0.clone())
        });
        carried.unwrap_or(current)
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for AuditqLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, spans: Spans<'_, S>) {
        let mut user = UserField::default();
        attributes.record(&mut user);
        let current = Context::current();
        let context = user.context(&current).or_else(|| current.is_known().then_some(current));
        if let (Some(span), Some(context)) = (spans.span(id), context) {
            span.extensions_mut().replace(Carried(context));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, spans: Spans<'_, S>) {
        let mut user = UserField::default();
        values.record(&mut user);
        if let (Some(span), Some(context)) = (spans.span(id), user.context(&Context::current())) {
            span.extensions_mut().replace(Carried(context));
        }
    }

    fn on_event(&self, event: &Event<'_>, spans: Spans<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        if spans.event_scope(event).into_iter().flatten().any(|span| span.name() == MARKER) {
            return;
        }
        let mut statement = Statement::default();
        event.record(&mut statement);
        let Some(sql) = statement.sql() else { return };
        let mut observed = Observed::new(&self.source, sql);
        observed.context = Self::context_of(event, &spans);
        observed.duration = statement.elapsed;
        let elapsed_us = i64::try_from(statement.elapsed.as_micros()).unwrap_or(i64::MAX);
        observed.started_at = now_us().saturating_sub(elapsed_us);
        observed.rows_affected = statement.rows_affected;
        observed.rows_returned = statement.rows_returned;
        self.recorder.record(&observed);
    }
}

/// What a span says of the user.
#[derive(Default)]
struct UserField(Option<String>);

impl UserField {
    fn context(self, current: &Context) -> Option<Context> {
        self.0.map(|id| current.acting_as(Actor::user(&id, id.as_str())))
    }

    fn take(&mut self, field: &Field, value: impl FnOnce() -> String) {
        if USER_FIELDS.contains(&field.name()) {
            self.0 = Some(value()).filter(|id| !id.is_empty());
        }
    }
}

impl Visit for UserField {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, || value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, || format!("{value:?}"));
    }
}

/// What sqlx says of a statement. The SQL stands in `summary` while it has four words or fewer, and otherwise in
/// `db.statement`, with a line break or two around it.
#[derive(Default)]
struct Statement {
    summary: String,
    text: String,
    elapsed: Duration,
    rows_affected: Option<u64>,
    rows_returned: Option<u64>,
}

impl Statement {
    fn sql(&self) -> Option<&str> {
        let framed = self.text.strip_prefix("\n\n").and_then(|text| text.strip_suffix('\n'));
        let sql = framed.filter(|text| !text.is_empty()).unwrap_or(&self.summary);
        (!sql.is_empty()).then_some(sql)
    }
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.text),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "rows_affected" => self.rows_affected = Some(value),
            "rows_returned" => self.rows_returned = Some(value),
            _ => {}
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.elapsed = Duration::try_from_secs_f64(value).unwrap_or_default();
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
