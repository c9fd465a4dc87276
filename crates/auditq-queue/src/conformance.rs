//! The numbered promises as a suite that every driver is held against.
//!
//! A driver's tests call [`queue_conformance!`](crate::queue_conformance) with a name and a function that makes a
//! [`Subject`]; each promise then is a test of its own, such as `sqlite::promise_5_a_stale_receipt_changes_nothing`.
//! The functions panic where a promise is broken.

#![expect(clippy::unwrap_used, reason = "an operation that fails where it must not is a failed test")]

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    ErrorKind, FailedFilter, ManualClock, MessageId, NewMessage, Queue, QueueAdmin, QueueName, QueueSizes, Receipt,
    Remainder, Reserved, Selection,
};

/// An empty queue, migrated, on which nobody else works.
#[derive(Debug)]
pub struct Subject {
    /// The driver under test.
    pub queue: Arc<dyn Queue>,
    /// The same queue's other side.
    pub admin: Arc<dyn QueueAdmin>,
    /// The clock the driver goes by; without one the suite waits.
    pub clock: Option<Arc<ManualClock>>,
    /// What must live as long as the queue, such as a temporary directory.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl Subject {
    async fn pass(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time).await,
        }
    }

    /// Lets every reservation lapse, also where times are whole seconds and rounded up.
    async fn lapse(&self) {
        self.pass(self.queue.retry_after() + SECOND * 2).await;
    }

    async fn push(&self, queue: &str, ids: &[&str]) {
        let batch: Vec<_> = ids.iter().map(|id| message(queue, id)).collect();
        self.queue.push(&batch).await.unwrap();
    }

    async fn reserve(&self, queues: &[&str], limit: usize) -> Vec<Reserved> {
        let queues: Vec<_> = queues.iter().map(|queue| name(queue)).collect();
        self.queue.reserve(&queues, limit).await.unwrap()
    }

    async fn reserve_one(&self) -> Reserved {
        self.reserve(&[QUEUE], 1).await.pop().unwrap()
    }

    async fn sizes(&self) -> QueueSizes {
        self.admin.sizes(&name(QUEUE)).await.unwrap()
    }

    async fn bury(&self, id: &str, reason: &str) {
        self.push(QUEUE, &[id]).await;
        let held = Remainder::whole(self.reserve_one().await.receipt);
        assert_eq!(self.queue.bury(&[held], reason).await.unwrap(), []);
    }

    async fn failed_ids(&self) -> Vec<String> {
        let page = self.admin.failed(&FailedFilter::default()).await.unwrap();
        page.messages.iter().map(|failed| failed.id.to_string()).collect()
    }
}

const QUEUE: &str = "audit-logs";
const SECOND: Duration = Duration::from_secs(1);

fn name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

fn message(queue: &str, id: &str) -> NewMessage {
    let payload = Bytes::from(format!("payload of {id}"));
    NewMessage { id: MessageId::new(id), queue: name(queue), payload, delay: Duration::ZERO }
}

fn payloads(reserved: &[Reserved]) -> Vec<&str> {
    reserved.iter().map(|message| std::str::from_utf8(&message.payload).unwrap()).collect()
}

fn receipts(reserved: &[Reserved]) -> Vec<Receipt> {
    reserved.iter().map(|message| message.receipt.clone()).collect()
}

/// Makes one `#[tokio::test]` of each promise for a driver; `$setup` is an async function that returns a [`Subject`].
#[macro_export]
macro_rules! queue_conformance {
    ($driver:ident, $setup:path) => {
        mod $driver {
            $crate::queue_conformance! { @tests $setup:
                promise_1_push_adds_every_message_or_none
                promise_1_pushing_again_adds_nothing
                promise_1_what_is_among_the_failed_is_not_added_again
                promise_1_payloads_come_back_as_they_went_in
                promise_2_a_message_is_returned_until_it_is_deleted
                promise_3_a_reserved_message_is_invisible_for_retry_after
                promise_3_extending_begins_the_reservation_anew
                promise_3_no_two_callers_reserve_the_same_message
                promise_3_a_clock_that_is_set_back_does_not_hide_messages
                promise_4_attempts_count_reservations
                promise_5_a_stale_receipt_changes_nothing
                promise_5_good_receipts_are_settled_beside_stale_ones
                promise_5_a_lapsed_receipt_is_good_until_someone_else_takes_the_message
                promise_5_a_receipt_settles_once
                promise_6_a_released_message_waits_for_its_delay
                promise_6_a_delay_is_never_cut_short
                promise_6_releasing_keeps_the_attempts
                promise_7_a_buried_message_is_among_the_failed_and_nowhere_else
                promise_8_queues_named_earlier_are_emptied_first
                promise_8_within_a_queue_the_oldest_comes_first
                promise_9_sizes_tell_where_the_messages_are
                promise_9_sizes_follow_the_clock
                promise_10_retry_puts_messages_back_as_new
                promise_10_a_retried_message_is_known_by_its_id
                promise_11_release_replaces_the_payload_with_what_is_left
                promise_11_bury_replaces_the_payload_with_what_is_left
                promise_12_a_declined_message_counts_no_attempt_and_waits_for_its_delay
                reserving_takes_no_more_than_is_asked_for_or_fits_in_memory
                failed_messages_are_listed_page_by_page_from_the_newest_on
                failed_messages_are_listed_by_queue
                forget_drops_what_is_named_or_old_enough
                clear_drops_reserved_messages_too
                nothing_is_taken_from_a_paused_queue
                a_restart_is_seen_by_every_worker
                queues_are_those_that_hold_messages
                wait_returns_when_a_message_is_pushed
                wait_returns_at_once_when_a_message_came_before_it
                wait_returns_when_a_delayed_message_is_due
                wait_ends_after_its_time
                migrating_again_changes_nothing
            }
        }
    };
    (@tests $setup:path: $($promise:ident)+) => {
        $(
            #[tokio::test]
            async fn $promise() {
                $crate::conformance::$promise(&$setup().await).await;
            }
        )+
    };
}

/// A batch with one message that is refused adds none.
pub async fn promise_1_push_adds_every_message_or_none(subject: &Subject) {
    for bad in [&b"\xff\xfe"[..], b"nul \0"] {
        let refused = NewMessage { payload: Bytes::from_static(bad), ..message(QUEUE, "bad") };
        let error = subject.queue.push(&[message(QUEUE, "good"), refused]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.to_string().contains("bad"), "the error does not name the message: {error}");
    }
    assert_eq!(subject.sizes().await.total(), 0);
    subject.push(QUEUE, &["a", "b", "c"]).await;
    assert_eq!(subject.reserve(&[QUEUE], 10).await.len(), 3);
}

/// Also when it is reserved meanwhile, and when the same batch holds it twice.
pub async fn promise_1_pushing_again_adds_nothing(subject: &Subject) {
    subject.push(QUEUE, &["a", "b", "a"]).await;
    subject.push(QUEUE, &["b", "c"]).await;
    let reserved = subject.reserve(&[QUEUE], 10).await;
    assert_eq!(payloads(&reserved), ["payload of a", "payload of b", "payload of c"]);
    subject.push(QUEUE, &["a", "b", "c"]).await;
    assert_eq!(subject.sizes().await.total(), 3);
    subject.queue.delete(&receipts(&reserved)).await.unwrap();
    subject.push(QUEUE, &["a"]).await;
    assert_eq!(subject.sizes().await.ready, 1, "an id that has left the queue is free again");
}

/// So that a push that is repeated late does not bring back what was given up.
pub async fn promise_1_what_is_among_the_failed_is_not_added_again(subject: &Subject) {
    subject.bury("a", "no").await;
    subject.push(QUEUE, &["a"]).await;
    assert_eq!((subject.sizes().await.total(), subject.sizes().await.failed), (0, 1));
}

/// Empty, long, and full of what escapes badly.
pub async fn promise_1_payloads_come_back_as_they_went_in(subject: &Subject) {
    let long = "x".repeat(300_000);
    let texts = ["", "{\"a\":\"\\u0000\"}", "'; DROP TABLE jobs; -- \"%s\" \\ \r\n\t", "naïve 🦀 \u{2028}", &long];
    for (number, text) in texts.iter().enumerate() {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        subject.queue.push(&[NewMessage { payload, ..message(QUEUE, &number.to_string()) }]).await.unwrap();
    }
    assert_eq!(payloads(&subject.reserve(&[QUEUE], 10).await), texts);
}

/// A worker that takes it and dies does not make it go away.
pub async fn promise_2_a_message_is_returned_until_it_is_deleted(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    for _ in 0..3 {
        assert_eq!(payloads(&subject.reserve(&[QUEUE], 10).await), ["payload of a"]);
        subject.lapse().await;
    }
    let held = subject.reserve_one().await;
    assert_eq!(subject.queue.delete(&[held.receipt]).await.unwrap(), []);
    subject.lapse().await;
    assert!(subject.reserve(&[QUEUE], 10).await.is_empty());
}

/// Not shorter than that, and not for ever.
pub async fn promise_3_a_reserved_message_is_invisible_for_retry_after(subject: &Subject) {
    subject.pass(Duration::from_millis(700)).await;
    subject.push(QUEUE, &["a"]).await;
    assert_eq!(subject.reserve(&[QUEUE], 10).await.len(), 1);
    assert!(subject.reserve(&[QUEUE], 10).await.is_empty());
    subject.pass(subject.queue.retry_after() - Duration::from_millis(300)).await;
    assert!(subject.reserve(&[QUEUE], 10).await.is_empty(), "the reservation lapsed too early");
    subject.pass(SECOND * 2).await;
    assert_eq!(subject.reserve(&[QUEUE], 10).await.len(), 1);
}

/// What a worker that is alive does.
pub async fn promise_3_extending_begins_the_reservation_anew(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    let held = subject.reserve_one().await.receipt;
    for _ in 0..4 {
        subject.pass(subject.queue.retry_after() / 2).await;
        assert_eq!(subject.queue.extend(std::slice::from_ref(&held)).await.unwrap(), []);
        assert!(subject.reserve(&[QUEUE], 10).await.is_empty());
    }
    assert_eq!(subject.queue.delete(&[held]).await.unwrap(), []);
}

/// Ten at once, until nothing is left.
pub async fn promise_3_no_two_callers_reserve_the_same_message(subject: &Subject) {
    let ids: Vec<_> = (0..200).map(|id| id.to_string()).collect();
    subject.push(QUEUE, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let queue = Arc::clone(&subject.queue);
        callers.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let batch = queue.reserve(&[name(QUEUE)], 7).await.unwrap();
                if batch.is_empty() {
                    return taken;
                }
                taken.extend(batch.into_iter().map(|message| message.receipt.id));
            }
        });
    }
    let taken: Vec<_> = callers.join_all().await.concat();
    assert_eq!((taken.len(), taken.iter().collect::<BTreeSet<_>>().len()), (200, 200));
}

/// A reservation of the future is one of a clock that was wrong, and counts as lapsed.
pub async fn promise_3_a_clock_that_is_set_back_does_not_hide_messages(subject: &Subject) {
    // A driver whose engine keeps the time has no clock that a test could set back.
    let Some(clock) = &subject.clock else { return };
    subject.push(QUEUE, &["a"]).await;
    let true_time = crate::Clock::now(&**clock);
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(subject.reserve(&[QUEUE], 1).await.len(), 1);
    clock.set(true_time);
    assert_eq!(subject.reserve(&[QUEUE], 1).await.len(), 1);
}

/// So the try of a worker that crashed counts.
pub async fn promise_4_attempts_count_reservations(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    for attempts in 1..=3 {
        let reserved = subject.reserve_one().await;
        assert_eq!((reserved.attempts, reserved.receipt.attempt), (attempts, attempts));
        subject.lapse().await;
    }
}

/// Neither delete nor release, bury or extend: the message is someone else's.
pub async fn promise_5_a_stale_receipt_changes_nothing(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    let stale = [subject.reserve_one().await.receipt];
    subject.lapse().await;
    let good = subject.reserve_one().await.receipt;

    let (queue, held) = (&subject.queue, [Remainder { receipt: stale[0].clone(), payload: Some(Bytes::from("lost")) }]);
    assert_eq!(queue.delete(&stale).await.unwrap(), stale);
    assert_eq!(queue.release(&held, Duration::ZERO).await.unwrap(), stale);
    assert_eq!(queue.bury(&held, "late").await.unwrap(), stale);
    assert_eq!(queue.extend(&stale).await.unwrap(), stale);

    let sizes = subject.sizes().await;
    assert_eq!((sizes.reserved, sizes.ready, sizes.failed), (1, 0, 0));
    assert_eq!(queue.release(&[Remainder::whole(good)], Duration::ZERO).await.unwrap(), []);
    let again = subject.reserve_one().await;
    assert_eq!((&again.payload[..], again.attempts), (&b"payload of a"[..], 3));
}

/// One that came too late does not hold up the batch; nor does one that never was a receipt.
pub async fn promise_5_good_receipts_are_settled_beside_stale_ones(subject: &Subject) {
    subject.push(QUEUE, &["a", "b", "c"]).await;
    let reserved = receipts(&subject.reserve(&[QUEUE], 10).await);
    let unknown = Receipt { id: "no such message".to_owned(), attempt: 1 };
    let wrong = Receipt { attempt: 9, ..reserved[1].clone() };
    let done = [unknown.clone(), reserved[0].clone(), wrong.clone(), reserved[2].clone()];
    assert_eq!(subject.queue.delete(&done).await.unwrap(), [unknown, wrong]);
    assert_eq!(subject.sizes().await.reserved, 1);
}

/// Work that took too long but that nobody else began is not thrown away.
pub async fn promise_5_a_lapsed_receipt_is_good_until_someone_else_takes_the_message(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    let held = subject.reserve_one().await.receipt;
    subject.lapse().await;
    assert_eq!(subject.queue.delete(&[held]).await.unwrap(), []);
    assert_eq!(subject.sizes().await.total(), 0);
}

/// A second time it is stale, also while the message waits to be reserved again.
pub async fn promise_5_a_receipt_settles_once(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    let held = [subject.reserve_one().await.receipt];
    let twice = [&held, &held].map(|[receipt]| Remainder::whole(receipt.clone()));
    assert_eq!(subject.queue.release(&twice, Duration::ZERO).await.unwrap(), held);
    assert_eq!(subject.queue.delete(&held).await.unwrap(), held);
    assert_eq!(subject.queue.extend(&held).await.unwrap(), held);
    assert_eq!(subject.sizes().await.ready, 1);
}

/// And is there after it.
pub async fn promise_6_a_released_message_waits_for_its_delay(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    let held = Remainder::whole(subject.reserve_one().await.receipt);
    subject.queue.release(&[held], SECOND * 2).await.unwrap();
    subject.pass(SECOND).await;
    assert!(subject.reserve(&[QUEUE], 1).await.is_empty());
    subject.pass(SECOND * 2).await;
    assert_eq!(subject.reserve(&[QUEUE], 1).await.len(), 1);
}

/// Also where the engine's times are whole seconds, for a push and for a release.
pub async fn promise_6_a_delay_is_never_cut_short(subject: &Subject) {
    subject.pass(Duration::from_millis(900)).await;
    let delay = Duration::from_millis(1_500);
    subject.push(QUEUE, &["released"]).await;
    let held = Remainder::whole(subject.reserve_one().await.receipt);
    subject.queue.push(&[NewMessage { delay, ..message(QUEUE, "pushed") }]).await.unwrap();
    subject.queue.release(&[held], delay).await.unwrap();
    subject.pass(Duration::from_millis(1_200)).await;
    assert!(subject.reserve(&[QUEUE], 10).await.is_empty());
    subject.pass(Duration::from_millis(1_300)).await;
    assert_eq!(subject.reserve(&[QUEUE], 10).await.len(), 2);
}

/// Giving back is not a way to try for ever.
pub async fn promise_6_releasing_keeps_the_attempts(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    for attempts in 1..=3 {
        let reserved = subject.reserve_one().await;
        assert_eq!(reserved.attempts, attempts);
        subject.queue.release(&[Remainder::whole(reserved.receipt)], Duration::ZERO).await.unwrap();
    }
}

/// What is somebody else's is left as it was.
pub async fn promise_12_a_declined_message_counts_no_attempt_and_waits_for_its_delay(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    for _ in 0..3 {
        let reserved = subject.reserve_one().await;
        assert_eq!(reserved.attempts, 1);
        let held = [reserved.receipt];
        assert_eq!(subject.queue.decline(&held, Duration::ZERO).await.unwrap(), []);
        assert_eq!(subject.queue.decline(&held, Duration::ZERO).await.unwrap(), held, "it is held no more");
    }
    let receipt = subject.reserve_one().await.receipt;
    subject.queue.decline(&[receipt], SECOND * 2).await.unwrap();
    subject.pass(SECOND).await;
    assert!(subject.reserve(&[QUEUE], 1).await.is_empty());
    subject.pass(SECOND * 2).await;
    let again = subject.reserve_one().await;
    assert_eq!((again.attempts, &again.payload[..]), (1, &message(QUEUE, "a").payload[..]));
    subject.queue.release(&[Remainder::whole(again.receipt)], Duration::ZERO).await.unwrap();
    assert_eq!(subject.reserve_one().await.attempts, 2);
}

/// With its reason, its payload, its queue and the time.
pub async fn promise_7_a_buried_message_is_among_the_failed_and_nowhere_else(subject: &Subject) {
    subject.push(QUEUE, &["a", "b"]).await;
    let reserved = subject.reserve(&[QUEUE], 10).await;
    let held = Remainder::whole(reserved[0].receipt.clone());
    assert_eq!(subject.queue.bury(std::slice::from_ref(&held), "it's \"broken\"\nline 2").await.unwrap(), []);
    assert_eq!(subject.queue.bury(std::slice::from_ref(&held), "again").await.unwrap(), [held.receipt]);

    let page = subject.admin.failed(&FailedFilter::default()).await.unwrap();
    let [failed] = &page.messages[..] else { panic!("expected one failed message: {page:?}") };
    assert_eq!((failed.id.as_str(), &failed.queue), ("a", &name(QUEUE)));
    assert_eq!((failed.reason.as_str(), failed.payload_bytes), ("it's \"broken\"\nline 2", 12));
    assert!(failed.failed_at.abs_diff(reserved[0].created_at) < 60, "failed at {}", failed.failed_at);
    let payload = subject.admin.failed_payload(&failed.id).await.unwrap();
    assert_eq!(payload.as_deref(), Some(&b"payload of a"[..]));
    subject.lapse().await;
    assert_eq!(payloads(&subject.reserve(&[QUEUE], 10).await), ["payload of b"]);
    assert_eq!(subject.admin.failed_payload(&MessageId::new("b")).await.unwrap(), None);
}

/// In one call and over several.
pub async fn promise_8_queues_named_earlier_are_emptied_first(subject: &Subject) {
    subject.push("low", &["l1", "l2"]).await;
    subject.push("high", &["h1", "h2", "h3"]).await;
    subject.push("other", &["o1"]).await;
    let first = subject.reserve(&["high", "low"], 2).await;
    assert_eq!(payloads(&first), ["payload of h1", "payload of h2"]);
    let second = subject.reserve(&["high", "low"], 10).await;
    assert_eq!(payloads(&second), ["payload of h3", "payload of l1", "payload of l2"]);
    assert_eq!(second.iter().map(|message| message.queue.as_str()).collect::<Vec<_>>(), ["high", "low", "low"]);
    assert!(subject.reserve(&["high", "low"], 10).await.is_empty());
}

/// A delayed message takes its place when it is due, and one that a worker lost comes before all.
pub async fn promise_8_within_a_queue_the_oldest_comes_first(subject: &Subject) {
    subject.push(QUEUE, &["lost"]).await;
    subject.reserve_one().await;
    subject.queue.push(&[NewMessage { delay: SECOND * 2, ..message(QUEUE, "delayed") }]).await.unwrap();
    subject.push(QUEUE, &["a", "b"]).await;
    subject.lapse().await;
    subject.push(QUEUE, &["c"]).await;
    let order = subject.reserve(&[QUEUE], 10).await;
    let expected = ["payload of lost", "payload of a", "payload of b", "payload of delayed", "payload of c"];
    assert_eq!(payloads(&order), expected);
}

/// Ready, delayed, reserved, failed, and the age of the oldest; another queue's do not count.
pub async fn promise_9_sizes_tell_where_the_messages_are(subject: &Subject) {
    assert_eq!(subject.sizes().await, QueueSizes::default());
    subject.bury("f", "no").await;
    subject.push(QUEUE, &["a", "b", "c", "d"]).await;
    subject.push("other", &["o"]).await;
    subject.queue.push(&[NewMessage { delay: SECOND * 60, ..message(QUEUE, "later") }]).await.unwrap();
    let reserved = subject.reserve(&[QUEUE], 2).await;
    subject.pass(SECOND).await;
    let sizes = subject.sizes().await;
    assert!(!sizes.estimated, "the suite compares numbers: an engine that estimates needs its own test");
    assert_eq!((sizes.ready, sizes.delayed, sizes.reserved, sizes.failed), (2, 1, 2, 1));
    assert!(sizes.oldest.is_some_and(|age| (1..=3).contains(&age.as_secs())), "{:?}", sizes.oldest);

    let held = Remainder::whole(reserved[0].receipt.clone());
    subject.queue.release(&[held], SECOND * 60).await.unwrap();
    subject.queue.delete(&[reserved[1].receipt.clone()]).await.unwrap();
    let sizes = subject.sizes().await;
    assert_eq!((sizes.ready, sizes.delayed, sizes.reserved, sizes.total()), (2, 2, 0, 4));
}

/// What was delayed is ready when it is due, without anyone touching it, and delayed again on a clock set back.
pub async fn promise_9_sizes_follow_the_clock(subject: &Subject) {
    let later = |id, delay| NewMessage { delay, ..message(QUEUE, id) };
    subject.queue.push(&[later("a", SECOND), later("b", SECOND * 2), later("c", SECOND * 60)]).await.unwrap();
    subject.pass(SECOND * 3).await;
    let sizes = subject.sizes().await;
    assert_eq!((sizes.ready, sizes.delayed), (2, 1));
    subject.push(QUEUE, &["d"]).await;
    assert_eq!((subject.sizes().await.ready, subject.sizes().await.delayed), (3, 1));
    if let Some(clock) = &subject.clock {
        clock.set(crate::Clock::now(&**clock) - SECOND * 3);
        let sizes = subject.sizes().await;
        // Where what is ready has no time any more it stays ready, which delays nothing.
        assert!([(0, 4), (3, 1)].contains(&(sizes.ready, sizes.delayed)), "{sizes:?}");
        clock.advance(SECOND * 3);
    }
    let reserved = subject.reserve(&[QUEUE], 10).await;
    subject.queue.delete(&receipts(&reserved)).await.unwrap();
    assert_eq!((subject.sizes().await.ready, subject.sizes().await.delayed), (0, 1));
}

/// With attempts 0, by id or all of a queue; an id that is not there is passed over.
pub async fn promise_10_retry_puts_messages_back_as_new(subject: &Subject) {
    for id in ["a", "b", "c"] {
        subject.bury(id, "no").await;
    }
    let ids = Selection::Ids(["b", "none", "b"].map(MessageId::new).to_vec());
    assert_eq!(subject.admin.retry(&ids).await.unwrap(), 1);
    let reserved = subject.reserve_one().await;
    assert_eq!((&reserved.payload[..], reserved.attempts), (&b"payload of b"[..], 1));
    assert_eq!(subject.failed_ids().await, ["c", "a"]);

    let elsewhere = Selection::Matching { queue: Some(name("other")), older_than: Duration::ZERO };
    assert_eq!(subject.admin.retry(&elsewhere).await.unwrap(), 0);
    assert_eq!(subject.admin.retry(&Selection::all()).await.unwrap(), 2);
    assert_eq!(payloads(&subject.reserve(&[QUEUE], 10).await), ["payload of a", "payload of c"]);
    assert_eq!((subject.sizes().await.failed, subject.sizes().await.reserved), (0, 3));
}

/// It fails again under the same id, and pushing it again adds nothing.
pub async fn promise_10_a_retried_message_is_known_by_its_id(subject: &Subject) {
    subject.bury("a", "first").await;
    assert_eq!(subject.admin.retry(&Selection::all()).await.unwrap(), 1);
    subject.push(QUEUE, &["a"]).await;
    assert_eq!(subject.sizes().await.total(), 1);
    let held = Remainder::whole(subject.reserve_one().await.receipt);
    subject.queue.bury(&[held], "second").await.unwrap();
    let page = subject.admin.failed(&FailedFilter::default()).await.unwrap();
    assert_eq!((page.messages.len(), page.messages[0].id.as_str()), (1, "a"));
    assert_eq!(page.messages[0].reason, "second");
}

/// So that the good events of a message are not stored again and again.
pub async fn promise_11_release_replaces_the_payload_with_what_is_left(subject: &Subject) {
    subject.push(QUEUE, &["a", "b"]).await;
    let reserved = subject.reserve(&[QUEUE], 10).await;
    let less = Remainder { receipt: reserved[0].receipt.clone(), payload: Some(Bytes::from("less")) };
    let whole = Remainder::whole(reserved[1].receipt.clone());
    assert_eq!(subject.queue.release(&[less, whole], Duration::ZERO).await.unwrap(), []);
    assert_eq!(payloads(&subject.reserve(&[QUEUE], 10).await), ["less", "payload of b"]);

    let bad = Remainder { receipt: reserved[0].receipt.clone(), payload: Some(Bytes::from_static(b"\xff")) };
    let error = subject.queue.release(&[bad], Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
}

/// So a failed message holds what failed, and nothing else; a retry brings that back.
pub async fn promise_11_bury_replaces_the_payload_with_what_is_left(subject: &Subject) {
    subject.push(QUEUE, &["a"]).await;
    let receipt = subject.reserve_one().await.receipt;
    let less = Remainder { receipt, payload: Some(Bytes::from("the bad one")) };
    assert_eq!(subject.queue.bury(&[less], "no").await.unwrap(), []);
    let payload = subject.admin.failed_payload(&MessageId::new("a")).await.unwrap();
    assert_eq!(payload.as_deref(), Some(&b"the bad one"[..]));
    subject.admin.retry(&Selection::all()).await.unwrap();
    assert_eq!(payloads(&subject.reserve(&[QUEUE], 10).await), ["the bad one"]);
}

/// By count, also by none, and by bytes, but one message at least.
pub async fn reserving_takes_no_more_than_is_asked_for_or_fits_in_memory(subject: &Subject) {
    let large = Bytes::from(vec![b'x'; crate::RESERVED_BYTES_MAX / 2]);
    for id in ["a", "b", "c"] {
        subject.queue.push(&[NewMessage { payload: large.clone(), ..message(QUEUE, id) }]).await.unwrap();
    }
    assert!(subject.reserve(&[QUEUE], 0).await.is_empty());
    assert_eq!(subject.reserve(&[QUEUE], usize::MAX).await.len(), 2);
    assert_eq!(subject.reserve(&[QUEUE], usize::MAX).await.len(), 1);
}

/// Each once, and a page token of another's making is refused.
pub async fn failed_messages_are_listed_page_by_page_from_the_newest_on(subject: &Subject) {
    for id in ["a", "b", "c", "d", "e"] {
        subject.bury(id, "no").await;
    }
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let filter = FailedFilter { limit: 2, after, ..FailedFilter::default() };
        let page = subject.admin.failed(&filter).await.unwrap();
        pages.push(page.messages.iter().map(|failed| failed.id.to_string()).collect::<String>());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, ["ed", "cb", "a"]);
    let filter = FailedFilter { after: Some("x".to_owned()), ..FailedFilter::default() };
    assert_eq!(subject.admin.failed(&filter).await.unwrap_err().kind(), ErrorKind::Rejected);
    let filter = FailedFilter { limit: 5, ..FailedFilter::default() };
    assert_eq!(subject.admin.failed(&filter).await.unwrap().next, None, "a full last page has no next");
}

/// Only those.
pub async fn failed_messages_are_listed_by_queue(subject: &Subject) {
    subject.bury("a", "no").await;
    let filter = |queue| FailedFilter { queue: Some(name(queue)), ..FailedFilter::default() };
    assert_eq!(subject.admin.failed(&filter(QUEUE)).await.unwrap().messages.len(), 1);
    assert!(subject.admin.failed(&filter("other")).await.unwrap().messages.is_empty());
}

/// By id, and by age.
pub async fn forget_drops_what_is_named_or_old_enough(subject: &Subject) {
    for id in ["a", "b"] {
        subject.bury(id, "no").await;
    }
    assert_eq!(subject.admin.forget(&Selection::Ids(vec![MessageId::new("a")])).await.unwrap(), 1);
    assert_eq!(subject.admin.forget(&Selection::Ids(vec![MessageId::new("a")])).await.unwrap(), 0);
    let old = Selection::Matching { queue: Some(name(QUEUE)), older_than: SECOND * 2 };
    assert_eq!(subject.admin.forget(&old).await.unwrap(), 0);
    subject.pass(SECOND * 3).await;
    subject.bury("c", "no").await;
    assert_eq!(subject.admin.forget(&old).await.unwrap(), 1);
    assert_eq!(subject.failed_ids().await, ["c"]);
    let very_old = Selection::Matching { queue: None, older_than: Duration::MAX };
    assert_eq!(subject.admin.forget(&very_old).await.unwrap(), 0);
    assert_eq!(subject.admin.forget(&Selection::all()).await.unwrap(), 1);
    assert_eq!(subject.sizes().await.failed, 0);
}

/// Of that queue, and not the failed ones.
pub async fn clear_drops_reserved_messages_too(subject: &Subject) {
    subject.bury("f", "no").await;
    subject.push(QUEUE, &["a", "b"]).await;
    subject.push("other", &["o"]).await;
    let held = subject.reserve_one().await.receipt;
    assert_eq!(subject.admin.clear(&name(QUEUE)).await.unwrap(), 2);
    assert_eq!(subject.queue.delete(std::slice::from_ref(&held)).await.unwrap(), [held]);
    assert_eq!((subject.sizes().await.total(), subject.sizes().await.failed), (0, 1));
    assert_eq!(subject.reserve(&["other"], 10).await.len(), 1);
}

/// Until it is resumed; what is held can be settled.
pub async fn nothing_is_taken_from_a_paused_queue(subject: &Subject) {
    subject.push(QUEUE, &["a", "b"]).await;
    subject.push("other", &["o"]).await;
    let held = subject.reserve_one().await.receipt;
    subject.admin.pause(&name(QUEUE)).await.unwrap();
    subject.admin.pause(&name(QUEUE)).await.unwrap();
    assert_eq!(subject.admin.control().await.unwrap().paused, [name(QUEUE)]);
    assert_eq!(payloads(&subject.reserve(&[QUEUE, "other"], 10).await), ["payload of o"]);
    assert_eq!(subject.queue.delete(&[held]).await.unwrap(), []);
    subject.admin.resume(&name(QUEUE)).await.unwrap();
    assert_eq!(subject.admin.control().await.unwrap().paused, []);
    assert_eq!(payloads(&subject.reserve(&[QUEUE, "other"], 10).await), ["payload of b"]);
}

/// The number grows with each.
pub async fn a_restart_is_seen_by_every_worker(subject: &Subject) {
    let before = subject.admin.control().await.unwrap().restart;
    subject.admin.restart().await.unwrap();
    let after = subject.admin.control().await.unwrap().restart;
    subject.admin.restart().await.unwrap();
    assert!(before < after && after < subject.admin.control().await.unwrap().restart);
}

/// Waiting or failed, sorted.
pub async fn queues_are_those_that_hold_messages(subject: &Subject) {
    assert_eq!(subject.admin.queues().await.unwrap(), []);
    subject.bury("f", "no").await;
    subject.push("b", &["1"]).await;
    subject.push("a", &["2"]).await;
    assert_eq!(subject.admin.queues().await.unwrap(), ["a", QUEUE, "b"].map(name));
    subject.admin.clear(&name("b")).await.unwrap();
    assert_eq!(subject.admin.queues().await.unwrap(), ["a", QUEUE].map(name));
}

/// Long before its time is over.
pub async fn wait_returns_when_a_message_is_pushed(subject: &Subject) {
    assert!(subject.reserve(&[QUEUE], 1).await.is_empty());
    let queue = Arc::clone(&subject.queue);
    let began = Instant::now();
    let waiting = tokio::spawn(async move { queue.wait(&[name(QUEUE)], SECOND * 60).await });
    tokio::task::yield_now().await;
    subject.push(QUEUE, &["a"]).await;
    waiting.await.unwrap();
    assert!(began.elapsed() < SECOND * 10, "it took {:?}", began.elapsed());
}

/// Between finding nothing and waiting, that is.
pub async fn wait_returns_at_once_when_a_message_came_before_it(subject: &Subject) {
    assert!(subject.reserve(&[QUEUE], 1).await.is_empty());
    subject.push(QUEUE, &["a"]).await;
    let began = Instant::now();
    subject.queue.wait(&[name(QUEUE)], SECOND * 60).await;
    assert!(began.elapsed() < SECOND * 10, "it took {:?}", began.elapsed());
}

/// Nothing happens then but time passing.
pub async fn wait_returns_when_a_delayed_message_is_due(subject: &Subject) {
    subject.queue.push(&[NewMessage { delay: SECOND, ..message(QUEUE, "a") }]).await.unwrap();
    assert!(subject.reserve(&[QUEUE], 1).await.is_empty());
    let began = Instant::now();
    subject.queue.wait(&[name(QUEUE)], SECOND * 60).await;
    assert!(began.elapsed() < SECOND * 10, "it took {:?}", began.elapsed());
}

/// When nothing comes.
pub async fn wait_ends_after_its_time(subject: &Subject) {
    assert!(subject.reserve(&[QUEUE], 1).await.is_empty());
    let (began, at_most) = (Instant::now(), Duration::from_millis(200));
    subject.queue.wait(&[name(QUEUE)], at_most).await;
    assert!((at_most..SECOND * 10).contains(&began.elapsed()), "it took {:?}", began.elapsed());
}

/// Neither messages nor what was asked of the workers.
pub async fn migrating_again_changes_nothing(subject: &Subject) {
    subject.bury("f", "no").await;
    subject.push(QUEUE, &["a", "b"]).await;
    subject.reserve_one().await;
    subject.admin.pause(&name("other")).await.unwrap();
    let before = (subject.sizes().await, subject.admin.control().await.unwrap());
    subject.admin.migrate().await.unwrap();
    let after = (subject.sizes().await, subject.admin.control().await.unwrap());
    assert_eq!((before.0.ready, before.0.reserved, before.0.failed), (after.0.ready, after.0.reserved, after.0.failed));
    assert_eq!(before.1, after.1);
}
