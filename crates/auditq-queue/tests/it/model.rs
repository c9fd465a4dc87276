//! Random operations on each driver and on the reference, compared one by one.

use std::sync::Arc;
use std::time::Duration;

use auditq_queue::conformance::Subject;
use auditq_queue::{
    FailedFilter, MessageId, NewMessage, Queue, QueueAdmin, QueueName, Receipt, Remainder, Reserved, Selection,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::subjects;

/// One operation; the numbers choose among few, so that operations meet.
#[derive(Clone, Debug)]
enum Operation {
    Push(Vec<(u8, u8, u8)>),
    Reserve(Vec<u8>, usize),
    Extend(Vec<Held>),
    Delete(Vec<Held>),
    Release(Vec<Held>, u8),
    Bury(Vec<Held>),
    Retry(Which),
    Forget(Which),
    Clear(u8),
    Pause(u8),
    Resume(u8),
    Restart,
    Migrate,
    Pass(u8),
    SetBack(u8),
}

/// A receipt from those ever given, and what is left of its message.
#[derive(Clone, Debug)]
struct Held(prop::sample::Index, Option<u8>);

#[derive(Clone, Debug)]
enum Which {
    Ids(Vec<u8>),
    Matching(Option<u8>, u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{
        Bury, Clear, Delete, Extend, Forget, Migrate, Pass, Pause, Push, Release, Reserve, Restart, Resume, Retry,
        SetBack,
    };
    let held =
        || vec((any::<prop::sample::Index>(), option::of(any::<u8>())).prop_map(|(of, left)| Held(of, left)), 1..4);
    let which = || {
        prop_oneof![
            vec(0..24_u8, 0..4).prop_map(Which::Ids),
            (option::of(0..3_u8), 0..60_u8).prop_map(|(queue, age)| Which::Matching(queue, age)),
        ]
    };
    prop_oneof![
        6 => vec((0..24_u8, 0..3_u8, 0..40_u8), 0..5).prop_map(Push),
        8 => (vec(0..3_u8, 1..4), 0..5_usize).prop_map(|(queues, limit)| Reserve(queues, limit)),
        2 => held().prop_map(Extend),
        4 => held().prop_map(Delete),
        4 => (held(), 0..40_u8).prop_map(|(held, delay)| Release(held, delay)),
        4 => held().prop_map(Bury),
        2 => which().prop_map(Retry),
        1 => which().prop_map(Forget),
        1 => (0..3_u8).prop_map(Clear),
        1 => (0..3_u8).prop_map(Pause),
        2 => (0..3_u8).prop_map(Resume),
        1 => Just(Restart),
        1 => Just(Migrate),
        5 => (0..120_u8).prop_map(Pass),
        1 => (0..200_u8).prop_map(SetBack),
    ]
}

/// Runs random operations on a driver, a new queue for each case, and on the reference beside it.
fn check<S: Future<Output = Subject>>(cases: u32, subject: impl Fn() -> S) {
    check_on(Time::StandsStill, cases, subject);
}

/// What the clock does beside what the operations have it do.
#[derive(Clone, Copy, PartialEq)]
enum Time {
    StandsStill,
    /// It moves on a little with each operation and is never set back: so messages become available in the order of
    /// the operations, which is all that a list knows of.
    MovesOn,
}

fn check_on<S: Future<Output = Subject>>(time: Time, cases: u32, subject: impl Fn() -> S) {
    check_operations(operation(), time, cases, subject);
}

fn check_operations<S: Future<Output = Subject>>(
    operation: impl Strategy<Value = Operation>,
    time: Time,
    cases: u32,
    subject: impl Fn() -> S,
) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ran = TestRunner::new(config).run(&vec(operation, 1..60), |operations| {
        runtime.block_on(async { compare(&subject().await, &operations, time).await });
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}

/// Fewer cases where making an empty database takes most of the time.
const SERVER_CASES: u32 = 48;

#[test]
fn sqlite_does_what_the_reference_does() {
    check(96, subjects::sqlite);
}

#[test]
fn mysql_does_what_the_reference_does() {
    check(SERVER_CASES, subjects::mysql);
}

#[test]
fn postgres_does_what_the_reference_does() {
    check(SERVER_CASES, subjects::postgres);
}

#[test]
fn redis_does_what_the_reference_does() {
    check_on(Time::MovesOn, 96, subjects::redis);
}

/// Ids are known within a queue, so each goes to one queue only.
#[test]
fn nats_does_what_the_reference_does() {
    let operation = operation().prop_map(|operation| match operation {
        Operation::Push(batch) => {
            Operation::Push(batch.into_iter().map(|(id, _, delay)| (id, id % 3, delay)).collect())
        }
        other => other,
    });
    check_operations(operation, Time::MovesOn, SERVER_CASES, subjects::nats);
}

async fn compare(real: &Subject, operations: &[Operation], time: Time) {
    let model = subjects::memory().await;
    let (mut receipts, mut model_receipts) = (Vec::new(), Vec::new());
    for operation in operations {
        if time == Time::MovesOn {
            if matches!(operation, Operation::SetBack(_)) {
                continue;
            }
            for subject in [&model, real] {
                subject.clock.as_ref().unwrap().advance(Duration::from_millis(1));
            }
        }
        let expected = apply(&model, operation, &mut model_receipts).await;
        let actual = apply(real, operation, &mut receipts).await;
        assert_eq!(
            numbered(&actual, &receipts),
            numbered(&expected, &model_receipts),
            "{operation:?} of {operations:#?}"
        );
        assert_eq!(look(real).await, look(&model).await, "after {operation:?} of {operations:#?}");
    }
}

/// What was answered, with the engine's ids as numbers in the order in which messages were first reserved, however an
/// engine spells them and whatever it adds for the one reservation.
fn numbered(answer: &str, receipts: &[Receipt]) -> String {
    let message = |id: &str| id.split('.').next().unwrap().to_owned();
    let mut messages: Vec<String> = Vec::new();
    receipts.iter().fold(answer.to_owned(), |answer, Receipt { id, .. }| {
        let known = messages.iter().position(|known| *known == message(id));
        let number = known.unwrap_or_else(|| {
            messages.push(message(id));
            messages.len() - 1
        });
        answer.replace(&format!("{id:?}"), &format!("#{number}"))
    })
}

/// Runs one operation; returns what it answered, as text.
async fn apply(subject: &Subject, operation: &Operation, receipts: &mut Vec<Receipt>) -> String {
    let (queue, admin): (&dyn Queue, &dyn QueueAdmin) = (&*subject.queue, &*subject.admin);
    let clock = Arc::clone(subject.clock.as_ref().unwrap());
    match operation {
        Operation::Push(batch) => {
            let batch: Vec<_> = batch.iter().map(|(id, queue, delay)| message(*id, *queue, *delay)).collect();
            format!("{:?}", queue.push(&batch).await.unwrap())
        }
        Operation::Reserve(queues, limit) => {
            let queues: Vec<_> = queues.iter().map(|queue| name(*queue)).collect();
            let reserved: Vec<Reserved> = queue.reserve(&queues, *limit).await.unwrap();
            receipts.extend(reserved.iter().map(|message| message.receipt.clone()));
            format!("{reserved:?}")
        }
        Operation::Extend(held) => format!("{:?}", queue.extend(&chosen(held, receipts)).await.unwrap()),
        Operation::Delete(held) => format!("{:?}", queue.delete(&chosen(held, receipts)).await.unwrap()),
        Operation::Release(held, delay) => {
            format!("{:?}", queue.release(&remainders(held, receipts), seconds(*delay)).await.unwrap())
        }
        Operation::Bury(held) => format!("{:?}", queue.bury(&remainders(held, receipts), "why").await.unwrap()),
        Operation::Retry(which) => format!("{:?}", admin.retry(&selection(which)).await.unwrap()),
        Operation::Forget(which) => format!("{:?}", admin.forget(&selection(which)).await.unwrap()),
        Operation::Clear(queue) => format!("{:?}", admin.clear(&name(*queue)).await.unwrap()),
        Operation::Pause(queue) => format!("{:?}", admin.pause(&name(*queue)).await.unwrap()),
        Operation::Resume(queue) => format!("{:?}", admin.resume(&name(*queue)).await.unwrap()),
        Operation::Restart => format!("{:?}", admin.restart().await.unwrap()),
        Operation::Migrate => format!("{:?}", admin.migrate().await.unwrap()),
        Operation::Pass(time) => format!("{:?}", clock.advance(seconds(*time))),
        Operation::SetBack(time) => {
            format!("{:?}", clock.set(auditq_queue::Clock::now(&*clock) - seconds(*time)))
        }
    }
}

/// Everything that can be seen without changing anything.
async fn look(subject: &Subject) -> String {
    let admin = &subject.admin;
    let mut seen = format!("{:?} {:?}", admin.queues().await.unwrap(), admin.control().await.unwrap());
    for queue in 0..3 {
        let mut sizes = admin.sizes(&name(queue)).await.unwrap();
        // Redis keeps the reservations of one call a microsecond apart.
        sizes.oldest = sizes.oldest.map(|age| Duration::from_secs_f64((age.as_secs_f64() * 1_000.0).round() / 1_000.0));
        seen += &format!("\n{queue}: {sizes:?}");
    }
    let page = admin.failed(&FailedFilter { limit: 1_000, ..FailedFilter::default() }).await.unwrap();
    for failed in page.messages {
        let payload = admin.failed_payload(&failed.id).await.unwrap();
        seen += &format!("\n{failed:?} {payload:?}");
    }
    seen
}

fn chosen(held: &[Held], receipts: &[Receipt]) -> Vec<Receipt> {
    held.iter().filter(|_| !receipts.is_empty()).map(|Held(index, _)| index.get(receipts).clone()).collect()
}

fn remainders(held: &[Held], receipts: &[Receipt]) -> Vec<Remainder> {
    let left = held.iter().map(|Held(_, left)| left.map(|left| Bytes::from(format!("left {left}"))));
    chosen(held, receipts).into_iter().zip(left).map(|(receipt, payload)| Remainder { receipt, payload }).collect()
}

fn selection(which: &Which) -> Selection {
    match which {
        Which::Ids(ids) => Selection::Ids(ids.iter().map(|number| id(*number)).collect()),
        Which::Matching(queue, age) => Selection::Matching { queue: queue.map(name), older_than: seconds(*age) },
    }
}

fn message(number: u8, queue: u8, delay: u8) -> NewMessage {
    // Half of them have no delay.
    let delay = seconds(delay.saturating_sub(20));
    NewMessage { id: id(number), queue: name(queue), payload: Bytes::from(format!("message {number}")), delay }
}

fn id(number: u8) -> MessageId {
    MessageId::new(format!("id {number}"))
}

fn name(queue: u8) -> QueueName {
    QueueName::new(format!("queue {queue}")).unwrap()
}

fn seconds(seconds: u8) -> Duration {
    Duration::from_secs(seconds.into())
}
