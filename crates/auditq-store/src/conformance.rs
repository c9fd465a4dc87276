//! The promises of [`Store`] and [`StoreReader`] as tests that any driver can be held against.
//!
//! A driver implements [`Setup`] and names the suite once: [`store_conformance!`](crate::store_conformance). Each test
//! begins with a setup of its own, so that they may run side by side.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a suite of tests, which may panic")]

mod reading;
mod round_trip;
mod samples;
mod writing;

use async_trait::async_trait;

use crate::{Filter, LogRow, Store, StoreReader};

pub use reading::*;
pub use round_trip::*;
pub use samples::{ordinary_event, ordinary_events, strange_events};
pub use writing::*;

/// A driver under test: a store of its own with an empty audit table, and the means to bring it into trouble.
#[async_trait]
pub trait Setup: Send + Sync {
    /// The driver.
    type Driver: Store + StoreReader;

    /// The store; migrated and empty.
    fn store(&self) -> &Self::Driver;

    /// Makes the engine refuse every event whose SQL is `sql`, by means of the engine's own, as a constraint would.
    async fn refuse(&self, sql: &str);

    /// Removes `audit_sql_logs`.
    async fn remove_table(&self);
}

/// Every row, oldest first.
async fn all(store: &impl StoreReader) -> Vec<LogRow> {
    let filter = Filter { stored_after: Some(i64::MIN), limit: 1_000_000, ..Filter::default() };
    store.search(&filter).await.expect("search the log").rows
}

/// Declares one test for each promise and aspect, in a module named after the driver.
///
/// `$setup` is an async expression that makes a new [`Setup`](crate::conformance::Setup). The crate that uses it needs
/// tokio with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! store_conformance {
    ($driver:ident, $setup:expr) => {
        mod $driver {
            #[allow(unused_imports, reason = "the setup expression may need nothing from around it")]
            use super::*;

            $crate::store_conformance!(@tests $setup;
                promise_1_a_new_event_is_stored_and_counted,
                promise_1_a_redelivered_event_is_skipped_and_counted,
                promise_1_an_event_twice_in_one_batch_is_stored_once,
                promise_1_an_empty_batch_changes_nothing,
                promise_1_all_or_nothing,
                promise_1_a_batch_of_thousands_is_stored_whole,
                promise_1_batches_at_the_same_time_store_each_event_once,
                promise_1_an_amendment_changes_a_stored_row,
                promise_1_an_amendment_may_come_before_its_event,
                promise_1_an_amendment_in_the_batch_reaches_its_event,
                promise_1_a_folded_amendment_reaches_a_row_that_was_stored_before,
                promise_1_amendments_commute,
                promise_1_amendments_are_idempotent,
                promise_1_a_lesser_count_and_an_unknown_outcome_change_nothing,
                promise_1_migrating_again_keeps_every_row,
                promise_2_an_event_that_the_engine_refuses_is_rejected,
                promise_2_the_good_rest_of_a_rejected_batch_can_be_stored,
                promise_2_a_missing_table_is_misconfigured_and_migrate_mends_it,
                promise_3_an_ordinary_event_comes_back_as_it_went_in,
                promise_3_strange_events_come_back_as_they_went_in,
                promise_3_nothing_and_the_empty_text_stay_different,
                reading_pages_follow_each_other_without_holes,
                reading_can_follow_what_is_stored,
                reading_finds_by_user_name_and_user_id,
                reading_finds_by_table_exactly,
                reading_finds_by_text_regardless_of_ascii_case,
                reading_finds_by_each_other_condition,
                reading_counts_what_happened_in_a_span,
                reading_statistics_survive_extremes,
                pruning_removes_the_oldest_a_few_at_a_time,
                pruning_never_gives_a_number_twice,
            );
        }
    };
    (@tests $setup:expr; $($test:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let setup = $setup.await;
                $crate::conformance::$test(&setup).await;
            }
        )+
    };
}
