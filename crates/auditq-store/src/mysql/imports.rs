use async_trait::async_trait;
use auditq_mysql::attempt;
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Result as Worked};

use super::{MysqlStore, now_us, read, written};
use crate::{ImportLog, Result};

#[async_trait]
impl ImportLog for MysqlStore {
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

async fn note_of(connection: &mut Conn, source: &str) -> Worked<Option<String>> {
    let table = "SELECT 1 FROM information_schema.tables \
                 WHERE table_schema = database() AND table_name = 'auditq_imports'";
    if connection.query_first::<i64, _>(table).await?.is_none() {
        return Ok(None);
    }
    connection.exec_first("SELECT note FROM auditq_imports WHERE source = ?", (source,)).await
}

async fn put(connection: &mut Conn, source: &str, note: &str, now: i64) -> Worked<()> {
    connection
        .query_drop(
            "CREATE TABLE IF NOT EXISTS auditq_imports (source varchar(500) COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, \
             note longtext NOT NULL, noted_at bigint NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
        )
        .await?;
    let sql = "INSERT INTO auditq_imports VALUES (?, ?, ?) \
               ON DUPLICATE KEY UPDATE note = VALUES(note), noted_at = VALUES(noted_at)";
    connection.exec_drop(sql, (source, note, now)).await
}
