//! Holds the rows against the producers' own records.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Result, ensure};
use auditq_config::Config;
use auditq_queue::QueueName;
use auditq_store::Filter;
use auditq_worker::Engines;

/// Rows that are read at a time.
const PAGE: usize = 5_000;

/// What came of it.
#[derive(Debug)]
pub(super) struct Counted {
    /// Statements whose `record` had returned.
    pub(super) acknowledged: u64,
    /// Rows. There may be more than were acknowledged: of events that were in the spool before `record` could return.
    pub(super) stored: u64,
    /// Acknowledged, and not a row.
    pub(super) lost: u64,
    /// Rows too many.
    pub(super) duplicated: u64,
    /// Messages that were given up.
    pub(super) failed: u64,
}

pub(super) async fn compare(config: &Config, queue: &QueueName, folder: &Path) -> Result<Counted> {
    let mut missing = acknowledged(&super::acks(folder)?)?;
    let acknowledged = missing.len() as u64;
    let engines = Engines::open(config).await?;
    let (mut seen, mut stored, mut duplicated, mut gaps) = (HashSet::new(), 0, 0, 0_u64);
    let mut filter = Filter { stored_after: Some(0), limit: PAGE, ..Filter::default() };
    loop {
        let page = engines.reader.search(&filter).await?;
        for row in &page.rows {
            let Some(number) =
                row.event.statement.sql.strip_prefix("SELECT ").and_then(|number| number.parse::<u64>().ok())
            else {
                gaps += 1;
                continue;
            };
            stored += 1;
            missing.remove(&number);
            duplicated += u64::from(!seen.insert(number));
        }
        match page.next {
            Some(next) => filter.stored_after = Some(next),
            None => break,
        }
    }
    ensure!(gaps == 0, "{gaps} rows are not of any producer: the spool has lost something");
    let failed = engines.admin.sizes(queue).await?.failed;
    Ok(Counted { acknowledged, stored, lost: missing.len() as u64, duplicated, failed })
}

/// The numbers that the producers noted.
fn acknowledged(acks: &Path) -> Result<HashSet<u64>> {
    let mut numbers = HashSet::new();
    for file in acks.read_dir()? {
        let bytes = std::fs::read(file?.path())?;
        // A producer that was killed inside write(2) has left whole numbers only, or a part at the end.
        numbers.extend(bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)));
    }
    Ok(numbers)
}
