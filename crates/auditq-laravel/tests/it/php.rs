//! Held against PHP itself.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use auditq_laravel::php::{Key, Limits, Value, parse};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::round_trip::value;
use crate::support::{base64, unbase64, written};

const VALUES: usize = 3000;

/// Reads lines of base64, and writes each value again as PHP itself does.
const AGAIN: &str = "ini_set('unserialize_max_depth', 0);
while (($line = fgets(STDIN)) !== false) {
    echo base64_encode(serialize(unserialize(base64_decode(trim($line)), ['allowed_classes' => false]))), \"\\n\";
}";

/// What PHP gives back as it was: keys are neither numbers in a text nor twice there, and classes may be unknown.
fn is_plain(value: &Value<'_>) -> bool {
    match value {
        Value::Enum { .. } | Value::Custom { .. } => false,
        Value::Array(items) => {
            let keys: BTreeSet<String> = items.iter().map(|(key, _)| format!("{key:?}")).collect();
            let numeric = |key: &Key<'_>| matches!(key, Key::Str(_)) && key.shown().parse::<i64>().is_ok();
            keys.len() == items.len() && items.iter().all(|(key, value)| !numeric(key) && is_plain(value))
        }
        Value::Object(object) => {
            let names: BTreeSet<_> = object.properties.iter().map(|(name, _)| name.shown()).collect();
            let numbered = |name: &auditq_laravel::php::Property<'_>| matches!(name.key(), Key::Int(_));
            names.len() == object.properties.len()
                && object.properties.iter().all(|(name, value)| !numbered(name) && is_plain(value))
        }
        _ => true,
    }
}

#[test]
fn php_reads_what_is_written_here_and_writes_the_same() {
    let mut runner = TestRunner::default();
    let strategy = value();
    let values = std::iter::repeat_with(|| strategy.new_tree(&mut runner).unwrap().current());
    let values: Vec<Vec<u8>> = values.filter(is_plain).take(VALUES).map(|value| written(&value)).collect();
    let mut php = Command::new("php")
        .args(["-r", AGAIN])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("PHP is installed: apt-get install php-cli");
    let mut stdin = php.stdin.take().unwrap();
    let lines: String = values.iter().map(|value| base64(value) + "\n").collect();
    let writing = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = php.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    let lines: Vec<_> = str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(lines.len(), values.len());
    for (ours, line) in values.iter().zip(lines) {
        let phps = unbase64(line);
        assert_eq!(String::from_utf8_lossy(&phps), String::from_utf8_lossy(ours));
        parse(&phps, &Limits::default()).unwrap();
    }
}
