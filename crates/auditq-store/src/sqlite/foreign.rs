//! Tables that others made in SQLite files.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params_from_iter};

use super::DRIVER;
use crate::foreign::{self, AboutTable, ForeignColumn, ForeignRow, ForeignTable, PAGE_BYTES, Plan, Value};
use crate::{Error, ErrorKind, Result};

/// A table or view in a SQLite file, which is opened for reading and left in its journal mode.
#[derive(Debug)]
pub struct SqliteTable {
    about: Arc<AboutTable>,
    plan: Arc<Plan>,
    connection: Arc<Mutex<Connection>>,
}

impl SqliteTable {
    /// Looks at a table; its rows are told apart by `key`, or where that is empty by its own key.
    ///
    /// # Errors
    /// `Misconfigured` when there is no such file or table, or its rows cannot be told apart.
    pub async fn open(file: &Path, table: &str, key: &[String]) -> Result<Self> {
        let (file, table, key) = (file.to_owned(), table.to_owned(), key.to_vec());
        blocking(move || {
            let connection = connect(&file)?;
            let looked = look(&connection, &file, &table, &key).map_err(|error| failed(&file, &error))?;
            let (about, plan) = looked.map_err(|obstacle| Error::new(ErrorKind::Misconfigured, DRIVER, obstacle))?;
            Ok(Self { about: Arc::new(about), plan: Arc::new(plan), connection: Arc::new(Mutex::new(connection)) })
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Plan) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (connection, plan, about) = (Arc::clone(&self.connection), Arc::clone(&self.plan), Arc::clone(&self.about));
        blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection, &plan).map_err(|error| failed(Path::new(&about.place), &error))
        })
        .await
    }
}

#[async_trait]
impl ForeignTable for SqliteTable {
    fn about(&self) -> &AboutTable {
        &self.about
    }

    async fn page(&self, after: Option<&[Value]>, limit: usize) -> Result<Vec<ForeignRow>> {
        let after = after.map(<[Value]>::to_vec);
        self.with(move |connection, plan| page(connection, plan, after.as_deref(), limit)).await
    }

    async fn count(&self, after: Option<&[Value]>) -> Result<u64> {
        let after = after.map(<[Value]>::to_vec);
        self.with(move |connection, plan| {
            let (condition, values) = condition(plan, after.as_deref());
            let sql = plan.count(condition.as_deref());
            connection.query_row(&sql, params_from_iter(values), |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let panicked = |_| Error::new(ErrorKind::Corrupt, DRIVER, "cannot read the source: its thread has panicked");
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

fn connect(file: &Path) -> Result<Connection> {
    // Read-write flags: the reader of a WAL database may have to create its shared-memory file.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_READ_ONLY));
    let set_up = |connection: Connection| {
        connection.busy_timeout(std::time::Duration::from_secs(20))?;
        connection.pragma_update(None, "query_only", "ON")?;
        Ok(connection)
    };
    opened.and_then(set_up).map_err(|error| failed(file, &error))
}

fn failed(file: &Path, error: &rusqlite::Error) -> Error {
    let code = match error {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        other => other.sqlite_error_code(),
    };
    let (kind, hint) = match code {
        Some(
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SystemIoFailure | ErrorCode::DiskFull,
        ) => (ErrorKind::Unavailable, ""),
        Some(ErrorCode::DatabaseCorrupt) => (ErrorKind::Corrupt, "; recover it with `sqlite3 FILE .recover`"),
        Some(ErrorCode::NotADatabase) => {
            (ErrorKind::Corrupt, "; name a SQLite file, or a file that `auditq backup` made")
        }
        Some(ErrorCode::CannotOpen) => {
            (ErrorKind::Misconfigured, "; the file must exist and be readable for this user")
        }
        _ => (ErrorKind::Misconfigured, ""),
    };
    Error::new(kind, DRIVER, format!("cannot read {}: {error}{hint}", file.display()))
}

type Told<T> = rusqlite::Result<std::result::Result<T, String>>;

fn look(connection: &Connection, file: &Path, name: &str, given: &[String]) -> Told<(AboutTable, Plan)> {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let place = file.display().to_string();
    let sql = "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
    let find = |name: &str| {
        connection.query_row(sql, [name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).optional()
    };
    let found = match (find(name)?, foreign::table_name(name)) {
        (Some(found), _) => Some(found),
        (None, Ok((schema, table))) if schema.as_deref().is_none_or(|schema| schema == "main") => find(&table)?,
        _ => None,
    };
    let Some((kind, table)) = found else { return Ok(Err(foreign::missing(&place, name))) };
    let columns = columns(connection, &table)?;
    let names = |name: &String| columns.iter().find(|column| column.about.name.eq_ignore_ascii_case(name));
    if let Some(unknown) = given.iter().find(|name| names(name).is_none()) {
        return Ok(Err(foreign::no_column(&table, unknown)));
    }
    let (key, by_place) = match given.is_empty() {
        false => (given.to_vec(), false),
        true if kind == "view" => (Vec::new(), false),
        true => own_key(connection, &table, &columns)?,
    };
    if key.is_empty() {
        return Ok(Err(foreign::keyless(&table)));
    }
    let quoted: Vec<_> = key.iter().map(|name| quoted(name)).collect();
    let plan = Plan {
        columns: columns.iter().map(|column| self::quoted(&column.about.name)).collect(),
        key_read: quoted.clone(),
        key: quoted,
        table: self::quoted(&table),
    };
    if !given.is_empty() && connection.query_row(&plan.ambiguous(), [], |_| Ok(())).optional()?.is_some() {
        return Ok(Err(foreign::ambiguous(&table, &key)));
    }
    let about = AboutTable {
        source: format!(
            "sqlite:{}:{}",
            foreign::name_part(&base_name(&file), &[':']),
            foreign::name_part(&table, &[':'])
        ),
        identity: Some(format!("sqlite {place} {}", table.to_lowercase())),
        place,
        columns: columns.into_iter().map(|column| column.about).collect(),
        key,
        by_place,
    };
    Ok(Ok((about, plan)))
}

fn base_name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

struct Column {
    about: ForeignColumn,
    not_null: bool,
    /// Its place in the primary key, from 1.
    key: i64,
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut statement = connection.prepare("SELECT name, lower(type), \"notnull\", pk FROM pragma_table_info(?1)")?;
    let read = |row: &rusqlite::Row<'_>| {
        let about = ForeignColumn { name: row.get(0)?, kind: row.get(1)? };
        Ok(Column { about, not_null: row.get(2)?, key: row.get(3)? })
    };
    statement.query_map([table], read)?.collect()
}

/// The key of a table, and whether it is where rows lie.
fn own_key(connection: &Connection, table: &str, columns: &[Column]) -> rusqlite::Result<(Vec<String>, bool)> {
    let mut primary: Vec<&Column> = columns.iter().filter(|column| column.key > 0).collect();
    primary.sort_by_key(|column| column.key);
    let names = |columns: &[&Column]| columns.iter().map(|column| column.about.name.clone()).collect::<Vec<_>>();
    let has_row_id = connection.prepare(&format!("SELECT rowid FROM {}", quoted(table))).is_ok();
    let is_integer = matches!(primary.as_slice(), [one] if one.about.kind == "integer");
    // Of other primary keys SQLite lets values be NULL.
    if !primary.is_empty() && (is_integer || !has_row_id || primary.iter().all(|column| column.not_null)) {
        return Ok((names(&primary), false));
    }
    let sql = "SELECT name FROM pragma_index_list(?1) WHERE \"unique\" AND NOT partial ORDER BY name";
    let indexes: Vec<String> =
        connection.prepare(sql)?.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for index in indexes {
        let sql = "SELECT name FROM pragma_index_info(?1) ORDER BY seqno";
        let parts: Vec<Option<String>> =
            connection.prepare(sql)?.query_map([index], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let find = |part: &Option<String>| columns.iter().find(|column| Some(&column.about.name) == part.as_ref());
        let parts: Option<Vec<&Column>> =
            parts.iter().map(|part| find(part).filter(|column| column.not_null)).collect();
        if let Some(parts) = parts {
            return Ok((names(&parts), false));
        }
    }
    let taken = |name: &&str| columns.iter().any(|column| column.about.name.eq_ignore_ascii_case(name));
    let row_id = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !taken(name)).filter(|_| has_row_id);
    Ok((row_id.map(str::to_owned).into_iter().collect(), true))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn condition<'v>(plan: &Plan, after: Option<&'v [Value]>) -> (Option<String>, Vec<&'v Value>) {
    let Some(after) = after else { return (None, Vec::new()) };
    let (sql, order) = foreign::after_key(&plan.key, |number, _| format!("?{number}"));
    (Some(sql), order.into_iter().filter_map(|index| after.get(index)).collect())
}

fn page(
    connection: &Connection,
    plan: &Plan,
    after: Option<&[Value]>,
    limit: usize,
) -> rusqlite::Result<Vec<ForeignRow>> {
    let (condition, values) = condition(plan, after);
    let mut statement = connection.prepare_cached(&plan.select(condition.as_deref(), limit))?;
    let count = statement.column_count();
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let values = (0..count).map(|index| row.get_ref(index).map(value)).collect::<rusqlite::Result<_>>()?;
        let row = plan.row(values);
        bytes += row.size();
        page.push(row);
        if bytes > PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Float(value),
        ValueRef::Text(bytes) => {
            str::from_utf8(bytes).map_or_else(|_| Value::RawText(bytes.to_vec()), |text| Value::Text(text.to_owned()))
        }
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Bool(value) => ToSqlOutput::Borrowed(ValueRef::Integer((*value).into())),
            Self::Int(value) => ToSqlOutput::Borrowed(ValueRef::Integer(*value)),
            Self::Float(value) => ToSqlOutput::Borrowed(ValueRef::Real(*value)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::RawText(bytes) => ToSqlOutput::Borrowed(ValueRef::Text(bytes)),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}
