use auditq_event::{
    Actor, ActorType, Binding, Cut, Database, Event, EventId, Limits, Operation, Origin, OriginKind, Outcome,
    Redaction, Statement, StatementText, Status, System, TransactionOutcome,
};

pub(crate) const PRODUCER: [u8; 16] = *b"producer-of-test";
pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) fn redaction() -> Redaction {
    Redaction::new(KEY)
}

pub(crate) fn analyse(sql: &str, system: System) -> Statement {
    Statement::analyse(sql.as_bytes(), system, &redaction(), &Limits::default())
}

pub(crate) fn sqlite(sql: &str) -> Statement {
    analyse(sql, System::Sqlite)
}

/// Places of the sensitive bindings among the first 20.
pub(crate) fn sensitive(statement: &Statement) -> Vec<usize> {
    (0..20).filter(|index| statement.is_sensitive(*index)).collect()
}

/// An event with a value in every field.
pub(crate) fn full_event() -> Event {
    let text = |text: &str| Some(text.to_owned());
    let cut = Cut { len: 70_000, sha256: [0xAB; 32] };
    Event {
        event_id: EventId::derive(1_700_000_000_123_456, &PRODUCER, 42),
        producer_id: PRODUCER,
        producer_seq: 42,
        occurred_at: 1_700_000_000_123_456,
        recorded_at: 1_700_000_000_125_000,
        duration_us: 1_544,
        statement: StatementText {
            sql: "UPDATE \"Größe\" SET a = ? -- 😀\0".to_owned(),
            cut: Some(cut.clone()),
            invalid_utf8: true,
            fingerprint: u64::MAX,
            operation: Operation::Update,
            tables: vec!["Größe".to_owned(), "public.users".to_owned()],
        },
        bindings: vec![
            Binding::Null,
            Binding::Bool(true),
            Binding::Bool(false),
            Binding::Int(i64::MIN),
            Binding::Int(i64::MAX),
            Binding::Uint(u64::MAX),
            Binding::Float(-0.1),
            Binding::Text("{\"type\":\"bytes\"}\n😀\0".to_owned()),
            Binding::InvalidText(vec![b'a', 0xFF]),
            Binding::Typed("numeric".to_owned(), "1.50".to_owned()),
            Binding::Shortened { kind: "bytes".to_owned(), cut: cut.clone(), head: vec![0, 1, 0xFF] },
            Binding::Shortened { kind: "text".to_owned(), cut: cut.clone(), head: "é".into() },
            Binding::Shortened { kind: "text".to_owned(), cut, head: vec![0xFF] },
            Binding::Redacted { kind: "text".to_owned(), hmac: [9; 16] },
        ],
        bindings_total: 300,
        query_hash: 0x0123_4567_89AB_CDEF,
        outcome: Outcome {
            status: Status::Error,
            error_code: text("23505"),
            error_message: text("duplicate key"),
            rows_affected: Some(u64::MAX),
            rows_returned: Some(0),
            transaction_id: text("tx-7"),
            transaction_outcome: TransactionOutcome::RolledBack,
        },
        actor: Actor {
            actor_type: ActorType::User,
            user_id: text("17"),
            username: text("alice"),
            session_hash: text("00ff"),
            tenant: text("acme"),
        },
        origin: Origin {
            kind: OriginKind::Http,
            request_id: text("req-1"),
            trace_id: text("4bf92f3577b34da6a3ce929d0e0e4736"),
            ip: text("2001:db8::1"),
            http_method: text("GET"),
            url_path: text("/orders/7"),
            user_agent: text("curl/8"),
        },
        database: Database {
            connection: text("main"),
            system: System::Postgres,
            name: text("shop"),
            app: text("shop-web"),
            host: text("web-1"),
            pid: Some(4711),
        },
        repeat_count: 3,
        last_at: 1_700_000_000_999_999,
        extra: None,
    }
}
