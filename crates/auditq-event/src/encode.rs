use crate::context::{encode_actor, encode_database, encode_origin, put_text};
use crate::event::{Cut, Event, StatementText, Status, TransactionOutcome};
use crate::fields::{FORMAT_VERSION, event, gap, kind, outcome, repeat, statement};
use crate::limits::Limits;
use crate::record::{Gap, Record, Target};
use crate::wire::{put_bytes_field, put_fixed_field, put_sized, put_varint, put_varint_field};

/// What one execution adds to what is encoded already: borrowed, for the moment of recording.
///
/// Nothing is cut here but texts over `limits`; the error message must be without secrets
/// ([`Redaction::redact_error`](crate::Redaction::redact_error)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Occurrence<'a> {
    /// When the statement began, UTC microseconds.
    pub occurred_at: i64,
    /// When it is recorded, UTC microseconds.
    pub recorded_at: i64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// [`query_hash`](crate::query_hash) of it.
    pub query_hash: u64,
    /// [`Statement::encoded`](crate::Statement::encoded).
    pub statement: &'a [u8],
    /// What [`encode_bindings`](crate::encode_bindings) wrote.
    pub bindings: &'a [u8],
    /// What [`encode_actor`], [`encode_origin`] and [`encode_database`] wrote, in any order; empty for none.
    pub context: [&'a [u8]; 3],
    /// How it ended.
    pub status: Status,
    /// The database's own code.
    pub error_code: Option<&'a str>,
    /// The database's message, secrets out.
    pub error_message: Option<&'a str>,
    /// Rows changed.
    pub rows_affected: Option<u64>,
    /// Rows received.
    pub rows_returned: Option<u64>,
    /// The transaction it ran in.
    pub transaction_id: Option<&'a str>,
    /// What became of the transaction, where that is known already.
    pub transaction_outcome: TransactionOutcome,
}

impl Occurrence<'_> {
    /// Appends the event's record to `out`.
    pub fn encode(&self, limits: &Limits, out: &mut Vec<u8>) {
        let fixed = 128 + self.error_message.map_or(0, str::len).min(limits.error_bytes);
        let copied: usize = self.context.iter().map(|part| part.len()).sum();
        out.reserve(fixed + copied + self.statement.len() + self.bindings.len());

        out.extend_from_slice(&[FORMAT_VERSION, kind::EVENT]);
        put_fixed_field(out, event::OCCURRED_AT, self.occurred_at.cast_unsigned());
        put_fixed_field(out, event::RECORDED_AT, self.recorded_at.cast_unsigned());
        put_varint_field(out, event::DURATION_US, self.duration_us);
        put_fixed_field(out, event::QUERY_HASH, self.query_hash);
        out.extend_from_slice(self.statement);
        if !self.bindings.is_empty() {
            put_bytes_field(out, event::BINDINGS, self.bindings);
        }
        self.encode_outcome(limits, out);
        for part in self.context {
            out.extend_from_slice(part);
        }
    }

    fn encode_outcome(&self, limits: &Limits, out: &mut Vec<u8>) {
        put_varint_field(out, event::STATUS, self.status.code().into());
        put_text(out, event::ERROR_CODE, self.error_code, limits.text_bytes);
        put_text(out, event::ERROR_MESSAGE, self.error_message, limits.error_bytes);
        if let Some(rows) = self.rows_affected {
            put_varint_field(out, event::ROWS_AFFECTED, rows);
        }
        if let Some(rows) = self.rows_returned {
            put_varint_field(out, event::ROWS_RETURNED, rows);
        }
        put_text(out, event::TRANSACTION_ID, self.transaction_id, limits.text_bytes);
        put_varint_field(out, event::TRANSACTION_OUTCOME, self.transaction_outcome.code().into());
    }
}

/// Writes a statement's field as it stands in every event of that statement.
pub(crate) fn encode_statement(text: &StatementText) -> Vec<u8> {
    let mut group = Vec::with_capacity(text.sql.len() + 96);
    put_bytes_field(&mut group, statement::SQL, text.sql.as_bytes());
    if let Some(Cut { len, sha256 }) = &text.cut {
        let mut cut = [0u8; 40];
        cut[..8].copy_from_slice(&len.to_le_bytes());
        cut[8..].copy_from_slice(sha256);
        put_bytes_field(&mut group, statement::CUT, &cut);
    }
    if text.invalid_utf8 {
        put_varint_field(&mut group, statement::INVALID_UTF8, 1);
    }
    put_fixed_field(&mut group, statement::FINGERPRINT, text.fingerprint);
    put_varint_field(&mut group, statement::OPERATION, text.operation.code().into());
    if !text.tables.is_empty() {
        let mut names = Vec::new();
        for table in &text.tables {
            put_sized(&mut names, table.as_bytes());
        }
        put_bytes_field(&mut group, statement::TABLES, &names);
    }
    let mut out = Vec::with_capacity(group.len() + 6);
    put_bytes_field(&mut out, event::STATEMENT, &group);
    out
}

impl Event {
    /// Encodes the event as one record of a spool.
    ///
    /// Its id, producer and sequence number are not in the record: the spool and the message know them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bindings = Vec::new();
        for binding in &self.bindings {
            binding.encode(&mut bindings);
        }
        crate::bindings::put_total(&mut bindings, self.bindings.len(), self.bindings_total);
        let mut out = Vec::with_capacity(512);
        Occurrence {
            occurred_at: self.occurred_at,
            recorded_at: self.recorded_at,
            duration_us: self.duration_us,
            query_hash: self.query_hash,
            statement: &encode_statement(&self.statement),
            bindings: &bindings,
            context: [
                &encode_actor(&self.actor, &Limits::UNLIMITED),
                &encode_origin(&self.origin, &Limits::UNLIMITED),
                &encode_database(&self.database, &Limits::UNLIMITED),
            ],
            status: self.outcome.status,
            error_code: self.outcome.error_code.as_deref(),
            error_message: self.outcome.error_message.as_deref(),
            rows_affected: self.outcome.rows_affected,
            rows_returned: self.outcome.rows_returned,
            transaction_id: self.outcome.transaction_id.as_deref(),
            transaction_outcome: self.outcome.transaction_outcome,
        }
        .encode(&Limits::UNLIMITED, &mut out);
        put_varint_field(&mut out, event::REPEAT_COUNT, self.repeat_count);
        put_fixed_field(&mut out, event::LAST_AT, self.last_at.cast_unsigned());
        if let Some(extra) = &self.extra {
            put_bytes_field(&mut out, event::EXTRA, extra.as_bytes());
        }
        out
    }
}

impl Record {
    /// Encodes the record for a spool.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Event(event) => event.encode(),
            Self::Repeat { target, count, last_at } => encode_repeat(*target, *count, *last_at),
            Self::Outcome { outcome, targets } => encode_outcome(*outcome, targets),
            Self::Gap(gap) => encode_gap(gap),
        }
    }
}

fn encode_repeat(target: Target, count: u64, last_at: i64) -> Vec<u8> {
    let mut at = Vec::with_capacity(20);
    put_target(&mut at, target);
    let mut out = vec![FORMAT_VERSION, kind::REPEAT];
    put_bytes_field(&mut out, repeat::TARGET, &at);
    put_varint_field(&mut out, repeat::COUNT, count);
    put_fixed_field(&mut out, repeat::LAST_AT, last_at.cast_unsigned());
    out
}

fn encode_outcome(value: TransactionOutcome, targets: &[Target]) -> Vec<u8> {
    let mut list = Vec::with_capacity(targets.len() * 12);
    for target in targets {
        put_target(&mut list, *target);
    }
    let mut out = vec![FORMAT_VERSION, kind::OUTCOME];
    put_varint_field(&mut out, outcome::OUTCOME, value.code().into());
    put_bytes_field(&mut out, outcome::TARGETS, &list);
    out
}

fn encode_gap(value: &Gap) -> Vec<u8> {
    let mut out = vec![FORMAT_VERSION, kind::GAP];
    put_fixed_field(&mut out, gap::FIRST_AT, value.first_at.cast_unsigned());
    put_fixed_field(&mut out, gap::LAST_AT, value.last_at.cast_unsigned());
    put_varint_field(&mut out, gap::LOST, value.lost);
    put_bytes_field(&mut out, gap::REASON, value.reason.as_bytes());
    out
}

fn put_target(out: &mut Vec<u8>, target: Target) {
    out.extend_from_slice(&target.occurred_at.to_le_bytes());
    put_varint(out, target.seq);
}
