use auditq_event::{Limits, Operation, Redaction, Statement, System, TransactionVerb, fingerprint, normalise};

use crate::support::{KEY, analyse, sqlite};

#[test]
fn the_operation_is_the_main_verb_wherever_it_stands() {
    let cases = [
        ("SELECT 1", Operation::Select),
        ("-- c\n /* d */ (( select 1 ))", Operation::Select),
        ("VALUES (1)", Operation::Select),
        ("insert into t values (1)", Operation::Insert),
        ("INSERT OR REPLACE INTO t VALUES (1)", Operation::Replace),
        ("REPLACE INTO t VALUES (1)", Operation::Replace),
        ("WITH a AS (SELECT 1), b(x) AS (SELECT 2) UPDATE t SET x = 1", Operation::Update),
        ("WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone", Operation::Delete),
        ("WITH RECURSIVE c AS (SELECT 1 UNION SELECT 2) SELECT * FROM c", Operation::Select),
        ("EXPLAIN QUERY PLAN SELECT 1", Operation::Select),
        ("EXPLAIN (ANALYZE, FORMAT JSON) DELETE FROM t", Operation::Delete),
        ("EXPLAIN FORMAT=JSON SELECT 1", Operation::Select),
        ("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE", Operation::Merge),
        ("CREATE TABLE t (a int)", Operation::Ddl),
        ("TRUNCATE t", Operation::Ddl),
        ("BEGIN IMMEDIATE", Operation::Transaction),
        ("CALL f()", Operation::Call),
        ("PRAGMA user_version", Operation::Session),
        ("COPY t FROM STDIN", Operation::Copy),
        ("VACUUM", Operation::Maintenance),
        ("DESCRIBE t", Operation::Maintenance),
        ("", Operation::Other),
        ("\u{1F600} ?", Operation::Other),
        ("'just text'", Operation::Other),
    ];
    for (sql, operation) in cases {
        assert_eq!(analyse(sql, System::Postgres).operation(), operation, "{sql}");
    }
}

#[test]
fn transaction_verbs_are_told_apart() {
    use TransactionVerb::{Begin, Commit, Release, Rollback, RollbackTo, Savepoint};
    let cases = [
        ("begin", Some(Begin)),
        ("START TRANSACTION READ ONLY", Some(Begin)),
        ("COMMIT;", Some(Commit)),
        ("END", Some(Commit)),
        ("rollback", Some(Rollback)),
        ("ROLLBACK TRANSACTION", Some(Rollback)),
        ("ABORT", Some(Rollback)),
        ("ROLLBACK TO SAVEPOINT a", Some(RollbackTo)),
        ("ROLLBACK WORK TO a", Some(RollbackTo)),
        ("SAVEPOINT a", Some(Savepoint)),
        ("RELEASE SAVEPOINT a", Some(Release)),
        ("COMMIT PREPARED 'x'", None),
        ("START SLAVE", None),
        ("SELECT 'begin'", None),
    ];
    for (sql, verb) in cases {
        assert_eq!(sqlite(sql).transaction_verb(), verb, "{sql}");
    }
}

#[test]
fn tables_are_what_a_statement_touches_and_nothing_else() {
    let cases: &[(System, &str, &[&str])] = &[
        (
            System::Sqlite,
            "SELECT * FROM Users u, main.[Order Items] AS o JOIN \"C\" c ON u.a = c.a, d",
            &["C", "d", "main.Order Items", "users"],
        ),
        (System::Sqlite, "INSERT INTO t (a) SELECT a FROM s WHERE x IN (SELECT y FROM z)", &["s", "t", "z"]),
        (System::Sqlite, "UPDATE OR IGNORE t SET a = 1, b = 2 WHERE c = (SELECT 1 FROM u)", &["t", "u"]),
        (System::Sqlite, "DELETE FROM t", &["t"]),
        (System::Sqlite, "INSERT INTO t(a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", &["t"]),
        (System::Sqlite, "SELECT * FROM json_each(?) j, t", &["t"]),
        (System::Sqlite, "CREATE TABLE IF NOT EXISTS t (id int, name text)", &["t"]),
        (System::Sqlite, "DROP TABLE IF EXISTS a, b", &["a", "b"]),
        (System::Sqlite, "CREATE UNIQUE INDEX i ON t (a, b)", &["t"]),
        (System::Sqlite, "SELECT ((1", &[]),
        (
            System::Postgres,
            "SELECT extract(year FROM d), substring(x FROM 1 FOR 2), trim(both ' ' FROM y) FROM t",
            &["t"],
        ),
        (System::Postgres, "SELECT a FROM t WHERE a IS DISTINCT FROM b", &["t"]),
        (System::Postgres, "WITH c AS (SELECT * FROM real), d (x) AS (SELECT 1) SELECT * FROM c, d, e", &["e", "real"]),
        (System::Postgres, "WITH users AS (SELECT * FROM users) SELECT * FROM users", &["users"]),
        (
            System::Postgres,
            "WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT n FROM r JOIN t ON true) SELECT * FROM r",
            &["t"],
        ),
        (System::Postgres, "SELECT * FROM ONLY a, LATERAL (SELECT * FROM b) x FOR UPDATE", &["a", "b"]),
        (System::Postgres, "DELETE FROM a USING b, c WHERE a.id = b.id", &["a", "b", "c"]),
        (System::Postgres, "SELECT * FROM a JOIN b USING (id)", &["a", "b"]),
        (System::Postgres, "SELECT * FROM (a JOIN b ON a.x = b.x), c", &["a", "b", "c"]),
        (System::Postgres, "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET a = 1", &["s", "t"]),
        (System::Postgres, "TRUNCATE a, public.b", &["a", "public.b"]),
        (System::Postgres, "ALTER TABLE t ADD a int, ADD b int", &["t"]),
        (System::Postgres, "COPY t (a, b) FROM STDIN", &["t"]),
        (System::Mysql, "UPDATE `A` a, b SET a.x = b.x", &["A", "b"]),
        (System::Mysql, "INSERT IGNORE t VALUES (1) ON DUPLICATE KEY UPDATE a = 1", &["t"]),
        (System::Mysql, "SELECT 1 INTO @x FROM dual", &[]),
        (System::Mysql, "SELECT * FROM /*!50000 hidden */", &["hidden"]),
    ];
    for (system, sql, tables) in cases {
        assert_eq!(analyse(sql, *system).text().tables, *tables, "{sql}");
    }
}

#[test]
fn a_statement_names_at_most_64_tables() {
    let names: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    assert_eq!(sqlite(&format!("SELECT * FROM {}", names.join(", "))).text().tables.len(), 64);
}

#[test]
fn sql_over_the_limit_is_cut_at_a_character_and_says_so() {
    let limits = Limits { sql_bytes: 12, ..Limits::default() };
    let text = Statement::analyse("SELECT 'aééé'".as_bytes(), System::Sqlite, &Redaction::new(KEY), &limits).text();
    assert_eq!(text.sql, "SELECT 'aé");
    assert_eq!(text.cut.map(|cut| cut.len), Some(16));
    assert!(!text.invalid_utf8);
    assert_eq!(sqlite("SELECT 1").text().cut, None);
}

#[test]
fn sql_that_is_not_utf_8_is_kept_readable_and_marked() {
    let text = Statement::analyse(b"SELECT '\xff'", System::Sqlite, &Redaction::new(KEY), &Limits::default()).text();
    assert_eq!(text.sql, "SELECT '\\xFF'");
    assert!(text.invalid_utf8);
}

#[test]
fn what_no_one_reads_is_not_recorded_either() {
    let sql = format!("INSERT INTO t VALUES ('{}')", "x".repeat(5 << 20));
    let statement = Statement::analyse(sql.as_bytes(), System::Sqlite, &Redaction::new(KEY), &Limits::default());
    assert!(statement.is_sensitive(0), "bindings of what was not read may be secrets");
    assert_eq!(statement.text().sql.len(), 64 * 1024);
    assert_eq!(statement.text().cut.map(|cut| cut.len), Some(sql.len() as u64));
}

#[test]
fn hostile_texts_take_time_in_proportion_to_their_length() {
    let pieces = [
        "(",
        "[",
        "'",
        "\"",
        "`",
        "/*",
        "$a$b",
        "$",
        "a.",
        "in (",
        "values (",
        "insert into (",
        "case when ",
        "password = ",
        "select * from ",
        "with a as (",
        "explain (analyze ",
        "between ",
        "? ",
        "-",
        "(password, ",
        ")",
        ",(",
    ];
    let started = std::time::Instant::now();
    for piece in pieces {
        let sql = piece.repeat(100_000 / piece.len());
        for system in [System::Sqlite, System::Postgres, System::Mysql] {
            let _ = Statement::analyse(sql.as_bytes(), system, &Redaction::new(KEY), &Limits::default());
        }
    }
    // Linear work takes seconds even unoptimised; quadratic work would take many minutes.
    assert!(started.elapsed().as_secs() < 100, "{:?}", started.elapsed());
}

#[test]
fn the_fingerprint_alone_is_the_same() {
    let sql = "SELECT * FROM t WHERE a IN (1, 2, 3)";
    assert_eq!(fingerprint(sql.as_bytes(), System::Sqlite), sqlite(sql).fingerprint());
    assert_eq!(fingerprint(&normalise(sql.as_bytes(), System::Sqlite), System::Sqlite), sqlite(sql).fingerprint());
}

#[test]
fn the_hash_keeps_literals_and_forgets_layout() {
    let hash = |sql| sqlite(sql).hash();
    assert_eq!(hash("SELECT  a FROM t -- x"), hash("select a\nfrom T"));
    assert_ne!(hash("SELECT 1"), hash("SELECT 2"));
    assert_ne!(hash("SELECT 'A'"), hash("SELECT 'a'"));
    assert_ne!(hash("UPDATE t SET password = 'a'"), hash("UPDATE t SET password = 'b'"));
}
