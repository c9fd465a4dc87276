//! The pipeline with its queue on a Redis or Valkey server and its store in a SQLite file.

use anyhow::{Context as _, Result, ensure};
use auditq_config::EngineUrl;

use super::{Args, config, measure_into_sqlite};

pub(super) fn run(args: &Args) -> Result<()> {
    let server = args.url.as_deref().context("--engine redis needs --url redis://HOST:PORT/DATABASE")?;
    ensure!(!server.contains('?'), "the URL is to have no parameters: the keys get a prefix of their own");
    let prefix = format!("auditq_bench_{}_", std::process::id());
    let folder = tempfile::tempdir()?;
    let mut config = config(args, folder.path(), EngineUrl::sqlite(&folder.path().join("audit.db")));
    config.queue.url = EngineUrl::parse(&format!("{server}?prefix={prefix}")).map_err(anyhow::Error::msg)?;
    let measured = measure_into_sqlite(args, folder.path(), &config, "redis");
    remove_keys(server, &prefix)?;
    measured
}

fn remove_keys(server: &str, prefix: &str) -> Result<()> {
    let mut connection = redis::Client::open(server)?.get_connection()?;
    let mut command = redis::cmd("SCAN");
    command.cursor_arg(0).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(1_000);
    for key in command.iter::<String>(&mut connection)?.collect::<redis::RedisResult<Vec<_>>>()? {
        redis::cmd("UNLINK").arg(key).exec(&mut connection)?;
    }
    Ok(())
}
