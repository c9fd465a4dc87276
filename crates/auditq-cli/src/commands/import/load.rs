//! The import itself: pages are read, made events, and stored; what is refused is set aside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use auditq_config::Config;
use auditq_event::Event;
use auditq_laravel::{Field, Mapping};
use auditq_store::{Batch, ErrorKind, Inserted, Store};
use auditq_worker::Engines;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Args;
use super::patience::{kind_of, patiently};
use super::report::{Rejects, Report};
use super::source::{Page, ROWS, Source};
use crate::exit::Exit;
use crate::output;

/// How often it is noted how far the import is.
const NOTE_EVERY: Duration = Duration::from_millis(500);

/// How far an import is: kept in the store.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    /// The server or the file.
    place: String,
    /// What the ids of rows depend on beside the rows.
    settings: String,
    /// Rows up to here were stored or rejected.
    cursor: Option<Json>,
    /// How many were read in all.
    rows: u64,
    finished: bool,
}

/// The source's name in the ids of its rows.
pub(super) fn name_of(args: &Args, source: &Source) -> String {
    args.source_id.clone().unwrap_or_else(|| source.name().to_owned())
}

pub(super) async fn run(
    args: &Args,
    config: &Config,
    mut source: Source,
    mapping: Mapping,
    engines: &Engines,
) -> Result<Exit> {
    let name = name_of(args, &source);
    // A backup is read by its own offsets, which are not the keys of the table.
    let noted_as = if source.is_file() { format!("{name} in a file") } else { name.clone() };
    let mut note = known(args, config, &source, &mapping, engines, &noted_as).await?;
    let resumed = match note.cursor.take().filter(|_| !args.again) {
        Some(cursor) => {
            source.seek(cursor.clone())?;
            note.cursor = Some(cursor);
            note.rows
        }
        None => 0,
    };
    note.rows = resumed;
    let mut report = Report::begin(source.left().await?, resumed)?;
    let mut rejects = Rejects::new(&args.rejects, &name);
    let mut noted = Instant::now();
    let (place, target) = (source.place().to_owned(), config.store.url.to_string());
    let mut page = next(&mut source, &mapping, &name, &place).await?;
    while let Some(Page { items, cursor }) = page.take() {
        let read = items.len() as u64;
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            match item.event {
                Ok(event) => events.push((item.key, *event)),
                Err(reason) => rejects.add(&item.key, &reason)?,
            }
        }
        // The next rows are read while these are stored.
        let storing = store(&*engines.store, events, &target);
        let (stored, following) = tokio::join!(storing, next(&mut source, &mapping, &name, &place));
        let (inserted, refused) = stored?;
        for (key, reason) in refused {
            rejects.add(&key, &reason)?;
        }
        note.cursor = Some(cursor);
        note.rows += read;
        report.more(read, inserted, rejects.count());
        page = following?;
        note.finished = page.is_none();
        if note.finished || noted.elapsed() >= NOTE_EVERY {
            noted = Instant::now();
            // Rejected rows are on the disk before it is noted that they were read.
            rejects.flush()?;
            put(engines, &noted_as, &note, &target).await?;
        }
    }
    rejects.flush()?;
    report.finish(args, &source, &rejects)
}

/// What was noted of the source; refuses what would store its rows a second time under other ids.
async fn known(
    args: &Args,
    config: &Config,
    source: &Source,
    mapping: &Mapping,
    engines: &Engines,
    noted_as: &str,
) -> Result<Note> {
    let settings = settings(config, source, mapping);
    let fresh = || Note { place: source.place().to_owned(), settings: settings.clone(), ..Note::default() };
    let Some(text) = engines.reader.import_note(noted_as).await? else { return Ok(fresh()) };
    // Written by another release: rows are read again and found to be there.
    let Ok(mut note) = serde_json::from_str::<Note>(&text) else { return Ok(fresh()) };
    if note.settings != settings && !source.is_own() {
        bail!(
            "{noted_as} was imported with other settings for its times ({}; now {settings}), and its rows would be stored a \
             second time; import it as before, or remove what was imported and its line in auditq_imports first",
            note.settings
        );
    }
    if note.place != source.place() && args.source_id.is_none() && !source.is_own() {
        bail!(
            "{noted_as} was imported before from {}, and now is to be from {}: rows of two tables must not get the same ids; \
             say --source-id with a new name where it is another table, or --source-id '{}' where it is the same",
            note.place,
            source.place(),
            source.name()
        );
    }
    if note.place != source.place() {
        // Its rows may be in another order there, or there may be others: all are read, and those that are there known.
        output::note(&format!("{noted_as} was imported before from {}; its rows are read from the first", note.place));
        note = fresh();
    }
    Ok(note)
}

/// What the ids of rows depend on beside the rows: how their times are read.
fn settings(config: &Config, source: &Source, mapping: &Mapping) -> String {
    let has = |name: &&String| source.columns().iter().any(|column| column.name == **name);
    let times: Vec<&str> = mapping.names(Field::OccurredAt).iter().filter(has).map(String::as_str).collect();
    format!("{} by {}", config.laravel.timezone, times.join(", "))
}

async fn put(engines: &Engines, source: &str, note: &Note, place: &str) -> Result<()> {
    let text = serde_json::to_string(note)?;
    patiently(place, || async { Ok(engines.reader.note_import(source, &text).await?) }).await
}

/// The next rows, however long the server takes.
async fn next(source: &mut Source, mapping: &Mapping, name: &str, place: &str) -> Result<Option<Page>> {
    let source = tokio::sync::Mutex::new(source);
    patiently(place, || async { source.lock().await.next(mapping, name, ROWS).await }).await
}

type Keyed = (String, Event);

/// Stores events, and halves a batch that is refused until what is refused stands alone.
async fn store(store: &dyn Store, events: Vec<Keyed>, place: &str) -> Result<(Inserted, Vec<(String, String)>)> {
    let (mut inserted, mut refused, mut todo) = (Inserted::default(), Vec::new(), vec![events]);
    while let Some(events) = todo.pop() {
        if events.is_empty() {
            continue;
        }
        let (mut keys, events): (Vec<String>, Vec<Event>) = events.into_iter().unzip();
        let batch = Arc::new(Batch { events, amendments: Vec::new() });
        let error = match patiently(place, || async { Ok(store.insert(Arc::clone(&batch)).await?) }).await {
            Ok(some) => {
                inserted += some;
                continue;
            }
            Err(error) if kind_of(&error) == Some(ErrorKind::Rejected) => error,
            Err(error) => return Err(error),
        };
        if keys.len() == 1 {
            refused.push((keys.remove(0), format!("{error:#}")));
            continue;
        }
        let mut events = batch.events.clone();
        let half = keys.len() / 2;
        let (later_keys, later) = (keys.split_off(half), events.split_off(half));
        todo.push(later_keys.into_iter().zip(later).collect());
        todo.push(keys.into_iter().zip(events).collect());
    }
    Ok((inserted, refused))
}
