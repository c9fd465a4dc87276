use auditq::{Binding, InContext};
use sqlx::AssertSqlSafe;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use crate::support::{alice, shop};

async fn recorded(
    count: usize,
    bind: impl FnOnce(Query<'_, Sqlite, SqliteArguments>) -> Query<'_, Sqlite, SqliteArguments>,
) -> Vec<Binding> {
    let shop = shop().await;
    let sql = format!("SELECT {}", vec!["?"; count].join(", "));
    bind(sqlx::query(AssertSqlSafe(sql))).fetch_all(&shop.pool).audited(alice()).await.unwrap();
    shop.event().bindings
}

/// sqlx 0.9.0 shows the values of `SqliteArguments` in its `Debug` text only. This test is what notices another form.
#[tokio::test]
async fn every_type_of_sqlite_comes_back_as_it_was_bound() {
    let bindings = recorded(10, |query| {
        query
            .bind(7_i32)
            .bind(i64::MIN)
            .bind(true)
            .bind(0.1_f64)
            .bind(-1e300_f64)
            .bind(f64::INFINITY)
            .bind("text")
            .bind(String::from("owned"))
            .bind(None::<i64>)
            .bind(Some("some"))
    });
    use Binding::{Float, Int, Null, Text};
    let text = |text: &str| Text(text.to_owned());
    assert_eq!(
        bindings.await,
        [
            Int(7),
            Int(i64::MIN),
            Int(1),
            Float(0.1),
            Float(-1e300),
            Float(f64::INFINITY),
            text("text"),
            text("owned"),
            Null,
            text("some"),
        ]
    );
}

#[tokio::test]
async fn texts_come_back_whatever_characters_they_have() {
    let texts = [
        "",
        "\"quoted\" and 'quoted'",
        "back\\slash \\u{41} \\n",
        "line\nbreak\r\ttab\0nul",
        "emoji 😀, é, e\u{301}, \u{200b}\u{feff}\u{7f}\u{1b}",
        "a, Null, Int64(5), ]) }",
    ];
    let bindings = recorded(texts.len(), |query| texts.iter().fold(query, |query, text| query.bind(*text))).await;
    let expected: Vec<_> = texts.iter().map(|text| Binding::Text((*text).to_owned())).collect();
    assert_eq!(bindings, expected);
}

#[tokio::test]
async fn of_a_blob_length_and_head_are_recorded() {
    let blob: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    let bindings = recorded(2, |query| query.bind(blob.clone()).bind(Vec::<u8>::new())).await;
    let Binding::Shortened { kind, cut, head } = &bindings[0] else { panic!("{bindings:?}") };
    assert_eq!((kind.as_str(), cut.len, head.as_slice()), ("bytes", 1_000, &blob[..head.len()]));
    assert!(!head.is_empty());
    assert!(matches!(&bindings[1], Binding::Shortened { cut, .. } if cut.len == 0), "{bindings:?}");
}

#[tokio::test]
async fn a_statement_without_bindings_has_none() {
    assert_eq!(recorded(1, |query| query.bind(1)).await.len(), 1);
    let shop = shop().await;
    sqlx::raw_sql("SELECT 1").execute(&shop.pool).audited(alice()).await.unwrap();
    assert_eq!(shop.event().bindings, []);
}
