//! Any payload is a message of queries, something else, or an error; what is kept of a message is one again, and the same.
#![no_main]

use auditq_event::{Limits, Record, Redaction};
use auditq_laravel::{Postmark, QueriesReader};
use libfuzzer_sys::fuzz_target;

fn check(reader: &QueriesReader, payload: &[u8]) {
    let _ = Postmark::read(payload);
    let Ok(Some(queries)) = reader.read(payload) else { return };
    for (_, record) in queries.records() {
        if let Ok(Record::Event(event)) = record {
            Record::decode(&event.encode(), event.producer_id, event.producer_seq).expect("an event can be encoded");
        }
    }
    let again = reader.read(&queries.keep(|_| true, 1)).expect("it was read before").expect("it is one of ours");
    assert_eq!((again.len(), again.exceptions()), (queries.len(), 1));
    for ((_, before), (_, after)) in queries.records().zip(again.records()) {
        // NaN is not equal to itself.
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let reader = QueriesReader::new(Redaction::new([1; 32]), Limits::default());
    check(&reader, bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let batch = serde_json::to_string(text).expect("a text is JSON");
    let data = format!("\"auditq\":1,\"producer\":\"{}\",\"batch\":{batch}", "ab".repeat(16));
    check(&reader, format!("{{\"job\":\"auditq@queries\",\"data\":{{{data}}}}}").as_bytes());
});
