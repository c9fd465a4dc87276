//! Waits until everything that was recorded has become rows.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use auditq_queue::{QueueName, QueueSizes};
use auditq_spool::Reader;
use auditq_worker::Engines;
use indicatif::ProgressBar;

use super::ground::Ground;
use super::workers::Workers;

/// How long nothing may change before waiting is given up. Messages of a killed worker are free again after seconds.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// Waits until no spool and no message is left, and returns how many messages were given up.
///
/// The recorder must be closed: a worker removes the spool of a process that has closed it, once it has read it all.
pub(super) async fn wait(ground: &Ground, workers: &mut Workers, bar: &ProgressBar) -> Result<u64> {
    let engines = Engines::open(&ground.config).await?;
    let queue = QueueName::new(ground.config.queue.name.as_str())?;
    let mut last = None;
    let mut changed = Instant::now();
    loop {
        let spools = Reader::producers(&ground.config.spool.dir)?.len();
        let sizes = engines.admin.sizes(&queue).await?;
        let rows = engines.reader.count().await?;
        bar.set_position(rows);
        let waiting = sizes.ready + sizes.delayed + sizes.reserved;
        if spools == 0 && waiting == 0 {
            return Ok(sizes.failed);
        }
        workers.must_be_alive(ground)?;
        let state = Some((spools, waiting, sizes.reserved, rows));
        if state != last {
            (last, changed) = (state, Instant::now());
        } else if changed.elapsed() > STANDSTILL_MAX {
            bail!(standstill(ground, spools, &sizes));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn standstill(ground: &Ground, spools: usize, sizes: &QueueSizes) -> String {
    format!(
        "nothing was stored for {} s, and yet {spools} spools and {} messages ({} of them reserved) wait; look at {} \
         and run `auditq --config {} monitor`",
        STANDSTILL_MAX.as_secs(),
        sizes.ready + sizes.delayed + sizes.reserved,
        sizes.reserved,
        ground.worker_log(1).display(),
        ground.config_file().display()
    )
}
