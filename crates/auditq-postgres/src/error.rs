use std::error::Error as _;
use std::sync::Arc;

use tokio_postgres::error::{DbError, Severity};

use crate::connection::Conn;

/// The operation of opening a connection.
pub(crate) const CONNECT: &str = "connect";

/// The result of a database operation.
pub type Result<T> = std::result::Result<T, Error>;

/// The result of some work on a connection.
pub type Worked<T> = std::result::Result<T, Fault>;

/// Why some work on a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The driver or the server says so.
    #[error(transparent)]
    Driver(#[from] tokio_postgres::Error),
    /// A value that is not acceptable, or makes no sense.
    #[error("{0}")]
    Value(String),
}

impl Fault {
    fn db(&self) -> Option<&DbError> {
        match self {
            Self::Driver(error) => error.as_db_error(),
            Self::Value(_) => None,
        }
    }

    fn code(&self) -> Option<&str> {
        self.db().map(|error| error.code().code())
    }

    /// True when running the transaction again may help: it lost against another one and was undone.
    pub(crate) fn is_conflict(&self) -> bool {
        // Serialization failure, deadlock, lock not available in time.
        matches!(self.code(), Some("40001" | "40P01" | "55P03"))
    }

    /// True when the connection cannot be used any more.
    pub(crate) fn is_broken(&self, connection: &Conn) -> bool {
        let fatal = |error: &DbError| {
            matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
                || error.code().code().starts_with("57P")
                || error.code().code().starts_with("08")
        };
        connection.is_closed() || self.db().is_some_and(fatal)
    }

    /// The reason alone: the driver wraps it in words of its own.
    fn message(&self) -> String {
        match self {
            Self::Value(message) => message.clone(),
            Self::Driver(error) => match (error.as_db_error(), error.source()) {
                (Some(error), _) => format!("{} (SQLSTATE {})", error.message(), error.code().code()),
                (None, Some(cause)) if is_connecting(error) => cause.to_string(),
                (None, Some(cause)) => format!("{error}: {cause}"),
                (None, None) => error.to_string(),
            },
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Value(_) => Kind::Rejected,
            Self::Driver(error) => match error.as_db_error() {
                Some(error) => classify(error.code().code()),
                None => classify_driver(error),
            },
        }
    }
}

/// What the caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wait and try again: the server is away, busy, read-only or full. Of a commit whose answer was lost it is not
    /// known whether it came to pass; everything else changed nothing.
    Unavailable,
    /// These values are not acceptable; others may be. Nothing was changed.
    Rejected,
    /// A table is damaged.
    Corrupt,
    /// It cannot work as configured: a wrong password, no such database, a missing right, a table of another shape.
    Misconfigured,
}

/// A failed database operation: what was attempted, on which server, and what may be done. Has no password in it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {operation} {} {place}: {message}{}", preposition(operation), hint(*kind, code.as_deref(), message, operation))]
pub struct Error {
    kind: Kind,
    operation: &'static str,
    place: Arc<str>,
    message: String,
    code: Option<String>,
}

impl Error {
    pub(crate) fn new(operation: &'static str, place: &Arc<str>, fault: &Fault) -> Self {
        let code = fault.code().map(str::to_owned);
        Self { kind: fault.kind(), operation, place: Arc::clone(place), message: fault.message(), code }
    }

    /// An error that is not the server's own.
    #[must_use]
    pub fn plain(kind: Kind, operation: &'static str, place: &str, message: impl Into<String>) -> Self {
        Self { kind, operation, place: place.into(), message: message.into(), code: None }
    }

    /// What the caller may do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was attempted, as a verb phrase.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The server's SQLSTATE, where the error is the server's.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

fn is_connecting(error: &tokio_postgres::Error) -> bool {
    error.to_string() == "error connecting to server"
}

/// The driver keeps the kind of its errors to itself; their first words tell it.
fn classify_driver(error: &tokio_postgres::Error) -> Kind {
    let text = error.to_string();
    let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    if begins(&["error performing TLS handshake", "invalid con", "authentication error"]) {
        Kind::Misconfigured
    } else if begins(&["error serializing", "error deserializing", "invalid column", "query returned", "expected "]) {
        Kind::Rejected
    } else {
        Kind::Unavailable
    }
}

/// Says what may be done about an error of the server's, by its SQLSTATE or the class of it.
fn classify(code: &str) -> Kind {
    match code {
        // Data corrupted, index corrupted.
        "XX001" | "XX002" => Kind::Corrupt,
        // Read-only: a standby, or a server on its way to be one.
        "25006" => Kind::Unavailable,
        // Object in use, not in the right state: someone alters it at this moment. Too many partitions stay below.
        "55000" | "55006" | "55P03" => Kind::Unavailable,
        _ => match code.get(..2).unwrap_or_default() {
            // A value, a constraint, a view's check, too large for a row or an index, a trigger's own refusal.
            "22" | "23" | "44" | "54" | "P0" => Kind::Rejected,
            // Feature, role, authorization, catalog, schema, name, access rule, statement name, extension.
            "0A" | "0L" | "0P" | "28" | "3D" | "3F" | "42" | "26" | "F0" => Kind::Misconfigured,
            _ => Kind::Unavailable,
        },
    }
}

/// What stands between an operation and the place.
fn preposition(operation: &str) -> &'static str {
    if operation == CONNECT { "to" } else { "in" }
}

fn hint(kind: Kind, code: Option<&str>, message: &str, operation: &str) -> &'static str {
    match (kind, code) {
        (Kind::Unavailable, None) if operation == CONNECT => {
            "; start the server, or check the host and the port in the URL"
        }
        (Kind::Misconfigured, None) if message.contains("password missing") => "; put it into the URL",
        (Kind::Misconfigured, None) if message.contains("does not support TLS") => {
            "; set `ssl = on` on the server, or say sslmode=prefer in the URL"
        }
        (Kind::Misconfigured, None) if message.contains("TLS") => {
            "; name the authority of the server's certificate with sslrootcert in the URL, and the server as it does"
        }
        (_, Some("28P01" | "28000")) => "; check the user and the password in the URL, and the server's pg_hba.conf",
        (_, Some("3D000")) => "; make it with CREATE DATABASE, or name another one in the URL",
        (_, Some("42P01" | "42703" | "3F000" | "42883")) => "; run `auditq migrate`",
        (_, Some("42501")) => {
            "; the user needs SELECT, INSERT, UPDATE and DELETE on the tables, and to migrate CREATE on the schema"
        }
        (_, Some("26000" | "42P05")) => "; behind pgbouncer, use its pool_mode transaction or session",
        (_, Some("53300")) => "; raise `max_connections` on the server, or run fewer workers",
        (_, Some("53100" | "58030")) => "; free some space on the server, it goes on by itself",
        (_, Some("25006")) => "; the server is read-only, name the one that takes writes",
        (Kind::Corrupt, _) => "; check it with pg_amcheck, and restore it from a backup",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_codes_say_what_may_be_done() {
        let cases: [(Kind, &[&str]); 4] = [
            (
                Kind::Unavailable,
                &["08006", "57P01", "57P03", "53100", "53300", "40P01", "25006", "XX000", "55P03", "57014"],
            ),
            (Kind::Rejected, &["22021", "23502", "23514", "54000", "P0001"]),
            (Kind::Misconfigured, &["28P01", "3D000", "42P01", "42501", "42703", "0A000"]),
            (Kind::Corrupt, &["XX001", "XX002"]),
        ];
        for (kind, codes) in cases {
            for code in codes {
                assert_eq!(classify(code), kind, "{code}");
            }
        }
    }

    #[test]
    fn a_message_says_what_where_why_and_what_to_do() {
        let error = Error::plain(Kind::Unavailable, CONNECT, "postgres db:5432/audit", "Connection refused");
        assert_eq!(
            error.to_string(),
            "cannot connect to postgres db:5432/audit: Connection refused; start the server, or check the host and the \
             port in the URL"
        );
    }
}
