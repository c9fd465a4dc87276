//! A disk that is full: workers wait and say so, go on when there is room, and nothing is lost.

use crate::support::{Running, SmallDisk, World, event, eventually, number, open};

/// A world whose log is on a small disk, and whose queue is not.
fn with_small_log(disk: &SmallDisk) -> World {
    let world = World::with(&format!("[store]\nurl = \"sqlite:{}/audit.db\"\n", disk.path().display()));
    world.run("migrate").ok();
    world
}

/// A worker that has stored one row, and waits for room for ten more.
fn waiting_worker(world: &World, disk: &SmallDisk) -> Running {
    world.push(&[event(100)]);
    let mut worker = world.start("work");
    worker.says("stored 1 row of 1 message");
    disk.fill();
    let mut large = event(1);
    large.statement.sql = format!("SELECT '{}'", "x".repeat(60_000));
    let events: Vec<_> = (1..=10).map(|number| auditq_event::Event { producer_seq: number, ..large.clone() }).collect();
    world.push(&events);
    worker.says(" WAIT\n");
    assert!(worker.stdout().contains("free some space"), "{}", worker.stdout());
    worker
}

fn rows(disk: &SmallDisk) -> i64 {
    number(&open(&disk.path().join("audit.db")), "SELECT count(*) FROM audit_sql_logs")
}

#[test]
fn a_worker_waits_for_room_and_goes_on_by_itself() {
    let disk = SmallDisk::mount("4m");
    let world = with_small_log(&disk);
    let mut worker = waiting_worker(&world, &disk);
    assert_eq!(world.run("queue failed").ok().stdout, "", "nothing is given up");
    disk.free();
    worker.says("queue and store answer again");
    worker.says("stored 10 rows of 1 message");
    worker.terminated().ok();
    assert_eq!((rows(&disk), world.waiting()), (11, 0));
}

#[test]
fn a_worker_that_is_stopped_while_it_waits_gives_back_what_it_holds() {
    let disk = SmallDisk::mount("4m");
    let world = with_small_log(&disk);
    let worker = waiting_worker(&world, &disk);
    assert_eq!(world.number("SELECT count(*) FROM jobs WHERE reserved_at IS NOT NULL"), 1);
    worker.terminated().ok();
    assert_eq!(world.number("SELECT count(*) FROM jobs WHERE reserved_at IS NULL"), 1, "at once, not when it lapses");
    disk.free();
    world.run("work --stop-when-empty").ok();
    assert_eq!((rows(&disk), world.waiting()), (11, 0));
}

#[test]
fn a_full_disk_under_the_queue_keeps_events_in_the_spool() {
    let disk = SmallDisk::mount("4m");
    let world = World::with(&format!(
        "[queue]\nurl = \"sqlite:{0}/audit.db\"\n[store]\nurl = \"sqlite:{0}/audit.db\"\n",
        disk.path().display()
    ));
    world.run("migrate").ok();
    disk.fill();
    let large = format!("SELECT '{}'", "x".repeat(50_000));
    let statements: Vec<_> = (0..10).map(|number| format!("{large}, {number}")).collect();
    world.record(&statements.iter().map(|sql| ("alice", sql.as_str())).collect::<Vec<_>>());
    let mut worker = world.start("work");
    worker.says(" WAIT\n");
    // Full, or so full that it cannot even be opened.
    assert!(worker.stdout().contains("; free some space") || worker.stdout().contains("; its disk may be full"));
    disk.free();
    eventually("all rows", || rows(&disk) == 10);
    worker.terminated().ok();
}
