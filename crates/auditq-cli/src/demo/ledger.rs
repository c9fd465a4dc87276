//! The application's own count of what it executed, kept by its handlers and not by what audits them.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::sessions::SignedIn;

/// A statement that the application executes, and what it knows of it.
#[derive(Debug)]
pub(super) struct Statement {
    /// Its text.
    pub(super) sql: &'static str,
    /// Such as `select`.
    pub(super) operation: &'static str,
    /// The tables that it names, sorted.
    pub(super) tables: &'static str,
}

/// What became of a statement's transaction, in the words of the audit table.
pub(super) const AUTOCOMMIT: &str = "autocommit";
pub(super) const COMMITTED: &str = "committed";
pub(super) const ROLLED_BACK: &str = "rolled back";

/// One execution, as the application knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Execution {
    pub(super) operation: String,
    pub(super) tables: String,
    pub(super) failed: bool,
    pub(super) transaction: String,
}

/// What one request executed, and for whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub(super) request_id: String,
    /// `None` when nobody was signed in.
    pub(super) user: Option<String>,
    pub(super) executions: Vec<Execution>,
    /// Executions that were the same as an earlier one of this request.
    pub(super) repeats: u64,
    /// Transactions that ended, in which something was executed.
    pub(super) transactions: u64,
    /// Executions that carried a secret.
    pub(super) with_secret: u64,
    /// Where the open transaction's executions begin.
    #[serde(skip)]
    pub(super) open_from: usize,
}

impl Ledger {
    /// Notes one execution with its result, and passes the result on.
    pub(super) fn note<T, E>(&mut self, statement: &Statement, result: Result<T, E>) -> Result<T, E> {
        self.note_execution(statement.operation, statement.tables, result)
    }

    /// As [`note`](Self::note), for a statement whose text is not a constant.
    pub(super) fn note_execution<T, E>(&mut self, operation: &str, tables: &str, result: Result<T, E>) -> Result<T, E> {
        self.executions.push(Execution {
            operation: operation.to_owned(),
            tables: tables.to_owned(),
            failed: result.is_err(),
            transaction: AUTOCOMMIT.to_owned(),
        });
        result
    }

    /// Notes that what is executed from here on is in a transaction.
    pub(super) fn begin(&mut self) {
        self.open_from = self.executions.len();
    }

    /// Notes how that transaction ended.
    pub(super) fn end(&mut self, outcome: &str) {
        for execution in &mut self.executions[self.open_from..] {
            outcome.clone_into(&mut execution.transaction);
        }
        self.transactions += u64::from(self.open_from < self.executions.len());
    }
}

/// Each handler begins a ledger of its request.
impl<S: Sync> FromRequestParts<S> for Ledger {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let request_id = parts.headers.get("x-request-id").and_then(|id| id.to_str().ok());
        Ok(Self {
            request_id: request_id.ok_or(StatusCode::BAD_REQUEST)?.to_owned(),
            user: parts.extensions.get::<SignedIn>().map(|signed_in| signed_in.username.clone()),
            ..Self::default()
        })
    }
}

/// Executions of one kind by one request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) request_id: String,
    pub(super) user: String,
    pub(super) execution: Execution,
}

/// What the whole application executed.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    /// Statements executed.
    pub(super) queries: u64,
    /// Of them, those with nobody signed in.
    pub(super) anonymous: u64,
    /// Of the others, those that the database refused.
    pub(super) failed: u64,
    /// Of the others, those that were the same as an earlier one of their request.
    pub(super) repeats: u64,
    /// Transactions of signed-in users that ended.
    pub(super) transactions: u64,
    /// Executions that carried a secret.
    pub(super) with_secret: u64,
    /// Executions of signed-in users.
    pub(super) kinds: BTreeMap<Kind, u64>,
}

impl Count {
    /// Adds what one request executed.
    pub(super) fn add(&mut self, ledger: Ledger) {
        let executed = ledger.executions.len() as u64;
        self.queries += executed;
        self.with_secret += ledger.with_secret;
        let Some(user) = ledger.user else {
            self.anonymous += executed;
            return;
        };
        self.repeats += ledger.repeats;
        self.transactions += ledger.transactions;
        for execution in ledger.executions {
            self.failed += u64::from(execution.failed);
            let kind = Kind { request_id: ledger.request_id.clone(), user: user.clone(), execution };
            *self.kinds.entry(kind).or_default() += 1;
        }
    }

    /// Executions with a signed-in user.
    pub(super) fn tracked(&self) -> u64 {
        self.queries - self.anonymous
    }

    /// Adds what another client counted.
    pub(super) fn merge(&mut self, other: Self) {
        self.queries += other.queries;
        self.anonymous += other.anonymous;
        self.failed += other.failed;
        self.repeats += other.repeats;
        self.transactions += other.transactions;
        self.with_secret += other.with_secret;
        for (kind, executions) in other.kinds {
            *self.kinds.entry(kind).or_default() += executions;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Statement = Statement { sql: "SELECT 1", operation: "select", tables: "" };

    #[test]
    fn what_ran_in_a_transaction_takes_its_outcome_and_what_ran_before_does_not() {
        let mut ledger = Ledger { user: Some("ann".to_owned()), ..Ledger::default() };
        ledger.note(&READ, Ok::<_, ()>(())).unwrap();
        ledger.begin();
        ledger.note(&READ, Err::<(), _>(())).unwrap_err();
        ledger.end(ROLLED_BACK);
        let outcomes: Vec<_> = ledger.executions.iter().map(|it| (it.failed, it.transaction.as_str())).collect();
        assert_eq!(outcomes, [(false, AUTOCOMMIT), (true, ROLLED_BACK)]);
        let mut count = Count::default();
        count.add(ledger);
        assert_eq!((count.queries, count.tracked(), count.failed, count.transactions), (2, 2, 1, 1));
    }

    #[test]
    fn what_nobody_was_signed_in_for_is_counted_apart() {
        let mut count = Count::default();
        let mut ledger = Ledger::default();
        ledger.note(&READ, Ok::<_, ()>(())).unwrap();
        count.add(ledger);
        assert_eq!((count.queries, count.anonymous, count.tracked(), count.kinds.len()), (1, 1, 0, 0));
    }
}
