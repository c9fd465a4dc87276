//! The audit table in PostgreSQL: its promises, and what it does under trouble.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auditq_event::{Binding, Event};
use auditq_postgres::testing::TestDatabase;
use auditq_store::conformance::{Setup, ordinary_event, ordinary_events};
use auditq_store::postgres::PostgresStore;
use auditq_store::{Amendment, Batch, ErrorKind, Filter, Inserted, LaravelLayout, Store, StoreReader};

pub(crate) struct InDatabase {
    store: PostgresStore,
    database: TestDatabase,
}

impl InDatabase {
    pub(crate) async fn new() -> Self {
        Self::with(|store| store).await
    }

    pub(crate) async fn partitioned() -> Self {
        Self::with(PostgresStore::partitioned_by_month).await
    }

    /// The table of an application, in the old columns.
    async fn of_laravel() -> Self {
        let database = TestDatabase::new().await;
        database.run("CREATE TABLE audit_sql_logs (id bigserial PRIMARY KEY, sql text, created_at timestamp(0))").await;
        let store = PostgresStore::new(database.open())
            .with_layout(LaravelLayout::new(std::collections::BTreeMap::new(), "UTC").unwrap());
        store.migrate().await.unwrap();
        Self { store, database }
    }

    async fn with(how: impl Fn(PostgresStore) -> PostgresStore) -> Self {
        let database = TestDatabase::new().await;
        let store = how(PostgresStore::new(database.open()));
        store.migrate().await.unwrap();
        Self { store, database }
    }
}

#[async_trait]
impl Setup for InDatabase {
    type Driver = PostgresStore;

    fn store(&self) -> &PostgresStore {
        &self.store
    }

    async fn refuse(&self, sql: &str) {
        let sql = sql.replace('\'', "''");
        let trigger = format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.sql = '{sql}' THEN RAISE EXCEPTION 'refused by a trigger'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON audit_sql_logs FOR EACH ROW EXECUTE FUNCTION refuse()"
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
    let store = PostgresStore::new(database.open());
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    let text = error.to_string();
    assert!(text.contains("lacks the columns") && text.contains("RENAME TO"), "{text}");
    database.run("ALTER TABLE audit_sql_logs RENAME TO audit_sql_logs_old").await;
    store.migrate().await.unwrap();
    assert_eq!(store.insert(batch(ordinary_events(2))).await.unwrap().stored, 2);
}

#[tokio::test]
async fn a_newer_table_is_refused() {
    let setup = InDatabase::new().await;
    setup.database.run("INSERT INTO auditq_migrations VALUES ('store 9', 0)").await;
    let error = setup.store.migrate().await.unwrap_err();
    assert!(error.to_string().contains("newer release"), "{error}");
}

#[tokio::test]
async fn a_user_without_rights_is_told_which_it_needs() {
    let setup = InDatabase::new().await;
    let user = format!("u{:08x}", fastrand::u32(..));
    let role =
        format!("CREATE ROLE {user} LOGIN PASSWORD 'secret-of-a-test'; GRANT SELECT ON audit_sql_logs TO {user}");
    setup.database.run(&role).await;
    let url = setup.database.url_of(&user, "secret-of-a-test");
    let reader =
        PostgresStore::new(auditq_postgres::Database::open(&url, auditq_postgres::Options::default()).unwrap());
    let count = reader.count().await;
    let error = reader.insert(batch(ordinary_events(1))).await.unwrap_err();
    setup.database.run(&format!("DROP OWNED BY {user}; DROP ROLE {user}")).await;
    assert_eq!(count.unwrap(), 0);
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("the user needs"), "{error}");
}

#[tokio::test]
async fn many_processes_may_migrate_at_once() {
    let database = TestDatabase::new().await;
    let migrating: Vec<_> = (0..4)
        .map(|n| {
            // A parameter of its own gives each its own connections, as processes have.
            let url = format!("{}?keepalives_idle={}", database.url(), 10 + n);
            let opened = auditq_postgres::Database::open(&url, auditq_postgres::Options::default()).unwrap();
            tokio::spawn(async move { PostgresStore::new(opened).migrate().await })
        })
        .collect();
    for migrated in migrating {
        migrated.await.unwrap().unwrap();
    }
    assert_eq!(PostgresStore::new(database.open()).count().await.unwrap(), 0);
}

/// Any command may migrate, and one that only looks must not wait for a worker that stands still while it stores.
#[tokio::test]
async fn migrating_what_is_up_to_date_waits_for_nobody() {
    for setup in [InDatabase::new().await, InDatabase::partitioned().await, InDatabase::of_laravel().await] {
        let worker = setup.database.connect().await;
        let ours = "SELECT string_agg(format('LOCK TABLE %I IN ROW EXCLUSIVE MODE', relname), '; ') FROM pg_class \
                    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace";
        let lock: String = worker.query_one(ours, &[]).await.unwrap().get(0);
        worker.batch_execute(&format!("BEGIN; {lock}")).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), setup.store.migrate()).await.unwrap().unwrap();
        worker.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn texts_of_a_megabyte_are_stored() {
    let setup = InDatabase::new().await;
    let text = "x\u{1f9fe}\u{1}\0'\\\n\u{10fffd}".repeat((1 << 20) / 14);
    let mut events = ordinary_events(70);
    for event in &mut events {
        event.statement.sql.clone_from(&text);
        event.actor.username = Some("a name\0 of two parts".to_owned());
        event.bindings = vec![Binding::Text("\u{7f}\u{202e}\0 ".to_owned())];
        event.bindings_total = 1;
    }
    assert_eq!(setup.store.insert(batch(events.clone())).await.unwrap().stored, 70);
    let filter = Filter { limit: 2, user: Some("a name\0 of two parts".to_owned()), ..Filter::default() };
    let page = setup.store.search(&filter).await.unwrap();
    assert_eq!(page.rows[0].event, events[events.len() - 1]);
}

#[tokio::test]
async fn a_connection_that_is_killed_in_the_middle_leaves_nothing_and_the_next_insert_goes_on() {
    let setup = InDatabase::new().await;
    // The insert waits for the row of its first event, which is not committed.
    let other = setup.database.open();
    let mut run = other.write("store events");
    setup.store.insert_in(run.begin().await.unwrap(), &batch(ordinary_events(1))).await.unwrap();
    let store = setup.store.clone();
    let inserting = tokio::spawn(async move { store.insert(batch(ordinary_events(10))).await });
    let client = setup.database.connect().await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while client.execute(cut, &[]).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    let error = inserting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    run.end(Ok(())).await.unwrap().unwrap();
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
    setup.store.insert(batch(vec![ordinary_event(0)])).await.unwrap();
    // A row with a lower number that is committed later.
    let other = setup.database.open();
    let mut run = other.write("store events");
    setup.store.insert_in(run.begin().await.unwrap(), &batch(vec![ordinary_event(1)])).await.unwrap();
    setup.store.insert(batch(vec![ordinary_event(2)])).await.unwrap();
    let store = setup.store.clone();
    let filter = Filter { stored_after: Some(1), ..Filter::default() };
    let following = tokio::spawn(async move { store.search(&filter).await });
    run.end(Ok(())).await.unwrap().unwrap();
    let page = following.await.unwrap().unwrap();
    assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn a_store_is_used_behind_a_transaction_that_is_rolled_back() {
    let setup = InDatabase::new().await;
    let database = setup.database.open();
    let mut run = database.write("store events");
    setup.store.insert_in(run.begin().await.unwrap(), &batch(ordinary_events(3))).await.unwrap();
    drop(run);
    assert_eq!(setup.store.insert(batch(ordinary_events(3))).await.unwrap().stored, 3);
}

fn now_us() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros().try_into().unwrap()
}

const DAY_US: i64 = 86_400_000_000;

/// Five days of each of `months` months, ending now; the first ones are older than any partition.
fn history(months: u64) -> Vec<Event> {
    let mut events = ordinary_events(months * 5);
    for (n, event) in events.iter_mut().enumerate() {
        let occurred_at = now_us() - (i64::try_from(n).unwrap() / 5) * 31 * DAY_US;
        event.occurred_at = occurred_at;
        event.event_id = auditq_event::EventId::derive(occurred_at, &event.producer_id, event.producer_seq);
    }
    events
}

#[tokio::test]
async fn a_month_is_dropped_whole_and_older_rows_one_by_one() {
    let setup = InDatabase::partitioned().await;
    let events = history(12);
    assert_eq!(setup.store.insert(batch(events.clone())).await.unwrap().stored, 60);
    assert_eq!(setup.store.insert(batch(events.clone())).await.unwrap().duplicates, 60);
    let client = setup.database.connect().await;
    let parts = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_sql_logs'::regclass";
    // The month before, this one, twelve to come, and the rest.
    assert_eq!(client.query_one(parts, &[]).await.unwrap().get::<_, i64>(0), 15);
    let in_rest: i64 = client.query_one("SELECT count(*) FROM audit_sql_logs_rest", &[]).await.unwrap().get(0);
    assert!((45..=55).contains(&in_rest), "{in_rest}");
    let month: i64 = client
        .query_one("SELECT (extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC')) * 1e6)::bigint", &[])
        .await
        .unwrap()
        .get(0);
    let kept = events.iter().filter(|event| event.occurred_at >= month).count() as u64;
    let pruned = setup.store.prune(month, 1_000).await.unwrap();
    assert_eq!((pruned.rows, pruned.finished), (60 - kept, true));
    assert_eq!(setup.store.count().await.unwrap(), kept);
    // The month before was made again, empty.
    assert_eq!(client.query_one(parts, &[]).await.unwrap().get::<_, i64>(0), 15);
}

#[tokio::test]
async fn rows_that_came_before_their_month_was_made_move_into_it() {
    let setup = InDatabase::partitioned().await;
    let client = setup.database.connect().await;
    let this_month = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_sql_logs'::regclass \
                      AND inhrelid::regclass::text = 'audit_sql_logs_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')";
    let name: String = client.query_one(this_month, &[]).await.unwrap().get(0);
    client.batch_execute(&format!("DROP TABLE {name}")).await.unwrap();
    let events = history(1);
    setup.store.insert(batch(events.clone())).await.unwrap();
    let count = async |table: &str| -> i64 {
        client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    };
    assert_eq!(count("audit_sql_logs_rest").await, 5);
    setup.store.migrate().await.unwrap();
    assert_eq!((count("audit_sql_logs_rest").await, count(&name).await), (0, 5));
    assert_eq!(setup.store.insert(batch(events)).await.unwrap().duplicates, 5);
}

#[tokio::test]
async fn a_table_that_is_there_is_not_partitioned_behind_its_owners_back() {
    let setup = InDatabase::new().await;
    let error = setup.store.clone().partitioned_by_month().migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("store.partitions"), "{error}");
    let partitioned = InDatabase::partitioned().await;
    PostgresStore::new(partitioned.database.open()).migrate().await.unwrap();
}
