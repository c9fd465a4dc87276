//! What an import would do: what becomes of each column, and of a few rows.

use std::io::Write as _;

use anyhow::Result;
use auditq_laravel::{Field, Mapping};
use serde_json::json;

use super::Args;
use super::load::name_of;
use super::mapping::part_of;
use super::source::Source;
use crate::commands::log::event_json;
use crate::exit::Exit;
use crate::output;

/// How many rows are shown.
const SHOWN: usize = 3;

/// True when the part is read from this column first.
fn takes(mapping: &Mapping, source: &Source, field: Field, column: &str) -> bool {
    let has = |name: &&String| source.columns().iter().any(|column| column.name == **name);
    mapping.names(field).iter().find(has).is_some_and(|name| name == column)
}

pub(super) async fn dry_run(args: &Args, mut source: Source, mapping: &Mapping) -> Result<Exit> {
    let name = name_of(args, &source);
    let rows = source.left().await?;
    let becomes = |column: &str| match part_of(mapping, column) {
        _ if source.is_own() => "as it is",
        Some(field) if takes(mapping, &source, field, column) => field.key(),
        // Read as that part only in rows that have none elsewhere.
        Some(_) | None => "extra",
    };
    let columns: Vec<_> = source
        .columns()
        .iter()
        .map(|column| (column.name.clone(), column.kind.clone(), becomes(&column.name)))
        .collect();
    let key = source.key().join(", ");
    let mut shown = Vec::new();
    if let Some(page) = source.next(mapping, &name, SHOWN).await? {
        for item in page.items {
            shown.push(match item.event {
                Ok(event) => event_json(&event)?,
                Err(reason) => json!({"key": item.key, "rejected": reason}),
            });
        }
    }
    let mut out = output::stdout();
    if args.json {
        let columns: Vec<_> =
            columns.iter().map(|(name, kind, part)| json!({"column": name, "type": kind, "becomes": part})).collect();
        let all = json!({"source": name, "place": source.place(), "key": source.key(), "rows": rows, "columns": columns, "sample": shown});
        output::json_line(&mut out, &all)?;
    } else {
        writeln!(out, "{}: {} in the order of {key}.\n", output::clean(&name), output::counted(rows, "row"))?;
        let mut table = output::table(&["Column", "Type", "Becomes"], &[], None);
        for (name, kind, part) in &columns {
            table.add_row([output::one_line(name), output::one_line(kind), (*part).to_owned()]);
        }
        writeln!(out, "{}", output::lines_of(&table))?;
        for row in &shown {
            output::json_line(&mut out, row)?;
        }
        writeln!(out, "\nNothing was stored.")?;
    }
    out.flush()?;
    Ok(Exit::Ok)
}
