use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows;
use crate::{Filter, LogPage};

/// One page of the log.
pub(super) fn search(connection: &Connection, filter: &Filter) -> rusqlite::Result<LogPage> {
    let query = Query::new(filter)?;
    let mut statement = connection.prepare_cached(&query.sql())?;
    let found = statement.query_map(params_from_iter(&query.values), rows::read)?;
    let mut rows = found.collect::<rusqlite::Result<Vec<_>>>()?;
    // One more than asked for says that there is a next page.
    let more = rows.len() > filter.limit;
    rows.truncate(filter.limit);
    Ok(LogPage { next: rows.last().filter(|_| more).map(|row| row.id), rows })
}

/// A filter as SQL: its conditions, and the values of their parameters in order.
struct Query {
    conditions: Vec<&'static str>,
    values: Vec<Value>,
    order: &'static str,
}

impl Query {
    fn new(filter: &Filter) -> rusqlite::Result<Self> {
        let order = if filter.stored_after.is_some() { "ASC" } else { "DESC" };
        let mut query = Self { conditions: Vec::new(), values: Vec::new(), order };
        query.add_identity(filter);
        query.add_statement(filter)?;
        query.add_span(filter);
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX).saturating_add(1);
        query.values.push(limit.into());
        Ok(query)
    }

    fn add_identity(&mut self, filter: &Filter) {
        if let Some(id) = &filter.event_id {
            self.add("event_id = ?", [id.as_bytes().to_vec().into()]);
        }
        if let Some(user) = &filter.user {
            self.add("(username = ? OR user_id = ?)", [user.clone().into(), user.clone().into()]);
        }
        if let Some(request) = &filter.request_id {
            self.add("request_id = ?", [request.clone().into()]);
        }
        if let Some(fingerprint) = filter.fingerprint {
            self.add("fingerprint = ?", [fingerprint.cast_signed().into()]);
        }
    }

    fn add_statement(&mut self, filter: &Filter) -> rusqlite::Result<()> {
        if let Some(operation) = filter.operation {
            self.add("operation = ?", [operation.as_str().to_owned().into()]);
        }
        if let Some(status) = filter.status {
            self.add("status = ?", [status.as_str().to_owned().into()]);
        }
        if let Some(table) = &filter.table {
            // The search for the quoted name is fast and lets through too much only for odd names, such as `,`.
            let quoted = rows::tables_json(std::slice::from_ref(table))?;
            let quoted = quoted.trim_start_matches('[').trim_end_matches(']').to_owned();
            self.add(
                "instr(tables, ?) > 0 AND EXISTS (SELECT 1 FROM json_each(tables) WHERE value = ?)",
                [quoted.into(), table.clone().into()],
            );
        }
        if let Some(text) = &filter.text {
            // Not LIKE: it stops at a NUL, and has its own wildcards.
            self.add("instr(lower(sql), lower(?)) > 0", [text.clone().into()]);
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
        let columns = rows::COLUMNS.join(", ");
        let order = self.order;
        // Rows are chosen by number first, so that sorting moves numbers and not whole rows.
        format!(
            "SELECT id, {columns} FROM audit_sql_logs WHERE id IN (\
             SELECT id FROM audit_sql_logs {conditions} ORDER BY id {order} LIMIT ?) ORDER BY id {order}"
        )
    }
}
