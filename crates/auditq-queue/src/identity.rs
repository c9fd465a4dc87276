//! Ids of messages that somebody else wrote.

use std::borrow::Cow;

use serde::Deserialize;

/// The longest id taken from a payload; Laravel's column holds 255 characters, and a suffix must fit.
const ID_BYTES_MAX: usize = 200;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
/// The id of a message that was not pushed with one: the `uuid` in a job of Laravel's, or else a new one.
pub(crate) fn identity_of(payload: &[u8]) -> String {
    uuid_in(payload).unwrap_or_else(new_id)
}

/// The `uuid` in a job of Laravel's, where it can be an id.
pub(crate) fn uuid_in(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Job<'a> {
        #[serde(borrow)]
        uuid: Cow<'a, str>,
    }
    let job: Job<'_> = serde_json::from_slice(payload).ok()?;
    (1..=ID_BYTES_MAX).contains(&job.uuid.len()).then(|| job.uuid.into_owned())
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
/// In the shape that Laravel gives its own.
fn new_id() -> String {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().to_string()
}
