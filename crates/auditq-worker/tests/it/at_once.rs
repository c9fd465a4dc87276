//! Messages that are stored by the transaction that takes them: in MySQL, where queue and store share a database.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use auditq_event::{Event, Message, ProducerLabel};
use auditq_queue::{NewMessage, Reserved};
use auditq_store::Batch;
use auditq_worker::{Next, SettleError, WorkEvent, Worker};
use tokio::task::JoinHandle;

use crate::mysql::InOneDatabase;
use crate::support::{PRODUCER, event, id_of, message, message_of, queue_name, within};

/// The events of messages that `message_of` made.
fn batch_of(messages: &[Reserved]) -> Batch {
    let read = |message: &Reserved| Message::parse(&message.payload, 1 << 20).unwrap();
    let seqs = messages.iter().flat_map(|message| read(message).records().map(|(seq, _)| seq).collect::<Vec<_>>());
    let events = seqs.map(|seq| Event { event_id: id_of(seq), producer_seq: seq, ..event(seq, "alice") });
    Batch { events: events.collect(), amendments: Vec::new() }
}

/// A settlement that stands still once it has locked its messages.
struct Standing {
    locked: mpsc::Receiver<usize>,
    go: mpsc::Sender<()>,
    settling: JoinHandle<Result<Next, SettleError>>,
}

impl Standing {
    /// Takes up to `limit` messages, and waits to be told to go on with what `rows` makes of them.
    fn begin(
        world: &InOneDatabase,
        limit: usize,
        rows: impl Fn(&[Reserved]) -> Option<Batch> + Send + Sync + 'static,
    ) -> Self {
        let ((tell, locked), (go, wait)) = (mpsc::channel(), mpsc::channel());
        let (settlement, wait) = (world.engines.settlement.clone(), Mutex::new(wait));
        let settling = tokio::spawn(async move {
            let stand = |messages: &[Reserved]| {
                tell.send(messages.len()).unwrap();
                tokio::task::block_in_place(|| wait.lock().unwrap().recv().unwrap());
                rows(messages)
            };
            settlement.at_once().unwrap().settle_next(&[queue_name()], limit, &stand).await
        });
        Self { locked, go, settling }
    }

    fn has_locked(&self) -> usize {
        self.locked.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    async fn go_on(self) -> Result<Next, SettleError> {
        self.go.send(()).unwrap();
        // Sooner than the server gives up waiting for a lock.
        tokio::time::timeout(Duration::from_secs(4), self.settling).await.expect("it waits for another one").unwrap()
    }
}

async fn settle_next(world: &InOneDatabase, limit: usize) -> Next {
    let rows = |messages: &[Reserved]| Some(batch_of(messages));
    world.engines.settlement.at_once().unwrap().settle_next(&[queue_name()], limit, &rows).await.unwrap()
}

#[tokio::test]
async fn messages_are_stored_and_gone_or_reserved() {
    let world = InOneDatabase::with_retry_after(None).await;
    world.engines.queue.push(&[message_of(0..5), message_of(5..10), message_of(10..15)]).await.unwrap();
    let settlement = world.engines.settlement.at_once().unwrap();
    let seen = Mutex::new(Vec::new());
    let none = |messages: &[Reserved]| {
        seen.lock().unwrap().extend(messages.to_vec());
        None
    };
    let Next::Reserved(held) = settlement.settle_next(&[queue_name()], 1, &none).await.unwrap() else {
        panic!("there are no rows")
    };
    assert_eq!((held.len(), held[0].attempts, held[0].receipt.attempt), (1, 1, 1));
    assert_eq!(seen.into_inner().unwrap()[0].receipt, held[0].receipt);
    let Next::Stored(2, inserted) = settle_next(&world, 9).await else { panic!("there are rows") };
    assert_eq!((inserted.stored, world.stored().await, world.waiting().await), (10, (5..15).collect(), 1));
    // The one that is reserved is as any other.
    let never = |_: &[Reserved]| -> Option<Batch> { panic!("there is nothing to read") };
    let Next::Reserved(nothing) = settlement.settle_next(&[queue_name()], 9, &never).await.unwrap() else { panic!() };
    assert!(nothing.is_empty());
    let settled = world.engines.settlement.settle(Arc::new(batch_of(&held)), &[held[0].receipt.clone()]).await.unwrap();
    assert_eq!((settled.inserted.stored, settled.stale.len(), world.waiting().await), (5, 0, 0));
}

/// Their rows stand side by side, in one page and in one index.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_waits_for_the_locks_of_another() {
    let world = InOneDatabase::with_retry_after(None).await;
    world.engines.queue.push(&(0..6).map(|n| message_of(n * 5..n * 5 + 5)).collect::<Vec<_>>()).await.unwrap();
    let first = Standing::begin(&world, 2, |messages| Some(batch_of(messages)));
    assert_eq!(first.has_locked(), 2);
    let second = Standing::begin(&world, 2, |_| None);
    assert_eq!(second.has_locked(), 2);
    let third = Standing::begin(&world, 9, |messages| Some(batch_of(messages)));
    assert_eq!(third.has_locked(), 2);
    let Next::Stored(2, _) = first.go_on().await.unwrap() else { panic!() };
    let Next::Reserved(held) = second.go_on().await.unwrap() else { panic!() };
    assert_eq!(held.len(), 2);
    let Next::Stored(2, _) = third.go_on().await.unwrap() else { panic!() };
    assert_eq!((world.stored().await.len(), world.waiting().await), (20, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_could_not_be_stored_is_there_again_where_others_have_passed_it_by() {
    let world = InOneDatabase::with_retry_after(None).await;
    world.refuse("refused").await;
    world.engines.queue.push(&(0..4).map(|n| message_of(n * 5..n * 5 + 5)).collect::<Vec<_>>()).await.unwrap();
    // Old enough not to be looked for each time.
    world.database.run("UPDATE jobs SET available_at = available_at - 100").await;
    let refused = Standing::begin(&world, 2, |messages| {
        let mut batch = batch_of(messages);
        batch.events[7].actor.username = Some("refused".to_owned());
        Some(batch)
    });
    assert_eq!(refused.has_locked(), 2);
    let Next::Stored(2, _) = settle_next(&world, 9).await else { panic!() };
    let error = refused.go_on().await.unwrap_err();
    assert!(
        matches!(&error, SettleError::Store(error) if error.kind() == auditq_store::ErrorKind::Rejected),
        "{error}"
    );
    assert_eq!((world.stored().await.len(), world.waiting().await), (10, 2));
    let held = world.reserve(9).await;
    assert_eq!(held.iter().map(|message| message.attempts).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_a_worker_that_hangs_go_to_another_once_a_reservation_would_have_lapsed() {
    let world = InOneDatabase::with_retry_after(Some(2)).await;
    world.engines.queue.push(&[message_of(0..5), message_of(5..10)]).await.unwrap();
    let hangs = Standing::begin(&world, 2, |messages| Some(batch_of(messages)));
    assert_eq!(hangs.has_locked(), 2);
    within(Duration::from_secs(20), async || matches!(settle_next(&world, 9).await, Next::Stored(2, _))).await;
    let error = hangs.go_on().await.unwrap_err();
    assert!(
        matches!(&error, SettleError::Store(error) if error.kind() == auditq_store::ErrorKind::Unavailable),
        "{error}"
    );
    assert_eq!((world.stored().await, world.waiting().await), ((0..10).collect::<Vec<_>>(), 0));
}

/// A worker that tells how many messages it stored each time.
fn told(world: &InOneDatabase) -> (Worker, Arc<Mutex<Vec<usize>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = told.clone();
    let observer = auditq_worker::Observer::new(move |event| {
        if let WorkEvent::Stored { messages, .. } = event {
            hears.lock().unwrap().push(*messages);
        }
    });
    let mut worker = Worker { observer, ..world.worker(0) };
    worker.options.batch = 1_000;
    (worker, told)
}

#[tokio::test]
async fn a_start_reserves_the_first_messages_and_stores_the_others_at_once() {
    let world = InOneDatabase::with_retry_after(None).await;
    world.engines.queue.push(&(0..100).map(|n| message_of(n * 2..n * 2 + 2)).collect::<Vec<_>>()).await.unwrap();
    let (worker, told) = told(&world);
    worker.run().await.unwrap();
    assert_eq!(*told.lock().unwrap(), [64, 36]);
    assert_eq!((world.stored().await, world.waiting().await), ((0..200).collect::<Vec<_>>(), 0));
}

#[tokio::test]
async fn one_that_is_refused_or_unreadable_holds_up_none_of_those_that_are_stored_at_once() {
    let world = InOneDatabase::with_retry_after(None).await;
    world.refuse("refused").await;
    let mut messages: Vec<NewMessage> = (0..200).map(|n| message_of(n..n + 1)).collect();
    messages[150] = message(&[(150, event(150, "refused").encode())]);
    world.engines.queue.push(&messages[..199]).await.unwrap();
    let label = ProducerLabel { producer_id: PRODUCER, ..ProducerLabel::default() };
    let unknown = Message::build(&label, &[(199, b"from a later version")]);
    world.engines.queue.push(&[NewMessage { payload: unknown.into(), ..messages[199].clone() }]).await.unwrap();
    let (worker, _) = told(&world);
    worker.run().await.unwrap();
    let good: Vec<u64> = (0..199).filter(|seq| *seq != 150).collect();
    assert_eq!((world.stored().await, world.waiting().await), (good, 0));
    let failed = world.engines.admin.failed(&auditq_queue::FailedFilter::default()).await.unwrap().messages;
    let mut reasons: Vec<_> = failed.iter().map(|failed| failed.reason.as_str()).collect();
    reasons.sort_unstable();
    assert!(reasons.len() == 2 && reasons.iter().any(|reason| reason.contains("refused by the owner")), "{reasons:?}");
}
