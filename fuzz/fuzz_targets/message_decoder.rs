//! Any payload is a message or an error; a message that was read can be shrunk and read again.
#![no_main]

use auditq_event::{MAX_MESSAGE_BYTES, Message, ProducerLabel, is_auditq};
use libfuzzer_sys::fuzz_target;

fn check(payload: &[u8]) {
    let _ = is_auditq(payload);
    let Ok(message) = Message::parse(payload, MAX_MESSAGE_BYTES) else { return };
    for (_, record) in message.records() {
        let _ = record;
    }
    let rest = message.keep(|index| index % 2 == 0, 3);
    let rest = Message::parse(&rest, MAX_MESSAGE_BYTES).expect("what was written is readable");
    assert_eq!((rest.uuid(), rest.len(), rest.exceptions()), (message.uuid(), message.len().div_ceil(2), 3));
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // The fuzzer's bytes as records of a sound envelope, to get past base64 and LZ4.
    let records: Vec<(u64, &[u8])> = bytes.chunks(64).enumerate().map(|(seq, bytes)| (seq as u64, bytes)).collect();
    check(&Message::build(&ProducerLabel::default(), &records));
    let _ = ProducerLabel::decode(bytes);
});
