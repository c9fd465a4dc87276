//! Searching the log.

use rustix::process::Signal;

use crate::support::{World, event};

/// A log of three statements, recorded as an application does.
fn with_log() -> World {
    let world = World::new();
    world.record(&[
        ("alice", "SELECT * FROM orders WHERE id = 1"),
        ("bob", "DELETE FROM customers WHERE id = 2"),
        ("alice", "UPDATE orders SET total = 3 WHERE note = 'caf\u{e9}'"),
    ]);
    world.run("work --stop-when-empty").ok();
    world
}

/// The statements that a search finds, as they begin.
fn found(world: &World, conditions: &str) -> Vec<String> {
    let rows = world.run(&format!("log --json {conditions}")).ok().json();
    rows.iter().map(|row| row["sql"].as_str().unwrap()[..6].to_owned()).collect()
}

#[test]
fn statements_are_found_by_who_what_where_and_when() {
    let world = with_log();
    assert_eq!(found(&world, ""), ["UPDATE", "DELETE", "SELECT"]);
    assert_eq!(found(&world, "--user alice"), ["UPDATE", "SELECT"]);
    assert_eq!(found(&world, "--table orders --operation select"), ["SELECT"]);
    assert_eq!(found(&world, "--text CUSTOMERS"), ["DELETE"]);
    assert_eq!(found(&world, "--status error"), Vec::<String>::new());
    assert_eq!(found(&world, "--since 1h --until 0s").len(), 3);
    assert_eq!(found(&world, "--until 2020-01-01").len(), 0);
    assert_eq!(found(&world, "--limit 1"), ["UPDATE"]);
    let first = &world.run("log --json --limit 1").ok().json()[0];
    assert_eq!(found(&world, &format!("--before {}", first["id"])), ["DELETE", "SELECT"]);
    assert_eq!(found(&world, &format!("--fingerprint {}", first["fingerprint"].as_str().unwrap())), ["UPDATE"]);
    let text = world.run("log --user bob").ok().stdout;
    assert_eq!(text.lines().count(), 2, "a heading and a row: {text}");
    assert!(text.contains("bob") && text.contains("delete") && text.contains("DELETE FROM customers"), "{text}");
}

#[test]
fn one_statement_is_shown_with_everything_that_is_known() {
    let world = with_log();
    let row = &world.run("log --json --user bob").ok().json()[0];
    let id = row["event_id"].as_str().unwrap();
    let shown = world.run(&format!("log show {id}")).ok().stdout;
    assert_eq!(shown, world.run(&format!("log --id {id}")).ok().stdout);
    for part in [id, "user            bob", "tables          customers", "  DELETE FROM customers WHERE id = 2\n"] {
        assert!(shown.contains(part), "{part:?}: {shown}");
    }
    assert_eq!(&world.run(&format!("log show {id} --json")).ok().json()[0], row);
    world.run("log show 01900000-0000-7000-8000-000000000000").failed(&["there is no statement", "auditq monitor"]);
}

#[test]
fn a_search_that_cannot_be_meant_says_what_it_takes() {
    let world = with_log();
    for (line, says) in [
        ("log --operation foo", "it is one of"),
        ("log --since yesterday", "is not a time, such as 1h"),
        ("log --limit 0", "a number from 1 to 1,000,000"),
        ("log --id zzz", "32 hexadecimal digits"),
        ("log --fingerprint xyz", "hexadecimal"),
    ] {
        let done = world.run(line);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{line}");
        assert!(done.stderr.contains(says), "{line}: {}", done.stderr);
    }
}

#[test]
fn a_copy_that_an_auditor_may_only_read_is_searched_like_the_original() {
    let world = with_log();
    let disk = crate::support::SmallDisk::mount("4m");
    let copy = disk.path().join("copy.db");
    world.run(&format!("backup {}", copy.display())).ok();
    disk.make_read_only();
    let search = |line: &str| {
        let mut command = world.command(line);
        let output = command.env("AUDITQ_STORE_URL", format!("sqlite:{}", copy.display())).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stdout, stderr) = search("log --user bob");
    assert_eq!((code, stdout.as_str()), (Some(0), world.run("log --user bob").ok().stdout.as_str()), "{stderr}");
    let (code, _, stderr) = search("prune --older-than 0s --yes");
    assert!(code == Some(1) && stderr.contains("open for reading only"), "{stderr}");
}

#[test]
fn following_shows_each_new_row_once_until_it_is_stopped() {
    let world = with_log();
    let mut following = world.start("log --follow --json --user alice");
    following.says("UPDATE orders");
    world.push(&[event(100)]);
    world.run("work --stop-when-empty").ok();
    following.says("id = 100");
    following.signal(Signal::INT);
    let rows = following.ended().ok().json();
    let sql: Vec<_> = rows.iter().map(|row| &row["sql"].as_str().unwrap()[..6]).collect();
    assert_eq!(sql, ["SELECT", "UPDATE", "SELECT"], "the past oldest first, then what is new");
}

#[test]
fn a_reader_that_has_enough_ends_it_without_a_complaint() {
    let world = World::migrated();
    world.push_many(0, 3_000);
    world.run("work --stop-when-empty").ok();
    let mut command = world.command("log --json --limit 3000");
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}
