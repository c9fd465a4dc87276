use auditq_laravel::php::{Key, Object, Property, Value};
use auditq_laravel::{Cipher, EncodeError, JobLimits, NewJob};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::support::{array, decoder};

fn job(bindings: Vec<Value<'static>>) -> NewJob<'static> {
    let data = array(vec![
        ("sql", Value::text("select ?")),
        ("bindings", Value::Array((0..).map(Key::Int).zip(bindings).collect())),
    ]);
    NewJob {
        uuid: Uuid::from_u128(0x7f2b_1c1e_0d5b_4d43_9d6c_5f2c_5a3a_9a10),
        command: Object {
            class: "App\\Jobs\\ProcessAuditLog".into(),
            properties: vec![(Property::protected("queryData"), data)],
        },
        created_at: 1_795_433_469,
        limits: JobLimits { tries: Some(3), timeout: Some(30), backoff: Some(vec![1, 5]), ..JobLimits::default() },
        redis_id: None,
    }
}

#[test]
fn a_job_that_was_written_is_read_as_it_was() {
    let read = decoder().decode(job(vec![Value::Float(0.1), Value::text("é")]).payload().unwrap().as_bytes()).unwrap();
    assert_eq!(read.query_data, json!({"sql": "select ?", "bindings": [0.1, "é"]}));
    assert_eq!(read.limits, job(vec![]).limits);
    assert_eq!((read.class.as_str(), read.encrypted), ("App\\Jobs\\ProcessAuditLog", false));
    assert_eq!(read.event.recorded_at, 1_795_433_469_000_000);
}

#[test]
fn bytes_that_are_no_text_travel_encrypted_only() {
    let binary = job(vec![Value::Str(vec![0xFF, 0].into())]);
    assert!(matches!(binary.payload(), Err(EncodeError::Utf8(class)) if class == "App\\Jobs\\ProcessAuditLog"));
    let key = decoder().keys.remove(0);
    for cipher in [Cipher::Cbc(&key, [5; 16]), Cipher::Gcm(&key, [5; 12])] {
        let read = decoder().decode(binary.encrypted_payload(&cipher).unwrap().as_bytes()).unwrap();
        assert!(read.encrypted);
        assert_eq!(read.query_data["bindings"], json!([{"$base64": "/wA="}]));
    }
}

#[test]
fn redis_gets_the_keys_without_which_it_loses_a_job() {
    let payload: Json =
        serde_json::from_str(&NewJob { redis_id: Some("abc"), ..job(vec![]) }.payload().unwrap()).unwrap();
    assert_eq!((&payload["id"], &payload["attempts"]), (&json!("abc"), &json!(0)));
    let payload: Json = serde_json::from_str(&job(vec![]).payload().unwrap()).unwrap();
    assert_eq!(payload.get("attempts"), None);
    assert_eq!(payload["delay"], Json::Null);
}
