//! Finds the places in a statement where secrets stand, by the names around them.
//!
//! The tokens are divided into segments: what stands between commas, logical operators, clause keywords and
//! parentheses. A segment with a sensitive name in it is secret: `password = ?`, `? = lower(password)`,
//! `SET password = crypt(?, …)`, `password BETWEEN ? AND ?` are one case. Secrecy goes up from the arguments of a
//! function to the segment around it and down from a segment into what it encloses, but not into or out of
//! subqueries. When in doubt, a place is secret.

use std::rc::Rc;

use crate::event::Operation;
use crate::lexer::{Token, TokenKind};
use crate::names::SensitiveNames;
use crate::segments::{Group, Segment, Segments};
use crate::verb::Verb;

/// Divides a statement into segments and finds those at which secrets stand.
pub(crate) fn secret_places(sql: &[u8], tokens: &[Token], verb: &Verb, names: &SensitiveNames) -> Segments {
    let mut walk = Walk::new(sql, tokens, verb, names);
    for at in 0..tokens.len() {
        walk.step(at);
    }
    walk.finish()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Enclosure {
    Statement,
    List,
    Query,
    Case,
}

/// A group that is still open.
struct Frame {
    enclosure: Enclosure,
    group: u32,
    /// Its first segment: what stands between `CASE` and the first `WHEN`.
    head: u32,
    /// The segment that is being filled.
    segment: u32,
    /// `BETWEEN`s that wait for their `AND`.
    betweens: u32,
    /// The column list of an `INSERT`: which columns are secret.
    columns: Option<Rc<[bool]>>,
    /// Between `INSERT INTO` and its column list.
    awaits_columns: bool,
    /// Groups here are rows of `VALUES`.
    rows: bool,
    /// This group is a row, or a select list is being filled: the position in it.
    position: Option<usize>,
}

/// Keywords that begin another clause.
const CLAUSES: &[&str] = &[
    "conflict",
    "cross",
    "delete",
    "do",
    "duplicate",
    "else",
    "end",
    "except",
    "fetch",
    "from",
    "group",
    "having",
    "inner",
    "insert",
    "intersect",
    "into",
    "join",
    "left",
    "limit",
    "natural",
    "offset",
    "on",
    "order",
    "qualify",
    "replace",
    "returning",
    "right",
    "select",
    "set",
    "then",
    "union",
    "update",
    "using",
    "value",
    "values",
    "when",
    "where",
    "window",
    "with",
];

struct Walk<'s> {
    sql: &'s [u8],
    tokens: &'s [Token],
    verb: &'s Verb,
    names: &'s SensitiveNames,
    places: Segments,
    frames: Vec<Frame>,
}

impl<'s> Walk<'s> {
    fn new(sql: &'s [u8], tokens: &'s [Token], verb: &'s Verb, names: &'s SensitiveNames) -> Self {
        let mut walk = Self { sql, tokens, verb, names, places: Segments::default(), frames: Vec::new() };
        walk.open(Enclosure::Statement, false, false);
        walk
    }

    fn step(&mut self, at: usize) {
        let token = self.tokens[at];
        let outer = self.top().segment;
        match token.kind {
            TokenKind::Symbol => match token.text(self.sql) {
                b"(" | b"[" => self.open_parenthesis(at),
                b")" | b"]" => self.close_parenthesis(),
                b"," => self.next_item(),
                b";" => self.next_segment(),
                _ => {}
            },
            TokenKind::Word => self.word(at),
            TokenKind::Quoted => self.name(at),
            _ => {}
        }
        let opens = matches!(token.text(self.sql), b"(" | b"[");
        let segment = if opens { outer } else { self.top().segment };
        self.places.push_token(segment);
    }

    fn top(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn is(&self, at: Option<usize>, words: &[&str]) -> bool {
        let token = at.and_then(|at| self.tokens.get(at));
        token.is_some_and(|token| words.iter().any(|word| token.is_word(self.sql, word)))
    }

    fn is_symbol(&self, at: usize, symbol: &[u8]) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_symbol(self.sql, symbol))
    }

    /// Opens a group in the segment that is being filled.
    fn open(&mut self, enclosure: Enclosure, inherits: bool, raises: bool) {
        let parent = self.frames.last().map_or(0, |frame| frame.segment);
        let group = self.places.add_group();
        let segment = self.places.add(Segment { parent, group, inherits, raises, secret: false });
        self.frames.push(Frame {
            enclosure,
            group,
            head: segment,
            segment,
            betweens: 0,
            columns: None,
            awaits_columns: false,
            rows: false,
            position: None,
        });
    }

    /// Begins another segment of the same kind in the innermost group.
    fn next_segment(&mut self) {
        let current = self.top().segment;
        let segment = Segment { secret: false, ..*self.places.segment(current) };
        self.top().segment = self.places.add(segment);
        self.top().betweens = 0;
    }

    fn mark(&mut self) {
        let segment = self.top().segment;
        self.places.segment(segment).secret = true;
    }

    fn group(&mut self) -> &mut Group {
        let group = self.top().group;
        self.places.group(group)
    }

    fn open_parenthesis(&mut self, at: usize) {
        let before = at.checked_sub(1);
        let query = self.is(Some(at + 1), &["select", "with", "insert", "update", "delete", "merge"]);
        let columns = self.top().columns.clone();
        let (awaits, rows) = (self.top().awaits_columns, self.top().rows);
        if query {
            // The body of `WITH v (id, password) AS (…)` is as secret as its columns.
            self.open(Enclosure::Query, self.is(before, &["as", "materialized"]), false);
            if awaits {
                self.top().columns = columns;
            }
            return;
        }
        if awaits && columns.is_none() {
            let list = self.column_list(at + 1);
            self.top().columns = Some(list);
        }
        // What a row gives one column says nothing of the others.
        let row = rows && columns.is_some();
        self.open(Enclosure::List, true, !row);
        self.group().values = rows || self.is(before, &["in"]);
        // The columns of a table that is made say nothing of each other.
        self.group().logical = self.verb.operation == Operation::Ddl;
        if row {
            self.top().columns = columns;
            self.top().position = Some(0);
            self.mark_position();
        }
    }

    /// Reads which columns of `(a, b, …)` are secret.
    fn column_list(&self, start: usize) -> Rc<[bool]> {
        let ends = |token: &Token| token.is_symbol(self.sql, b")") || token.is_symbol(self.sql, b"(");
        let end = self.tokens[start..].iter().position(ends);
        let list = &self.tokens[start..end.map_or(self.tokens.len(), |end| start + end)];
        let secret = |tokens: &[Token]| tokens.iter().any(|token| self.names.matches(token.text(self.sql)));
        list.split(|token| token.is_symbol(self.sql, b",")).map(secret).collect()
    }

    fn close_parenthesis(&mut self) {
        let open = |frame: &Frame| matches!(frame.enclosure, Enclosure::List | Enclosure::Query);
        let Some(depth) = self.frames.iter().rposition(open) else { return self.next_segment() };
        while self.frames.len() > depth {
            self.end_positions();
            self.frames.pop();
        }
    }

    fn next_item(&mut self) {
        self.next_segment();
        if let Some(position) = self.top().position {
            self.top().position = Some(position + 1);
            self.mark_position();
        }
    }

    /// Marks the segment when it is the value of a secret column.
    fn mark_position(&mut self) {
        let frame = self.top();
        let secret = frame.position.zip(frame.columns.as_ref()).and_then(|(at, columns)| columns.get(at).copied());
        if secret == Some(true) {
            self.mark();
        }
    }

    /// Ends a row or a select list. If it is not as wide as the column list, nobody knows which value is the secret.
    fn end_positions(&mut self) {
        let frame = self.top();
        let row = frame.enclosure == Enclosure::List;
        let (Some(position), Some(columns)) = (frame.position.take(), frame.columns.clone()) else { return };
        if position + 1 != columns.len() && columns.contains(&true) {
            if row {
                self.group().secret = true;
            } else {
                self.places.all_secret = true;
            }
        }
    }

    fn word(&mut self, at: usize) {
        let text = self.tokens[at].text(self.sql);
        let mut lower = [0u8; 16];
        let word = lower.get_mut(..text.len()).map(|lower| {
            lower.copy_from_slice(text);
            lower.make_ascii_lowercase();
            &*lower
        });
        let word = word.and_then(|word| str::from_utf8(word).ok()).unwrap_or_default();
        match word {
            "case" => self.open(Enclosure::Case, false, false),
            "when" | "then" | "else" | "end" if self.top().enclosure == Enclosure::Case => self.case_word(word),
            "between" => self.top().betweens += 1,
            "and" if self.top().betweens > 0 => self.top().betweens -= 1,
            "and" | "or" | "xor" => {
                let list = self.top().enclosure == Enclosure::List;
                self.group().logical |= list;
                self.next_segment();
            }
            "identified" => {
                self.next_segment();
                self.mark();
            }
            "key" | "rekey" | "hexkey" | "textkey" if self.is(at.checked_sub(1), &["pragma"]) => self.mark(),
            _ if self.begins_clause(at, word) => self.clause(word),
            _ => self.name(at),
        }
    }

    fn begins_clause(&self, at: usize, word: &str) -> bool {
        if CLAUSES.binary_search(&word).is_err() {
            return false;
        }
        match word {
            "from" => !self.is(at.checked_sub(1), &["distinct"]),
            // Functions of that name; `MERGE … THEN INSERT (…)` is none.
            "left" | "right" | "replace" if self.is_symbol(at + 1, b"(") => false,
            "insert" if self.is_symbol(at + 1, b"(") => self.is(at.checked_sub(1), &["then"]),
            "values" => !at.checked_sub(1).is_some_and(|before| self.is_symbol(before, b"=")),
            "value" => self.frames.last().is_some_and(|frame| frame.awaits_columns && frame.columns.is_some()),
            _ => true,
        }
    }

    fn clause(&mut self, word: &str) {
        self.end_positions();
        self.next_segment();
        let frame = self.top();
        frame.awaits_columns = false;
        frame.rows = false;
        match word {
            "insert" | "replace" => {
                frame.columns = None;
                frame.awaits_columns = true;
            }
            "into" => frame.awaits_columns = frame.columns.is_none(),
            "values" | "value" => frame.rows = true,
            "select" if frame.columns.is_some() => {
                frame.position = Some(0);
                self.mark_position();
            }
            // What follows a MySQL `INSERT INTO t SET` or an upsert's assignments is not matched to columns.
            "set" | "returning" | "conflict" | "duplicate" | "update" => frame.columns = None,
            _ => {}
        }
        if self.top().enclosure == Enclosure::Query {
            // What a subquery selects is compared outside, unless it is the body of a `WITH`.
            let segment = self.top().segment;
            let segment = self.places.segment(segment);
            segment.raises = word == "select" && !segment.inherits;
        }
    }

    fn case_word(&mut self, word: &str) {
        if word == "end" {
            self.frames.pop();
            return;
        }
        // Conditions hang on what follows `CASE`, results on what is around it.
        let (head, group) = (self.top().head, self.top().group);
        let around = self.places.segment(head).parent;
        let result = word != "when";
        let parent = if result { around } else { head };
        self.top().segment = self.places.add(Segment { parent, group, inherits: true, raises: result, secret: false });
        self.top().betweens = 0;
    }

    /// Marks the segment when a name in it is sensitive; a name before a dot is a table's.
    fn name(&mut self, at: usize) {
        if !self.is_symbol(at + 1, b".") && self.names.matches(self.tokens[at].text(self.sql)) {
            self.mark();
        }
    }

    fn finish(mut self) -> Segments {
        while !self.frames.is_empty() {
            self.end_positions();
            self.frames.pop();
        }
        self.places.spread();
        self.places
    }
}
