use auditq_postgres::tokio_postgres::types::{ToSql, Type};
use auditq_postgres::{Conn, Worked};

use super::columns::{Id, escaped};
use super::rows;
use crate::{Filter, LogPage, LogRow};

/// The number of the newest row below which no row is on its way any more; who follows the log must not go beyond, or
/// rows with lower numbers that are committed later would be passed over for good.
///
/// Nobody stores rows while it is asked for; the lock is given back with the caller's transaction, before the search.
pub(super) async fn settled(connection: &Conn) -> Worked<i64> {
    connection.batch_execute("SET LOCAL lock_timeout = '1s'").await?;
    super::lock::alone(connection).await?;
    let newest = "SELECT coalesce(max(id), 0) FROM audit_sql_logs";
    Ok(connection.query_typed_one(newest, &[]).await?.try_get(0)?)
}

/// One page of the log; `until` is the highest number of a row in it.
pub(super) async fn search(connection: &Conn, filter: &Filter, until: Option<i64>) -> Worked<LogPage> {
    let query = Query::new(filter, until)?;
    let found = connection.query_typed(&query.sql(), &query.parameters()).await?;
    let mut ids = found.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    // One more than asked for says that there is a next page.
    let more = ids.len() > filter.limit;
    ids.truncate(filter.limit);
    let mut rows = Vec::with_capacity(ids.len());
    // Rows are chosen by number first, so that sorting moves numbers and not whole rows.
    for ids in ids.chunks(1_000) {
        rows.extend(read(connection, ids, query.order).await?);
    }
    Ok(LogPage { next: ids.last().copied().filter(|_| more), rows })
}

async fn read(connection: &Conn, ids: &[i64], order: &str) -> Worked<Vec<LogRow>> {
    let columns = rows::columns();
    let sql = format!("SELECT id, {columns} FROM audit_sql_logs WHERE id = ANY($1) ORDER BY id {order}");
    connection.query_typed(&sql, &[(&ids, Type::INT8_ARRAY)]).await?.into_iter().map(rows::read).collect()
}

/// A filter as SQL: its conditions, and the values of their parameters in order.
struct Query {
    conditions: Vec<String>,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
    order: &'static str,
}

impl Query {
    fn new(filter: &Filter, until: Option<i64>) -> Worked<Self> {
        let order = if filter.stored_after.is_some() { "ASC" } else { "DESC" };
        let mut query = Self { conditions: Vec::new(), values: Vec::new(), order };
        query.add_identity(filter);
        query.add_statement(filter)?;
        query.add_span(filter, until);
        query.values.push((Box::new(rows::bounded(filter.limit.saturating_add(1))), Type::INT8));
        Ok(query)
    }

    fn add_identity(&mut self, filter: &Filter) {
        if let Some(id) = &filter.event_id {
            self.add("event_id = $", Id(*id.as_bytes()), Type::UUID);
        }
        if let Some(user) = &filter.user {
            // Beside the index, which holds the beginning only.
            let is = "(left(username, 191) = left($, 191) AND username = $ \
                      OR left(user_id, 64) = left($, 64) AND user_id = $)";
            self.add(is, text(user), Type::TEXT);
        }
        if let Some(request) = &filter.request_id {
            self.add("left(request_id, 64) = left($, 64) AND request_id = $", text(request), Type::TEXT);
        }
        if let Some(fingerprint) = filter.fingerprint {
            self.add("fingerprint = $", fingerprint.cast_signed(), Type::INT8);
        }
    }

    fn add_statement(&mut self, filter: &Filter) -> Worked<()> {
        if let Some(operation) = filter.operation {
            self.add("operation = $", operation.as_str(), Type::TEXT);
        }
        if let Some(status) = filter.status {
            self.add("status = $", status.as_str(), Type::TEXT);
        }
        if let Some(table) = &filter.table {
            // The search for the quoted name is fast and lets through too much only for odd names, such as `,`.
            let quoted = rows::tables_json(std::slice::from_ref(table))?;
            let quoted = quoted.trim_start_matches('[').trim_end_matches(']').to_owned();
            self.add("position($ IN tables) > 0", quoted, Type::TEXT);
            self.add("tables::jsonb ? $", text(table), Type::TEXT);
        }
        if let Some(part) = &filter.text {
            // Not LIKE, which has its own wildcards.
            self.add("position(lower($ COLLATE \"C\") IN lower(sql COLLATE \"C\")) > 0", text(part), Type::TEXT);
        }
        Ok(())
    }

    fn add_span(&mut self, filter: &Filter, until: Option<i64>) {
        let bounds = [
            ("occurred_at >= $", filter.since),
            ("occurred_at < $", filter.until),
            ("id > $", filter.stored_after),
            ("id < $", filter.stored_before),
            ("id <= $", until),
        ];
        for (condition, bound) in bounds {
            if let Some(bound) = bound {
                self.add(condition, bound, Type::INT8);
            }
        }
    }

    /// Adds a condition in which each `$` stands for the value.
    fn add(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static, kind: Type) {
        self.values.push((Box::new(value), kind));
        self.conditions.push(condition.replace('$', &format!("${}", self.values.len())));
    }

    fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect()
    }

    fn sql(&self) -> String {
        let conditions =
            if self.conditions.is_empty() { String::new() } else { format!("WHERE {}", self.conditions.join(" AND ")) };
        format!("SELECT id FROM audit_sql_logs {conditions} ORDER BY id {} LIMIT ${}", self.order, self.values.len())
    }
}

fn text(text: &str) -> String {
    escaped(text.into()).into_owned()
}
