//! Finds the tables that a statement names.

use std::collections::BTreeSet;

use crate::dialect::Dialect;
use crate::escape::escaped;
use crate::fields::MAX_TABLES;
use crate::lexer::{Token, TokenKind};
use crate::limits::{Limits, cut_at_char_boundary};
use crate::verb::Verb;

/// Lists the tables a statement names, sorted, without duplicates, 64 at most.
///
/// Names defined by `WITH` and functions that give rows are left out.
pub(crate) fn tables(sql: &[u8], tokens: &[Token], verb: &Verb, dialect: Dialect, limits: &Limits) -> Vec<String> {
    let verb_word = tokens.get(verb.at).map(|token| token.text(sql).to_ascii_lowercase()).unwrap_or_default();
    let mut search = Search {
        sql,
        tokens,
        dialect,
        limits,
        verb: &verb_word,
        frames: vec![Frame { query: true, ..Frame::default() }],
        defined: BTreeSet::new(),
        found: BTreeSet::new(),
    };
    let mut at = 0;
    while at < tokens.len() {
        at = search.step(at);
    }
    search.found.into_iter().collect()
}

/// What is known of one level of parentheses.
#[derive(Default)]
struct Frame {
    /// The next name is a table.
    expects: bool,
    /// A comma is followed by another table.
    list: bool,
    /// A query is at this level, so that `FROM` is its clause; it is none in `EXTRACT(… FROM …)`.
    query: bool,
    /// Definitions of `WITH` are at this level.
    with: bool,
    recursive: bool,
    /// The name this level is the body of, usable once the level ends.
    defines: Option<String>,
}

struct Search<'s> {
    sql: &'s [u8],
    tokens: &'s [Token],
    dialect: Dialect,
    limits: &'s Limits,
    verb: &'s [u8],
    frames: Vec<Frame>,
    /// Names defined by `WITH` so far.
    defined: BTreeSet<String>,
    found: BTreeSet<String>,
}

/// Words between a keyword and the table's name.
const NOISE: &[&str] = &[
    "only",
    "lateral",
    "if",
    "not",
    "exists",
    "ignore",
    "low_priority",
    "high_priority",
    "delayed",
    "quick",
    "or",
    "replace",
    "rollback",
    "abort",
    "fail",
    "table",
    "tables",
    "concurrently",
    "into",
    "from",
    "unlogged",
];

/// Keywords that end a list of tables.
const ENDS_LIST: &[&str] = &[
    "where",
    "set",
    "group",
    "order",
    "having",
    "limit",
    "offset",
    "union",
    "intersect",
    "except",
    "values",
    "returning",
    "window",
    "fetch",
    "for",
    "when",
    "default",
];

impl Search<'_> {
    fn top(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn is(&self, at: usize, words: &[&str]) -> bool {
        self.tokens.get(at).is_some_and(|token| words.iter().any(|word| token.is_word(self.sql, word)))
    }

    fn is_symbol(&self, at: usize, symbol: &[u8]) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_symbol(self.sql, symbol))
    }

    /// Looks at the token and says where to go on.
    fn step(&mut self, at: usize) -> usize {
        let token = self.tokens[at];
        match token.kind {
            TokenKind::Symbol => self.symbol(at),
            TokenKind::Word | TokenKind::Quoted if self.top().expects => return self.expected_name(at),
            TokenKind::Word | TokenKind::Quoted if self.begins_definition(at) => self.definition(at),
            TokenKind::Word => self.keyword(at),
            _ => self.top().expects = false,
        }
        at + 1
    }

    fn symbol(&mut self, at: usize) {
        match self.tokens[at].text(self.sql) {
            b"(" => {
                // `FROM (a, b)` and `FROM (a JOIN b …)`.
                let expects = std::mem::take(&mut self.top().expects);
                let defines = self.top().defines.take();
                self.frames.push(Frame { expects, list: expects, defines, ..Frame::default() });
            }
            b")" if self.frames.len() > 1 => {
                let ended = self.frames.pop();
                if let Some(name) = ended.and_then(|frame| frame.defines) {
                    self.define(name);
                }
            }
            b"," => {
                let frame = self.top();
                frame.expects = frame.list;
            }
            b";" => self.frames = vec![Frame { query: true, ..Frame::default() }],
            _ => self.top().expects = false,
        }
    }

    fn define(&mut self, name: String) {
        if self.defined.len() < MAX_TABLES {
            self.defined.insert(name);
        }
    }

    /// `name AS (` or `name (columns) AS (` after `WITH`.
    fn begins_definition(&self, at: usize) -> bool {
        let with = self.frames.last().is_some_and(|frame| frame.with);
        let first = at > 0 && (self.is(at - 1, &["with", "recursive"]) || self.is_symbol(at - 1, b","));
        with && first
            && (self.is(at + 1, &["as"]) || self.is_symbol(at + 1, b"("))
            && !self.is(at, &["select", "recursive"])
    }

    fn definition(&mut self, at: usize) {
        let name = self.name(at);
        if self.top().recursive {
            self.define(name);
        } else {
            self.top().defines = Some(name);
        }
    }

    fn keyword(&mut self, at: usize) {
        let before = at.checked_sub(1);
        let query = self.top().query;
        let after_any = |words: &[&str]| before.is_some_and(|before| self.is(before, words));
        let text = self.tokens[at].text(self.sql).to_ascii_lowercase();
        let (mut expects, mut list) = (false, None);
        match text.as_slice() {
            b"with" => {
                let recursive = self.is(at + 1, &["recursive"]);
                (self.top().with, self.top().recursive) = (true, recursive);
            }
            b"select" | b"delete" | b"update" | b"insert" | b"merge" => {
                let verb_of_clause =
                    text == b"update" && after_any(&["for", "key", "do", "on", "then", "before", "after", "or"]);
                expects = text == b"update" && !verb_of_clause;
                expects |= text == b"insert" && self.dialect.is_mysql() && !self.is_symbol(at + 1, b"(");
                list = (!verb_of_clause).then_some(text == b"update");
                self.top().query = true;
                self.top().with = false;
            }
            b"replace" => expects = self.verb == b"replace" && !self.is_symbol(at + 1, b"("),
            b"from" => {
                expects = query && !after_any(&["distinct"]) && !self.verb_takes_no_table();
                list = expects.then_some(true);
            }
            b"join" | b"straight_join" => (expects, list) = (true, Some(true)),
            b"into" => expects = true,
            b"table" | b"tables" => {
                expects = !matches!(self.verb, b"show" | b"comment");
                list = Some(matches!(self.verb, b"drop" | b"truncate" | b"lock"));
            }
            b"view" => expects = matches!(self.verb, b"create" | b"drop" | b"alter" | b"refresh"),
            b"using" => {
                expects = matches!(self.verb, b"delete" | b"merge") && !self.is_symbol(at + 1, b"(");
                list = expects.then_some(true);
            }
            b"on" => expects = matches!(self.verb, b"create" | b"grant" | b"revoke") && self.frames.len() == 1,
            b"truncate" => (expects, list) = (true, Some(true)),
            b"copy" | b"describe" | b"references" => expects = true,
            b"desc" => expects = at == 0,
            _ if self.is(at, ENDS_LIST) => list = Some(false),
            _ => {}
        }
        let frame = self.top();
        frame.expects = expects;
        frame.list = list.unwrap_or(frame.list);
    }

    /// Statements whose `FROM` names something else: a cursor, a schema.
    fn verb_takes_no_table(&self) -> bool {
        matches!(self.verb, b"fetch" | b"move" | b"revoke" | b"prepare" | b"execute")
    }

    /// Reads the table that stands where one is expected, or what stands there instead.
    fn expected_name(&mut self, at: usize) -> usize {
        if self.is(at, &["select", "values", "with", "delete", "update", "set", "where"]) {
            self.top().expects = false;
            self.keyword(at);
            return at + 1;
        }
        if self.is(at, NOISE) && !self.is_symbol(at + 1, b".") {
            return at + 1;
        }
        self.top().expects = false;
        let mut end = at + 1;
        while self.is_symbol(end, b".") && self.tokens.get(end + 1).is_some_and(Token::is_name) {
            end += 2;
        }
        // `FROM f(…)` is a function; `INSERT INTO t (…)`, `CREATE TABLE t (…)` are tables with columns.
        let reading = self.frames.last().is_some_and(|frame| frame.list);
        let function = self.is_symbol(end, b"(") && reading;
        let variable = self.tokens[at].text(self.sql).starts_with(b"@");
        if !function && !variable && !self.is(at, &["outfile", "dumpfile", "dual", "stdin", "stdout"]) {
            self.add(at, end);
        }
        end
    }

    fn add(&mut self, start: usize, end: usize) {
        if self.found.len() >= MAX_TABLES {
            return;
        }
        let names: Vec<String> = (start..end).step_by(2).map(|at| self.name(at)).collect();
        if names.len() == 1 && self.defined.contains(&names[0]) {
            return;
        }
        let name = names.join(".");
        self.found.insert(cut_at_char_boundary(&name, self.limits.text_bytes).to_owned());
    }

    /// A name as the audit table shows it: lower-cased unless quoted, without its quotes.
    fn name(&self, at: usize) -> String {
        let token = self.tokens[at];
        let text = token.text(self.sql);
        if token.kind == TokenKind::Word {
            return escaped(&text.to_ascii_lowercase()).into_owned();
        }
        let open = text.iter().position(|byte| matches!(byte, b'"' | b'`' | b'[')).unwrap_or(0);
        let inner = &text[open + 1..];
        let close = if text[open] == b'[' { b']' } else { text[open] };
        escaped(inner.strip_suffix(&[close]).unwrap_or(inner)).into_owned()
    }
}
