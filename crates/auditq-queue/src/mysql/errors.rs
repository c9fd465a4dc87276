use auditq_mysql::Kind;

use super::DRIVER;
use crate::message::check_text;
use crate::{Error, ErrorKind, Result};

/// A payload must be text and fit into a packet: the server closes the connection over a larger one.
pub(super) fn check(id: impl std::fmt::Display, payload: &[u8], packet: usize) -> Result<()> {
    check_text(DRIVER, &id, payload)?;
    if payload.len() <= packet {
        return Ok(());
    }
    let message = format!(
        "cannot take the payload of message {id}: its {} bytes are more than the server's `max_allowed_packet` lets \
         through; raise that",
        payload.len()
    );
    Err(Error::new(ErrorKind::Rejected, DRIVER, message))
}

impl From<auditq_mysql::Error> for Error {
    fn from(error: auditq_mysql::Error) -> Self {
        let kind = match error.kind() {
            Kind::Unavailable => ErrorKind::Unavailable,
            Kind::Rejected => ErrorKind::Rejected,
            Kind::Corrupt => ErrorKind::Corrupt,
            Kind::Misconfigured => ErrorKind::Misconfigured,
        };
        Self::new(kind, DRIVER, error)
    }
}
