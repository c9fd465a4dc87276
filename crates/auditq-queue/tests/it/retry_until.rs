//! What `queue retry` takes out of jobs of Laravel's, on every engine that they wait in.

use auditq_queue::conformance::Subject;
use auditq_queue::{MessageId, NewMessage, QueueName, Remainder, Selection};
use bytes::Bytes;

/// Jobs, and what they are once they were put back: only a time that has passed is gone, and no other byte is touched.
const JOBS: &[(&str, &str)] = &[
    (
        r#"{"uuid":"past","job":"a@b","retryUntil":1600000000,"data":{"retryUntil":5,"x":"\u00fc/\/"},"attempts":0}"#,
        r#"{"uuid":"past","job":"a@b","retryUntil":null,"data":{"retryUntil":5,"x":"\u00fc/\/"},"attempts":0}"#,
    ),
    (r#"{"uuid":"old","timeoutAt":1600000000,"attempts":0}"#, r#"{"uuid":"old","timeoutAt":null,"attempts":0}"#),
    (
        r#"{"uuid":"future","retryUntil":4000000000,"attempts":0}"#,
        r#"{"uuid":"future","retryUntil":4000000000,"attempts":0}"#,
    ),
    (r#"{"uuid":"none","retryUntil":null,"attempts":0}"#, r#"{"uuid":"none","retryUntil":null,"attempts":0}"#),
    (
        r#"{"uuid":"inside","data":{"retryUntil":5},"attempts":0}"#,
        r#"{"uuid":"inside","data":{"retryUntil":5},"attempts":0}"#,
    ),
    (r#"no JSON, and "retryUntil":5"#, r#"no JSON, and "retryUntil":5"#),
];

/// By the ids of some, and all the rest.
async fn retry_takes_out_a_time_that_has_passed(subject: Subject) {
    let queue = QueueName::new("audit-logs").unwrap();
    let jobs: Vec<NewMessage> = (0..)
        .zip(JOBS)
        .map(|(number, (job, _))| NewMessage {
            id: MessageId::new(format!("job {number}")),
            queue: queue.clone(),
            payload: Bytes::from_static(job.as_bytes()),
            delay: std::time::Duration::ZERO,
        })
        .collect();
    subject.queue.push(&jobs).await.unwrap();
    let held = subject.queue.reserve(std::slice::from_ref(&queue), JOBS.len()).await.unwrap();
    let held: Vec<_> = held.into_iter().map(|message| Remainder::whole(message.receipt)).collect();
    assert_eq!(held.len(), JOBS.len());
    assert_eq!(subject.queue.bury(&held, "no").await.unwrap(), []);

    let named = Selection::Ids(vec![jobs[0].id.clone(), jobs[2].id.clone()]);
    assert_eq!(subject.admin.retry(&named).await.unwrap(), 2);
    assert_eq!(subject.admin.retry(&Selection::all()).await.unwrap(), 4);
    let back = subject.queue.reserve(&[queue], JOBS.len() + 1).await.unwrap();
    assert!(back.iter().all(|message| message.attempts == 1), "{back:?}");
    let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
    let mut found: Vec<String> = back.iter().map(|message| text(&message.payload)).collect();
    let mut expected: Vec<String> = JOBS.iter().map(|(_, renewed)| (*renewed).to_owned()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

macro_rules! on {
    ($($engine:ident: $subject:path;)+) => {
        $(
            #[tokio::test]
            async fn $engine() {
                retry_takes_out_a_time_that_has_passed($subject().await).await;
            }
        )+
    };
}

on! {
    in_sqlite: crate::subjects::sqlite;
    in_sqlite_on_tables_of_laravel: crate::laravel::subject;
    in_mysql: crate::subjects::mysql;
    in_mysql_on_tables_of_laravel: crate::mysql_database::on_tables_of_laravel;
    in_postgres: crate::subjects::postgres;
    in_postgres_on_tables_of_laravel: crate::postgres_database::on_tables_of_laravel;
    in_redis_with_failed_jobs_in_sqlite: crate::parted::with_sqlite;
    in_redis_with_failed_jobs_in_mysql: crate::parted::with_mysql;
    in_redis_with_failed_jobs_in_postgres: crate::parted::with_postgres;
}
