//! What doctor finds, and that it only looks.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{Done, SmallDisk, World, event, tree};

/// What is said of one thing, as status, finding and advice.
pub(crate) fn of<'a>(report: &'a Value, check: &str) -> (&'a str, &'a str, &'a str) {
    let checks = report["checks"].as_array().unwrap();
    // The worst, where a thing is spoken of more than once.
    let rank = |status: &Value| ["ok", "warn", "fail"].iter().position(|level| status == level);
    let found = checks.iter().filter(|each| each["check"] == check).max_by_key(|each| rank(&each["status"]));
    let found = found.unwrap_or_else(|| panic!("{check} is missing: {report}"));
    (found["status"].as_str().unwrap(), found["found"].as_str().unwrap(), found["advice"].as_str().unwrap_or_default())
}

/// Runs it, and sees to it that nothing has changed.
fn look(world: &World) -> (Done, Value) {
    let before = tree(world.dir.path());
    let done = world.run("doctor --json");
    assert_eq!(tree(world.dir.path()), before, "it only looks");
    let report = done.json().remove(0);
    assert_eq!(done.code, Some(i32::from(report["status"] == "fail")), "{report}");
    (done, report)
}

#[test]
fn a_folder_in_which_nothing_has_run_yet_is_told_what_comes_first() {
    let world = World::new();
    let (_, report) = look(&world);
    assert_eq!(report["status"], "warn");
    let (status, found, advice) = of(&report, "queue");
    assert!(status == "warn" && found.contains("is not there yet") && advice.contains("auditq migrate"), "{report}");
    assert!(of(&report, "spool folder").2.contains("start the application"), "{report}");
}

#[test]
fn all_is_well_where_application_and_worker_have_run() {
    let world = World::new();
    world.record(&[("alice", "SELECT 1")]);
    world.run("work --stop-when-empty").ok();
    let (_, report) = look(&world);
    assert_eq!(report["status"], "ok", "{report}");
    assert!(of(&report, "log").1.contains("1 row, the last stored"), "{report}");
    assert!(of(&report, "settlement").1.contains("one transaction"), "{report}");
    let text = world.run("doctor").ok().stdout;
    assert!(text.ends_with(" ok, 0 warnings, 0 failed\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80 || line.contains('/')), "{text}");
}

#[test]
fn it_only_looks_also_while_a_worker_is_at_work() {
    let world = World::migrated();
    let mut worker = world.start("work");
    worker.says("2 workers");
    world.push(&[event(1)]);
    worker.says("stored 1 row");
    let files = || tree(world.dir.path()).into_keys().collect::<Vec<_>>();
    let before = files();
    let done = world.run("doctor").ok();
    assert!(done.stdout.contains("1 row, the last stored"), "what is in the write-ahead log is seen: {}", done.stdout);
    assert_eq!(files(), before);
    worker.terminated().ok();
}

#[test]
fn settings_that_cannot_be_used_are_a_failure_with_the_key_and_the_line() {
    for (settings, says) in
        [("[worker]\ntimeuot = 3\n", "timeuot"), ("[queue]\nretry_after = 5\n", "queue.retry_after is 5 s")]
    {
        let (_, report) = look(&World::with(settings));
        let (status, found, advice) = of(&report, "settings");
        assert!(status == "fail" && found.contains(says) && !advice.is_empty(), "{report}");
    }
}

#[test]
fn a_backlog_failed_messages_and_a_pause_are_found() {
    let world = World::migrated();
    world.push_payload("audit-logs", "not a message");
    world.run("work --stop-when-empty").ok();
    world.run("queue pause low").ok();
    world.push(&[event(1)]);
    let age = |seconds: u32| {
        let sql = format!("UPDATE jobs SET available_at = unixepoch() - {seconds}");
        world.database().execute_batch(&sql).unwrap();
        look(&world).1
    };
    let report = age(0);
    assert_eq!(of(&report, "backlog").0, "ok", "{report}");
    let (status, found, advice) = of(&report, "failed messages");
    assert!(status == "warn" && found.starts_with("1 of audit-logs") && advice.contains("queue retry"), "{report}");
    assert_eq!(of(&report, "paused queues"), ("warn", "low", "when it is time: auditq queue resume low"));
    assert_eq!(of(&age(120), "backlog").0, "warn");
    let report = age(7_200);
    let (status, found, advice) = of(&report, "backlog");
    assert!(status == "fail" && found.contains("the oldest for 2.0 h") && advice.contains("auditq work"), "{report}");
}

#[test]
fn what_waits_in_the_spool_of_a_process_that_ended_is_found() {
    let world = World::migrated();
    world.record(&[("alice", "SELECT 1"), ("alice", "SELECT 2")]);
    let (_, report) = look(&world);
    let (status, found, _) = of(&report, "spools");
    assert!(status == "ok" && found.starts_with("2 events waiting in 1 spool, 1 of them left"), "{report}");
    assert_eq!(of(&report, "worker here").0, "warn", "nobody reads it: {report}");
}

#[test]
fn a_database_that_is_none_or_not_migrated_is_a_failure() {
    let world = World::new();
    world.write("auditq.db", &"not a database\n".repeat(1_000));
    let (_, report) = look(&world);
    for check in ["queue", "log"] {
        let (status, found, advice) = of(&report, check);
        assert!(status == "fail" && found.contains("not a database") && advice.contains("name another"), "{report}");
    }
    let world = World::new();
    world.database().execute_batch("CREATE TABLE mine (id)").unwrap();
    let (_, report) = look(&world);
    for check in ["queue", "log"] {
        let (status, found, advice) = of(&report, check);
        assert!(status == "fail" && found.contains("is missing") && advice.contains("auditq migrate"), "{report}");
    }
}

#[test]
fn what_others_may_read_or_write_is_found() {
    let world = World::new();
    world.record(&[("alice", "SELECT 1")]);
    world.run("work --stop-when-empty").ok();
    let set = |name: &str, mode| std::fs::set_permissions(world.path(name), Permissions::from_mode(mode)).unwrap();
    set("auditq.db", 0o644);
    set("auditq-spool/redaction.key", 0o644);
    let (_, report) = look(&world);
    let (status, found, advice) = of(&report, "permissions");
    assert!(status == "warn" && found.contains("everybody may read") && advice.starts_with("chmod"), "{report}");
    assert_eq!(of(&report, "redaction key").0, "warn", "{report}");
    set("auditq-spool", 0o777);
    assert_eq!(of(&look(&world).1, "spool folder").0, "fail");
}

#[test]
fn a_damaged_redaction_key_is_a_failure_and_no_key_is_ever_shown() {
    let world = World::new();
    let key = "0f".repeat(32);
    let output = world.command("doctor").env("AUDITQ_REDACTION_KEY", &key).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("in AUDITQ_REDACTION_KEY") && !said.contains(&key), "{said}");
    std::fs::create_dir(world.path("auditq-spool")).unwrap();
    world.write("auditq-spool/redaction.key", "hunter2\n");
    let (done, report) = look(&world);
    assert_eq!(of(&report, "redaction key").0, "fail");
    assert!(!done.stdout.contains("hunter2"), "{}", done.stdout);
}

#[test]
fn recording_that_is_switched_off_is_told() {
    let world = World::with("[capture]\nenabled = false\n");
    let (_, report) = look(&world);
    assert_eq!(of(&report, "recording").0, "warn");
}

#[test]
fn a_disk_that_is_full_or_read_only_is_a_failure() {
    let disk = SmallDisk::mount("2m");
    let place = disk.path().display();
    let world = World::with(&format!("[store]\nurl = \"sqlite:{place}/audit.db\"\n"));
    let (_, report) = look(&world);
    assert_eq!(of(&report, "disk space").0, "fail", "{report}");
    disk.make_read_only();
    let (_, report) = look(&world);
    let (status, found, _) = of(&report, "log");
    assert!(status == "fail" && found.contains("cannot be made by this user"), "{report}");
}
