use auditq_event::{
    Binding, Cut, DecodeError, Event, Gap, Limits, Occurrence, Operation, Record, Target, TransactionOutcome, Value,
    bindings_json, encode_bindings, encode_database, parse_bindings_json, parse_truncated_json, truncated_json,
};
use proptest::prelude::*;

use crate::support::{PRODUCER, full_event, redaction, sqlite};

fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    Record::decode(bytes, PRODUCER, 42)
}

fn records() -> [(&'static str, Record); 4] {
    let target = Target { occurred_at: 1_700_000_000_123_456, seq: 42 };
    [
        ("event", Record::Event(Box::new(full_event()))),
        ("repeat", Record::Repeat { target, count: 7, last_at: -1 }),
        (
            "outcome",
            Record::Outcome {
                outcome: TransactionOutcome::Committed,
                targets: vec![target, Target { occurred_at: i64::MIN, seq: u64::MAX }],
            },
        ),
        ("gap", Record::Gap(Gap { first_at: 1, last_at: i64::MAX, lost: 9, reason: "the spool is full".to_owned() })),
    ]
}

#[test]
fn every_kind_of_record_comes_back_with_every_field() {
    for (name, record) in records() {
        assert_eq!(decode(&record.encode()).as_ref(), Ok(&record), "{name}");
    }
}

#[test]
fn what_else_an_application_said_comes_back() {
    let event = Event { extra: Some("{\"größe\":1}".to_owned()), ..full_event() };
    assert_eq!(decode(&event.encode()), Ok(Record::Event(Box::new(event))));
}

#[test]
fn records_of_the_first_release_can_be_read_forever() {
    for (name, record) in records() {
        let path = format!("{}/tests/fixtures/v1/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(format!("{path}.bin")).expect("the fixture is in the repository");
        let text = std::fs::read_to_string(format!("{path}.json")).expect("the fixture is in the repository");
        let said: String = serde_json::from_str(&text).expect("the fixture is a JSON string");
        let read = decode(&bytes).expect("the record is readable");
        assert_eq!(format!("{read:#?}"), said, "{name}");
        assert_eq!(read, record, "{name}");
    }
}

#[test]
fn an_unknown_version_or_kind_says_so() {
    assert_eq!(decode(&[2, 1]), Err(DecodeError::UnknownVersion(2)));
    assert_eq!(decode(&[1, 200]), Err(DecodeError::UnknownKind(200)));
    assert_eq!(decode(&[]), Err(DecodeError::Truncated));
    assert!(decode(&[2, 1]).unwrap_err().to_string().contains("upgrade auditq"));
}

#[test]
fn fields_of_a_newer_release_are_skipped_and_the_last_of_two_counts() {
    let mut bytes = full_event().encode();
    // Number 300 as varint, as fixed and as bytes; then the duration again.
    bytes.extend([0xB0, 0x09, 5, 0xB1, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0xB2, 0x09, 2, 0xFF, 0xFF, 3 << 2, 77]);
    let expected = Event { duration_us: 77, ..full_event() };
    assert_eq!(decode(&bytes), Ok(Record::Event(Box::new(expected))));
}

#[test]
fn a_record_cut_anywhere_is_an_error_or_a_shorter_record_and_never_a_panic() {
    for (_, record) in records() {
        let bytes = record.encode();
        for end in 0..bytes.len() {
            assert_ne!(decode(&bytes[..end]).ok().as_ref(), Some(&record), "{end}");
        }
    }
}

#[test]
fn a_hostile_count_is_refused_before_memory_is_taken() {
    // An event whose bindings are 70,000 NULLs.
    let mut bytes = vec![1, 1, 6 << 2 | 2, 0xF0, 0xA2, 0x04];
    bytes.extend(std::iter::repeat_n(0, 70_000));
    assert_eq!(decode(&bytes), Err(DecodeError::Malformed("more than 65536 bindings")));
    // A text that says it is 2⁶⁰ bytes long.
    let bytes = [1, 1, 8 << 2 | 2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    assert_eq!(decode(&bytes), Err(DecodeError::Truncated));
}

#[test]
fn the_hot_path_writes_what_an_event_would() {
    let limits = Limits::default();
    let statement = sqlite("SELECT * FROM orders WHERE id = ?");
    let event = full_event();
    let mut bindings = Vec::new();
    encode_bindings([Value::Int(7)], &statement, &redaction(), &limits, &mut bindings);
    let long = "x".repeat(2000);
    let mut out = Vec::new();
    Occurrence {
        occurred_at: 5,
        statement: statement.encoded(),
        bindings: &bindings,
        context: [&encode_database(&event.database, &limits), &[], &[]],
        error_message: Some(&long),
        rows_returned: Some(1),
        ..Occurrence::default()
    }
    .encode(&limits, &mut out);
    let Ok(Record::Event(read)) = decode(&out) else { panic!("not an event") };
    assert_eq!(read.statement, statement.text());
    assert_eq!(read.statement.operation, Operation::Select);
    assert_eq!(read.bindings, [Binding::Int(7)]);
    assert_eq!((read.bindings_total, read.repeat_count, read.last_at), (1, 1, 5));
    assert_eq!(read.database, event.database);
    let message = read.outcome.error_message.expect("it was given");
    assert!(message.len() <= 1024 && message.ends_with('…'));
}

#[test]
fn a_gap_becomes_an_event_that_says_how_many_were_lost() {
    let label = auditq_event::ProducerLabel { producer_id: PRODUCER, app: Some("shop".into()), ..Default::default() };
    let event = Gap { first_at: 1, last_at: 2, lost: 9, reason: "the spool is full".to_owned() }.to_event(&label, 3);
    assert_eq!(event.statement.operation, Operation::Gap);
    assert_eq!(event.statement.sql, "-- 9 events lost: the spool is full");
    assert_eq!((event.repeat_count, event.database.app.as_deref()), (9, Some("shop")));
    assert_eq!(event.event_id, Target { occurred_at: 1, seq: 3 }.event_id(&PRODUCER));
}

#[test]
fn bindings_as_json_are_what_they_were_in_the_first_release() {
    let json = bindings_json(&full_event().bindings);
    assert_eq!(json, include_str!("../fixtures/v1/bindings.json").trim_end());
    assert_eq!(parse_bindings_json(&json).expect("readable"), full_event().bindings);
}

#[test]
fn what_json_cannot_say_comes_back_too() {
    let bindings = vec![
        Binding::Float(f64::INFINITY),
        Binding::Float(f64::NEG_INFINITY),
        Binding::Float(1.0),
        Binding::Float(-0.0),
        Binding::Float(5e-324),
        Binding::Uint(u64::MAX),
    ];
    let json = bindings_json(&bindings);
    assert_eq!(parse_bindings_json(&json).expect("readable"), bindings);
    assert!(matches!(parse_bindings_json(&bindings_json(&[Binding::Float(f64::NAN)])).expect("readable")[0],
        Binding::Float(value) if value.is_nan()));
    assert!(parse_bindings_json("[[1]]").is_err());
    assert!(parse_bindings_json("{").is_err());
    assert!(parse_bindings_json("[{\"type\":\"text\",\"redacted\":\"hmac:zz\"}]").is_err());
}

#[test]
fn what_was_cut_is_said_and_read_back() {
    let event = full_event();
    let json = truncated_json(&event).expect("something was cut");
    let read = parse_truncated_json(&json).expect("readable");
    assert_eq!(read.sql, event.statement.cut);
    assert!(read.invalid_utf8);
    assert_eq!(read.bindings, Some((300, 14)));
    assert_eq!(truncated_json(&Event::default()), None);
    assert!(parse_truncated_json("{\"sql\":1}").is_err());
}

fn any_binding() -> impl Strategy<Value = Binding> {
    let cut = (any::<u64>(), any::<[u8; 32]>()).prop_map(|(len, sha256)| Cut { len, sha256 });
    let kind = prop_oneof![Just("text".to_owned()), Just("bytes".to_owned()), "[a-z]{3,9}"];
    prop_oneof![
        Just(Binding::Null),
        any::<bool>().prop_map(Binding::Bool),
        any::<i64>().prop_map(Binding::Int),
        (i64::MAX as u64 + 1..=u64::MAX).prop_map(Binding::Uint),
        proptest::num::f64::NORMAL.prop_map(Binding::Float),
        any::<String>().prop_map(Binding::Text),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Binding::InvalidText),
        ("[a-z]{6,9}", any::<String>()).prop_map(|(name, text)| Binding::Typed(name, text)),
        (kind.clone(), cut, proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, cut, head)| Binding::Shortened { kind, cut, head }),
        (kind, any::<[u8; 16]>()).prop_map(|(kind, hmac)| Binding::Redacted { kind, hmac }),
    ]
}

proptest! {
    #[test]
    fn any_event_comes_back(
        sql in any::<String>(),
        tables in proptest::collection::vec(any::<String>(), 0..5),
        bindings in proptest::collection::vec(any_binding(), 0..9),
        numbers in any::<(i64, i64, u64, u64, u64, u32)>(),
        username in any::<Option<String>>(),
        rows in any::<Option<u64>>(),
    ) {
        let mut event = full_event();
        (event.recorded_at, event.last_at, event.duration_us, event.query_hash, _, event.bindings_total) = numbers;
        event.repeat_count = numbers.4.max(1);
        event.statement.sql = sql;
        event.statement.tables = tables;
        event.bindings = bindings;
        event.actor.username = username;
        event.outcome.rows_affected = rows;
        prop_assert_eq!(decode(&event.encode()), Ok(Record::Event(Box::new(event))));
    }

    #[test]
    fn any_bindings_come_back_from_json(bindings in proptest::collection::vec(any_binding(), 0..9)) {
        let json = bindings_json(&bindings);
        prop_assert_eq!(parse_bindings_json(&json).expect("readable"), bindings);
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }
}
