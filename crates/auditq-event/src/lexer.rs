//! Cuts SQL into tokens: one pass over the bytes, no recursion, every byte in exactly one token or between two.
//!
//! What is not SQL still gives tokens; what is left open (a quote, a comment) reaches to the end.

use crate::dialect::Dialect;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A keyword, an unquoted name, or a variable of MySQL.
    Word,
    /// A name in quotes.
    Quoted,
    /// A literal in quotes, with its prefix.
    Text,
    /// A literal number.
    Number,
    /// Where a binding goes.
    Placeholder,
    /// An operator or punctuation.
    Symbol,
}

/// One token by its place in the SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Token {
    pub(crate) fn text<'s>(&self, sql: &'s [u8]) -> &'s [u8] {
        sql.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    pub(crate) fn is_word(&self, sql: &[u8], word: &str) -> bool {
        self.kind == TokenKind::Word && self.text(sql).eq_ignore_ascii_case(word.as_bytes())
    }

    pub(crate) fn is_symbol(&self, sql: &[u8], symbol: &[u8]) -> bool {
        self.kind == TokenKind::Symbol && self.text(sql) == symbol
    }

    pub(crate) const fn is_name(&self) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::Quoted)
    }

    /// Tells whether a value stands here: a literal or a placeholder.
    pub(crate) const fn is_value(&self) -> bool {
        matches!(self.kind, TokenKind::Text | TokenKind::Number | TokenKind::Placeholder)
    }
}

/// Operators of more than one byte, longer ones first.
const OPERATORS: &[&[u8]] = &[
    b"#>>", b"->>", b"!~*", b"<=>", b"!~~", b"~~*", b"::", b":=", b"<=", b">=", b"<>", b"!=", b"==", b"||", b"&&",
    b"->", b"#>", b"@>", b"<@", b"=>", b"<<", b">>", b"~*", b"!~", b"~~",
];

/// Cuts `sql` into tokens; comments and white space are left out.
pub(crate) fn tokens(sql: &[u8], dialect: Dialect) -> Vec<Token> {
    let mut lexer = Lexer { sql, at: 0, dialect, executable_comment: false, before: None };
    let mut tokens = Vec::with_capacity(sql.len() / 6 + 1);
    while let Some(token) = lexer.next_token() {
        tokens.push(token);
    }
    tokens
}

struct Lexer<'s> {
    sql: &'s [u8],
    at: usize,
    dialect: Dialect,
    /// Inside `/*! … */`, which MySQL runs.
    executable_comment: bool,
    before: Option<Token>,
}

impl Lexer<'_> {
    fn next_token(&mut self) -> Option<Token> {
        self.skip_blank();
        let start = self.at;
        let first = self.peek(0)?;
        let kind = self.scan(first);
        let place = |at: usize| u32::try_from(at).ok();
        let token = Token { kind, start: place(start)?, end: place(self.at)? };
        self.before = Some(token);
        Some(token)
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &[u8]) -> bool {
        self.sql[self.at..].starts_with(text)
    }

    /// Goes on while `wanted` holds.
    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn skip_blank(&mut self) {
        loop {
            let before = self.at;
            self.skip_while(|byte| byte.is_ascii_whitespace() || byte == 0x0b);
            match self.peek(0) {
                Some(b'-') if self.at_dash_comment() => self.skip_while(|byte| byte != b'\n'),
                Some(b'#') if self.dialect.hash_comments() => self.skip_while(|byte| byte != b'\n'),
                Some(b'/') if self.starts_with(b"/*") => self.skip_block_comment(),
                Some(b'*') if self.executable_comment && self.starts_with(b"*/") => {
                    self.executable_comment = false;
                    self.at += 2;
                }
                _ => {}
            }
            if self.at == before {
                return;
            }
        }
    }

    /// MySQL takes `--` for a comment only before white space: `5--1` is 6.
    fn at_dash_comment(&self) -> bool {
        self.starts_with(b"--") && (!self.dialect.is_mysql() || self.peek(2).is_none_or(|byte| byte <= b' '))
    }

    fn skip_block_comment(&mut self) {
        if self.dialect.is_mysql() && (self.starts_with(b"/*!") || self.starts_with(b"/*M!")) {
            self.at += if self.starts_with(b"/*!") { 3 } else { 4 };
            self.skip_while(|byte| byte.is_ascii_digit());
            self.executable_comment = true;
            return;
        }
        let mut depth = 0u32;
        while self.at < self.sql.len() {
            if self.starts_with(b"*/") {
                self.at += 2;
                depth -= 1;
                if depth == 0 {
                    return;
                }
            } else if self.starts_with(b"/*") && (depth == 0 || self.dialect.nested_comments()) {
                self.at += 2;
                depth += 1;
            } else {
                self.at += 1;
            }
        }
    }

    fn scan(&mut self, first: u8) -> TokenKind {
        match first {
            b'\'' => self.quoted(0, b'\'', self.dialect.backslash_escapes(), TokenKind::Text),
            b'"' if self.dialect.is_mysql() => self.quoted(0, b'"', true, TokenKind::Text),
            b'"' => self.quoted(0, b'"', false, TokenKind::Quoted),
            b'`' => self.quoted(0, b'`', false, TokenKind::Quoted),
            b'[' if self.dialect.bracket_quotes() => self.quoted(0, b']', false, TokenKind::Quoted),
            b'0'..=b'9' => self.number(),
            b'.' if self.begins_fraction() => self.number(),
            b'?' => self.question_mark(),
            b'$' => self.dollar(),
            b':' if self.begins_named_placeholder() => self.sigil_name(TokenKind::Placeholder),
            b'@' if self.dialect.is_mysql() && self.begins_variable() => self.sigil_name(TokenKind::Word),
            b'@' if self.dialect.at_placeholders() && self.peek(1).is_some_and(is_word_byte) => {
                self.sigil_name(TokenKind::Placeholder)
            }
            _ if is_word_start(first) => self.word(),
            _ => self.symbol(),
        }
    }

    /// Reads up to the closing quote; a doubled one stands for itself. `prefix` bytes come before the opening one.
    fn quoted(&mut self, prefix: usize, close: u8, backslash: bool, kind: TokenKind) -> TokenKind {
        self.at += prefix + 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            if byte == b'\\' && backslash {
                self.at = (self.at + 1).min(self.sql.len());
            } else if byte == close {
                if self.peek(0) != Some(close) {
                    break;
                }
                self.at += 1;
            }
        }
        kind
    }

    /// `.5` is a number unless it goes on from a name, as in `t.5`.
    fn begins_fraction(&self) -> bool {
        let after_operand = self
            .before
            .is_some_and(|token| token.kind != TokenKind::Symbol || matches!(token.text(self.sql), b")" | b"]" | b"."));
        !after_operand && self.peek(1).is_some_and(|byte| byte.is_ascii_digit())
    }

    fn number(&mut self) -> TokenKind {
        let start = self.at;
        self.skip_while(|byte| is_word_byte(byte) && byte != b'$');
        let run = &self.sql[start..self.at];
        let radix = run.len() > 2 && run[0] == b'0' && matches!(run[1], b'x' | b'X' | b'b' | b'B' | b'o' | b'O');
        let mantissa = run.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'_').unwrap_or(run.len());
        let exponent =
            matches!(run.get(mantissa), Some(b'e' | b'E')) && run[mantissa + 1..].iter().all(u8::is_ascii_digit);
        if radix || (mantissa != run.len() && !exponent) {
            let name = self.dialect.is_mysql() && !(radix && run[2..].iter().all(u8::is_ascii_hexdigit));
            return if name { self.word() } else { TokenKind::Number };
        }
        if mantissa == run.len() && self.peek(0) == Some(b'.') {
            self.at += 1;
            self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        }
        let ends_in_exponent = self.at > start && matches!(self.sql[self.at - 1], b'e' | b'E');
        let signed =
            matches!(self.peek(0), Some(b'+' | b'-')) && self.peek(1).is_some_and(|byte| byte.is_ascii_digit());
        if ends_in_exponent && signed {
            self.at += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        TokenKind::Number
    }

    fn question_mark(&mut self) -> TokenKind {
        let operator = self.dialect.is_postgres()
            && (self.starts_with(b"?&") || (self.starts_with(b"?|") && self.peek(2) != Some(b'|')));
        if operator {
            self.at += 2;
            return TokenKind::Symbol;
        }
        self.at += 1;
        self.skip_while(|byte| byte.is_ascii_digit());
        TokenKind::Placeholder
    }

    fn dollar(&mut self) -> TokenKind {
        let start = self.at;
        self.at += 1;
        self.skip_while(|byte| is_word_byte(byte) && byte != b'$');
        let digits = self.sql.get(start + 1).is_some_and(u8::is_ascii_digit);
        if self.dialect.dollar_quotes() && !digits && self.peek(0) == Some(b'$') {
            self.at += 1;
            let tag = &self.sql[start..self.at];
            self.skip_past(tag);
            return TokenKind::Text;
        }
        if self.at == start + 1 { TokenKind::Symbol } else { TokenKind::Placeholder }
    }

    /// Goes on past the next `$tag$`. A tag has no `$` inside, so no byte is compared twice.
    fn skip_past(&mut self, tag: &[u8]) {
        while self.at < self.sql.len() {
            if self.starts_with(tag) {
                self.at += tag.len();
                return;
            }
            self.at += 1;
        }
    }

    fn begins_named_placeholder(&self) -> bool {
        self.peek(1).is_some_and(|byte| is_word_start(byte) || (byte.is_ascii_digit() && !self.dialect.is_postgres()))
    }

    fn begins_variable(&self) -> bool {
        let name = if self.starts_with(b"@@") { 2 } else { 1 };
        self.peek(name).is_some_and(|byte| is_word_byte(byte) || byte == b'`')
    }

    /// Reads a name after one or two signs that belong to it.
    fn sigil_name(&mut self, kind: TokenKind) -> TokenKind {
        self.at += if self.starts_with(b"@@") { 2 } else { 1 };
        if self.peek(0) == Some(b'`') {
            return self.quoted(0, b'`', false, kind);
        }
        self.skip_while(is_word_byte);
        kind
    }

    fn word(&mut self) -> TokenKind {
        let prefixed = match self.sql[self.at..] {
            [b'x' | b'X' | b'b' | b'B' | b'n' | b'N', b'\'', ..] => Some((1, self.dialect.backslash_escapes())),
            [b'e' | b'E', b'\'', ..] if self.dialect.is_postgres() => Some((1, true)),
            [b'u' | b'U', b'&', b'\'', ..] if self.dialect.is_postgres() => Some((2, false)),
            [b'u' | b'U', b'&', b'"', ..] if self.dialect.is_postgres() => {
                return self.quoted(2, b'"', false, TokenKind::Quoted);
            }
            _ => None,
        };
        if let Some((prefix, backslash)) = prefixed {
            return self.quoted(prefix, b'\'', backslash, TokenKind::Text);
        }
        self.skip_while(is_word_byte);
        TokenKind::Word
    }

    fn symbol(&mut self) -> TokenKind {
        let operator = OPERATORS.iter().find(|operator| self.starts_with(operator));
        self.at += operator.map_or(1, |operator| operator.len());
        TokenKind::Symbol
    }
}

const fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}
