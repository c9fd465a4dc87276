use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::pool::Pool;

/// Between two tries to listen again.
const RETRY_MS: std::ops::Range<u64> = 2_000..4_000;

/// Counts the notifications of one channel. A hint: one may get lost with its connection.
#[derive(Debug)]
pub struct Listener {
    heard: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(crate) fn start(pool: Arc<Pool>, channel: &'static str) -> Self {
        let (sender, heard) = watch::channel(0);
        let sender = Arc::new(sender);
        let task = tokio::spawn(async move {
            loop {
                hear(&pool, channel, &sender).await;
                tokio::time::sleep(Duration::from_millis(fastrand::u64(RETRY_MS))).await;
            }
        });
        Self { heard, task }
    }

    /// Changes with each notification. What was sent before it listened, or while it could not, is not heard.
    #[must_use]
    pub fn heard(&self) -> watch::Receiver<u64> {
        self.heard.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens until the connection is lost. That it cannot listen is no error: whoever waits looks by himself, too.
async fn hear(pool: &Pool, channel: &str, sender: &Arc<watch::Sender<u64>>) {
    let sender = Arc::clone(sender);
    let tell = move || sender.send_modify(|count| *count = count.wrapping_add(1));
    let Ok(mut connection) = pool.connect(tell).await else { return };
    if connection.batch_execute(&format!("LISTEN {channel}")).await.is_ok() {
        connection.closed().await;
    }
}
