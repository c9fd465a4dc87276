//! Messages of queries, as the package for Laravel writes them, and damaged in every way.

use auditq_event::{
    ActorType, Binding, EventId, Limits, OriginKind, Record, Redaction, Status, System, TransactionOutcome,
};
use auditq_laravel::{Queries, QueriesError, QueriesReader};
use serde_json::{Value as Json, json};

const UUID: &str = "7f2b1c1e-0d5b-4d43-9d6c-5f2c5a3a9a10";
const PRODUCER: [u8; 16] = [0xab; 16];

fn reader() -> QueriesReader {
    QueriesReader::new(Redaction::new([7; 32]), Limits::default())
}

fn batch() -> Json {
    json!({
        "actors": [{"type": "user", "id": "7", "name": "alice", "guard": "web", "tenant": "t-1"}, {}],
        "databases": [{"connection": "app", "system": "pgsql", "name": "shop"}],
        "statements": [
            "select * from orders where id = ? and status = ?",
            "update users set password = ? where id = 7",
            {"sql": "select 'long", "len": 100_000, "sha256": "ab".repeat(32)},
        ],
        "items": [
            {"seq": 1, "lost": 5, "first_at": 1_700_000_000_000_000_i64, "last_at": 1_700_000_000_000_009_i64, "reason": "full"},
            {"seq": 2, "at": 1_700_000_000_123_456_i64, "us": 250, "statement": 0, "database": 0, "actor": 0,
                "bindings": [17, "paid"], "returned": 3, "tx": "t1", "repeat": 4, "last_at": 1_700_000_000_200_000_i64},
            {"seq": 3, "at": 1_700_000_000_123_500_i64, "us": 9, "statement": 1, "database": 0, "actor": 1,
                "bindings": [{"secret": "text", "hmac": "0f".repeat(16)}], "status": "error", "error_code": "23505",
                "error": "no", "outcome": "rolled back"},
            {"outcome": "committed", "of": [[1_700_000_000_123_456_i64, 2]]},
        ],
    })
}

fn payload(batch: &Json) -> Json {
    json!({
        "uuid": UUID, "displayName": "auditq: 4 queries", "job": "auditq@queries", "maxTries": null, "id": UUID, "attempts": 0,
        "data": {
            "auditq": 1, "producer": "ab".repeat(16), "app": "shop", "host": "web-1", "pid": 4711, "count": 4,
            "origin": {"kind": "http", "method": "GET", "path": "/orders?token=x", "ip": "192.0.2.7"},
            "batch": batch.to_string(),
        },
    })
}

fn read(payload: &Json) -> Queries {
    reader().read(payload.to_string().as_bytes()).unwrap().unwrap()
}

fn records(queries: &Queries) -> Vec<Record> {
    queries.records().map(|(_, record)| record.clone().unwrap()).collect()
}

fn item(item: Json) -> Result<Record, String> {
    let mut batch = batch();
    batch["items"] = json!([item]);
    let queries = read(&payload(&batch));
    let (_, record) = queries.records().next().unwrap();
    record.clone().map_err(|error| error.to_string())
}

fn bindings(list: Json) -> Result<Vec<Binding>, String> {
    let record = item(json!({"seq": 1, "at": 1, "statement": 0, "bindings": list}))?;
    let Record::Event(event) = record else { panic!("{record:?}") };
    Ok(event.bindings)
}

#[test]
fn every_part_of_a_query_is_read() {
    let queries = read(&payload(&batch()));
    assert_eq!((queries.uuid(), queries.len(), queries.exceptions()), (Some(UUID), 4, 0));
    let records = records(&queries);
    let Record::Gap(gap) = &records[0] else { panic!("{:?}", records[0]) };
    assert_eq!((gap.lost, gap.reason.as_str()), (5, "full"));
    let Record::Event(event) = &records[1] else { panic!("{:?}", records[1]) };
    assert_eq!(event.event_id, EventId::derive(1_700_000_000_123_456, &PRODUCER, 2));
    assert_eq!((event.producer_seq, event.duration_us, event.repeat_count), (2, 250, 4));
    assert_eq!(event.last_at, 1_700_000_000_200_000);
    assert_eq!(event.bindings, [Binding::Int(17), Binding::Text("paid".to_owned())]);
    assert_eq!(event.statement.tables, ["orders"]);
    assert_eq!((event.outcome.status, event.outcome.rows_returned), (Status::Ok, Some(3)));
    assert_eq!(event.outcome.transaction_id.as_deref(), Some("t1"));
    assert_eq!(event.outcome.transaction_outcome, TransactionOutcome::Unknown);
    assert_eq!((event.actor.user_id.as_deref(), event.actor.tenant.as_deref()), (Some("7"), Some("t-1")));
    assert_eq!(event.extra.as_deref(), Some("{\"guard\":\"web\"}"));
    assert_eq!((event.origin.kind, event.origin.url_path.as_deref()), (OriginKind::Http, Some("/orders")));
    assert_eq!((event.database.system, event.database.pid), (System::Postgres, Some(4711)));
    let Record::Event(event) = &records[2] else { panic!("{:?}", records[2]) };
    assert_eq!(event.bindings, [Binding::Redacted { kind: "text".to_owned(), hmac: [0x0f; 16] }]);
    assert_eq!((event.outcome.status, event.outcome.error_code.as_deref()), (Status::Error, Some("23505")));
    assert_eq!(event.actor.actor_type, ActorType::Anonymous);
    assert!(matches!(&records[3], Record::Outcome { targets, .. } if targets[0].seq == 2));
}

#[test]
fn the_same_message_makes_the_same_events() {
    assert_eq!(records(&read(&payload(&batch()))), records(&read(&payload(&batch()))));
}

/// What Laravel's pop in Redis does: keys in any order, numbers cut, empty lists as objects.
#[test]
fn a_pop_by_laravel_harms_nothing() {
    let text = payload(&batch()).to_string();
    let mut popped: Json = serde_json::from_str(&text).unwrap();
    popped["attempts"] = json!(1.0);
    popped["data"]["pid"] = json!(4711.0);
    popped["data"]["auditq"] = json!(1.0);
    popped["tags"] = json!({});
    assert_eq!(records(&read(&popped)), records(&read(&payload(&batch()))));
}

#[test]
fn secrets_that_were_left_in_are_taken_out() {
    let record =
        item(json!({"seq": 1, "at": 1, "statement": 1, "bindings": ["hunter2"], "error": "not 'hunter2'"})).unwrap();
    let Record::Event(event) = record else { panic!("{record:?}") };
    assert!(matches!(event.bindings[..], [Binding::Redacted { .. }]));
    assert_eq!(event.outcome.error_message.as_deref(), Some("not '[redacted]'"));
}

#[test]
fn bindings_keep_their_types() {
    let all = bindings(json!([
        null, true, -1, u64::MAX, 1.5, 1.0, "1", {"base64": "/w=="}, {"float": "-INF"}, {"type": "datetime", "text": "2026-01-01"},
        {"cut": "text", "len": 5000, "sha256": "cd".repeat(32), "head": "x".repeat(100)},
    ]));
    let all = all.unwrap();
    assert_eq!(
        all[..7],
        [
            Binding::Null,
            Binding::Bool(true),
            Binding::Int(-1),
            Binding::Uint(u64::MAX),
            Binding::Float(1.5),
            Binding::Float(1.0),
            Binding::Text("1".to_owned()),
        ]
    );
    assert!(matches!(&all[7], Binding::Shortened { kind, cut, .. } if kind == "bytes" && cut.len == 1));
    assert_eq!(all[8], Binding::Float(f64::NEG_INFINITY));
    assert_eq!(all[9], Binding::Typed("datetime".to_owned(), "2026-01-01".to_owned()));
    assert!(matches!(&all[10], Binding::Shortened { cut, head, .. } if cut.len == 5000 && head.len() == 64));
    assert_eq!(bindings(json!({})).unwrap(), []);
}

#[test]
fn more_bindings_than_are_kept_are_counted() {
    let record = item(json!({"seq": 1, "at": 1, "statement": 2, "bindings": [1], "bindings_total": 900})).unwrap();
    let Record::Event(event) = record else { panic!("{record:?}") };
    assert_eq!((event.bindings.len(), event.bindings_total), (1, 900));
    assert_eq!(event.statement.cut.as_ref().map(|cut| cut.len), Some(100_000));
}

#[test]
fn one_damaged_item_says_why_and_holds_up_no_other() {
    let problem = |broken: Json| item(broken).unwrap_err();
    assert_eq!(problem(json!(7)), "cannot read item 0 of the queries: it is no object");
    assert!(problem(json!({"at": 1, "statement": 0})).ends_with("it has no seq"));
    assert!(problem(json!({"seq": -1, "at": 1, "statement": 0})).ends_with("it has no seq"));
    assert!(problem(json!({"seq": 1, "statement": 0})).ends_with("it has no time (at)"));
    assert!(problem(json!({"seq": 1, "at": 1})).ends_with("it has no statement"));
    assert!(problem(json!({"seq": 1, "at": 1, "statement": 3})).ends_with("its statement is not in the message"));
    assert!(problem(json!({"seq": 1, "at": 1, "statement": 0, "actor": 9})).ends_with("is not in the message"));
    assert!(problem(json!({"seq": 1, "at": 1, "statement": 0, "bindings": "x"})).ends_with("its bindings are no list"));
    for broken in [json!({"base64": "%"}), json!([]), json!({"cut": "text"}), json!({"float": "1"}), json!({})] {
        assert!(bindings(json!([broken])).unwrap_err().contains("a binding"), "{broken}");
    }
    let mut batch = batch();
    batch["items"][1]["at"] = json!("x");
    let queries = read(&payload(&batch));
    assert_eq!(queries.records().filter(|(_, record)| record.is_err()).count(), 1);
}

#[test]
fn what_is_kept_is_the_same_message_with_fewer_items() {
    let queries = read(&payload(&batch()));
    let kept = queries.keep(|index| index == 2, 2);
    let kept = reader().read(&kept).unwrap().unwrap();
    assert_eq!((kept.uuid(), kept.len(), kept.exceptions()), (Some(UUID), 1, 2));
    assert_eq!(records(&kept)[0], records(&queries)[2]);
    let text = String::from_utf8(queries.keep(|index| index == 2, 2)).unwrap();
    assert!(!text.contains("select * from orders"), "what nobody refers to goes: {text}");
    assert!(text.contains("\"attempts\":0") && text.contains(UUID));
}

#[test]
fn jobs_of_others_are_left_to_others() {
    for other in ["", "{}", "{\"job\":\"Mail@send\"}", "{\"job\":\"x\",\"data\":\"auditq@queries\"}"] {
        assert!(reader().read(other.as_bytes()).unwrap().is_none(), "{other}");
    }
}

#[test]
fn damage_is_an_error_that_says_where() {
    let with = |key: &str, value: Json| {
        let mut payload = payload(&batch());
        payload["data"][key] = value;
        reader().read(payload.to_string().as_bytes()).unwrap_err()
    };
    assert_eq!(with("auditq", json!(2)), QueriesError::Version("2".to_owned()));
    assert!(with("auditq", Json::Null).to_string().contains("data.auditq is null"));
    assert!(with("producer", json!("x")).to_string().contains("producer"));
    assert!(with("batch", json!([])).to_string().contains("data.batch is no text"));
    assert!(with("batch", json!("[1]")).to_string().contains("data.batch is no object"));
    assert!(with("batch", json!("{\"items\":[]}")).to_string().contains("no items"));
    assert!(with("batch", json!("{\"items\":[1,")).to_string().contains("at byte"));
    let many = format!("{{\"items\":[{}0]}}", "0,".repeat(70_000));
    assert_eq!(with("batch", json!(many)), QueriesError::TooMany(70_001));
    let deep = format!("{{\"items\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000));
    assert!(with("batch", json!(deep)).to_string().contains("recursion limit"));
    let wide = format!("{{\"items\":[{}0]}}", "0,".repeat(2_000_000));
    assert!(with("batch", json!(wide)).to_string().contains("values"));
}

/// Cut at every byte, and with every byte replaced: an error or a message, and never a panic.
#[test]
fn any_damage_is_survived() {
    let whole = payload(&batch()).to_string().into_bytes();
    for end in 0..whole.len() {
        assert!(!matches!(reader().read(&whole[..end]), Ok(Some(_))), "cut at {end}");
    }
    for at in 0..whole.len() {
        for byte in [0, b'"', b'9', b'-', b'}', 0xFF] {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            if let Ok(Some(queries)) = reader().read(&damaged) {
                assert!(reader().read(&queries.keep(|_| true, 1)).unwrap().is_some());
            }
        }
    }
}
