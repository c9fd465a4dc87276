//! A crontab and a supervisor file written for Laravel, with only the first word changed.

use crate::support::{World, event, message};

#[test]
fn a_worker_line_of_supervisor_works_as_it_stands() {
    let world = World::migrated();
    world.push(&[event(1)]);
    let line = "queue:work database --queue=audit-logs --tries=3 --timeout=30 --sleep=3 --max-jobs=1000 \
                --max-time=3600 --memory=512 --stop-when-empty --verbose --no-interaction";
    let done = world.run(line).ok();
    assert!(done.stdout.contains("stored 1 row of 1 message"), "{}", done.stdout);
    assert!(done.stderr.contains("the connection \"database\" is not looked at"), "{}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 3, "{}", done.stderr);
    world.push(&[event(2)]);
    world.run("artisan queue:work --once").ok();
    assert_eq!((world.rows(), world.waiting()), (2, 0));
}

#[test]
fn each_command_about_the_queue_does_the_same_under_its_old_name() {
    let world = World::migrated();
    world.push_payload("audit-logs", "not a message");
    world.push_payload("low", &message(&[event(1)]));
    assert_eq!(world.run("queue:size audit-logs").ok().stdout, "1\n");
    assert_eq!(world.run("queue:size database:low").ok().stdout, "1\n");
    world.run("queue:work --stop-when-empty").ok();
    let failed = world.run("queue:failed").ok().stdout;
    assert_eq!(failed, world.run("queue failed").ok().stdout);
    let id = failed.split(' ').next().unwrap();
    assert_eq!(world.run(&format!("queue:retry {id}")).ok().stdout, "Put back 1 message.\n");
    world.run("queue:work --stop-when-empty").ok();
    assert_eq!(world.run("queue:retry all").ok().stdout, "Put back 1 message.\n");
    world.run("queue:work --stop-when-empty").ok();
    assert_eq!(world.run(&format!("queue:forget {id}")).ok().stdout, "Forgot 1 message.\n");
    assert_eq!(world.run("queue:flush --hours=48").ok().stdout, "Dropped 0 failed messages.\n");
    assert_eq!(world.run("queue:prune-failed --hours=24").ok().stdout, "Dropped 0 failed messages.\n");
    assert!(world.run("queue:monitor database:low:1,audit-logs --max=5").ok().stdout.contains("ALERT"));
    assert_eq!(world.run("queue:clear database --queue=low --force").ok().stdout, "Dropped 1 message of low.\n");
    world.run("queue:restart").ok();
    world.run("queue:pause database:low").ok();
    world.run("queue:continue low").ok();
    assert!(world.run("audit:monitor --stats").ok().stdout.contains("Statements since"));
    world.run("make:queue-table").ok();
}
