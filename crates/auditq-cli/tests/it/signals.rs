//! How a worker process is stopped.

use rustix::process::Signal;

use crate::support::{World, event, eventually};

/// A worker that is serving: it has stored something already.
fn serving(world: &World) -> crate::support::Running {
    let mut worker = world.start("work");
    worker.says("2 workers on audit-logs");
    world.push(&[event(1)]);
    worker.says("stored 1 row of 1 message");
    worker
}

#[test]
fn term_int_and_quit_end_a_worker_with_nothing_held() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let world = World::migrated();
        let worker = serving(&world);
        worker.signal(signal);
        let done = worker.ended().ok();
        assert!(done.stdout.ends_with("INFO  stopped: it was asked to\n"), "{signal:?}: {}", done.stdout);
        assert!(done.stderr.contains("finishing what is held"), "{signal:?}: {}", done.stderr);
        assert_eq!((world.rows(), world.waiting()), (1, 0));
    }
}

#[test]
fn what_laravel_pauses_a_worker_with_is_explained_and_does_not_end_it() {
    let world = World::migrated();
    let worker = serving(&world);
    worker.signal(Signal::USR2);
    eventually("the note", || worker.stderr().contains("use `auditq queue pause`"));
    world.push(&[event(2)]);
    eventually("the second row", || world.rows() == 2);
    worker.terminated().ok();
}

#[test]
fn a_restart_that_is_asked_for_ends_a_running_worker_and_not_the_next() {
    let world = World::migrated();
    let worker = serving(&world);
    let said = world.run("queue restart").ok().stdout;
    assert!(said.contains("every running worker"), "{said}");
    let done = worker.ended().ok();
    assert!(done.stdout.ends_with("INFO  stopped: a restart was asked for\n"), "{}", done.stdout);
    // One that starts later is not meant.
    let mut next = world.start("work");
    next.says("2 workers on audit-logs");
    world.push(&[event(2)]);
    next.says("stored 1 row of 1 message");
    assert!(next.terminated().ok().stdout.contains("stopped: it was asked to"));
}

#[test]
fn a_worker_killed_in_the_middle_leaves_nothing_behind_that_another_cannot_take() {
    let world = World::migrated();
    world.push_many(0, 500);
    let mut worker = world.start("work");
    worker.says("stored");
    worker.signal(Signal::KILL);
    assert_eq!(worker.ended().code, None);
    // What it held comes back when its reservation lapses.
    let mut next = world.start("work");
    eventually("all rows", || world.rows() == 500 && world.waiting() == 0);
    next.says("stored");
    next.terminated().ok();
    assert_eq!(world.number("SELECT count(DISTINCT event_id) FROM audit_sql_logs"), 500);
}
