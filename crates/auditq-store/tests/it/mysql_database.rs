//! The audit table in MySQL: its promises, and what it does under trouble.

use std::sync::Arc;

use async_trait::async_trait;
use auditq_event::{Binding, Event};
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::testing::TestDatabase;
use auditq_store::conformance::{Setup, ordinary_event, ordinary_events};
use auditq_store::mysql::MysqlStore;
use auditq_store::{Amendment, Batch, ErrorKind, Filter, Inserted, Store, StoreReader};

pub(crate) struct InDatabase {
    store: MysqlStore,
    database: TestDatabase,
}

impl InDatabase {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        let store = MysqlStore::new(database.open());
        store.migrate().await.unwrap();
        Self { store, database }
    }
}

#[async_trait]
impl Setup for InDatabase {
    type Driver = MysqlStore;

    fn store(&self) -> &MysqlStore {
        &self.store
    }

    async fn refuse(&self, sql: &str) {
        let sql = sql.replace('\'', "''");
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_sql_logs FOR EACH ROW IF NEW.`sql` = '{sql}' THEN \
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused by a trigger'; END IF"
        );
        self.database.run(&trigger).await;
    }

    async fn remove_table(&self) {
        self.database.run("DROP TABLE audit_sql_logs").await;
    }
}

fn batch(events: Vec<Event>) -> Arc<Batch> {
    Arc::new(Batch { events, amendments: Vec::new() })
}

#[tokio::test]
async fn a_table_of_another_program_is_refused_with_a_way_out() {
    let database = TestDatabase::new().await;
    database.run("CREATE TABLE audit_sql_logs (id bigint PRIMARY KEY, query text, bindings json, username text)").await;
    let store = MysqlStore::new(database.open());
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    let text = error.to_string();
    assert!(text.contains("lacks the columns") && text.contains("RENAME TABLE"), "{text}");
    database.run("RENAME TABLE audit_sql_logs TO audit_sql_logs_old").await;
    store.migrate().await.unwrap();
    assert_eq!(store.insert(batch(ordinary_events(2))).await.unwrap().stored, 2);
}

#[tokio::test]
async fn a_table_without_transactions_and_a_newer_one_are_refused() {
    let setup = InDatabase::new().await;
    setup.database.run("ALTER TABLE audit_sql_logs ENGINE=MyISAM").await;
    let error = setup.store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("MyISAM"), "{error}");
    setup.database.run("ALTER TABLE audit_sql_logs ENGINE=InnoDB").await;
    setup.store.migrate().await.unwrap();
    setup.database.run("INSERT INTO auditq_migrations VALUES ('store 9', 0)").await;
    let error = setup.store.migrate().await.unwrap_err();
    assert!(error.to_string().contains("newer release"), "{error}");
}

#[tokio::test]
async fn a_user_without_rights_is_told_which_it_needs() {
    let setup = InDatabase::new().await;
    let user = format!("u{:08x}", fastrand::u32(..));
    setup.database.as_root(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'secret-of-a-test'")).await;
    setup.database.as_root(&format!("GRANT SELECT ON {}.* TO {user}@'%'", setup.database.name())).await;
    let url = setup.database.url_of(&user, "secret-of-a-test");
    let reader = MysqlStore::new(auditq_mysql::Database::open(&url, auditq_mysql::Options::default()).unwrap());
    let count = reader.count().await;
    let error = reader.insert(batch(ordinary_events(1))).await.unwrap_err();
    setup.database.as_root(&format!("DROP USER {user}@'%'")).await;
    assert_eq!(count.unwrap(), 0);
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("the user needs"), "{error}");
}

#[tokio::test]
async fn a_table_of_the_first_release_gets_the_column_it_lacks_and_keeps_its_rows() {
    let setup = InDatabase::new().await;
    setup.store.insert(batch(ordinary_events(2))).await.unwrap();
    setup.database.run("ALTER TABLE audit_sql_logs DROP COLUMN extra").await;
    setup.database.run("DELETE FROM auditq_migrations WHERE name = 'store 2'").await;
    setup.store.migrate().await.unwrap();
    let said = Event { extra: Some("{\"a\":1}".to_owned()), ..ordinary_event(2) };
    setup.store.insert(batch(vec![said])).await.unwrap();
    let rows = setup.store.search(&Filter::default()).await.unwrap().rows;
    let extra: Vec<_> = rows.iter().map(|row| row.event.extra.as_deref()).collect();
    assert_eq!(extra, [Some("{\"a\":1}"), None, None]);
    // Interrupted between the statement and its note, it is done again.
    setup.database.run("DELETE FROM auditq_migrations WHERE name = 'store 2'").await;
    setup.store.migrate().await.unwrap();
}

#[tokio::test]
async fn many_processes_may_migrate_at_once() {
    let database = TestDatabase::new().await;
    let migrating: Vec<_> = (0..4)
        .map(|n| {
            // A parameter of its own gives each its own connections, as processes have.
            let url = format!("{}?conn_ttl={}", database.url(), 1_000 + n);
            let opened = auditq_mysql::Database::open(&url, auditq_mysql::Options::default()).unwrap();
            tokio::spawn(async move { MysqlStore::new(opened).migrate().await })
        })
        .collect();
    for migrated in migrating {
        migrated.await.unwrap().unwrap();
    }
    assert_eq!(MysqlStore::new(database.open()).count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_text_of_a_megabyte_and_a_batch_larger_than_a_packet_are_stored() {
    let setup = InDatabase::new().await;
    let packet = setup.store.database().packet_bytes_max().await.unwrap();
    let text = "x\u{1f9fe}\u{1}\0'\\\n".repeat((1 << 20) / 10);
    let count = packet as u64 / text.len() as u64 + 3;
    let mut events = ordinary_events(count);
    for event in &mut events {
        event.statement.sql.clone_from(&text);
        event.bindings = vec![Binding::Text("\u{7f}\u{202e}\0 ".to_owned())];
        event.bindings_total = 1;
    }
    assert_eq!(setup.store.insert(batch(events.clone())).await.unwrap().stored, count);
    let page = setup.store.search(&Filter { limit: 2, ..Filter::default() }).await.unwrap();
    assert_eq!(page.rows[0].event, events[events.len() - 1]);
}

#[tokio::test]
async fn an_event_larger_than_a_packet_is_rejected() {
    let setup = InDatabase::new().await;
    let packet = setup.store.database().packet_bytes_max().await.unwrap();
    let mut event = ordinary_event(1);
    event.statement.sql = "x".repeat(packet + 1);
    let error = setup.store.insert(batch(vec![ordinary_event(0), event])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert_eq!(setup.store.count().await.unwrap(), 0);
    assert_eq!(setup.store.insert(batch(ordinary_events(1))).await.unwrap().stored, 1);
}

#[tokio::test]
async fn a_connection_that_is_killed_in_the_middle_leaves_nothing_and_the_next_insert_goes_on() {
    let setup = InDatabase::new().await;
    // The insert waits for the lock on the row of its first event.
    let mut other = setup.database.connect().await;
    setup.store.insert(batch(ordinary_events(1))).await.unwrap();
    other.query_drop("START TRANSACTION").await.unwrap();
    other.query_drop("SELECT 1 FROM audit_sql_logs FOR UPDATE").await.unwrap();
    let store = setup.store.clone();
    let inserting = tokio::spawn(async move { store.insert(batch(ordinary_events(10))).await });
    let waiting = "SELECT id FROM information_schema.processlist \
                   WHERE db = database() AND info LIKE 'INSERT INTO audit_sql_logs%' LIMIT 1";
    let id = loop {
        if let Some(id) = other.query_first::<u64, _>(waiting).await.unwrap() {
            break id;
        }
        tokio::task::yield_now().await;
    };
    other.query_drop(format!("KILL {id}")).await.unwrap();
    let error = inserting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    other.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(setup.store.count().await.unwrap(), 1);
    let inserted = setup.store.insert(batch(ordinary_events(10))).await.unwrap();
    assert_eq!(inserted, Inserted { stored: 9, duplicates: 1, amended: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_amendment_and_its_event_at_the_same_time_find_each_other() {
    let setup = InDatabase::new().await;
    for n in 0..100 {
        let event = ordinary_event(n);
        let amendment = Amendment { event_id: event.event_id, repeated: Some((7, 70)), transaction_outcome: None };
        let (first, second) = (setup.store.clone(), setup.store.clone());
        let event = tokio::spawn(async move { first.insert(batch(vec![event])).await });
        let amend = Arc::new(Batch { events: Vec::new(), amendments: vec![amendment] });
        let amendment = tokio::spawn(async move { second.insert(amend).await });
        event.await.unwrap().unwrap();
        amendment.await.unwrap().unwrap();
    }
    let rows = setup.store.search(&Filter { limit: 100, ..Filter::default() }).await.unwrap().rows;
    assert_eq!(rows.iter().filter(|row| row.event.repeat_count == 7).count(), 100);
}

#[tokio::test]
async fn who_follows_the_log_passes_over_no_row_that_is_being_inserted() {
    let setup = InDatabase::new().await;
    setup.store.insert(batch(ordinary_events(1))).await.unwrap();
    // A row with a lower number that is committed later.
    let mut other = setup.database.connect().await;
    other.query_drop("START TRANSACTION").await.unwrap();
    let copy = "INSERT INTO audit_sql_logs SELECT 100, stored_at, unhex('00'), producer_id, 99, occurred_at, recorded_at, \
                duration_us, query_hash, fingerprint, operation, `tables`, `status`, error_code, error_message, \
                rows_affected, rows_returned, transaction_id, transaction_outcome, username, user_id, actor_type, \
                session_hash, tenant, request_id, trace_id, ip, http_method, url_path, user_agent, origin, `connection`, \
                db_system, db_name, app, host, pid, repeat_count, last_at, `sql`, bindings, truncated, extra \
                FROM audit_sql_logs WHERE id = 1";
    other.query_drop(copy).await.unwrap();
    setup.store.insert(batch(vec![ordinary_event(1)])).await.unwrap();
    let store = setup.store.clone();
    let filter = Filter { stored_after: Some(1), ..Filter::default() };
    let following = tokio::spawn(async move { store.search(&filter).await });
    other.query_drop("COMMIT").await.unwrap();
    let page = following.await.unwrap().unwrap();
    assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [100, 101]);
}
