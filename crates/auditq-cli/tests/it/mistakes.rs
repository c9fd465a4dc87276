//! What people and other programs get wrong: each is told what it is and what to do, and nothing is lost.

use crate::support::{SmallDisk, World, event, message, message_of};

#[test]
fn a_wrong_key_in_the_settings_is_named_with_its_line_and_the_right_ones() {
    let world = World::with("[worker]\ntimeuot = 10\n");
    for line in ["work --once", "monitor", "queue size", "migrate", "log"] {
        let done = world.run(line).failed(&["auditq.toml, line 5", "unknown key `timeuot`", "`timeout`"]);
        assert_eq!(done.stdout, "", "{line}");
    }
    assert!(!world.path("auditq.db").exists());
}

#[test]
fn a_retry_after_within_the_timeout_is_refused_in_the_file_and_by_flags() {
    let world = World::with("[queue]\nretry_after = 30\n");
    world.run("work --once").failed(&["queue.retry_after is 30 s", "worker.timeout (30 s)", "hint: raise it"]);
    let world = World::with("[queue]\nretry_after = 60\n");
    world.run("work --once --timeout 60").failed(&["queue.retry_after is 60 s", "hint: raise it"]);
    world.run("work --once --timeout 59").ok();
}

#[test]
fn settings_of_the_environment_that_cannot_be_meant_are_refused() {
    let world = World::new();
    for (name, value, says) in [
        ("AUDITQ_STROE_URL", "sqlite:a.db", "AUDITQ_STORE_URL"),
        ("AUDITQ_STORE_URL", "oracle://scott:tiger@host/db", "\"oracle\" is not an engine"),
        ("QUEUE_CONNECTION", "redis", "AUDITQ_QUEUE_URL"),
        ("QUEUE_NAME", "a,b", "cannot be the name of a queue"),
        ("AUDITQ_CONFIG", "no-such.toml", "no-such.toml"),
    ] {
        let output = world.command("work --once").env(name, value).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        assert!(stderr.contains(says) && !stderr.contains("tiger"), "{name}: {stderr}");
    }
}

#[test]
fn a_variable_that_is_empty_counts_as_unset() {
    let world = World::migrated();
    let mut command = world.command("queue size");
    for name in ["AUDITQ_CONFIG", "AUDITQ_QUEUE_URL", "AUDITQ_STORE_URL", "AUDITQ_SPOOL_DIR", "QUEUE_NAME"] {
        command.env(name, "");
    }
    assert_eq!(command.output().unwrap().stdout, b"0\n");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let world = World::new();
    let text = "not a database\n".repeat(1_000);
    world.write("auditq.db", &text);
    for line in ["work --once", "monitor", "migrate", "queue failed"] {
        world.run(line).failed(&["auditq.db", "not a database", "hint: name another file in the URL"]);
    }
    assert_eq!(std::fs::read_to_string(world.path("auditq.db")).unwrap(), text);
}

#[test]
fn a_look_at_a_database_that_is_not_there_makes_none() {
    let world = World::new();
    for line in ["monitor", "queue size", "queue failed", "log", "prune --older-than 1d", "backup copy.db"] {
        world.run(line).failed(&["there is no database at auditq.db", "hint: run `auditq migrate`"]);
    }
    assert!(!world.path("auditq.db").exists() && !world.path("copy.db").exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_said_at_once_and_recording_loses_nothing() {
    let world = World::new();
    world.record(&[("alice", "SELECT 1")]);
    let disk = SmallDisk::mount("2m");
    disk.make_read_only();
    let url = format!("sqlite:{}/audit.db", disk.path().display());
    for line in ["work --stop-when-empty", "migrate"] {
        let mut command = world.command(line);
        let output = command.env("AUDITQ_QUEUE_URL", &url).env("AUDITQ_STORE_URL", &url).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("audit.db") && stderr.contains("must exist and be writable"), "{stderr}");
    }
    world.run("work --stop-when-empty").ok();
    assert_eq!(world.rows(), 1);
}

#[test]
fn a_message_that_nobody_can_read_is_kept_with_the_reason_and_the_others_go_on() {
    let world = World::migrated();
    world.push(&[event(1)]);
    world.push_payload("audit-logs", "not a message");
    world.push_payload("audit-logs", r#"{"uuid":"a","job":"App\\Jobs\\SendMail","data":{}}"#);
    world.push_payload("audit-logs", &message(&[event(2)]).replace("\"auditq\":1", "\"auditq\":99"));
    world.push(&[event(3)]);
    let done = world.run("work --stop-when-empty").ok();
    assert_eq!(done.stdout.matches(" FAIL\n").count(), 2, "{}", done.stdout);
    assert!(done.stdout.contains("leaving jobs of App\\Jobs\\SendMail in the queue"), "{}", done.stdout);
    assert_eq!((world.rows(), world.waiting()), (2, 1));
    assert_eq!(world.number("SELECT attempts FROM jobs"), 0, "it is as it was");
    let failed = world.run("queue failed").ok().stdout;
    for reason in ["at byte 1: it is not JSON", "of version 99", "upgrade auditq, then retry"] {
        assert!(failed.contains(reason), "{reason:?}: {failed}");
    }
    // What was kept is what was pushed.
    let payloads = world
        .number("SELECT count(*) FROM failed_jobs WHERE payload LIKE '%\"auditq\":99%' OR payload = 'not a message'");
    assert_eq!(payloads, 2);
}

#[test]
fn one_record_of_an_unknown_encoding_fails_alone() {
    let world = World::migrated();
    let mut unknown = event(2).encode();
    unknown[0] = 99;
    world.push_payload("audit-logs", &message_of(&[(1, event(1).encode()), (2, unknown), (3, event(3).encode())]));
    world.run("work --stop-when-empty").ok();
    assert_eq!((world.rows(), world.waiting()), (2, 0));
    let failed = &world.run("queue failed --json").ok().json()[0];
    assert!(failed["reason"].as_str().unwrap().contains("format version 99"), "{failed}");
    // It is tried again as what it is: one record.
    world.run("queue retry all").ok();
    let done = world.run("work --stop-when-empty").ok();
    assert!(done.stdout.contains("gave up 1 event"), "{}", done.stdout);
}

#[test]
fn a_table_of_somebody_else_is_refused_and_left_alone() {
    let world = World::new();
    let database = world.database();
    database
        .execute_batch(
            "CREATE TABLE audit_sql_logs (id INTEGER, note TEXT); INSERT INTO audit_sql_logs VALUES (1, 'mine')",
        )
        .unwrap();
    world.run("work --once").failed(&[
        "cannot use the table audit_sql_logs",
        "another program made it",
        "hint: rename it",
    ]);
    assert_eq!(world.number("SELECT count(*) FROM audit_sql_logs WHERE note = 'mine'"), 1);
}
