use std::borrow::Cow;

use crate::dialect::Dialect;
use crate::event::Operation;
use crate::lexer::{Token, TokenKind};
use crate::redact::{Literals, Redaction, hex};
use crate::segments::Segments;
use crate::verb::Verb;

/// How many secrets of one statement, and how many bytes of them, are remembered for its error messages.
const MAX_SECRETS: usize = 256;
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Secret values that stood in the SQL text, for as long as an error message may quote them.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    values: Vec<Box<[u8]>>,
    bytes: usize,
    too_many: bool,
}

impl Secrets {
    fn remember(&mut self, value: &[u8]) {
        self.bytes += value.len();
        if self.values.len() == MAX_SECRETS || self.bytes > MAX_SECRET_BYTES {
            self.give_up();
        } else if !self.too_many {
            self.values.push(value.into());
        }
    }

    /// Remembers none: whatever is asked then, the answer is that it may be a secret.
    pub(crate) fn give_up(&mut self) {
        self.too_many = true;
        self.values.clear();
    }

    pub(crate) fn all(&self) -> Option<&[Box<[u8]>]> {
        (!self.too_many).then_some(self.values.as_slice())
    }
}

/// A literal that is taken out of the text.
pub(crate) struct RedactedLiteral {
    pub(crate) token: usize,
    pub(crate) hmac: [u8; 16],
    start: usize,
    end: usize,
}

/// The literals of a statement that are taken out of its text, in order.
#[derive(Default)]
pub(crate) struct RedactedLiterals {
    list: Vec<RedactedLiteral>,
    pub(crate) secrets: Secrets,
}

impl RedactedLiterals {
    pub(crate) fn find(
        sql: &[u8],
        tokens: &[Token],
        dialect: Dialect,
        verb: &Verb,
        places: &Segments,
        redaction: &Redaction,
    ) -> Self {
        let mut this = Self::default();
        for (at, token) in tokens.iter().enumerate() {
            let literal = match token.kind {
                TokenKind::Text => true,
                // The 255 of `password VARCHAR(255)` is no secret.
                TokenKind::Number => verb.operation != Operation::Ddl || redaction.literals() == Literals::All,
                TokenKind::Quoted => dialect.quoted_names_may_be_text() && is_compared(sql, tokens, at, places),
                _ => false,
            };
            let taken = match redaction.literals() {
                Literals::None => false,
                Literals::All => literal,
                Literals::Sensitive => literal && places.is_secret(at),
            };
            if taken {
                let value = value_of(token.text(sql), dialect);
                let hmac = redaction.hmac_of_value(&value);
                this.list.push(RedactedLiteral {
                    token: at,
                    hmac,
                    start: token.start as usize,
                    end: token.end as usize,
                });
                this.secrets.remember(&value);
            }
        }
        this
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, RedactedLiteral> {
        self.list.iter()
    }

    /// Writes the text with `'[redacted:…]'` in place of each literal.
    pub(crate) fn replace_in<'s>(&self, sql: &'s [u8]) -> Cow<'s, [u8]> {
        if self.list.is_empty() {
            return Cow::Borrowed(sql);
        }
        let mut out = Vec::with_capacity(sql.len() + 32 * self.list.len());
        let mut done = 0;
        for literal in &self.list {
            out.extend_from_slice(&sql[done..literal.start]);
            // Quotes that touch would make one literal of two, a letter before them a prefix.
            if out.last().is_some_and(|&byte| byte == b'\'' || byte.is_ascii_alphanumeric()) {
                out.push(b' ');
            }
            out.extend_from_slice(format!("'[redacted:{}]'", hex(&literal.hmac)).as_bytes());
            done = literal.end;
            if sql.get(done) == Some(&b'\'') {
                out.push(b' ');
            }
        }
        out.extend_from_slice(&sql[done..]);
        Cow::Owned(out)
    }
}

/// Tells whether a quoted name stands where a value does; SQLite takes it for text when there is no such column.
fn is_compared(sql: &[u8], tokens: &[Token], at: usize, places: &Segments) -> bool {
    let symbol =
        |at: usize| tokens.get(at).filter(|token| token.kind == TokenKind::Symbol).map(|token| token.text(sql));
    if tokens[at].text(sql).first() != Some(&b'"') || matches!(symbol(at + 1), Some(b"." | b"(")) {
        return false;
    }
    let Some(before) = at.checked_sub(1) else { return false };
    match symbol(before) {
        Some(b"." | b")" | b"*" | b";") => false,
        Some(b"(" | b",") => places.is_among_values(at),
        Some(_) => true,
        None => {
            ["like", "glob", "match", "regexp", "is", "not", "between", "and", "then", "else"]
                .iter()
                .any(|word| tokens[before].is_word(sql, word))
                && places.is_secret(at)
        }
    }
}

/// The value that a literal stands for, near enough to be compared with a binding and found in a message.
fn value_of(literal: &[u8], dialect: Dialect) -> Cow<'_, [u8]> {
    let Some(open) = literal.iter().position(|byte| matches!(byte, b'\'' | b'"' | b'$')) else {
        return Cow::Borrowed(literal);
    };
    if literal[open] == b'$' {
        let tag = literal[1..].iter().position(|&byte| byte == b'$').map_or(literal.len(), |at| at + 2);
        let inner = &literal[tag..];
        return Cow::Borrowed(inner.strip_suffix(&literal[..tag]).unwrap_or(inner));
    }
    let quote = literal[open];
    let inner = &literal[open + 1..];
    let inner = inner.strip_suffix(&[quote]).unwrap_or(inner);
    let escapes = dialect.backslash_escapes() || (dialect.is_postgres() && matches!(literal[0], b'e' | b'E'));
    if !inner.iter().any(|&byte| byte == quote || (byte == b'\\' && escapes)) {
        return Cow::Borrowed(inner);
    }
    Cow::Owned(unescaped(inner, quote, escapes))
}

fn unescaped(inner: &[u8], quote: u8, backslash: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        let escape = byte == quote || (byte == b'\\' && backslash);
        match (escape, escape.then(|| bytes.next()).flatten()) {
            (true, Some(b'n')) if byte == b'\\' => out.push(b'\n'),
            (true, Some(b't')) if byte == b'\\' => out.push(b'\t'),
            (true, Some(b'r')) if byte == b'\\' => out.push(b'\r'),
            (true, Some(next)) => out.push(next),
            _ => out.push(byte),
        }
    }
    out
}
