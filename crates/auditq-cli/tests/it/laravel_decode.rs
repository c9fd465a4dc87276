//! `auditq laravel decode`, held against what real Laravel wrote.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::World;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../auditq-laravel/tests/fixtures")
}

fn key() -> String {
    std::fs::read_to_string(fixtures().join("APP_KEY")).unwrap().trim().to_owned()
}

fn decoded(world: &World, line: &str) -> Value {
    serde_json::from_str(&world.run(line).ok().stdout).unwrap()
}

#[test]
fn a_job_is_shown_as_what_laravel_dispatched_with_what_would_be_stored() {
    let world = World::new();
    for name in
        ["v8/db-plain", "v10/redis-reserved", "v12/db-encrypted", "v12/db-dates", "v12/db-chain", "v12/db-batched"]
    {
        let file = fixtures().join(format!("{name}.payload"));
        let shown = decoded(&world, &format!("laravel decode {} --app-key {}", file.display(), key()));
        let expected = std::fs::read(fixtures().join(format!("{name}.expected.json"))).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        for part in ["envelope", "encrypted", "query_data"] {
            assert_eq!(shown[part], expected[part], "{name}: {part}");
        }
        let kind = ["chain", "batch"].into_iter().find(|kind| name.contains(kind));
        let why = kind.map(|kind| format!("it is {kind}ed: it stays in the queue for Laravel's own worker"));
        assert_eq!(shown["why"].as_str(), why.as_deref(), "{name}");
        let event = &shown["event"];
        assert_eq!(
            event["sql"].as_str().unwrap().split(' ').next(),
            expected["query_data"]["sql"].as_str().unwrap().split(' ').next()
        );
        assert_eq!(event["event_id"].as_str().unwrap().len(), 36);
    }
}

#[test]
fn the_settings_of_the_folder_count_and_the_key_may_come_from_the_environment() {
    let world = World::with("[laravel.map]\nusername = 'ip'\n[laravel]\ntimezone = 'Europe/Berlin'\n");
    let file = fixtures().join("v12/db-encrypted.payload");
    let mut command = world.command(&format!("laravel decode {}", file.display()));
    let done = command.env("APP_KEY", key()).output().unwrap();
    let shown: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&shown["event"]["username"], &shown["event"]["ip"]), (&"203.0.113.9".into(), &Value::Null));
    assert_eq!(shown["event"]["extra"]["username"], "alice@example.com");
}

#[test]
fn what_cannot_be_read_says_where_and_what_to_do() {
    let world = World::new();
    let file = fixtures().join("v12/db-encrypted.payload");
    let done = world.run(&format!("laravel decode {}", file.display()));
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr
            .contains("error: cannot read the job App\\Jobs\\EncryptedAuditLog: data.command cannot be decrypted"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("hint: give the application's APP_KEY"), "{}", done.stderr);
    let done = world.run(&format!("laravel decode {} --app-key secret", file.display()));
    assert!(
        done.stderr.contains("cannot use the application key") && !done.stderr.contains("secret"),
        "{}",
        done.stderr
    );
    world.write("cut.json", "{\"job\":\"x@y\",\"data\":{\"sql\":1,");
    let done = world.run("laravel decode cut.json");
    assert!(done.stderr.contains("error: cannot read the payload at byte 29: it is not JSON"), "{}", done.stderr);
    assert!(world.run("laravel decode missing.json").stderr.contains("cannot read missing.json"));
}

/// A message of our package with these items.
fn message(version: u8, items: &Value) -> String {
    let batch = json!({"actors": [], "databases": [], "statements": ["select * from users where password = 'x'"], "items": items});
    json!({
        "uuid": "7f2b1c1e-0d5b-4d43-9d6c-5f2c5a3a9a10", "displayName": "auditq: 2 queries", "job": "auditq@queries",
        "data": {"auditq": version, "producer": "ab".repeat(16), "app": "shop", "batch": batch.to_string()},
    })
    .to_string()
}

#[test]
fn what_a_message_holds_beside_what_can_be_read_is_said_with_the_reason() {
    let world = World::new();
    let items =
        json!([{"seq": 1, "at": 1_700_000_000_000_000_i64, "statement": 0}, {"seq": 2, "at": 7, "statement": 9}]);
    world.write("message.json", &message(1, &items));
    let shown = decoded(&world, "laravel decode message.json");
    assert_eq!(shown["events"].as_array().unwrap().len(), 1);
    assert_eq!(shown["events"][0]["occurred_at"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(shown["given_up"], json!(["cannot read item 1 of the queries: its statement is not in the message"]));

    world.write("later.json", &message(2, &items));
    let done = world.run("laravel decode later.json");
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    assert!(done.stderr.contains("data.auditq is 2, this release reads 1"), "{}", done.stderr);
    assert!(done.stderr.contains("hint: upgrade auditq, then retry"), "{}", done.stderr);
}
