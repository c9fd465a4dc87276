//! What a server may do to a queue: be away, start again, refuse, and be one of three of which one is killed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use auditq_queue::nats::{NatsQueue, NatsQueueOptions};
use auditq_queue::{
    Error, ErrorKind, MessageId, NewMessage, Queue, QueueAdmin, QueueName, QueueSizes, Receipt, Remainder, Selection,
};
use bytes::Bytes;
use serde_json::json;

use crate::nats_support::{TestServer, TestStreams, free_port};

const SHORT: Duration = Duration::from_secs(2);

fn name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

fn message(id: usize) -> NewMessage {
    let payload = Bytes::from(format!("{{\"number\":{id}}}"));
    NewMessage { id: MessageId::new(id.to_string()), queue: name("audit"), payload, delay: Duration::ZERO }
}

fn messages(ids: std::ops::Range<usize>) -> Vec<NewMessage> {
    ids.map(message).collect()
}

fn open_for(url: &str, retry_after: Duration) -> NatsQueue {
    NatsQueue::open(url, NatsQueueOptions { retry_after, clock: None }).unwrap()
}

fn open(url: &str) -> NatsQueue {
    open_for(url, Duration::from_secs(90))
}

async fn sizes(queue: &NatsQueue) -> QueueSizes {
    queue.sizes(&name("audit")).await.unwrap()
}

async fn take(queue: &NatsQueue, limit: usize) -> Vec<Receipt> {
    let taken = queue.reserve(&[name("audit")], limit).await.unwrap();
    taken.into_iter().map(|message| message.receipt).collect()
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
    assert!(error.to_string().contains(&format!("127.0.0.1:{}", server.port)), "{error}");
    server.go_on();
    queue.push(&messages(0..1)).await.unwrap();
}

#[tokio::test]
async fn after_a_kill_of_the_server_nothing_is_lost_and_the_next_call_connects() {
    let mut server = TestServer::start(&[]);
    let queue = open(&server.url());
    queue.push(&messages(0..100)).await.unwrap();
    let held = take(&queue, 10).await;
    server.kill();
    assert_eq!(queue.push(&messages(100..110)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(queue.delete(&held).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.go_on();
    queue.push(&messages(90..110)).await.unwrap();
    // What was sent while the server was away may have come after all, and then somebody finishes it.
    let stale = queue.delete(&held).await.unwrap();
    assert!(stale.is_empty() || stale == held, "{stale:?}");
    queue.migrate().await.unwrap();
    let found = sizes(&queue).await;
    assert_eq!((found.ready, found.reserved), (100, 0));
}

#[tokio::test]
async fn who_may_not_log_in_is_told_so_without_the_secret() {
    let server = TestServer::configured("authorization {users: [{user: u, password: the-secret}]}");
    for login in ["", "u:wrong-secret@", "secret-token@"] {
        let queue = open(&format!("nats://{login}127.0.0.1:{}", server.port));
        let error = queue.push(&messages(0..1)).await.unwrap_err();
        assert_error(&error, ErrorKind::Misconfigured, "check the user and the password, the token");
        assert!(!format!("{queue:?}").contains("secret"), "{queue:?}");
    }
    let queue = open(&format!("nats://u:the-secret@127.0.0.1:{}", server.port));
    queue.push(&messages(0..1)).await.unwrap();
    assert!(!format!("{queue:?}").contains("the-secret"), "{queue:?}");
    let missing = open(&format!("nats://127.0.0.1:{}?creds=/nowhere.creds", server.port));
    let error = missing.push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "/nowhere.creds");
}

#[tokio::test]
async fn a_token_logs_in() {
    let server = TestServer::configured("authorization {token: \"the-secret\"}");
    let queue = open(&format!("nats://the-secret@127.0.0.1:{}", server.port));
    queue.push(&messages(0..1)).await.unwrap();
}

#[tokio::test]
async fn a_user_without_the_rights_is_misconfigured() {
    let server = TestServer::configured(
        "authorization {users: [{user: u, password: the-secret, permissions: \
         {publish: [\"$JS.API.INFO\"]}}]}",
    );
    let queue = open(&format!("nats://u:the-secret@127.0.0.1:{}", server.port));
    let error = queue.push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "the user needs `$JS.API.>`");
}

#[tokio::test]
async fn a_server_without_jetstream_is_misconfigured() {
    let server = TestServer::start_on(free_port(), &[]);
    let error = open(&server.url()).push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "start the server with `-js`");
}

#[tokio::test]
async fn replicas_that_one_server_cannot_keep_are_misconfigured() {
    let server = TestServer::start(&[]);
    let error = open(&format!("{}?replicas=3", server.url())).push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "`replicas`");
}

#[tokio::test]
async fn a_server_without_tls_is_misconfigured_where_tls_is_asked_for() {
    let server = TestServer::start(&[]);
    let error = open(&server.url().replace("nats://", "tls://")).push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "TLS");
}

/// With a certificate of an authority that the system does not know.
#[tokio::test]
async fn a_server_that_demands_tls_is_trusted_by_its_authority() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 2 -extfile names -out server.pem",
    ] {
        let mut openssl = std::process::Command::new("openssl");
        let made = openssl.args(arguments.split(' ')).current_dir(folder.path()).output();
        let made = made.unwrap_or_else(|error| panic!("these tests make certificates: install `openssl` ({error})"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let file = |name: &str| folder.path().join(name).display().to_string();
    let config = format!("tls: {{cert_file: {:?}, key_file: {:?}}}", file("server.pem"), file("server.key"));
    let server = TestServer::configured(&config);
    for scheme in ["nats", "tls"] {
        let url = format!("{scheme}://127.0.0.1:{}", server.port);
        let error = open(&url).push(&messages(0..1)).await.unwrap_err();
        assert_error(&error, ErrorKind::Misconfigured, "the one in `ca`");
        open(&format!("{url}?ca={}", file("ca.pem"))).push(&messages(0..1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_of_somebody_elses_is_left_alone() {
    let streams = TestStreams::new().await;
    let ledger = format!("{}-ledger", streams.prefix);
    let config = json!({ "name": ledger, "subjects": [format!("{}.other", streams.prefix)] });
    streams.api(&format!("STREAM.CREATE.{ledger}"), &config.to_string()).await;
    let error = open(&streams.url()).push(&messages(0..1)).await.unwrap_err();
    assert_error(&error, ErrorKind::Misconfigured, "choose another prefix");
}

#[tokio::test]
async fn one_server_is_warned_of() {
    let streams = TestStreams::new().await;
    let warnings = open(&streams.url()).warnings().await.unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("replicas=3"), "{warnings:?}");
}

/// Another worker lapses, takes over, and wins; what the first says late changes nothing.
#[tokio::test]
async fn of_two_workers_the_one_that_took_over_settles() {
    let streams = TestStreams::new().await;
    let (slow, quick) = (open_for(&streams.url(), SHORT), open_for(&streams.url(), SHORT));
    slow.push(&messages(0..50)).await.unwrap();
    let late = take(&slow, 50).await;
    assert_eq!(late.len(), 50);
    tokio::time::sleep(SHORT + Duration::from_secs(1)).await;
    let mut good = take(&quick, 50).await;
    let began = tokio::time::Instant::now();
    while good.len() < 50 && began.elapsed() < Duration::from_secs(30) {
        good.extend(take(&quick, 50).await);
    }
    let whole: Vec<_> = late.iter().cloned().map(Remainder::whole).collect();
    let (deleted, buried, extended) = tokio::join!(slow.delete(&late), slow.bury(&whole, "late"), slow.extend(&late));
    assert_eq!((deleted.unwrap(), buried.unwrap(), extended.unwrap()), (late.clone(), late.clone(), late));
    assert_eq!(quick.delete(&good).await.unwrap(), []);
    let found = sizes(&slow).await;
    assert_eq!((found.total(), found.failed), (0, 0));
}

/// However often: of those who are ten at once over the same lapsed messages, each message has one.
#[tokio::test]
async fn workers_that_race_for_lapsed_messages_share_them() {
    let streams = TestStreams::new().await;
    let queues: Vec<_> = (0..4).map(|_| Arc::new(open_for(&streams.url(), SHORT))).collect();
    queues[0].push(&messages(0..200)).await.unwrap();
    assert_eq!(take(&queues[0], 200).await.len(), 200);
    for queue in &queues {
        queue.migrate().await.unwrap();
    }
    tokio::time::sleep(SHORT + Duration::from_millis(500)).await;
    let mut racing = tokio::task::JoinSet::new();
    for queue in &queues {
        let queue = Arc::clone(queue);
        racing.spawn(async move { take(&queue, 200).await });
    }
    let taken: Vec<Receipt> = racing.join_all().await.concat();
    let messages: HashSet<_> = taken.iter().map(|receipt| receipt.id.split('.').next().unwrap().to_owned()).collect();
    assert_eq!((taken.len(), messages.len()), (200, 200));
}

/// What a worker leaves that dies between two steps, made by hand: each is finished by the next that starts.
#[tokio::test]
async fn what_was_decided_and_not_done_is_finished() {
    let streams = TestStreams::new().await;
    let queue = open_for(&streams.url(), SHORT);
    queue.push(&messages(0..3)).await.unwrap();
    let held = take(&queue, 3).await;
    drop(queue);
    let client = streams.connect().await;
    for (receipt, state) in held.iter().zip(["done", "buried"]) {
        let number = receipt.id.split(['.', ',']).nth(1).unwrap();
        let nonce = receipt.id.split('.').nth(1).unwrap();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Auditq", format!("{state} 1 {nonce} 1700000000000000 12 -"));
        headers.insert("Auditq-Reason", "it=20broke");
        let subject = format!("{}.l.audit.{number}", streams.prefix);
        let request = async_nats::Request::new().headers(headers);
        client.send_request(subject, request).await.unwrap();
    }
    tokio::time::sleep(SHORT * 2).await;
    let next = open_for(&streams.url(), SHORT);
    next.migrate().await.unwrap();
    let began = tokio::time::Instant::now();
    loop {
        let found = sizes(&next).await;
        if (found.total(), found.failed) == (1, 1) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let failed = next.failed(&auditq_queue::FailedFilter::default()).await.unwrap().messages;
    assert_eq!((failed.len(), failed[0].id.as_str(), failed[0].reason.as_str()), (1, "1", "it broke"));
    assert_eq!(take(&next, 10).await.len(), 1, "the third had lapsed");
}

/// A retry puts a message into its queue and removes it from the failed ones after that; here it never did.
#[tokio::test]
async fn what_came_back_and_was_left_among_the_failed_is_in_one_place() {
    let streams = TestStreams::new().await;
    let queue = open(&streams.url());
    queue.push(&messages(0..1)).await.unwrap();
    let held = take(&queue, 1).await;
    queue.bury(&[Remainder::whole(held[0].clone())], "no").await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Auditq", "1700000000000000 0 12 -");
    headers.insert("Auditq-Id", "0");
    headers.insert("Auditq-Retried", "1");
    let request = async_nats::Request::new().headers(headers).payload("{\"number\":0}".into());
    let client = streams.connect().await;
    client.send_request(format!("{}.m.audit.0", streams.prefix), request).await.unwrap();
    assert!(queue.failed(&auditq_queue::FailedFilter::default()).await.unwrap().messages.is_empty());
    assert_eq!(queue.failed_payload(&MessageId::new("0")).await.unwrap(), None);
    assert_eq!(queue.retry(&Selection::all()).await.unwrap(), 0);
    let held = take(&queue, 10).await;
    assert_eq!((held.len(), sizes(&queue).await.failed), (1, 0));
    queue.bury(&[Remainder::whole(held[0].clone())], "again").await.unwrap();
    let failed = queue.failed(&auditq_queue::FailedFilter::default()).await.unwrap().messages;
    assert_eq!((failed.len(), failed[0].reason.as_str()), (1, "again"));
}

/// The consumer that hands out messages may forget what it handed out, or hand out what it should not.
#[tokio::test]
async fn a_consumer_that_is_lost_costs_nothing() {
    let streams = TestStreams::new().await;
    let queue = open(&streams.url());
    queue.push(&messages(0..20)).await.unwrap();
    let held = take(&queue, 10).await;
    streams.api(&format!("CONSUMER.DELETE.{}-messages-audit.workers", streams.prefix), "").await;
    let mut others = take(&queue, 20).await;
    others.extend(take(&queue, 20).await);
    assert_eq!(others.len(), 10, "what is held is not handed out again");
    assert_eq!(queue.delete(&[held, others].concat()).await.unwrap(), []);
    assert_eq!(sizes(&queue).await.total(), 0);
}

/// As after a power cut: the server knows that it handed a message out, and the ledger has no word of it.
#[tokio::test]
async fn what_is_in_nobodys_hands_is_found_at_the_next_start() {
    let streams = TestStreams::new().await;
    let queue = open(&streams.url());
    queue.push(&messages(0..5)).await.unwrap();
    assert_eq!(take(&queue, 5).await.len(), 5);
    drop(queue);
    streams.api(&format!("STREAM.PURGE.{}-ledger", streams.prefix), "").await;
    let next = open(&streams.url());
    next.migrate().await.unwrap();
    assert_eq!(take(&next, 5).await.len(), 5);
}

/// What was in it is gone; what comes after that is not held up, and not taken for what was there before.
#[tokio::test]
async fn a_stream_that_somebody_removed_is_made_anew_while_workers_run() {
    let streams = TestStreams::new().await;
    let queue = open_for(&streams.url(), SHORT);
    queue.push(&messages(0..5)).await.unwrap();
    let held = take(&queue, 5).await;
    let client = streams.connect().await;
    for kind in ["messages", "failed"] {
        streams.api(&format!("STREAM.DELETE.{}-{kind}-audit", streams.prefix), "").await;
    }
    let began = std::time::Instant::now();
    while let Err(error) = queue.push(&messages(10..20)).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed() < Duration::from_secs(30), "{error}");
    }
    drop(client);
    let mut found = HashSet::new();
    while found.len() < 10 {
        assert!(began.elapsed() < Duration::from_secs(60), "only {found:?} came");
        for message in queue.reserve(&[name("audit")], 20).await.unwrap() {
            found.insert(message.payload.clone());
            let whole = [Remainder::whole(message.receipt)];
            assert_eq!(queue.bury(&whole, "to see where it goes").await.unwrap(), []);
        }
        queue.wait(&[name("audit")], Duration::from_millis(200)).await;
    }
    assert_eq!(queue.delete(&held).await.unwrap(), held, "what was there before is nobody's");
    assert_eq!(sizes(&queue).await.failed, 10);
}

/// Numbers begin again in a stream that is made anew, and the ledger may know of one with the same number.
#[tokio::test]
async fn what_was_left_undone_of_a_removed_stream_is_not_done_to_the_next_one() {
    let streams = TestStreams::new().await;
    let queue = open_for(&streams.url(), SHORT);
    queue.push(&messages(0..1)).await.unwrap();
    let held = take(&queue, 1).await;
    drop(queue);
    let nonce = held[0].id.split('.').nth(1).unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Auditq", format!("done 1 {nonce} 1700000000000000 12 -"));
    let request = async_nats::Request::new().headers(headers);
    let client = streams.connect().await;
    client.send_request(format!("{}.l.audit.1", streams.prefix), request).await.unwrap();
    streams.api(&format!("STREAM.DELETE.{}-messages-audit", streams.prefix), "").await;
    let queue = open_for(&streams.url(), SHORT);
    queue.push(&messages(5..6)).await.unwrap();
    tokio::time::sleep(SHORT * 2).await;
    open_for(&streams.url(), SHORT).migrate().await.unwrap();
    let began = std::time::Instant::now();
    let ledger = || async {
        let info = streams.api(&format!("STREAM.INFO.{}-ledger", streams.prefix), "{\"subjects_filter\":\">\"}").await;
        info["state"]["subjects"].to_string()
    };
    while ledger().await.contains(".l.audit.1") {
        assert!(began.elapsed() < Duration::from_secs(30), "the record stays: {}", ledger().await);
        open_for(&streams.url(), SHORT).migrate().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(sizes(&queue).await.ready, 1, "the message of the same number is there");
}

/// Whoever may publish under the prefix may have published anything: it is handed out like all else, and can be buried.
#[tokio::test]
async fn a_message_of_somebody_elses_holds_nothing_up() {
    let streams = TestStreams::new().await;
    let queue = open(&streams.url());
    queue.push(&messages(0..2)).await.unwrap();
    let client = streams.connect().await;
    client.request(format!("{}.m.audit.odd", streams.prefix), "not ours".into()).await.unwrap();
    let taken = queue.reserve(&[name("audit")], 10).await.unwrap();
    let odd = taken.iter().find(|message| message.payload == "not ours").unwrap();
    assert_eq!(taken.len(), 3);
    queue.bury(&[Remainder::whole(odd.receipt.clone())], "nobody can read it").await.unwrap();
    let failed = queue.failed(&auditq_queue::FailedFilter::default()).await.unwrap().messages;
    assert_eq!((failed.len(), failed[0].id.as_str()), (1, "odd"));
    assert_eq!(queue.failed_payload(&MessageId::new("odd")).await.unwrap().unwrap(), b"not ours");
}

/// Parts that are gone cannot be had back; what is taken with their message can.
#[tokio::test]
async fn a_payload_that_somebody_removed_holds_nothing_else_up() {
    let streams = TestStreams::new().await;
    let queue = open(&streams.url());
    let large = NewMessage { payload: Bytes::from("x".repeat(3 << 20)), ..message(0) };
    queue.push(&[vec![large], messages(1..3)].concat()).await.unwrap();
    streams.api(&format!("STREAM.PURGE.{}-parts", streams.prefix), "").await;
    let taken = queue.reserve(&[name("audit")], 10).await.unwrap();
    let mut lengths: Vec<_> = taken.iter().map(|message| message.payload.len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [0, 12, 12]);
}

/// What was taken is kept, what is refused is said, and with more room it goes on.
#[tokio::test]
async fn a_server_that_is_full_says_what_to_raise_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("server.conf");
    let room = |bytes: &str| {
        std::fs::write(&config, format!("jetstream {{max_file_store: {bytes}}}")).unwrap();
    };
    room("4MB");
    let mut server = TestServer::start_on(free_port(), &["-c", config.to_str().unwrap()]);
    let queue = open_for(&server.url(), SHORT);
    let large = |id: usize| NewMessage { payload: Bytes::from("x".repeat(100_000)), ..message(id) };
    let (mut pushed, mut refused) = (0, None);
    while refused.is_none() && pushed < 200 {
        match queue.push(&[large(pushed)]).await {
            Ok(()) => pushed += 1,
            Err(error) => refused = Some(error),
        }
    }
    assert_error(&refused.expect("the server has room for 20 MB"), ErrorKind::Unavailable, "`max_file_store`");
    assert!(pushed > 10, "{pushed}");
    server.kill();
    room("1GB");
    server.go_on();
    let began = std::time::Instant::now();
    let mut found = HashSet::new();
    while found.len() < pushed {
        assert!(began.elapsed() < Duration::from_secs(60), "{} of {pushed} came", found.len());
        let Ok(taken) = queue.reserve(&[name("audit")], 100).await else { continue };
        for message in taken {
            found.insert(message.receipt.id.split('.').next().unwrap().to_owned());
        }
    }
    assert_eq!(found.len(), pushed);
}

/// Three servers that know of each other.
fn cluster() -> Vec<TestServer> {
    let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
    let routes = ports.iter().map(|(_, port)| format!("nats://127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let start = |(place, (port, cluster)): (usize, &(u16, u16))| {
        let (server, listen) = (format!("s{place}"), format!("nats://127.0.0.1:{cluster}"));
        let options =
            ["-js", "--server_name", &server, "--cluster_name", "test", "--cluster", &listen, "--routes", &routes];
        TestServer::start_on(*port, &options)
    };
    ports.iter().enumerate().map(start).collect()
}

/// As `kill -9` of one of three, under load: nothing is lost, nothing doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_goes_on_without_one() {
    const MESSAGES: usize = 600;
    let mut servers = cluster();
    let hosts = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect::<Vec<_>>().join(",");
    let url = format!("nats://{hosts}/cluster?replicas=3");
    let queue = Arc::new(open_for(&url, Duration::from_secs(20)));
    let began = std::time::Instant::now();
    while let Err(error) = queue.migrate().await {
        // The servers elect whom to ask first.
        assert!(began.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let pushing = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move {
            for begin in (0..MESSAGES).step_by(10) {
                while let Err(error) = queue.push(&messages(begin..begin + 10)).await {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                }
            }
        }
    });
    let (mut settled, mut killed, mut stale) = (HashSet::new(), false, 0);
    let began = std::time::Instant::now();
    while settled.len() < MESSAGES {
        assert!(began.elapsed() < Duration::from_secs(240), "{} of {MESSAGES}, {stale} stale", settled.len());
        let Ok(taken) = queue.reserve(&[name("audit")], 20).await else { continue };
        for message in taken {
            // What was unsure is said again; whether it had come before the ledger knows.
            loop {
                match queue.delete(std::slice::from_ref(&message.receipt)).await {
                    Ok(refused) => {
                        stale += refused.len();
                        assert!(settled.insert(message.payload.clone()) || !refused.is_empty(), "{message:?} twice");
                        break;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
            }
        }
        if settled.len() > MESSAGES / 5 && !std::mem::replace(&mut killed, true) {
            servers[0].kill();
        }
    }
    pushing.await.unwrap();
    assert!(killed);
    // The two that are left may still be electing whom to ask.
    let one_more = MESSAGES..MESSAGES + 1;
    let unless_away = |error: Error| assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    while let Err(error) = queue.push(&messages(one_more.clone())).await {
        unless_away(error);
        assert!(began.elapsed() < Duration::from_secs(300), "the queue takes nothing more");
    }
    let left = loop {
        match queue.reserve(&[name("audit")], 20).await {
            Ok(left) => break left,
            Err(error) => unless_away(error),
        }
        assert!(began.elapsed() < Duration::from_secs(300), "the queue gives nothing more");
    };
    assert_eq!(left.len(), 1, "nothing but that is left");
    servers[0].go_on();
}

/// Stopped for so long that every call in between fails, and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_for_twenty_seconds_is_waited_for() {
    const MESSAGES: usize = 400;
    let mut server = TestServer::start(&[]);
    let queue = Arc::new(open_for(&server.url(), Duration::from_secs(5)));
    queue.migrate().await.unwrap();
    let working = |push: bool| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            let (mut done, mut unavailable) = (HashSet::new(), 0);
            for round in 0.. {
                if push && round < MESSAGES / 10 {
                    while queue.push(&messages(round * 10..round * 10 + 10)).await.is_err() {
                        unavailable += 1;
                    }
                } else if push {
                    break;
                }
                let Ok(taken) = queue.reserve(&[name("audit")], 7).await else {
                    unavailable += 1;
                    continue;
                };
                for message in taken {
                    while queue.delete(std::slice::from_ref(&message.receipt)).await.is_err() {
                        unavailable += 1;
                    }
                    done.insert(message.payload);
                }
                if !push && sizes_or_none(&queue).await == Some(0) && round > 200 {
                    break;
                }
            }
            (done, unavailable)
        })
    };
    let (pusher, worker) = (working(true), working(false));
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.kill();
    tokio::time::sleep(Duration::from_secs(20)).await;
    server.go_on();
    let (first, second) = tokio::join!(pusher, worker);
    let ((mut done, one), (more, other)) = (first.unwrap(), second.unwrap());
    done.extend(more);
    // What the two did not come to any more.
    tokio::time::sleep(Duration::from_secs(6)).await;
    while let Some(message) = queue.reserve(&[name("audit")], 1).await.unwrap().pop() {
        done.insert(message.payload);
        queue.delete(&[message.receipt]).await.unwrap();
    }
    assert_eq!(done.len(), MESSAGES);
    assert!(one + other > 0, "nobody noticed");
}

async fn sizes_or_none(queue: &NatsQueue) -> Option<u64> {
    queue.sizes(&name("audit")).await.ok().map(|sizes| sizes.total())
}
