//! The macros that check SQL while compiling, with an audited pool in place of sqlx's own.
//!
//! They read the folder `.sqlx`. To renew it after changing a query here or `tests/schema.sql`, from this crate's
//! folder:
//! ```sh
//! sqlite3 /tmp/schema.db < tests/schema.sql
//! SQLX_OFFLINE=false DATABASE_URL=sqlite:/tmp/schema.db SQLX_OFFLINE_DIR=$PWD/.sqlx cargo test --no-run
//! ```

use auditq::{Binding, InContext, TransactionOutcome};
use futures_util::TryStreamExt;

use crate::support::{alice, shop};

struct Order {
    id: i64,
    customer: String,
}

#[tokio::test]
async fn checked_queries_run_on_an_audited_pool() {
    let shop = shop().await;
    async {
        let row = sqlx::query!("SELECT id, total FROM orders WHERE id = ?", 2).fetch_one(&shop.pool).await.unwrap();
        assert_eq!((row.id, row.total), (2, 3.0));
        let orders = sqlx::query_as!(Order, "SELECT id, customer FROM orders ORDER BY id");
        let orders = orders.fetch(&shop.pool).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!((orders.len(), orders[4].id, orders[4].customer.as_str()), (5, 5, "acme"));
        let count = sqlx::query_scalar!("SELECT count(*) FROM orders").fetch_one(&shop.pool).await.unwrap();
        assert_eq!(count, 5);
    }
    .audited(alice())
    .await;
    let events = shop.events();
    assert_eq!(events.len(), 3);
    assert_eq!(events[0].bindings, [Binding::Int(2)]);
    assert_eq!(events[1].outcome.rows_returned, Some(5));
}

#[tokio::test]
async fn checked_queries_run_in_an_audited_transaction() {
    let shop = shop().await;
    async {
        let mut transaction = shop.pool.begin().await.unwrap();
        let (note, id) = ("paid", 3);
        sqlx::query!("UPDATE orders SET note = ? WHERE id = ?", note, id).execute(&mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }
    .audited(alice())
    .await;
    assert_eq!(shop.event().bindings, [Binding::Text("paid".into()), Binding::Int(3)]);
    assert_eq!(shop.outcomes()[0].1, TransactionOutcome::Committed);
}
