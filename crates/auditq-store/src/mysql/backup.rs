//! A copy of the audit table in a file, as of one moment.

use std::path::Path;

use auditq_mysql::attempt;
use auditq_mysql::mysql_async::{self, Conn};

use super::{DRIVER, MysqlStore, MysqlTable, foreign, read, search};
use crate::backup::{BackupHeader, BackupWriter};
use crate::foreign::ForeignTable as _;
use crate::{Error, Filter, Result};

/// How many rows are read at a time.
const ROWS: usize = 1_000;

/// What is said when the server ended the snapshot in the middle.
const AGAIN: &str = "the server broke off the snapshot in favour of another transaction; run it again";

/// Writes the table, whoever made it, from one snapshot.
pub(super) async fn run(store: &MysqlStore, to: &Path) -> Result<u64> {
    let table = MysqlTable::open(store.database.clone(), "audit_sql_logs", &[]).await?;
    let about = table.about();
    let is_own = store.table.is_none();
    let header = if is_own { BackupHeader::own(about.source.clone(), &about.place) } else { BackupHeader::of(about) };
    let mut file = BackupWriter::begin(DRIVER, to, &header)?;
    let run = store.database.snapshot("back up the log");
    let copied = attempt!(run, connection => async {
        if file.is_begun() {
            return Err(mysql_async::Error::Other(AGAIN.into()));
        }
        if is_own { copy_log(connection, &mut file).await } else { copy_table(connection, &table, &mut file).await }
    }.await);
    copied.map_err(read)?;
    file.finish().map_err(|error| {
        let kind = crate::backup::kind_of_io(&error);
        Error::new(kind, DRIVER, format!("cannot back up to {}: {error}", to.display()))
    })
}

async fn copy_log(connection: &mut Conn, file: &mut BackupWriter) -> mysql_async::Result<()> {
    let mut filter = Filter { stored_after: Some(0), limit: ROWS, ..Filter::default() };
    loop {
        let page = search::search(connection, &filter).await?;
        for row in &page.rows {
            file.log_row(row).map_err(|error| mysql_async::Error::Other(error.into()))?;
        }
        let Some(next) = page.next else { return Ok(()) };
        filter.stored_after = Some(next);
    }
}

async fn copy_table(connection: &mut Conn, table: &MysqlTable, file: &mut BackupWriter) -> mysql_async::Result<()> {
    let mut after = None;
    loop {
        let page = foreign::page(connection, table.plan(), after.as_deref(), ROWS).await?;
        for row in &page {
            file.row(row).map_err(|error| mysql_async::Error::Other(error.into()))?;
        }
        let Some(last) = page.into_iter().next_back() else { return Ok(()) };
        after = Some(last.key);
    }
}
