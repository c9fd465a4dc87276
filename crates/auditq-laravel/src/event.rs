//! A query's data as an event.

use std::sync::Arc;

use auditq_event::{
    Actor, ActorType, Database, Event, EventId, Occurrence, Origin, OriginKind, Record, Statement, Status, System,
    Value as Bound, encode_actor, encode_bindings, encode_database, encode_origin, query_hash,
};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::data::Data;
use crate::date::Date;
use crate::envelope::Envelope;
use crate::extra;
use crate::mapping::{Field, Mapping};
use crate::php::{Key, Limits, Value, readable};
use crate::time;

/// Data that is no query's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// It has no SQL.
    #[error("its data holds no SQL under {}; name the key that does as sql in the table [laravel.map]", names.join(", "))]
    NoSql {
        /// Where it was looked for.
        names: Vec<String>,
    },
    /// The encoding of events does not take it back.
    #[error("its data makes no event: {0}")]
    Unreadable(#[from] auditq_event::DecodeError),
}

/// Makes the event that is stored of a job.
///
/// Its id follows from the job's uuid and what the job says of its time, so that the same job delivered twice is stored
/// once.
pub(crate) fn event(
    envelope: &Envelope,
    data: &Data<'_, '_, '_>,
    mapping: &Mapping,
    limits: &Limits,
) -> Result<Event, EventError> {
    let dispatched_at = envelope.created_at().map(|seconds| seconds.saturating_mul(1_000_000));
    let (mut event, rest) = made(data, mapping, dispatched_at, producer(envelope))?;
    event.extra = extra::of(envelope, data, &rest.taken, &rest.binding_names, mapping, limits);
    Ok(event)
}

/// What the making of an event left.
pub(crate) struct Rest<'m> {
    /// The names of the parts that are in it.
    pub(crate) taken: Vec<&'m str>,
    /// The names of its bindings.
    pub(crate) binding_names: Vec<String>,
    statement: Arc<Statement>,
}

impl Rest<'_> {
    /// True when one of the statement's bindings is under the name of a secret.
    pub(crate) fn has_secrets(&self, limits: &auditq_event::Limits) -> bool {
        (0..limits.bindings_count).any(|index| self.statement.is_sensitive(index))
    }
}

/// Makes an event of a query's data; what it has no place for is the caller's.
pub(crate) fn made<'m>(
    data: &Data<'_, '_, '_>,
    mapping: &'m Mapping,
    dispatched_at: Option<i64>,
    producer: [u8; 16],
) -> Result<(Event, Rest<'m>), EventError> {
    let mut taker = Taker::new(data, mapping);
    let Some(sql) = taker.take(Field::Sql, |value, _| value.as_bytes()) else {
        return Err(EventError::NoSql { names: mapping.names(Field::Sql).to_vec() });
    };
    let occurred_at = taker.take(Field::OccurredAt, |value, data| moment(value, data, mapping)).or(dispatched_at);
    let database = taker.database();
    let analyse = || Statement::analyse(sql, database.system, &mapping.redaction, &mapping.limits);
    let statement = mapping.statements.get(sql, database.system, analyse);
    let bindings = taker.bindings(sql);
    let encoded = encoded_bindings(&bindings, &statement, mapping);
    let actor = taker.actor();
    let origin = taker.origin();
    let error_message = taker.text(Field::ErrorMessage, mapping.limits.error_bytes);
    let error_message = error_message
        .map(|message| mapping.redaction.redact_error(&message, &statement, bindings.bound()).into_owned());
    let error_code = taker.text(Field::ErrorCode, mapping.limits.text_bytes);
    let transaction_id = taker.text(Field::TransactionId, mapping.limits.text_bytes);
    let user = actor.user_id.as_deref().or(actor.username.as_deref()).unwrap_or_default();
    let hash = query_hash(statement.hash(), &encoded, user);
    let status = taker.take(Field::Status, |value, _| Status::parse(value.as_text()?));

    let mut record = Vec::new();
    Occurrence {
        occurred_at: occurred_at.unwrap_or_default(),
        recorded_at: dispatched_at.or(occurred_at).unwrap_or_default(),
        duration_us: taker.duration_us().unwrap_or_default(),
        query_hash: taker.take(Field::QueryHash, |value, _| our_hash(value.as_text()?)).unwrap_or(hash),
        statement: statement.encoded(),
        bindings: &encoded,
        context: [
            &encode_actor(&actor, &mapping.limits),
            &encode_origin(&origin, &mapping.limits),
            &encode_database(&database, &mapping.limits),
        ],
        status: status.unwrap_or(if error_message.is_some() { Status::Error } else { Status::Ok }),
        error_code: error_code.as_deref(),
        error_message: error_message.as_deref(),
        rows_affected: taker.take(Field::RowsAffected, |value, _| unsigned(value)),
        rows_returned: taker.take(Field::RowsReturned, |value, _| unsigned(value)),
        transaction_id: transaction_id.as_deref(),
        ..Occurrence::default()
    }
    .encode(&mapping.limits, &mut record);

    let Record::Event(event) = Record::decode(&record, producer, 0)? else {
        return Err(auditq_event::DecodeError::Malformed("an event is no event").into());
    };
    let mut event = *event;
    event.event_id = EventId::derive(occurred_at.unwrap_or_default(), &producer, 0);
    Ok((event, Rest { taken: taker.taken, binding_names: bindings.names, statement }))
}

/// Stands for the process that recorded: every job is one of its own.
fn producer(envelope: &Envelope) -> [u8; 16] {
    let identity = match envelope.identity() {
        Some(identity) => match Uuid::try_parse(identity) {
            Ok(uuid) => return uuid.into_bytes(),
            Err(_) => identity.as_bytes(),
        },
        None => envelope.command.as_deref().unwrap_or_default().as_bytes(),
    };
    let hash: [u8; 32] =
        Sha256::new().chain_update(b"auditq laravel job v1\0").chain_update(identity).finalize().into();
    std::array::from_fn(|index| hash[index])
}

/// Takes parts out of a query's data, and remembers which.
struct Taker<'t, 'm, 'd, 'v, 'a> {
    data: &'t Data<'d, 'v, 'a>,
    mapping: &'m Mapping,
    /// What can be taken, sorted by part and, within it, by the place of its name.
    there: Vec<((Field, usize), &'v Value<'a>)>,
    taken: Vec<&'m str>,
}

impl<'t, 'm, 'd, 'v, 'a> Taker<'t, 'm, 'd, 'v, 'a> {
    fn new(data: &'t Data<'d, 'v, 'a>, mapping: &'m Mapping) -> Self {
        // The few names that the data has are looked up in the mapping, not the many of the mapping in the data.
        let plain = data.names().filter_map(|name| Some((name, mapping.place_of(name)?)));
        let named = plain.chain(mapping.paths()).filter_map(|(name, place)| Some((place, data.part(name)?)));
        let mut there: Vec<_> = named.collect();
        there.sort_by_key(|(place, _)| *place);
        Self { data, mapping, there, taken: Vec::new() }
    }

    /// The first of the part's names whose value can be read as what it is for; what cannot stays among the rest.
    fn take<T>(&mut self, field: Field, read: impl Fn(&'v Value<'a>, &Data<'_, 'v, 'a>) -> Option<T>) -> Option<T> {
        let mut named = self.there.iter().filter(|((of, _), _)| *of == field);
        let (place, value) = named.find_map(|((_, place), value)| Some((*place, read(value, self.data)?)))?;
        self.taken.push(&self.mapping.names(field)[place]);
        Some(value)
    }

    /// A part that is text; what is longer than `max` is cut, and whole among the rest.
    fn text(&mut self, field: Field, max: usize) -> Option<String> {
        let text = self.take(field, |value, data| text(value, data))?;
        if text.len() > max {
            self.taken.pop();
        }
        Some(text)
    }

    fn duration_us(&mut self) -> Option<u64> {
        self.take(Field::DurationUs, |value, _| time::duration_us(value, 1.0))
            .or_else(|| self.take(Field::DurationMs, |value, _| time::duration_us(value, 1_000.0)))
    }

    fn actor(&mut self) -> Actor {
        let max = self.mapping.limits.text_bytes;
        let (user_id, username) = (self.text(Field::UserId, max), self.text(Field::Username, max));
        let is_user = user_id.is_some() || username.is_some();
        Actor {
            actor_type: if is_user { ActorType::User } else { ActorType::Anonymous },
            user_id,
            username,
            // Never the id itself, not even among the rest.
            session_hash: self
                .take(Field::Session, |value, data| text(value, data))
                .map(|id| self.mapping.redaction.session_hash(&id)),
            tenant: self.text(Field::Tenant, max),
        }
    }

    fn origin(&mut self) -> Origin {
        let max = self.mapping.limits.text_bytes;
        let ip = self.text(Field::Ip, max);
        let http_method = self.text(Field::HttpMethod, max);
        let url = self.text(Field::Url, max);
        let url_path = url.as_deref().map(path_of).map(str::to_owned);
        if url != url_path {
            self.taken.pop();
        }
        let is_http = url.is_some() || http_method.is_some() || ip.is_some();
        Origin {
            kind: if is_http { OriginKind::Http } else { OriginKind::Unknown },
            request_id: self.text(Field::RequestId, max),
            trace_id: self.text(Field::TraceId, max),
            ip,
            http_method,
            url_path,
            user_agent: self.text(Field::UserAgent, self.mapping.limits.user_agent_bytes),
        }
    }

    fn database(&mut self) -> Database {
        let max = self.mapping.limits.text_bytes;
        let connection = self.text(Field::Connection, max);
        let said = self.take(Field::DbSystem, |value, _| system(value.as_text()?));
        Database {
            // Most applications call their connections by the engine.
            system: said.or_else(|| system(connection.as_deref()?)).unwrap_or_default(),
            connection,
            name: self.text(Field::DbName, max),
            app: self.text(Field::App, max).or_else(|| self.mapping.app.clone()),
            host: self.text(Field::Host, max),
            pid: self.take(Field::Pid, |value, _| u32::try_from(unsigned(value)?).ok()),
        }
    }

    fn bindings(&mut self, sql: &[u8]) -> Bindings<'v> {
        let read = |value: &'v Value<'a>, data: &Data<'_, 'v, 'a>| {
            let items = value.as_array()?;
            let is_named = items.iter().any(|(key, _)| matches!(key, Key::Str(_)));
            let mut items: Vec<_> = items.iter().map(|(key, value)| (key, bound(value, data))).collect();
            if is_named {
                items.sort_by_key(|(key, _)| place_of(key, sql));
            }
            let names = items.iter().filter(|_| is_named).map(|(key, _)| key.shown().into_owned()).collect();
            Some(Bindings { values: items.into_iter().map(|(_, value)| value).collect(), names })
        };
        self.take(Field::Bindings, read).unwrap_or_default()
    }
}

/// The bindings of a statement in order, and their names where they have some.
#[derive(Default)]
struct Bindings<'v> {
    values: Vec<OwnBound<'v>>,
    names: Vec<String>,
}

/// A binding that may own its text.
enum OwnBound<'v> {
    Is(Bound<'v>),
    Text(String),
    Typed(String, String),
}

impl Bindings<'_> {
    fn bound(&self) -> impl Iterator<Item = Bound<'_>> {
        self.values.iter().map(|value| match value {
            OwnBound::Is(value) => *value,
            OwnBound::Text(text) => Bound::Text(text),
            OwnBound::Typed(kind, text) => Bound::Typed(kind, text),
        })
    }
}

fn encoded_bindings(bindings: &Bindings<'_>, statement: &Statement, mapping: &Mapping) -> Vec<u8> {
    let mut out = Vec::new();
    encode_bindings(bindings.bound(), statement, &mapping.redaction, &mapping.limits, &mut out);
    out
}

/// A binding as the event has it. What no database takes as it is keeps its kind and its JSON.
fn bound<'v, 'a>(value: &'v Value<'a>, data: &Data<'_, 'v, 'a>) -> OwnBound<'v> {
    let value = data.document.follow(value);
    let json = || match data.document.json(value, &Limits::default()) {
        Ok(Json::String(text)) => text,
        Ok(json) => json.to_string(),
        Err(error) => error.to_string(),
    };
    match value {
        Value::Null => OwnBound::Is(Bound::Null),
        Value::Bool(value) => OwnBound::Is(Bound::Bool(*value)),
        Value::Int(value) => OwnBound::Is(Bound::Int(*value)),
        Value::Float(value) => OwnBound::Is(Bound::Float(*value)),
        Value::Str(bytes) => OwnBound::Is(Bound::RawText(bytes)),
        Value::Array(_) => OwnBound::Typed("array".to_owned(), json()),
        Value::Enum { class, case } => OwnBound::Typed("enum".to_owned(), format!("{class}::{case}")),
        Value::Object(object) => match (Date::of(data.document, object), data.document.text_of(object)) {
            (Some(date), _) => OwnBound::Typed("datetime".to_owned(), date.iso()),
            (None, Some(text)) => OwnBound::Text(String::from_utf8_lossy(text).into_owned()),
            (None, None) => OwnBound::Typed(object.class.to_string(), json()),
        },
        Value::Custom { class, .. } => OwnBound::Typed(class.to_string(), json()),
        Value::Same(_) | Value::Alias(_) => OwnBound::Typed("reference".to_owned(), json()),
    }
}

/// Where a named binding first stands in the statement: the order in which the event counts them.
fn place_of(key: &Key<'_>, sql: &[u8]) -> usize {
    let name = key.shown();
    let placeholder = format!(":{}", name.trim_start_matches(':'));
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let ends = |at: usize| !sql.get(at + placeholder.len()).is_some_and(is_word);
    let places = sql.windows(placeholder.len()).enumerate();
    let mut found = places.filter(|(at, window)| *window == placeholder.as_bytes() && ends(*at));
    found.next().map_or(usize::MAX, |(at, _)| at)
}

fn moment<'v, 'a>(value: &'v Value<'a>, data: &Data<'_, 'v, 'a>, mapping: &Mapping) -> Option<i64> {
    match value {
        Value::Object(object) => Date::of(data.document, object)?.unix_us(),
        Value::Int(number) => time::unix_us(*number as f64),
        Value::Float(number) => time::unix_us(*number),
        _ => time::parse_us(value.as_text()?, &mapping.timezone),
    }
}

fn text<'v, 'a>(value: &'v Value<'a>, data: &Data<'_, 'v, 'a>) -> Option<String> {
    match value {
        Value::Str(bytes) => Some(readable(bytes).into_owned()).filter(|text| !text.is_empty()),
        Value::Int(number) => Some(number.to_string()),
        Value::Object(object) => data.document.text_of(object).map(|text| readable(text).into_owned()),
        _ => None,
    }
}

fn unsigned(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => value.as_text()?.parse().ok(),
    }
}

pub(crate) fn system(name: &str) -> Option<System> {
    Some(match name.to_ascii_lowercase().as_str() {
        "mysql" => System::Mysql,
        "mariadb" => System::Mariadb,
        "pgsql" | "postgres" | "postgresql" => System::Postgres,
        "sqlite" | "sqlite3" => System::Sqlite,
        _ => return None,
    })
}

/// A hash as auditq writes one; of others the text is kept.
fn our_hash(text: &str) -> Option<u64> {
    let is_ours = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_ours.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// The path of an address, without host, query string and fragment.
fn path_of(url: &str) -> &str {
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => url,
    };
    let path = rest.split(['?', '#']).next().unwrap_or(rest);
    if path.is_empty() { "/" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_stored_as_its_path() {
        for (url, path) in [
            ("https://app.example.com/users?page=2", "/users"),
            ("http://h", "/"),
            ("/a/b#c", "/a/b"),
            ("orders/7", "orders/7"),
            ("", "/"),
            ("/go?to=https://x/y", "/go"),
        ] {
            assert_eq!(path_of(url), path, "{url}");
        }
    }

    #[test]
    fn named_bindings_are_counted_as_they_stand_in_the_statement() {
        let sql = b"select :bb, :b where a = :a";
        let place = |name: &str| place_of(&Key::text(name), sql);
        assert_eq!((place("b"), place(":a"), place("bb"), place("x")), (12, 25, 7, usize::MAX));
    }
}
