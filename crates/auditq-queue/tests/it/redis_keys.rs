//! Laravel's keys, what its own scripts do to them, and many workers at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditq_queue::redis::RedisQueue;
use auditq_queue::{
    ErrorKind, FailedFilter, MessageId, NewMessage, Queue, QueueAdmin, QueueName, Remainder, Reserved, Selection,
};
use bytes::Bytes;
use redis::{Commands as _, Connection};

use crate::redis_support::TestKeys;
use crate::subjects::{clock, redis_in};

/// As Laravel 12 pushes it: an empty list, a slash, and a number that cjson cuts short.
const JOB: &str = r#"{"uuid":"0b2c-1","displayName":"App\\Jobs\\Mail","job":"Illuminate\\Queue\\CallQueuedHandler@call","maxTries":3,"data":{"commandName":"App\\Jobs\\Mail","command":"O:13:\"App\\Jobs\\Mail\":0:{}","attempts":9},"tags":[],"big":9007199254740993,"createdAt":1699999990,"id":"Pq3s","attempts":0,"delay":null}"#;

/// Laravel's pop.
const POP: &str = "local job = redis.call('lpop', KEYS[1]) local reserved = false \
    if(job ~= false) then reserved = cjson.decode(job) reserved['attempts'] = reserved['attempts'] + 1 \
    reserved = cjson.encode(reserved) redis.call('zadd', KEYS[2], ARGV[1], reserved) redis.call('lpop', KEYS[3]) end \
    return {job, reserved}";

fn name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

fn message(id: u64) -> NewMessage {
    let payload = Bytes::from(format!("{{\"number\":{id},\"path\":\"a/b\"}}"));
    NewMessage { id: MessageId::new(format!("id-{id}")), queue: name("audit"), payload, delay: Duration::ZERO }
}

/// An application's Redis, and our queue on it.
struct App {
    queue: Arc<RedisQueue>,
    laravel: Connection,
    clock: Arc<auditq_queue::ManualClock>,
    keys: TestKeys,
}

impl App {
    async fn new() -> Self {
        let (keys, clock) = (TestKeys::new(), clock());
        let queue = Arc::new(redis_in(&keys.url(), Some(Arc::clone(&clock) as _)).await);
        Self { queue, laravel: keys.connect(), clock, keys }
    }

    fn key(&self, end: &str) -> String {
        self.keys.key(&format!("queues:audit{end}"))
    }

    fn push(&mut self, payload: &[u8]) {
        let (list, notify) = (self.key(""), self.key(":notify"));
        self.laravel.rpush::<_, _, ()>(list, payload).unwrap();
        self.laravel.rpush::<_, _, ()>(notify, 1).unwrap();
    }

    /// Laravel's worker takes a job for 90 seconds: what it was and what it is while it is reserved.
    fn pop(&mut self) -> (Vec<u8>, Vec<u8>) {
        let lapses = auditq_queue::Clock::now(&*self.clock).as_secs() + 90;
        let script = redis::Script::new(POP);
        let mut call = script.prepare_invoke();
        call.key(self.key("")).key(self.key(":reserved")).key(self.key(":notify")).arg(lapses);
        call.invoke(&mut self.laravel).unwrap()
    }

    fn list(&mut self) -> Vec<Vec<u8>> {
        let key = self.key("");
        self.laravel.lrange(key, 0, -1).unwrap()
    }

    fn set(&mut self, end: &str) -> Vec<(String, f64)> {
        let key = self.key(end);
        self.laravel.zrange_withscores(key, 0, -1).unwrap()
    }

    async fn reserve(&self) -> Vec<Reserved> {
        self.queue.reserve(&[name("audit")], 10).await.unwrap()
    }

    async fn reserve_one(&self) -> Reserved {
        self.reserve().await.pop().unwrap()
    }

    async fn sizes(&self) -> [u64; 4] {
        let sizes = self.queue.sizes(&name("audit")).await.unwrap();
        [sizes.ready, sizes.delayed, sizes.reserved, sizes.failed]
    }
}

fn with_attempts(attempts: u32) -> String {
    JOB.replace("\"attempts\":0", &format!("\"attempts\":{attempts}"))
}

#[tokio::test]
async fn a_job_that_laravel_pushed_keeps_every_byte_but_its_attempts() {
    let mut app = App::new().await;
    app.push(JOB.as_bytes());
    let oldest = app.queue.sizes(&name("audit")).await.unwrap().oldest;
    assert_eq!(oldest, Some(Duration::from_secs(10)), "by its createdAt");
    let taken = app.reserve_one().await;
    assert_eq!((&taken.payload[..], taken.attempts, taken.created_at), (JOB.as_bytes(), 1, 1_699_999_990));
    // Never a whole second, which is how Laravel's own reservations are told from ours.
    assert_eq!(app.set(":reserved"), [(with_attempts(1), 1_700_000_090.000_001)]);
    app.queue.release(&[Remainder::whole(taken.receipt.clone())], Duration::from_secs(7)).await.unwrap();
    assert_eq!(app.set(":delayed"), [(with_attempts(1), 1_700_000_007.0)]);
    app.clock.advance(Duration::from_secs(7));
    let again = app.reserve_one().await;
    assert_eq!((again.attempts, again.payload), (2, Bytes::from(with_attempts(1))));
    assert_eq!(app.queue.delete(std::slice::from_ref(&taken.receipt)).await.unwrap(), [taken.receipt]);

    app.queue.bury(&[Remainder::whole(again.receipt)], "no").await.unwrap();
    let failed = app.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    assert_eq!((failed.len(), failed[0].id.as_str(), failed[0].payload_bytes), (1, "0b2c-1", JOB.len() as u64));
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 1);
    assert_eq!(app.list(), [JOB.as_bytes()]);
}

/// What is done is removed by its score alone, so that no two reservations may have the same.
#[tokio::test]
async fn no_two_reservations_of_one_instant_have_the_same_score() {
    let mut app = App::new().await;
    let other = redis_in(&app.keys.url(), Some(Arc::clone(&app.clock) as _)).await;
    app.queue.push(&(0..6).map(message).collect::<Vec<_>>()).await.unwrap();
    let mine = app.queue.reserve(&[name("audit")], 3).await.unwrap();
    let theirs = other.reserve(&[name("audit")], 3).await.unwrap();
    let receipts = |taken: &[Reserved]| taken.iter().map(|message| message.receipt.clone()).collect::<Vec<_>>();
    let (mine, theirs) = (receipts(&mine), receipts(&theirs));
    assert_eq!(app.queue.extend(&mine).await.unwrap(), []);
    let scores: BTreeSet<u64> = app.set(":reserved").into_iter().map(|(_, score)| score.to_bits()).collect();
    assert_eq!(scores.len(), 6);
    assert_eq!(app.queue.delete(&mine).await.unwrap(), []);
    assert_eq!(app.queue.delete(&mine).await.unwrap(), mine);
    assert_eq!(app.sizes().await, [0, 0, 3, 0]);
    // One of them twice, and one that is no more.
    let mixed = [&theirs[..], &theirs[..1], &mine[..1]].concat();
    assert_eq!(other.delete(&mixed).await.unwrap(), mixed[3..]);
    assert_eq!(app.sizes().await, [0; 4]);

    // Whatever becomes of a reservation, nothing is left of it.
    app.queue.push(&(6..9).map(message).collect::<Vec<_>>()).await.unwrap();
    let taken = receipts(&app.reserve().await);
    app.queue.release(&[Remainder::whole(taken[0].clone())], Duration::ZERO).await.unwrap();
    app.queue.bury(&[Remainder::whole(taken[1].clone())], "no").await.unwrap();
    assert_eq!(app.queue.clear(&name("audit")).await.unwrap(), 2);
    assert!(!app.keys.all().contains(&app.keys.key("auditq:held:audit")));
}

#[tokio::test]
async fn a_job_that_laravel_holds_stays_when_ours_around_it_are_done() {
    let mut app = App::new().await;
    app.clock.advance(Duration::from_micros(999_999));
    for gone in [false, true] {
        app.push(JOB.as_bytes());
        // Laravel's, for the whole second that lies between the scores of ours.
        let (_, theirs) = app.pop();
        let whole = auditq_queue::Clock::now(&*app.clock).as_secs() + 91;
        let reserved = app.key(":reserved");
        app.laravel.zadd::<_, _, _, ()>(&reserved, &theirs, whole).unwrap();
        let numbers = if gone { 10..13 } else { 0..3 };
        app.queue.push(&numbers.map(message).collect::<Vec<_>>()).await.unwrap();
        let taken = app.reserve().await;
        let receipts: Vec<_> = taken.into_iter().map(|message| message.receipt).collect();
        assert_eq!(receipts.len(), 3);
        let mut stale = Vec::new();
        if gone {
            // As when Laravel has moved it back, so that as many are there as are done.
            let first = app.set(":reserved").into_iter().next().unwrap().0;
            app.laravel.zrem::<_, _, ()>(&reserved, first).unwrap();
            stale = vec![receipts[0].clone()];
        }
        assert_eq!(app.queue.delete(&receipts).await.unwrap(), stale);
        assert_eq!(app.set(":reserved"), [(String::from_utf8(theirs.clone()).unwrap(), whole as f64)]);
        app.laravel.zrem::<_, _, ()>(&reserved, &theirs).unwrap();
    }
}

/// Our own are JSON with an integer `attempts`, which is all that Laravel's pop needs not to destroy them.
#[tokio::test]
async fn laravels_worker_may_take_our_messages_and_give_them_back() {
    let mut app = App::new().await;
    let text = NewMessage { payload: Bytes::from("no JSON / at all"), ..message(2) };
    app.queue.push(&[message(1), text]).await.unwrap();
    for _ in 0..2 {
        let (before, reserved) = app.pop();
        let [before, reserved]: [serde_json::Value; 2] =
            [before, reserved].map(|json| serde_json::from_slice(&json).unwrap());
        assert_eq!((before["attempts"].as_u64(), reserved["attempts"].as_u64()), (Some(0), Some(1)));
    }
    assert_eq!(app.sizes().await, [0, 0, 2, 0]);
    assert!(app.reserve().await.is_empty());
    // It dies, and they lapse.
    app.clock.advance(Duration::from_secs(90));
    let mut taken = app.reserve().await;
    taken.sort_by(|a, b| a.payload.cmp(&b.payload));
    assert_eq!(taken.iter().map(|message| message.attempts).collect::<Vec<_>>(), [2, 2]);
    let object: serde_json::Value = serde_json::from_slice(&taken[1].payload).unwrap();
    assert_eq!(
        (&taken[0].payload[..], object),
        (&b"no JSON / at all"[..], serde_json::json!({"number": 1, "path": "a/b"}))
    );
    let receipts: Vec<_> = taken.into_iter().map(|message| message.receipt).collect();
    assert_eq!(app.queue.delete(&receipts).await.unwrap(), []);
    // Their ids went with them.
    app.queue.push(&[message(1), message(2)]).await.unwrap();
    assert_eq!(app.sizes().await, [2, 0, 0, 0]);
}

/// Laravel moves what has lapsed back into the list, whoever had it.
#[tokio::test]
async fn a_receipt_is_stale_once_laravel_has_taken_the_message_over() {
    let mut app = App::new().await;
    app.queue.push(&[message(1)]).await.unwrap();
    let ours = app.reserve_one().await.receipt;
    let (member, _) = app.set(":reserved").remove(0);
    let (list, reserved) = (app.key(""), app.key(":reserved"));
    app.laravel.zrem::<_, _, ()>(reserved, &member).unwrap();
    app.laravel.rpush::<_, _, ()>(list, member).unwrap();
    app.pop();
    assert_eq!(app.queue.delete(std::slice::from_ref(&ours)).await.unwrap(), [ours]);
    assert_eq!(app.sizes().await, [0, 0, 1, 0]);
}

/// Its retry_after may be longer than ours, and is not the work of a wrong clock.
#[tokio::test]
async fn a_long_reservation_of_laravels_is_left_alone() {
    let mut app = App::new().await;
    let reserved = app.key(":reserved");
    app.laravel.zadd::<_, _, _, ()>(reserved, with_attempts(1), 1_700_090_000).unwrap();
    assert!(app.reserve().await.is_empty());
}

/// Laravel's worker destroys these.
#[tokio::test]
async fn members_that_are_no_jobs_are_taken_as_they_are() {
    let mut app = App::new().await;
    let members: [&[u8]; 7] = [
        b"not JSON",
        b"",
        b"{}",
        b"{\"attempts\":null}",
        b"\xff\xfe\0",
        br#"{"attempts":1.5,"id":"x"}"#,
        br#"{"auditq":"0000000000000001o","id":"cut"#,
    ];
    for member in members {
        app.push(member);
    }
    let taken = app.reserve().await;
    assert_eq!(taken.iter().map(|message| &message.payload[..]).collect::<Vec<_>>(), members);
    let held: Vec<_> = taken.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
    assert_eq!(app.queue.bury(&held, "no").await.unwrap(), []);
    assert_eq!(app.queue.retry(&Selection::all()).await.unwrap(), 7);
    assert_eq!(app.reserve().await.iter().map(|message| &message.payload[..]).collect::<Vec<_>>(), members);
}

#[tokio::test]
async fn a_uuid_that_has_failed_before_loses_neither_job() {
    let mut app = App::new().await;
    let other = JOB.replace("Pq3s", "Zz9s");
    for _ in 0..2 {
        app.push(JOB.as_bytes());
        let held = app.reserve_one().await.receipt;
        app.queue.bury(&[Remainder::whole(held)], "the same job").await.unwrap();
    }
    app.push(other.as_bytes());
    let held = app.reserve_one().await.receipt;
    app.queue.bury(&[Remainder::whole(held)], "another").await.unwrap();
    let failed = app.queue.failed(&FailedFilter::default()).await.unwrap().messages;
    let ids: Vec<_> = failed.iter().map(|failed| failed.id.as_str()).collect();
    assert!(ids.len() == 2 && ids[1] == "0b2c-1" && ids[0].starts_with("0b2c-1-"), "{ids:?}");
    assert_eq!(app.sizes().await, [0, 0, 0, 2]);
}

#[tokio::test]
async fn a_job_in_laravels_shape_is_pushed_as_it_is() {
    let mut app = App::new().await;
    let job = NewMessage { id: MessageId::new("0b2c-1"), payload: Bytes::from(JOB), ..message(1) };
    app.queue.push(&[job.clone(), job.clone()]).await.unwrap();
    assert_eq!(app.list(), [JOB.as_bytes()]);
    let held = app.reserve_one().await;
    app.queue.push(std::slice::from_ref(&job)).await.unwrap();
    app.queue.delete(&[held.receipt]).await.unwrap();
    app.queue.push(&[job]).await.unwrap();
    assert_eq!(app.sizes().await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_named_and_nothing_changes() {
    let mut app = App::new().await;
    let key = app.key("");
    app.laravel.set::<_, _, ()>(key, "mine").unwrap();
    let error = app.queue.push(&[message(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("or a `prefix` in the URL"), "{error}");
    assert_eq!(app.keys.all(), [app.key("")]);
}

#[tokio::test]
async fn nothing_is_left_when_all_is_done_but_the_names_and_the_counts() {
    let app = App::new().await;
    app.queue
        .push(&[message(1), message(2), NewMessage { delay: Duration::from_secs(9), ..message(3) }])
        .await
        .unwrap();
    let held: Vec<_> = app.reserve().await.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
    app.queue.bury(&held[..1], "no").await.unwrap();
    app.queue.delete(&[held[1].receipt.clone()]).await.unwrap();
    app.queue.forget(&Selection::all()).await.unwrap();
    app.queue.clear(&name("audit")).await.unwrap();
    let left = ["failed-last", "pushes", "queues"].map(|key| app.keys.key(&format!("auditq:{{auditq}}:{key}")));
    assert_eq!(app.keys.all(), left);
}

/// By the token, which stays for the others.
#[tokio::test]
async fn a_push_from_elsewhere_ends_the_wait_long_before_the_next_look() {
    let app = App::new().await;
    let other = redis_in(&app.keys.url(), Some(Arc::clone(&app.clock) as _)).await;
    let mut fastest = Duration::MAX;
    for round in 0..5 {
        assert!(app.reserve().await.is_empty());
        let began = Instant::now();
        let waiting = tokio::spawn({
            let queue = Arc::clone(&app.queue);
            async move { queue.wait(&[name("audit")], Duration::from_secs(60)).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        other.push(&[message(round)]).await.unwrap();
        waiting.await.unwrap();
        fastest = fastest.min(began.elapsed());
        let tokens: u64 = app.keys.connect().llen(app.key(":notify")).unwrap();
        assert_eq!(tokens, 1);
        let receipt = app.reserve_one().await.receipt;
        app.queue.delete(&[receipt]).await.unwrap();
    }
    assert!(fastest < Duration::from_millis(500), "the fastest took {fastest:?}");
}

#[tokio::test]
async fn waiting_for_a_paused_queue_does_not_spin() {
    let app = App::new().await;
    app.queue.push(&[message(1)]).await.unwrap();
    app.queue.pause(&name("audit")).await.unwrap();
    let (began, mut turns) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(2) {
        assert!(app.reserve().await.is_empty());
        app.queue.wait(&[name("audit")], Duration::from_secs(60)).await;
        turns += 1;
    }
    assert!(turns <= 4, "{turns} turns in two seconds");
}

#[tokio::test]
async fn times_are_the_servers_own() {
    let keys = TestKeys::new();
    let options = auditq_queue::redis::RedisQueueOptions { retry_after: Duration::from_millis(300), clock: None };
    let queue = RedisQueue::open(&keys.url(), options).unwrap();
    queue.push(&[message(1)]).await.unwrap();
    let first = queue.reserve(&[name("audit")], 1).await.unwrap().remove(0);
    let (now, _): (i64, i64) = redis::cmd("TIME").query(&mut keys.connect()).unwrap();
    assert!((now - first.created_at).abs() < 60, "{} is not {now}", first.created_at);
    // It lapses by itself, and the wait ends when it does.
    let second = loop {
        if let Some(again) = queue.reserve(&[name("audit")], 1).await.unwrap().pop() {
            break again;
        }
        queue.wait(&[name("audit")], Duration::from_secs(60)).await;
    };
    let stale = queue.delete(std::slice::from_ref(&first.receipt)).await.unwrap();
    assert_eq!((second.attempts, stale), (2, vec![first.receipt]));
}

/// Pushing, taking, deleting, giving back and extending at once: each message is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_workers_do_ten_thousand_messages_once_each() {
    const MESSAGES: u64 = 10_000;
    let keys = TestKeys::new();
    let mut tasks = tokio::task::JoinSet::new();
    for pusher in 0..2 {
        let queue = redis_in(&keys.url(), None).await;
        tasks.spawn(async move {
            let ids: Vec<_> = (0..MESSAGES).filter(|id| id % 2 == pusher).collect();
            for ids in ids.chunks(100) {
                queue.push(&ids.iter().map(|id| message(*id)).collect::<Vec<_>>()).await.unwrap();
            }
            Vec::new()
        });
    }
    let (done, _) = tokio::sync::watch::channel(0_u64);
    for _ in 0..10 {
        // Each as if in a process of its own.
        let (queue, done) = (redis_in(&keys.url(), None).await, done.clone());
        tasks.spawn(async move {
            let (mut mine, mut rounds) = (Vec::new(), 0);
            while *done.borrow() < MESSAGES {
                let reserved = queue.reserve(&[name("audit")], 50).await.unwrap();
                if reserved.is_empty() {
                    queue.wait(&[name("audit")], Duration::from_millis(20)).await;
                    continue;
                }
                let receipts: Vec<_> = reserved.iter().map(|message| message.receipt.clone()).collect();
                assert_eq!(queue.extend(&receipts).await.unwrap(), []);
                rounds += 1;
                if rounds % 5 == 0 {
                    let held: Vec<_> = receipts.into_iter().map(Remainder::whole).collect();
                    assert_eq!(queue.release(&held, Duration::ZERO).await.unwrap(), []);
                    continue;
                }
                assert_eq!(queue.delete(&receipts).await.unwrap(), []);
                done.send_modify(|done| *done += receipts.len() as u64);
                mine.extend(reserved.into_iter().map(|message| message.payload));
            }
            mine
        });
    }
    let payloads: Vec<Bytes> = tasks.join_all().await.concat();
    assert_eq!((payloads.len(), payloads.iter().collect::<BTreeSet<_>>().len()), (10_000, 10_000));
    let queue = redis_in(&keys.url(), None).await;
    assert_eq!(queue.sizes(&name("audit")).await.unwrap().total(), 0);
}
