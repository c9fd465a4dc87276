use auditq_event::{
    BindingPolicy, Event, Limits, Literals, Occurrence, Record, Redaction, Statement, System, Value, encode_bindings,
    query_hash,
};

use crate::support::{KEY, PRODUCER, analyse, redaction, sensitive, sqlite};

#[test]
fn bindings_are_secret_by_the_name_they_stand_with() {
    let cases: &[(&str, &[usize])] = &[
        ("SELECT 1 FROM t WHERE a = ? AND password = ? AND b = ?", &[1]),
        ("SELECT 1 FROM t WHERE ? = password", &[0]),
        ("SELECT 1 FROM t WHERE a = ? AND token IN (?, ?) AND b = ?", &[1, 2]),
        ("SELECT 1 FROM t WHERE token LIKE ? OR a LIKE ?", &[0]),
        ("SELECT 1 FROM t WHERE pin <> ?", &[0]),
        ("SELECT 1 FROM t WHERE pin BETWEEN ? AND ? AND a = ?", &[0, 1]),
        ("SELECT 1 FROM t WHERE a BETWEEN ? AND ? AND pin = ?", &[2]),
        ("UPDATE t SET name = ?, password = ?, age = ? WHERE id = ?", &[1]),
        ("UPDATE t SET password = crypt(?, gen_salt(?)), a = ? WHERE id = ?", &[0, 1]),
        ("SELECT 1 FROM t WHERE lower(password) = lower(?) AND a = ?", &[0]),
        ("SELECT 1 FROM t WHERE t.password = ? AND password.id = ?", &[0]),
        ("SELECT 1 FROM t WHERE \"Password\" = ? AND [api key] = ? AND `resetToken` = ? AND a = ?", &[0, 1, 2]),
        ("INSERT INTO t (a, password) VALUES (?, ?), (?, ?)", &[1, 3]),
        ("INSERT INTO t (a, password) VALUES (?, upper(?)) ON CONFLICT (a) DO UPDATE SET a = ?, password = ?", &[1, 3]),
        ("INSERT INTO t (a, password) SELECT ?, ? FROM s WHERE id = ?", &[1]),
        ("INSERT INTO t (a, password) SELECT * FROM f(?, ?)", &[0, 1]),
        ("INSERT INTO t (a, password) VALUES (?)", &[0]),
        ("REPLACE INTO t (password, a) VALUES (?, ?)", &[0]),
        ("INSERT INTO t (a, b) VALUES (?, ?)", &[]),
        ("SELECT 1 WHERE a = :id AND b = :password AND c = :id", &[1]),
        ("SELECT 1 WHERE a = @token AND b = @b", &[0]),
        ("SELECT 1 WHERE a = ?1 AND b = ?2 AND password = ?1", &[0]),
        ("UPDATE t SET password = CASE WHEN id = ? THEN ? ELSE ? END, a = ?", &[1, 2]),
        ("SELECT CASE password WHEN ? THEN ? END", &[0]),
        ("SELECT CASE WHEN password = ? THEN ? END", &[0]),
        ("SELECT 1 FROM t WHERE (a = ? AND password = ?) OR b = ?", &[1]),
        ("SELECT 1 FROM t WHERE (a, password) = (?, ?)", &[0, 1]),
        ("SELECT 1 FROM t WHERE id = (SELECT id FROM s WHERE password = ?) AND a = ?", &[0]),
        ("SELECT 1 WHERE ? = (SELECT password FROM s WHERE id = ?)", &[0]),
        ("WITH u AS (SELECT password FROM s WHERE mail = ?) SELECT * FROM u WHERE a = ?", &[]),
        ("WITH v (id, password) AS (VALUES (?, ?)) SELECT * FROM v WHERE a = ?", &[0, 1]),
        ("SELECT ? AS password, ? AS name", &[0]),
        ("SELECT password FROM t WHERE id = ? LIMIT ?", &[]),
        ("SELECT tokenizer_count FROM t WHERE spinning = ? AND pinned = ?", &[]),
        ("DELETE FROM password_resets WHERE mail = ?", &[]),
        ("CALL set_password(?, ?)", &[0, 1]),
        ("SELECT 1 FROM t WHERE password IS NOT ? AND a = ?", &[0]),
        ("SELECT 1 FROM t WHERE coalesce(password, ?) = ? AND a = ?", &[0, 1]),
    ];
    for (sql, expected) in cases {
        assert_eq!(sensitive(&sqlite(sql)), *expected, "{sql}");
    }
}

#[test]
fn dialects_find_their_own_secrets() {
    let cases: &[(System, &str, &[usize])] = &[
        (System::Postgres, "UPDATE t SET password = $2, a = $1 WHERE password::text = $3 AND id = $4", &[1, 2]),
        (System::Postgres, "SELECT 1 FROM t WHERE token = ANY($1) AND a = $2", &[0]),
        (System::Postgres, "SELECT 1 FROM t WHERE password IS DISTINCT FROM $1 AND a = $2", &[0]),
        (
            System::Postgres,
            "MERGE INTO t USING s ON t.a = $1 WHEN NOT MATCHED THEN INSERT (a, password) VALUES ($2, $3)",
            &[2],
        ),
        (System::Postgres, "WITH n AS (INSERT INTO t (a, password) VALUES ($1, $2) RETURNING id) SELECT $3", &[1]),
        (
            System::Mysql,
            "INSERT t (a, password) VALUE (?, ?) ON DUPLICATE KEY UPDATE password = VALUES(password), a = ?",
            &[1],
        ),
        (System::Mysql, "INSERT INTO t SET a = ?, password = ?", &[1]),
        (System::Mysql, "SET @token = ?", &[0]),
        (System::Mysql, "SELECT 1 /*! WHERE password = ? */", &[0]),
        (System::Mysql, "SELECT 1 FROM t WHERE 2fa_secret = ?", &[0]),
    ];
    for (system, sql, expected) in cases {
        assert_eq!(sensitive(&analyse(sql, *system)), *expected, "{sql}");
    }
}

#[test]
fn literals_at_secret_places_are_taken_out_of_the_text() {
    let cases = [
        (System::Sqlite, "UPDATE t SET password = 'S3cret', a = 'open'"),
        (System::Sqlite, "SELECT 1 FROM t WHERE pin = 'S3cret' AND a = 'open'"),
        (System::Sqlite, "SELECT 1 FROM t WHERE password = \"S3cret\" AND a = 'open'"),
        (System::Sqlite, "INSERT INTO t (a, token) VALUES ('open', 'S3cret'), ('open', \"S3cret\")"),
        (System::Sqlite, "PRAGMA key = 'S3cret' -- open"),
        (System::Postgres, "ALTER USER open WITH ENCRYPTED PASSWORD 'S3cret'"),
        (System::Postgres, "ALTER ROLE open PASSWORD E'S3cret'"),
        (System::Postgres, "UPDATE t SET password = $x$S3cret$x$, a = 'open'"),
        (System::Mysql, "CREATE USER 'open'@'localhost' IDENTIFIED BY 'S3cret'"),
        (System::Mysql, "CREATE USER 'open' IDENTIFIED WITH mysql_native_password AS \"S3cret\""),
        (System::Mysql, "SET PASSWORD FOR open = 'S3cret'"),
        (System::Mysql, "SET PASSWORD FOR 'bob'@'%' = PASSWORD('S3cret') -- open"),
        (System::Mysql, "CHANGE MASTER TO MASTER_USER='open', MASTER_PASSWORD='S3cret'"),
    ];
    for (system, sql) in cases {
        let statement = analyse(sql, system);
        let text = statement.text().sql;
        assert!(!text.contains("S3cret") && text.contains("open"), "{sql} became {text}");
        assert!(text.contains("'[redacted:"), "{sql} became {text}");
        assert!(!format!("{statement:?}").contains("S3cret"), "{sql}");
        assert_eq!(statement.fingerprint(), analyse(&text, system).fingerprint(), "{text}");
    }
}

#[test]
fn numbers_are_taken_out_but_not_the_lengths_of_columns() {
    assert!(!sqlite("UPDATE t SET pin = 1234").text().sql.contains("1234"));
    let ddl = "CREATE TABLE t (id int, password VARCHAR(255), a int DEFAULT 7)";
    assert_eq!(sqlite(ddl).text().sql, ddl);
}

#[test]
fn a_policy_may_take_out_every_literal_or_none() {
    let text = |sql: &str, literals| {
        let redaction = redaction().with_literals(literals);
        Statement::analyse(sql.as_bytes(), System::Sqlite, &redaction, &Limits::default()).text().sql
    };
    let all = text("SELECT 'S3cret', 41 + 1", Literals::All);
    assert!(!all.contains("S3cret") && !all.contains("41"), "{all}");
    assert_eq!(text("SELECT 1 WHERE pin = 'x'", Literals::None), "SELECT 1 WHERE pin = 'x'");
}

#[test]
fn a_secret_has_one_hash_as_binding_and_as_literal() {
    let text = sqlite("UPDATE t SET password = 'it''s 1'").text().sql;
    let statement = sqlite("UPDATE t SET password = ?");
    let event = record_bindings(&statement, &redaction(), &Limits::default(), &[Value::Text("it's 1")]);
    let auditq_event::Binding::Redacted { kind, hmac } = &event.bindings[0] else { panic!("{event:?}") };
    let hex: String = hmac.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(kind, "text");
    assert_eq!(text, format!("UPDATE t SET password = '[redacted:{hex}]'"));
}

#[test]
fn no_binding_is_recorded_when_the_policy_says_so() {
    let redaction = redaction().with_bindings(BindingPolicy::RedactAll);
    let statement = Statement::analyse(b"SELECT ?", System::Sqlite, &redaction, &Limits::default());
    let event = record_bindings(&statement, &redaction, &Limits::default(), &[Value::Int(4711), Value::Null]);
    assert!(matches!(event.bindings[0], auditq_event::Binding::Redacted { .. }));
    assert_eq!(event.bindings[1], auditq_event::Binding::Null);
}

#[test]
fn names_may_be_replaced_and_added() {
    let only = Redaction::new(KEY).with_names(["iban"]);
    assert!(only.is_sensitive("customer_iban") && !only.is_sensitive("password"));
    let more = Redaction::new(KEY).with_more_names(["iban"]);
    assert!(more.is_sensitive("iban") && more.is_sensitive("password"));
}

#[test]
fn error_messages_lose_the_secrets_they_quote() {
    let redaction = redaction();
    let statement = analyse("INSERT INTO t (name, token) VALUES ($1, $2)", System::Postgres);
    let values = [Value::Text("alice"), Value::Text("abcd-1234")];
    assert_eq!(
        redaction.redact_error("Key (name, token)=(alice, abcd-1234) already exists.", &statement, values),
        "Key (name, token)=(alice, [redacted]) already exists."
    );
    let literal = analyse("UPDATE t SET token = 'abcd-1234'", System::Mysql);
    assert_eq!(
        redaction.redact_error("Duplicate entry 'abcd-1234' for key", &literal, []),
        "Duplicate entry '[redacted]' for key"
    );
    let number = sqlite("UPDATE t SET pin = ?");
    assert_eq!(redaction.redact_error("bad value 4711", &number, [Value::Int(4711)]), "bad value [redacted]");
    assert_eq!(redaction.redact_error("no such table: t", &number, [Value::Int(4711)]), "no such table: t");
}

#[test]
fn a_statement_with_too_many_secrets_lets_no_message_through() {
    let list = (0..300).map(|number| format!("'secret-{number}'")).collect::<Vec<_>>().join(", ");
    let statement = sqlite(&format!("SELECT 1 FROM t WHERE token IN ({list})"));
    let message = redaction().redact_error("near secret-299", &statement, []).into_owned();
    assert!(!message.contains("secret-299"), "{message}");
}

#[test]
fn bindings_over_their_limits_are_shortened_and_counted() {
    use auditq_event::Binding;
    let limits =
        Limits { binding_bytes: 8, bindings_bytes: 400, bindings_count: 5, head_bytes: 3, ..Limits::default() };
    let statement = sqlite("SELECT ?");
    let values = [
        Value::Text("éééé"),
        Value::Text("ééééé"),
        Value::Bytes(&[1, 2]),
        Value::RawText(b"\xff\xfe"),
        Value::RawText("ok".as_bytes()),
        Value::Int(6),
        Value::Int(7),
    ];
    let event = record_bindings(&statement, &redaction(), &limits, &values);
    assert_eq!(event.bindings_total, 7);
    assert_eq!(event.bindings.len(), 5);
    assert_eq!(event.bindings[0], Binding::Text("éééé".to_owned()));
    assert!(
        matches!(&event.bindings[1], Binding::Shortened { kind, cut, head } if kind == "text" && cut.len == 10 && head == "é".as_bytes())
    );
    assert!(
        matches!(&event.bindings[2], Binding::Shortened { kind, cut, head } if kind == "bytes" && cut.len == 2 && head == &[1, 2])
    );
    assert_eq!(event.bindings[3], Binding::InvalidText(vec![0xFF, 0xFE]));
    assert_eq!(event.bindings[4], Binding::Text("ok".to_owned()));
}

#[test]
fn all_bindings_together_stay_within_their_limit() {
    let text = "x".repeat(4000);
    let mut out = Vec::new();
    let values = std::iter::repeat_n(Value::Text(&text), 300);
    encode_bindings(values, &sqlite("SELECT ?"), &redaction(), &Limits::default(), &mut out);
    assert!(out.len() <= 16 * 1024 + 4, "{}", out.len());
}

#[test]
fn the_query_hash_is_what_it_was_in_the_first_release() {
    assert_eq!(query_hash(1, b"abc", "alice"), 0xddc138c477305d82);
    assert_ne!(query_hash(1, b"abc", "alice"), query_hash(1, b"abc", "bob"));
    assert_ne!(query_hash(1, b"abc", "alice"), query_hash(1, b"abd", "alice"));
    assert_ne!(query_hash(1, b"abc", "alice"), query_hash(2, b"abc", "alice"));
}

fn record_bindings(statement: &Statement, redaction: &Redaction, limits: &Limits, values: &[Value<'_>]) -> Event {
    let mut bindings = Vec::new();
    encode_bindings(values.iter().copied(), statement, redaction, limits, &mut bindings);
    let mut out = Vec::new();
    Occurrence { statement: statement.encoded(), bindings: &bindings, ..Occurrence::default() }
        .encode(limits, &mut out);
    match Record::decode(&out, PRODUCER, 1) {
        Ok(Record::Event(event)) => *event,
        other => panic!("{other:?}"),
    }
}
