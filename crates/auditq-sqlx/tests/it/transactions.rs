use auditq::{InContext, TransactionOutcome};

use crate::support::{Shop, alice, shop, shop_with};

use TransactionOutcome::{Autocommit, Committed, RolledBack};

async fn insert(executor: impl sqlx::Executor<'_, Database = sqlx::Sqlite>, id: i64) {
    let query = sqlx::query("INSERT INTO orders (id, customer, total) VALUES (?, 'x', 0)").bind(id);
    query.execute(executor).await.unwrap();
}

async fn ids(shop: &Shop) -> Vec<i64> {
    let query = sqlx::query_scalar("SELECT id FROM orders WHERE id >= 100 ORDER BY id");
    query.fetch_all(shop.pool.inner()).await.unwrap()
}

fn outcomes(shop: &Shop) -> Vec<TransactionOutcome> {
    shop.outcomes().into_iter().map(|(_, outcome)| outcome).collect()
}

async fn both_ways() -> [Shop; 2] {
    [shop().await, shop_with(|config| config.capture.after_commit = true).await]
}

#[tokio::test]
async fn commit_rollback_and_drop_are_told_apart() {
    for shop in both_ways().await {
        async {
            let mut transaction = shop.pool.begin().await.unwrap();
            insert(&mut transaction, 100).await;
            insert(&mut *transaction, 101).await;
            transaction.commit().await.unwrap();
            let mut transaction = shop.pool.begin().await.unwrap();
            insert(&mut transaction, 102).await;
            transaction.rollback().await.unwrap();
            let mut transaction = shop.pool.begin().await.unwrap();
            insert(&mut transaction, 103).await;
            drop(transaction);
            insert(&shop.pool, 104).await;
        }
        .audited(alice())
        .await;
        assert_eq!(ids(&shop).await, [100, 101, 104]);
        assert_eq!(outcomes(&shop), [Committed, Committed, RolledBack, RolledBack, Autocommit]);
        let events = shop.events();
        let id = |index: usize| events[index].outcome.transaction_id.as_deref();
        assert!(id(0).is_some() && id(0) == id(1) && id(1) != id(2) && id(2) != id(3) && id(4).is_none());
    }
}

#[tokio::test]
async fn a_savepoint_shares_the_outcome_unless_it_is_rolled_back_itself() {
    for shop in both_ways().await {
        async {
            let mut transaction = shop.pool.begin().await.unwrap();
            insert(&mut transaction, 100).await;
            let mut savepoint = transaction.begin().await.unwrap();
            insert(&mut savepoint, 101).await;
            savepoint.commit().await.unwrap();
            let mut savepoint = transaction.begin().await.unwrap();
            insert(&mut savepoint, 102).await;
            drop(savepoint);
            insert(&mut transaction, 103).await;
            transaction.commit().await.unwrap();
        }
        .audited(alice())
        .await;
        assert_eq!(ids(&shop).await, [100, 101, 103]);
        let mut by_id: Vec<_> = shop.events().into_iter().map(|event| event.bindings).zip(outcomes(&shop)).collect();
        by_id.sort_by_key(|(bindings, _)| format!("{bindings:?}"));
        let outcomes: Vec<_> = by_id.into_iter().map(|(_, outcome)| outcome).collect();
        assert_eq!(outcomes, [Committed, Committed, RolledBack, Committed]);
    }
}

#[tokio::test]
async fn a_transaction_on_an_acquired_connection_is_one() {
    let shop = shop().await;
    async {
        let mut connection = shop.pool.acquire().await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, 100).await;
        transaction.commit().await.unwrap();
        insert(&mut connection, 101).await;
    }
    .audited(alice())
    .await;
    assert_eq!(outcomes(&shop), [Committed, Autocommit]);
}

#[tokio::test]
async fn a_failed_statement_in_a_transaction_that_commits_all_the_same_is_there() {
    let shop = shop().await;
    async {
        let mut transaction = shop.pool.begin().await.unwrap();
        insert(&mut transaction, 100).await;
        let failed = sqlx::query("INSERT INTO orders (id) VALUES (100)").execute(&mut transaction).await;
        failed.unwrap_err();
        transaction.commit().await.unwrap();
    }
    .audited(alice())
    .await;
    assert_eq!(outcomes(&shop), [Committed, Committed]);
    assert_eq!(shop.events()[1].outcome.status, auditq::Status::Error);
}

#[tokio::test]
async fn a_commit_that_the_database_refuses_is_a_rollback() {
    let shop = shop().await;
    async {
        let deferred = "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);
            CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)";
        sqlx::raw_sql(deferred).execute(shop.pool.inner()).await.unwrap();
        let mut transaction = shop.pool.begin().await.unwrap();
        sqlx::query("INSERT INTO child VALUES (7)").execute(&mut transaction).await.unwrap();
        transaction.commit().await.unwrap_err();
    }
    .audited(alice())
    .await;
    assert_eq!(outcomes(&shop), [RolledBack]);
}
