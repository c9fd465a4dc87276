//! What a Laravel application asks of its workers: to restart, and to leave queues alone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use auditq_config::Config;
use auditq_queue::QueueName;
use tokio::sync::watch;

use crate::cache::ApplicationCache;
use crate::settlement::SettleError;

const RESTART: &str = "illuminate:queue:restart";
const ALL_PAUSED: &str = "illuminate:queues:paused";
const DOWN: &str = "illuminate:foundation:down";

/// Queues that nothing is to be taken from now. All workers of a process share it.
#[derive(Clone, Debug, Default)]
pub struct Closed(watch::Sender<BTreeSet<QueueName>>);

impl Closed {
    /// Those of `queues` that are open.
    pub(crate) fn open_of(&self, queues: &[QueueName]) -> Vec<QueueName> {
        let closed = self.0.borrow();
        queues.iter().filter(|queue| !closed.contains(queue)).cloned().collect()
    }

    /// Waits until others are closed, or opened.
    pub(crate) async fn changed(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        drop(self.0.subscribe().changed().await);
    }

    /// True when that is news.
    fn set(&self, closed: BTreeSet<QueueName>) -> bool {
        self.0.send_if_modified(|before| {
            let news = *before != closed;
            *before = closed;
            news
        })
    }
}

/// Where an application leaves word for its workers.
#[derive(Debug)]
pub(crate) struct Signs {
    /// `None` when other processes do not see its cache.
    cache: Option<ApplicationCache>,
    /// Is there while the application is down for maintenance.
    down: PathBuf,
    /// Says the same, where the application keeps that in a cache.
    maintenance: Option<ApplicationCache>,
    /// What the application calls its queue connection.
    connection: String,
    queues: Vec<QueueName>,
    closed: Closed,
    /// What was found at the start: a restart was asked for when it changes.
    restart: Option<Option<Vec<u8>>>,
    is_silent: bool,
}

impl Signs {
    /// Those of the application that is served; `None` without one.
    ///
    /// # Errors
    /// `Misconfigured` when its cache can never be read.
    pub(crate) fn open(config: &Config, queues: &[QueueName], closed: Closed) -> Result<Option<Self>, SettleError> {
        let Some(application) = &config.application else { return Ok(None) };
        Ok(Some(Self {
            cache: ApplicationCache::open(application, &application.cache)?,
            down: application.dir.join("storage/framework/down"),
            maintenance: match &application.maintenance {
                Some(cache) => ApplicationCache::open(application, cache)?,
                None => None,
            },
            connection: config.queue.connection.clone(),
            queues: queues.to_vec(),
            closed,
            restart: None,
            is_silent: false,
        }))
    }

    /// Looks at all of them; returns whether a restart was asked for since the first look.
    ///
    /// A cache that does not answer is told of once and asked again at the next look; until then all stays as it was.
    pub(crate) async fn look(&mut self) -> bool {
        match self.read().await {
            Ok((restart, closed)) => {
                self.is_silent = false;
                if self.closed.set(closed.clone()) {
                    let closed: Vec<&str> = closed.iter().map(QueueName::as_str).collect();
                    tracing::info!(target: "auditq", ?closed, "queues that the application asks to leave alone");
                }
                *self.restart.get_or_insert_with(|| restart.clone()) != restart
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_silent, true) {
                    tracing::warn!(
                        target: "auditq", %error,
                        "cannot see what `php artisan queue:restart` and queue:pause leave in the application's cache; \
                         it is asked again every few seconds"
                    );
                }
                false
            }
        }
    }

    async fn read(&self) -> Result<(Option<Vec<u8>>, BTreeSet<QueueName>), String> {
        let mut closed = BTreeSet::new();
        let is_down = match &self.maintenance {
            Some(cache) => cache.get(DOWN).await?.is_some(),
            None => self.down.exists(),
        };
        if is_down {
            closed.extend(self.queues.iter().cloned());
        }
        let Some(cache) = &self.cache else { return Ok((None, closed)) };
        let restart = cache.get(RESTART).await?;
        if cache.get(ALL_PAUSED).await?.is_some_and(|value| is_true(&value)) {
            closed.extend(self.queues.iter().cloned());
        }
        for queue in &self.queues {
            let key = format!("illuminate:queue:paused:{}:{queue}", self.connection);
            if cache.get(&key).await?.is_some_and(|value| is_true(&value)) {
                closed.insert(queue.clone());
            }
        }
        Ok((restart, closed))
    }
}

/// As PHP sees a value, serialized or bare.
fn is_true(value: &[u8]) -> bool {
    !matches!(value, b"" | b"0" | b"N;" | b"b:0;" | b"i:0;" | b"s:0:\"\";" | b"s:1:\"0\";" | b"a:0:{}" | b"d:0;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_true_as_in_php() {
        for (value, expected) in [("b:1;", true), ("1", true), ("i:1795433115;", true), ("b:0;", false), ("", false)] {
            assert_eq!(is_true(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn only_what_is_open_is_taken_from() {
        let [a, b] = ["a", "b"].map(|name| QueueName::new(name).unwrap());
        let closed = Closed::default();
        assert_eq!(closed.open_of(&[a.clone(), b.clone()]), [a.clone(), b.clone()]);
        assert!(closed.set(BTreeSet::from([a.clone()])) && !closed.set(BTreeSet::from([a.clone()])));
        assert_eq!(closed.open_of(&[a, b.clone()]), [b]);
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_a_queue_that_opens() {
        let closed = Closed::default();
        let set = |names: &[&str]| closed.set(names.iter().map(|name| QueueName::new(*name).unwrap()).collect());
        set(&["a"]);
        let waits = tokio::spawn({
            let closed = closed.clone();
            async move { closed.changed().await }
        });
        tokio::task::yield_now().await;
        set(&["a"]);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "nothing has changed");
        set(&[]);
        waits.await.unwrap();
    }
}
