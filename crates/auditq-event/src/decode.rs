use crate::binding::Binding;
use crate::event::{
    Actor, ActorType, Cut, Database, Event, Operation, Origin, OriginKind, StatementText, Status, System,
    TransactionOutcome,
};
use crate::fields::{
    FORMAT_VERSION, MAX_TABLES, actor, database, event, gap, kind, origin, outcome, repeat, statement,
};
use crate::id::EventId;
use crate::record::{Gap, Record, Target};
use crate::route;
use crate::wire::{DecodeError, Field, Reader};

impl Record {
    /// Reads one record of a spool.
    ///
    /// Fields may stand in any order; of one that stands twice the last counts; unknown ones are skipped, because a
    /// newer release may add some. Time and memory are within a constant factor of `bytes.len()`.
    ///
    /// # Errors
    /// When the record is of an unknown version or kind, ends early, or a field has a value that it cannot have.
    pub fn decode(bytes: &[u8], producer_id: [u8; 16], seq: u64) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut of_kind = decode_kind(&mut reader)?;
        if of_kind == kind::ROUTED {
            route::skip(&mut reader)?;
            of_kind = decode_kind(&mut reader)?;
        }
        match of_kind {
            kind::EVENT => decode_event(reader, producer_id, seq).map(|event| Self::Event(Box::new(event))),
            kind::REPEAT => decode_repeat(reader),
            kind::OUTCOME => decode_outcome(reader),
            kind::GAP => decode_gap(reader).map(Self::Gap),
            other => Err(DecodeError::UnknownKind(other)),
        }
    }
}

/// Reads the version, which must be known, and the kind.
fn decode_kind(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    match reader.byte()? {
        FORMAT_VERSION => reader.byte(),
        version => Err(DecodeError::UnknownVersion(version)),
    }
}

fn decode_event(mut reader: Reader<'_>, producer_id: [u8; 16], seq: u64) -> Result<Event, DecodeError> {
    let mut value = Event { producer_id, producer_seq: seq, repeat_count: 1, ..Event::default() };
    let mut last_at = None;
    while let Some(field) = reader.field("event")? {
        match field.number {
            event::OCCURRED_AT => value.occurred_at = field.time()?,
            event::RECORDED_AT => value.recorded_at = field.time()?,
            event::DURATION_US => value.duration_us = field.number()?,
            event::QUERY_HASH => value.query_hash = field.number()?,
            event::STATEMENT => value.statement = StatementText::decode(Reader::new(field.bytes()?))?,
            event::BINDINGS => (value.bindings, value.bindings_total) = Binding::decode_all(field.bytes()?)?,
            event::ACTOR => value.actor = decode_actor(Reader::new(field.bytes()?))?,
            event::ORIGIN => value.origin = decode_origin(Reader::new(field.bytes()?))?,
            event::DATABASE => value.database = decode_database(Reader::new(field.bytes()?))?,
            event::REPEAT_COUNT => value.repeat_count = field.number()?.max(1),
            event::LAST_AT => last_at = Some(field.time()?),
            event::EXTRA => value.extra = Some(field.text()?),
            _ => decode_ending(&mut value.outcome, &field)?,
        }
    }
    value.last_at = last_at.unwrap_or(value.occurred_at);
    value.event_id = EventId::derive(value.occurred_at, &producer_id, seq);
    Ok(value)
}

fn decode_ending(value: &mut crate::event::Outcome, field: &Field<'_>) -> Result<(), DecodeError> {
    match field.number {
        event::STATUS => {
            let status = Status::from_code(field.code()?);
            value.status = status.ok_or_else(|| field.problem("a status that this release does not know"))?;
        }
        event::ERROR_CODE => value.error_code = Some(field.text()?),
        event::ERROR_MESSAGE => value.error_message = Some(field.text()?),
        event::ROWS_AFFECTED => value.rows_affected = Some(field.number()?),
        event::ROWS_RETURNED => value.rows_returned = Some(field.number()?),
        event::TRANSACTION_ID => value.transaction_id = Some(field.text()?),
        event::TRANSACTION_OUTCOME => value.transaction_outcome = transaction_outcome(field)?,
        _ => {}
    }
    Ok(())
}

/// Reads an outcome; one that only a newer release knows is unknown to this one.
fn transaction_outcome(field: &Field<'_>) -> Result<TransactionOutcome, DecodeError> {
    Ok(TransactionOutcome::from_code(field.code()?).unwrap_or_default())
}

impl StatementText {
    /// Reads the statement's field of an event, as this release wrote it.
    pub(crate) fn decode_field(bytes: &[u8]) -> Self {
        let field = Reader::new(bytes).field("event").ok().flatten();
        let group = field.and_then(|field| field.bytes().ok()).unwrap_or_default();
        Self::decode(Reader::new(group)).unwrap_or_default()
    }

    /// Reads the fields of a statement.
    pub(crate) fn decode(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        while let Some(field) = reader.field("statement")? {
            match field.number {
                statement::SQL => value.sql = field.text()?,
                statement::CUT => {
                    let mut cut = Reader::new(field.bytes()?);
                    value.cut = Some(Cut { len: u64::from_le_bytes(cut.array()?), sha256: cut.array()? });
                }
                statement::INVALID_UTF8 => value.invalid_utf8 = field.number()? != 0,
                statement::FINGERPRINT => value.fingerprint = field.number()?,
                statement::OPERATION => value.operation = Operation::from_code(field.code()?).unwrap_or_default(),
                statement::TABLES => value.tables = decode_tables(&field)?,
                _ => {}
            }
        }
        Ok(value)
    }
}

fn decode_tables(field: &Field<'_>) -> Result<Vec<String>, DecodeError> {
    let mut reader = Reader::new(field.bytes()?);
    let mut tables = Vec::new();
    while !reader.is_empty() {
        if tables.len() == MAX_TABLES {
            return Err(field.problem("more than 64 tables"));
        }
        tables.push(reader.text()?.to_owned());
    }
    Ok(tables)
}

fn decode_actor(mut reader: Reader<'_>) -> Result<Actor, DecodeError> {
    let mut value = Actor::default();
    while let Some(field) = reader.field("actor")? {
        match field.number {
            actor::TYPE => {
                let kind = ActorType::from_code(field.code()?);
                value.actor_type = kind.ok_or_else(|| field.problem("a type that this release does not know"))?;
            }
            actor::USER_ID => value.user_id = Some(field.text()?),
            actor::USERNAME => value.username = Some(field.text()?),
            actor::SESSION_HASH => value.session_hash = Some(field.text()?),
            actor::TENANT => value.tenant = Some(field.text()?),
            _ => {}
        }
    }
    Ok(value)
}

fn decode_origin(mut reader: Reader<'_>) -> Result<Origin, DecodeError> {
    let mut value = Origin::default();
    while let Some(field) = reader.field("origin")? {
        match field.number {
            origin::KIND => value.kind = OriginKind::from_code(field.code()?).unwrap_or_default(),
            origin::REQUEST_ID => value.request_id = Some(field.text()?),
            origin::TRACE_ID => value.trace_id = Some(field.text()?),
            origin::IP => value.ip = Some(field.text()?),
            origin::HTTP_METHOD => value.http_method = Some(field.text()?),
            origin::URL_PATH => value.url_path = Some(field.text()?),
            origin::USER_AGENT => value.user_agent = Some(field.text()?),
            _ => {}
        }
    }
    Ok(value)
}

fn decode_database(mut reader: Reader<'_>) -> Result<Database, DecodeError> {
    let mut value = Database::default();
    while let Some(field) = reader.field("database")? {
        match field.number {
            database::CONNECTION => value.connection = Some(field.text()?),
            database::SYSTEM => value.system = System::from_code(field.code()?).unwrap_or_default(),
            database::NAME => value.name = Some(field.text()?),
            database::APP => value.app = Some(field.text()?),
            database::HOST => value.host = Some(field.text()?),
            database::PID => {
                let pid = u32::try_from(field.number()?).map_err(|_| field.problem("a number over 32 bits"))?;
                value.pid = Some(pid);
            }
            _ => {}
        }
    }
    Ok(value)
}

fn decode_repeat(mut reader: Reader<'_>) -> Result<Record, DecodeError> {
    let (mut target, mut count, mut last_at) = (None, None, None);
    while let Some(field) = reader.field("repeat")? {
        match field.number {
            repeat::TARGET => target = Some(decode_target(&mut Reader::new(field.bytes()?))?),
            repeat::COUNT => count = Some(field.number()?),
            repeat::LAST_AT => last_at = Some(field.time()?),
            _ => {}
        }
    }
    match (target, count, last_at) {
        (Some(target), Some(count), Some(last_at)) => Ok(Record::Repeat { target, count, last_at }),
        _ => Err(DecodeError::Malformed("a repeat lacks its target, count or time")),
    }
}

fn decode_outcome(mut reader: Reader<'_>) -> Result<Record, DecodeError> {
    let (mut value, mut targets) = (None, Vec::new());
    while let Some(field) = reader.field("outcome")? {
        match field.number {
            outcome::OUTCOME => value = Some(transaction_outcome(&field)?),
            outcome::TARGETS => targets = decode_targets(Reader::new(field.bytes()?))?,
            _ => {}
        }
    }
    let value = value.ok_or(DecodeError::Malformed("an outcome does not say which"))?;
    Ok(Record::Outcome { outcome: value, targets })
}

fn decode_targets(mut reader: Reader<'_>) -> Result<Vec<Target>, DecodeError> {
    let mut targets = Vec::with_capacity(reader.len() / 9);
    while !reader.is_empty() {
        targets.push(decode_target(&mut reader)?);
    }
    Ok(targets)
}

fn decode_target(reader: &mut Reader<'_>) -> Result<Target, DecodeError> {
    Ok(Target { occurred_at: i64::from_le_bytes(reader.array()?), seq: reader.varint()? })
}

fn decode_gap(mut reader: Reader<'_>) -> Result<Gap, DecodeError> {
    let mut value = Gap::default();
    while let Some(field) = reader.field("gap")? {
        match field.number {
            gap::FIRST_AT => value.first_at = field.time()?,
            gap::LAST_AT => value.last_at = field.time()?,
            gap::LOST => value.lost = field.number()?,
            gap::REASON => value.reason = field.text()?,
            _ => {}
        }
    }
    Ok(value)
}
