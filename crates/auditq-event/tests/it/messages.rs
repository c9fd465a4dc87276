use auditq_event::{Event, MAX_MESSAGE_BYTES, Message, MessageError, ProducerLabel, Record, is_auditq};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use crate::support::{PRODUCER, full_event};

fn label() -> ProducerLabel {
    ProducerLabel { producer_id: PRODUCER, app: Some("shop".into()), host: Some("web-1".into()), pid: Some(7) }
}

fn message(records: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let records: Vec<(u64, &[u8])> = records.iter().map(|(seq, bytes)| (*seq, bytes.as_slice())).collect();
    Message::build(&label(), &records)
}

fn parse(payload: &[u8]) -> Result<Message, MessageError> {
    Message::parse(payload, MAX_MESSAGE_BYTES)
}

fn three() -> Vec<(u64, Vec<u8>)> {
    vec![(1, Event { occurred_at: 1, ..Event::default() }.encode()), (2, vec![9, 9]), (300, full_event().encode())]
}

#[test]
fn a_message_gives_back_its_records_and_fills_in_where_they_come_from() {
    let read = parse(&message(&three())).expect("readable");
    assert_eq!((read.len(), read.exceptions(), read.label()), (3, 0, &label()));
    let records: Vec<_> = read.records().collect();
    let Ok(Record::Event(first)) = &records[0].1 else { panic!("{:?}", records[0]) };
    assert_eq!((first.producer_seq, first.producer_id), (1, PRODUCER));
    assert_eq!((first.database.app.as_deref(), first.database.pid), (Some("shop"), Some(7)));
    assert!(records[1].1.is_err(), "a bad record does not hold up the others");
    let Ok(Record::Event(last)) = &records[2].1 else { panic!("{:?}", records[2]) };
    assert_eq!(last.database.app.as_deref(), Some("shop-web"), "what an event says itself counts");
}

#[test]
fn a_message_is_an_envelope_that_laravel_can_show() {
    let payload = message(&three());
    let json: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
    assert_eq!(json["displayName"], "auditq: 3 statements");
    assert_eq!(json["job"], "auditq@batch");
    assert!(json["maxTries"].is_null() && json["timeout"].is_null());
    assert!(!payload.contains(&0) && is_auditq(&payload));
}

#[test]
fn a_message_of_version_1_is_read_by_every_release() {
    let old = parse(include_bytes!("../fixtures/v1/message.json")).expect("readable");
    let now = parse(&message(&three())).expect("readable");
    assert_eq!((old.uuid(), old.label(), old.exceptions()), (now.uuid(), now.label(), now.exceptions()));
    assert_eq!(format!("{:?}", old.records().collect::<Vec<_>>()), format!("{:?}", now.records().collect::<Vec<_>>()));
}

#[test]
fn statements_that_are_alike_take_little_room() {
    let event = full_event().encode();
    let records: Vec<(u64, Vec<u8>)> = (0..500).map(|seq| (seq, event.clone())).collect();
    let payload = message(&records);
    assert!(payload.len() * 10 < event.len() * 500, "{} bytes", payload.len());
}

/// An envelope around records that are not what `build` would write.
fn envelope(body: &[u8], size: usize) -> String {
    let text = String::from_utf8(message(&three())).expect("UTF-8");
    let at = text.find("\"size\"").expect("a size");
    let records = URL_SAFE_NO_PAD.encode(lz4_flex::block::compress(body));
    format!("{}\"size\":{size},\"records\":\"{records}\"}}}}", &text[..at])
}

#[test]
fn a_size_that_is_a_lie_costs_no_memory() {
    let body = vec![7; 1000];
    assert!(matches!(parse(envelope(&body, 999).as_bytes()), Err(MessageError::Lz4(_))));
    let lie = parse(envelope(&body, usize::MAX).as_bytes());
    assert!(matches!(lie, Err(MessageError::TooLarge { unit: "bytes", have: usize::MAX, .. })));
    assert!(matches!(parse(envelope(&body, MAX_MESSAGE_BYTES).as_bytes()), Err(MessageError::UnknownVersion(7))));
    assert!(matches!(parse(envelope(&[1, 0xff], 2).as_bytes()), Err(MessageError::Records(_))));
}

#[test]
fn the_same_batch_is_the_same_message() {
    let uuid = |records: &[(u64, Vec<u8>)]| parse(&message(records)).expect("readable").uuid();
    assert_eq!(uuid(&three()), uuid(&three()));
    assert_ne!(uuid(&three()), uuid(&three()[..2]));
}

#[test]
fn a_message_that_shrinks_keeps_its_uuid_and_what_is_left() {
    let whole = parse(&message(&three())).expect("readable");
    let rest = parse(&whole.keep(|index| index == 1, 2)).expect("readable");
    assert_eq!((rest.uuid(), rest.exceptions(), rest.len()), (whole.uuid(), 2, 1));
    assert_eq!(rest.records().map(|(seq, _)| seq).collect::<Vec<_>>(), [2]);
    assert_eq!(parse(&rest.keep(|_| true, 2)).expect("readable").len(), 1);
}

#[test]
fn a_message_that_laravel_wrote_again_is_still_read() {
    let text = String::from_utf8(message(&three())).expect("UTF-8");
    let again = text
        .replace("{\"uuid\"", "{\"id\":\"x\",\"attempts\":0,\"uuid\"")
        .replace('@', "\\u0040")
        .replace(":1,", ": 1, ");
    assert_eq!(parse(again.as_bytes()).expect("readable").len(), 3);
    let records = text.split("\"records\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("records");
    let standard = records.replace('-', "+").replace('_', "\\/") + &"=".repeat((4 - records.len() % 4) % 4);
    let standard = text.replace(records, &standard);
    assert_eq!(parse(standard.as_bytes()).expect("readable").len(), 3);
}

#[test]
fn what_is_not_ours_is_told_from_what_is_damaged() {
    let laravel = br#"{"uuid":"x","displayName":"App\\Jobs\\Send","job":"Illuminate\\Queue\\CallQueuedHandler@call","data":{"command":"\"job\":\"auditq@batch\""}}"#;
    assert!(!is_auditq(laravel) && !is_auditq(b"") && !is_auditq(b"\"job\":\"auditq@batch\""));
    assert!(matches!(parse(laravel), Err(MessageError::NotOurs(job)) if job.contains("CallQueuedHandler")));
    assert!(matches!(parse(b"\xff"), Err(MessageError::Envelope(_))));
    assert!(matches!(parse(b"{}"), Err(MessageError::Envelope(_))));
    let text = String::from_utf8(message(&three())).expect("UTF-8");
    assert!(matches!(
        parse(text.replace("\"auditq\":1", "\"auditq\":2").as_bytes()),
        Err(MessageError::UnknownVersion(2))
    ));
    assert!(matches!(
        parse(text.replace("\"records\":\"", "\"records\":\"*").as_bytes()),
        Err(MessageError::Base64(_))
    ));
    let uuid = parse(text.as_bytes()).expect("readable").uuid();
    assert!(matches!(parse(text.replace(&uuid, "no").as_bytes()), Err(MessageError::Uuid(_))));
    assert!(matches!(
        parse(text.replace("\"}}", "AAAA\"}}").as_bytes()),
        Err(MessageError::Lz4(_) | MessageError::Base64(_))
    ));
}

#[test]
fn a_message_over_its_limits_is_refused() {
    let payload = message(&three());
    assert!(matches!(Message::parse(&payload, payload.len() - 1), Err(MessageError::TooLarge { unit: "bytes", .. })));
    let many: Vec<(u64, Vec<u8>)> = (0..=65_536).map(|seq| (seq, Vec::new())).collect();
    assert!(matches!(parse(&message(&many)), Err(MessageError::TooLarge { unit: "records", have: 65_537, .. })));
    assert_eq!(parse(&message(&many[..65_536])).expect("readable").len(), 65_536);
}

proptest! {
    #[test]
    fn any_records_come_back(records in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..9)) {
        let read = parse(&message(&records)).expect("readable");
        let again = read.keep(|_| true, 0);
        prop_assert_eq!(again, message(&records));
    }
}
