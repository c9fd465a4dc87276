//! The queue in Redis or Valkey, with any store.

use std::time::Duration;

use auditq_config::EngineUrl;
use auditq_queue::redis::{RedisQueue, RedisQueueOptions};

use crate::settlement::SettleError;

pub(crate) fn open_queue(url: &EngineUrl, retry_after: Duration) -> Result<RedisQueue, SettleError> {
    Ok(RedisQueue::open(url.with_password(), RedisQueueOptions { retry_after, ..RedisQueueOptions::default() })?)
}
