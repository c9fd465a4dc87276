//! `auditq import`.

mod load;
mod mapping;
mod patience;
mod report;
mod show;
mod source;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use auditq::Rules;
use auditq_config::{Config, EngineUrl, Layout, Scheme};
use auditq_worker::Engines;

use crate::exit::Exit;
use crate::output;
use crate::session::Session;

/// What `import` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows are read in the order of the table's key, a few at a time, and stored in the configured store. A row's id follows \
from its time, its table and its key: importing again stores nothing twice, and an import that was broken off goes on \
where it was. The old table is only read. Secrets are taken out on the way, as they are from jobs.

A column is read by its name (sql, bindings, time_ms, username, executed_at, …) or as --map and [laravel.map] say; what \
no part of an event is called by is kept under extra. --dry-run shows what becomes of each column.

With --laravel DIR the source is the application's database, unless --from names another; times are read in its \
app.timezone. The log then is the application's too, unless auditq.toml says another: store.layout = \"auditq\" and store.url.

Exit code 4: done, but some rows were rejected; the file of --rejects says which and why.

Examples:
  auditq import --from mysql://shop:secret@127.0.0.1/shop --dry-run
  auditq import --from mysql://shop:secret@127.0.0.1/shop
  auditq import --from sqlite:old.db --table logs --map sql=text
  auditq import --from audit-2026-11-24.jsonl      a file by auditq backup")]
pub(crate) struct Args {
    /// Where the rows are: sqlite:FILE, mysql://…, postgres://…, or a file that `auditq backup` made
    #[arg(long, value_name = "URL|FILE", env = "AUDITQ_IMPORT_URL", hide_env_values = true)]
    from: Option<String>,
    /// The table or view: name, schema.name or "odd name"
    #[arg(long, value_name = "NAME", default_value = "audit_sql_logs")]
    table: String,
    /// Read a part of an event from this column, such as sql=statement; may be repeated
    #[arg(long, value_name = "PART=COLUMN")]
    map: Vec<String>,
    /// Tell rows apart by this column, where the table has no key; may be repeated
    #[arg(long, value_name = "COLUMN")]
    key: Vec<String>,
    /// Zone of times that do not say theirs, such as Europe/Berlin [default: laravel.timezone]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Name of the source in the ids of its rows [default: engine, database and table]
    #[arg(long, value_name = "NAME")]
    source_id: Option<String>,
    /// Start from the first row, and not where an earlier import stopped
    #[arg(long)]
    again: bool,
    /// Only show what becomes of each column, and of a few rows
    #[arg(long)]
    dry_run: bool,
    /// File to which rejected rows are added, by their key and with the reason
    #[arg(long, value_name = "FILE", default_value = "auditq-import-rejects.jsonl")]
    rejects: PathBuf,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let mut config = session.config.clone();
    if let Some(zone) = &args.timezone {
        config.laravel.timezone.clone_from(zone);
    }
    let from = origin(args, &config)?;
    let source = patience::patiently(&from.to_string(), || source::open(&from, args, &config)).await?;
    let same = source.is_table_of(&config).await?;
    if same {
        bail!(
            "the rows would go into the very table that they are read from, audit_sql_logs in {}; name another store with \
             AUDITQ_STORE_URL{}, or rename the old table (ALTER TABLE audit_sql_logs RENAME TO audit_sql_logs_old) and import \
             with --table audit_sql_logs_old",
            config.store.url,
            // With an application's folder it is to be said that the new table is no application's.
            if config.store.layout == Layout::Laravel { " and store.layout = \"auditq\" in auditq.toml" } else { "" }
        );
    }
    let rules = if args.dry_run {
        Rules::look(&config)?.unwrap_or_else(|| Rules::without_key(&config))
    } else {
        Rules::open(&config)?
    };
    let mapping = mapping::of(args, &config, rules, source.columns())?;
    if let Some(note) = source.caution() {
        output::note(&note);
    }
    if args.dry_run {
        return show::dry_run(args, source, &mapping).await;
    }
    let store = &config.store.url;
    let engines = patience::patiently(&store.to_string(), || open_target(&config)).await?;
    refuse_doubling(&config, &source, &engines, args).await?;
    load::run(args, &config, source, mapping, &engines).await
}

/// Opens the store alone; the queue is not needed, and may not be there yet.
async fn open_target(config: &Config) -> Result<Engines> {
    let mut config = config.clone();
    config.queue.url = EngineUrl::memory();
    Ok(Engines::open(&config).await?)
}

/// Where the rows are.
#[derive(Debug)]
enum Origin {
    Engine(EngineUrl),
    File(PathBuf),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Engine(url) => url.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

fn origin(args: &Args, config: &Config) -> Result<Origin> {
    let Some(from) = args.from.as_deref().filter(|from| !from.is_empty()) else {
        let Some(application) = &config.application else {
            bail!(
                "it is not said where the old rows are; name their database with --from, or the application with --laravel"
            );
        };
        return Ok(Origin::Engine(application.database_url.clone()));
    };
    if std::path::Path::new(from).is_file() {
        return Ok(Origin::File(PathBuf::from(from)));
    }
    let url = EngineUrl::parse(from).map_err(|why| anyhow::anyhow!("cannot use --from: {why}"))?;
    match url.scheme() {
        Scheme::Sqlite | Scheme::Mysql | Scheme::Postgres => Ok(Origin::Engine(url)),
        _ => bail!("cannot import from {url}; SQLite, MySQL, PostgreSQL and files by `auditq backup` can be read"),
    }
}

/// The application's own table knows no ids: what is in it already would be there twice.
async fn refuse_doubling(config: &Config, source: &source::Source, engines: &Engines, args: &Args) -> Result<()> {
    if config.store.layout == Layout::Auditq || !source.is_file() {
        return Ok(());
    }
    let table = match source::open_table(&config.store.url, "audit_sql_logs", &[]).await {
        Ok(table) => table,
        Err(error) => return Err(error).context("cannot look at the store"),
    };
    let is_its_own = source.name() == table.about().source;
    let is_begun = engines.reader.import_note(&load::name_of(args, source)).await?.is_some();
    if is_its_own && !is_begun && engines.reader.count().await? > 0 {
        bail!(
            "the backup is of the table audit_sql_logs in {}, which has rows: those of the backup would be there twice; \
             rename the table, make an empty one with the application's migrations, and import again",
            config.store.url
        );
    }
    Ok(())
}
