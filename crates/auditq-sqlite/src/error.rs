use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// The result of a database operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wait and try again: locked by another process, disk full, an I/O error. Nothing was changed.
    Unavailable,
    /// These values are not acceptable; others may be. Nothing was changed.
    Rejected,
    /// The file is damaged or is not a database.
    Corrupt,
    /// It cannot work as configured: read-only, no permission, a table missing or of another shape.
    Misconfigured,
}

/// A failed database operation: what was attempted, on which file, and what may be done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {operation} in {}: {message}{}", path.display(), hint(*kind, *code))]
pub struct Error {
    kind: Kind,
    operation: &'static str,
    path: PathBuf,
    message: String,
    code: Option<ErrorCode>,
}

impl Error {
    pub(crate) fn new(operation: &'static str, path: &Path, source: &rusqlite::Error) -> Self {
        let code = code_of(source);
        let message = match source {
            // Without the statement, which may be long.
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            other => other.to_string(),
        };
        Self { kind: classify(source), operation, path: path.to_owned(), message, code }
    }

    pub(crate) fn plain(kind: Kind, operation: &'static str, path: &Path, message: impl Into<String>) -> Self {
        Self { kind, operation, path: path.to_owned(), message: message.into(), code: None }
    }

    /// The same error, said of `path`.
    pub(crate) fn about(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
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
}

/// SQLite's code; rusqlite gives none of its own accord for a statement that does not compile.
fn code_of(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        other => other.sqlite_error_code(),
    }
}

/// Says what may be done about an error of SQLite's.
fn classify(error: &rusqlite::Error) -> Kind {
    let Some(code) = code_of(error) else {
        // Not from SQLite: a value that does not fit its column's Rust type, a wrong parameter count.
        return Kind::Rejected;
    };
    match code {
        ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch => Kind::Rejected,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Kind::Corrupt,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            Kind::Misconfigured
        }
        // A statement that does not compile: a table is missing or has another shape.
        ErrorCode::Unknown => Kind::Misconfigured,
        _ => Kind::Unavailable,
    }
}

fn hint(kind: Kind, code: Option<ErrorCode>) -> &'static str {
    match (kind, code) {
        (_, Some(ErrorCode::NotADatabase)) => {
            "; name another file in the URL, or move this one away so that a new one is made"
        }
        (Kind::Corrupt, _) => {
            "; restore it from a backup (`auditq backup` makes one), or recover it with `sqlite3 FILE .recover`"
        }
        (_, Some(ErrorCode::SystemIoFailure)) => "; its disk may be full or failing, it goes on once that is mended",
        (_, Some(ErrorCode::DiskFull)) => "; free some space, it goes on by itself",
        (_, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => {
            "; another process holds its lock, such as an open transaction in a database tool"
        }
        (_, Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen)) => {
            "; the file and its folder must exist and be writable for this user"
        }
        (_, Some(ErrorCode::Unknown)) => "; run `auditq migrate`",
        _ => "",
    }
}
