use std::time::{Duration, Instant};

use auditq_laravel::php::{Limits, Value};
use auditq_laravel::{AppKey, Decoder, Duty, JobError};
use serde_json::Value as Json;

use crate::support::{decoder, fixture, folder, json_of, payload_of, payload_with, payloads, written};

#[test]
fn every_job_decodes_to_what_laravel_dispatched() {
    let decoder = decoder();
    let mut compared = 0;
    for (name, payload) in payloads() {
        let expected = format!("{name}.expected.json");
        if !folder().join(&expected).exists() {
            continue;
        }
        let expected = json_of(&expected);
        let job = decoder.decode(&payload).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Json::Object(job.envelope), expected["envelope"], "{name}");
        assert_eq!(Json::from(job.encrypted), expected["encrypted"], "{name}");
        assert_eq!(job.query_data, expected["query_data"], "{name}");
        assert_eq!(Json::from(job.properties), expected["job_properties"], "{name}");
        assert_eq!(Json::from(job.class), expected["envelope"]["data"]["commandName"], "{name}");
        compared += 1;
    }
    assert_eq!(compared, 93);
}

#[test]
fn a_job_that_is_no_object_is_read_by_its_data() {
    let job = decoder().decode(&fixture("v12/db-string-job.payload")).unwrap();
    assert_eq!(job.class, "App\\Handlers\\Audit");
    assert_eq!(job.event.statement.sql, "select 1");
    let error = decoder().decode(&fixture("v12/db-pushraw.payload")).unwrap_err().to_string();
    assert_eq!(error, "cannot read the payload: it is JSON, but no job of Laravel's: it has no \"job\"");
}

#[test]
fn a_job_says_what_else_is_to_be_done_when_it_is_done() {
    let decoder = decoder();
    for (name, payload) in payloads() {
        let Ok(job) = decoder.decode(&payload) else { continue };
        let expected = [
            ("batched", Duty::Batch),
            ("chain", Duty::Chain),
            ("unique-context", Duty::Unique),
            ("debounced", Duty::Debounce),
        ];
        let expected = expected.into_iter().find(|(part, _)| name.contains(part)).map(|(_, duty)| duty);
        if !name.ends_with("db-unique") {
            assert_eq!(job.duty, expected, "{name}");
        }
    }
    let class = "O:24:\"App\\Jobs\\ProcessAuditLog\":2:{s:9:\"queryData\";a:1:{s:3:\"sql\";s:1:\"x\";}";
    let duty =
        |property: &str| decoder.decode(&payload_with("u", format!("{class}{property}}}").as_bytes())).unwrap().duty;
    assert_eq!(duty("s:7:\"chained\";a:0:{}"), None);
    assert_eq!(duty("s:7:\"chained\";a:1:{i:0;s:1:\"x\";}"), Some(Duty::Chain));
    assert_eq!(duty("s:7:\"batchId\";N;"), None);
    assert_eq!(duty("s:7:\"batchId\";s:1:\"b\";"), Some(Duty::Batch));
    assert_eq!(duty("s:15:\"uniqueLockOwner\";s:1:\"o\";"), Some(Duty::Unique));
    assert_eq!(duty("s:13:\"debounceOwner\";s:1:\"o\";"), Some(Duty::Debounce));
}

#[test]
fn a_payload_cut_anywhere_is_an_error_that_says_where() {
    let decoder = decoder();
    for (name, payload) in payloads() {
        for end in 0..payload.len() {
            let error = decoder.decode(&payload[..end]).expect_err(&name).to_string();
            assert!(error.contains("at byte"), "{name} cut at {end}: {error}");
        }
    }
}

#[test]
fn a_command_cut_anywhere_is_an_error_that_says_where() {
    let decoder = decoder();
    for (name, payload) in payloads() {
        let mut payload: Json = serde_json::from_slice(&payload).unwrap();
        let Some(command) = payload["data"]["command"].as_str().map(str::to_owned) else { continue };
        for end in (0..command.len()).filter(|end| command.is_char_boundary(*end)) {
            payload["data"]["command"] = Json::from(&command[..end]);
            let error = decoder.decode(payload.to_string().as_bytes()).expect_err(&name).to_string();
            let said = if command.starts_with("O:") && end >= 2 { "at byte" } else { "cannot be decrypted" };
            assert!(error.contains(said), "{name} cut at {end}: {error}");
        }
    }
}

#[test]
fn an_error_names_the_class_the_byte_and_the_way() {
    let command = b"O:24:\"App\\Jobs\\ProcessAuditLog\":1:{s:9:\"queryData\";a:1:{s:8:\"bindings\";a:999999999:{}}}";
    assert_eq!(
        decoder().decode(&payload_with("u", command)).unwrap_err().to_string(),
        "cannot read the job App\\Jobs\\ProcessAuditLog: data.command: cannot read serialized PHP data at byte 73 \
         (App\\Jobs\\ProcessAuditLog > queryData > bindings): an array says it has 999999999 entries, but only 3 bytes \
         follow"
    );
}

#[test]
fn an_encrypted_job_opens_with_the_present_or_a_previous_key_only() {
    let payload = fixture("v12/db-encrypted.payload");
    let other = AppKey::parse(&"x".repeat(32)).unwrap();
    let with = |keys: Vec<AppKey>| Decoder { keys, ..decoder() }.decode(&payload);
    let own = decoder().keys.remove(0);
    assert!(with(vec![other.clone(), own]).unwrap().encrypted);
    let error = with(vec![other]).unwrap_err().to_string();
    assert!(error.contains("data.command cannot be decrypted: none of the 1 known keys fits"), "{error}");
    assert!(with(vec![]).unwrap_err().to_string().contains("give the application's APP_KEY"));
}

#[test]
fn a_job_encrypted_under_either_cipher_is_read() {
    let plain = fixture("v10/db-plain.payload");
    let mut payload: Json = serde_json::from_slice(&plain).unwrap();
    let command = payload["data"]["command"].as_str().unwrap().to_owned();
    let twice = written(&Value::text(command));
    let key = decoder().keys.remove(0);
    let expected = decoder().decode(&plain).unwrap();
    for text in [key.encrypt_cbc(&twice, [3; 16]), key.encrypt_gcm(&twice, [3; 12]).unwrap()] {
        payload["data"]["command"] = Json::from(text);
        let job = decoder().decode(payload.to_string().as_bytes()).unwrap();
        assert!(job.encrypted);
        assert_eq!((job.query_data, job.event), (expected.query_data.clone(), expected.event.clone()));
    }
}

#[test]
fn a_command_of_another_class_than_the_payload_says_is_refused() {
    let error = decoder().decode(&payload_with("u", b"O:8:\"stdClass\":0:{}")).unwrap_err();
    assert!(matches!(error, JobError::OtherClass { .. }), "{error}");
    let error = decoder().decode(&payload_with("u", b"O:24:\"App\\Jobs\\ProcessAuditLog\":1:{s:1:\"a\";i:1;}"));
    assert!(error.unwrap_err().to_string().contains("no query data in its properties (a)"));
    let error = decoder().decode(&payload_of(&Value::Array(vec![]))).unwrap_err().to_string();
    assert!(error.contains("holds no SQL under sql, query,") && error.contains("[laravel.map]"), "{error}");
}

#[test]
fn hostile_payloads_end_within_bounded_time() {
    let class = "O:24:\"App\\Jobs\\ProcessAuditLog\":1:{s:9:\"queryData\";";
    let job = |data: &str| payload_with("u", format!("{class}{data}").as_bytes());
    let hostile = [
        (job(&"a:1:{i:0;".repeat(1_000_000)), "nested deeper than the limit of 128"),
        (job("a:999999999:{"), "says it has 999999999 entries, but only 0 bytes follow"),
        (job("s:104857600:\"x"), "says it has 104857600 bytes, but only 1 bytes follow"),
        (job(&format!("s:104857600:\"{}\";}}", "x".repeat(100 << 20))), "more than the limit of 16777216"),
        (b"{\"job\":\"\xC3\x28\"}".to_vec(), "at byte 8: it is not UTF-8"),
        (vec![b'['; 8 << 20], "more than the limit of 262144"),
    ];
    let decoder = decoder();
    for (payload, said) in hostile {
        let began = Instant::now();
        let error = decoder.decode(&payload).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{said}: {:?}", began.elapsed());
    }
    let cyclic = decoder.decode(&job("a:2:{s:3:\"sql\";s:1:\"x\";s:4:\"self\";R:2;}}")).unwrap();
    assert_eq!(cyclic.query_data.to_string(), "{\"self\":{\"$ref\":2},\"sql\":\"x\"}");
}

#[test]
fn limits_are_those_of_the_decoder() {
    let payload = fixture("v12/db-plain.payload");
    let small = Decoder { limits: Limits { bytes: 100, ..Limits::default() }, ..decoder() };
    assert!(small.decode(&payload).unwrap_err().to_string().contains("more than the limit of 100"));
}
