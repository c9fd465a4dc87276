//! When a worker process ends by itself, and how several share a queue.

use crate::support::{World, event, eventually};

#[test]
fn max_jobs_ends_a_worker_after_so_many_messages() {
    let world = World::migrated();
    world.push_many(0, 12);
    let done = world.run("work --max-jobs 10").ok();
    assert!(done.stdout.ends_with("INFO  stopped: --max-jobs is reached\n"), "{}", done.stdout);
    assert_eq!((world.rows(), world.waiting()), (10, 2));
}

#[test]
fn max_time_ends_a_worker_that_has_nothing_to_do() {
    let world = World::new();
    let done = world.run("work --max-time 1 --workers 4 --sleep 3600").ok();
    assert!(done.stdout.ends_with("INFO  stopped: --max-time is reached\n"), "{}", done.stdout);
}

#[test]
fn a_worker_over_its_memory_finishes_what_it_holds_and_exits_with_12() {
    let world = World::migrated();
    world.push(&[event(1)]);
    let done = world.run("work --memory 1");
    assert_eq!(done.code, Some(12), "{done:?}");
    assert!(done.stdout.ends_with("INFO  stopped: it holds more memory than --memory\n"), "{}", done.stdout);
    assert_eq!((world.rows(), world.waiting()), (1, 0));
}

#[test]
fn once_takes_one_message_and_ends_at_once_when_there_is_none() {
    let world = World::migrated();
    world.push_many(0, 3);
    world.run("work --once").ok();
    assert_eq!((world.rows(), world.waiting()), (1, 2));
    world.run("queue clear --yes").ok();
    world.run("work --once").ok();
    assert_eq!(world.rows(), 1);
}

#[test]
fn stop_when_empty_stores_what_spool_and_queue_hold_and_ends() {
    let world = World::new();
    world.record(&[("alice", "SELECT 1"), ("bob", "DELETE FROM orders WHERE id = 3")]);
    let done = world.run("work --stop-when-empty").ok();
    assert!(done.stdout.contains("took over the spool of"), "{}", done.stdout);
    assert!(done.stdout.contains("forwarded 2 events in 1 message"), "{}", done.stdout);
    assert!(done.stdout.contains("stored 2 rows of 1 message"), "{}", done.stdout);
    assert_eq!((world.rows(), world.waiting()), (2, 0));
    world.run("work --stop-when-empty").ok();
    assert_eq!(world.rows(), 2);
}

#[test]
fn a_paused_queue_is_left_alone_until_it_is_resumed() {
    let world = World::migrated();
    world.push_many(0, 3);
    let said = world.run("queue pause").ok().stdout;
    assert_eq!(said, "Paused audit-logs. `auditq queue resume audit-logs` ends it.\n");
    assert!(world.run("monitor").ok().stdout.contains("audit-logs (paused)"));
    let mut worker = world.start("work");
    worker.says("2 workers on audit-logs");
    // A second worker has looked, and found nothing that it may take.
    world.run("work --stop-when-empty").ok();
    assert_eq!((world.rows(), world.waiting()), (0, 3));
    assert_eq!(world.run("queue resume").ok().stdout, "Resumed audit-logs.\n");
    worker.says("stored");
    eventually("the rest", || world.waiting() == 0);
    assert_eq!(world.rows(), 3);
    worker.terminated().ok();
    assert_eq!(world.run("queue resume").ok().stdout, "audit-logs was not paused.\n");
}

#[test]
fn two_processes_share_a_queue_and_store_each_event_once() {
    let world = World::migrated();
    let mut workers = [world.start("work --json"), world.start("work --json")];
    for worker in &mut workers {
        worker.says("\"started\"");
    }
    // Until each has had some: which of them is quicker is not said.
    let mut pushed = 0;
    eventually("both to store", || {
        world.push_many(pushed, 20);
        pushed += 20;
        workers.iter().all(|worker| worker.stdout().contains("\"stored\""))
    });
    eventually("the queue to be empty", || world.waiting() == 0);
    let done = workers.map(|worker| worker.terminated().ok());
    let stored = done.iter().flat_map(crate::support::Done::json);
    let stored = stored.filter(|line| line["event"] == "stored").map(|line| line["rows"].as_u64().unwrap());
    assert_eq!(stored.sum::<u64>(), pushed);
    assert_eq!(world.rows().unsigned_abs(), pushed);
}

#[test]
fn earlier_queues_are_emptied_first() {
    let world = World::migrated();
    world.push(&[event(1)]);
    world.push_payload("high", &crate::support::message(&[event(2)]));
    world.run("work --once --queue high,audit-logs").ok();
    assert_eq!(world.run("queue size high").ok().stdout, "0\n");
    assert_eq!(world.run("queue size").ok().stdout, "1\n");
}

#[test]
fn what_a_worker_does_is_told_to_programs_one_object_a_line() {
    let world = World::migrated();
    world.push(&[event(1)]);
    world.push_payload("audit-logs", "not a message");
    let done = world.run("work --stop-when-empty --json").ok();
    let lines = done.json();
    for line in &lines {
        for key in ["event", "level", "timestamp"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
    let of = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!((&of("stored")["rows"], &of("stored")["level"]), (&1.into(), &"info".into()));
    assert_eq!((&of("failed")["attempts"], &of("failed")["level"]), (&1.into(), &"error".into()));
    assert_eq!(of("stopped")["reason"], "empty");
    assert_eq!(done.stderr, "");
}
