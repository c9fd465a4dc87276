use std::sync::Arc;

use mysql_async::{DriverError, IoError};

/// The operation of opening a connection.
pub(crate) const CONNECT: &str = "connect";

/// The result of a database operation.
pub type Result<T> = std::result::Result<T, Error>;

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
#[error("cannot {operation} {} {place}: {message}{}", preposition(operation), hint(*kind, *code, operation))]
pub struct Error {
    kind: Kind,
    operation: &'static str,
    place: Arc<str>,
    message: String,
    code: Option<u16>,
}

impl Error {
    pub(crate) fn new(operation: &'static str, place: &Arc<str>, source: &mysql_async::Error) -> Self {
        let code = code_of(source);
        let message = message_of(source);
        Self { kind: classify(source), operation, place: Arc::clone(place), message, code }
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

    /// The server's number of the error, where it is the server's.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.code
    }
}

fn code_of(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// The reason alone: the driver wraps it in words of its own, and some of its errors carry values.
fn message_of(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(error) => format!("{} (error {})", error.message.trim_end_matches('.'), error.code),
        mysql_async::Error::Io(IoError::Io(error)) => error.to_string(),
        mysql_async::Error::Io(IoError::Tls(error)) => error.to_string(),
        mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            "the server offers no TLS; set it up there, or say `ssl-mode=disabled` in the URL".to_owned()
        }
        mysql_async::Error::Driver(DriverError::ConnectionClosed) => "the connection was closed".to_owned(),
        mysql_async::Error::Driver(DriverError::FromValue { .. } | DriverError::FromRow { .. }) => {
            "a value has not the type of its column".to_owned()
        }
        mysql_async::Error::Driver(DriverError::UnexpectedPacket { .. }) => "the answer makes no sense".to_owned(),
        mysql_async::Error::Driver(error) => error.to_string(),
        mysql_async::Error::Other(error) => error.to_string(),
        mysql_async::Error::Url(error) => error.to_string(),
    }
}

/// True when running the transaction again may help: it lost against another one and was undone.
pub(crate) fn is_conflict(error: &mysql_async::Error) -> bool {
    // 1213 deadlock, 1205 lock wait timeout, 1020 record changed since last read (MariaDB's snapshot isolation).
    matches!(code_of(error), Some(1213 | 1205 | 1020))
}

/// True when the connection cannot be used any more.
pub(crate) fn is_broken(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Io(_) => true,
        mysql_async::Error::Driver(error) => !matches!(
            error,
            DriverError::FromValue { .. }
                | DriverError::FromRow { .. }
                | DriverError::Params(_)
                | DriverError::StmtParamsMismatch { .. }
                | DriverError::StmtParamsNumberExceedsLimit { .. }
        ),
        // Killed, shutting down, gone away, lost, idle for too long.
        mysql_async::Error::Server(error) => matches!(error.code, 1053 | 1927 | 1152 | 2006 | 2013 | 4031),
        mysql_async::Error::Other(_) | mysql_async::Error::Url(_) => false,
    }
}

fn classify(error: &mysql_async::Error) -> Kind {
    match error {
        mysql_async::Error::Server(error) => classify_code(error.code, &error.state),
        // A certificate that is not accepted; waiting does not mend it.
        mysql_async::Error::Io(IoError::Tls(_)) => Kind::Misconfigured,
        mysql_async::Error::Io(IoError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            Kind::Misconfigured
        }
        mysql_async::Error::Io(_) => Kind::Unavailable,
        mysql_async::Error::Driver(error) => match error {
            DriverError::FromValue { .. }
            | DriverError::FromRow { .. }
            | DriverError::Params(_)
            | DriverError::StmtParamsMismatch { .. }
            | DriverError::StmtParamsNumberExceedsLimit { .. }
            | DriverError::PacketTooLarge => Kind::Rejected,
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::CleartextPluginDisabled
            | DriverError::NoClientSslFlagFromServer
            | DriverError::NoKeyFound
            | DriverError::CantParseServerVersion { .. } => Kind::Misconfigured,
            _ => Kind::Unavailable,
        },
        mysql_async::Error::Other(_) => Kind::Rejected,
        mysql_async::Error::Url(_) => Kind::Misconfigured,
    }
}

/// Says what may be done about an error of the server's, by its number; by its class where that is not known.
fn classify_code(code: u16, state: &str) -> Kind {
    match code {
        // Table is crashed, is marked as crashed, must be repaired, an index is corrupt.
        126 | 127 | 144 | 145 | 1034 | 1035 | 1194 | 1195 | 1712 | 1877 => Kind::Corrupt,
        // Too long, wrong string, out of range, wrong date, no default, NULL, check, duplicate, foreign key, division,
        // packet too large, a trigger's or a check's own refusal.
        1406 | 1366 | 1264 | 1292 | 1265 | 1364 | 1048 | 3819 | 4025 | 1062 | 1452 | 1451 | 1365 | 1153 | 1118
        | 1644 | 3140 | 3988 | 1300 => Kind::Rejected,
        // Access, database, table, column, right; plugin, too old, read the wrong way; binlog format, charset.
        1044 | 1045 | 1049 | 1046 | 1146 | 1054 | 1142 | 1143 | 1227 | 1251 | 1275 | 1524 | 1698 | 1820 | 1862
        | 1064 | 1136 | 1305 | 1347 | 1419 | 1115 | 1273 | 1193 | 1231 | 1665 | 1176 | 1370 | 1410 | 3118 | 1226 => {
            Kind::Misconfigured
        }
        _ if state.starts_with("22") || state.starts_with("23") || state.starts_with("45") => Kind::Rejected,
        _ if state.starts_with("42") || state.starts_with("28") => Kind::Misconfigured,
        _ => Kind::Unavailable,
    }
}

/// What stands between an operation and the place.
fn preposition(operation: &str) -> &'static str {
    if operation == CONNECT { "to" } else { "in" }
}

fn hint(kind: Kind, code: Option<u16>, operation: &str) -> &'static str {
    match (kind, code) {
        (Kind::Unavailable, None) if operation == CONNECT => {
            "; start the server, or check the host and the port in the URL"
        }
        (_, Some(1044 | 1045 | 1698)) => {
            "; check the user and the password in the URL, and what is granted to the user"
        }
        (_, Some(1049)) => "; make it with CREATE DATABASE, or name another one in the URL",
        (_, Some(1046)) => "; name one at the end of the URL, such as mysql://HOST/audit",
        (_, Some(1146 | 1054 | 1136 | 1176)) => "; run `auditq migrate`",
        (_, Some(1142 | 1143 | 1227 | 1370 | 1410)) => {
            "; the user needs SELECT, INSERT, UPDATE and DELETE, and to migrate CREATE, ALTER and INDEX"
        }
        (_, Some(1153)) => "; raise `max_allowed_packet` on the server",
        (_, Some(1665)) => "; set `binlog_format` to ROW or MIXED on the server",
        (_, Some(1040 | 1203 | 1226)) => "; raise `max_connections` on the server, or run fewer workers",
        (_, Some(1290 | 1836)) => "; the server is read-only, name the one that takes writes",
        (_, Some(1021 | 1114 | 1030)) => "; free some space on the server, it goes on by itself",
        (Kind::Corrupt, _) => "; check it with `CHECK TABLE`, and restore it from a backup",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn server(code: u16, state: &str) -> mysql_async::Error {
        let state = state.to_owned();
        mysql_async::Error::Server(ServerError { code, message: "it says so".to_owned(), state })
    }

    #[test]
    fn the_servers_numbers_say_what_may_be_done() {
        let cases: [(Kind, &[u16]); 4] = [
            (Kind::Unavailable, &[1040, 1053, 1205, 1213, 1290, 1021, 1114, 3572, 2006, 2013, 1927, 9999]),
            (Kind::Rejected, &[1406, 1366, 1264, 1292, 3819, 1062]),
            (Kind::Misconfigured, &[1045, 1044, 1049, 1146, 1054, 1142]),
            (Kind::Corrupt, &[126, 145, 1194, 1712]),
        ];
        for (kind, codes) in cases {
            for code in codes {
                assert_eq!(classify(&server(*code, "HY000")), kind, "{code}");
            }
        }
    }

    #[test]
    fn the_class_of_an_unknown_number_decides() {
        for (state, kind) in [
            ("22999", Kind::Rejected),
            ("45000", Kind::Rejected),
            ("42999", Kind::Misconfigured),
            ("HY000", Kind::Unavailable),
        ] {
            assert_eq!(classify(&server(9_998, state)), kind, "{state}");
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_named_with_what_to_check() {
        let refused = mysql_async::Error::Io(IoError::Io(std::io::ErrorKind::ConnectionRefused.into()));
        let text = Error::new(CONNECT, &"mysql db:3306/audit".into(), &refused).to_string();
        assert!(text.starts_with("cannot connect to mysql db:3306/audit: "), "{text}");
        assert!(text.ends_with("; start the server, or check the host and the port in the URL"), "{text}");
    }

    #[test]
    fn a_message_says_what_where_why_and_what_to_do() {
        let error = Error::new("store events", &"mysql db:3306/audit".into(), &server(1049, "42000"));
        assert_eq!(
            error.to_string(),
            "cannot store events in mysql db:3306/audit: it says so (error 1049); make it with CREATE DATABASE, or \
             name another one in the URL"
        );
    }
}
