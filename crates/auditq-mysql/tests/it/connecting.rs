//! What does not let us in, by its name and without the password.

use std::time::Duration;

use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::testing::TestDatabase;
use auditq_mysql::{Database, Error, Kind, Options, attempt};

/// The error of the first use.
async fn used(url: &str) -> Error {
    let database = Database::open(url, Options::default()).unwrap();
    let run = database.single("use it");
    attempt!(run, connection => connection.query_drop("SELECT 1").await).unwrap_err()
}

#[tokio::test]
async fn a_wrong_password_is_misconfigured_and_is_not_shown() {
    let database = TestDatabase::new().await;
    let user = format!("u{:08x}", fastrand::u32(..));
    database.as_root(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'the-right-one'")).await;
    let error = used(&database.url_of(&user, "hunter2")).await;
    database.as_root(&format!("DROP USER {user}@'%'")).await;
    assert_eq!((error.kind(), error.code()), (Kind::Misconfigured, Some(1045)));
    let text = error.to_string();
    assert!(text.contains("check the user and the password") && !text.contains("hunter2"), "{text}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_unknown_database_is_misconfigured() {
    let database = TestDatabase::new().await;
    let error = used(&format!("{}_not", database.url())).await;
    assert_eq!((error.kind(), error.code()), (Kind::Misconfigured, Some(1049)));
    assert!(error.to_string().contains("CREATE DATABASE"), "{error}");
}

#[tokio::test]
async fn a_closed_port_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = used(&format!("mysql://root:hunter2@127.0.0.1:{free}/audit")).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&format!("mysql 127.0.0.1:{free}/audit")) && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_port_where_nobody_answers_is_unavailable_in_time() {
    // It takes connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mysql://root@{}/audit", listener.local_addr().unwrap());
    let options = Options { connect_within: Duration::from_millis(200), ..Options::default() };
    let database = Database::open(&url, options).unwrap();
    let run = database.single("use it");
    let error = attempt!(run, connection => connection.query_drop("SELECT 1").await).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("no connection within"), "{error}");
}

#[tokio::test]
async fn tls_that_the_server_does_not_offer_is_misconfigured_and_never_left_out() {
    let database = TestDatabase::new().await;
    let mut connection = database.connect().await;
    let offered: Option<(String, String)> = connection.query_first("SHOW VARIABLES LIKE 'have_ssl'").await.unwrap();
    let url = format!("{}?ssl-mode=required", database.url());
    if offered.is_some_and(|(_, have)| have == "YES") {
        let encrypted = Database::open(&url, Options::default()).unwrap();
        let sql = "SHOW SESSION STATUS LIKE 'Ssl_cipher'";
        let cipher: Option<(String, String)> =
            attempt!(encrypted.single("look"), connection => connection.query_first(sql).await).unwrap();
        assert!(cipher.is_some_and(|(_, cipher)| !cipher.is_empty()));
    } else {
        assert_eq!(used(&url).await.kind(), Kind::Misconfigured);
    }
}

#[tokio::test]
async fn each_session_is_set_up_alike() {
    let guard = TestDatabase::new().await;
    let database = guard.open();
    let sql = "SELECT @@sql_mode, @@time_zone, @@character_set_client";
    let (mode, zone, charset): (String, String, String) =
        attempt!(database.single("look"), connection => connection.query_first(sql).await).unwrap().unwrap();
    assert!(mode.contains("STRICT_ALL_TABLES"), "{mode}");
    assert_eq!((zone.as_str(), charset.as_str()), ("+00:00", "utf8mb4"));
}

/// In which an application writes its times, and reads them.
#[tokio::test]
async fn a_session_is_left_in_the_servers_zone_where_the_url_says_so() {
    let guard = TestDatabase::new().await;
    let database = Database::open(&format!("{}?time-zone=server", guard.url()), Options::default()).unwrap();
    let sql = "SELECT @@time_zone, @@GLOBAL.time_zone, @@sql_mode";
    let (zone, servers, mode): (String, String, String) =
        attempt!(database.single("look"), connection => connection.query_first(sql).await).unwrap().unwrap();
    assert_eq!(zone, servers);
    assert!(mode.contains("STRICT_ALL_TABLES"), "{mode}");
}

#[tokio::test]
async fn one_url_opened_twice_is_one_database() {
    let database = TestDatabase::new().await;
    let (first, second) = (database.open(), database.open());
    assert!(first.is_same(&second));
    let other = Database::open(&format!("{}_not", database.url()), Options::default()).unwrap();
    assert!(!first.is_same(&other));
}
