//! Rows of the log, one a line.

use std::io::{IsTerminal as _, Write};

use anyhow::Result;
use auditq_event::{Actor, Event, Status};
use auditq_store::LogRow;
use comfy_table::{Cell, Color};

use super::row;
use crate::output::{self, head, one_line};
use crate::time;

/// Characters of a user's name that are shown in a list.
const USER_CHARS: usize = 16;
/// A terminal of fewer columns than this gets fewer columns of the table.
const WIDE: usize = 100;

/// Writes rows as a table, or as JSON lines.
pub(super) fn write(out: &mut impl Write, rows: &[LogRow], json: bool) -> Result<()> {
    if json {
        for row in rows {
            output::json_line(out, &row::to_json(row)?)?;
        }
        return Ok(());
    }
    if rows.is_empty() {
        return Ok(());
    }
    let layout = Layout::of(rows);
    let heading = layout.heading();
    let cells: Vec<Vec<String>> = rows.iter().map(|row| layout.cells(&row.event)).collect();
    let room = output::room_beside(&heading[..heading.len() - 1], cells.iter().map(Vec::as_slice));
    let numbers = [heading.len() - 3, heading.len() - 2];
    let mut table = output::table(&heading, &numbers, Some(heading.len() - 1));
    for (row, cells) in rows.iter().zip(cells) {
        let event = &row.event;
        let ok = event.outcome.status == Status::Ok;
        let cells = cells.into_iter().enumerate().map(|(index, text)| {
            let is_status = heading[index] == "Status";
            if is_status && !ok { Cell::new(text).fg(Color::Red) } else { Cell::new(text) }
        });
        let statement = std::iter::once(Cell::new(statement(event, room)));
        let mut line = comfy_table::Row::from(cells.chain(statement).collect::<Vec<_>>());
        line.max_height(1);
        table.add_row(line);
    }
    out.write_all(output::lines_of(&table).as_bytes())?;
    Ok(())
}

/// Which columns there are: on a narrow terminal the statement needs the room.
struct Layout {
    kind: bool,
    date: bool,
}

impl Layout {
    fn of(rows: &[LogRow]) -> Self {
        let narrow = is_narrow();
        let today = time::now_local();
        let is_today = |row: &LogRow| time::local(row.event.occurred_at).get(..10) == today.get(..10);
        Self { kind: !narrow, date: !narrow || !rows.iter().all(is_today) }
    }

    fn heading(&self) -> Vec<&'static str> {
        let all = ["Time", "User", "Kind", "Status", "Took", "Rows", "Statement"];
        all.into_iter().filter(|name| self.kind || *name != "Kind").collect()
    }

    /// The cells of a row before its statement.
    fn cells(&self, event: &Event) -> Vec<String> {
        let outcome = &event.outcome;
        let rows = outcome.rows_affected.filter(|rows| *rows > 0).or(outcome.rows_returned).or(outcome.rows_affected);
        let at = time::local(event.occurred_at);
        let at = if self.date { at } else { at.get(11..).unwrap_or(&at).to_owned() };
        let mut cells = vec![at, user(&event.actor)];
        if self.kind {
            cells.push(event.statement.operation.to_string());
        }
        cells.push(outcome.status.to_string());
        cells.push(output::micros(event.duration_us as f64));
        cells.push(rows.map_or_else(|| "-".to_owned(), output::grouped));
        cells
    }
}

fn is_narrow() -> bool {
    std::io::stdout().is_terminal() && output::width() < WIDE
}

/// The statement on one line, and how often it was asked.
fn statement(event: &Event, room: usize) -> String {
    let sql = one_line(&event.statement.sql);
    let times = if event.repeat_count > 1 { format!(" (×{})", event.repeat_count) } else { String::new() };
    format!("{}{times}", head(&sql, room.saturating_sub(times.chars().count())))
}

/// Writes rows as they come in: columns that stay where they are, and no heading.
pub(super) fn write_line(out: &mut impl Write, row: &LogRow) -> Result<()> {
    let event = &row.event;
    let at = time::local(event.occurred_at);
    let (at, kind) = if is_narrow() {
        (at.get(11..).unwrap_or(&at), String::new())
    } else {
        (at.as_str(), format!("{:<8}  ", event.statement.operation))
    };
    let (user, took) = (user(&event.actor), output::micros(event.duration_us as f64));
    let line = format!("{at}  {user:<12}  {kind}{:<9}  {took:>9}  ", event.outcome.status);
    let sql = one_line(&event.statement.sql);
    if std::io::stdout().is_terminal() {
        let room = output::width().saturating_sub(line.chars().count()).max(20);
        writeln!(out, "{line}{}", head(&sql, room))?;
    } else {
        writeln!(out, "{line}{sql}")?;
    }
    Ok(())
}

/// The name, else the id, else what kind of actor it is.
fn user(actor: &Actor) -> String {
    let named = actor.username.as_deref().or(actor.user_id.as_deref());
    let name = named.map_or_else(|| format!("({})", actor.actor_type), one_line);
    head(&name, USER_CHARS).into_owned()
}
