use auditq_event::{Event, EventId, Operation, Status};

/// Which rows of the log to show, newest first. Every condition that is set must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The username or the user id, exactly.
    pub user: Option<String>,
    /// One of the tables that the statement names.
    pub table: Option<String>,
    /// The kind of statement.
    pub operation: Option<Operation>,
    /// How it ended.
    pub status: Option<Status>,
    /// The request it belongs to.
    pub request_id: Option<String>,
    /// Statements of this shape.
    pub fingerprint: Option<u64>,
    /// Exactly this event.
    pub event_id: Option<EventId>,
    /// A part of the SQL text, regardless of case in ASCII.
    pub text: Option<String>,
    /// Occurred at or after, Unix microseconds.
    pub since: Option<i64>,
    /// Occurred before, Unix microseconds.
    pub until: Option<i64>,
    /// Only rows stored after the one with this number, oldest first: what `--follow` asks for.
    pub stored_after: Option<i64>,
    /// Only rows stored before the one with this number: the next page.
    pub stored_before: Option<i64>,
    /// At most so many. Defaults to 50.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            user: None,
            table: None,
            operation: None,
            status: None,
            request_id: None,
            fingerprint: None,
            event_id: None,
            text: None,
            since: None,
            until: None,
            stored_after: None,
            stored_before: None,
            limit: 50,
        }
    }
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRow {
    /// Its number, in the order in which rows were stored.
    pub id: i64,
    /// When it was stored, Unix microseconds.
    pub stored_at: i64,
    /// What was audited.
    pub event: Event,
}

/// One page of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    /// Newest first, or oldest first with [`Filter::stored_after`].
    pub rows: Vec<LogRow>,
    /// Set [`Filter::stored_before`] (or `stored_after`) to it for the next page; `None` when this was the last.
    pub next: Option<i64>,
}

/// What to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsFilter {
    /// Occurred at or after, Unix microseconds.
    pub since: i64,
    /// Occurred before, Unix microseconds.
    pub until: i64,
    /// How many users and statements to list. Defaults to 10.
    pub top: usize,
}

/// Numbers over a span of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Rows that occurred in the span.
    pub rows: u64,
    /// How many of them ended in an error.
    pub errors: u64,
    /// How many were given up by the caller.
    pub cancelled: u64,
    /// Statements asked, repeats included.
    pub executions: u64,
    /// Events that are known to be lost: the sum of all gaps.
    pub lost: u64,
    /// Mean time of a statement in microseconds.
    pub duration_us_mean: f64,
    /// Longest time of a statement in microseconds.
    pub duration_us_max: u64,
    /// Mean time from recording to storing, in microseconds: the processing time.
    pub processing_us_mean: f64,
    /// Longest time from recording to storing, in microseconds.
    pub processing_us_max: u64,
    /// Rows stored a second, over the time from the first to the last of the span's rows being stored.
    pub rows_per_second: f64,
    /// The busiest users.
    pub users: Vec<UserStats>,
    /// The most frequent statements.
    pub statements: Vec<StatementStats>,
}

/// Numbers of one user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserStats {
    /// The user's name, or id where there is no name; empty for anonymous.
    pub user: String,
    /// Rows.
    pub rows: u64,
    /// Rows that ended in an error.
    pub errors: u64,
    /// How many wrote: insert, update, delete, merge, replace, copy, ddl.
    pub writes: u64,
}

/// Numbers of one statement shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatementStats {
    /// The shape.
    pub fingerprint: u64,
    /// The SQL of one of its executions.
    pub sql: String,
    /// Rows.
    pub rows: u64,
    /// Rows that ended in an error.
    pub errors: u64,
    /// Mean time in microseconds.
    pub duration_us_mean: f64,
    /// Longest time in microseconds.
    pub duration_us_max: u64,
}

/// What one call of `prune` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows removed.
    pub rows: u64,
    /// True when nothing older is left.
    pub finished: bool,
}
