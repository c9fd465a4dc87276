//! Any bytes are read as SQL of every database without a panic, a shape's shape is itself, and with all literals
//! taken out none is left.
#![no_main]

use auditq_event::{Limits, Literals, Redaction, Statement, System, fingerprint, normalise};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|sql: &[u8]| {
    let redaction = Redaction::new([1; 32]);
    let strict = redaction.clone().with_literals(Literals::All);
    let limits = Limits { sql_bytes: usize::MAX, ..Limits::default() };
    for &system in System::ALL {
        let shape = normalise(sql, system);
        assert_eq!(normalise(&shape, system), shape, "{:?} {system}", String::from_utf8_lossy(&shape));

        let statement = Statement::analyse(sql, system, &redaction, &limits);
        let _ = (statement.is_sensitive(0), format!("{statement:?}"));
        let _ = redaction.redact_error("Duplicate entry 'abc' for key", &statement, []);

        // The literals are wherever the shape of the recorded text differs from the text itself.
        let recorded = Statement::analyse(sql, system, &strict, &limits).text().sql;
        for literal in recorded.split('\'').skip(1).step_by(2).filter(|_| is_plain(sql)) {
            assert!(literal.starts_with("[redacted:"), "{recorded:?} {system}");
        }
        let _ = fingerprint(recorded.as_bytes(), system);
    }
});

/// Tells whether quotes in the text can only belong to literals.
fn is_plain(sql: &[u8]) -> bool {
    sql.iter().all(|byte| byte.is_ascii_alphanumeric() || b" '=,()?\n".contains(byte))
}
