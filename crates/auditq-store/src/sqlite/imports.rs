use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _};

use super::{SqliteStore, now_us, read, written};
use crate::{ImportLog, Result};

#[async_trait]
impl ImportLog for SqliteStore {
    async fn import_note(&self, source: &str) -> Result<Option<String>> {
        let source = source.to_owned();
        let work = move |connection: &Connection| {
            let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'auditq_imports'";
            if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
                return Ok(None);
            }
            let sql = "SELECT note FROM auditq_imports WHERE source = ?1";
            connection.query_row(sql, [source], |row| row.get(0)).optional()
        };
        self.database.read("look for an earlier import", work).await.map_err(read)
    }

    async fn note_import(&self, source: &str, note: &str) -> Result<()> {
        let (source, note, now) = (source.to_owned(), note.to_owned(), now_us());
        let work = move |connection: &Connection| {
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS auditq_imports (source TEXT PRIMARY KEY NOT NULL, note TEXT NOT NULL, \
                 noted_at INTEGER NOT NULL)",
            )?;
            connection
                .execute("INSERT OR REPLACE INTO auditq_imports VALUES (?1, ?2, ?3)", (source, note, now))
                .map(drop)
        };
        // A power cut may undo it: rows that are read again are there already.
        self.database.write_relaxed("note how far the import is", work).await.map_err(written)
    }
}
