use auditq_laravel::php::{Limits, parse};
use serde_json::Value as Json;

use crate::support::{json_of, tree, unbase64, written};

fn values() -> Vec<(String, Vec<u8>, Json)> {
    let list = json_of("grammar.json");
    let values: Vec<_> = (list.as_array().unwrap().iter())
        .map(|value| {
            let text = |key: &str| value[key].as_str().unwrap().to_owned();
            (text("name"), unbase64(&text("serialized_b64")), value["ast"].clone())
        })
        .collect();
    assert_eq!(values.len(), 56);
    values
}

#[test]
fn everything_php_writes_is_read_as_what_it_was() {
    for (name, bytes, ast) in values() {
        let value = parse(&bytes, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(tree(&value), ast, "{name}");
    }
}

#[test]
fn everything_is_written_as_php_writes_it() {
    for (name, bytes, _) in values() {
        let value = parse(&bytes, &Limits::default()).unwrap();
        assert_eq!(written(&value), bytes, "{name}");
    }
}

#[test]
fn a_value_cut_anywhere_is_an_error_that_says_where() {
    for (name, bytes, _) in values() {
        for end in 0..bytes.len() {
            let error = parse(&bytes[..end], &Limits::default()).expect_err(&name);
            assert!(error.offset <= end, "{name} cut at {end}: {error}");
        }
    }
}
