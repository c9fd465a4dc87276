//! Making tables, copying the log, removing old rows.

use crate::support::{World, event, eventually, number, open};

#[test]
fn migrating_again_changes_nothing() {
    let world = World::migrated();
    world.push(&[event(1)]);
    world.run("work --stop-when-empty").ok();
    let schema = || world.number("SELECT count(*) FROM sqlite_schema");
    let before = schema();
    let done = world.run("migrate").ok();
    assert!(done.stdout.ends_with("are up to date.\n"), "{}", done.stdout);
    assert_eq!((schema(), world.rows()), (before, 1));
}

#[test]
fn the_log_is_copied_while_a_worker_goes_on() {
    let world = World::migrated();
    let mut worker = world.start("work");
    world.push_many(0, 2_000);
    worker.says("stored");
    let done = world.run("backup copy.db").ok();
    assert!(done.stdout.starts_with("Copied sqlite:auditq.db to copy.db ("), "{}", done.stdout);
    let copied = number(&open(&world.path("copy.db")), "SELECT count(*) FROM audit_sql_logs");
    assert!((1..=2_000).contains(&copied), "{copied}");
    eventually("all rows", || world.rows() == 2_000);
    worker.terminated().ok();
    // The copy is a log like the original.
    let mut command = world.command("log --json --limit 1");
    command.env("AUDITQ_STORE_URL", "sqlite:copy.db");
    assert_eq!(String::from_utf8(command.output().unwrap().stdout).unwrap().lines().count(), 1);
    world.run("backup copy.db").failed(&["exists already", "never overwritten", "name another"]);
    world.run("backup no/such/folder/copy.db").failed(&["cannot back up"]);
}

#[test]
fn rows_are_removed_by_age_and_never_without_a_yes() {
    let world = World::migrated();
    let mut recent = event(1);
    recent.occurred_at = 1_000_000 * number(&world.database(), "SELECT unixepoch()");
    world.push(&[event(2), event(3), recent]);
    // The two are of September 2026; the third is of now, whenever that is.
    let mut old = event(4);
    old.occurred_at = 1_000_000;
    world.push(&[old]);
    world.run("work --stop-when-empty").ok();
    assert_eq!(world.rows(), 4);
    let line = "prune --older-than 3650d";
    let said = world.run(&format!("{line} --dry-run")).ok().stdout;
    assert!(said.starts_with("There is 1 row from before "), "{said}");
    world.run(line).failed(&["Remove 1 row from before", "add --yes"]);
    assert_eq!(world.rows(), 4);
    assert_eq!(world.run(&format!("{line} --yes")).ok().stdout, "Removed 1 row.\n");
    assert_eq!(world.rows(), 3);
    assert_eq!(world.run("prune --older-than 90").code, Some(2));
}
