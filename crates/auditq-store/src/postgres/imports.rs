use async_trait::async_trait;
use auditq_postgres::tokio_postgres::types::Type;
use auditq_postgres::{Conn, Worked, attempt};

use super::{PostgresStore, now_us, read, written};
use crate::{ImportLog, Result};

#[async_trait]
impl ImportLog for PostgresStore {
    async fn import_note(&self, source: &str) -> Result<Option<String>> {
        let run = self.database.single("look for an earlier import");
        attempt!(run, connection => note_of(connection, source).await).map_err(read)
    }

    async fn note_import(&self, source: &str, note: &str) -> Result<()> {
        let now = now_us();
        let run = self.database.single("note how far the import is");
        attempt!(run, connection => put(connection, source, note, now).await).map_err(written)
    }
}

async fn note_of(connection: &Conn, source: &str) -> Worked<Option<String>> {
    if !is_there(connection).await? {
        return Ok(None);
    }
    let sql = "SELECT note FROM auditq_imports WHERE source = $1";
    let rows = connection.query_typed(sql, &[(&source, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

async fn put(connection: &Conn, source: &str, note: &str, now: i64) -> Worked<()> {
    if !is_there(connection).await? {
        connection
            .batch_execute(
                "CREATE TABLE IF NOT EXISTS auditq_imports (source text PRIMARY KEY, note text NOT NULL, \
                 noted_at bigint NOT NULL)",
            )
            .await?;
    }
    let sql = "INSERT INTO auditq_imports VALUES ($1, $2, $3) \
               ON CONFLICT (source) DO UPDATE SET note = excluded.note, noted_at = excluded.noted_at";
    connection.query_typed(sql, &[(&source, Type::TEXT), (&note, Type::TEXT), (&now, Type::INT8)]).await?;
    Ok(())
}

async fn is_there(connection: &Conn) -> Worked<bool> {
    let sql = "SELECT to_regclass('auditq_imports') IS NOT NULL";
    Ok(connection.query_typed_one(sql, &[]).await?.try_get(0)?)
}
