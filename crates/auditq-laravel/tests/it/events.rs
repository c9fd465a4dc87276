use auditq_event::{ActorType, Binding, Operation, OriginKind, Status, System, bindings_json};
use auditq_laravel::php::{Key, Object, Value};
use auditq_laravel::{Decoder, Field, Job};
use serde_json::{Value as Json, json};

use crate::support::{array, decoder, fixture, payload_of, payload_with, payloads, written};

fn job(data: Vec<(&str, Value<'static>)>) -> Job {
    decoder().decode(&payload_of(&array(data))).unwrap()
}

fn extra(job: &Job) -> Json {
    job.event.extra.as_deref().map_or(Json::Null, |text| serde_json::from_str(text).unwrap())
}

#[test]
fn a_job_as_laravel_writes_it_is_stored_with_everything_it_says() {
    let job = decoder().decode(&fixture("v12/db-plain.payload")).unwrap();
    let event = &job.event;
    assert_eq!(event.occurred_at, 1_715_943_845_123_000);
    assert_eq!(event.recorded_at, 1_795_433_469_000_000);
    assert_eq!(event.duration_us, 12_340);
    assert_eq!(event.statement.operation, Operation::Select);
    assert_eq!(event.bindings.len(), 17);
    assert_eq!(
        event.bindings[..3],
        [
            Binding::Int(42),
            Binding::Float("3.14".parse().unwrap()),
            Binding::Text("Zoë \"O'Brien\" \\ 日本 😀\n\t".into())
        ]
    );
    assert_eq!(
        (event.actor.username.as_deref(), event.actor.user_id.as_deref()),
        (Some("alice@example.com"), Some("17"))
    );
    assert_eq!(event.actor.actor_type, ActorType::User);
    assert_eq!((event.database.connection.as_deref(), event.database.system), (Some("mysql"), System::Mysql));
    assert_eq!((event.origin.url_path.as_deref(), event.origin.http_method.as_deref()), (Some("/users"), Some("GET")));
    assert_eq!((event.origin.kind, event.outcome.status), (OriginKind::Http, Status::Ok));
    assert_eq!(event.origin.ip.as_deref(), Some("203.0.113.9"));
    assert_eq!(
        extra(&job),
        json!({
            "url": "https://app.example.com/users?page=2&q=%C3%A9",
            "query_hash": "1447fdf5dbb81e36929ca07186414992608060964e7cc2b1d2532586a0e0c944",
            "tags": [],
            "extra": {
                "nested": {"x": 1, "5": "five", "08": "str key", "-3": "neg"},
                "empty": [], "nan": "NAN", "inf": "INF", "ninf": "-INF"
            }
        })
    );
}

#[test]
fn what_each_team_calls_the_parts_is_found() {
    let one = job(vec![
        ("query", Value::text("delete from t")),
        ("params", Value::Array(vec![])),
        ("duration", Value::text("1.5")),
        ("user", Value::text("bob")),
        ("hash", Value::text("00000000000000ff")),
        ("connectionName", Value::text("pgsql")),
        ("executed_at", Value::text("2024-05-17 11:04:05")),
    ]);
    let event = &one.event;
    assert_eq!((event.statement.sql.as_str(), event.statement.operation), ("delete from t", Operation::Delete));
    assert_eq!((event.duration_us, event.actor.username.as_deref(), event.query_hash), (1_500, Some("bob"), 255));
    assert_eq!((event.database.system, event.occurred_at), (System::Postgres, 1_715_943_845_000_000));
    assert_eq!(event.extra, None, "nothing was left over");
}

#[test]
fn names_of_the_configuration_come_first_and_reach_into_arrays() {
    let data = array(vec![
        ("sql", Value::text("-- not this")),
        ("statement", array(vec![("text", Value::text("select 1")), ("kind", Value::text("read"))])),
        ("time", Value::text("2024-05-17T11:04:05Z")),
        ("who", array(vec![("name", Value::text("eve"))])),
    ]);
    let mapping = decoder().mapping;
    let mapping = mapping
        .with_names(Field::Sql, &["statement.text".to_owned()])
        .with_names(Field::OccurredAt, &["time".to_owned()])
        .with_names(Field::Username, &["who.name".to_owned()]);
    let job = Decoder { mapping, ..decoder() }.decode(&payload_of(&data)).unwrap();
    assert_eq!((job.event.statement.sql.as_str(), job.event.occurred_at), ("select 1", 1_715_943_845_000_000));
    assert_eq!(job.event.actor.username.as_deref(), Some("eve"));
    assert_eq!(extra(&job), json!({"sql": "-- not this", "statement": {"kind": "read"}}));
}

#[test]
fn times_without_a_zone_are_the_applications() {
    let data = array(vec![("sql", Value::text("select 1")), ("executed_at", Value::text("2024-05-17 13:04:05"))]);
    let mapping = decoder().mapping.with_timezone("Europe/Berlin").unwrap();
    let job = Decoder { mapping, ..decoder() }.decode(&payload_of(&data)).unwrap();
    assert_eq!(job.event.occurred_at, 1_715_943_845_000_000);
    assert!(decoder().mapping.with_timezone("Nowhere/Town").is_none());
}

#[test]
fn data_is_found_in_any_property_and_in_the_job_itself() {
    let decode = |job: Object<'static>| decoder().decode(&payload_with("u", &written(&Value::Object(job)))).unwrap();
    let class = "App\\Jobs\\ProcessAuditLog";
    let elsewhere =
        Object::new(class).with("note", Value::text("n")).with("entry", array(vec![("sql", Value::text("select 1"))]));
    let one = decode(elsewhere);
    assert_eq!((one.event.statement.sql.as_str(), one.query_data.clone()), ("select 1", json!({"sql": "select 1"})));
    assert_eq!(extra(&one), json!({"$job": {"properties": {"note": "n"}}}));
    let by_parts = Object::new(class)
        .with("sql", Value::text("select 2"))
        .with("bindings", Value::Array(vec![(Key::Int(0), Value::Int(5))]))
        .with("tries", Value::Int(3))
        .with("queue", Value::text("audit-logs"));
    let two = decode(by_parts);
    assert_eq!(
        (two.event.bindings.as_slice(), &two.query_data),
        (&[Binding::Int(5)][..], &json!({"sql": "select 2", "bindings": [5]}))
    );
    let of_a_class = Object::new(class)
        .with("queryData", Value::Object(Object::new("App\\Query").with("sql", Value::text("select 3"))));
    assert_eq!(decode(of_a_class).event.statement.sql, "select 3");
}

#[test]
fn bindings_keep_the_types_that_php_gave_them() {
    let date = |zone: &str| {
        Object::new("Illuminate\\Support\\Carbon")
            .with("date", Value::text("2024-05-17 13:04:05.000001"))
            .with("timezone_type", Value::Int(3))
            .with("timezone", Value::text(zone))
    };
    let list = vec![
        Value::Int(1),
        Value::text("1"),
        Value::Float(1.0),
        Value::Bool(true),
        Value::Null,
        Value::Float(f64::NAN),
        Value::Object(date("Europe/Berlin")),
        Value::Enum { class: "App\\Op".into(), case: "Select".into() },
        Value::Array(vec![(Key::Int(0), Value::Int(7))]),
        Value::Object(Object::new("Illuminate\\Support\\Stringable").with("value", Value::text("abc"))),
        Value::Object(Object::new("App\\Money").with("cents", Value::Int(5))),
    ];
    let one = job(vec![
        ("sql", Value::text("select ?")),
        ("bindings", Value::Array((0..).map(Key::Int).zip(list).collect())),
    ]);
    assert_eq!(
        bindings_json(&one.event.bindings),
        "[1,\"1\",1.0,true,null,{\"type\":\"float\",\"value\":\"NaN\"},\
         {\"type\":\"datetime\",\"value\":\"2024-05-17T13:04:05.000001+02:00\"},\
         {\"type\":\"enum\",\"value\":\"App\\\\Op::Select\"},{\"type\":\"array\",\"value\":\"[7]\"},\"abc\",\
         {\"type\":\"App\\\\Money\",\"value\":\"{\\\"$class\\\":\\\"App\\\\\\\\Money\\\",\\\"cents\\\":5}\"}]"
    );
}

#[test]
fn named_bindings_are_in_the_order_of_the_statement_and_keep_their_names() {
    let one = job(vec![
        ("sql", Value::text("update users set password = :password where id = :id")),
        ("bindings", array(vec![("id", Value::Int(7)), ("password", Value::text("hunter2"))])),
    ]);
    assert!(matches!(one.event.bindings[0], Binding::Redacted { .. }), "{:?}", one.event.bindings);
    assert_eq!(one.event.bindings[1], Binding::Int(7));
    assert_eq!(extra(&one), json!({"binding_names": ["password", "id"]}));
}

#[test]
fn no_secret_gets_into_an_event() {
    let one = job(vec![
        ("sql", Value::text("select * from users where token = 'hunter2' and password = ?")),
        ("bindings", Value::Array(vec![(Key::Int(0), Value::text("hunter2"))])),
        ("error", Value::text("near 'hunter2'")),
        ("raw_sql", Value::text("select * from users where password = 'hunter2'")),
        ("url", Value::text("https://x/reset?token=hunter2&page=1")),
        ("input", array(vec![("api_key", Value::text("hunter2")), ("name", Value::text("n"))])),
        ("session_id", Value::text("hunter2")),
    ]);
    let text = format!("{:?}", one.event);
    assert!(!text.contains("hunter2"), "{text}");
    let extra = extra(&one);
    assert_eq!(extra["url"], "https://x/reset?token=[redacted]&page=1");
    assert_eq!(extra["input"], json!({"api_key": "[redacted]", "name": "n"}));
    assert_eq!(one.event.outcome.status, Status::Error);
    assert_eq!(one.event.actor.session_hash.as_ref().map(String::len), Some(32));
}

#[test]
fn a_job_has_the_same_id_however_often_and_in_whatever_spelling_it_comes() {
    let payload = fixture("v12/db-plain.payload");
    let first = decoder().decode(&payload).unwrap().event;
    // As queue:retry and Redis write it again: other escapes, another order, attempts counted.
    let mut again: Json = serde_json::from_slice(&payload).unwrap();
    again["attempts"] = 2.into();
    let second = decoder().decode(again.to_string().as_bytes()).unwrap().event;
    assert_eq!(first, second);
    assert_eq!(first.event_id.to_string(), "018f8639-2d03-7001-9522-0c391a2a1e20");
    let ids: std::collections::BTreeSet<_> = payloads()
        .iter()
        .filter_map(|(_, payload)| decoder().decode(payload).ok())
        .map(|job| job.event.event_id)
        .collect();
    assert!(ids.len() > 60, "{}", ids.len());
}

#[test]
fn without_a_uuid_the_id_follows_from_what_else_there_is() {
    let of = |fields: Json| {
        let mut payload: Json =
            serde_json::from_slice(&payload_of(&array(vec![("sql", Value::text("select 1"))]))).unwrap();
        payload["uuid"] = Json::Null;
        for (key, value) in fields.as_object().unwrap() {
            payload[key] = value.clone();
        }
        decoder().decode(payload.to_string().as_bytes()).unwrap().event.event_id
    };
    assert_eq!(of(json!({"id": "abc", "attempts": 0})), of(json!({"id": "abc", "attempts": 3})));
    assert_ne!(of(json!({"id": "abc"})), of(json!({"id": "abd"})));
    assert_eq!(of(json!({})), of(json!({"attempts": 1})));
    assert_ne!(of(json!({"uuid": "not a uuid"})), of(json!({})));
}

#[test]
fn what_cannot_be_read_as_what_it_is_for_stays_among_the_rest() {
    let one = job(vec![
        ("sql", Value::text("select 1")),
        ("time", Value::text("fast")),
        ("timestamp", Value::text("yesterday")),
        ("pid", Value::Int(-1)),
        ("user", array(vec![("roles", Value::Array(vec![(Key::Int(0), Value::text("admin"))]))])),
        ("username", Value::text("x".repeat(2000))),
    ]);
    assert_eq!((one.event.duration_us, one.event.occurred_at, one.event.database.pid), (0, 0, None));
    let extra = extra(&one);
    assert_eq!((&extra["time"], &extra["timestamp"], &extra["pid"]), (&json!("fast"), &json!("yesterday"), &json!(-1)));
    assert_eq!(extra["user"], json!({"roles": ["admin"]}));
    assert_eq!(extra["username"].as_str().map(str::len), Some(2000), "what was cut stands whole among the rest");
}

#[test]
fn extra_is_bounded_and_says_what_it_lost() {
    let one = job(vec![
        ("sql", Value::text("select 1")),
        ("small", Value::Int(1)),
        ("large", Value::text("é".repeat(100_000))),
    ]);
    let text = one.event.extra.clone().unwrap();
    assert!(text.len() < 64 * 1024);
    let extra = extra(&one);
    assert_eq!((&extra["small"], &extra["large"]["len"]), (&json!(1), &json!(200_002)));
    let many = (0..20_000).map(|number| (Key::text(format!("key {number}")), Value::Int(number)));
    let data = Value::Array(std::iter::once((Key::text("sql"), Value::text("select 1"))).chain(many).collect());
    let job = decoder().decode(&payload_of(&data)).unwrap();
    assert!(job.event.extra.unwrap().contains("$cut"));
}

#[test]
fn what_the_payload_says_beside_the_query_is_kept() {
    let hook = decoder().decode(&fixture("v12/db-payload-hook.payload")).unwrap();
    assert_eq!(extra(&hook)["$job"], json!({"payload": {"tenant": {"id": 9}}}));
    let context = decoder().decode(&fixture("v12/redis-context-reserved.payload")).unwrap();
    assert_eq!(extra(&context)["$job"], json!({"context": {"trace_id": "abc-123", "n": 5}}));
    let horizon = decoder().decode(&fixture("v12/horizon.payload")).unwrap();
    assert_eq!(extra(&horizon)["$job"]["tags"], json!(["audit", "conn:mysql"]));
    assert_eq!(
        extra(&horizon)["$job"]["properties"]["suit"],
        json!([{"$enum": "App\\Jobs\\Op::Select"}, {"$enum": "App\\Jobs\\Op::Insert"}])
    );
    assert_eq!(horizon.limits.backoff, Some(vec![1, 5, 10]));
    assert_eq!((horizon.limits.tries, horizon.limits.retry_until), (Some(5), Some(1_893_456_000)));
}
