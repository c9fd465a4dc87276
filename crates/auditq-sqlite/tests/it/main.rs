//! What one writer thread per file promises: alone, among other processes, and when the file or the disk fails.

#![expect(clippy::unwrap_used, reason = "an operation that fails where it must not is a failed test")]

mod commits;
mod disk;
mod files;
mod processes;

use std::path::Path;

use auditq_sqlite::{Database, Options, Result};

/// Opens a database with an empty table `t (value)`.
async fn with_table(path: &Path) -> Database {
    let database = Database::open(path, Options::default()).unwrap();
    let create = "CREATE TABLE IF NOT EXISTS t (value)";
    database.write("make a table", move |connection| connection.execute_batch(create)).await.unwrap();
    database
}

async fn insert(database: &Database, value: &'static str) -> Result<()> {
    database.write("insert", move |connection| connection.execute("INSERT INTO t VALUES (?1)", [value]).map(drop)).await
}

async fn values(database: &Database) -> Result<Vec<String>> {
    let select = "SELECT value FROM t ORDER BY rowid";
    database.read("select", |connection| connection.prepare(select)?.query_map([], |row| row.get(0))?.collect()).await
}
