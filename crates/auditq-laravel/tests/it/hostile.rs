use std::time::{Duration, Instant};

use auditq_laravel::php::{Document, Limits, Problem, parse};

fn error(text: &str) -> String {
    parse(text.as_bytes(), &Limits::default()).expect_err(text).to_string()
}

#[test]
fn an_error_says_at_which_byte_and_in_which_property() {
    let text = "O:3:\"Job\":1:{s:12:\"\0*\0queryData\";a:2:{s:3:\"sql\";s:1:\"x\";s:8:\"bindings\";a:1:{i:0;i:+5;}}}";
    let place = format!("at byte {} (Job > queryData > bindings > 0)", text.find("i:+5").unwrap());
    assert_eq!(error(text), format!("cannot read serialized PHP data {place}: \"+5\" is no integer as PHP writes it"));
    assert_eq!(
        error("a:999999999:{"),
        "cannot read serialized PHP data at byte 2: an array says it has 999999999 entries, but only 0 bytes follow"
    );
    assert_eq!(
        error("s:9999999999:\"a\";"),
        "cannot read serialized PHP data at byte 2: a string says it has 9999999999 bytes, but only 3 bytes follow"
    );
    assert_eq!(error("i:1;i:2;"), "cannot read serialized PHP data at byte 4: 4 bytes follow the value");
    assert_eq!(
        error("a:1:{i:0;s:4:\"ab"),
        "cannot read serialized PHP data at byte 11 (0): a string says it has 4 bytes, but only 2 bytes follow"
    );
}

#[test]
fn what_php_takes_but_never_writes_is_refused() {
    let refused = [
        "i:+5;",
        "i:05;",
        "i:-0;",
        "i:9223372036854775808;",
        "i:;",
        "i: 1;",
        "s:03:\"abc\";",
        "s:+3:\"abc\";",
        "a:01:{i:0;N;}",
        "d:.5;",
        "d:5.;",
        "d:+1;",
        "d:inf;",
        "d:1e999;",
        "b:2;",
        "b:;",
        "S:3:\"a\\62c\";",
        "N",
        "n;",
        "",
        ";",
        "x:1;",
        "a:1:{N;N;}",
        "a:1:{d:1;N;}",
        "a:1:{i:0;N;i:1;N;}",
        "a:0:{i:0;N;}",
        "a:0:",
        "a:-1:{}",
        "s:1:\"ab\";",
        "s:3:\"ab\";",
        "s:2:'ab';",
        "O:1:\"A\":0:{",
        "O:0:\"\":0:{}",
        "O:3:\"A-B\":0:{}",
        "O:+1:\"A\":0:{}",
        "O:1:\"A\":1:{s:2:\"\0a\";N;}",
        "O:1:\"A\":1:{s:1:\"a\";}",
        "E:1:\"A\";",
        "E:2:\"A:\";",
        "E:2:\":A\";",
        "E:5:\"A:B\\C\";",
        "E:5:\"A:B:C\";",
        "C:1:\"A\":3:{ab}",
        "C:1:\"A\":1:{ab}",
        "r:1;",
        "R:1;",
        "R:0;",
        "R:-1;",
        "a:1:{i:0;R:3;}",
        "a:2:{i:0;i:1;i:1;r:2;}",
        "a:1:{i:0;r:1;}",
        "a:2:{i:0;R:2;i:1;N;}",
        "s:99999999999999999999:\"\";",
        "a:99999999999999999999:{}",
        "O:8:\"stdClass\":1:{r:1;N;}",
    ];
    for text in refused {
        let message = error(text);
        assert!(message.starts_with("cannot read serialized PHP data at byte "), "{text}: {message}");
    }
}

#[test]
fn every_byte_that_is_not_utf_8_is_kept_or_refused() {
    let value = parse(b"s:2:\"\xFF\xC3\";", &Limits::default()).unwrap();
    assert_eq!(value.as_bytes(), Some(&b"\xFF\xC3"[..]));
    assert_eq!(
        (value.as_text(), Document::new(&value).json(&value, &Limits::default()).unwrap()),
        (None, serde_json::json!({"$base64": "/8M="}))
    );
    assert!(parse(b"O:1:\"\xFF\":0:{}", &Limits::default()).is_err());
    assert!(parse(b"E:3:\"\xFF:A\";", &Limits::default()).is_err());
    assert!(parse(b"a:1:{s:1:\"\xFF\";d:5x;}", &Limits::default()).unwrap_err().to_string().contains("\\xFF"));
}

#[test]
fn nesting_has_a_limit_whatever_it_consists_of() {
    let limits = Limits::default();
    let nested = |depth: usize| format!("{}N;{}", "a:1:{i:0;".repeat(depth), "}".repeat(depth));
    assert!(parse(nested(limits.depth).as_bytes(), &limits).is_ok());
    let error = parse(nested(limits.depth + 1).as_bytes(), &limits).unwrap_err();
    assert_eq!(error.problem, Problem::Depth(128));
    assert_eq!(error.path.len(), 128);
    let mixed = "a:1:{i:0;O:1:\"A\":1:{s:1:\"a\";".repeat(1_000_000);
    let began = Instant::now();
    assert!(parse(&mixed.as_bytes()[..limits.bytes], &limits).is_err());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn numbers_of_values_and_bytes_have_a_limit() {
    let limits = Limits::default();
    let many = |count: usize| format!("a:{count}:{{{}}}", "i:0;N;".repeat(count));
    assert!(parse(many(limits.values - 1).as_bytes(), &limits).is_ok());
    assert_eq!(parse(many(limits.values).as_bytes(), &limits).unwrap_err().problem, Problem::Count(limits.values));
    // References have no number and are counted all the same.
    let references = format!(
        "a:2:{{i:0;a:200000:{{{}}}i:1;a:200000:{{{}}}}}",
        "i:0;R:1;".repeat(200_000),
        "i:0;R:1;".repeat(200_000)
    );
    assert_eq!(parse(references.as_bytes(), &limits).unwrap_err().problem, Problem::Count(limits.values));
    let long = format!("s:104857600:\"{}\";", "x".repeat(100 << 20));
    let problem = parse(long.as_bytes(), &limits).unwrap_err().problem;
    assert_eq!(problem, Problem::Size { have: long.len(), limit: limits.bytes });
    assert!(parse(long.as_bytes(), &Limits { bytes: 128 << 20, ..limits }).is_ok());
}

#[test]
fn counts_that_lie_at_every_level_take_no_memory() {
    // Each of 128 arrays says it has a quarter of a million entries, and has one.
    let filler = "N".repeat(2 << 20);
    let text = format!("{}{filler}", "a:262143:{i:0;".repeat(128));
    let began = Instant::now();
    let problem = parse(text.as_bytes(), &Limits::default()).unwrap_err().problem;
    assert!(matches!(problem, Problem::Unexpected { .. }), "{problem:?}");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn cyclic_references_end() {
    let json = |text: &str| {
        let value = parse(text.as_bytes(), &Limits::default()).unwrap();
        Document::new(&value).json(&value, &Limits::default()).unwrap().to_string()
    };
    assert_eq!(json("O:8:\"stdClass\":1:{s:2:\"me\";r:1;}"), "{\"me\":{\"$ref\":1}}");
    assert_eq!(json("a:1:{s:4:\"self\";R:1;}"), "{\"self\":{\"$ref\":1}}");
    assert_eq!(json("a:1:{i:0;a:2:{i:0;R:1;i:1;R:2;}}"), "[[{\"$ref\":1},{\"$ref\":2}]]");
    assert_eq!(
        json("a:2:{s:1:\"a\";O:8:\"stdClass\":1:{s:1:\"x\";i:1;}s:1:\"b\";r:2;}"),
        "{\"a\":{\"x\":1},\"b\":{\"x\":1}}"
    );
    assert_eq!(
        json("a:3:{i:0;O:8:\"stdClass\":1:{s:1:\"k\";i:1;}i:1;r:2;i:2;r:4;}"),
        "[{\"k\":1},{\"k\":1},{\"k\":1}]",
        "a reference to a reference"
    );
}

#[test]
fn references_that_grow_without_end_are_an_error() {
    // Each array holds the one before twice: 2 to the 40th values.
    let mut text = String::from("a:41:{i:0;a:1:{i:0;i:1;}");
    let mut slot = 2;
    for index in 1..=40 {
        text.push_str(&format!("i:{index};a:2:{{i:0;R:{slot};i:1;R:{slot};}}"));
        slot += if index == 1 { 2 } else { 1 };
    }
    text.push('}');
    let value = parse(text.as_bytes(), &Limits::default()).unwrap();
    let began = Instant::now();
    let error = Document::new(&value).json(&value, &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("more than 262144 values"), "{error}");
    // A megabyte, a thousand times.
    let text = format!(
        "a:1001:{{i:0;O:8:\"stdClass\":1:{{s:1:\"x\";s:1048576:\"{}\";}}{}}}",
        "x".repeat(1 << 20),
        (1..=1000).map(|index| format!("i:{index};r:2;")).collect::<String>()
    );
    let value = parse(text.as_bytes(), &Limits::default()).unwrap();
    let error = Document::new(&value).json(&value, &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("more than 16777216 bytes"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn numbers_behind_an_opaque_object_are_not_guessed() {
    assert!(parse(b"a:3:{i:0;O:1:\"A\":0:{}i:1;C:1:\"B\":1:{x}i:2;r:2;}", &Limits::default()).is_ok());
    let text = b"a:3:{i:0;C:1:\"B\":1:{x}i:1;O:1:\"A\":0:{}i:2;r:3;}";
    assert!(parse(text, &Limits::default()).unwrap_err().to_string().contains("C: object"));
}
