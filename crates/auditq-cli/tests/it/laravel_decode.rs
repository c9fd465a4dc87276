//! `auditq laravel decode`, held against what real Laravel wrote.

use std::path::{Path, PathBuf};

use serde_json::Value;

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
