//! What the commands about the queue print, to the letter where scripts read it.

use crate::support::{World, event, message};

#[test]
fn queue_size_prints_one_number_and_nothing_else() {
    let world = World::migrated();
    assert_eq!(world.run("queue size").ok().stdout, "0\n");
    world.push_many(0, 1_234);
    let done = world.run("queue size").ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("1234\n", ""));
    assert_eq!(world.run("queue size no-such-queue").ok().stdout, "0\n");
    let mut command = world.command("queue size");
    assert_eq!(command.env("QUEUE_NAME", "other").output().unwrap().stdout, b"0\n");
}

/// A world with three messages that nobody can read, one of them hostile.
fn with_failed() -> World {
    let world = World::migrated();
    world.push_payload("audit-logs", "not a message");
    let hostile = r#""O:24:\"App\\Jobs\\ProcessAuditLog\":1:{s:8:\"\u001b[2J\nrow\";x}""#;
    let call = r#""Illuminate\\Queue\\CallQueuedHandler@call""#;
    world.push_payload("audit-logs", &format!(r#"{{"uuid":"u1","job":{call},"data":{{"command":{hostile}}}}}"#));
    world.push_payload("low", "neither");
    world.run("work --stop-when-empty --queue audit-logs,low").ok();
    world
}

#[test]
fn queue_failed_prints_one_line_each_and_nothing_else() {
    let world = World::migrated();
    let done = world.run("queue failed").ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let world = with_failed();
    let done = world.run("queue failed").ok();
    assert_eq!((done.stdout.lines().count(), done.stderr.as_str()), (3, ""));
    for line in done.stdout.lines() {
        let fields: Vec<_> = line.splitn(4, "  ").collect();
        assert!(fields.len() == 4 && fields[3].starts_with("cannot read "), "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    assert_eq!(world.run("queue failed --queue low").ok().stdout.lines().count(), 1);
    let done = world.run("queue failed --limit 2").ok();
    assert_eq!(done.stdout.lines().count(), 2);
    assert_eq!(done.stderr, "note: there are more than 2; --limit 0 lists all\n");
    let objects = world.run("queue failed --json").ok().json();
    assert_eq!(objects.len(), 3);
    for object in objects {
        let keys: Vec<_> = object.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["failed_at", "id", "payload_bytes", "queue", "reason"]);
    }
}

#[test]
fn a_failed_message_is_put_back_or_dropped_by_its_id() {
    let world = with_failed();
    let ids: Vec<_> = world.run("queue failed --json").ok().json().iter().map(|line| line["id"].clone()).collect();
    let id = ids[0].as_str().unwrap();
    let done = world.run(&format!("queue retry {id} no-such-id"));
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), "Put back 1 message.\n"));
    assert_eq!(done.stderr, "note: there is no failed message no-such-id\n");
    assert_eq!(world.waiting(), 1);
    assert_eq!(world.run("queue retry all --queue audit-logs").ok().stdout, "Put back 2 messages.\n");
    world.run("work --stop-when-empty --queue audit-logs,low").ok();
    assert_eq!(world.run("queue flush --queue low").ok().stdout, "Dropped 1 failed message.\n");
    assert_eq!(world.run("queue flush").ok().stdout, "Dropped 2 failed messages.\n");
    let done = world.run("queue forget no-such-id");
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), "Forgot 0 messages.\n"));
    world.run("queue retry all other").failed(&["`all` stands alone", "hint: name either"]);
}

#[test]
fn nothing_that_waits_is_dropped_without_a_yes() {
    let world = World::migrated();
    world.push_many(0, 3);
    world.run("queue clear").failed(&["Drop 3 messages of audit-logs", "hint: add --yes"]);
    assert_eq!(world.waiting(), 3);
    assert_eq!(world.run("queue clear --yes").ok().stdout, "Dropped 3 messages of audit-logs.\n");
    assert_eq!(world.run("queue clear").ok().stdout, "Dropped 0 messages of audit-logs.\n");
}

#[test]
fn queue_monitor_alerts_at_the_limit_and_fails_only_when_asked_to() {
    let world = World::migrated();
    world.push_many(0, 5);
    world.push_payload("low", &message(&[event(9)]));
    let done = world.run("queue monitor audit-logs:5,low").ok();
    let status: Vec<_> = done.stdout.lines().skip(1).map(|line| line.split_whitespace().last().unwrap()).collect();
    assert_eq!(status, ["ALERT", "OK"], "{}", done.stdout);
    assert_eq!(world.run("queue monitor audit-logs:5,low --fail").code, Some(3));
    assert_eq!(world.run("queue monitor --max 6 --fail").code, Some(0));
    let lines = &world.run("queue monitor audit-logs:5 --json").ok().json()[0];
    assert_eq!((&lines[0]["size"], &lines[0]["max"], &lines[0]["status"]), (&5.into(), &5.into(), &"ALERT".into()));
}

#[test]
fn monitor_tells_of_queues_spools_and_log_for_people_and_programs() {
    let world = with_failed();
    world.push_many(0, 2);
    world.record(&[("alice", "SELECT 1")]);
    let text = world.run("monitor --failed").ok().stdout;
    for part in
        ["audit-logs      2", "1 event waiting in auditq-spool", "0 rows in sqlite:auditq.db", "Failed messages\n"]
    {
        assert!(text.contains(part), "{part:?}: {text}");
    }
    let object = &world.run("monitor --json --failed --stats").ok().json()[0];
    assert_eq!((&object["queues"][0]["ready"], &object["queues"][0]["failed"]), (&2.into(), &2.into()));
    assert_eq!((&object["spool"]["records_waiting"], &object["rows"]), (&1.into(), &0.into()));
    assert_eq!(object["failed"].as_array().unwrap().len(), 3);
    assert!(object["stats"]["rows_per_second"].is_number(), "{object}");
    world.run("monitor --clear").failed(&["Drop 2 failed messages of audit-logs", "hint: add --yes"]);
    assert_eq!(world.run("monitor --clear --yes").ok().stdout, "Dropped 2 failed messages of audit-logs.\n");
    assert_eq!(world.waiting(), 2, "what waits stays");
}

#[test]
fn monitor_goes_on_looking_until_it_is_stopped() {
    let world = World::migrated();
    let mut watching = world.start("monitor --watch --json");
    watching.says("\"ready\":0");
    world.push_many(0, 2);
    watching.says("\"ready\":2");
    watching.signal(rustix::process::Signal::INT);
    for object in watching.ended().ok().json() {
        assert!(object["taken_at"].is_string());
    }
}
