//! Any bytes are a PHP value or an error; a value that was read is written and read again as the same, and following
//! its references ends.
#![no_main]

use auditq_laravel::php::{Document, Limits, parse, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { bytes: 1 << 16, depth: 32, values: 4096 };
    let value = match parse(bytes, &limits) {
        Ok(value) => value,
        Err(error) => {
            assert!(error.offset <= bytes.len());
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let mut written = Vec::new();
    write(&value, limits.depth, &mut written).expect("it was read within the same limit");
    let again = parse(&written, &limits).expect("what was written is readable");
    let mut twice = Vec::new();
    write(&again, limits.depth, &mut twice).expect("it was read within the same limit");
    assert_eq!(twice, written);
    let _ = Document::new(&value).json(&value, &limits);
});
