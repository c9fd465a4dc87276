//! Prints what recording and reading one event costs, in nanoseconds, the best of several runs.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, of input it made itself")]

use std::hint::black_box;
use std::time::Instant;

use auditq_event::{
    Actor, ActorType, Database, Limits, MAX_MESSAGE_BYTES, Message, Occurrence, Origin, OriginKind, ProducerLabel,
    Record, Redaction, Statement, System, TransactionOutcome, Value, bindings_json, encode_actor, encode_bindings,
    encode_database, encode_origin, query_hash,
};

const SQL: &str =
    "SELECT id, customer_id, status, total FROM orders WHERE customer_id = ? AND status = ? ORDER BY id LIMIT 20";
const BATCH: usize = 500;

fn main() {
    let (redaction, limits) = (Redaction::new([1; 32]), Limits::default());
    let statement = Statement::analyse(SQL.as_bytes(), System::Sqlite, &redaction, &limits);
    let context = context(&limits);

    let (mut bindings, mut record) = (Vec::new(), Vec::new());
    let mut encode = || {
        bindings.clear();
        record.clear();
        let values = [Value::Int(black_box(4711)), Value::Text("shipped")];
        encode_bindings(values, &statement, &redaction, &limits, &mut bindings);
        Occurrence {
            occurred_at: 1_700_000_000_123_456,
            recorded_at: 1_700_000_000_124_456,
            duration_us: 1000,
            query_hash: query_hash(statement.hash(), &bindings, "17"),
            statement: statement.encoded(),
            bindings: &bindings,
            context: [&context[0], &context[1], &context[2]],
            rows_returned: Some(20),
            transaction_outcome: TransactionOutcome::Autocommit,
            ..Occurrence::default()
        }
        .encode(&limits, &mut record);
        black_box(record.len());
    };
    let encoding = best(100_000, &mut encode);

    let label =
        ProducerLabel { producer_id: [1; 16], app: Some("shop".into()), host: Some("web-1".into()), pid: Some(7) };
    let records: Vec<(u64, &[u8])> = (0..BATCH as u64).map(|seq| (seq, record.as_slice())).collect();
    let payload = Message::build(&label, &records);
    let message = Message::parse(&payload, MAX_MESSAGE_BYTES).expect("our own message is readable");
    let Ok(Record::Event(event)) = Record::decode(&record, [1; 16], 1) else { panic!("our own record is an event") };
    let per_record = |ns: f64| ns / BATCH as f64;

    println!("event_bytes           {:>8}", record.len());
    println!(
        "analyse               {:>8.0} ns, once a distinct SQL text",
        best(10_000, || {
            black_box(Statement::analyse(SQL.as_bytes(), System::Sqlite, &redaction, &limits));
        })
    );
    println!("bindings + hash + encode {encoding:>5.0} ns an event");
    println!(
        "decode                {:>8.0} ns an event",
        best(100_000, || {
            black_box(Record::decode(black_box(&record), [1; 16], 1)).expect("our own record is readable");
        })
    );
    println!(
        "message build         {:>8.0} ns an event",
        per_record(best(200, || {
            black_box(Message::build(&label, &records));
        }))
    );
    println!(
        "message parse         {:>8.0} ns an event",
        per_record(best(200, || {
            black_box(Message::parse(&payload, MAX_MESSAGE_BYTES)).expect("our own message is readable");
        }))
    );
    println!(
        "message records       {:>8.0} ns an event",
        per_record(best(200, || {
            message.records().for_each(|record| drop(black_box(record)));
        }))
    );
    println!(
        "bindings json         {:>8.0} ns an event",
        best(100_000, || {
            black_box(bindings_json(&event.bindings));
        })
    );
}

fn context(limits: &Limits) -> [Vec<u8>; 3] {
    let text = |text: &str| Some(text.to_owned());
    let actor = Actor {
        actor_type: ActorType::User,
        user_id: text("17"),
        username: text("alice@example.org"),
        session_hash: text("0123456789abcdef0123456789abcdef"),
        tenant: None,
    };
    let origin = Origin {
        kind: OriginKind::Http,
        request_id: text("018c2b1e-7f00-7000-8000-000000000000"),
        ip: text("203.0.113.7"),
        http_method: text("GET"),
        url_path: text("/orders/4711/items"),
        user_agent: text("Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"),
        ..Origin::default()
    };
    let database =
        Database { connection: text("main"), system: System::Sqlite, name: text("shop"), ..Database::default() };
    [encode_actor(&actor, limits), encode_origin(&origin, limits), encode_database(&database, limits)]
}

/// Nanoseconds of one call: the best average of seven runs.
fn best(calls: u32, mut call: impl FnMut()) -> f64 {
    let run = |call: &mut dyn FnMut()| {
        let started = Instant::now();
        for _ in 0..calls {
            call();
        }
        started.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    (0..7).map(|_| run(&mut call)).fold(f64::INFINITY, f64::min)
}
