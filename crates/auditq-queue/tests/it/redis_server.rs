//! What a server may do to a queue: be away, start again, hand over to a replica, refuse, and be full.

use std::sync::Arc;
use std::time::Duration;

use auditq_queue::redis::{RedisQueue, RedisQueueOptions};
use auditq_queue::{
    Error, ErrorKind, FailedFilter, MessageId, NewMessage, Queue, QueueAdmin, QueueName, QueueSizes, Remainder,
    Reserved, Selection, conformance,
};
use bytes::Bytes;

use crate::redis_support::{TestKeys, TestServer};
use crate::subjects::{clock, redis_in};

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

fn message(queue: &str, id: usize) -> NewMessage {
    let payload = Bytes::from(format!("{{\"number\":{id}}}"));
    NewMessage { id: MessageId::new(id.to_string()), queue: name(queue), payload, delay: Duration::ZERO }
}

fn messages(ids: std::ops::Range<usize>) -> Vec<NewMessage> {
    ids.map(|id| message("audit", id)).collect()
}

fn open(url: &str) -> RedisQueue {
    RedisQueue::open(url, RedisQueueOptions::default()).unwrap()
}

async fn sizes(queue: &RedisQueue) -> QueueSizes {
    queue.sizes(&name("audit")).await.unwrap()
}

/// The error says so, is of that kind, and shows no password.
fn assert_error(error: &Error, kind: ErrorKind, says: &str) {
    let text = format!("{error} {error:?}");
    assert_eq!(error.kind(), kind, "{text}");
    assert!(error.to_string().contains(says) && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_named_and_found_when_it_comes() {
    let mut server = TestServer::start(&[]);
    server.kill();
    let queue = open(&server.url());
    let error = queue.push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Unavailable, "start the server, or check the host and the port in the URL");
    assert!(error.to_string().contains(&format!("127.0.0.1:{}/0", server.port)), "{error}");
    server.go_on();
    queue.push(&messages(0..1)).await.unwrap();
}

#[tokio::test]
async fn after_a_kill_of_the_server_nothing_is_lost_and_the_next_call_connects() {
    let mut server = TestServer::start(&DURABLE);
    let queue = open(&server.url());
    queue.push(&messages(0..100)).await.unwrap();
    let held = queue.reserve(&[name("audit")], 10).await.unwrap();
    server.kill();
    assert_eq!(queue.push(&messages(100..110)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.go_on();
    queue.push(&messages(90..110)).await.unwrap();
    let found = sizes(&queue).await;
    assert_eq!((found.ready, found.reserved), (100, 10));
    let receipts: Vec<_> = held.into_iter().map(|message| message.receipt).collect();
    assert_eq!(queue.delete(&receipts).await.unwrap(), [], "a reservation outlives a restart");
}

/// A call that a replica refuses finds out who takes writes by now.
#[tokio::test]
async fn a_replica_that_took_over_is_found_by_the_hosts_in_the_url() {
    let (mut first, second) = (TestServer::start(&[]), TestServer::start(&[]));
    second.run::<()>(&format!("REPLICAOF 127.0.0.1 {}", first.port));
    let url = format!("redis://127.0.0.1:{},127.0.0.1:{}/0", second.port, first.port);
    let queue = open(&url);
    queue.push(&messages(0..50)).await.unwrap();
    assert_eq!(first.run::<u64>("LLEN queues:audit"), 50, "the replica comes first in the URL and takes no writes");
    // On one connection, and not for ever.
    let mut connection = first.connect();
    redis::cmd("SET").arg("marker").arg(1).exec(&mut connection).unwrap();
    let replicas: u64 = redis::cmd("WAIT").arg(1).arg(20_000).query(&mut connection).unwrap();
    assert_eq!(replicas, 1);
    first.kill();
    let error = queue.push(&messages(50..60)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    second.run::<()>("REPLICAOF NO ONE");
    queue.push(&messages(40..60)).await.unwrap();
    assert_eq!(sizes(&queue).await.ready, 60);
    // A server that is demoted while it is connected.
    first.go_on();
    second.run::<()>(&format!("REPLICAOF 127.0.0.1 {}", first.port));
    queue.push(&messages(100..101)).await.unwrap();
    assert_eq!(first.run::<u64>("EXISTS queues:audit"), 1);
}

#[tokio::test]
async fn a_replica_alone_is_unavailable_and_says_what_to_name() {
    let (first, second) = (TestServer::start(&[]), TestServer::start(&[]));
    let connected = open(&second.url());
    connected.push(&messages(0..1)).await.unwrap();
    second.run::<()>(&format!("REPLICAOF 127.0.0.1 {}", first.port));
    for queue in [connected, open(&second.url())] {
        let error = queue.push(&messages(1..2)).await.unwrap_err();
        assert_error(&error, ErrorKind::Unavailable, "name the server that takes writes, or all of them as HOST,HOST");
    }
}

#[tokio::test]
async fn a_missing_or_wrong_password_is_misconfigured_and_never_shown() {
    let server = TestServer::start(&["--requirepass", "the-secret"]);
    for login in ["", ":wrong-secret@", "someone:wrong-secret@"] {
        let queue = open(&format!("redis://{login}127.0.0.1:{}/0", server.port));
        let error = queue.push(&messages(0..1)).await.unwrap_err();
        assert_error(&error, ErrorKind::Misconfigured, "check the user and the password in the URL");
        assert!(!format!("{queue:?}").contains("secret"), "{queue:?}");
    }
    let queue = open(&format!("redis://:the-secret@127.0.0.1:{}/0", server.port));
    queue.push(&messages(0..1)).await.unwrap();
    assert!(!format!("{queue:?}").contains("secret"), "{queue:?}");
}

#[tokio::test]
async fn a_user_without_the_rights_is_misconfigured() {
    let server = TestServer::start(&[]);
    server.run::<()>("ACL SETUSER reader on >the-secret ~* +@read +@connection");
    let queue = open(&format!("redis://reader:the-secret@127.0.0.1:{}/0", server.port));
    let error = queue.push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "on all keys with the prefix");
}

#[tokio::test]
async fn a_database_that_there_is_not_is_misconfigured() {
    let server = TestServer::start(&[]);
    let queue = open(&format!("redis://127.0.0.1:{}/99", server.port));
    let error = queue.push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "raise `databases` on the server");
}

/// Workers must go on, or it would stay full.
#[tokio::test]
async fn a_full_server_takes_nothing_and_can_be_emptied() {
    let server = TestServer::start(&["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"]);
    let queue = open(&server.url());
    queue.migrate().await.unwrap();
    let filler = Bytes::from("x".repeat(50_000));
    let batch = |round: usize| -> Vec<_> {
        let large = |message| NewMessage { payload: filler.clone(), ..message };
        messages(round * 4..round * 4 + 4).into_iter().map(large).collect()
    };
    let mut rounds = 0;
    let error = loop {
        match queue.push(&batch(rounds)).await {
            Ok(()) => rounds += 1,
            Err(error) => break error,
        }
    };
    assert_error(&error, ErrorKind::Unavailable, "raise `maxmemory` on the server or let workers empty the queue");
    assert_eq!(sizes(&queue).await.ready, rounds as u64 * 4, "a refused batch leaves nothing behind");
    let held = queue.reserve(&[name("audit")], 20).await.unwrap();
    let mut held: Vec<_> = held.into_iter().map(|message| message.receipt).collect();
    assert_eq!(queue.extend(&held).await.unwrap(), []);
    let left = [held.pop().unwrap(), held.pop().unwrap()].map(Remainder::whole);
    assert_eq!(queue.release(&left[..1], Duration::ZERO).await.unwrap(), []);
    assert_eq!(queue.bury(&left[1..], "full").await.unwrap(), []);
    assert_eq!(queue.delete(&held).await.unwrap(), []);
    queue.push(&batch(rounds)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_waited_for() {
    let mut server = TestServer::start(&DURABLE);
    let queue = open(&server.url());
    queue.push(&messages(0..10)).await.unwrap();
    for key in 0..400 {
        server.run::<()>(&format!("SET filler{key} x"));
    }
    server.run::<()>("BGREWRITEAOF");
    while server.run::<String>("INFO persistence").contains("aof_rewrite_in_progress:1") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.kill();
    let slow = ["--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024"];
    server.options(&slow);
    server.begin();
    let mut loading = 0;
    loop {
        match queue.push(&messages(0..10)).await {
            Ok(()) => break,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                loading += u32::from(error.to_string().contains("answers by itself when it is done"));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(loading > 0);
    assert_eq!(sizes(&queue).await.ready, 10);
}

#[tokio::test]
async fn a_server_that_drops_keys_when_it_is_full_is_refused() {
    let server = TestServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let error = open(&server.url()).migrate().await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "set it to noeviction");
    // No message has a time to live, so these leave them alone.
    server.run::<()>("CONFIG SET maxmemory-policy volatile-lru");
    open(&server.url()).migrate().await.unwrap();
    server.run::<()>("CONFIG SET maxmemory-policy allkeys-random");
    server.run::<()>("CONFIG SET maxmemory 0");
    let queue = open(&server.url());
    queue.migrate().await.unwrap();
    assert!(queue.durability().await.unwrap().eviction().unwrap().contains("allkeys-random"));
}

#[tokio::test]
async fn how_durable_messages_are_is_told() {
    for (options, warns, says) in [
        (&["--appendonly", "no"][..], true, "`appendonly` is off, set it to yes"),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], false, "up to a second"),
        (&["--appendonly", "yes", "--appendfsync", "no"], true, "half a minute"),
        (&DURABLE, false, "before it is answered"),
    ] {
        let server = TestServer::start(options);
        let queue = open(&server.url());
        let durability = queue.durability().await.unwrap();
        let warnings = queue.warnings().await.unwrap();
        assert_eq!(warnings, warns.then(|| durability.statement.clone()).into_iter().collect::<Vec<_>>());
        assert!(durability.statement.contains(says), "{durability:?}");
        assert_eq!((durability.eviction(), durability.maxmemory), (None, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_connection_is_killed_the_next_call_succeeds() {
    let server = TestServer::start(&[]);
    let queue = Arc::new(open(&server.url()));
    for round in 0..200 {
        let pushing = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.push(&messages(round * 5..round * 5 + 5)).await }
        });
        server.run::<u64>("CLIENT KILL TYPE normal SKIPME yes");
        // Pushing the same twice adds nothing, so the driver does that by itself.
        pushing.await.unwrap().unwrap();
        assert_eq!(sizes(&queue).await.ready, round as u64 * 5 + 5);
    }
    let mut unavailable = 0;
    for _ in 0..50 {
        let reserving = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.reserve(&[name("audit")], 1).await }
        });
        server.run::<u64>("CLIENT KILL TYPE normal SKIPME yes");
        if let Err(error) = reserving.await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            unavailable += 1;
            queue.control().await.unwrap();
        }
    }
    let found = sizes(&queue).await;
    assert!(found.total() == 1_000 && found.reserved >= 50 - unavailable, "{found:?}, {unavailable} unavailable");
}

#[tokio::test]
async fn a_server_that_forgot_its_scripts_is_told_them_again() {
    let server = TestServer::start(&[]);
    let queue = open(&server.url());
    queue.push(&messages(0..1)).await.unwrap();
    server.run::<()>("SCRIPT FLUSH");
    queue.push(&messages(1..2)).await.unwrap();
    assert_eq!(sizes(&queue).await.ready, 2);
}

/// Each bury and each retry is one script, which a server that is killed has in its file whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_around_bury_and_retry_leaves_each_message_in_exactly_one_place() {
    const MESSAGES: usize = 50;
    let mut server = TestServer::start(&DURABLE);
    let queue = Arc::new(open(&server.url()));
    queue.push(&messages(0..MESSAGES)).await.unwrap();
    for round in 0..8_u64 {
        let (turns, mut turned) = tokio::sync::watch::channel(0_u64);
        let working = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move {
                while bury_and_retry(&queue).await.is_ok() {
                    turns.send_modify(|turns| *turns += 1);
                }
            }
        });
        // Somewhere in the turn after that, however slow the machine is.
        turned.wait_for(|turns| *turns > round % 3).await.unwrap();
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..20_000))).await;
        server.kill();
        working.await.unwrap();
        server.go_on();
        let found = sizes(&queue).await;
        assert_eq!(found.total() + found.failed, MESSAGES as u64, "round {round}: {found:?}");
        // What was held when the server went away.
        let held = server.run::<Vec<String>>("ZRANGE queues:audit:reserved 0 -1");
        queue.retry(&Selection::all()).await.unwrap();
        let ready = queue.reserve(&[name("audit")], MESSAGES).await.unwrap();
        assert_eq!(ready.len() + held.len(), MESSAGES);
        let receipts: Vec<_> = ready.iter().cloned().map(|message| Remainder::whole(message.receipt)).collect();
        queue.release(&receipts, Duration::ZERO).await.unwrap();
        for member in held {
            server.run::<u64>(&format!("ZADD queues:audit:reserved 1 {member}"));
        }
    }
    let everything: Vec<Reserved> = queue.reserve(&[name("audit")], 1_000).await.unwrap();
    let mut numbers: Vec<_> = everything.into_iter().map(|message| message.payload).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), MESSAGES);
}

async fn bury_and_retry(queue: &RedisQueue) -> auditq_queue::Result<()> {
    let held = queue.reserve(&[name("audit")], 7).await?;
    let held: Vec<_> = held.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
    let (give_back, give_up) = held.split_at(held.len() / 2);
    queue.bury(give_up, "for the test").await?;
    queue.release(give_back, Duration::ZERO).await?;
    queue.retry(&Selection::all()).await?;
    Ok(())
}

fn cluster() -> TestServer {
    let server = TestServer::start(&["--cluster-enabled", "yes"]);
    server.run::<()>("CLUSTER ADDSLOTSRANGE 0 16383");
    for _ in 0..1_000 {
        if server.run::<String>("CLUSTER INFO").contains("cluster_state:ok") {
            return server;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the cluster of one does not come up");
}

/// A cluster refuses a script whose keys are in several slots, also when it has one node.
#[tokio::test]
async fn in_a_cluster_queues_in_braces_work_and_keep_to_their_slots() {
    let server = cluster();
    let queue = redis_in(&server.url(), Some(clock())).await;
    for tagged in ["{audit}", "mail{audit}", "{other}"] {
        queue.push(&[message(tagged, 1), message(tagged, 2), message(tagged, 3)]).await.unwrap();
        let later = NewMessage { delay: Duration::from_secs(60), ..message(tagged, 4) };
        queue.push(&[later]).await.unwrap();
        let held = queue.reserve(&[name(tagged)], 3).await.unwrap();
        let held: Vec<_> = held.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
        if tagged == "mail{audit}" {
            assert!(held.is_empty(), "ids are known among the queues of a tag");
            continue;
        }
        queue.bury(&held[..1], "no").await.unwrap();
        queue.release(&held[1..2], Duration::ZERO).await.unwrap();
        queue.pause(&name(tagged)).await.unwrap();
        let found = queue.sizes(&name(tagged)).await.unwrap();
        assert_eq!((found.ready, found.delayed, found.reserved, found.failed), (1, 1, 1, 1));
    }
    let failed = queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert_eq!(failed.len(), 2);
    assert_eq!(queue.queues().await.unwrap(), ["{audit}", "{other}"].map(name));
    assert_eq!(queue.control().await.unwrap().paused, ["{audit}", "{other}"].map(name));
    let slot = |key: &str| server.run::<u64>(&format!("CLUSTER KEYSLOT {key}"));
    let keys = server.run::<Vec<String>>("KEYS *");
    let (audit, other) = (slot("{audit}"), slot("{other}"));
    for key in keys.iter().filter(|key| *key != "auditq:tags") {
        let expected = if key.contains("{audit}") { audit } else { other };
        assert_eq!(slot(key), expected, "{key}");
    }
    assert!(keys.len() > 18, "{keys:?}");
    assert_eq!(queue.retry(&Selection::all()).await.unwrap(), 2);
    assert_eq!(queue.clear(&name("{audit}")).await.unwrap(), 4);

    let error = queue.push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "put its name in braces, such as {audit-logs}");
}

async fn subject_on(server: &TestServer) -> conformance::Subject {
    let (clock, keys) = (clock(), TestKeys::on(&server.url()));
    let url = keys.url().replace("prefix=", "prefix={auditq}");
    let queue = Arc::new(redis_in(&url, Some(Arc::clone(&clock) as _)).await);
    conformance::Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(keys) }
}

#[tokio::test]
async fn in_a_cluster_the_promises_hold_under_a_prefix_in_braces() {
    let server = cluster();
    macro_rules! hold {
        ($($promise:ident)+) => {$(
            conformance::$promise(&subject_on(&server).await).await;
        )+};
    }
    hold! {
        promise_1_pushing_again_adds_nothing
        promise_2_a_message_is_returned_until_it_is_deleted
        promise_5_a_stale_receipt_changes_nothing
        promise_6_a_released_message_waits_for_its_delay
        promise_7_a_buried_message_is_among_the_failed_and_nowhere_else
        promise_8_queues_named_earlier_are_emptied_first
        promise_9_sizes_tell_where_the_messages_are
        promise_10_retry_puts_messages_back_as_new
        promise_11_bury_replaces_the_payload_with_what_is_left
        forget_drops_what_is_named_or_old_enough
        clear_drops_reserved_messages_too
        nothing_is_taken_from_a_paused_queue
        wait_returns_when_a_message_is_pushed
    }
}
