//! Writes a statement's shape: what is left when values, comments and layout are taken out.

use crate::dialect::Dialect;
use crate::event::System;
use crate::lexer::{Token, TokenKind, tokens};

/// Words that an opening parenthesis stands apart from; after others it belongs to a function or table.
const APART: &[&str] = &[
    "all",
    "and",
    "as",
    "between",
    "by",
    "case",
    "conflict",
    "distinct",
    "else",
    "except",
    "exists",
    "from",
    "having",
    "in",
    "intersect",
    "into",
    "is",
    "join",
    "like",
    "limit",
    "not",
    "offset",
    "on",
    "or",
    "over",
    "returning",
    "select",
    "set",
    "then",
    "union",
    "using",
    "value",
    "values",
    "when",
    "where",
    "with",
];

/// Words after which a sign belongs to the number that follows.
const BEFORE_SIGN: &[&str] = &[
    "and", "between", "by", "case", "else", "in", "like", "limit", "offset", "on", "or", "return", "select", "then",
    "values", "when", "where",
];

/// Writes a statement's shape as one line: the text that the fingerprint is made of.
///
/// Literals and placeholders become `?`; `IN (?, ?)` and equal rows of `VALUES` are folded; keywords and unquoted
/// names are lower-cased; comments, layout and trailing semicolons are gone. A shape's shape is itself. Names that
/// are not UTF-8 stay so.
#[must_use]
pub fn normalise(sql: &[u8], system: System) -> Vec<u8> {
    let dialect = Dialect::from(system);
    shape(sql, &tokens(sql, dialect))
}

pub(crate) fn shape(sql: &[u8], tokens: &[Token]) -> Vec<u8> {
    let trailing = tokens.iter().rev().take_while(|token| token.is_symbol(sql, b";")).count();
    let tokens = &tokens[..tokens.len() - trailing];
    let mut writer = Writer { sql, tokens, at: 0, out: Vec::with_capacity(sql.len()), last: Piece::Start };
    while writer.at < tokens.len() {
        if writer.at_rows() {
            writer.write_rows();
        } else {
            writer.write_next();
        }
    }
    writer.out
}

/// What was written last, as far as spacing asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Start,
    Open,
    Close,
    Dot,
    /// A dot that no name stands before: with digits right after it, it would be a number.
    LooseDot,
    Cast,
    /// A name, or a keyword that is written like a function.
    Name,
    /// A keyword that parentheses stand apart from.
    Keyword,
    Value,
    Other,
}

struct Writer<'s> {
    sql: &'s [u8],
    tokens: &'s [Token],
    at: usize,
    out: Vec<u8>,
    last: Piece,
}

impl Writer<'_> {
    fn symbol_at(&self, at: usize, symbol: &[u8]) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_symbol(self.sql, symbol))
    }

    fn word_at(&self, at: Option<usize>, words: &[&str]) -> bool {
        let token = at.and_then(|at| self.tokens.get(at));
        token.is_some_and(|token| words.iter().any(|word| token.is_word(self.sql, word)))
    }

    /// Tells whether rows begin here: `VALUES (…`, or `IN ((…`.
    fn at_rows(&self) -> bool {
        self.symbol_at(self.at, b"(")
            && (self.word_at(self.at.checked_sub(1), &["values", "value"])
                || (self.at > 0 && self.symbol_at(self.at - 1, b"(") && self.word_at(self.at.checked_sub(2), &["in"])))
    }

    /// Writes rows; of equal ones in a row only the first.
    fn write_rows(&mut self) {
        let mut before: Option<std::ops::Range<usize>> = None;
        let mut mark = self.out.len();
        loop {
            let row = self.write_row();
            match before {
                Some(ref same) if self.out[same.clone()] == self.out[row.clone()] => self.out.truncate(mark),
                _ => before = Some(row),
            }
            mark = self.out.len();
            if !(self.symbol_at(self.at, b",") && self.symbol_at(self.at + 1, b"(")) {
                return;
            }
            self.write_next();
        }
    }

    /// Writes from an opening parenthesis to its closing one, and says where it stands.
    fn write_row(&mut self) -> std::ops::Range<usize> {
        self.write_next();
        let start = self.out.len() - 1;
        let mut depth = 1u32;
        while depth > 0 && self.at < self.tokens.len() {
            match self.tokens[self.at].text(self.sql) {
                b"(" => depth += 1,
                b")" => depth -= 1,
                _ => {}
            }
            self.write_next();
        }
        start..self.out.len()
    }

    fn write_next(&mut self) {
        let token = self.tokens[self.at];
        if let Some(end) = self.end_of_in_list() {
            self.put(Piece::Open, b"(");
            self.put(Piece::Value, b"?");
            self.put(Piece::Close, b")");
            self.at = end + 1;
            return;
        }
        if let Some(after) = self.end_of_value(self.at) {
            self.put(Piece::Value, b"?");
            self.at = after;
            return;
        }
        self.at += 1;
        let text = token.text(self.sql);
        match token.kind {
            TokenKind::Word => {
                let text = text.to_ascii_lowercase();
                let apart = str::from_utf8(&text).is_ok_and(|word| APART.binary_search(&word).is_ok());
                self.put(if apart { Piece::Keyword } else { Piece::Name }, &text);
            }
            TokenKind::Quoted => self.put(Piece::Name, text),
            _ => self.put(
                match text {
                    b"(" | b"[" => Piece::Open,
                    b")" | b"]" => Piece::Close,
                    b"." if matches!(self.last, Piece::Start | Piece::Open | Piece::Cast | Piece::Other) => {
                        Piece::LooseDot
                    }
                    b"." => Piece::Dot,
                    b"::" => Piece::Cast,
                    _ => Piece::Other,
                },
                text,
            ),
        }
    }

    /// The index after the value that stands here: literals side by side, a signed number, or `NULL`, `TRUE` and
    /// `FALSE` as an item of a list.
    fn end_of_value(&self, at: usize) -> Option<usize> {
        let token = self.tokens.get(at)?;
        if token.kind == TokenKind::Text {
            let more = self.tokens[at..].iter().take_while(|token| token.kind == TokenKind::Text).count();
            return Some(at + more);
        }
        if token.is_value() {
            return Some(at + 1);
        }
        let number_follows = self.tokens.get(at + 1).is_some_and(|next| next.kind == TokenKind::Number);
        if number_follows && (token.is_symbol(self.sql, b"-") || token.is_symbol(self.sql, b"+")) {
            return self.sign_belongs_to_number(at).then_some(at + 2);
        }
        let opens = at > 0 && (self.symbol_at(at - 1, b"(") || self.symbol_at(at - 1, b","));
        let closes = self.symbol_at(at + 1, b")") || self.symbol_at(at + 1, b",");
        (opens && closes && self.word_at(Some(at), &["null", "true", "false"])).then_some(at + 1)
    }

    fn sign_belongs_to_number(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).map(|at| self.tokens[at]) else { return true };
        match before.kind {
            TokenKind::Symbol => !matches!(before.text(self.sql), b")" | b"]"),
            TokenKind::Word => self.word_at(at.checked_sub(1), BEFORE_SIGN),
            _ => false,
        }
    }

    /// The index of the `)` when the next token opens the list of values of an `IN`.
    fn end_of_in_list(&self) -> Option<usize> {
        let opens = self.symbol_at(self.at, b"(") && self.word_at(self.at.checked_sub(1), &["in"]);
        opens.then(|| self.end_of_values(self.at + 1)).flatten()
    }

    /// The index of the `)` after a list of nothing but values that begins here.
    fn end_of_values(&self, mut at: usize) -> Option<usize> {
        loop {
            at = self.end_of_value(at)?;
            if self.symbol_at(at, b")") {
                return Some(at);
            }
            if !self.symbol_at(at, b",") {
                return None;
            }
            at += 1;
        }
    }

    fn put(&mut self, piece: Piece, text: &[u8]) {
        if self.needs_space(piece, text) {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(text);
        self.last = piece;
    }

    fn needs_space(&self, piece: Piece, text: &[u8]) -> bool {
        match (self.last, piece) {
            (Piece::LooseDot, Piece::Name) => text.first().is_some_and(u8::is_ascii_digit),
            (Piece::Start | Piece::Open | Piece::Dot | Piece::LooseDot, _)
            | (_, Piece::Close | Piece::Dot | Piece::LooseDot) => false,
            (_, Piece::Other) if matches!(text, b"," | b";") => false,
            (Piece::Name, Piece::Open) => false,
            (Piece::Name | Piece::Value | Piece::Close, Piece::Cast) | (Piece::Cast, Piece::Name | Piece::Keyword) => {
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape_of(sql: &str, system: System) -> String {
        String::from_utf8(normalise(sql.as_bytes(), system)).expect("the input is UTF-8")
    }

    #[test]
    fn words_that_parentheses_stand_apart_from_can_be_searched() {
        assert!(APART.is_sorted());
    }

    #[test]
    fn a_shape_has_no_values_comments_or_layout() {
        let sql = "/* hi */ SELECT  a.B, count(*)\nFROM T AS a -- why\nWHERE x IN (1, -2, NULL) AND y = 'it''s' ;;";
        assert_eq!(shape_of(sql, System::Sqlite), "select a.b, count(*) from t as a where x in (?) and y = ?");
    }

    #[test]
    fn equal_rows_are_folded_and_different_ones_stay() {
        assert_eq!(
            shape_of("insert into t(a, b) values (1, now()), (2, now()),(3, b)", System::Mysql),
            "insert into t(a, b) values (?, now()), (?, b)"
        );
        assert_eq!(
            shape_of("select 1 from t where (a,b) in ((1,2),(3,4))", System::Mysql),
            "select ? from t where (a, b) in ((?, ?))"
        );
    }

    /// MySQL takes `2x` for a name, and `.2x` for a number.
    #[test]
    fn a_name_that_begins_with_a_digit_stays_one_after_a_dot() {
        for (sql, shape) in
            [(".\n2x.", ". 2x."), ("(. 2x", "(. 2x"), ("t . 2x", "t.2x"), (".2x", "?"), (".. 2x", "..2x")]
        {
            assert_eq!(shape_of(sql, System::Mysql), shape);
            assert_eq!(shape_of(shape, System::Mysql), shape);
        }
    }

    #[test]
    fn a_sign_belongs_to_a_number_unless_it_subtracts() {
        assert_eq!(
            shape_of("select a - 1, -1, (-1), b -1 where x = -1", System::Sqlite),
            "select a - ?, ?, (?), b - ? where x = ?"
        );
    }
}
