//! From the inbox to the queue, whatever else is in there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use auditq_queue::{Error, ErrorKind, Queue};
use auditq_worker::{Forwarder, InboxStatus, Observer, RetryPolicy, WorkEvent};

use crate::support::{Watched, World, queries, queue_name, unavailable, within};

fn inbox(world: &World) -> PathBuf {
    let inbox = world.dir.path().join("spool/inbox");
    fs::create_dir_all(&inbox).unwrap();
    inbox
}

fn name(number: u64) -> String {
    format!("{:016}-{}.json", 1_800_000_000_000_000 + number, uuid::Uuid::from_u128(number.into()))
}

/// Leaves the queries of one request.
fn leave(inbox: &Path, number: u64) {
    fs::write(inbox.join(name(number)), queries(number.into(), &[(number, "alice")])).unwrap();
}

fn forwarder_to(world: &World, queue: Arc<dyn Queue>) -> Forwarder {
    let events = Arc::clone(&world.events);
    let observer = Observer::new(move |event: &WorkEvent| events.lock().unwrap().push(event.clone()));
    let policy = RetryPolicy { tries: 3, max_exceptions: 3, backoff: vec![] };
    Forwarder::new(world.dir.path().join("spool"), queue, queue_name(), 100, policy, world.shutdown.clone(), observer)
}

fn forwarder(world: &World) -> Forwarder {
    forwarder_to(world, world.queue.clone())
}

/// The names that are left, those of the forwarder's own files apart.
fn left(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

#[tokio::test]
async fn each_file_becomes_one_message_and_goes_once_the_queue_has_it() {
    let world = World::new().await;
    let inbox = inbox(&world);
    assert_eq!(forwarder(&world).drain().await.unwrap(), 0);
    for number in (1..=200).rev() {
        leave(&inbox, number);
    }
    let status = InboxStatus::look(&world.dir.path().join("spool")).unwrap();
    assert_eq!((status.files, status.rejected, status.oldest_at), (200, 0, Some(1_800_000_000_000_001)));
    assert_eq!(forwarder(&world).drain().await.unwrap(), 200);
    assert_eq!(left(&inbox), Vec::<String>::new());
    let first = world.queue.reserve(&[queue_name()], 1).await.unwrap();
    let payload = String::from_utf8(first[0].payload.to_vec()).unwrap();
    assert_eq!(payload, queries(1, &[(1, "alice")]), "the oldest first, and as it was left");
    world.queue.decline(&[first[0].receipt.clone()], Duration::ZERO).await.unwrap();
    world.work().await.unwrap();
    assert_eq!(world.stored().await, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_message_is_put_aside_and_holds_up_nobody() {
    let world = World::new().await;
    let inbox = inbox(&world);
    let elsewhere = world.dir.path().join("elsewhere");
    fs::write(&elsewhere, queries(7, &[(7, "mallory")])).unwrap();
    symlink(&elsewhere, inbox.join(name(1))).unwrap();
    symlink(world.dir.path(), inbox.join("way-out")).unwrap();
    fs::create_dir_all(inbox.join(name(2)).join("deep")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, inbox.join(name(3)), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    fs::File::create(inbox.join(name(4))).unwrap().set_len((16 << 20) + 1).unwrap();
    fs::write(inbox.join(name(5)), "{\"uuid\":\"no\"").unwrap();
    fs::write(inbox.join(name(6)), queries(6, &[(6, "alice")]).replace("auditq@queries", "Mail@send")).unwrap();
    fs::write(inbox.join("notes.txt"), "mine").unwrap();
    fs::write(inbox.join("given-up.tmp"), "half a mess").unwrap();
    let old = SystemTime::now() - Duration::from_secs(3_700);
    fs::File::options().write(true).open(inbox.join("given-up.tmp")).unwrap().set_modified(old).unwrap();
    fs::write(inbox.join("being-written.tmp"), "half a mess").unwrap();
    leave(&inbox, 8);

    assert_eq!(forwarder(&world).drain().await.unwrap(), 1);
    assert_eq!(left(&inbox), ["being-written.tmp", "rejected"]);
    assert_eq!(left(&inbox.join("rejected")).len(), 9);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), queries(7, &[(7, "mallory")]), "no link was followed");
    assert_eq!(InboxStatus::look(&world.dir.path().join("spool")).unwrap().rejected, 9);
    world.work().await.unwrap();
    assert_eq!(world.stored().await, [8]);
}

/// Who may write in the folder must not make the worker write, move or read anywhere else.
#[tokio::test]
async fn links_in_the_place_of_its_folders_are_not_followed() {
    let world = World::new().await;
    let elsewhere = world.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("passwd"), "root").unwrap();
    leave(&elsewhere, 1);
    fs::create_dir(world.dir.path().join("spool")).unwrap();
    symlink(&elsewhere, world.dir.path().join("spool/inbox")).unwrap();
    assert_eq!(forwarder(&world).drain().await.unwrap(), 0);
    assert_eq!(left(&elsewhere), [name(1), "passwd".to_owned()]);

    fs::remove_file(world.dir.path().join("spool/inbox")).unwrap();
    let inbox = inbox(&world);
    symlink(&elsewhere, inbox.join("rejected")).unwrap();
    symlink(&elsewhere, inbox.join(".lock")).unwrap();
    fs::write(inbox.join("cron"), "* * * * * root").unwrap();
    leave(&inbox, 2);
    assert_eq!(forwarder(&world).drain().await.unwrap(), 0, "not without its lock");
    fs::remove_file(inbox.join(".lock")).unwrap();
    assert_eq!(forwarder(&world).drain().await.unwrap(), 1);
    assert_eq!(left(&elsewhere), [name(1), "passwd".to_owned()]);
    assert_eq!(left(&inbox), ["cron", "rejected"]);
}

#[tokio::test]
async fn what_the_queue_refuses_is_put_aside_and_the_others_go_on() {
    let world = World::new().await;
    let inbox = inbox(&world);
    (1..=3).for_each(|number| leave(&inbox, number));
    let pushes = std::sync::atomic::AtomicUsize::new(0);
    // All together, and then the second alone.
    let at = move |operation: &'static str| match operation {
        "push" if [0, 2].contains(&pushes.fetch_add(1, Ordering::Relaxed)) => {
            Err(Error::new(ErrorKind::Rejected, "narrow", "made to be too small"))
        }
        _ => Ok(()),
    };
    let queue = Arc::new(Watched { inner: world.queue.clone(), at });
    forwarder_to(&world, queue).drain().await.unwrap();
    world.work().await.unwrap();
    assert_eq!(world.stored().await, [1, 3]);
    let aside = left(&inbox.join("rejected"));
    assert!(aside.len() == 1 && aside[0].ends_with(&name(2)), "{aside:?}");
}

#[tokio::test]
async fn a_queue_that_is_down_is_waited_for_and_the_files_stay() {
    let world = World::new().await;
    let inbox = inbox(&world);
    (1..=3).for_each(|number| leave(&inbox, number));
    let down = Arc::new(AtomicBool::new(true));
    let at = {
        let down = Arc::clone(&down);
        move |_| if down.load(Ordering::Relaxed) { Err(unavailable()) } else { Ok(()) }
    };
    let mut forwarder = forwarder_to(&world, Arc::new(Watched { inner: world.queue.clone(), at }));
    let forwarding = tokio::spawn(async move { forwarder.drain().await.unwrap() });
    world.until(|event| matches!(event, WorkEvent::Waiting { .. })).await;
    assert_eq!(left(&inbox).len(), 3);
    down.store(false, Ordering::Relaxed);
    assert_eq!(forwarding.await.unwrap(), 3);
    assert_eq!(left(&inbox), Vec::<String>::new());
}

/// As after a crash between push and removal.
#[tokio::test]
async fn what_was_pushed_and_not_removed_is_stored_once() {
    let world = World::new().await;
    let inbox = inbox(&world);
    for _ in 0..2 {
        leave(&inbox, 1);
        assert_eq!(forwarder(&world).drain().await.unwrap(), 1);
    }
    assert_eq!(world.sizes().await.ready, 1, "while it is in the queue it is the same message");
    world.work().await.unwrap();
    leave(&inbox, 1);
    assert_eq!(forwarder(&world).drain().await.unwrap(), 1);
    world.work().await.unwrap();
    assert_eq!(world.stored().await, [1]);
}

#[tokio::test]
async fn two_forwarders_do_not_read_the_same_inbox() {
    let world = World::new().await;
    let inbox = inbox(&world);
    let (mut first, mut second) = (forwarder(&world), forwarder(&world));
    leave(&inbox, 1);
    assert_eq!(first.drain().await.unwrap(), 1);
    leave(&inbox, 2);
    assert_eq!(second.drain().await.unwrap(), 0);
    drop(first);
    assert_eq!(second.drain().await.unwrap(), 1);
    // One that is made while a forwarder runs is found.
    let shutdown = world.shutdown.clone();
    let running = tokio::spawn(async move { second.run().await });
    fs::remove_dir_all(&inbox).unwrap();
    fs::create_dir_all(&inbox).unwrap();
    leave(&inbox, 3);
    within(Duration::from_secs(20), async || left(&inbox).is_empty()).await;
    shutdown.request();
    running.await.unwrap().unwrap();
}
