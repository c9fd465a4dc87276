//! Finds what a statement does from its first words.

use crate::event::Operation;
use crate::lexer::{Token, TokenKind};

/// What a statement does to the transaction of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionVerb {
    /// Opens one: `BEGIN`, `START TRANSACTION`.
    Begin,
    /// Makes its work last: `COMMIT`, `END`.
    Commit,
    /// Undoes its work: `ROLLBACK`, `ABORT`.
    Rollback,
    /// Marks a point in it: `SAVEPOINT`.
    Savepoint,
    /// Forgets a point in it: `RELEASE`.
    Release,
    /// Goes back to a point in it: `ROLLBACK TO`.
    RollbackTo,
}

/// The main verb of a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verb {
    pub(crate) operation: Operation,
    pub(crate) transaction: Option<TransactionVerb>,
    /// Where the verb stands among the tokens.
    pub(crate) at: usize,
}

impl Verb {
    /// Finds the verb behind parentheses, `EXPLAIN` and `WITH`.
    ///
    /// A query whose `WITH` holds a writing statement counts as that statement.
    pub(crate) fn find(sql: &[u8], tokens: &[Token]) -> Self {
        let words = Words { sql, tokens };
        let Some(at) = words.main_verb() else { return Self::default() };
        let transaction = words.transaction_verb(at);
        let operation = match transaction {
            Some(_) => Operation::Transaction,
            None => words.operation(at),
        };
        Self { operation, transaction, at }
    }
}

struct Words<'s> {
    sql: &'s [u8],
    tokens: &'s [Token],
}

/// Verbs that a `WITH` clause can stand before.
const AFTER_WITH: &[&str] = &["select", "insert", "update", "delete", "merge", "replace", "values", "table"];
const WRITING: &[&str] = &["insert", "update", "delete", "merge"];
const EXPLAIN_OPTIONS: &[&str] = &["analyze", "analyse", "verbose", "query", "plan", "extended", "partitions"];
const EXPLAIN_LIST: &[&str] = &[
    "analyze",
    "analyse",
    "verbose",
    "costs",
    "settings",
    "buffers",
    "wal",
    "timing",
    "summary",
    "format",
    "generic_plan",
    "memory",
    "serialize",
];

impl Words<'_> {
    fn is(&self, at: usize, words: &[&str]) -> bool {
        self.tokens.get(at).is_some_and(|token| words.iter().any(|word| token.is_word(self.sql, word)))
    }

    fn is_symbol(&self, at: usize, symbol: &[u8]) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_symbol(self.sql, symbol))
    }

    fn main_verb(&self) -> Option<usize> {
        let mut at = 0;
        loop {
            let token = self.tokens.get(at)?;
            if self.is_symbol(at, b"(") || self.is_symbol(at, b";") {
                at += 1;
            } else if self.is(at, &["explain", "describe", "desc"]) {
                match self.after_explain(at + 1) {
                    Some(next) => at = next,
                    None => return Some(at),
                }
            } else if self.is(at, &["with"]) {
                return self.after_with(at + 1);
            } else {
                return (token.kind == TokenKind::Word).then_some(at);
            }
        }
    }

    /// Where the explained statement begins; `None` when it is a table that is described.
    fn after_explain(&self, mut at: usize) -> Option<usize> {
        loop {
            if self.is(at, EXPLAIN_OPTIONS) {
                at += 1;
            } else if self.is(at, &["format"]) && self.is_symbol(at + 1, b"=") {
                at += 3;
            } else if self.is_symbol(at, b"(") && self.is(at + 1, EXPLAIN_LIST) {
                at += self.tokens[at..].iter().position(|token| token.is_symbol(self.sql, b")"))? + 1;
            } else {
                let begins = self.is_symbol(at, b"(") || self.is(at, &["with"]) || self.is(at, AFTER_WITH);
                return (begins || self.is(at, &["create", "execute", "declare", "refresh"])).then_some(at);
            }
        }
    }

    fn after_with(&self, start: usize) -> Option<usize> {
        let mut depth = 0i64;
        let mut writing = None;
        for at in start..self.tokens.len() {
            if self.is_symbol(at, b"(") {
                depth += 1;
                let body = self.is(at - 1, &["as", "materialized"]);
                if writing.is_none() && body && self.is(at + 1, WRITING) {
                    writing = Some(at + 1);
                }
            } else if self.is_symbol(at, b")") {
                depth -= 1;
            } else if depth == 0 && self.is_symbol(at - 1, b")") && self.is(at, AFTER_WITH) {
                let reads = !self.is(at, WRITING) && !self.is(at, &["replace"]);
                return if reads { writing.or(Some(at)) } else { Some(at) };
            }
        }
        writing
    }

    fn transaction_verb(&self, at: usize) -> Option<TransactionVerb> {
        if self.is(at + 1, &["prepared"]) {
            return None;
        }
        if self.is(at, &["begin"]) || (self.is(at, &["start"]) && self.is(at + 1, &["transaction"])) {
            return Some(TransactionVerb::Begin);
        }
        if self.is(at, &["commit", "end"]) {
            return Some(TransactionVerb::Commit);
        }
        if self.is(at, &["rollback", "abort"]) {
            let noise = usize::from(self.is(at + 1, &["work", "transaction"]));
            let partial = self.is(at + 1 + noise, &["to"]);
            return Some(if partial { TransactionVerb::RollbackTo } else { TransactionVerb::Rollback });
        }
        if self.is(at, &["savepoint"]) {
            return Some(TransactionVerb::Savepoint);
        }
        self.is(at, &["release"]).then_some(TransactionVerb::Release)
    }

    fn operation(&self, at: usize) -> Operation {
        let word = self.tokens[at].text(self.sql).to_ascii_lowercase();
        match word.as_slice() {
            b"select" | b"values" | b"table" | b"fetch" | b"declare" => Operation::Select,
            b"insert" if self.is(at + 1, &["or"]) && self.is(at + 2, &["replace"]) => Operation::Replace,
            b"insert" => Operation::Insert,
            b"update" => Operation::Update,
            b"delete" => Operation::Delete,
            b"merge" => Operation::Merge,
            b"replace" => Operation::Replace,
            b"create" | b"alter" | b"drop" | b"truncate" | b"grant" | b"revoke" | b"rename" | b"comment" => {
                Operation::Ddl
            }
            b"prepare" | b"commit" | b"rollback" | b"xa" if self.is(at + 1, &["transaction", "prepared"]) => {
                Operation::Transaction
            }
            b"xa" => Operation::Transaction,
            b"call" | b"do" | b"execute" | b"exec" => Operation::Call,
            b"set" | b"pragma" | b"show" | b"use" | b"reset" | b"discard" | b"attach" | b"detach" | b"listen"
            | b"unlisten" => Operation::Session,
            b"copy" | b"load" => Operation::Copy,
            b"explain" | b"describe" | b"desc" | b"analyze" | b"analyse" | b"vacuum" | b"reindex" | b"optimize"
            | b"check" | b"repair" | b"cluster" | b"refresh" | b"checkpoint" | b"flush" => Operation::Maintenance,
            _ => Operation::Other,
        }
    }
}
