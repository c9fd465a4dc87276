//! Prints what recording one statement costs its caller, in nanoseconds: `cargo run --release --example record_timing`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use auditq::{Actor, ActorExt, Config, Context, Observed, Origin, Recorder, Source, System, Value};
use auditq_spool::{Chunk, Reader};

const EVENTS: usize = 200_000;
const SQL: &str = "select o.id, o.status, o.total_cents, c.name, c.email from orders o join customers c on \
                   c.id = o.customer_id where o.customer_id = ? and o.status = ? and o.created_at > ? \
                   order by o.created_at desc limit 50";

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    for threads in [1, 4] {
        let mut times = run(threads)?;
        times.sort_unstable();
        let at = |part: usize| times[(times.len() - 1) * part / 1000];
        println!("{threads} threads: median {} ns, p99 {} ns, max {} ns", at(500), at(990), at(1000));
    }
    Ok(())
}

fn run(threads: usize) -> Result<Vec<u128>, Failure> {
    let folder = tempfile::tempdir()?;
    let mut config = Config::default();
    config.spool.dir = folder.path().to_owned();
    let recorder = Recorder::open(&config)?;
    let source = Source::new(System::Sqlite, "primary", "shop.db");
    let done = AtomicBool::new(false);
    let times = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_away(folder.path(), &done));
        let recording: Vec<_> = (0..threads)
            .map(|user| {
                scope.spawn({
                    let (recorder, source) = (&recorder, &source);
                    move || record(recorder, source, user)
                })
            })
            .collect();
        let times: Vec<u128> = recording.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect();
        done.store(true, Ordering::Release);
        reading.join().map_err(|_| "the reader panicked")??;
        Ok::<_, Failure>(times)
    })?;
    println!("{:?}", recorder.stats());
    Ok(times)
}

fn record(recorder: &Recorder, source: &Source, user: usize) -> Vec<u128> {
    let context = Context::new(Origin {
        request_id: Some("0190f3b2-7c11-7a4e-9d55-2f6d1e0c9a37".into()),
        http_method: Some("GET".into()),
        url_path: Some("/customers/4711/orders".into()),
        ..Origin::default()
    });
    context.sign_in(Actor::user(user, format!("user-{user}@example.com")));
    let _inside = context.enter();
    let mut times = Vec::with_capacity(EVENTS);
    for number in 0_i64.. {
        if times.len() == EVENTS {
            break;
        }
        let bindings = [Value::Int(number), Value::Text("shipped"), Value::Text("2026-11-01 00:00:00")];
        let mut observed = Observed::new(source, SQL);
        observed.bindings = &bindings;
        observed.duration = Duration::from_micros(180);
        observed.rows_returned = Some(12);
        let start = Instant::now();
        recorder.record(&observed);
        times.push(start.elapsed().as_nanos());
    }
    times
}

/// Takes away what is recorded, as a forwarder does, so that segments are used again.
fn read_away(root: &Path, done: &AtomicBool) -> Result<(), Failure> {
    let producer = *Reader::producers(root)?.first().ok_or("the recorder has no spool")?;
    let mut reader = Reader::open(root, producer)?.ok_or("somebody else reads the spool")?;
    let mut chunk = Chunk::default();
    while !done.load(Ordering::Acquire) {
        reader.read(&mut chunk, 10_000, 4 << 20)?;
        reader.commit(chunk.end())?;
        if chunk.records().next().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}
