use auditq::{ActorType, Config, Context, InContext, Operation, Origin, Status, System, TransactionOutcome};
use auditq_sqlx::AuditedPool;
use futures_util::TryStreamExt;
use sqlx::Row;

use crate::support::{alice, plain_pool, shop, shop_with};

#[tokio::test]
async fn a_read_is_recorded_with_its_rows_and_user() {
    let shop = shop().await;
    let query = sqlx::query("SELECT * FROM orders WHERE id > ?").bind(2);
    let rows = query.fetch_all(&shop.pool).audited(alice()).await.unwrap();
    assert_eq!(rows.len(), 3);
    let event = shop.event();
    assert_eq!(event.statement.sql, "SELECT * FROM orders WHERE id > ?");
    assert_eq!((event.outcome.rows_returned, event.outcome.rows_affected), (Some(3), None));
    assert_eq!((event.outcome.status, event.outcome.transaction_outcome), (Status::Ok, TransactionOutcome::Autocommit));
    assert_eq!((event.actor.actor_type, event.actor.username.as_deref()), (ActorType::User, Some("alice")));
    assert_eq!((event.database.system, event.database.connection.as_deref()), (System::Sqlite, Some("default")));
    assert!(event.database.name.unwrap().ends_with("shop.db"));
    assert!(event.occurred_at > 1_700_000_000_000_000 && event.duration_us > 0);
}

#[tokio::test]
async fn a_change_is_recorded_with_the_rows_it_changed() {
    let shop = shop().await;
    let query = sqlx::query("UPDATE orders SET total = 0 WHERE id <= ?").bind(4);
    let result = query.execute(&shop.pool).audited(alice()).await.unwrap();
    assert_eq!(result.rows_affected(), 4);
    let event = shop.event();
    assert_eq!((event.outcome.rows_affected, event.outcome.rows_returned), (Some(4), Some(0)));
    assert_eq!((event.statement.operation, event.statement.tables), (Operation::Update, vec!["orders".to_owned()]));
}

#[tokio::test]
async fn every_way_to_fetch_works_and_is_recorded_once() {
    let shop = shop_with(|config: &mut Config| config.capture.duplicates = auditq_config::Duplicates::Off).await;
    async {
        let pool = &shop.pool;
        let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM orders").fetch_all(pool).await.unwrap();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        let (customer,): (String,) =
            sqlx::query_as("SELECT customer FROM orders WHERE id = ?").bind(1).fetch_one(pool).await.unwrap();
        assert_eq!(customer, "acme");
        let none = sqlx::query("SELECT * FROM orders WHERE id = 99").fetch_optional(pool).await.unwrap();
        assert!(none.is_none());
        let missing = sqlx::query("SELECT * FROM orders WHERE id = 98").fetch_one(pool).await;
        assert!(matches!(missing, Err(sqlx::Error::RowNotFound)));
        let mut stream = sqlx::query("SELECT id FROM orders ORDER BY id").fetch(pool);
        let mut sum = 0;
        while let Some(row) = stream.try_next().await.unwrap() {
            sum += row.get::<i64, _>(0);
        }
        assert_eq!(sum, 15);
        let mut connection = pool.acquire().await.unwrap();
        sqlx::query("DELETE FROM orders WHERE id = 1").execute(&mut connection).await.unwrap();
        sqlx::query("DELETE FROM orders WHERE id = 2").execute(&mut connection).await.unwrap();
    }
    .audited(alice())
    .await;
    let events = shop.events();
    let rows: Vec<_> =
        events.iter().map(|event| (event.outcome.status, event.outcome.rows_returned.unwrap())).collect();
    let expected = [5, 1, 0, 0, 5, 0, 0].map(|rows| (Status::Ok, rows));
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn a_prepared_statement_is_recorded_when_it_runs() {
    use sqlx::{Executor, SqlSafeStr, Statement};
    let shop = shop().await;
    async {
        let statement = shop.pool.prepare("SELECT id FROM orders WHERE id = ?".into_sql_str()).await.unwrap();
        assert_eq!(shop.records().len(), 0);
        statement.query().bind(3).fetch_one(&shop.pool).await.unwrap();
    }
    .audited(alice())
    .await;
    assert_eq!(shop.event().statement.sql, "SELECT id FROM orders WHERE id = ?");
}

#[tokio::test]
async fn the_same_question_again_is_counted() {
    let shop = shop().await;
    async {
        for _ in 0..3 {
            sqlx::query("SELECT * FROM orders WHERE id = ?").bind(1).fetch_one(&shop.pool).await.unwrap();
        }
    }
    .audited(alice())
    .await;
    assert_eq!(shop.event().outcome.rows_returned, Some(1));
    assert_eq!(shop.recorder.stats().collapsed, 2);
}

#[tokio::test]
async fn nobody_signed_in_and_the_pool_itself_are_not_recorded() {
    let shop = shop().await;
    sqlx::query("SELECT 1").execute(&shop.pool).await.unwrap();
    sqlx::query("SELECT 2").execute(&shop.pool).audited(Context::new(Origin::default())).await.unwrap();
    sqlx::query("SELECT 3").execute(shop.pool.inner()).audited(alice()).await.unwrap();
    assert_eq!((shop.records().len(), shop.recorder.stats().skipped_anonymous), (0, 2));
}

#[tokio::test]
async fn a_connection_has_the_name_that_the_application_gives_it() {
    let shop = shop().await;
    let folder = tempfile::tempdir().unwrap();
    let reports = AuditedPool::named("reports", plain_pool(&folder.path().join("r.db")).await, &shop.recorder);
    sqlx::query("SELECT 1").execute(&reports).audited(alice()).await.unwrap();
    assert_eq!(shop.event().database.connection.as_deref(), Some("reports"));
}

#[tokio::test]
async fn the_user_is_whoever_asked_wherever_the_answer_is_read() {
    let shop = shop().await;
    let stream = alice().run(|| sqlx::query("SELECT id FROM orders").fetch(&shop.pool));
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap().len(), 5);
    assert_eq!(shop.event().actor.username.as_deref(), Some("alice"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn users_do_not_mix_when_many_ask_at_once() {
    let shop = shop().await;
    let tasks: Vec<_> = (0..40)
        .map(|user: i64| {
            let pool = shop.pool.clone();
            let work = async move {
                for number in 0..25_i64 {
                    let query = sqlx::query("SELECT ?, ?").bind(user).bind(number);
                    query.fetch_one(&pool).await.unwrap();
                }
            };
            let actor = <auditq::Actor as auditq::ActorExt>::user(user, "somebody");
            tokio::spawn(work.audited(Context::of(actor)))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let events = shop.events();
    assert_eq!(events.len(), 1_000);
    for event in events {
        let auditq::Binding::Int(user) = event.bindings[0] else { panic!("{event:?}") };
        assert_eq!(event.actor.user_id, Some(user.to_string()));
    }
}
