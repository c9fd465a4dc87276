//! Tables that others made in PostgreSQL databases.

use async_trait::async_trait;
use auditq_postgres::tokio_postgres::Row;
use auditq_postgres::tokio_postgres::types::{ToSql, Type};
use auditq_postgres::{Conn, Database, Worked, attempt};

use super::{DRIVER, read};
use crate::foreign::{self, AboutTable, ForeignColumn, ForeignRow, ForeignTable, PAGE_BYTES, Plan, Value};
use crate::{Error, ErrorKind, Result};

/// Values are read as texts, which must not depend on what the server or the user has set.
const SPELLING: &str = "SET LOCAL DateStyle = 'ISO'; SET LOCAL TimeZone = 'UTC'; SET LOCAL bytea_output = 'hex'; \
                        SET LOCAL extra_float_digits = 1; SET LOCAL IntervalStyle = 'postgres'";

/// A table or view in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresTable {
    about: AboutTable,
    plan: Keyed,
    database: Database,
}

/// How a table is read, and what the types of its columns and of its key are.
#[derive(Debug)]
pub(super) struct Keyed {
    plan: Plan,
    kinds: Vec<String>,
    key_kinds: Vec<String>,
}

impl PostgresTable {
    /// Looks at a table; its rows are told apart by `key`, or where that is empty by its own key.
    ///
    /// # Errors
    /// `Misconfigured` when there is no such table, or its rows cannot be told apart.
    pub async fn open(database: Database, table: &str, key: &[String]) -> Result<Self> {
        let run = database.snapshot("look at a table");
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
impl ForeignTable for PostgresTable {
    fn about(&self) -> &AboutTable {
        &self.about
    }

    async fn page(&self, after: Option<&[Value]>, limit: usize) -> Result<Vec<ForeignRow>> {
        let run = self.database.snapshot("read a table");
        attempt!(run, connection => page(connection, &self.plan, after, limit).await).map_err(read)
    }

    async fn count(&self, after: Option<&[Value]>) -> Result<u64> {
        let run = self.database.snapshot("count a table");
        attempt!(run, connection => count(connection, &self.plan, after).await).map_err(read)
    }
}

/// A table as the server has it.
struct Found {
    oid: u32,
    schema: String,
    name: String,
    kind: String,
}

type Told<T> = Worked<std::result::Result<T, String>>;

async fn look(connection: &Conn, place: &str, name: &str, given: &[String]) -> Told<(AboutTable, Keyed)> {
    let Some(found) = find(connection, name).await? else { return Ok(Err(foreign::missing(place, name))) };
    let sql = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
               WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let rows = connection.query_typed(sql, &[(&found.oid, Type::OID)]).await?;
    let columns: Vec<_> = rows.iter().map(|row| ForeignColumn { name: row.get(0), kind: row.get(1) }).collect();
    if let Some(unknown) = given.iter().find(|name| columns.iter().all(|column| column.name != **name)) {
        return Ok(Err(foreign::no_column(&found.name, unknown)));
    }
    let mut key = if given.is_empty() { own_key(connection, found.oid).await? } else { given.to_vec() };
    // Across partitions a place is not of one row alone, and a view has none.
    let by_place = key.is_empty() && found.kind == "r";
    if by_place {
        key.push("ctid".to_owned());
    }
    if key.is_empty() {
        return Ok(Err(foreign::keyless(&found.name)));
    }
    let kind = |name: &String| {
        let found = columns.iter().find(|column| column.name == *name).map(|column| column.kind.as_str());
        // In a cast `character` is one of one letter.
        found.map(|kind| if kind == "character" { "bpchar" } else { kind }.to_owned())
    };
    let key_kinds: Vec<_> = key.iter().map(|name| kind(name).unwrap_or_else(|| "tid".to_owned())).collect();
    // With the table's name before it: alone it would be the text that is read, and texts sort otherwise.
    let quoted: Vec<_> = key.iter().map(|name| format!("t.{}", quoted(name))).collect();
    let plan = Plan {
        columns: columns.iter().map(|column| format!("t.{}::text", self::quoted(&column.name))).collect(),
        key_read: quoted.iter().map(|name| format!("{name}::text")).collect(),
        key: quoted,
        table: format!("{}.{} AS t", self::quoted(&found.schema), self::quoted(&found.name)),
    };
    if !given.is_empty() && !connection.query_typed(&plan.ambiguous(), &[]).await?.is_empty() {
        return Ok(Err(foreign::ambiguous(&found.name, &key)));
    }
    let (database, identity) = identity(connection, found.oid).await?;
    let about = AboutTable {
        source: format!(
            "postgres:{}:{}.{}",
            foreign::name_part(&database, &[':']),
            foreign::name_part(&found.schema, &[':', '.']),
            foreign::name_part(&found.name, &[':', '.'])
        ),
        place: place.to_owned(),
        identity,
        key,
        by_place,
        columns,
    };
    let kinds = about.columns.iter().map(|column| column.kind.clone()).collect();
    Ok(Ok((about, Keyed { plan, kinds, key_kinds })))
}

async fn find(connection: &Conn, name: &str) -> Worked<Option<Found>> {
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
               AND CASE WHEN $2::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = $2 END";
    let whole = (None, name.to_owned());
    for (schema, table) in [Ok(whole), foreign::table_name(name)].into_iter().flatten() {
        let rows = connection.query_typed(sql, &[(&table, Type::TEXT), (&schema, Type::TEXT)]).await?;
        if let Some(row) = rows.first() {
            return Ok(Some(Found { oid: row.get(0), schema: row.get(1), name: row.get(2), kind: row.get(3) }));
        }
    }
    Ok(None)
}

/// The primary key, else the shortest unique key without NULLs.
async fn own_key(connection: &Conn, oid: u32) -> Worked<Vec<String>> {
    let sql = "SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i \
               CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
               WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL \
               AND i.indexprs IS NULL AND k.place <= i.indnkeyatts \
               GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts HAVING bool_and(a.attnotnull) \
               ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1";
    let rows = connection.query_typed(sql, &[(&oid, Type::OID)]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

/// The database's name, and the very table among all of all servers where this user may ask.
async fn identity(connection: &Conn, oid: u32) -> Worked<(String, Option<String>)> {
    let sql = "SELECT current_database()::text, (SELECT oid FROM pg_database WHERE datname = current_database()), \
               has_function_privilege('pg_control_system()', 'EXECUTE')";
    let row = connection.query_typed_one(sql, &[]).await?;
    let (name, database): (String, u32) = (row.try_get(0)?, row.try_get(1)?);
    if !row.try_get(2)? {
        return Ok((name, None));
    }
    let system = "SELECT system_identifier::text FROM pg_control_system()";
    let system: String = connection.query_typed_one(system, &[]).await?.try_get(0)?;
    Ok((name, Some(format!("postgres {system} {database} {oid}"))))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The key's values as texts, in the order of the condition's parameters.
fn condition(keyed: &Keyed, after: Option<&[Value]>) -> (Option<String>, Vec<Option<String>>) {
    let Some(after) = after else { return (None, Vec::new()) };
    let parameter = |number: usize, value: usize| {
        format!("${number}::text::{}", keyed.key_kinds.get(value).map_or("text", String::as_str))
    };
    let (sql, order) = foreign::after_key(&keyed.plan.key, parameter);
    let text = |index: usize| {
        after.get(index).and_then(|value| match value {
            Value::Null => None,
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(value.to_string()),
            Value::Text(text) => Some(text.clone()),
            Value::Bytes(bytes) | Value::RawText(bytes) => {
                Some(bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")))
            }
        })
    };
    (Some(sql), order.into_iter().map(text).collect())
}

fn parameters(values: &[Option<String>]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    values.iter().map(|value| (value as &(dyn ToSql + Sync), Type::TEXT)).collect()
}

pub(super) async fn page(
    connection: &Conn,
    keyed: &Keyed,
    after: Option<&[Value]>,
    limit: usize,
) -> Worked<Vec<ForeignRow>> {
    connection.batch_execute(SPELLING).await?;
    let (condition, values) = condition(keyed, after);
    let mut limit = limit;
    loop {
        let sql = keyed.plan.select(condition.as_deref(), limit);
        // Sizes are asked for first, where rows may be large: this client holds an answer whole.
        let bytes =
            if limit > 1 { bytes_of(connection, &keyed.plan, condition.as_deref(), &values, limit).await? } else { 0 };
        if bytes > PAGE_BYTES as i64 {
            limit = (limit / 8).max(1);
            continue;
        }
        let rows = connection.query_typed(&sql, &parameters(&values)).await?;
        return rows.iter().map(|row| row_of(keyed, row)).collect();
    }
}

/// How large the rows of a page are as they lie, which asks for no text to be unpacked.
async fn bytes_of(
    connection: &Conn,
    plan: &Plan,
    condition: Option<&str>,
    values: &[Option<String>],
    limit: usize,
) -> Worked<i64> {
    let condition = condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
    let sizes: Vec<_> =
        plan.columns.iter().map(|column| format!("coalesce(octet_length({column}), 0)::bigint")).collect();
    let sizes = if sizes.is_empty() { "0::bigint".to_owned() } else { sizes.join(" + ") };
    let sql = format!(
        "SELECT coalesce(sum(size), 0)::bigint FROM (SELECT {sizes} AS size FROM {}{condition} ORDER BY {} LIMIT {limit}) page",
        plan.table,
        plan.key.join(", ")
    );
    Ok(connection.query_typed_one(&sql, &parameters(values)).await?.try_get(0)?)
}

async fn count(connection: &Conn, keyed: &Keyed, after: Option<&[Value]>) -> Worked<u64> {
    let (condition, values) = condition(keyed, after);
    let sql = keyed.plan.count(condition.as_deref());
    let count: i64 = connection.query_typed_one(&sql, &parameters(&values)).await?.try_get(0)?;
    Ok(count.unsigned_abs())
}

fn row_of(keyed: &Keyed, row: &Row) -> Worked<ForeignRow> {
    let kinds = keyed.key_kinds.iter().chain(&keyed.kinds);
    let values = kinds.enumerate().map(|(index, kind)| Ok(value(row.try_get(index)?, kind)));
    Ok(keyed.plan.row(values.collect::<Worked<_>>()?))
}

fn value(text: Option<&str>, kind: &str) -> Value {
    let Some(text) = text else { return Value::Null };
    let read = match kind {
        "smallint" | "integer" | "bigint" => text.parse().ok().map(Value::Int),
        "real" | "double precision" => text.parse().ok().map(Value::Float),
        "boolean" => Some(Value::Bool(text == "true")),
        "bytea" => text.strip_prefix("\\x").and_then(bytes),
        _ => None,
    };
    read.unwrap_or_else(|| Value::Text(text.to_owned()))
}

fn bytes(hex: &str) -> Option<Value> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect::<Option<Vec<u8>>>().map(Value::Bytes)
}
