//! What the server is set to do with what was committed.

use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{Conn, Result};

/// Which settings may cost messages, and what to do about each.
pub(super) async fn warnings(connection: &mut Conn) -> Result<Vec<String>> {
    let sql = "SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog";
    let Some((flush, log_bin, sync_binlog)) = connection.query_first(sql).await? else { return Ok(Vec::new()) };
    Ok(judge(flush, log_bin, sync_binlog))
}

fn judge(flush: u64, log_bin: bool, sync_binlog: u64) -> Vec<String> {
    let redo = (flush != 1).then(|| {
        let what = if flush == 2 { "the machine" } else { "the server" };
        format!("a crash of {what} loses about a second: `innodb_flush_log_at_trx_commit` is {flush}; set it to 1")
    });
    // Without it the binary log is written through when the system likes: after a crash a replica has other rows.
    let binlog = (log_bin && sync_binlog != 1).then(|| {
        format!(
            "after a crash of the machine the binary log, and so a replica, may lack what was committed: `sync_binlog` \
             is {sync_binlog}; set it to 1"
        )
    });
    redo.into_iter().chain(binlog).collect()
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_log_that_is_written_through_at_each_commit_is_no_warning() {
        assert_eq!(judge(1, false, 0), Vec::<String>::new());
        assert_eq!(judge(1, true, 1), Vec::<String>::new());
        assert!(judge(2, false, 0)[0].contains("the machine"));
        assert_eq!(judge(0, true, 0).len(), 2);
    }
}
