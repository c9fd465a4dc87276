use std::time::Duration;

use auditq::{Binding, Bindings, Operation, Status, System, TransactionOutcome, Value, suppress};

use crate::support::{alice, bob, setup, setup_with};

#[test]
fn an_event_says_all_that_the_adapter_saw() {
    let setup = setup_with(|config| config.capture.app = Some("shop".into()));
    let bindings = [Value::Int(7), Value::Text("née"), Value::Null, Value::Float(1.5), Value::Bool(true)];
    alice().run(|| {
        let mut observed = setup.observed("UPDATE orders SET a = ?, b = ?, c = ?, d = ? WHERE id = ?");
        observed.bindings = &bindings;
        observed.started_at = 1_700_000_000_000_000;
        observed.duration = Duration::from_micros(250);
        observed.rows_affected = Some(3);
        observed.rows_returned = Some(0);
        setup.recorder.record(&observed);
    });
    let events = setup.events();
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(event.statement.operation, Operation::Update);
    assert_eq!(event.statement.tables, ["orders"]);
    assert_eq!(event.bindings[1], Binding::Text("née".into()));
    assert_eq!(event.bindings.len(), 5);
    assert_eq!((event.occurred_at, event.recorded_at), (1_700_000_000_000_000, 1_700_000_000_000_250));
    assert_eq!((event.duration_us, event.outcome.rows_affected, event.outcome.rows_returned), (250, Some(3), Some(0)));
    assert_eq!(event.outcome.transaction_outcome, TransactionOutcome::Autocommit);
    assert_eq!(event.actor.username.as_deref(), Some("alice"));
    assert_eq!(event.actor.user_id.as_deref(), Some("1"));
    assert_eq!((event.database.system, event.database.name.as_deref()), (System::Sqlite, Some("shop.db")));
    assert_eq!(event.query_hash, auditq_query_hash(&setup, &bindings, "1"));
}

/// The hash as another program computes it.
fn auditq_query_hash(setup: &crate::support::Setup, bindings: &[Value<'_>], user: &str) -> u64 {
    use auditq_event::{Limits, Redaction, Statement, encode_bindings, query_hash};
    let key = std::fs::read_to_string(setup.folder.path().join("redaction.key")).unwrap();
    let key: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&key[2 * at..2 * at + 2], 16).unwrap()).collect();
    let redaction = Redaction::new(key.try_into().unwrap());
    let sql = b"UPDATE orders SET a = ?, b = ?, c = ?, d = ? WHERE id = ?";
    let statement = Statement::analyse(sql, System::Sqlite, &redaction, &Limits::default());
    let mut encoded = Vec::new();
    encode_bindings(bindings.iter().copied(), &statement, &redaction, &Limits::default(), &mut encoded);
    query_hash(statement.hash(), &encoded, user)
}

#[test]
fn a_statement_without_a_signed_in_user_is_skipped_and_counted() {
    let setup = setup();
    setup.record("SELECT 1");
    auditq::Context::new(auditq::Origin::default()).run(|| setup.record("SELECT 2"));
    alice().run(|| setup.record("SELECT 3"));
    let stats = setup.recorder.stats();
    assert_eq!((stats.skipped_anonymous, stats.recorded), (2, 1));
    assert_eq!(setup.events().len(), 1);
}

#[test]
fn anonymous_statements_are_kept_when_asked_for() {
    let setup = setup_with(|config| config.capture.track_anonymous = true);
    setup.record("SELECT 1");
    assert_eq!(setup.events()[0].actor, auditq::Actor::default());
    assert_eq!(setup.recorder.stats().skipped_anonymous, 0);
}

#[test]
fn a_disabled_recorder_records_nothing_and_makes_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::support::small_config(&folder.path().join("spool"));
    config.capture.enabled = false;
    let recorder = auditq::Recorder::open(&config).unwrap();
    let source = auditq::Source::new(System::Sqlite, "", "");
    alice().run(|| recorder.record(&auditq::Observed::new(&source, "SELECT 1")));
    assert_eq!((recorder.stats().skipped_disabled, recorder.stats().recorded), (1, 0));
    assert!(!folder.path().join("spool").exists());
}

#[test]
fn what_is_suppressed_is_not_recorded_even_for_a_user() {
    let setup = setup();
    alice().run(|| {
        let guard = suppress();
        setup.record("SELECT 1");
        drop(guard);
        setup.record("SELECT 2");
    });
    let events = setup.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].statement.sql, "SELECT 2");
    assert_eq!(setup.recorder.stats().skipped_suppressed, 1);
}

#[test]
fn a_failed_statement_is_recorded_with_its_error_and_without_the_secrets_in_it() {
    let setup = setup();
    alice().run(|| {
        let bindings = [Value::Text("alice@example.com"), Value::Text("correct horse")];
        let mut observed = setup.observed("INSERT INTO users (email, password) VALUES (?, ?)");
        observed.bindings = &bindings;
        observed.status = Status::Error;
        observed.error_code = Some("2067");
        observed.error_message = Some("UNIQUE failed for (alice@example.com, correct horse)");
        setup.recorder.record(&observed);
    });
    let event = &setup.events()[0];
    assert_eq!(event.outcome.status, Status::Error);
    assert_eq!(event.outcome.error_code.as_deref(), Some("2067"));
    assert_eq!(event.outcome.error_message.as_deref(), Some("UNIQUE failed for (alice@example.com, [redacted])"));
    assert!(matches!(event.bindings[1], Binding::Redacted { .. }), "{:?}", event.bindings);
    let spool = std::fs::read_dir(setup.folder.path()).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let files = spool.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten());
    for file in files.filter(|file| file.path().is_file()) {
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(13).any(|window| window == b"correct horse"), "{:?}", file.path());
    }
}

#[test]
fn rows_affected_are_not_believed_of_a_statement_that_changes_none() {
    let setup = setup();
    alice().run(|| {
        for sql in ["SELECT * FROM t", "PRAGMA user_version", "CREATE TABLE t (a)"] {
            let mut observed = setup.observed(sql);
            observed.rows_affected = Some(5);
            setup.recorder.record(&observed);
        }
    });
    assert!(setup.events().iter().all(|event| event.outcome.rows_affected.is_none()));
}

#[test]
fn bindings_that_panic_do_not_reach_the_application() {
    struct Panicking;
    impl Bindings for Panicking {
        fn lend(&self, _: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
            panic!("an adapter's mistake")
        }
    }
    let setup = setup();
    alice().run(|| {
        let mut observed = setup.observed("SELECT ?");
        observed.bindings = &Panicking;
        setup.recorder.record(&observed);
        setup.record("SELECT 1");
    });
    assert_eq!((setup.recorder.stats().dropped_panicked, setup.recorder.stats().recorded), (1, 1));
}

#[test]
fn bindings_are_not_looked_at_for_what_is_not_recorded() {
    struct Untouched;
    impl Bindings for Untouched {
        fn lend(&self, _: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
            panic!("nobody is signed in")
        }
    }
    let setup = setup();
    let mut observed = setup.observed("SELECT ?");
    observed.bindings = &Untouched;
    setup.recorder.record(&observed);
    assert_eq!((setup.recorder.stats().skipped_anonymous, setup.recorder.stats().dropped_panicked), (1, 0));
}

#[test]
fn recording_within_recording_works() {
    struct Reentrant<'s>(&'s crate::support::Setup);
    impl Bindings for Reentrant<'_> {
        fn lend(&self, then: &mut dyn FnMut(&mut dyn Iterator<Item = Value<'_>>)) {
            self.0.record("SELECT 'inner'");
            then(&mut [Value::Int(1)].into_iter());
        }
    }
    let setup = setup();
    alice().run(|| {
        let bindings = Reentrant(&setup);
        let mut observed = setup.observed("SELECT ?");
        observed.bindings = &bindings;
        setup.recorder.record(&observed);
    });
    let events = setup.events();
    assert_eq!(events[0].statement.sql, "SELECT 'inner'");
    assert_eq!((events[1].statement.sql.as_str(), events[1].bindings.as_slice()), ("SELECT ?", &[Binding::Int(1)][..]));
}

#[test]
fn sql_and_texts_that_are_not_utf_8_are_recorded() {
    let setup = setup();
    alice().run(|| {
        let bindings = [Value::RawText(b"a\xff")];
        let mut observed = auditq::Observed::new(&setup.source, b"SELECT '\xfe', ?");
        observed.bindings = &bindings;
        setup.recorder.record(&observed);
    });
    let event = &setup.events()[0];
    assert!(event.statement.invalid_utf8);
    assert_eq!(event.bindings, [Binding::InvalidText(b"a\xff".to_vec())]);
}

#[test]
fn many_threads_lose_nothing_and_mix_no_users() {
    let setup = setup();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let setup = &setup;
            scope.spawn(move || {
                let context = if thread % 2 == 0 { alice() } else { bob() };
                let _inside = context.enter();
                for number in 0..2_000 {
                    setup.record(&format!("SELECT {number} /* {} {thread} */", thread % 2));
                }
            });
        }
    });
    let events = setup.events();
    assert_eq!(events.len(), 16_000);
    let mut seqs: Vec<u64> = events.iter().map(|event| event.producer_seq).collect();
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(0..16_000), "producer_seq has no holes");
    for event in events {
        let expected = if event.statement.sql.contains("/* 0 ") { "alice" } else { "bob" };
        assert_eq!(event.actor.username.as_deref(), Some(expected));
    }
}
