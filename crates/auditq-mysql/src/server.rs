use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use crate::error::{CONNECT, Error, Kind, Result};

/// What a connection says of the server behind it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// The largest packet it takes, in bytes.
    pub(crate) packet_max: usize,
    /// True for MariaDB, false for MySQL.
    pub(crate) is_mariadb: bool,
}

/// Strict, whatever the server's default: a value that does not fit is an error and is not cut to fit.
const MODE: &str = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION";

/// How long an idle connection is kept, in seconds: a day.
const IDLE_S: u64 = 86_400;

/// Lets the server end the session, and undo its transaction, once it has heard nothing for so long; `None`: as it is for
/// every connection. For locks that are not to outlast a process that hangs. A session that was ended is replaced when it is
/// needed.
///
/// # Errors
/// As the server's.
pub async fn end_when_silent(connection: &mut Conn, after: Option<Duration>) -> mysql_async::Result<()> {
    let seconds = after.map_or(IDLE_S, |after| after.as_secs().max(1));
    connection.query_drop(format!("SET SESSION wait_timeout = {seconds}")).await
}

/// Sets a new connection up, and checks that the server can do what is asked of it. What its URL had set up already, its
/// zone, stays.
pub(crate) async fn set_up(connection: &mut Conn, place: &Arc<str>) -> Result<Server> {
    let named = |error: mysql_async::Error| Error::new(CONNECT, place, &error);
    let row: Option<(String, usize)> =
        connection.query_first("SELECT version(), @@max_allowed_packet").await.map_err(named)?;
    let (version, packet_max) = row.unwrap_or_default();
    check_version(&version).map_err(|message| Error::plain(Kind::Misconfigured, CONNECT, place, message))?;
    connection.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await.map_err(named)?;
    connection.query_drop("SET NAMES utf8mb4").await.map_err(named)?;
    // A lock that is not free soon is asked for again.
    let zone = if connection.opts().setup().is_empty() { "SESSION time_zone = '+00:00', " } else { "" };
    let session = format!(
        "SET SESSION sql_mode = '{MODE}', {zone}SESSION wait_timeout = {IDLE_S}, \
         SESSION innodb_lock_wait_timeout = 5, SESSION autocommit = 1"
    );
    connection.query_drop(session).await.map_err(named)?;
    Ok(Server { packet_max, is_mariadb: is_mariadb(&version) })
}

fn is_mariadb(version: &str) -> bool {
    version.to_ascii_lowercase().contains("mariadb")
}

/// SKIP LOCKED came with MySQL 8.0.1 and MariaDB 10.6; MySQL's exact collation came with 8.0.17.
fn check_version(version: &str) -> std::result::Result<(), String> {
    let (name, least): (_, [u32; 3]) =
        if is_mariadb(version) { ("MariaDB", [10, 6, 0]) } else { ("MySQL", [8, 0, 17]) };
    // MariaDB may put `5.5.5-` before its own version, for old replicas.
    let own = version.strip_prefix("5.5.5-").filter(|_| is_mariadb(version)).unwrap_or(version);
    let mut numbers = own.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let found: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    if found >= least {
        return Ok(());
    }
    let [major, minor, patch] = least;
    Err(format!("the server is {name} {own}, which is too old; {name} {major}.{minor}.{patch} or later is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused_by_name() {
        for version in ["8.0.17", "8.4.3", "9.1.0-commercial", "10.6.1-MariaDB", "5.5.5-10.11.19-MariaDB-0+deb12u1"] {
            assert_eq!(check_version(version), Ok(()), "{version}");
        }
        for (version, says) in [
            ("5.7.44-log", "MySQL 5.7.44-log, which is too old; MySQL 8.0.17"),
            ("8.0.3", "MySQL 8.0.3,"),
            ("10.5.9-MariaDB", "MariaDB 10.5.9-MariaDB, which is too old; MariaDB 10.6.0"),
            ("5.5.5-10.3.1-MariaDB", "MariaDB 10.3.1"),
            ("", "too old"),
        ] {
            let error = check_version(version).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
