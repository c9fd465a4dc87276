use std::fmt;

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller may do about a store error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The engine does not answer or cannot act now: wait, however long, and try again.
    Unavailable,
    /// The engine refuses this batch: it holds an event that cannot be stored.
    Rejected,
    /// What the engine holds is damaged.
    Corrupt,
    /// It cannot work as configured: stop and say so.
    Misconfigured,
}

/// A failed store operation: which driver, what was attempted, and what may be done.
#[derive(Debug, thiserror::Error)]
#[error("{driver} store: {source}")]
pub struct Error {
    kind: ErrorKind,
    driver: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// Wraps a driver's error; `source` says what was attempted.
    pub fn new(
        kind: ErrorKind,
        driver: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, driver, source: source.into() }
    }

    /// What the caller may do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
            Self::Corrupt => "corrupt",
            Self::Misconfigured => "misconfigured",
        })
    }
}
