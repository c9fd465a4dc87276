//! Which column of an old table is which part of an event.

use anyhow::{Result, bail};
use auditq::Rules;
use auditq_config::Config;
use auditq_laravel::{Field, Mapping};
use auditq_store::{ForeignColumn, LaravelLayout};
use auditq_worker::laravel_decoder;

use super::Args;

/// The mapping for a table of these columns: by usual names, then as `[store.columns]`, `[laravel.map]` and `--map` say.
pub(super) fn of(args: &Args, config: &Config, rules: Rules, columns: &[ForeignColumn]) -> Result<Mapping> {
    let mut mapping = laravel_decoder(config, rules.redaction, rules.limits)?.mapping;
    for ForeignColumn { name, .. } in columns {
        // What the store would write into a column of that name is what is read from it.
        let given = config.store.columns.get(name).map(String::as_str);
        let part = given.or_else(|| LaravelLayout::usual_part(name).filter(|_| !is_known(&mapping, name)));
        if let Some(field) = part.and_then(field) {
            let at_the_front = given.is_some() && !config.laravel.map.contains_key(field.key());
            mapping = with(mapping, field, name, at_the_front);
        }
    }
    for pair in &args.map {
        let Some((part, column)) = pair.split_once('=') else {
            bail!("cannot read --map {pair}; write it as PART=COLUMN, such as sql=statement");
        };
        let Some(field) = field(part) else {
            let known: Vec<_> = Field::ALL.iter().map(|field| field.key()).collect();
            bail!("cannot use --map {pair}: {part} is no part of an event; known are {}", known.join(", "));
        };
        if columns.iter().all(|known| known.name != column) {
            let known: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
            bail!("cannot use --map {pair}: the table has no column {column}; it has {}", known.join(", "));
        }
        mapping = with(mapping, field, column, true);
    }
    Ok(mapping)
}

/// The part of an event that is read from a column.
pub(super) fn part_of(mapping: &Mapping, column: &str) -> Option<Field> {
    Field::ALL.iter().copied().find(|field| mapping.names(*field).iter().any(|name| name == column))
}

fn is_known(mapping: &Mapping, column: &str) -> bool {
    part_of(mapping, column).is_some()
}

/// By its name in `[laravel.map]` or in `[store.columns]`.
fn field(part: &str) -> Option<Field> {
    let key = match part {
        "session_hash" => "session",
        "url_path" => "url",
        other => other,
    };
    Field::ALL.iter().copied().find(|field| field.key() == key)
}

fn with(mapping: Mapping, field: Field, column: &str, at_the_front: bool) -> Mapping {
    let mut names: Vec<String> = mapping.names(field).iter().filter(|name| *name != column).cloned().collect();
    names.insert(if at_the_front { 0 } else { names.len() }, column.to_owned());
    mapping.with_names(field, &names)
}
