//! Who may store rows at the same time.
//!
//! Numbers of rows are given before the rows are committed. Whoever must know that no row is on its way takes the lock
//! alone, for a moment; everybody who stores takes it with the others.

use auditq_postgres::{Conn, Worked};

/// Waits until nobody is alone, and keeps others from being so until the transaction ends.
pub(super) async fn with_others(connection: &Conn) -> Worked<()> {
    Ok(connection.batch_execute("SELECT pg_advisory_xact_lock_shared(hashtext('audit_sql_logs'))").await?)
}

/// Waits until nobody stores rows, and keeps others from it until the transaction ends.
pub(super) async fn alone(connection: &Conn) -> Worked<()> {
    Ok(connection.batch_execute("SELECT pg_advisory_xact_lock(hashtext('audit_sql_logs'))").await?)
}
