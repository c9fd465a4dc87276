//! What people and programs get to see: tables, JSON lines, notes, questions, progress.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use anyhow::{Context as _, Result, bail};
use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// Standard output for one command. An error to write ends the command; that of a closed pipe ends it quietly.
pub(crate) type Out = BufWriter<StdoutLock<'static>>;

/// Takes standard output.
pub(crate) fn stdout() -> Out {
    BufWriter::new(io::stdout().lock())
}

/// Writes one JSON value on a line of its own.
pub(crate) fn json_line(out: &mut impl io::Write, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value).context("cannot write JSON")?;
    line.push(b'\n');
    out.write_all(&line)?;
    Ok(())
}

/// Tells a person something beside the result, on stderr.
pub(crate) fn note(text: &str) {
    // With stderr gone there is nobody to tell.
    drop(writeln!(io::stderr(), "note: {text}"));
}

/// Sends the program's own log to stderr, filtered by `AUDITQ_LOG` (such as `debug` or `auditq=info`).
pub(crate) fn log_to_stderr() {
    let filter = std::env::var("AUDITQ_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = filter.unwrap_or_else(|| "warn".to_owned());
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        note(&format!("AUDITQ_LOG is not a filter, and warn is taken: {error}"));
        EnvFilter::new("warn")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
}

/// A table without lines; numbers stand to the right. `stretch` is the column that is cut to what room there is.
pub(crate) fn table(columns: &[&str], numbers: &[usize], stretch: Option<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_truncation_indicator("…");
    table.set_header(columns.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index + 1 == columns.len() { 0 } else { 2 }));
        if numbers.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if stretch.is_some_and(|stretch| stretch != index) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

/// Characters that a table has for the last cell of each row beside these others: on a terminal what is left of its
/// width, elsewhere as many as there are.
pub(crate) fn room_beside<'a>(heading: &[&str], rows: impl IntoIterator<Item = &'a [String]>) -> usize {
    if !io::stdout().is_terminal() {
        return usize::MAX;
    }
    room_within(width(), heading, rows)
}

fn room_within<'a>(columns: usize, heading: &[&str], rows: impl IntoIterator<Item = &'a [String]>) -> usize {
    let mut widths: Vec<usize> = heading.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let taken: usize = widths.iter().map(|width| width + 2).sum();
    columns.saturating_sub(taken).max(20)
}

/// The table's text with a newline at its end and no blanks before it.
pub(crate) fn lines_of(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Columns of the terminal that stdout is, or 80.
pub(crate) fn width() -> usize {
    Table::new().width().map_or(80, usize::from)
}

/// Text from outside, safe to show: control characters, which can drive a terminal, are written as escapes.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(drives_terminal) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().flat_map(|c| {
        let escape = drives_terminal(c).then(|| c.escape_default());
        let plain = escape.is_none().then_some(c);
        escape.into_iter().flatten().chain(plain)
    });
    Cow::Owned(escaped.collect())
}

/// As [`clean`], with runs of white space made one blank, so that it fits a line.
pub(crate) fn one_line(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    clean(&joined).into_owned()
}

/// Control characters, and those that change the direction of what follows or cannot be seen.
fn drives_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// At most `count` characters of a text, the last of them an ellipsis where there are more.
pub(crate) fn head(text: &str, count: usize) -> Cow<'_, str> {
    if text.char_indices().nth(count).is_none() {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().nth(count.saturating_sub(1)).map_or(text.len(), |(end, _)| end);
    Cow::Owned(format!("{}…", text[..end].trim_end()))
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `grouped` with its noun: `1 row`, `2,000 rows`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Microseconds in the unit that reads best.
pub(crate) fn micros(micros: f64) -> String {
    match micros {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1_000.0),
        us if us < 120_000_000.0 => format!("{:.2} s", us / 1_000_000.0),
        us => seconds(us / 1_000_000.0),
    }
}

/// Seconds in the unit that reads best.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// Bytes in the unit that reads best.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// Asks before something is dropped. `yes` answers beforehand.
///
/// Without a terminal there is nobody to ask, and it is an error not to have said `--yes`.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!("{question} This needs a yes, and there is no terminal to ask on; add --yes");
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// A progress bar on stderr where that is a terminal, else nothing.
pub(crate) fn progress(total: Option<u64>, template: &str) -> Result<ProgressBar> {
    // indicatif draws nothing when stderr is no terminal.
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.set_style(ProgressStyle::with_template(template).context("cannot draw a progress bar")?);
    Ok(bar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(one_line("select\n\t1\r\n from x\u{202e}"), "select 1 from x\\u{202e}");
        assert_eq!(clean("\u{9b}31m\u{7f}\u{0}"), "\\u{9b}31m\\u{7f}\\u{0}");
        assert!(matches!(clean("grüße 👋"), Cow::Borrowed("grüße 👋")));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([grouped(0), grouped(999), grouped(1_000), grouped(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "row"), counted(0, "row")], ["1 row", "0 rows"]);
        assert_eq!([micros(12.4), micros(1_234.0), micros(2_500_000.0)], ["12 µs", "1.23 ms", "2.50 s"]);
        assert_eq!([seconds(59.0), seconds(600.0), seconds(86_400.0)], ["59 s", "10 min", "24.0 h"]);
    }

    #[test]
    fn what_is_cut_has_the_length_that_was_asked_for() {
        assert_eq!([head("ümlaut", 3), head("ümlaut", 6), head("ab cdef", 4)], ["üm…", "ümlaut", "ab…"]);
        let rows = [vec!["judy".to_owned(), "1,234".to_owned()]];
        assert_eq!(room_within(80, &["User", "Rows"], rows.iter().map(Vec::as_slice)), 80 - 6 - 7);
        assert_eq!(room_within(10, &["User"], []), 20);
    }
}
