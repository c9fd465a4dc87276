//! The result of a run, for people and for programs.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::ledger::Count;
use super::meter::Percentiles;
use super::reconcile::Reconciliation;
use super::table::Table;
use crate::output::{grouped, json_line};

/// What `demo` prints; `auditq demo --help` defines each number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    queries: u64,
    tracked: u64,
    collapsed: u64,
    skipped_anonymous: u64,
    failed_statements: u64,
    stored: u64,
    lost: u64,
    duplicated: u64,
    caller_p50_ns: u64,
    caller_p99_ns: u64,
    stored_per_second: f64,
    #[serde(skip)]
    differences: Vec<String>,
}

impl Summary {
    pub(super) fn of(count: &Count, table: &Table, caller: Percentiles, found: Reconciliation) -> Self {
        let per_second = if table.seconds > 0.0 { table.rows as f64 / table.seconds } else { 0.0 };
        Self {
            queries: count.queries,
            tracked: count.tracked(),
            collapsed: table.collapsed,
            skipped_anonymous: count.anonymous,
            failed_statements: count.failed,
            stored: table.rows,
            lost: found.lost,
            duplicated: found.duplicated,
            caller_p50_ns: caller.p50,
            caller_p99_ns: caller.p99,
            stored_per_second: (per_second * 10.0).round() / 10.0,
            differences: found.differences,
        }
    }

    /// What differs between application and table; empty when all is well.
    pub(crate) fn differences(&self) -> &[String] {
        &self.differences
    }

    /// Writes one JSON object.
    pub(crate) fn write_json(&self, out: &mut impl Write) -> Result<()> {
        json_line(out, self)
    }

    /// Writes it for people, within 80 columns.
    pub(crate) fn write_text(&self, out: &mut impl Write) -> Result<()> {
        let nanoseconds = |time: u64| format!("{} ns", grouped(time));
        let rate = format!("{:.0}", self.stored_per_second);
        let lines = [
            ("queries", grouped(self.queries), "statements that the application executed"),
            ("tracked", grouped(self.tracked), "of them, with a signed-in user"),
            ("collapsed", grouped(self.collapsed), "of those, counted on the row of the same one"),
            ("skipped_anonymous", grouped(self.skipped_anonymous), "statements with nobody signed in"),
            ("failed_statements", grouped(self.failed_statements), "tracked ones that the database refused"),
            ("stored", grouped(self.stored), "rows in the audit table"),
            ("lost", grouped(self.lost), "tracked ones that are not in the table"),
            ("duplicated", grouped(self.duplicated), "ones in the table that there were not"),
            ("caller_p50_ns", nanoseconds(self.caller_p50_ns), "what recording adds to a statement: half take"),
            ("caller_p99_ns", nanoseconds(self.caller_p99_ns), "no longer; and 99 of 100 take no longer"),
            ("stored_per_second", rate, "rows, through crash and recovery"),
        ];
        for (name, value, meaning) in lines {
            writeln!(out, "{name:<18} {value:>10}  {meaning}")?;
        }
        writeln!(out)?;
        if self.differences.is_empty() {
            writeln!(out, "Every tracked statement is in the audit table exactly once: who ran it, in which")?;
            writeln!(out, "request, how it ended, what became of its transaction. No secret was written.")?;
        } else {
            writeln!(out, "The audit table is NOT what the application did; stderr says what differs.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let table = Table { rows: 12_345, collapsed: 678, seconds: 10.0, ..Table::default() };
        let count = Count { queries: 2_000_000, anonymous: 5, failed: 3, ..Count::default() };
        Summary::of(&count, &table, Percentiles { p50: 600, p99: 123_456 }, Reconciliation::default())
    }

    #[test]
    fn the_json_is_one_object_with_the_keys_in_order() {
        let mut out = Vec::new();
        summary().write_json(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"queries\":2000000,\"tracked\":1999995,\"collapsed\":678,\"skipped_anonymous\":5,\
             \"failed_statements\":3,\"stored\":12345,\"lost\":0,\"duplicated\":0,\"caller_p50_ns\":600,\
             \"caller_p99_ns\":123456,\"stored_per_second\":1234.5}\n"
        );
    }

    #[test]
    fn the_text_fits_eighty_columns() {
        let mut out = Vec::new();
        summary().write_text(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("exactly once"));
        let mut bad = summary();
        bad.differences.push("something".to_owned());
        let mut out = Vec::new();
        bad.write_text(&mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("NOT"));
    }
}
