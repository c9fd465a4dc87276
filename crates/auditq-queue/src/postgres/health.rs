//! What the server is set to do with what was committed.

use auditq_postgres::{Conn, Worked};

/// Which settings may cost messages, and what to do about each.
pub(super) async fn warnings(connection: &Conn) -> Worked<Vec<String>> {
    let sql = "SELECT current_setting('fsync'), current_setting('full_page_writes'), \
               current_setting('synchronous_commit')";
    let Some(row) = connection.query_typed_opt(sql, &[]).await? else { return Ok(Vec::new()) };
    Ok(judge(row.get(0), row.get(1), row.get(2)))
}

fn judge(fsync: &str, full_page_writes: &str, synchronous_commit: &str) -> Vec<String> {
    let costs = [
        (fsync == "off", "a crash of the machine can destroy the server's data: `fsync` is off; set it to on"),
        (
            full_page_writes == "off",
            "a crash of the machine can tear pages of the server's data: `full_page_writes` is off; set it to on",
        ),
        (
            synchronous_commit == "off",
            "a crash of the server loses its last moments: `synchronous_commit` is off; set it to on, at least for the \
             user of auditq",
        ),
    ];
    costs.into_iter().filter(|(cost, _)| *cost).map(|(_, warning)| warning.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn what_postgres_ships_with_is_no_warning() {
        assert_eq!(judge("on", "on", "on"), Vec::<String>::new());
        assert_eq!(judge("on", "on", "remote_apply"), Vec::<String>::new());
        assert_eq!(judge("off", "off", "off").len(), 3);
    }
}
