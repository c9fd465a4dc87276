//! What the columns of audit tables are usually called, and which part of an event each stands for.

use auditq_event::Event;
use serde_json::Value as Json;

use super::{Cell, php};

/// Declares the parts of an event that a column can hold, with the names that such columns commonly have.
macro_rules! sources {
    ($($variant:ident = $name:literal [$($usual:literal),* $(,)?]),+ $(,)?) => {
        /// What goes into a column.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) enum Source {
            $($variant,)+
            /// What an event has no place for, by its key.
            Extra(String),
        }

        /// The names of all parts.
        pub(super) const NAMES: &[&str] = &[$($name),+];

        impl Source {
            /// By the name of the part, or `extra.KEY`.
            pub(super) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => name.strip_prefix("extra.").filter(|key| !key.is_empty()).map(|key| Self::Extra(key.to_owned())),
                }
            }

            /// The name of the part.
            pub(super) fn name(&self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($name),)+
                    Self::Extra(_) => None,
                }
            }

            /// By the name of the column.
            pub(super) fn usual(column: &str) -> Option<Self> {
                let column = column.to_ascii_lowercase();
                match column.as_str() {
                    $($($usual)|* => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

sources! {
    Sql = "sql" ["sql", "query", "sql_query", "query_sql", "statement", "sql_text", "query_text", "raw_sql"],
    Bindings = "bindings" ["bindings", "params", "parameters", "query_bindings", "binds"],
    DurationMs = "duration_ms" [
        "time", "time_ms", "duration", "duration_ms", "execution_time", "execution_time_ms", "elapsed_ms", "query_time",
    ],
    DurationUs = "duration_us" ["duration_us", "time_us", "elapsed_us"],
    OccurredAt = "occurred_at" ["executed_at", "occurred_at", "logged_at", "ran_at", "started_at", "performed_at", "timestamp"],
    Now = "now" ["created_at", "updated_at", "inserted_at", "stored_at"],
    Username = "username" ["username", "user_name", "user", "user_email", "email"],
    UserId = "user_id" ["user_id", "userid"],
    Session = "session_hash" ["session_hash", "session_id", "session"],
    Tenant = "tenant" ["tenant", "tenant_id"],
    RequestId = "request_id" ["request_id", "correlation_id"],
    TraceId = "trace_id" ["trace_id"],
    Ip = "ip" ["ip", "ip_address", "client_ip"],
    HttpMethod = "http_method" ["method", "http_method", "request_method"],
    UrlPath = "url_path" ["url", "url_path", "path", "uri", "request_url", "request_uri"],
    UserAgent = "user_agent" ["user_agent"],
    Connection = "connection" ["connection", "connection_name", "db_connection"],
    DbSystem = "db_system" ["driver", "db_system", "db_driver"],
    DbName = "db_name" ["database", "db_name", "database_name"],
    QueryHash = "query_hash" ["query_hash", "hash"],
    Fingerprint = "fingerprint" ["fingerprint"],
    Operation = "operation" ["operation", "query_type", "operation_type"],
    Tables = "tables" ["tables", "table_names"],
    Status = "status" ["status"],
    ErrorCode = "error_code" ["error_code", "sqlstate"],
    ErrorMessage = "error_message" ["error_message", "error"],
    RowsAffected = "rows_affected" ["rows_affected", "affected_rows"],
    RowsReturned = "rows_returned" ["rows_returned", "row_count"],
    TransactionId = "transaction_id" ["transaction_id"],
    TransactionOutcome = "transaction_outcome" ["transaction_outcome"],
    RepeatCount = "repeat_count" ["repeat_count", "occurrences"],
    LastAt = "last_at" ["last_at"],
    App = "app" ["app", "app_name", "application"],
    Host = "host" ["host", "hostname", "server_name"],
    Pid = "pid" ["pid", "process_id"],
    EventId = "event_id" ["event_id", "uuid"],
    AllExtra = "extra" ["extra", "meta", "metadata"],
}

impl Source {
    /// The part of an event, as it is written. Times, and what an event has no place for, are the table's business.
    pub(super) fn of(&self, event: &Event) -> Cell {
        let text = |value: &Option<String>| value.clone().map_or(Cell::Null, Cell::Text);
        let word = |value: &str| Cell::Text(value.to_owned());
        let number = |value: Option<u64>| value.map_or(Cell::Null, |value| Cell::Int(value.cast_signed()));
        match self {
            Self::Sql => word(&event.statement.sql),
            Self::Bindings => Cell::Text(php::bindings(&event.bindings)),
            // Laravel rounds to hundredths of a millisecond, which this holds exactly.
            Self::DurationMs => Cell::Float(event.duration_us as f64 / 1_000.0),
            Self::DurationUs => number(Some(event.duration_us)),
            Self::Username => text(&event.actor.username),
            Self::UserId => text(&event.actor.user_id),
            Self::Session => text(&event.actor.session_hash),
            Self::Tenant => text(&event.actor.tenant),
            Self::RequestId => text(&event.origin.request_id),
            Self::TraceId => text(&event.origin.trace_id),
            Self::Ip => text(&event.origin.ip),
            Self::HttpMethod => text(&event.origin.http_method),
            Self::UrlPath => text(&event.origin.url_path),
            Self::UserAgent => text(&event.origin.user_agent),
            Self::Connection => text(&event.database.connection),
            Self::DbSystem => word(event.database.system.as_str()),
            Self::DbName => text(&event.database.name),
            Self::QueryHash => Cell::Text(format!("{:016x}", event.query_hash)),
            Self::Fingerprint => Cell::Text(format!("{:016x}", event.statement.fingerprint)),
            Self::Operation => word(event.statement.operation.as_str()),
            Self::Tables => Cell::Text(php::json_encode(&Json::from(event.statement.tables.clone()))),
            Self::Status => word(event.outcome.status.as_str()),
            Self::ErrorCode => text(&event.outcome.error_code),
            Self::ErrorMessage => text(&event.outcome.error_message),
            Self::RowsAffected => number(event.outcome.rows_affected),
            Self::RowsReturned => number(event.outcome.rows_returned),
            Self::TransactionId => text(&event.outcome.transaction_id),
            Self::TransactionOutcome => word(event.outcome.transaction_outcome.as_str()),
            Self::RepeatCount => number(Some(event.repeat_count)),
            Self::App => text(&event.database.app),
            Self::Host => text(&event.database.host),
            Self::Pid => number(event.database.pid.map(u64::from)),
            Self::EventId => Cell::Text(event.event_id.to_string()),
            Self::OccurredAt | Self::LastAt | Self::Now | Self::AllExtra | Self::Extra(_) => Cell::Null,
        }
    }
}
