//! The pipeline with its queue on a NATS server and its store in a SQLite file.

use anyhow::{Context as _, Result, ensure};
use auditq_config::EngineUrl;
use serde_json::{Value, json};

use super::{Args, config, measure_into_sqlite};

pub(super) fn run(args: &Args) -> Result<()> {
    let server = args.url.as_deref().context("--engine nats needs --url nats://HOST:PORT")?;
    let authority = server.split_once("://").map_or("", |(_, authority)| authority);
    ensure!(!authority.contains(['/', '?']), "the URL names servers alone: the streams get a prefix of their own");
    let prefix = format!("auditq-bench-{}", std::process::id());
    let folder = tempfile::tempdir()?;
    let mut config = config(args, folder.path(), EngineUrl::sqlite(&folder.path().join("audit.db")));
    config.queue.url = EngineUrl::parse(&format!("{server}/{prefix}")).map_err(anyhow::Error::msg)?;
    let measured = measure_into_sqlite(args, folder.path(), &config, "nats");
    tokio::runtime::Runtime::new()?.block_on(remove_streams(server, &prefix))?;
    measured
}

async fn remove_streams(server: &str, prefix: &str) -> Result<()> {
    let client = async_nats::connect(server).await?;
    let subjects = json!({ "subject": format!("{prefix}.>") });
    let answer = client.request("$JS.API.STREAM.NAMES", subjects.to_string().into()).await?;
    let names: Value = serde_json::from_slice(&answer.payload)?;
    for name in names["streams"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        client.request(format!("$JS.API.STREAM.DELETE.{name}"), "".into()).await?;
    }
    Ok(())
}
