//! A cluster of three Redis nodes, of which the URL names one: the driver goes to where the keys are.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditq_queue::redis::{RedisQueue, RedisQueueOptions};
use auditq_queue::{
    FailedFilter, MessageId, NewMessage, Queue, QueueAdmin, QueueName, Receipt, Remainder, Selection, conformance,
};
use bytes::Bytes;

use crate::redis_support::TestServer;
use crate::subjects::{clock, redis_in};

/// Three nodes that share the slots, without replicas.
fn cluster() -> Vec<TestServer> {
    let start = || {
        let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        TestServer::start(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"])
    };
    let nodes: Vec<TestServer> = (0..3).map(|_| start()).collect();
    let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(addresses).arg("--cluster-yes");
    let created = create.output().unwrap_or_else(|error| panic!("these tests need `redis-cli` ({error})"));
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    let began = Instant::now();
    while !nodes.iter().all(|node| node.run::<String>("CLUSTER INFO").contains("cluster_state:ok")) {
        assert!(began.elapsed() < Duration::from_secs(30), "the cluster of three does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    nodes
}

fn name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

fn messages(queue: &str, ids: std::ops::Range<usize>) -> Vec<NewMessage> {
    let message = |id: usize| NewMessage {
        id: MessageId::new(format!("{queue} {id}")),
        queue: name(queue),
        payload: Bytes::from(format!("{{\"number\":{id}}}")),
        delay: Duration::ZERO,
    };
    ids.map(message).collect()
}

fn open(node: &TestServer) -> RedisQueue {
    RedisQueue::open(&node.url(), RedisQueueOptions::default()).unwrap()
}

async fn take(queue: &RedisQueue, from: &str, limit: usize) -> Vec<Receipt> {
    let taken = queue.reserve(&[name(from)], limit).await.unwrap();
    taken.into_iter().map(|message| message.receipt).collect()
}

/// Whichever node is named: queues whose keys are on all of the three.
#[tokio::test]
async fn queues_are_served_wherever_their_keys_are() {
    let nodes = cluster();
    let queues = ["{a}", "{b}", "{c}", "{audit-logs}"];
    let places: BTreeSet<u64> =
        queues.iter().map(|queue| nodes[0].run::<u64>(&format!("CLUSTER KEYSLOT {queue}")) * 3 / 16_384).collect();
    assert_eq!(places.len(), 3, "the queues of this test are on three nodes");
    for node in &nodes {
        let queue = open(node);
        queue.migrate().await.unwrap();
        for each in queues {
            queue.push(&messages(each, 0..10)).await.unwrap();
            let held = take(&queue, each, 6).await;
            assert_eq!(held.len(), 6);
            assert_eq!(queue.delete(&held[..3]).await.unwrap(), []);
            queue.bury(&[Remainder::whole(held[3].clone())], "no").await.unwrap();
            queue.release(&[Remainder::whole(held[4].clone())], Duration::from_secs(60)).await.unwrap();
            assert_eq!(queue.extend(&held[5..]).await.unwrap(), []);
            let found = queue.sizes(&name(each)).await.unwrap();
            assert_eq!((found.ready, found.delayed, found.reserved, found.failed), (4, 1, 1, 1), "{each}");
        }
        assert_eq!(queue.queues().await.unwrap().len(), 4);
        assert_eq!(queue.failed(&FailedFilter::default()).await.unwrap().messages.len(), 4);
        assert_eq!(queue.retry(&Selection::all()).await.unwrap(), 4);
        let before = queue.control().await.unwrap().restart;
        queue.restart().await.unwrap();
        queue.pause(&name("{b}")).await.unwrap();
        let control = queue.control().await.unwrap();
        assert_eq!((control.restart, control.paused), (before + 1, vec![name("{b}")]));
        queue.resume(&name("{b}")).await.unwrap();
        for each in queues {
            assert_eq!(queue.clear(&name(each)).await.unwrap(), 7, "{each}");
        }
    }
}

/// The token that wakes is on another node than the one that is named.
#[tokio::test]
async fn who_waits_hears_of_what_another_pushed() {
    let nodes = cluster();
    for node in &nodes {
        let (worker, producer) = (open(node), open(&nodes[0]));
        let queues = [name("{audit-logs}")];
        assert!(worker.reserve(&queues, 10).await.unwrap().is_empty());
        let waiting = async {
            let began = Instant::now();
            while worker.reserve(&queues, 10).await.unwrap().is_empty() {
                assert!(began.elapsed() < Duration::from_secs(10), "nobody woke it");
                worker.wait(&queues, Duration::from_secs(5)).await;
            }
        };
        let pushing = async { producer.push(&messages("{audit-logs}", 0..1)).await.unwrap() };
        tokio::join!(waiting, pushing);
        assert_eq!(producer.clear(&queues[0]).await.unwrap(), 1);
    }
}

/// Its data is there again when it comes back, and until then it is away, whatever the others could do.
#[tokio::test]
async fn a_node_that_is_killed_is_waited_for() {
    let mut nodes = cluster();
    for node in &mut nodes {
        node.run::<()>("CONFIG SET cluster-require-full-coverage no");
        node.run::<()>("CONFIG SET appendonly yes");
        node.run::<()>("CONFIG SET appendfsync always");
        node.options(&["--appendonly", "yes"]);
    }
    let queue = open(&nodes[0]);
    queue.push(&messages("{audit-logs}", 0..20)).await.unwrap();
    let slot = nodes[0].run::<u64>("CLUSTER KEYSLOT {audit-logs}");
    let place = usize::try_from(slot * 3 / 16_384).unwrap();
    let began = Instant::now();
    while nodes[place].run::<String>("INFO persistence").contains("aof_rewrite_in_progress:1") {
        assert!(began.elapsed() < Duration::from_secs(30), "the append-only file is not written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    nodes[place].kill();
    assert!(queue.push(&messages("{audit-logs}", 20..21)).await.is_err());
    nodes[place].go_on();
    while let Err(error) = queue.push(&messages("{audit-logs}", 20..21)).await {
        assert!(began.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(take(&queue, "{audit-logs}", 100).await.len(), 21);
}

async fn subject_on(node: &TestServer) -> conformance::Subject {
    let clock = clock();
    let url = format!("{}?prefix={{auditq-{:08x}}}", node.url(), fastrand::u32(..));
    let queue = Arc::new(redis_in(&url, Some(Arc::clone(&clock) as _)).await);
    conformance::Subject { queue: Arc::clone(&queue) as _, admin: queue, clock: Some(clock), keep: Box::new(()) }
}

#[tokio::test]
async fn the_promises_hold_whichever_node_is_named() {
    let nodes = cluster();
    macro_rules! hold {
        ($($promise:ident)+) => {$(
            for node in &nodes {
                conformance::$promise(&subject_on(node).await).await;
            }
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
