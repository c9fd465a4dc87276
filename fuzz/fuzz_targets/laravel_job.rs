//! Any payload is a job or an error; any command in a sound envelope too, and a job has the same id each time.
#![no_main]

use auditq_event::{Record, Redaction};
use auditq_laravel::{AppKey, Decoder, Mapping, decrypt};
use libfuzzer_sys::fuzz_target;

fn check(decoder: &Decoder, payload: &[u8]) {
    let Ok(job) = decoder.decode(payload) else { return };
    let again = decoder.decode(payload).expect("it was read before");
    assert_eq!((again.event.event_id, &again.event.extra), (job.event.event_id, &job.event.extra));
    Record::decode(&job.event.encode(), job.event.producer_id, 0).expect("an event can be encoded");
}

fuzz_target!(|bytes: &[u8]| {
    let decoder = Decoder {
        keys: vec![AppKey::parse("0123456789abcdef0123456789abcdef").expect("32 bytes")],
        ..Decoder::new(Mapping::new(Redaction::new([1; 32])))
    };
    check(&decoder, bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = decrypt(text, &decoder.keys);
    let quoted = serde_json::to_string(text).expect("a text is JSON");
    let job = "\"uuid\":\"7f2b1c1e-0d5b-4d43-9d6c-5f2c5a3a9a10\",\"job\":\"Illuminate\\\\Queue\\\\CallQueuedHandler@call\"";
    check(&decoder, format!("{{{job},\"data\":{{\"command\":{quoted}}}}}").as_bytes());
    // As the data of a job whose class is known.
    let data = format!("O:1:\"J\":1:{{s:9:\"queryData\";a:1:{{s:3:\"sql\";s:{}:\"{text}\";}}}}", text.len());
    let quoted = serde_json::to_string(&data).expect("a text is JSON");
    check(&decoder, format!("{{{job},\"data\":{{\"commandName\":\"J\",\"command\":{quoted}}}}}").as_bytes());
});
