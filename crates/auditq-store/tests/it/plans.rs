//! How SQLite finds what people look for: by which index, or by going through the whole log.

use std::sync::Mutex;

use auditq_event::{Operation, Status};
use auditq_sqlite::rusqlite::Connection;
use auditq_sqlite::rusqlite::trace::{TraceEvent, TraceEventCodes};
use auditq_store::conformance::{ordinary_event, ordinary_events};
use auditq_store::{Filter, StoreReader};

use crate::support::{InFile, insert};

/// More than are collected from an index for one page.
const ROWS: u64 = 25_000;

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(statement, _) = event {
        SEEN.lock().unwrap().extend(statement.expanded_sql());
    }
}

/// The plan of the inner query of a search, which chooses the rows: one line for each step.
async fn plan(setup: &InFile, filter: &Filter) -> String {
    SEEN.lock().unwrap().clear();
    let trace = |connection: &Connection| {
        connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note));
        Ok(())
    };
    setup.store.database().read("trace", trace).await.unwrap();
    setup.store.search(filter).await.unwrap();
    let seen = std::mem::take(&mut *SEEN.lock().unwrap());
    let sql = seen.into_iter().find(|sql| sql.starts_with("SELECT id")).expect("a search");
    let explain = format!("EXPLAIN QUERY PLAN {sql}");
    let lines = move |connection: &Connection| {
        connection.trace_v2(TraceEventCodes::empty(), None);
        let mut statement = connection.prepare(&explain)?;
        let lines = statement.query_map([], |row| row.get::<_, String>(3))?;
        lines.collect::<Result<Vec<_>, _>>()
    };
    setup.store.database().read("explain", lines).await.unwrap().join("\n")
}

/// The step of the plan that goes to the log for the rows: the one inside the subquery.
async fn access(setup: &InFile, filter: &Filter) -> String {
    let plan = plan(setup, filter).await;
    let steps = plan.lines().skip_while(|line| !line.starts_with("LIST SUBQUERY"));
    steps.skip(1).find(|line| line.contains("audit_sql_logs")).expect("a step that reads the log").to_owned()
}

/// One test, because the hook that listens to SQLite is one for the process.
#[tokio::test]
async fn each_filter_finds_its_rows_as_is_written_here() {
    let setup = InFile::new().await;
    insert(&setup.store, ordinary_events(ROWS)).await.unwrap();
    let event = ordinary_event(ROWS - 1_000);
    let (since, user) = (Some(event.occurred_at), Some("user-3".to_owned()));
    let base = Filter::default;
    let by_index = [
        (Filter { request_id: event.origin.request_id.clone(), ..base() }, "auditq_logs_by_request (request_id=?)"),
        (
            Filter { fingerprint: Some(event.statement.fingerprint), ..base() },
            "auditq_logs_by_fingerprint (fingerprint=?)",
        ),
        (Filter { event_id: Some(event.event_id), ..base() }, "sqlite_autoindex_audit_sql_logs_1 (event_id=?)"),
        (
            Filter { since, until: Some(event.occurred_at + 5_000), ..base() },
            "auditq_logs_by_time (occurred_at>? AND occurred_at<?)",
        ),
        (Filter { stored_after: Some(4_000), ..base() }, "INTEGER PRIMARY KEY (rowid>?)"),
        (Filter { user: user.clone(), ..base() }, "auditq_logs_by_username (username=?)"),
        (Filter { user, since, ..base() }, "auditq_logs_by_username (username=? AND occurred_at>?)"),
        (Filter { since, ..base() }, "auditq_logs_by_time (occurred_at>?)"),
        (Filter { until: Some(1_000), ..base() }, "auditq_logs_by_time (occurred_at<?)"),
        (Filter { stored_before: Some(4_000), ..base() }, "INTEGER PRIMARY KEY (rowid<?)"),
    ];
    for (filter, index) in by_index {
        let access = access(&setup, &filter).await;
        assert!(access.starts_with("SEARCH") && access.ends_with(index), "{filter:?}: {access}");
    }
    // From the newest row back until the page is full: fast where matches are common, the whole log where they are
    // rare. Kinds and tables have no index because each would cost every insert.
    let by_going_back = [
        base(),
        Filter { operation: Some(Operation::Delete), ..base() },
        Filter { status: Some(Status::Error), ..base() },
        Filter { table: Some("orders".to_owned()), ..base() },
        Filter { text: Some("orders".to_owned()), ..base() },
        Filter { since: Some(0), ..base() },
        Filter { until: since, ..base() },
    ];
    for filter in by_going_back {
        assert_eq!(access(&setup, &filter).await, "SCAN audit_sql_logs", "{filter:?}");
    }
}
