//! Rows a second through the store, beside the fastest bulk load of the same rows into the same table.
//!
//! `cargo run --release -p auditq-store --features sqlite,conformance --example insert_rate [ROWS]`

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use auditq_event::Event;
use auditq_sqlite::{Database, Options};
use auditq_store::conformance::ordinary_event;
use auditq_store::sqlite::SqliteStore;
use auditq_store::{Batch, Store};
use rusqlite::types::Value;
use rusqlite::{Connection, Rows, params_from_iter};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(100_000), |rows| rows.parse())?;
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("source.db");
    insert(&source, rows, 4_000).await?;
    let limit = bulk_load(&source, &folder.path().join("limit.db")).await?;
    println!("bulk load, one transaction      {limit:>9.0} rows/s");
    for size in [1, 100, 500, 4_000] {
        let path = folder.path().join(format!("batches-of-{size}.db"));
        // A commit a row takes its time; fewer rows tell the same.
        let rate = insert(&path, if size == 1 { rows.min(2_000) } else { rows }, size).await?;
        println!("insert, batches of {size:>5}        {rate:>9.0} rows/s   ratio {:.2}", rate / limit);
    }
    Ok(())
}

async fn store(path: &Path) -> Outcome<SqliteStore> {
    let store = SqliteStore::new(Database::open(path, Options::default())?);
    store.migrate().await?;
    Ok(store)
}

/// Every row of `source` in one transaction by one prepared statement, values ready to bind.
async fn bulk_load(source: &Path, path: &Path) -> Outcome<f64> {
    let target = store(path).await?;
    let source = Connection::open(source)?;
    let mut select = source.prepare("SELECT * FROM audit_sql_logs ORDER BY id")?;
    let columns = select.column_count();
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; BEGIN IMMEDIATE")?;
    let sql = format!("INSERT INTO audit_sql_logs VALUES ({})", vec!["?"; columns].join(", "));
    let mut insert = connection.prepare(&sql)?;
    let (mut loaded, mut seconds) = (0, 0.0);
    let mut found = select.query([])?;
    loop {
        let chunk = read_chunk(&mut found, columns)?;
        if chunk.is_empty() {
            break;
        }
        let begun = Instant::now();
        for row in &chunk {
            insert.execute(params_from_iter(row))?;
        }
        seconds += begun.elapsed().as_secs_f64();
        loaded += u64::try_from(chunk.len())?;
    }
    let begun = Instant::now();
    connection.execute_batch("COMMIT")?;
    seconds += begun.elapsed().as_secs_f64();
    drop(target);
    Ok(rate(loaded, seconds))
}

fn read_chunk(found: &mut Rows<'_>, columns: usize) -> Outcome<Vec<Vec<Value>>> {
    let mut chunk = Vec::new();
    while chunk.len() < 4_000
        && let Some(row) = found.next()?
    {
        chunk.push((0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?);
    }
    Ok(chunk)
}

async fn insert(path: &Path, rows: u64, size: usize) -> Outcome<f64> {
    let store = store(path).await?;
    let mut seconds = 0.0;
    for first in (0..rows).step_by(size) {
        let batch = Arc::new(batch(first, rows, u64::try_from(size)?));
        let begun = Instant::now();
        store.insert(batch).await?;
        seconds += begun.elapsed().as_secs_f64();
    }
    Ok(rate(rows, seconds))
}

fn batch(first: u64, end: u64, size: u64) -> Batch {
    let events: Vec<Event> = (first..end.min(first + size)).map(ordinary_event).collect();
    Batch { events, amendments: Vec::new() }
}

#[allow(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
fn rate(rows: u64, seconds: f64) -> f64 {
    rows as f64 / seconds
}
