use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows;
use crate::{Filter, LogPage};

/// Up to so many rows are collected from an index and sorted. Where more match, going back from the newest row fills a
/// page soon.
const FEW: i64 = 20_000;

/// How the rows of a search are found. SQLite does not know how many rows a user or a span of time has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By an index that SQLite chooses: the filter names one request, event or shape of statement.
    Chosen,
    /// By the user's rows, which are few.
    User,
    /// By the rows of that time, which are few.
    Time,
    /// From the newest row back, or from a given one on, until the page is full.
    Along,
}

impl Way {
    fn find(connection: &Connection, filter: &Filter) -> rusqlite::Result<Self> {
        if filter.stored_after.is_some() {
            return Ok(Self::Along);
        }
        if filter.event_id.is_some() || filter.request_id.is_some() || filter.fingerprint.is_some() {
            return Ok(Self::Chosen);
        }
        if let Some(user) = &filter.user
            && are_few(connection, "username = ?1 OR user_id = ?1", [user.clone().into()])?
        {
            return Ok(Self::User);
        }
        let span = [filter.since.unwrap_or(i64::MIN).into(), filter.until.unwrap_or(i64::MAX).into()];
        if (filter.since.is_some() || filter.until.is_some())
            && are_few(connection, "occurred_at >= ?1 AND occurred_at < ?2", span)?
        {
            return Ok(Self::Time);
        }
        Ok(Self::Along)
    }

    /// What stands before a column to keep SQLite from using an index on it.
    fn unless(self, own: Self) -> &'static str {
        if self == own || self == Self::Chosen { "" } else { "+" }
    }
}

fn are_few<const N: usize>(connection: &Connection, condition: &str, values: [Value; N]) -> rusqlite::Result<bool> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM audit_sql_logs WHERE {condition} LIMIT {})", FEW + 1);
    let count: i64 = connection.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(count <= FEW)
}

/// One page of the log.
pub(super) fn search(connection: &Connection, filter: &Filter) -> rusqlite::Result<LogPage> {
    let query = Query::new(filter, Way::find(connection, filter)?)?;
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
    conditions: Vec<String>,
    values: Vec<Value>,
    way: Way,
    order: &'static str,
}

impl Query {
    fn new(filter: &Filter, way: Way) -> rusqlite::Result<Self> {
        let order = if filter.stored_after.is_some() { "ASC" } else { "DESC" };
        let mut query = Self { conditions: Vec::new(), values: Vec::new(), way, order };
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
            let plus = self.way.unless(Way::User);
            let condition = format!("({plus}username = ? OR {plus}user_id = ?)");
            self.add(&condition, [user.clone().into(), user.clone().into()]);
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
        // The index on a user goes on with the time.
        let time = if self.way == Way::User { "" } else { self.way.unless(Way::Time) };
        let id = self.way.unless(Way::Along);
        let bounds = [
            (time, "occurred_at >= ?", filter.since),
            (time, "occurred_at < ?", filter.until),
            (id, "id > ?", filter.stored_after),
            (id, "id < ?", filter.stored_before),
        ];
        for (plus, condition, bound) in bounds {
            if let Some(bound) = bound {
                self.add(&format!("{plus}{condition}"), [bound.into()]);
            }
        }
    }

    fn add<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    fn sql(&self) -> String {
        let conditions =
            if self.conditions.is_empty() { String::new() } else { format!("WHERE {}", self.conditions.join(" AND ")) };
        let columns = rows::COLUMNS.join(", ");
        let (plus, order) = (self.way.unless(Way::Along), self.order);
        // Rows are chosen by number first, so that sorting moves numbers and not whole rows.
        format!(
            "SELECT id, {columns} FROM audit_sql_logs WHERE id IN (\
             SELECT id FROM audit_sql_logs {conditions} ORDER BY {plus}id {order} LIMIT ?) ORDER BY id {order}"
        )
    }
}
