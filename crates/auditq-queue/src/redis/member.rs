//! Payloads as members of a queue's keys, and back: see `lua/common.lua` for their shape.

use std::fmt;

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, MessageId, Result};

use super::DRIVER;

const HEAD: &[u8] = b"{\"auditq\":\"";
/// Where the letter of the kind stands, after the number.
const KIND_AT: usize = HEAD.len() + 16;
/// Where the id begins.
const ID_AT: usize = KIND_AT + "o\",\"id\":\"".len();
/// What our head adds to an object, for a member that someone has written anew.
const HEAD_KEYS: [&str; 6] = ["auditq", "id", "attempts", "createdAt", "availableAt", "bytes"];

/// A payload as a script takes it.
pub(super) struct Encoded {
    /// `o` for a JSON object, `t` for any other text, `l` for a job in Laravel's shape.
    pub(super) kind: &'static str,
    /// What stands behind the head; all of a job.
    pub(super) body: Vec<u8>,
}

/// What tells a job of Laravel's from other objects.
#[derive(Deserialize)]
struct Shape {
    attempts: Option<Value>,
    id: Option<Value>,
    uuid: Option<Value>,
}

impl Shape {
    /// Whether the object says itself what the head would say.
    fn is_job(&self, id: &str) -> bool {
        let attempts = self.attempts.as_ref().is_some_and(Value::is_u64);
        let own_id = self.id.as_ref().and_then(Value::as_str);
        let identity = self.uuid.as_ref().and_then(Value::as_str).or(own_id);
        attempts && own_id.is_some() && identity == Some(id)
    }
}

/// Encodes a payload; with its id when it is pushed, and without when it replaces another.
pub(super) fn encode(payload: &str, id: Option<&MessageId>) -> Encoded {
    let object = payload.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    // A head cannot be put in front of a space: nothing would follow its last comma.
    let has_room = object.is_some_and(|inside| inside.is_empty() || !inside.trim().is_empty());
    let shape = if has_room { serde_json::from_str::<Shape>(payload).ok() } else { None };
    match shape {
        Some(shape) if id.is_some_and(|id| shape.is_job(id.as_str())) && !payload.as_bytes().starts_with(HEAD) => {
            Encoded { kind: "l", body: payload.into() }
        }
        Some(_) if payload == "{}" => Encoded { kind: "o", body: b"}".to_vec() },
        Some(_) => {
            let mut body = payload.as_bytes().to_vec();
            body[0] = b',';
            Encoded { kind: "o", body }
        }
        None => {
            let data = Value::from(payload);
            let body = format!(",\"displayName\":\"auditq: text\",\"job\":\"auditq@text\",\"data\":{data}}}");
            Encoded { kind: "t", body: body.into_bytes() }
        }
    }
}

/// An id as it stands between the quotes of a member, which is also how keys hold it.
pub(super) fn id_to_text(id: &MessageId) -> String {
    let quoted = Value::from(id.as_str()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The id that stands so in a member.
pub(super) fn id_from_text(text: &[u8]) -> MessageId {
    let text = String::from_utf8_lossy(text);
    let id = serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.into_owned());
    MessageId::new(id)
}

/// The payload that a member carries.
///
/// # Errors
/// `Corrupt` when it has a head and nothing sensible behind it.
pub(super) fn decode(mut member: Vec<u8>) -> Result<Bytes> {
    let Some(body_at) = body_at(&member) else {
        return Ok(rebuilt(&member).map_or_else(|| member.into(), Bytes::from));
    };
    if member[KIND_AT] == b't' {
        return text_of(&member).map(Bytes::from);
    }
    if member[body_at] == b',' {
        member[body_at] = b'{';
        return Ok(Bytes::from(member).slice(body_at..));
    }
    Ok(Bytes::from_static(b"{}"))
}

/// Where the head ends.
fn body_at(member: &[u8]) -> Option<usize> {
    if !member.starts_with(HEAD) || !matches!(member.get(KIND_AT)?, b'o' | b't') {
        return None;
    }
    let after_id = find(member, ID_AT, b"\",\"attempts\":")?;
    let at = find(member, after_id, b",\"bytes\":")? + b",\"bytes\":".len();
    let digits = member[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    matches!(member.get(at + digits)?, b',' | b'}').then_some(at + digits)
}

fn find(within: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    memmem::find(within.get(from..)?, what).map(|at| from + at)
}

fn text_of(member: &[u8]) -> Result<Vec<u8>> {
    #[derive(Deserialize)]
    struct Text {
        data: AnyBytes,
    }
    let text: Text = serde_json::from_slice(member).map_err(|error| {
        let what = String::from_utf8_lossy(&member[..member.len().min(ID_AT + 40)]).into_owned();
        let message = format!("cannot read the message that begins with {what}: {error}; look at it with redis-cli");
        Error::new(ErrorKind::Corrupt, DRIVER, message)
    })?;
    Ok(text.data.0)
}

/// One of ours that Laravel's worker took and gave back: cjson mixes the keys of the head with the payload's own.
fn rebuilt(member: &[u8]) -> Option<Vec<u8>> {
    // Most jobs do not have the word in them, and are not parsed for it.
    find(member, 0, b"\"auditq\":\"")?;
    let mut object: Map<String, Value> = serde_json::from_slice(member).ok()?;
    let head = object.get("auditq")?.as_str()?;
    let (number, kind) = head.split_at_checked(16)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match kind {
        "t" => Some(object.get("data")?.as_str()?.as_bytes().to_vec()),
        "o" => {
            object.retain(|key, _| !HEAD_KEYS.contains(&key.as_str()));
            Some(Value::Object(object).to_string().into_bytes())
        }
        _ => None,
    }
}

/// A JSON string whose bytes need not be UTF-8.
struct AnyBytes(Vec<u8>);

impl<'de> Deserialize<'de> for AnyBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = AnyBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> std::result::Result<AnyBytes, E> {
                Ok(AnyBytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(kind: &str, id: &str, body: &str) -> Vec<u8> {
        format!(
            "{{\"auditq\":\"0000000000000042{kind}\",\"id\":\"{id}\",\"attempts\":7,\"createdAt\":1700000000,\
             \"availableAt\":1700000000.000001,\"bytes\":9{body}"
        )
        .into_bytes()
    }

    #[test]
    fn payloads_come_back_as_they_went_in_and_members_are_json() {
        for payload in [
            "",
            "{}",
            "{ }",
            "{\"a\":1}",
            "{\"a\":{\"bytes\":3},\"bytes\":4,\"attempts\":\"x\"}",
            "{\"a\":1} ",
            "[1]",
            "{not JSON}",
            "\"data\"\\ \u{1} \u{2028} 🦀",
            "{\"a\":1,\"a\":2}",
        ] {
            let id = MessageId::new("quote \" and \\ and \u{1f980}\n");
            let encoded = encode(payload, Some(&id));
            let body = String::from_utf8(encoded.body).unwrap();
            let whole = member(encoded.kind, &id_to_text(&id), &body);
            serde_json::from_slice::<serde::de::IgnoredAny>(&whole).unwrap();
            assert_eq!(decode(whole).unwrap(), payload.as_bytes(), "{payload}");
            assert_eq!(id_from_text(id_to_text(&id).as_bytes()), id);
        }
    }

    #[test]
    fn a_job_keeps_its_shape_when_it_names_itself() {
        let job = r#"{"uuid":"u","job":"Mail@send","data":[],"id":"i","attempts":0}"#;
        let encoded = encode(job, Some(&MessageId::new("u")));
        assert_eq!((encoded.kind, &encoded.body[..]), ("l", job.as_bytes()));
        assert_eq!(decode(job.into()).unwrap(), job.as_bytes());
        for other in ["someone else", "i"] {
            assert_eq!(encode(job, Some(&MessageId::new(other))).kind, "o");
        }
        assert_eq!(encode(job, None).kind, "o");
        assert_eq!(encode(r#"{"id":"u","attempts":1.5}"#, Some(&MessageId::new("u"))).kind, "o");
    }

    #[test]
    fn a_member_that_cjson_wrote_anew_still_carries_the_payload() {
        let text = br#"{"attempts":2,"data":"a\/b","id":"x","job":"auditq@text","auditq":"0000000000000042t"}"#;
        assert_eq!(decode(text.to_vec()).unwrap(), &b"a/b"[..]);
        let object = br#"{"attempts":2,"id":"x","n":1,"auditq":"0000000000000042o","bytes":3,"createdAt":1}"#;
        assert_eq!(decode(object.to_vec()).unwrap(), &br#"{"n":1}"#[..]);
        let job = br#"{"attempts":2,"id":"x","data":{"auditq":"no"}}"#;
        assert_eq!(decode(job.to_vec()).unwrap(), &job[..]);
    }

    #[test]
    fn bytes_that_are_no_text_come_back_too() {
        let mut whole = member("t", "x", ",\"data\":\"a");
        whole.extend(b"\xff\xfe\"}");
        assert_eq!(decode(whole).unwrap(), &b"a\xff\xfe"[..]);
    }
}
