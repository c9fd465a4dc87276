//! Holds what the application did against what the audit table says.

use std::collections::BTreeMap;

use super::ledger::{Count, Execution, Kind};
use super::table::Table;

/// Differences that are listed one by one.
const LISTED_MAX: usize = 10;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reconciliation {
    /// Executions with a signed-in user that are not in the table.
    pub(super) lost: u64,
    /// Executions in the table that there were not.
    pub(super) duplicated: u64,
    /// Everything that differs, in words; empty when all is well.
    pub(super) differences: Vec<String>,
}

/// What the recorder in the application says of itself, and what is left in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Records that went into the spool: events, repeats, and outcomes of transactions.
    pub(super) appended: u64,
    /// Statements that were left out because nobody was signed in.
    pub(super) skipped_anonymous: u64,
    /// Messages that were given up.
    pub(super) buried: u64,
}

impl Reconciliation {
    /// Compares execution by execution, then everything that must add up.
    pub(super) fn of(count: &Count, table: &Table, recorded: &Recorded) -> Self {
        let (did, said) = (without_outcome(&count.kinds), without_outcome(&table.kinds));
        let (lost, duplicated) = (surplus(&did, &said), surplus(&said, &did));
        let mut differences = Vec::new();
        list("is not in the table", &lost, &mut differences);
        list("is in the table, but was not executed", &duplicated, &mut differences);
        if lost.is_empty() && duplicated.is_empty() {
            list(
                "has another transaction outcome in the table",
                &surplus(&count.kinds, &table.kinds),
                &mut differences,
            );
        }
        sums(count, table, recorded, &mut differences);
        Self { lost: lost.values().sum(), duplicated: duplicated.values().sum(), differences }
    }

    /// Adds one more check that does not hold.
    pub(super) fn add(&mut self, difference: String) {
        self.differences.push(difference);
    }
}

/// What must add up, besides each execution being there once.
fn sums(count: &Count, table: &Table, recorded: &Recorded, differences: &mut Vec<String>) {
    let failed: u64 = table.kinds.iter().filter(|(kind, _)| kind.execution.failed).map(|(_, count)| count).sum();
    // Each repeat and each transaction has a record in the spool that becomes no row of its own.
    let records = table.rows + table.collapsed + count.transactions;
    let equal = [
        ("repeats that were collapsed", count.repeats, table.collapsed),
        ("failed statements", count.failed, failed),
        ("statements skipped because nobody was signed in", count.anonymous, recorded.skipped_anonymous),
        ("statements from which a secret was taken out", count.with_secret, table.redacted),
        ("numbers given out by the spool", recorded.appended, records),
        ("failed statements without the database's message", 0, table.errors_unexplained),
        ("rows with the event id of another", 0, table.event_ids_twice),
        ("rows with the number of another", 0, table.numbers_twice),
        ("rows numbered beyond what the spool gave out", 0, table.numbers_end.saturating_sub(recorded.appended)),
        ("processes besides the application that recorded something", 0, table.producers.saturating_sub(1)),
        ("gaps reported in the table", 0, table.gaps),
        ("messages given up", 0, recorded.buried),
    ];
    for (what, expected, found) in equal {
        if expected != found {
            differences.push(format!("{what}: {expected} expected, {found} found"));
        }
    }
}

/// A statement whose outcome differs is still the same statement: neither lost nor doubled.
fn without_outcome(kinds: &BTreeMap<Kind, u64>) -> BTreeMap<Kind, u64> {
    let mut merged = BTreeMap::new();
    for (kind, executions) in kinds {
        let execution = Execution { transaction: String::new(), ..kind.execution.clone() };
        *merged.entry(Kind { execution, ..kind.clone() }).or_default() += executions;
    }
    merged
}

/// What `these` have over `those`.
fn surplus(these: &BTreeMap<Kind, u64>, those: &BTreeMap<Kind, u64>) -> BTreeMap<Kind, u64> {
    let over = |(kind, count): (&Kind, &u64)| {
        let over = count.saturating_sub(those.get(kind).copied().unwrap_or_default());
        (over > 0).then(|| (kind.clone(), over))
    };
    these.iter().filter_map(over).collect()
}

fn list(what: &str, kinds: &BTreeMap<Kind, u64>, differences: &mut Vec<String>) {
    for (kind, times) in kinds.iter().take(LISTED_MAX) {
        let Kind { request_id, user, execution: Execution { operation, tables, failed, transaction } } = kind;
        let failed = if *failed { ", failed" } else { "" };
        let transaction = if transaction.is_empty() { String::new() } else { format!(", {transaction}") };
        differences.push(format!(
            "{operation} of [{tables}] by {user:?} in {request_id:?}{failed}{transaction} {what} ({times} times)"
        ));
    }
    if kinds.len() > LISTED_MAX {
        differences.push(format!("… and {} more that {what}", kinds.len() - LISTED_MAX));
    }
}

#[cfg(test)]
mod tests {
    use auditq_sqlite::rusqlite::Connection;

    use super::super::ledger::{AUTOCOMMIT, COMMITTED, Ledger};
    use super::*;

    /// Three requests: a read that is repeated, a transaction, one that fails.
    fn executed() -> Count {
        let execution = |operation: &str, failed, transaction: &str| Execution {
            operation: operation.to_owned(),
            tables: "orders".to_owned(),
            failed,
            transaction: transaction.to_owned(),
        };
        let ledger = |request_id: &str, executions: Vec<Execution>, repeats, transactions| Ledger {
            request_id: request_id.to_owned(),
            user: Some("ann".to_owned()),
            executions,
            repeats,
            transactions,
            ..Ledger::default()
        };
        let mut count = Count::default();
        let read = execution("select", false, AUTOCOMMIT);
        count.add(ledger("r1", vec![read.clone(), read.clone(), read], 2, 0));
        count.add(ledger("r2", vec![execution("insert", false, COMMITTED)], 0, 1));
        count.add(ledger("r3", vec![execution("insert", true, AUTOCOMMIT)], 0, 0));
        count
    }

    const RECORDED: Recorded = Recorded { appended: 6, skipped_anonymous: 0, buried: 0 };

    /// A table with the columns that are looked at, that says the same; then `tamper` is done to it.
    fn table(tamper: &str) -> Table {
        let file = tempfile::NamedTempFile::new().unwrap();
        let connection = Connection::open(file.path()).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE audit_sql_logs (event_id, producer_id, producer_seq, request_id, username, operation,
                   tables, status, transaction_outcome, repeat_count, error_message, recorded_at, stored_at, sql, bindings);
                 INSERT INTO audit_sql_logs VALUES
                   (x'01', x'aa', 0, 'r1', 'ann', 'select', '[\"orders\"]', 'ok', 'autocommit', 3, NULL, 0, 1000000, '', '[]'),
                   (x'02', x'aa', 3, 'r2', 'ann', 'insert', '[\"orders\"]', 'ok', 'committed', 1, NULL, 5, 2000000, '', '[]'),
                   (x'03', x'aa', 5, 'r3', 'ann', 'insert', '[\"orders\"]', 'error', 'autocommit', 1, 'no', 9, 3000000, '', '[]');",
            )
            .unwrap();
        connection.execute_batch(tamper).unwrap();
        Table::read(file.path()).unwrap()
    }

    fn reconciled(tamper: &str) -> Reconciliation {
        Reconciliation::of(&executed(), &table(tamper), &RECORDED)
    }

    #[test]
    fn a_table_that_says_what_was_done_is_found_in_order() {
        assert_eq!(reconciled(""), Reconciliation::default());
        assert!((table("").seconds - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_row_that_was_removed_is_lost() {
        let found = reconciled("DELETE FROM audit_sql_logs WHERE request_id = 'r2'");
        assert_eq!((found.lost, found.duplicated), (1, 0));
        assert!(found.differences[0].contains("r2"), "{:?}", found.differences);
    }

    #[test]
    fn a_row_that_was_doubled_is_found_even_under_an_id_of_its_own() {
        let copy = "INSERT INTO audit_sql_logs SELECT x'04', producer_id, 4, request_id, username, operation, tables,
            status, transaction_outcome, repeat_count, error_message, recorded_at, stored_at, sql, bindings
            FROM audit_sql_logs WHERE request_id = 'r2'";
        let found = reconciled(copy);
        assert_eq!((found.lost, found.duplicated), (0, 1));
    }

    #[test]
    fn a_repeat_too_few_is_lost_and_one_too_many_is_doubled() {
        let few = reconciled("UPDATE audit_sql_logs SET repeat_count = 2 WHERE request_id = 'r1'");
        assert_eq!((few.lost, few.duplicated), (1, 0));
        let many = reconciled("UPDATE audit_sql_logs SET repeat_count = 5 WHERE request_id = 'r1'");
        assert_eq!((many.lost, many.duplicated), (0, 2));
    }

    #[test]
    fn a_row_under_another_name_is_both_lost_and_too_many() {
        let found = reconciled("UPDATE audit_sql_logs SET username = 'bob' WHERE request_id = 'r2'");
        assert_eq!((found.lost, found.duplicated), (1, 1));
    }

    #[test]
    fn every_other_difference_is_told_and_loses_nothing() {
        for tamper in [
            "UPDATE audit_sql_logs SET transaction_outcome = 'unknown' WHERE request_id = 'r2'",
            "UPDATE audit_sql_logs SET error_message = NULL",
            "UPDATE audit_sql_logs SET sql = 'x = [redacted:00]' WHERE request_id = 'r2'",
            "UPDATE audit_sql_logs SET event_id = x'01'",
            "UPDATE audit_sql_logs SET producer_seq = 3",
            "UPDATE audit_sql_logs SET producer_seq = 99 WHERE request_id = 'r3'",
            "UPDATE audit_sql_logs SET producer_id = x'bb' WHERE request_id = 'r3'",
        ] {
            let found = reconciled(tamper);
            assert_eq!((found.lost, found.duplicated), (0, 0), "{tamper}");
            assert!(!found.differences.is_empty(), "{tamper}");
        }
        let holes = Recorded { appended: 7, ..RECORDED };
        assert_eq!(Reconciliation::of(&executed(), &table(""), &holes).differences.len(), 1);
        let buried = Recorded { buried: 1, ..RECORDED };
        assert_eq!(Reconciliation::of(&executed(), &table(""), &buried).differences.len(), 1);
    }
}
