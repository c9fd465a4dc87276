//! Single keys, for those who share a server with a queue.

use std::sync::Arc;

use super::link::Link;
use super::url;
use crate::Result;

/// Keys on a Redis or Valkey server that somebody else writes.
#[derive(Debug)]
pub struct RedisCache {
    link: Arc<Link>,
    prefix: String,
}

impl RedisCache {
    /// Names a server, and what all keys begin with: `redis://HOST:6379/1?prefix=laravel_database_`.
    ///
    /// # Errors
    /// `Misconfigured` when the URL is none. The server is not asked anything yet.
    pub fn open(server: &str) -> Result<Self> {
        let target = url::read(server)?;
        // An error when the process has one already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        Ok(Self { link: Arc::new(Link::new(target.nodes)), prefix: target.prefix })
    }

    /// The value of a key, without its prefix.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.link.command("read a key", redis::cmd("GET").arg(format!("{}{key}", self.prefix))).await
    }
}
