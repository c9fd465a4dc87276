//! Waiting for a queue's `:notify` key on connections of their own, one a queue however many workers wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::link::{Link, moved_to};

/// For how long one command blocks; a server that went away without a word is noticed after it.
const BLOCK: Duration = Duration::from_secs(5);
const ANSWER_AT_MOST: Duration = Duration::from_secs(10);

/// How long a listener rests after a failure; whoever waits is polling meanwhile.
const REST: Duration = Duration::from_secs(1);

/// The listeners of a process.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    by_key: Mutex<HashMap<String, Listener>>,
}

#[derive(Debug)]
struct Listener {
    wanted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listeners {
    /// Has `arrivals` grow when something comes into the queue with this notify key.
    pub(super) fn listen(&self, link: &Arc<Link>, notify_key: &str, arrivals: &watch::Sender<u64>) {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if by_key.get(notify_key).is_none_or(|listener| listener.task.is_finished()) {
            let wanted = Arc::new(Notify::new());
            let task = listen(Arc::clone(link), notify_key.to_owned(), Arc::clone(&wanted), arrivals.clone());
            by_key.insert(notify_key.to_owned(), Listener { wanted, task: tokio::spawn(task) });
        }
        if let Some(listener) = by_key.get(notify_key) {
            listener.wanted.notify_one();
        }
    }
}

async fn listen(link: Arc<Link>, key: String, wanted: Arc<Notify>, arrivals: watch::Sender<u64>) {
    let mut connection: Option<MultiplexedConnection> = None;
    loop {
        // After a token came it stays there until someone reserves, so nobody blocks on it before.
        wanted.notified().await;
        match block(&link, &key, &mut connection).await {
            Some(true) => arrivals.send_modify(|count| *count = count.wrapping_add(1)),
            Some(false) => {}
            None => {
                connection = None;
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Blocks until there is a token, and leaves it there for others; `None` when the connection failed.
///
/// A failure needs no words: whoever waits polls too, and is told by its own next call.
async fn block(link: &Link, key: &str, connection: &mut Option<MultiplexedConnection>) -> Option<bool> {
    if connection.is_none() {
        *connection = link.apart(ANSWER_AT_MOST).await.ok();
    }
    let mut command = redis::cmd("BLMOVE");
    command.arg(key).arg(key).arg("LEFT").arg("RIGHT").arg(BLOCK.as_secs());
    match command.query_async::<Option<Vec<u8>>>(connection.as_mut()?).await {
        Ok(token) => Some(token.is_some()),
        Err(error) => {
            *connection = link.apart_at(&moved_to(&error)?, ANSWER_AT_MOST).await.ok();
            let token = command.query_async::<Option<Vec<u8>>>(connection.as_mut()?).await;
            token.ok().map(|token| token.is_some())
        }
    }
}
