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
/// Characters of SQL for which a terminal has room, however wide.
const SQL_CHARS: usize = 400;

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
    let mut table = output::table(&["Time", "User", "Kind", "Status", "Took", "Rows", "Statement"], &[4, 5], Some(6));
    let is_terminal = std::io::stdout().is_terminal();
    for row in rows {
        let mut line = comfy_table::Row::from(cells(&row.event, is_terminal));
        line.max_height(1);
        table.add_row(line);
    }
    out.write_all(output::lines_of(&table).as_bytes())?;
    Ok(())
}

/// Writes rows as they come in: columns that stay where they are, and no heading.
pub(super) fn write_line(out: &mut impl Write, row: &LogRow) -> Result<()> {
    let event = &row.event;
    let line = format!(
        "{}  {:<12}  {:<8}  {:<9}  {:>9}  ",
        time::local(event.occurred_at),
        user(&event.actor),
        event.statement.operation,
        event.outcome.status,
        output::micros(event.duration_us as f64),
    );
    let sql = one_line(&event.statement.sql);
    if std::io::stdout().is_terminal() {
        let room = output::width().saturating_sub(line.chars().count() + 1).max(20);
        writeln!(out, "{line}{}", head(&sql, room))?;
    } else {
        writeln!(out, "{line}{sql}")?;
    }
    Ok(())
}

fn cells(event: &Event, is_terminal: bool) -> [Cell; 7] {
    let (statement, outcome) = (&event.statement, &event.outcome);
    let rows = outcome.rows_affected.filter(|rows| *rows > 0).or(outcome.rows_returned).or(outcome.rows_affected);
    let sql = one_line(&statement.sql);
    let sql = if is_terminal { head(&sql, SQL_CHARS).into_owned() } else { sql };
    let status = Cell::new(outcome.status);
    [
        Cell::new(time::local(event.occurred_at)),
        Cell::new(user(&event.actor)),
        Cell::new(statement.operation),
        if outcome.status == Status::Ok { status } else { status.fg(Color::Red) },
        Cell::new(output::micros(event.duration_us as f64)),
        Cell::new(rows.map_or_else(|| "-".to_owned(), output::grouped)),
        Cell::new(if event.repeat_count > 1 { format!("{sql} (×{})", event.repeat_count) } else { sql }),
    ]
}

/// The name, else the id, else what kind of actor it is.
fn user(actor: &Actor) -> String {
    let named = actor.username.as_deref().or(actor.user_id.as_deref());
    let name = named.map_or_else(|| format!("({})", actor.actor_type), one_line);
    head(&name, USER_CHARS).into_owned()
}
