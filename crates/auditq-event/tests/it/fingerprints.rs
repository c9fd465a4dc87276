use auditq_event::{System, fingerprint, normalise};

/// One case a line: database, fingerprint, SQL (JSON string), shape (JSON string), with tabs between.
const GOLDEN: &str = include_str!("../fixtures/fingerprints.tsv");

struct Case {
    system: System,
    fingerprint: u64,
    sql: String,
    shape: String,
}

fn cases() -> Vec<Case> {
    GOLDEN
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            Case {
                system: System::parse(fields[0]).expect("a database"),
                fingerprint: u64::from_str_radix(fields[1], 16).expect("a fingerprint"),
                sql: serde_json::from_str(fields[2]).expect("SQL"),
                shape: serde_json::from_str(fields[3]).expect("a shape"),
            }
        })
        .collect()
}

#[test]
fn fingerprints_are_what_they_were_in_the_first_release() {
    let cases = cases();
    assert!(cases.len() >= 40);
    for case in cases {
        let shape = normalise(case.sql.as_bytes(), case.system);
        assert_eq!(String::from_utf8_lossy(&shape), case.shape, "{}", case.sql);
        assert_eq!(fingerprint(case.sql.as_bytes(), case.system), case.fingerprint, "{}", case.sql);
    }
}

#[test]
fn the_shape_of_a_shape_is_itself() {
    for case in cases() {
        assert_eq!(String::from_utf8_lossy(&normalise(case.shape.as_bytes(), case.system)), case.shape);
    }
}
