//! One item of a message: a query, a gap, or what became of a transaction.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use auditq_event::{
    Actor, ActorType, Cut, Database, DecodeError, Event, EventId, Gap, Occurrence, Origin, OriginKind, ProducerLabel,
    Record, Statement, Status, System, Target, TransactionOutcome, encode_actor, encode_bindings, encode_database,
    encode_origin, query_hash,
};
use serde_json::{Map, Value as Json, json};

use super::binding::{Bindings, sha256_of};
use super::{QueriesReader, whole};
use crate::event::system;

/// As many events as one outcome may name.
const TARGETS_MAX: usize = 65_536;

/// As much of the names beside an actor as is kept.
const GUARD_BYTES: usize = 100;

/// An item that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// Something that must be there is not, or is of another type.
    #[error("cannot read item {index} of the queries: {problem}")]
    Damaged {
        /// Its place, from 0.
        index: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The encoding of events does not take it back.
    #[error("cannot read item {index} of the queries: it makes no event: {problem}")]
    NoEvent {
        /// Its place, from 0.
        index: usize,
        /// What is wrong.
        problem: String,
    },
}

type Item = Map<String, Json>;
type Damage = &'static str;

/// What the items of one message share.
pub(super) struct Reading<'m> {
    reader: &'m QueriesReader,
    label: &'m ProducerLabel,
    origin: Vec<u8>,
    actors: Vec<(Actor, Option<String>)>,
    databases: Vec<Database>,
    statements: Vec<Text<'m>>,
    analysed: RefCell<HashMap<(usize, System), Rc<Statement>>>,
}

/// The text of a statement, and what it was when it was longer.
struct Text<'m> {
    sql: &'m str,
    cut: Option<Cut>,
}

impl<'m> Reading<'m> {
    pub(super) fn new(
        reader: &'m QueriesReader,
        label: &'m ProducerLabel,
        data: &Map<String, Json>,
        batch: &'m Map<String, Json>,
    ) -> Self {
        let list = |key: &str| batch.get(key).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        Self {
            reader,
            label,
            origin: encode_origin(&origin(data.get("origin").unwrap_or(&Json::Null)), &reader.limits),
            actors: list("actors").iter().map(actor).collect(),
            databases: list("databases").iter().map(|json| database(json, label)).collect(),
            statements: batch
                .get("statements")
                .and_then(Json::as_array)
                .map(|list| list.iter().map(Text::of).collect())
                .unwrap_or_default(),
            analysed: RefCell::default(),
        }
    }

    /// The record of an item, with its sequence number; 0 where it cannot be told.
    pub(super) fn record(&self, index: usize, item: &Json) -> (u64, Result<Record, ItemError>) {
        let Json::Object(item) = item else {
            return (0, Err(ItemError::Damaged { index, problem: "it is no object" }));
        };
        let seq = number(item, "seq").unwrap_or_default();
        let damaged = |problem| ItemError::Damaged { index, problem };
        let record = if item.contains_key("lost") {
            gap(item).map_err(damaged)
        } else if item.contains_key("of") {
            outcome(item).map_err(damaged)
        } else {
            match self.query(item, seq).map_err(damaged) {
                Ok(Ok(event)) => Ok(Record::Event(Box::new(event))),
                Ok(Err(error)) => Err(ItemError::NoEvent { index, problem: error.to_string() }),
                Err(error) => Err(error),
            }
        };
        (seq, record)
    }

    fn query(&self, item: &Item, seq: u64) -> Result<Result<Event, DecodeError>, Damage> {
        if seq == 0 {
            return Err("it has no seq");
        }
        let occurred_at = int(item, "at").ok_or("it has no time (at)")?;
        let at = usize_of(item, "statement").ok_or("it has no statement")?;
        let text = self.statements.get(at).ok_or("its statement is not in the message")?;
        let (actor, guard) = self.shared(item, "actor", &self.actors)?;
        let database = self.shared(item, "database", &self.databases)?;
        let bindings = Bindings::read(item.get("bindings"), &self.reader.limits)?;
        let total = number(item, "bindings_total");
        let event = self.event(item, occurred_at, (at, text), &actor, &database, &bindings);
        Ok(event.map(|mut event| {
            event.event_id = EventId::derive(occurred_at, &self.label.producer_id, seq);
            event.producer_seq = seq;
            event.repeat_count = number(item, "repeat").unwrap_or(1).max(1);
            event.last_at = int(item, "last_at").unwrap_or(occurred_at).max(occurred_at);
            event.extra = guard.map(|guard| json!({"guard": guard}).to_string());
            if let Some(total) = total.and_then(|total| u32::try_from(total).ok()) {
                event.bindings_total = event.bindings_total.max(total);
            }
            if let Some(cut) = &text.cut {
                event.statement.cut = Some(cut.clone());
            }
            event
        }))
    }

    fn event(
        &self,
        item: &Item,
        occurred_at: i64,
        (at, text): (usize, &Text<'_>),
        actor: &Actor,
        database: &Database,
        bindings: &Bindings,
    ) -> Result<Event, DecodeError> {
        let (redaction, limits) = (&self.reader.redaction, &self.reader.limits);
        let statement = self.analysed(at, text, database.system);
        let mut encoded = Vec::new();
        encode_bindings(bindings.values(), &statement, redaction, limits, &mut encoded);
        let user = actor.user_id.as_deref().or(actor.username.as_deref()).unwrap_or_default();
        let error = text_of(item, "error").map(|error| redaction.redact_error(error, &statement, bindings.values()));
        let duration_us = number(item, "us").unwrap_or_default();
        let mut record = Vec::new();
        Occurrence {
            occurred_at,
            recorded_at: occurred_at.saturating_add(i64::try_from(duration_us).unwrap_or_default()),
            duration_us,
            query_hash: query_hash(statement.hash(), &encoded, user),
            statement: statement.encoded(),
            bindings: &encoded,
            context: [&encode_actor(actor, limits), &self.origin, &encode_database(database, limits)],
            status: text_of(item, "status").and_then(Status::parse).unwrap_or_default(),
            error_code: text_of(item, "error_code"),
            error_message: error.as_deref(),
            rows_affected: number(item, "affected"),
            rows_returned: number(item, "returned"),
            transaction_id: text_of(item, "tx"),
            transaction_outcome: outcome_of(item).unwrap_or_default(),
        }
        .encode(limits, &mut record);
        match Record::decode(&record, self.label.producer_id, 0)? {
            Record::Event(event) => Ok(*event),
            _ => Err(DecodeError::Malformed("an event is no event")),
        }
    }

    fn analysed(&self, at: usize, text: &Text<'_>, system: System) -> Rc<Statement> {
        let reader = self.reader;
        let analyse = || Rc::new(Statement::analyse(text.sql.as_bytes(), system, &reader.redaction, &reader.limits));
        Rc::clone(self.analysed.borrow_mut().entry((at, system)).or_insert_with(analyse))
    }

    /// What several items refer to by its place; an item may do without.
    fn shared<T: Clone + Default>(&self, item: &Item, key: &str, all: &[T]) -> Result<T, Damage> {
        match item.get(key) {
            None | Some(Json::Null) => Ok(T::default()),
            Some(_) => {
                let at = usize_of(item, key).ok_or("its actor or database is no number")?;
                all.get(at).cloned().ok_or("its actor or database is not in the message")
            }
        }
    }
}

impl<'m> Text<'m> {
    /// A text, or of one that was cut its beginning with length and hash of the whole.
    fn of(json: &'m Json) -> Self {
        match json {
            Json::String(sql) => Self { sql, cut: None },
            Json::Object(parts) => Self { sql: text_of(parts, "sql").unwrap_or_default(), cut: cut_of(parts) },
            _ => Self { sql: "", cut: None },
        }
    }
}

/// Length and hash of what was cut.
pub(super) fn cut_of(parts: &Item) -> Option<Cut> {
    Some(Cut { len: number(parts, "len")?, sha256: sha256_of(text_of(parts, "sha256")?)? })
}

/// Takes out the texts of statements that no item refers to any more.
pub(super) fn forget_statements(batch: &mut Map<String, Json>) {
    let items = batch.get("items").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let used: HashSet<usize> = items.iter().filter_map(|item| usize_of(item.as_object()?, "statement")).collect();
    if let Some(Json::Array(statements)) = batch.get_mut("statements") {
        for (at, statement) in statements.iter_mut().enumerate() {
            if !used.contains(&at) {
                *statement = "".into();
            }
        }
    }
}

fn gap(item: &Item) -> Result<Record, Damage> {
    Ok(Record::Gap(Gap {
        first_at: int(item, "first_at").ok_or("a gap has no first_at")?,
        last_at: int(item, "last_at").ok_or("a gap has no last_at")?,
        lost: number(item, "lost").ok_or("a gap does not say how many were lost")?,
        reason: text_of(item, "reason").unwrap_or("not said").chars().take(200).collect(),
    }))
}

fn outcome(item: &Item) -> Result<Record, Damage> {
    let outcome = outcome_of(item).ok_or("it says no outcome")?;
    let targets = item.get("of").and_then(Json::as_array).ok_or("an outcome is of no list")?;
    let target = |pair: &Json| {
        let pair = pair.as_array()?;
        Some(Target { occurred_at: pair.first()?.as_i64()?, seq: pair.get(1)?.as_u64()? })
    };
    let targets: Option<Vec<Target>> = targets.iter().take(TARGETS_MAX).map(target).collect();
    Ok(Record::Outcome { outcome, targets: targets.ok_or("an outcome is of something else than events")? })
}

fn outcome_of(item: &Item) -> Option<TransactionOutcome> {
    text_of(item, "outcome").and_then(TransactionOutcome::parse)
}

fn actor(json: &Json) -> (Actor, Option<String>) {
    let Json::Object(parts) = json else { return Default::default() };
    let own = |key: &str| text_of(parts, key).map(str::to_owned);
    let (user_id, username) = (own("id"), own("name"));
    let is_user = user_id.is_some() || username.is_some();
    let said = text_of(parts, "type").and_then(ActorType::parse);
    let guard = own("guard").map(|guard| guard.chars().take(GUARD_BYTES).collect());
    let actor = Actor {
        actor_type: said.unwrap_or(if is_user { ActorType::User } else { ActorType::Anonymous }),
        user_id,
        username,
        session_hash: own("session_hash"),
        tenant: own("tenant"),
    };
    (actor, guard)
}

fn origin(json: &Json) -> Origin {
    let Json::Object(parts) = json else { return Origin::default() };
    let own = |key: &str| text_of(parts, key).map(str::to_owned);
    let without_query = |path: String| path.split(['?', '#']).next().unwrap_or_default().to_owned();
    Origin {
        kind: text_of(parts, "kind").and_then(OriginKind::parse).unwrap_or_default(),
        request_id: own("request_id"),
        trace_id: own("trace_id"),
        ip: own("ip"),
        http_method: own("method"),
        url_path: own("path").map(without_query),
        user_agent: own("user_agent"),
    }
}

fn database(json: &Json, label: &ProducerLabel) -> Database {
    let mut database = Database::default();
    if let Json::Object(parts) = json {
        let own = |key: &str| text_of(parts, key).map(str::to_owned);
        database.connection = own("connection");
        database.system = text_of(parts, "system").and_then(system).unwrap_or_default();
        database.name = own("name");
    }
    database.app.clone_from(&label.app);
    database.host.clone_from(&label.host);
    database.pid = label.pid;
    database
}

pub(super) fn text_of<'i>(item: &'i Item, key: &str) -> Option<&'i str> {
    item.get(key).and_then(Json::as_str).filter(|text| !text.is_empty())
}

fn int(item: &Item, key: &str) -> Option<i64> {
    item.get(key).and_then(whole)
}

pub(super) fn number(item: &Item, key: &str) -> Option<u64> {
    int(item, key).and_then(|number| u64::try_from(number).ok())
}

fn usize_of(item: &Item, key: &str) -> Option<usize> {
    number(item, key).and_then(|number| usize::try_from(number).ok())
}
