//! Any bytes are a record or an error, and a record that was read is written and read again as the same.
#![no_main]

use auditq_event::{Record, bindings_json, parse_bindings_json, parse_truncated_json, truncated_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = Record::decode(bytes, [1; 16], 7) else { return };
    let written = record.encode();
    let again = Record::decode(&written, [1; 16], 7).expect("what was written is readable");
    // Bytes, not values: a NaN is not equal to itself.
    assert_eq!(again.encode(), written);
    if let Record::Event(event) = again {
        let json = bindings_json(&event.bindings);
        let read = parse_bindings_json(&json).expect("what was written is readable");
        assert_eq!(bindings_json(&read), json);
        if let Some(cut) = truncated_json(&event) {
            parse_truncated_json(&cut).expect("what was written is readable");
        }
    }
});
