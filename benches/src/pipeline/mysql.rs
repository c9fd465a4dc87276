//! The pipeline on a MySQL or MariaDB server, and how fast that server takes the same rows by other means.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use auditq_config::EngineUrl;
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Opts, Params, Row, Value};

use serde_json::json;

use super::{Args, config, measure, print};

/// How many rows are read at a time, and committed together.
const CHUNK: usize = 10_000;

pub(super) fn run(args: &Args) -> Result<()> {
    let server = args.url.as_deref().context("--engine mysql needs --url mysql://USER:PASSWORD@HOST:PORT")?;
    let server = server.trim_end_matches('/');
    let name = format!("auditq_bench_{}", std::process::id());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(on_server(server, &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")))?;
    let measured = run_in(args, &format!("{server}/{name}"), &runtime);
    runtime.block_on(on_server(server, &format!("DROP DATABASE {name}")))?;
    measured
}

async fn on_server(server: &str, sql: &str) -> Result<()> {
    let mut connection = Conn::new(Opts::from_url(server)?).await?;
    connection.query_drop(sql).await?;
    Ok(connection.disconnect().await?)
}

fn run_in(args: &Args, url: &str, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let engine = EngineUrl::parse(url).map_err(anyhow::Error::msg)?;
    let before = runtime.block_on(counted(url))?;
    let measured = measure(args, &config(args, folder.path(), engine))?;
    let after = runtime.block_on(counted(url))?;
    let limit = runtime.block_on(async {
        let mut connection = Conn::new(Opts::from_url(url)?).await?;
        connection.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        let stored: u64 = connection.query_first("SELECT count(*) FROM audit_sql_logs").await?.unwrap_or(0);
        ensure!(stored == args.events, "{stored} rows of {} events", args.events);
        let mut limit = Vec::new();
        for (way, rows) in
            [("insert of 100 rows", Some(100)), ("insert of 1000 rows", Some(1_000)), ("load data", None)]
        {
            if let Some(rate) = load(&mut connection, rows).await? {
                limit.push((way, rate));
            }
        }
        connection.disconnect().await?;
        anyhow::Ok(limit)
    })?;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let per_row = |place: usize| (after[place] - before[place]) as f64 / args.events as f64;
    let spent = json!({
        "wal_bytes_per_row": per_row(0).round(),
        "statements_per_row": (per_row(1) * 1e4).round() / 1e4,
    });
    print(args, "mysql", &measured, ("limit_by_way", &limit), spent)
}

/// Bytes of redo log and statements, as the server has counted them since it began.
async fn counted(url: &str) -> Result<[u64; 2]> {
    let mut connection = Conn::new(Opts::from_url(url)?).await?;
    let mut counts = [0; 2];
    for (count, name) in counts.iter_mut().zip(["Innodb_os_log_written", "Questions"]) {
        let row: Option<(String, u64)> = connection.query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'")).await?;
        *count = row.with_context(|| format!("the server does not count {name}"))?.1;
    }
    connection.disconnect().await?;
    Ok(counts)
}

/// Rows a second of loading the same rows into an empty table with the same indexes, on one connection, without a
/// queue; `None` where the server does not allow it. Reading and preparing the rows is not part of it.
async fn load(connection: &mut Conn, rows_in_statement: Option<usize>) -> Result<Option<f64>> {
    connection.query_drop("DROP TABLE IF EXISTS audit_limit").await?;
    connection.query_drop("CREATE TABLE audit_limit LIKE audit_sql_logs").await?;
    let (mut last, mut rows, mut spent) = (0_i64, 0_u64, Duration::ZERO);
    loop {
        let sql = format!("SELECT * FROM audit_sql_logs WHERE id > ? ORDER BY id LIMIT {CHUNK}");
        let found: Vec<Row> = connection.exec(sql, (last,)).await?;
        let Some(newest) = found.last() else { break };
        last = newest.get(0).context("a row has no id")?;
        rows += found.len() as u64;
        let chunk: Vec<Vec<Value>> = found.into_iter().map(Row::unwrap).collect();
        let took = match rows_in_statement {
            Some(count) => insert(connection, chunk, count).await?,
            None => match load_data(connection, &chunk).await {
                Ok(took) => took,
                Err(error) if error.to_string().contains("1148") || error.to_string().contains("3948") => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        spent += took;
    }
    let loaded: u64 = connection.query_first("SELECT count(*) FROM audit_limit").await?.unwrap_or(0);
    ensure!(loaded == rows, "{loaded} rows of {rows} were loaded");
    connection.query_drop("DROP TABLE audit_limit").await?;
    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    let rate = rows as f64 / spent.as_secs_f64();
    Ok(Some(rate))
}

async fn insert(connection: &mut Conn, chunk: Vec<Vec<Value>>, count: usize) -> Result<Duration> {
    let columns = chunk.first().map_or(0, Vec::len);
    let row = format!("({})", vec!["?"; columns].join(","));
    let mut statements = Vec::new();
    let mut left = chunk.into_iter().peekable();
    while left.peek().is_some() {
        let rows: Vec<_> = left.by_ref().take(count).collect();
        let sql = format!("INSERT INTO audit_limit VALUES {}", vec![row.as_str(); rows.len()].join(","));
        statements.push((sql, Params::Positional(rows.into_iter().flatten().collect())));
    }
    let began = Instant::now();
    connection.query_drop("START TRANSACTION").await?;
    for (sql, values) in statements {
        connection.exec_drop(sql, values).await?;
    }
    connection.query_drop("COMMIT").await?;
    Ok(began.elapsed())
}

async fn load_data(connection: &mut Conn, chunk: &[Vec<Value>]) -> Result<Duration> {
    let columns = chunk.first().map_or(0, Vec::len);
    let mut file = Vec::new();
    for row in chunk {
        for (place, value) in row.iter().enumerate() {
            write_cell(&mut file, value);
            file.push(if place + 1 == columns { b'\n' } else { b'\t' });
        }
    }
    let file = bytes::Bytes::from(file);
    connection.set_infile_handler(async move {
        let data: auditq_mysql::mysql_async::InfileData = Box::pin(futures_util::stream::iter([Ok(file)]));
        Ok(data)
    });
    let began = Instant::now();
    connection.query_drop("LOAD DATA LOCAL INFILE 'rows' INTO TABLE audit_limit CHARACTER SET binary").await?;
    Ok(began.elapsed())
}

/// As LOAD DATA reads it: tabs between, and escapes for what would end a value.
fn write_cell(file: &mut Vec<u8>, value: &Value) {
    match value {
        Value::NULL => file.extend_from_slice(b"\\N"),
        Value::Int(number) => file.extend_from_slice(number.to_string().as_bytes()),
        Value::UInt(number) => file.extend_from_slice(number.to_string().as_bytes()),
        Value::Bytes(bytes) => {
            for byte in bytes {
                match byte {
                    0 => file.extend_from_slice(b"\\0"),
                    b'\t' | b'\n' | b'\\' => file.extend_from_slice(&[b'\\', *byte]),
                    other => file.push(*other),
                }
            }
        }
        // The table has no others.
        other => file.extend_from_slice(other.as_sql(true).as_bytes()),
    }
}
