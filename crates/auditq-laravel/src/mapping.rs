//! What teams call the parts of a query's data, and what they are here.

use std::collections::{BTreeMap, HashMap};

use auditq_event::{Limits, Redaction};
use jiff::tz::TimeZone;

use crate::date;
use crate::statements::Statements;

/// Declares the parts of an event that a job can fill, with the names they commonly have there.
macro_rules! fields {
    ($($(#[$meta:meta])* $variant:ident = $key:literal [$($name:literal),* $(,)?]),+ $(,)?) => {
        /// A part of an event that a job can fill.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Field { $($(#[$meta])* $variant),+ }

        impl Field {
            /// Every part.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its key in the table `[laravel.map]`.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key),+ }
            }

            /// The names it has where nothing is said, the likeliest first. A point leads into an array.
            #[must_use]
            pub const fn usual_names(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($name),*]),+ }
            }
        }
    };
}

fields! {
    /// The statement's text.
    Sql = "sql" ["sql", "query", "statement", "sql_query", "query_sql", "query_string", "sql_text"],
    /// Its bindings.
    Bindings = "bindings" ["bindings", "params", "parameters", "query_bindings", "binds", "values"],
    /// How long it took, in milliseconds: what Laravel's `QueryExecuted::$time` says.
    DurationMs = "duration_ms" [
        "time", "duration", "time_ms", "duration_ms", "execution_time", "execution_time_ms", "executionTime",
        "elapsed", "elapsed_ms", "query_time", "took",
    ],
    /// How long it took, in microseconds.
    DurationUs = "duration_us" ["duration_us", "time_us", "elapsed_us"],
    /// When it ran: Unix seconds, a date, or a text in ISO 8601 or as `Y-m-d H:i:s`.
    OccurredAt = "occurred_at" [
        "occurred_at", "executed_at", "timestamp", "executedAt", "started_at", "ran_at", "logged_at", "datetime",
        "created_at", "date",
    ],
    /// The name people know the user by.
    Username = "username" [
        "username", "user_name", "userName", "user", "user.username", "user.name", "user_email", "user.email", "email",
        "login",
    ],
    /// The application's id of the user.
    UserId = "user_id" ["user_id", "userId", "user.id", "uid", "auth_id", "causer_id"],
    /// The session's id; only its keyed hash is stored.
    Session = "session" ["session_id", "sessionId", "session"],
    /// The tenant.
    Tenant = "tenant" ["tenant", "tenant_id", "tenantId", "team_id", "organization_id", "account_id"],
    /// What ties the statements of one request together.
    RequestId = "request_id" ["request_id", "requestId", "correlation_id", "correlationId"],
    /// W3C trace id.
    TraceId = "trace_id" ["trace_id", "traceId"],
    /// The client's address.
    Ip = "ip" ["ip", "ip_address", "ipAddress", "client_ip", "remote_addr", "user_ip"],
    /// Such as `GET`.
    HttpMethod = "http_method" ["method", "http_method", "request_method", "httpMethod"],
    /// The address or its path; stored without the query string.
    Url = "url" ["url", "full_url", "fullUrl", "uri", "request_uri", "url_path", "path", "request_url"],
    /// The client's name of itself.
    UserAgent = "user_agent" ["user_agent", "userAgent", "agent", "ua"],
    /// The application's name of its database connection.
    Connection = "connection" ["connection", "connectionName", "connection_name", "db_connection"],
    /// `mysql`, `mariadb`, `pgsql` or `sqlite`.
    DbSystem = "db_system" ["driver", "db_system", "db_driver", "driver_name"],
    /// The database it ran on.
    DbName = "db_name" ["database", "db_name", "database_name", "databaseName", "db"],
    /// The application.
    App = "app" ["app", "app_name", "appName", "application", "service"],
    /// The host the application ran on.
    Host = "host" ["host", "hostname", "server", "server_name"],
    /// The application's process id.
    Pid = "pid" ["pid", "process_id"],
    /// Rows changed.
    RowsAffected = "rows_affected" ["rows_affected", "affected_rows", "rowsAffected", "affected"],
    /// Rows received.
    RowsReturned = "rows_returned" ["rows_returned", "row_count", "rowCount", "result_count"],
    /// `ok`, `error` or `cancelled`.
    Status = "status" ["status"],
    /// The database's message; where there is one, the statement failed.
    ErrorMessage = "error_message" ["error_message", "error", "exception", "exception_message", "errorMessage"],
    /// The database's own code.
    ErrorCode = "error_code" ["error_code", "sqlstate", "errorCode"],
    /// Identity of the transaction.
    TransactionId = "transaction_id" ["transaction_id", "transactionId"],
    /// Identity of statement, bindings and user, where it is one of ours: 16 hexadecimal digits.
    QueryHash = "query_hash" ["query_hash", "hash", "queryHash"],
}

/// How a job's data becomes an event.
#[derive(Clone, Debug)]
pub struct Mapping {
    names: BTreeMap<Field, Vec<String>>,
    /// Which part each name belongs to, and its place among that part's names.
    places: HashMap<String, (Field, usize)>,
    /// Those of the names that are paths.
    paths: Vec<(String, (Field, usize))>,
    /// The job's property that holds the query's data, as a path of names with points. Where there is none it is
    /// looked for: `queryData`, then whatever holds SQL.
    pub property: Option<String>,
    /// The zone of times that do not say theirs: the application's `app.timezone`. Defaults to UTC.
    pub timezone: TimeZone,
    /// The application's name where the data has none.
    pub app: Option<String>,
    pub(crate) redaction: Redaction,
    pub(crate) limits: Limits,
    /// As they were read with these limits and that redaction.
    pub(crate) statements: Statements,
}

impl Mapping {
    /// Maps by the usual names; secrets are taken out as `redaction` says.
    #[must_use]
    pub fn new(redaction: Redaction) -> Self {
        let names = Field::ALL
            .iter()
            .map(|field| (*field, field.usual_names().iter().map(|name| (*name).to_owned()).collect()));
        let (property, app, statements) = (None, None, Statements::default());
        let (timezone, limits) = (TimeZone::UTC, Limits::default());
        let (names, places, paths) = (names.collect(), HashMap::new(), Vec::new());
        let mapping = Self { names, places, paths, property, timezone, app, redaction, limits, statements };
        mapping.with_places()
    }

    /// Keeps so much of each text.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, statements: Statements::default(), ..self }
    }

    /// Gives a part the names it has in this application; they come before the usual ones, and no other part takes
    /// them. No name at all leaves the part empty.
    #[must_use]
    pub fn with_names(mut self, field: Field, given: &[String]) -> Self {
        for names in self.names.values_mut() {
            names.retain(|name| !given.contains(name));
        }
        let names = self.names.entry(field).or_default();
        if given.is_empty() {
            names.clear();
        }
        names.splice(0..0, given.iter().cloned());
        self.with_places()
    }

    fn with_places(mut self) -> Self {
        let named =
            self.names.iter().flat_map(|(field, names)| (0..).zip(names).map(|(at, name)| (name, (*field, at))));
        self.places = named.map(|(name, place)| (name.clone(), place)).collect();
        let paths = self.places.iter().filter(|(name, _)| name.contains('.'));
        self.paths = paths.map(|(name, place)| (name.clone(), *place)).collect();
        self
    }

    /// Takes the zone of that name for times that do not say theirs; `None` when there is no such zone.
    #[must_use]
    pub fn with_timezone(mut self, name: &str) -> Option<Self> {
        self.timezone = date::zone(name)?;
        Some(self)
    }

    /// The names of a part, the likeliest first.
    #[must_use]
    pub fn names(&self, field: Field) -> &[String] {
        self.names.get(&field).map(Vec::as_slice).unwrap_or_default()
    }

    /// The part that a name belongs to, and the name's place among that part's names.
    pub(crate) fn place_of(&self, name: &str) -> Option<(Field, usize)> {
        self.places.get(name).copied()
    }

    /// The names that are paths, each with its part and its place.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&str, (Field, usize))> {
        self.paths.iter().map(|(name, place)| (name.as_str(), *place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_by_the_part_it_was_given_to() {
        let mapping = Mapping::new(Redaction::new([0; 32])).with_names(Field::OccurredAt, &["time".to_owned()]);
        assert_eq!(mapping.names(Field::OccurredAt)[..2], ["time", "occurred_at"]);
        assert!(!mapping.names(Field::DurationMs).contains(&"time".to_owned()));
        assert!(mapping.with_names(Field::Ip, &[]).names(Field::Ip).is_empty());
    }

    #[test]
    fn no_usual_name_belongs_to_two_parts() {
        let mut all: Vec<&str> = Field::ALL.iter().flat_map(|field| field.usual_names()).copied().collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
