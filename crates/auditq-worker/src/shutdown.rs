use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Asks everything that holds a clone of it to finish what it has begun and end.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { requested: Arc::new(watch::Sender::new(false)) }
    }
}

impl Shutdown {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks. Asking again changes nothing.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// True once it was asked.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Returns once it was asked.
    pub async fn requested(&self) {
        let mut watcher = self.requested.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        drop(watcher.wait_for(|requested| *requested).await);
    }

    /// Sleeps, or until it is asked; true when the whole time has passed.
    pub async fn sleep(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.requested() => false,
        }
    }
}
