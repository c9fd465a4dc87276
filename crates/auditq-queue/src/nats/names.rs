//! The names of streams and subjects, and how any text becomes part of one.

use sha2::{Digest as _, Sha256};

/// The longest text that is spelled out in a name; what is longer is cut and gets a digest.
const SPELLED_MAX: usize = 120;

/// The names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The stream with the state of every message that was taken or delayed, and with what is asked of workers.
    pub(super) fn ledger(&self) -> String {
        format!("{}-ledger", self.prefix)
    }

    /// The stream with what is left of messages, and with those that are too large for one publish.
    pub(super) fn parts(&self) -> String {
        format!("{}-parts", self.prefix)
    }

    /// The stream of a queue's messages, by the token of the queue.
    pub(super) fn messages(&self, queue: &str) -> String {
        format!("{}-messages-{queue}", self.prefix)
    }

    /// The stream of a queue's failed messages.
    pub(super) fn failed(&self, queue: &str) -> String {
        format!("{}-failed-{queue}", self.prefix)
    }

    pub(super) fn message(&self, queue: &str, id: &str) -> String {
        format!("{}.m.{queue}.{}", self.prefix, token(id))
    }

    pub(super) fn failed_message(&self, queue: &str, id: &str) -> String {
        format!("{}.f.{queue}.{}", self.prefix, token(id))
    }

    /// The record of a message in the ledger, by its number in the stream of its queue.
    pub(super) fn record(&self, queue: &str, number: u64) -> String {
        format!("{}.l.{queue}.{number}", self.prefix)
    }

    /// All records of a queue.
    pub(super) fn records(&self, queue: &str) -> String {
        format!("{}.l.{queue}.*", self.prefix)
    }

    /// What is asked of workers: `paused.QUEUE`, `cleared.QUEUE`, `restart`, `clock`.
    pub(super) fn control(&self, what: &str) -> String {
        format!("{}.c.{what}", self.prefix)
    }

    pub(super) fn part(&self, queue: &str, nonce: u64, place: u32) -> String {
        format!("{}.p.{queue}.{nonce:016x}.{place}", self.prefix)
    }

    pub(super) fn parts_of(&self, queue: &str, nonce: u64) -> String {
        format!("{}.p.{queue}.{nonce:016x}.*", self.prefix)
    }

    /// Where whoever waits hears that something came. Kept by no stream.
    pub(super) fn wake(&self) -> String {
        format!("{}.w", self.prefix)
    }

    /// Every subject of a kind.
    pub(super) fn all(&self, kind: &str) -> String {
        format!("{}.{kind}.>", self.prefix)
    }

    /// A subject without the prefix, in its parts.
    pub(super) fn split<'s>(&self, subject: &'s str) -> Option<(&'s str, &'s str)> {
        subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?.split_once('.')
    }
}

/// A text as one part of a subject or of a stream's name: the same for the same text, another for another.
pub(super) fn token(text: &str) -> String {
    let spelled = escape(text);
    match spelled.len() {
        0 => "=".to_owned(),
        1..=SPELLED_MAX => spelled,
        _ => {
            let digest = Sha256::digest(text.as_bytes());
            let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            // No escape has two of them, so nothing short is spelled like this.
            format!("{}=={digest}", &spelled[..SPELLED_MAX - 40])
        }
    }
}

/// A text in letters, digits, `-`, `_`, and `=XX` for each other byte.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => escaped.push(char::from(byte)),
            _ => {
                escaped.push('=');
                escaped.push_str(&format!("{byte:02X}"));
            }
        }
    }
    escaped
}

/// What [`escape`] was given.
pub(super) fn unescape(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        let code = (*first == b'=').then(|| more.get(..2)).flatten();
        match code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_part_of_a_subject() {
        for text in ["", "audit-logs", "a.b *>", "naïve 🦀", "\r\n", "=", "=20", &"x".repeat(500), &"ü".repeat(90)]
        {
            let token = token(text);
            assert!((1..=SPELLED_MAX).contains(&token.len()), "{token}");
            assert!(!token.contains([' ', '.', '*', '>', '\r', '\n', '/']), "{token}");
            assert_eq!(unescape(&escape(text)), text);
        }
        let long = "x".repeat(500);
        assert_ne!(token(&long), token(&long[1..]));
        assert_ne!(token("a.b"), token("a=2Eb"));
    }
}
