use auditq_postgres::Kind;

use super::DRIVER;
use crate::message::check_text;
use crate::{Error, ErrorKind, Result};

/// The largest payload: the server's own limit of a value is 1 GiB, and a message is held in memory many times over.
const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// A payload must be text and not be too large.
pub(super) fn check(id: impl std::fmt::Display, payload: &[u8]) -> Result<()> {
    check_text(DRIVER, &id, payload)?;
    if payload.len() <= PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    let message = format!("cannot take the payload of message {id}: its {} bytes are more than 256 MiB", payload.len());
    Err(Error::new(ErrorKind::Rejected, DRIVER, message))
}

impl From<auditq_postgres::Error> for Error {
    fn from(error: auditq_postgres::Error) -> Self {
        let kind = match error.kind() {
            Kind::Unavailable => ErrorKind::Unavailable,
            Kind::Rejected => ErrorKind::Rejected,
            Kind::Corrupt => ErrorKind::Corrupt,
            Kind::Misconfigured => ErrorKind::Misconfigured,
        };
        Self::new(kind, DRIVER, error)
    }
}
