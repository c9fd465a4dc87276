//! Tables that others made in MySQL and MariaDB databases.

use async_trait::async_trait;
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{self, Conn, Params, Value as Wire};
use auditq_mysql::{Database, attempt};

use super::{DRIVER, read};
use crate::foreign::{self, AboutTable, ForeignColumn, ForeignRow, ForeignTable, PAGE_BYTES, Plan, Value};
use crate::{Error, ErrorKind, Result};

/// A table or view in a MySQL or MariaDB database.
#[derive(Debug)]
pub struct MysqlTable {
    about: AboutTable,
    plan: Keyed,
    database: Database,
}

/// How a table is read, and what the types of its key are.
#[derive(Debug)]
pub(super) struct Keyed {
    plan: Plan,
    key_kinds: Vec<String>,
}

impl MysqlTable {
    /// Looks at a table; its rows are told apart by `key`, or where that is empty by its own key.
    ///
    /// # Errors
    /// `Misconfigured` when there is no such table, or its rows cannot be told apart.
    pub async fn open(database: Database, table: &str, key: &[String]) -> Result<Self> {
        let run = database.single("look at a table");
        let looked = attempt!(run, connection => look(connection, database.place(), table, key).await);
        let (about, plan) =
            looked.map_err(read)?.map_err(|obstacle| Error::new(ErrorKind::Misconfigured, DRIVER, obstacle))?;
        Ok(Self { about, plan, database })
    }

    pub(super) fn plan(&self) -> &Keyed {
        &self.plan
    }
}

#[async_trait]
impl ForeignTable for MysqlTable {
    fn about(&self) -> &AboutTable {
        &self.about
    }

    async fn page(&self, after: Option<&[Value]>, limit: usize) -> Result<Vec<ForeignRow>> {
        let run = self.database.single("read a table");
        attempt!(run, connection => page(connection, &self.plan, after, limit).await).map_err(read)
    }

    async fn count(&self, after: Option<&[Value]>) -> Result<u64> {
        let run = self.database.single("count a table");
        attempt!(run, connection => count(connection, &self.plan, after).await).map_err(read)
    }
}

type Told<T> = mysql_async::Result<std::result::Result<T, String>>;

async fn look(connection: &mut Conn, place: &str, name: &str, given: &[String]) -> Told<(AboutTable, Keyed)> {
    let Some((schema, table)) = find(connection, name).await? else { return Ok(Err(foreign::missing(place, name))) };
    let sql = "SELECT column_name, lower(data_type) FROM information_schema.columns \
               WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position";
    let columns: Vec<(String, String)> = connection.exec(sql, (&schema, &table)).await?;
    let columns: Vec<_> = columns.into_iter().map(|(name, kind)| ForeignColumn { name, kind }).collect();
    let has = |name: &String| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    if let Some(unknown) = given.iter().find(|name| !has(name)) {
        return Ok(Err(foreign::no_column(&table, unknown)));
    }
    let key = if given.is_empty() { own_key(connection, &schema, &table).await? } else { given.to_vec() };
    if key.is_empty() {
        return Ok(Err(foreign::keyless(&table)));
    }
    let plan = Plan {
        columns: columns.iter().map(read_as).collect(),
        key_read: key.iter().map(|name| quoted(name)).collect(),
        key: key.iter().map(|name| quoted(name)).collect(),
        table: format!("{}.{}", quoted(&schema), quoted(&table)),
    };
    if !given.is_empty() && connection.query_first::<i64, _>(plan.ambiguous()).await?.is_some() {
        return Ok(Err(foreign::ambiguous(&table, &key)));
    }
    let server: Option<(String, u32)> =
        connection.query_first("SELECT concat(@@hostname, ' ', @@datadir), @@port").await?;
    let identity = server.map(|(server, port)| format!("mysql {server} {port} {schema} {table}").to_lowercase());
    let source = format!("mysql:{}:{}", foreign::name_part(&schema, &[':']), foreign::name_part(&table, &[':']));
    let kind = |name: &String| columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    let key_kinds = key.iter().map(|name| kind(name).map_or_else(String::new, |column| column.kind.clone())).collect();
    let about = AboutTable { source, place: place.to_owned(), identity, columns, key, by_place: false };
    Ok(Ok((about, Keyed { plan, key_kinds })))
}

/// The database and the name of a table, as the server has them.
async fn find(connection: &mut Conn, name: &str) -> mysql_async::Result<Option<(String, String)>> {
    let sql = "SELECT table_schema, table_name FROM information_schema.tables \
               WHERE table_schema = coalesce(?, database()) AND table_name = ?";
    let whole = connection.exec_first(sql, (None::<String>, name)).await?;
    match (whole, foreign::table_name(name)) {
        (None, Ok((schema, table))) => connection.exec_first(sql, (schema, table)).await,
        (whole, _) => Ok(whole),
    }
}

/// The primary key, else the shortest unique key without NULLs and prefixes.
async fn own_key(connection: &mut Conn, schema: &str, table: &str) -> mysql_async::Result<Vec<String>> {
    let sql = "SELECT index_name, column_name, nullable = 'YES' OR sub_part IS NOT NULL \
               FROM information_schema.statistics WHERE table_schema = ? AND table_name = ? AND non_unique = 0 \
               ORDER BY index_name = 'PRIMARY' DESC, index_name, seq_in_index";
    let parts: Vec<(String, Option<String>, bool)> = connection.exec(sql, (schema, table)).await?;
    let mut keys: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for (index, column, unfit) in parts {
        if keys.last().is_none_or(|(last, _)| *last != index) {
            keys.push((index, Some(Vec::new())));
        }
        let Some((_, key)) = keys.last_mut() else { continue };
        match (key.as_mut(), column) {
            (Some(key), Some(column)) if !unfit => key.push(column),
            _ => *key = None,
        }
    }
    let is_primary = |name: &String| name != "PRIMARY";
    let best = keys.into_iter().filter_map(|(name, key)| Some((is_primary(&name), key?)));
    Ok(best.min_by_key(|(later, key)| (*later, key.len())).map(|(_, key)| key).unwrap_or_default())
}

/// A column as the application sees it: of TIMESTAMP the wall time in the server's own zone, in which it wrote it.
fn read_as(column: &ForeignColumn) -> String {
    let name = quoted(&column.name);
    if column.kind == "timestamp" {
        return format!("coalesce(convert_tz({name}, @@session.time_zone, @@global.time_zone), {name})");
    }
    name
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn condition(keyed: &Keyed, after: Option<&[Value]>) -> (Option<String>, Params) {
    let Some(after) = after else { return (None, Params::Empty) };
    let parameter = |_: usize, value: usize| {
        // A text beside a number would be compared as a float, in which neighbours are the same.
        let kind = keyed.key_kinds.get(value).map_or("", String::as_str);
        match (kind, after.get(value)) {
            ("decimal", _) => "CAST(? AS DECIMAL(65, 30))",
            ("bigint", Some(Value::Text(_))) => "CAST(? AS UNSIGNED)",
            _ => "?",
        }
        .to_owned()
    };
    let (sql, order) = foreign::after_key(&keyed.plan.key, parameter);
    let values = order.into_iter().filter_map(|index| after.get(index)).map(wire).collect();
    (Some(sql), Params::Positional(values))
}

pub(super) async fn page(
    connection: &mut Conn,
    keyed: &Keyed,
    after: Option<&[Value]>,
    limit: usize,
) -> mysql_async::Result<Vec<ForeignRow>> {
    let (condition, params) = condition(keyed, after);
    let mut rows = connection.exec_iter(keyed.plan.select(condition.as_deref(), limit), params).await?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().await? {
        // What is behind the limit is read past, and not kept.
        if bytes <= PAGE_BYTES {
            let row = keyed.plan.row(row.unwrap().into_iter().map(value).collect());
            bytes += row.size();
            page.push(row);
        }
    }
    Ok(page)
}

async fn count(connection: &mut Conn, keyed: &Keyed, after: Option<&[Value]>) -> mysql_async::Result<u64> {
    let (condition, params) = condition(keyed, after);
    Ok(connection.exec_first(keyed.plan.count(condition.as_deref()), params).await?.unwrap_or_default())
}

fn wire(value: &Value) -> Wire {
    match value {
        Value::Null => Wire::NULL,
        Value::Bool(value) => Wire::Int((*value).into()),
        Value::Int(value) => Wire::Int(*value),
        Value::Float(value) => Wire::Double(*value),
        Value::Text(text) => Wire::Bytes(text.clone().into_bytes()),
        Value::Bytes(bytes) | Value::RawText(bytes) => Wire::Bytes(bytes.clone()),
    }
}

fn value(value: Wire) -> Value {
    match value {
        Wire::NULL => Value::Null,
        Wire::Bytes(bytes) => Value::of_bytes(bytes),
        Wire::Int(value) => Value::Int(value),
        Wire::UInt(value) => i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int),
        // As it is written: 0.1 is not 0.10000000149011612.
        Wire::Float(value) => value.to_string().parse().map_or(Value::Null, Value::Float),
        Wire::Double(value) => Value::Float(value),
        Wire::Date(year, month, day, hour, minute, second, micros) => {
            let date = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
            Value::Text(if micros == 0 { date } else { format!("{date}.{micros:06}") })
        }
        Wire::Time(negative, days, hours, minutes, seconds, micros) => {
            let (sign, hours) = (if negative { "-" } else { "" }, u64::from(days) * 24 + u64::from(hours));
            Value::Text(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}"))
        }
    }
}
