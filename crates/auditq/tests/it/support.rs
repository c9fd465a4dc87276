use std::path::Path;
use std::time::{Duration, Instant};

use auditq::{Actor, ActorExt, Config, Context, Event, Observed, Recorder, Source, System};
use auditq_event::{Record, Target, TransactionOutcome};
use auditq_spool::{Chunk, ProducerId, Reader};
use tempfile::TempDir;

/// A recorder with a folder of its own.
pub(crate) struct Setup {
    pub(crate) recorder: Recorder,
    pub(crate) source: Source,
    pub(crate) folder: TempDir,
}

pub(crate) fn setup() -> Setup {
    setup_with(|_| {})
}

pub(crate) fn setup_with(change: impl FnOnce(&mut Config)) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let mut config = small_config(folder.path());
    change(&mut config);
    Setup {
        recorder: Recorder::open(&config).unwrap(),
        source: Source::new(System::Sqlite, "default", "shop.db"),
        folder,
    }
}

pub(crate) fn small_config(folder: &Path) -> Config {
    let mut config = Config::default();
    config.spool.dir = folder.to_owned();
    config.spool.segment_bytes = 1 << 20;
    config.spool.max_bytes = 64 << 20;
    config
}

pub(crate) fn alice() -> Context {
    Context::of(Actor::user(1, "alice"))
}

pub(crate) fn bob() -> Context {
    Context::of(Actor::user(2, "bob"))
}

impl Setup {
    /// Records a statement of the current context.
    pub(crate) fn record(&self, sql: &str) {
        self.recorder.record(&Observed::new(&self.source, sql));
    }

    /// Records a statement that began at a time of the test's own.
    pub(crate) fn record_at(&self, sql: &str, started_at: i64) {
        self.recorder.record(&Observed::at(&self.source, sql, Context::current(), started_at));
    }

    pub(crate) fn observed<'a>(&'a self, sql: &'a str) -> Observed<'a> {
        Observed::new(&self.source, sql)
    }

    /// Reads every record; the end of a living spool shows itself a moment after it was written.
    pub(crate) fn read(&self) -> Vec<Record> {
        let appended = self.recorder.spool_stats().unwrap().appended as usize;
        let give_up_at = Instant::now() + Duration::from_secs(30);
        loop {
            let records = read(self.folder.path());
            if records.len() == appended || Instant::now() > give_up_at {
                assert_eq!(records.len(), appended);
                return records;
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        events(self.read())
    }
}

/// Reads every record of every spool, each spool in order.
pub(crate) fn read(folder: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    for producer in Reader::producers(folder).unwrap() {
        let mut reader = open(folder, producer);
        let mut chunk = Chunk::default();
        loop {
            reader.read(&mut chunk, 1000, 1 << 20).unwrap();
            let before = records.len();
            for record in chunk.records() {
                records.push(Record::decode(record.payload, producer.0, record.seq).unwrap());
            }
            if records.len() == before {
                break;
            }
        }
    }
    records
}

/// Becomes the reader. A child that another test has just started may hold the lock until it has become itself.
pub(crate) fn open(folder: &Path, producer: ProducerId) -> Reader {
    let give_up_at = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(reader) = Reader::open(folder, producer).unwrap() {
            return reader;
        }
        assert!(Instant::now() < give_up_at, "somebody else reads the spool");
        std::thread::yield_now();
    }
}

pub(crate) fn events(records: Vec<Record>) -> Vec<Event> {
    records
        .into_iter()
        .filter_map(|record| if let Record::Event(event) = record { Some(*event) } else { None })
        .collect()
}

/// Where later records find this event.
pub(crate) fn target_of(event: &Event) -> Target {
    Target { occurred_at: event.occurred_at, seq: event.producer_seq }
}

/// The repeats among the records: of which event, and how often in all.
pub(crate) fn repeats(records: &[Record]) -> Vec<(Target, u64)> {
    records
        .iter()
        .filter_map(
            |record| if let Record::Repeat { target, count, .. } = record { Some((*target, *count)) } else { None },
        )
        .collect()
}

/// What became of an event's transaction, as told by later records.
pub(crate) fn outcome_of(records: &[Record], event: &Event) -> TransactionOutcome {
    let told = records.iter().rev().find_map(|record| match record {
        Record::Outcome { outcome, targets } if targets.contains(&target_of(event)) => Some(*outcome),
        _ => None,
    });
    told.unwrap_or(event.outcome.transaction_outcome)
}
