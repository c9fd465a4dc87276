//! Statements that were read before: an application sends the same few again and again, with other bindings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use auditq_event::{Statement, System};

/// As many as are remembered; some of their own at 4 KiB each are a few megabytes.
const STATEMENTS_MAX: usize = 2_000;

/// Longer ones are mostly made for one use.
const SQL_BYTES_MAX: usize = 4 * 1024;

/// By their texts; each with the engine for which it was read.
type Known = HashMap<Box<[u8]>, (System, Arc<Statement>)>;

/// Statements as they were read under one [`Mapping`](crate::Mapping).
#[derive(Clone, Debug, Default)]
pub(crate) struct Statements {
    known: Arc<Mutex<Known>>,
}

impl Statements {
    /// The statement as it was read before, or as `analyse` reads it.
    pub(crate) fn get(&self, sql: &[u8], system: System, analyse: impl FnOnce() -> Statement) -> Arc<Statement> {
        if sql.len() > SQL_BYTES_MAX {
            return Arc::new(analyse());
        }
        if let Some((read_as, statement)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(sql)
            && *read_as == system
        {
            return Arc::clone(statement);
        }
        // Not while the others wait: two may read the same, and either will do.
        let statement = Arc::new(analyse());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= STATEMENTS_MAX {
            known.clear();
        }
        known.insert(sql.into(), (system, Arc::clone(&statement)));
        statement
    }
}

#[cfg(test)]
mod tests {
    use auditq_event::{Limits, Redaction};

    use super::*;

    fn get(statements: &Statements, sql: &str, system: System) -> Arc<Statement> {
        let redaction = Redaction::new([1; 32]);
        statements
            .get(sql.as_bytes(), system, || Statement::analyse(sql.as_bytes(), system, &redaction, &Limits::default()))
    }

    #[test]
    fn a_statement_is_read_once_for_each_engine() {
        let statements = Statements::default();
        let first = get(&statements, "SELECT \"a\"", System::Mysql);
        assert!(Arc::ptr_eq(&first, &get(&statements.clone(), "SELECT \"a\"", System::Mysql)));
        let other = get(&statements, "SELECT \"a\"", System::Postgres);
        assert_ne!(first.fingerprint(), other.fingerprint(), "a text in the one is a name in the other");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let statements = Statements::default();
        for n in 0..=STATEMENTS_MAX {
            get(&statements, &format!("SELECT {n}"), System::Mysql);
        }
        get(&statements, &"-".repeat(SQL_BYTES_MAX + 1), System::Mysql);
        assert_eq!(statements.known.lock().unwrap().len(), 1);
    }
}
