use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::{Error, ErrorKind, Result};

/// After how many bytes of payload [`reserve`](crate::Queue::reserve) takes no further message.
pub const RESERVED_BYTES_MAX: usize = 8 << 20;

/// The identity of a message, kept over releases and retries: a UUID as text, as Laravel writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(String);

impl MessageId {
    /// Takes an id as it is; ids are compared as text.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of a queue, such as `audit-logs`: 1 to 255 bytes, no control characters, no comma.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(String);

/// A name that no queue can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be the name of a queue: it takes 1 to 255 bytes, no comma and no control characters")]
pub struct InvalidQueueName(String);

impl QueueName {
    /// Checks a name.
    ///
    /// # Errors
    /// When it is empty, longer than 255 bytes, or has a comma or a control character in it.
    pub fn new(name: impl Into<String>) -> std::result::Result<Self, InvalidQueueName> {
        let name = name.into();
        let fits = (1..=255).contains(&name.len()) && !name.chars().any(|c| c == ',' || c.is_control());
        if fits { Ok(Self(name)) } else { Err(InvalidQueueName(name)) }
    }

    /// Takes a name that an engine gave back; it is what it is.
    #[cfg(any(feature = "mysql", feature = "nats", feature = "postgres", feature = "redis", feature = "sqlite"))]
    pub(crate) fn from_engine(name: String) -> Self {
        Self(name)
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for QueueName {
    type Err = InvalidQueueName;

    fn from_str(name: &str) -> std::result::Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A message to be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Its identity: pushing the same id again, while that message is in the queue or among the failed, adds nothing.
    pub id: MessageId,
    /// Where it goes.
    pub queue: QueueName,
    /// Opaque; UTF-8 without NUL, because SQL engines keep it in a text column.
    pub payload: Bytes,
    /// How long it stays invisible first.
    pub delay: Duration,
}

/// A message that the caller holds for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Proof of the reservation.
    pub receipt: Receipt,
    /// The queue it came from.
    pub queue: QueueName,
    /// How often it was reserved, this time included.
    pub attempts: u32,
    /// When it was pushed first, as Unix seconds; 0 when the engine does not say.
    pub created_at: i64,
    /// As it was pushed, or as the last release left it.
    pub payload: Bytes,
}

/// Proof of a reservation: the engine's id of the message and the number of the attempt.
///
/// Once the reservation has lapsed and someone else has taken the message, the receipt is stale.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt {
    /// The engine's own id: a row id, a stream sequence.
    pub id: String,
    /// The attempt it was given for.
    pub attempt: u32,
}

/// A held message on its way back or out, and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// Proof of the reservation.
    pub receipt: Receipt,
    /// Replaces the payload in the same atomic step; `None` leaves it as it is.
    pub payload: Option<Bytes>,
}

impl Remainder {
    /// The whole message, unchanged.
    #[must_use]
    pub fn whole(receipt: Receipt) -> Self {
        Self { receipt, payload: None }
    }
}

/// The payload as text, which is what every engine can keep.
pub(crate) fn check_text<'a>(driver: &'static str, id: impl fmt::Display, payload: &'a [u8]) -> Result<&'a str> {
    let refuse =
        |why| Error::new(ErrorKind::Rejected, driver, format!("cannot take the payload of message {id}: {why}"));
    let text = std::str::from_utf8(payload).map_err(|_| refuse("it is not UTF-8"))?;
    if text.contains('\0') { Err(refuse("it holds a NUL character")) } else { Ok(text) }
}
