//! The demo, as a stranger runs it.

use std::collections::BTreeSet;
use std::process::Command;

const KEYS: [&str; 11] = [
    "queries",
    "tracked",
    "collapsed",
    "skipped_anonymous",
    "failed_statements",
    "stored",
    "lost",
    "duplicated",
    "caller_p50_ns",
    "caller_p99_ns",
    "stored_per_second",
];

#[test]
fn the_demo_loses_nothing_and_doubles_nothing_through_a_crash() {
    let root = tempfile::tempdir().unwrap();
    let kept = root.path().join("shop");
    let output = Command::new(env!("CARGO_BIN_EXE_auditq"))
        .args(["demo", "--queries", "600", "--users", "4", "--json", "--keep"])
        .arg(&kept)
        .current_dir(root.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys: BTreeSet<_> = summary.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(KEYS));
    let number = |key: &str| summary[key].as_u64().unwrap();
    assert_eq!((number("queries"), number("lost"), number("duplicated")), (600, 0, 0));
    assert_eq!(number("tracked") + number("skipped_anonymous"), 600);
    assert_eq!(number("stored") + number("collapsed"), number("tracked"));
    for key in ["collapsed", "skipped_anonymous", "failed_statements", "caller_p50_ns"] {
        assert!(number(key) > 0, "{key} is 0: {summary}");
    }
    assert!(summary["stored_per_second"].as_f64().unwrap() > 0.0);

    let audit = rusqlite::Connection::open(kept.join("audit.db")).unwrap();
    let one = |sql: &str| audit.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs();
    assert_eq!(one("SELECT count(*) FROM audit_sql_logs"), number("stored"));
    assert_eq!(one("SELECT count(*) FROM audit_sql_logs WHERE status = 'error'"), number("failed_statements"));
    assert_eq!(one("SELECT count(DISTINCT username) FROM audit_sql_logs"), 4);
    assert_eq!(one("SELECT count(*) FROM jobs") + one("SELECT count(*) FROM failed_jobs"), 0);
    // Three workers have been there: one of the first two was killed, and the third took its place.
    assert!(kept.join("worker-3.log").exists());
}

#[test]
fn a_run_without_keep_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_auditq"))
        .args(["demo", "--queries", "60", "--users", "2"])
        .env("TMPDIR", temporary.path())
        .current_dir(temporary.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("exactly once"));
    assert_eq!(temporary.path().read_dir().unwrap().count(), 0);
}
