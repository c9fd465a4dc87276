use auditq_event::{
    Actor, ActorType, Binding, Cut, Database, Event, EventId, Operation, Origin, OriginKind, Outcome, StatementText,
    Status, System, TransactionOutcome,
};

const SECOND_US: i64 = 1_000_000;
/// 2026-01-01T00:00:00Z.
const FIRST_US: i64 = 1_767_225_600 * SECOND_US;
const PRODUCER: [u8; 16] = *b"a producer of it";

/// Event number `n` of an application with 20 users and 12 statements, one event a millisecond.
#[must_use]
pub fn ordinary_event(n: u64) -> Event {
    let occurred_at = FIRST_US + i64::try_from(n).unwrap_or(0) * 1_000;
    let (statement, operation, table) = STATEMENTS[usize::try_from(n % 12).unwrap_or(0)];
    let user = mixed(n) % 20;
    Event {
        event_id: EventId::derive(occurred_at, &PRODUCER, n),
        producer_id: PRODUCER,
        producer_seq: n,
        occurred_at,
        recorded_at: occurred_at + 420,
        duration_us: 100 + mixed(n) % 900,
        statement: StatementText {
            sql: statement.to_owned(),
            fingerprint: mixed(n % 12),
            operation,
            tables: vec![table.to_owned()],
            ..StatementText::default()
        },
        bindings: vec![Binding::Int(n.cast_signed()), Binding::Text(format!("customer {}", mixed(n) % 1_500))],
        bindings_total: 2,
        query_hash: mixed(n),
        outcome: Outcome {
            status: if n % 50 == 49 { Status::Error } else { Status::Ok },
            error_code: (n % 50 == 49).then(|| "23505".to_owned()),
            error_message: (n % 50 == 49).then(|| "UNIQUE constraint failed: orders.id".to_owned()),
            rows_affected: None,
            rows_returned: Some(n % 7),
            transaction_id: Some(format!("{}", n / 5)),
            transaction_outcome: TransactionOutcome::Unknown,
        },
        actor: Actor {
            actor_type: ActorType::User,
            user_id: Some(format!("{}", 1_000 + user)),
            username: Some(format!("user-{user}")),
            session_hash: Some(format!("{:016x}", mixed(user))),
            tenant: None,
        },
        origin: Origin {
            kind: OriginKind::Http,
            request_id: Some(format!("{:016x}{:016x}", mixed(n / 5), mixed(n / 5 + 1))),
            trace_id: None,
            ip: Some("192.0.2.17".to_owned()),
            http_method: Some("GET".to_owned()),
            url_path: Some(format!("/orders/{}", n / 5)),
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0".to_owned()),
        },
        database: Database {
            connection: Some("main".to_owned()),
            system: System::Sqlite,
            name: Some("shop.db".to_owned()),
            app: Some("shop".to_owned()),
            host: Some("web-1".to_owned()),
            pid: Some(4_711),
        },
        repeat_count: 1,
        last_at: occurred_at,
        extra: None,
    }
}

/// Events `0..count` of [`ordinary_event`].
#[must_use]
pub fn ordinary_events(count: u64) -> Vec<Event> {
    (0..count).map(ordinary_event).collect()
}

const STATEMENTS: [(&str, Operation, &str); 12] = [
    ("SELECT o.id, o.status FROM orders AS o WHERE o.customer_id = ? AND o.name = ?", Operation::Select, "orders"),
    ("SELECT * FROM lineitem WHERE orderkey = ? AND comment LIKE ?", Operation::Select, "lineitem"),
    ("SELECT * FROM customer WHERE custkey = ? AND name = ?", Operation::Select, "customer"),
    ("SELECT * FROM part WHERE partkey = ? AND name = ?", Operation::Select, "part"),
    ("INSERT INTO orders (id, name) VALUES (?, ?)", Operation::Insert, "orders"),
    ("UPDATE orders SET status = 'paid' WHERE id = ? AND name = ?", Operation::Update, "orders"),
    ("DELETE FROM lineitem WHERE orderkey = ? AND comment = ?", Operation::Delete, "lineitem"),
    ("SELECT count(*) FROM nation WHERE nationkey = ? AND name = ?", Operation::Select, "nation"),
    ("SELECT * FROM supplier WHERE suppkey = ? AND name = ?", Operation::Select, "supplier"),
    ("UPDATE customer SET acctbal = acctbal - ? WHERE name = ?", Operation::Update, "customer"),
    ("INSERT INTO lineitem (orderkey, comment) VALUES (?, ?)", Operation::Insert, "lineitem"),
    ("SELECT * FROM region WHERE regionkey = ? AND name = ?", Operation::Select, "region"),
];

/// Spreads numbers over 64 bits, always the same way.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (n ^ (n >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// Events that a careless store would change: every field at an extreme, one event for each kind of strangeness.
#[must_use]
pub fn strange_events() -> Vec<Event> {
    let mut events = vec![
        filled_with("\u{1f9fe} naïve 漢字 \u{202e}rtl"),
        filled_with("NUL \0 inside, ends in NUL \0"),
        filled_with("quotes ' \" ` \\ [] , \n\r\t;--"),
        filled_with(""),
        Event::default(),
        numbers(u64::MAX, i64::MAX, u32::MAX),
        numbers(1 << 63, i64::MIN, 0),
        numbers(i64::MAX.cast_unsigned(), -1, 1),
        bindings(),
        cuts(),
    ];
    events.extend(enums());
    for (n, event) in (0_u8..).zip(&mut events) {
        event.event_id = EventId::from_bytes([n ^ 0xA5; 16]);
    }
    events
}

fn filled_with(text: &str) -> Event {
    let some = || Some(text.to_owned());
    let mut event = Event {
        statement: StatementText {
            sql: text.to_owned(),
            tables: vec![text.to_owned(), format!("{text}2")],
            ..StatementText::default()
        },
        actor: Actor { user_id: some(), username: some(), session_hash: some(), tenant: some(), ..Actor::default() },
        bindings: vec![Binding::Text(text.to_owned()), Binding::Typed(text.to_owned(), text.to_owned())],
        bindings_total: 2,
        ..Event::default()
    };
    event.outcome.error_code = some();
    event.outcome.error_message = some();
    event.outcome.transaction_id = some();
    event.origin = Origin {
        request_id: some(),
        trace_id: some(),
        ip: some(),
        http_method: some(),
        url_path: some(),
        user_agent: some(),
        ..Origin::default()
    };
    event.database = Database { connection: some(), name: some(), app: some(), host: some(), ..Database::default() };
    event.extra = some();
    event
}

fn numbers(unsigned: u64, time: i64, pid: u32) -> Event {
    let mut event = Event {
        producer_id: [0xFF; 16],
        producer_seq: unsigned,
        occurred_at: time,
        recorded_at: time,
        duration_us: unsigned,
        query_hash: unsigned,
        repeat_count: unsigned,
        last_at: time,
        ..Event::default()
    };
    event.statement.fingerprint = unsigned;
    event.outcome.rows_affected = Some(unsigned);
    event.outcome.rows_returned = Some(unsigned);
    event.database.pid = Some(pid);
    event
}

fn bindings() -> Event {
    let cut = Cut { len: u64::MAX, sha256: [0xC3; 32] };
    let bindings = vec![
        Binding::Null,
        Binding::Bool(true),
        Binding::Bool(false),
        Binding::Int(i64::MIN),
        Binding::Int(i64::MAX),
        Binding::Uint(u64::MAX),
        Binding::Uint(1 << 63),
        Binding::Float(0.1),
        Binding::Float(-0.0),
        Binding::Float(f64::MIN_POSITIVE),
        Binding::Float(f64::MAX),
        Binding::Float(f64::INFINITY),
        Binding::Float(f64::NEG_INFINITY),
        Binding::Float(f64::NAN),
        Binding::Text(String::new()),
        Binding::Text("1".to_owned()),
        Binding::Text("\0\u{1f9fe}".to_owned()),
        Binding::InvalidText(vec![b'a', 0xFF, 0xFE, 0]),
        Binding::Typed("numeric".to_owned(), "12345678901234567890.10".to_owned()),
        Binding::Shortened { kind: "text".to_owned(), cut: cut.clone(), head: "head é".into() },
        Binding::Shortened { kind: "bytes".to_owned(), cut, head: vec![0, 0xFF, 0x80] },
        Binding::Redacted { kind: "text".to_owned(), hmac: [0x5A; 16] },
    ];
    let bindings_total = u32::try_from(bindings.len()).unwrap_or(u32::MAX);
    Event { bindings, bindings_total, ..Event::default() }
}

fn cuts() -> Event {
    let mut event = Event { bindings_total: u32::MAX, bindings: vec![Binding::Int(1)], ..Event::default() };
    event.statement.cut = Some(Cut { len: u64::MAX, sha256: [0x3C; 32] });
    event.statement.invalid_utf8 = true;
    event
}

/// Each value of each enum at least once.
fn enums() -> Vec<Event> {
    (0..Operation::ALL.len())
        .map(|n| {
            let mut event = Event::default();
            event.statement.operation = Operation::ALL[n];
            event.outcome.status = Status::ALL[n % Status::ALL.len()];
            event.outcome.transaction_outcome = TransactionOutcome::ALL[n % TransactionOutcome::ALL.len()];
            event.actor.actor_type = ActorType::ALL[n % ActorType::ALL.len()];
            event.origin.kind = OriginKind::ALL[n % OriginKind::ALL.len()];
            event.database.system = System::ALL[n % System::ALL.len()];
            event
        })
        .collect()
}
