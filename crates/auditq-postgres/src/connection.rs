use std::future::poll_fn;
use std::ops::Deref;

use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{CONNECT, Error, Kind, Result};

/// A connection; statements are run on the driver's [`Client`].
///
/// Dropped, it is closed at once, and the server undoes what it was in the middle of.
#[derive(Debug)]
pub struct Conn {
    client: Client,
    /// Moves bytes between the client and the server.
    task: JoinHandle<()>,
}

impl Conn {
    /// Connects, and checks that the server can do what is asked of it. `hear` is told of each notification.
    pub(crate) async fn open(
        config: &Config,
        tls: MakeRustlsConnect,
        place: &std::sync::Arc<str>,
        hear: impl Fn() + Send + 'static,
    ) -> Result<Self> {
        let connected = config.connect(tls).await.map_err(|error| Error::new(CONNECT, place, &error.into()))?;
        let (client, mut connection) = connected;
        let said = |name| connection.parameter(name).unwrap_or_default().to_owned();
        check(&said("server_version"), &said("server_encoding"))
            .map_err(|message| Error::plain(Kind::Misconfigured, CONNECT, place, message))?;
        let task = tokio::spawn(async move {
            // An error reaches the client with the operation that it ends.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    hear();
                }
            }
        });
        Ok(Self { client, task })
    }

    /// True when nothing more can be run on it.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ends when the connection does.
    pub(crate) async fn closed(&mut self) {
        // The task is only aborted by the drop of what is borrowed here.
        drop((&mut self.task).await);
    }
}

impl Deref for Conn {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// SKIP LOCKED and unique indexes over partitions need a recent server; texts need UTF-8.
fn check(version: &str, encoding: &str) -> std::result::Result<(), String> {
    let major: u32 = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap_or(0);
    if major < 12 {
        return Err(format!(
            "the server is PostgreSQL {version}, which is too old; name one of 12 or later in the URL"
        ));
    }
    if !encoding.eq_ignore_ascii_case("UTF8") {
        return Err(format!(
            "the database's encoding is {encoding}, which cannot hold every text; name one that was made with ENCODING \
             'UTF8' in the URL"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_server_that_is_too_old_or_cannot_hold_every_text_is_refused_by_name() {
        for version in ["12.0", "15.20 (Debian 15.20-0+deb12u1)", "18beta1"] {
            assert_eq!(check(version, "UTF8"), Ok(()), "{version}");
        }
        let old = check("9.6.24", "UTF8").unwrap_err();
        assert!(old.contains("PostgreSQL 9.6.24, which is too old"), "{old}");
        assert!(check("", "UTF8").is_err());
        let ascii = check("15.2", "SQL_ASCII").unwrap_err();
        assert!(ascii.contains("SQL_ASCII"), "{ascii}");
    }
}
