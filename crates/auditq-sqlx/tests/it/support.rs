use std::path::Path;
use std::time::{Duration, Instant};

use auditq::{Actor, ActorExt, Config, Context, Event, Recorder, TransactionOutcome};
use auditq_event::{Record, Target};
use auditq_spool::{Chunk, Reader};
use auditq_sqlx::AuditedPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Sqlite, SqlitePool};
use tempfile::TempDir;

/// A database with orders in it, audited.
pub(crate) struct Shop {
    pub(crate) pool: AuditedPool<Sqlite>,
    pub(crate) recorder: Recorder,
    folder: TempDir,
}

pub(crate) async fn shop() -> Shop {
    shop_with(|_| {}).await
}

pub(crate) async fn shop_with(change: impl FnOnce(&mut Config)) -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.spool.dir = folder.path().join("spool");
    config.spool.segment_bytes = 1 << 20;
    change(&mut config);
    let recorder = Recorder::open(&config).unwrap();
    let pool = plain_pool(&folder.path().join("shop.db")).await;
    sqlx::raw_sql(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema.sql"))).execute(&pool).await.unwrap();
    for id in 1..=5 {
        let insert = sqlx::query("INSERT INTO orders (id, customer, total) VALUES (?, 'acme', ?)");
        insert.bind(id).bind(f64::from(id) * 1.5).execute(&pool).await.unwrap();
    }
    Shop { pool: AuditedPool::new(pool, &recorder), recorder, folder }
}

pub(crate) async fn plain_pool(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqlitePoolOptions::new().max_connections(4).connect_with(options).await.unwrap()
}

pub(crate) fn alice() -> Context {
    Context::of(Actor::user(1, "alice"))
}

impl Shop {
    pub(crate) fn records(&self) -> Vec<Record> {
        let appended = self.recorder.spool_stats().unwrap().appended;
        let give_up_at = Instant::now() + Duration::from_secs(30);
        loop {
            let records = read(&self.folder.path().join("spool"));
            if records.len() as u64 == appended {
                return records;
            }
            assert!(Instant::now() < give_up_at, "{} of {appended} records", records.len());
            std::thread::yield_now();
        }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let event = |record| if let Record::Event(event) = record { Some(*event) } else { None };
        self.records().into_iter().filter_map(event).collect()
    }

    /// The only event there is.
    pub(crate) fn event(&self) -> Event {
        let events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.into_iter().next().unwrap()
    }

    /// Each event's SQL with what became of its transaction.
    pub(crate) fn outcomes(&self) -> Vec<(String, TransactionOutcome)> {
        let records = self.records();
        let told = |event: &Event| {
            let target = Target { occurred_at: event.occurred_at, seq: event.producer_seq };
            records.iter().find_map(|record| match record {
                Record::Outcome { outcome, targets } if targets.contains(&target) => Some(*outcome),
                _ => None,
            })
        };
        let outcome = |event: &Event| told(event).unwrap_or(event.outcome.transaction_outcome);
        self.events().iter().map(|event| (event.statement.sql.clone(), outcome(event))).collect()
    }
}

fn read(folder: &Path) -> Vec<Record> {
    let producer = Reader::producers(folder).unwrap()[0];
    let (mut reader, mut chunk) = (Reader::open(folder, producer).unwrap().unwrap(), Chunk::default());
    reader.read(&mut chunk, 100_000, 64 << 20).unwrap();
    chunk.records().map(|record| Record::decode(record.payload, producer.0, record.seq).unwrap()).collect()
}
