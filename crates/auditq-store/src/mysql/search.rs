use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Params, Result, Row, Value};

use super::rows;
use crate::{Filter, LogPage, LogRow};

/// One page of the log.
pub(super) async fn search(connection: &mut Conn, filter: &Filter) -> Result<LogPage> {
    let query = Query::new(filter)?;
    let mut ids: Vec<i64> = connection.exec(query.sql(), Params::Positional(query.values)).await?;
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

async fn read(connection: &mut Conn, ids: &[i64], order: &str) -> Result<Vec<LogRow>> {
    // Numbers that the server gave: nothing to escape, and no statement prepared for each count of them.
    let ids = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let columns = rows::columns();
    let sql = format!("SELECT `id`, {columns} FROM audit_sql_logs WHERE id IN ({ids}) ORDER BY id {order}");
    connection.query::<Row, _>(sql).await?.into_iter().map(rows::read).collect()
}

/// A filter as SQL: its conditions, and the values of their parameters in order.
struct Query {
    conditions: Vec<&'static str>,
    values: Vec<Value>,
    order: &'static str,
    follows: bool,
}

impl Query {
    fn new(filter: &Filter) -> Result<Self> {
        let follows = filter.stored_after.is_some();
        let order = if follows { "ASC" } else { "DESC" };
        let mut query = Self { conditions: Vec::new(), values: Vec::new(), order, follows };
        query.add_identity(filter);
        query.add_statement(filter)?;
        query.add_span(filter);
        query.values.push(rows::bounded(filter.limit.saturating_add(1)).into());
        Ok(query)
    }

    fn add_identity(&mut self, filter: &Filter) {
        if let Some(id) = &filter.event_id {
            self.add("event_id = ?", [id.as_bytes().as_slice().into()]);
        }
        if let Some(user) = &filter.user {
            self.add("(username = ? OR user_id = ?)", [user.into(), user.into()]);
        }
        if let Some(request) = &filter.request_id {
            self.add("request_id = ?", [request.into()]);
        }
        if let Some(fingerprint) = filter.fingerprint {
            self.add("fingerprint = ?", [fingerprint.cast_signed().into()]);
        }
    }

    fn add_statement(&mut self, filter: &Filter) -> Result<()> {
        if let Some(operation) = filter.operation {
            self.add("operation = ?", [operation.as_str().into()]);
        }
        if let Some(status) = filter.status {
            self.add("status = ?", [status.as_str().into()]);
        }
        if let Some(table) = &filter.table {
            // The search for the quoted name is fast and lets through too much only for odd names, such as `,`.
            let quoted = rows::tables_json(std::slice::from_ref(table))?;
            let quoted = quoted.trim_start_matches('[').trim_end_matches(']');
            self.add("instr(`tables`, ?) > 0 AND json_contains(`tables`, ?)", [quoted.into(), quoted.into()]);
        }
        if let Some(text) = &filter.text {
            // Not LIKE, which has its own wildcards.
            self.add("instr(lower(`sql`), lower(?)) > 0", [text.into()]);
        }
        Ok(())
    }

    fn add_span(&mut self, filter: &Filter) {
        let bounds = [
            ("occurred_at >= ?", filter.since),
            ("occurred_at < ?", filter.until),
            ("id > ?", filter.stored_after),
            ("id < ?", filter.stored_before),
        ];
        for (condition, bound) in bounds {
            if let Some(bound) = bound {
                self.add(condition, [bound.into()]);
            }
        }
    }

    fn add<const N: usize>(&mut self, condition: &'static str, values: [Value; N]) {
        self.conditions.push(condition);
        self.values.extend(values);
    }

    fn sql(&self) -> String {
        let conditions =
            if self.conditions.is_empty() { String::new() } else { format!("WHERE {}", self.conditions.join(" AND ")) };
        let order = self.order;
        // Numbers are given before rows are committed. Who follows the log waits for the rows that are being inserted,
        // which is what a shared lock does; or those with lower numbers would be passed over for good.
        let (index, lock) = if self.follows { ("FORCE INDEX (PRIMARY)", "LOCK IN SHARE MODE") } else { ("", "") };
        format!("SELECT id FROM audit_sql_logs {index} {conditions} ORDER BY id {order} LIMIT ? {lock}")
    }
}
