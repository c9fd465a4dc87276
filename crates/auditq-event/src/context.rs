//! What is the same for many events is encoded once and copied into each.

use crate::event::{Actor, Database, Origin};
use crate::fields::{actor, database, event, origin};
use crate::limits::{Limits, cut_at_char_boundary};
use crate::wire::{put_bytes_field, put_varint_field};

/// What stands at the end of a text that was cut.
const CUT_MARK: &str = "…";

/// Cuts a text to at most `max` bytes, an ellipsis included, and says where.
pub(crate) fn shorten(text: &str, max: usize) -> (&str, &'static str) {
    if text.len() <= max {
        return (text, "");
    }
    match max.checked_sub(CUT_MARK.len()) {
        Some(room) => (cut_at_char_boundary(text, room), CUT_MARK),
        None => (cut_at_char_boundary(text, max), ""),
    }
}

/// Writes a text field within its limit.
pub(crate) fn put_text(out: &mut Vec<u8>, number: u64, text: Option<&str>, max: usize) {
    let Some(text) = text else { return };
    let (head, mark) = shorten(text, max);
    if mark.is_empty() {
        put_bytes_field(out, number, head.as_bytes());
    } else {
        put_bytes_field(out, number, [head, mark].concat().as_bytes());
    }
}

/// Encodes who statements run for, once a request.
#[must_use]
pub fn encode_actor(value: &Actor, limits: &Limits) -> Vec<u8> {
    let mut group = Vec::with_capacity(128);
    put_varint_field(&mut group, actor::TYPE, value.actor_type.code().into());
    let mut put = |number, text: &Option<String>| put_text(&mut group, number, text.as_deref(), limits.text_bytes);
    put(actor::USER_ID, &value.user_id);
    put(actor::USERNAME, &value.username);
    put(actor::SESSION_HASH, &value.session_hash);
    put(actor::TENANT, &value.tenant);
    as_field(event::ACTOR, &group)
}

/// Encodes where statements come from, once a request.
#[must_use]
pub fn encode_origin(value: &Origin, limits: &Limits) -> Vec<u8> {
    let mut group = Vec::with_capacity(256);
    put_varint_field(&mut group, origin::KIND, value.kind.code().into());
    let mut put = |number, text: &Option<String>, max| put_text(&mut group, number, text.as_deref(), max);
    put(origin::REQUEST_ID, &value.request_id, limits.text_bytes);
    put(origin::TRACE_ID, &value.trace_id, limits.text_bytes);
    put(origin::IP, &value.ip, limits.text_bytes);
    put(origin::HTTP_METHOD, &value.http_method, limits.text_bytes);
    put(origin::URL_PATH, &value.url_path, limits.text_bytes);
    put(origin::USER_AGENT, &value.user_agent, limits.user_agent_bytes);
    as_field(event::ORIGIN, &group)
}

/// Encodes which database statements run on, once a pool.
///
/// Application, host and process may be left out: the message says them once for all events.
#[must_use]
pub fn encode_database(value: &Database, limits: &Limits) -> Vec<u8> {
    let mut group = Vec::with_capacity(64);
    put_varint_field(&mut group, database::SYSTEM, value.system.code().into());
    let mut put = |number, text: &Option<String>| put_text(&mut group, number, text.as_deref(), limits.text_bytes);
    put(database::CONNECTION, &value.connection);
    put(database::NAME, &value.name);
    put(database::APP, &value.app);
    put(database::HOST, &value.host);
    if let Some(pid) = value.pid {
        put_varint_field(&mut group, database::PID, pid.into());
    }
    as_field(event::DATABASE, &group)
}

fn as_field(number: u64, group: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(group.len() + 6);
    put_bytes_field(&mut out, number, group);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_over_its_limit_ends_in_an_ellipsis_within_the_limit() {
        assert_eq!(shorten("abcdef", 6), ("abcdef", ""));
        assert_eq!(shorten("abcdefg", 6), ("abc", "…"));
        assert_eq!(shorten("ééééé", 6), ("é", "…"));
        assert_eq!(shorten("abc", 2), ("ab", ""));
    }
}
