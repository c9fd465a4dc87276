//! Where old rows are read from: a table of any columns, a log of auditq's own, or a backup of either.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use auditq_config::{Config, EngineUrl, Layout, Scheme};
use auditq_event::Event;
use auditq_laravel::{Mapping, event_of_row, php, row_producer};
use auditq_store::mysql::MysqlTable;
use auditq_store::postgres::PostgresTable;
use auditq_store::sqlite::SqliteTable;
use auditq_store::{
    BackupHeader, BackupLine, BackupReader, Filter, ForeignColumn, ForeignRow, ForeignTable, StoreReader, Value,
    own_event,
};
use auditq_worker::Engines;
use serde_json::{Value as Json, json};

use super::{Args, Origin};
use crate::session::Session;

/// How many rows are read at a time, and stored in one transaction.
pub(super) const ROWS: usize = 2_000;

/// As many bytes as a page of a backup has before it ends early.
const PAGE_BYTES: u64 = 8 << 20;

/// A source, and how far it was read.
pub(super) struct Source {
    kind: Kind,
    header: BackupHeader,
    by_place: bool,
    identity: Option<String>,
    /// What is read next comes after it; `None` at the beginning.
    cursor: Option<Json>,
}

enum Kind {
    Table(Arc<dyn ForeignTable>),
    Log(Arc<dyn StoreReader>),
    File(Box<BackupReader>),
}

/// Some rows.
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// What comes next comes after it.
    pub(super) cursor: Json,
}

/// A row: as an event, or why it is none.
pub(super) struct Item {
    pub(super) key: String,
    pub(super) event: std::result::Result<Box<Event>, String>,
}

/// Opens a source.
pub(super) async fn open(from: &Origin, args: &Args, config: &Config) -> Result<Source> {
    let url = match from {
        Origin::File(path) if is_sqlite(path) => EngineUrl::sqlite(path),
        Origin::File(path) => {
            let reader = BackupReader::open(path).map_err(anyhow::Error::msg)?;
            let header = reader.header().clone();
            return Ok(Source {
                kind: Kind::File(Box::new(reader)),
                header,
                by_place: false,
                identity: None,
                cursor: None,
            });
        }
        Origin::Engine(url) => url.clone(),
    };
    if url.scheme() == Scheme::Sqlite && !url.file().exists() {
        bail!("there is no database at {}; name another one with --from", url.file().display());
    }
    let table = open_table(&url, &args.table, &args.key).await?;
    let about = table.about();
    let own = ["event_id", "producer_id", "producer_seq", "fingerprint"];
    let is_own = own.iter().all(|name| about.columns.iter().any(|column| column.name == *name));
    let header = BackupHeader {
        auditq_backup: 1,
        own: is_own,
        source: about.source.clone(),
        place: about.place.clone(),
        columns: about.columns.clone(),
        key: about.key.clone(),
    };
    let (by_place, identity) = (about.by_place, about.identity.clone());
    let kind = if is_own {
        if args.table != "audit_sql_logs" {
            bail!(
                "cannot import from {}: it is auditq's own, which is read only by the name audit_sql_logs; rename it back",
                args.table
            );
        }
        Kind::Log(open_log(&url, config).await?)
    } else {
        Kind::Table(table)
    };
    Ok(Source { kind, header, by_place, identity, cursor: None })
}

/// Opens a table of any engine.
pub(super) async fn open_table(url: &EngineUrl, name: &str, key: &[String]) -> Result<Arc<dyn ForeignTable>> {
    Ok(match url.scheme() {
        Scheme::Sqlite => Arc::new(SqliteTable::open(&url.file(), name, key).await?),
        Scheme::Mysql => {
            let opened = auditq_mysql::Database::open(url.with_password(), auditq_mysql::Options::default());
            Arc::new(MysqlTable::open(opened?, name, key).await?)
        }
        Scheme::Postgres => {
            let opened = auditq_postgres::Database::open(url.with_password(), auditq_postgres::Options::default());
            Arc::new(PostgresTable::open(opened?, name, key).await?)
        }
        _ => bail!("cannot read rows from {url}"),
    })
}

async fn open_log(url: &EngineUrl, config: &Config) -> Result<Arc<dyn StoreReader>> {
    let mut config = config.clone();
    config.store.url = url.clone();
    config.store.layout = Layout::Auditq;
    if url.scheme() == Scheme::Sqlite {
        return Session { config }.log().await;
    }
    Ok(Engines::store_as_it_is(&config)?)
}

fn is_sqlite(path: &Path) -> bool {
    let mut head = [0; 16];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    read.is_ok() && head == *b"SQLite format 3\0"
}

impl Source {
    /// Engine, database and table.
    pub(super) fn name(&self) -> &str {
        &self.header.source
    }

    /// The server or the file, for people.
    pub(super) fn place(&self) -> &str {
        &self.header.place
    }

    pub(super) fn columns(&self) -> &[ForeignColumn] {
        &self.header.columns
    }

    pub(super) fn key(&self) -> &[String] {
        &self.header.key
    }

    /// True when its rows are events as they are.
    pub(super) fn is_own(&self) -> bool {
        self.header.own
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File(_))
    }

    /// What a person should know.
    pub(super) fn caution(&self) -> Option<String> {
        let key = self.key().join(", ");
        self.by_place.then(|| {
            format!(
                "the table has no key, and its rows are told apart by where they lie ({key}): rows that were changed, or a \
                 table that was packed (VACUUM), between two imports are others to the second"
            )
        })
    }

    /// True when it is the very table that the store writes.
    pub(super) async fn is_table_of(&self, config: &Config) -> Result<bool> {
        let store = &config.store.url;
        if self.is_file() || (store.scheme() == Scheme::Sqlite && !store.file().exists()) {
            return Ok(false);
        }
        // What cannot be looked at is not there yet, or says so itself when it is opened to be written.
        Ok(match open_table(store, "audit_sql_logs", &[]).await {
            Ok(table) => match (&table.about().identity, &self.identity) {
                (Some(table), Some(own)) => table == own,
                _ => (table.about().source.as_str(), table.about().place.as_str()) == (self.name(), self.place()),
            },
            Err(_) => false,
        })
    }

    /// Goes on after a place that a [`Page`] said.
    pub(super) fn seek(&mut self, cursor: Json) -> Result<()> {
        if let (Kind::File(reader), Some(offset)) = (&mut self.kind, cursor.as_u64()) {
            reader.seek(offset)?;
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    /// How many rows are still to be read.
    pub(super) async fn left(&self) -> Result<u64> {
        Ok(match &self.kind {
            Kind::Table(table) => table.count(self.key_cursor().as_deref()).await?,
            Kind::Log(log) => log.count().await?,
            Kind::File(reader) => reader.rows(),
        })
    }

    fn key_cursor(&self) -> Option<Vec<Value>> {
        let Some(Json::Array(values)) = &self.cursor else { return None };
        values.iter().cloned().map(Value::from_json).collect()
    }

    /// The next rows; `None` at the end. Where it fails it can be called again.
    pub(super) async fn next(&mut self, mapping: &Mapping, name: &str, limit: usize) -> Result<Option<Page>> {
        let after = self.key_cursor();
        let page = match &mut self.kind {
            Kind::Table(table) => {
                let rows = table.page(after.as_deref(), limit).await?;
                let Some(last) = rows.last() else { return Ok(None) };
                let cursor = last.key.iter().map(Value::to_json).collect();
                let items = rows.into_iter().map(|row| item(row, &self.header, mapping, name)).collect();
                Page { items, cursor: Json::Array(cursor) }
            }
            Kind::Log(log) => {
                let after = self.cursor.as_ref().and_then(Json::as_i64).unwrap_or(0);
                let filter = Filter { stored_after: Some(after), limit, ..Filter::default() };
                let page = log.search(&filter).await?;
                let Some(last) = page.rows.last() else { return Ok(None) };
                let cursor = json!(last.id);
                let item = |row: auditq_store::LogRow| Item { key: row.id.to_string(), event: Ok(Box::new(row.event)) };
                Page { items: page.rows.into_iter().map(item).collect(), cursor }
            }
            Kind::File(reader) => {
                let (mut items, from) = (Vec::new(), reader.offset());
                while items.len() < limit && reader.offset() - from < PAGE_BYTES {
                    let Some(line) = reader.next_line().context("cannot read the backup")? else { break };
                    items.push(match line {
                        BackupLine::Row(row) => item(row, &self.header, mapping, name),
                        BackupLine::Unreadable(why) => Item { key: format!("line at {from}"), event: Err(why) },
                    });
                }
                if items.is_empty() {
                    return Ok(None);
                }
                Page { items, cursor: json!(reader.offset()) }
            }
        };
        if self.cursor.as_ref() == Some(&page.cursor) {
            bail!(
                "cannot read on after the row {}: the table's key does not sort it before others; name another --key",
                page.cursor
            );
        }
        self.cursor = Some(page.cursor.clone());
        Ok(Some(page))
    }
}

/// A row as an event.
fn item(row: ForeignRow, header: &BackupHeader, mapping: &Mapping, name: &str) -> Item {
    let key = Json::Array(row.key.iter().map(Value::to_json).collect()).to_string();
    if header.own {
        return Item { event: own_event(&header.columns, &row.values).map(Box::new), key };
    }
    let columns = header.columns.iter().zip(row.values);
    let columns = columns.map(|(column, value)| (column.name.as_str(), php_value(value))).collect();
    let event = event_of_row(columns, mapping, row_producer(name, key.as_bytes()), name);
    Item { event: event.map(Box::new).map_err(|error| error.to_string()), key }
}

fn php_value(value: Value) -> php::Value<'static> {
    match value {
        Value::Null => php::Value::Null,
        Value::Bool(value) => php::Value::Bool(value),
        Value::Int(value) => php::Value::Int(value),
        Value::Float(value) => php::Value::Float(value),
        Value::Text(text) => php::Value::Str(text.into_bytes().into()),
        Value::Bytes(bytes) | Value::RawText(bytes) => php::Value::Str(bytes.into()),
    }
}
