//! The pipeline on a PostgreSQL server, and how fast that server takes the same rows by COPY.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use auditq_config::EngineUrl;
use auditq_postgres::tokio_postgres::{self, Client, NoTls};
use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use super::{Args, config, measure, print};

/// How many rows are read at a time, and committed together.
const CHUNK: i64 = 10_000;

pub(super) fn run(args: &Args) -> Result<()> {
    let server = args.url.as_deref().context("--engine postgres needs --url postgres://USER:PASSWORD@HOST:PORT")?;
    let server = server.trim_end_matches('/');
    let name = format!("auditq_bench_{}", std::process::id());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let root = format!("{server}/postgres");
    runtime.block_on(on_server(&root, &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")))?;
    let measured = run_in(args, &format!("{server}/{name}"), &runtime);
    runtime.block_on(on_server(&root, &format!("DROP DATABASE {name} WITH (FORCE)")))?;
    measured
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // An error reaches the client with the operation that it ends.
    tokio::spawn(connection);
    Ok(client)
}

async fn on_server(url: &str, sql: &str) -> Result<()> {
    Ok(connect(url).await?.batch_execute(sql).await?)
}

fn run_in(args: &Args, url: &str, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let engine = EngineUrl::parse(url).map_err(anyhow::Error::msg)?;
    let before = runtime.block_on(Meter::read(url))?;
    let measured = measure(args, &config(args, folder.path(), engine))?;
    let spent = runtime.block_on(Meter::read(url))?.since(&before, args.events);
    let limit = runtime.block_on(async {
        let client = connect(url).await?;
        let stored: i64 = client.query_one("SELECT count(*) FROM audit_sql_logs", &[]).await?.get(0);
        ensure!(u64::try_from(stored)? == args.events, "{stored} rows of {} events", args.events);
        anyhow::Ok([("copy binary", load(&client, "binary").await?), ("copy text", load(&client, "text").await?)])
    })?;
    print(args, "postgres", &measured, ("limit_by_way", &limit), spent)
}

/// What the server has counted.
struct Meter {
    wal_bytes: f64,
    transactions: i64,
    /// `None` where the server was started without `shared_preload_libraries = pg_stat_statements`.
    statements: Option<i64>,
}

impl Meter {
    async fn read(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        // What a backend has counted is written down when it ends, or about a second later.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8, \
                   (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())";
        let row = client.query_one(sql, &[]).await?;
        Ok(Self { wal_bytes: row.get(0), transactions: row.get(1), statements: Self::statements(&client).await? })
    }

    async fn statements(client: &Client) -> Result<Option<i64>> {
        let loaded = client.query_one("SELECT current_setting('shared_preload_libraries')", &[]).await?;
        if !loaded.get::<_, String>(0).contains("pg_stat_statements") {
            return Ok(None);
        }
        client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await?;
        let sql = "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_statements \
                   WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
        Ok(Some(client.query_one(sql, &[]).await?.get(0)))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn since(&self, before: &Self, events: u64) -> Value {
        json!({
            "wal_bytes_per_row": ((self.wal_bytes - before.wal_bytes) / events as f64).round(),
            "statements_per_row": self.statements.zip(before.statements).map(|(after, before)| {
                ((after - before) as f64 / events as f64 * 1e4).round() / 1e4
            }),
            "transactions_per_1000_rows": (self.transactions - before.transactions) as f64 * 1e3 / events as f64,
        })
    }
}

/// Rows a second of loading the same rows into an empty table with the same indexes, on one connection, without a
/// queue. Reading the rows is not part of it.
async fn load(client: &Client, format: &str) -> Result<f64> {
    client.batch_execute("CREATE TABLE audit_limit (LIKE audit_sql_logs INCLUDING ALL)").await?;
    let (mut last, mut rows, mut spent) = (0_i64, 0_u64, Duration::ZERO);
    loop {
        let chunk = format!("SELECT * FROM audit_sql_logs WHERE id > {last} ORDER BY id LIMIT {CHUNK}");
        let newest = client.query_one(&format!("SELECT max(id), count(*) FROM ({chunk}) AS chunk"), &[]).await?;
        let (newest, count): (Option<i64>, i64) = (newest.get(0), newest.get(1));
        let Some(newest) = newest else { break };
        let out = client.copy_out(&format!("COPY ({chunk}) TO STDOUT (FORMAT {format})")).await?;
        let data: Vec<Bytes> = out.try_collect().await?;
        let data = Bytes::from(data.concat());
        let began = Instant::now();
        let sink = client.copy_in(&format!("COPY audit_limit FROM STDIN (FORMAT {format})")).await?;
        let mut sink = std::pin::pin!(sink);
        sink.send(data).await?;
        rows += sink.finish().await?;
        spent += began.elapsed();
        last = newest;
        ensure!(count > 0, "a chunk of no rows");
    }
    let loaded: i64 = client.query_one("SELECT count(*) FROM audit_limit", &[]).await?.get(0);
    ensure!(u64::try_from(loaded)? == rows, "{loaded} rows of {rows} were loaded");
    client.batch_execute("DROP TABLE audit_limit").await?;
    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^53")]
    let rate = rows as f64 / spent.as_secs_f64();
    Ok(rate)
}
