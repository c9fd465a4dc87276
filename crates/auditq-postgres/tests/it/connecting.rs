//! What does not let us in, by its name and without the password.

use std::time::Duration;

use auditq_postgres::testing::TestDatabase;
use auditq_postgres::{Database, Error, Kind, Options, attempt};

/// The error of the first use.
async fn used(url: &str) -> Error {
    let database = Database::open(url, Options::default()).unwrap();
    attempt!(database.single("use it"), connection => connection.batch_execute("SELECT 1").await.map_err(Into::into))
        .unwrap_err()
}

#[tokio::test]
async fn an_unknown_database_is_misconfigured() {
    let database = TestDatabase::new().await;
    let error = used(&format!("{}_not", database.url())).await;
    assert_eq!((error.kind(), error.code()), (Kind::Misconfigured, Some("3D000")));
    assert!(error.to_string().contains("CREATE DATABASE"), "{error}");
}

#[tokio::test]
async fn an_unknown_user_is_misconfigured() {
    let database = TestDatabase::new().await;
    let error = used(&database.url_of("nobody_at_all", "hunter2")).await;
    assert_eq!(error.kind(), Kind::Misconfigured);
    let text = format!("{error} {error:?}");
    assert!(text.contains("check the user and the password") && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_closed_port_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = used(&format!("postgres://root:hunter2@127.0.0.1:{free}/audit")).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&format!("postgres 127.0.0.1:{free}/audit")) && !text.contains("hunter2"), "{text}");
    assert!(text.contains("start the server"), "{text}");
}

#[tokio::test]
async fn a_port_where_nobody_answers_is_unavailable_in_time() {
    // It takes connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://root@{}/audit", listener.local_addr().unwrap());
    let options = Options { connect_within: Duration::from_millis(200), ..Options::default() };
    let database = Database::open(&url, options).unwrap();
    let run = database.single("use it");
    let error =
        attempt!(run, connection => connection.batch_execute("SELECT 1").await.map_err(Into::into)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("no connection within"), "{error}");
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let database = TestDatabase::new().await;
    let name = format!("{}_ascii", database.name());
    database.as_root(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")).await;
    let error = used(&format!("{}_ascii", database.url())).await;
    database.as_root(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("SQL_ASCII"), "{error}");
}

#[tokio::test]
async fn one_url_opened_twice_is_one_database() {
    let database = TestDatabase::new().await;
    let (first, second) = (database.open(), database.open());
    assert!(first.is_same(&second));
    let other = Database::open(&format!("{}_not", database.url()), Options::default()).unwrap();
    assert!(!first.is_same(&other));
}

#[tokio::test]
async fn a_notification_is_heard_and_one_may_do_without() {
    let database = TestDatabase::new().await;
    let listener = database.open().listen("auditq_test").unwrap();
    let mut heard = listener.heard();
    let notify_until_heard = async |heard: &mut tokio::sync::watch::Receiver<u64>| {
        while !heard.has_changed().unwrap() {
            database.run("NOTIFY auditq_test").await;
        }
        heard.borrow_and_update();
    };
    notify_until_heard(&mut heard).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    database.run(cut).await;
    // It listens again by itself.
    notify_until_heard(&mut heard).await;
    let off = Database::open(&format!("{}?listen=off", database.url()), Options::default()).unwrap();
    assert!(off.listen("auditq_test").is_none());
}
