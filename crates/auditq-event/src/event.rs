use crate::binding::Binding;
use crate::id::EventId;

/// One audited execution of one statement: everything a row of `audit_sql_logs` says.
///
/// Times are UTC microseconds since the Unix epoch. Texts are within the [`Limits`](crate::Limits) they were recorded
/// under; secrets were taken out before the event first touched a disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Derived from `occurred_at`, producer and sequence number, so that reading a spool twice gives the same id.
    pub event_id: EventId,
    /// The process that recorded it: 128 random bits, drawn once a process.
    pub producer_id: [u8; 16],
    /// Gap-free within a producer: a hole proves a loss.
    pub producer_seq: u64,
    /// When the statement began.
    pub occurred_at: i64,
    /// When it was recorded: after it ended.
    pub recorded_at: i64,
    /// How long the statement took, in microseconds.
    pub duration_us: u64,
    /// What the statement is and what it touched.
    pub statement: StatementText,
    /// Its bindings in order, as recorded: typed, cut, redacted.
    pub bindings: Vec<Binding>,
    /// How many bindings there were; more than `bindings.len()` when the rest was over the limit.
    pub bindings_total: u32,
    /// Identity of this statement with these bindings for this user; what deduplication compares.
    pub query_hash: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Who it ran for.
    pub actor: Actor,
    /// Which request or job it belongs to.
    pub origin: Origin,
    /// Which database it ran on.
    pub database: Database,
    /// How often the same statement was asked in this context; at least 1.
    pub repeat_count: u64,
    /// When it was last asked; equals `occurred_at` when it was asked once.
    pub last_at: i64,
    /// What else the application said of it, a JSON object; secrets out. Only events of other recorders have it.
    pub extra: Option<String>,
}

/// A statement's text and what was read out of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatementText {
    /// The SQL as recorded: cut at the limit, secrets out, invalid UTF-8 written as `\xHH`.
    pub sql: String,
    /// Present when `sql` is not the whole or not the exact text.
    pub cut: Option<Cut>,
    /// True when the text held bytes that are not UTF-8; they stand in `sql` as `\xHH`.
    pub invalid_utf8: bool,
    /// Identity of the statement's shape, literals and bindings taken out; what statistics group by.
    pub fingerprint: u64,
    /// What kind of statement it is.
    pub operation: Operation,
    /// Tables named in it, lower-cased unless quoted, sorted, without duplicates.
    pub tables: Vec<String>,
}

/// What is left of a text that was over its limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Length of the whole in bytes.
    pub len: u64,
    /// SHA-256 of the whole.
    pub sha256: [u8; 32],
}

/// How a statement ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Ok, error or cancelled.
    pub status: Status,
    /// The database's own code, such as `23505` or `1`.
    pub error_code: Option<String>,
    /// The database's message, within its limit and with secrets out.
    pub error_message: Option<String>,
    /// Rows inserted, updated or deleted, where the driver says.
    pub rows_affected: Option<u64>,
    /// Rows the caller received.
    pub rows_returned: Option<u64>,
    /// Identity of the transaction, unique within the producer.
    pub transaction_id: Option<String>,
    /// What became of the transaction.
    pub transaction_outcome: TransactionOutcome,
}

/// Who a statement ran for, as known when it ran; never looked up later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// What kind of actor it is.
    pub actor_type: ActorType,
    /// The application's id of the user.
    pub user_id: Option<String>,
    /// The name people know the user by.
    pub username: Option<String>,
    /// Keyed hash of the session id; never the id itself.
    pub session_hash: Option<String>,
    /// The tenant, in applications that have several.
    pub tenant: Option<String>,
}

/// Where a statement came from: the request, command or job it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Request, command or job.
    pub kind: OriginKind,
    /// The id that ties the statements of one request together.
    pub request_id: Option<String>,
    /// W3C trace id.
    pub trace_id: Option<String>,
    /// The client's address.
    pub ip: Option<String>,
    /// Such as `GET`.
    pub http_method: Option<String>,
    /// Path without the query string.
    pub url_path: Option<String>,
    /// Within its limit.
    pub user_agent: Option<String>,
}

/// Which database a statement ran on, and in which process it was issued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// The application's name of the connection or pool.
    pub connection: Option<String>,
    /// Which engine.
    pub system: System,
    /// The database's name, or the file's.
    pub name: Option<String>,
    /// The application.
    pub app: Option<String>,
    /// The host the application runs on.
    pub host: Option<String>,
    /// The application's process id.
    pub pid: Option<u32>,
}

/// Declares an enum with the text it has in the audit table and the number it has on the wire.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every value, in wire order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text that stands in the audit table.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The number that stands in the encoding.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code),+ }
            }

            /// The value of a number; `None` for one that this release does not know.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// The value of a text as it stands in the audit table.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

wire_enum! {
    /// What kind of statement it is.
    Operation {
        /// Not recognised.
        #[default]
        Other = 0 "other",
        /// Reads rows.
        Select = 1 "select",
        /// Adds rows.
        Insert = 2 "insert",
        /// Changes rows.
        Update = 3 "update",
        /// Removes rows.
        Delete = 4 "delete",
        /// `MERGE`.
        Merge = 5 "merge",
        /// `REPLACE`, or an upsert spelled so.
        Replace = 6 "replace",
        /// Changes the schema or its permissions: create, alter, drop, truncate, grant, revoke, rename.
        Ddl = 7 "ddl",
        /// Begins, ends or marks a transaction.
        Transaction = 8 "transaction",
        /// `CALL`, `DO`, `EXECUTE`.
        Call = 9 "call",
        /// `SET`, `PRAGMA`, `SHOW`, `USE`, `RESET`.
        Session = 10 "session",
        /// `COPY`, `LOAD DATA`.
        Copy = 11 "copy",
        /// `ANALYZE`, `VACUUM` and others that look after the database. `EXPLAIN` counts as what it explains.
        Maintenance = 12 "maintenance",
        /// Not a statement: events that were lost, and how many.
        Gap = 13 "gap",
    }
}

wire_enum! {
    /// How a statement ended.
    Status {
        /// It ran to its end.
        #[default]
        Ok = 0 "ok",
        /// The database or driver refused it.
        Error = 1 "error",
        /// The caller gave it up: a dropped future, a half-read stream.
        Cancelled = 2 "cancelled",
    }
}

wire_enum! {
    /// What became of the transaction a statement ran in.
    TransactionOutcome {
        /// Not known: still open when last heard of, or the process died.
        #[default]
        Unknown = 0 "unknown",
        /// No transaction: the statement stands for itself.
        Autocommit = 1 "autocommit",
        /// Committed.
        Committed = 2 "committed",
        /// Rolled back, by the application or by the database.
        RolledBack = 3 "rolled back",
    }
}

wire_enum! {
    /// What kind of actor a statement ran for.
    ActorType {
        /// Nobody was signed in.
        #[default]
        Anonymous = 0 "anonymous",
        /// A signed-in person.
        User = 1 "user",
        /// A background job.
        Job = 2 "job",
        /// The application itself.
        System = 3 "system",
    }
}

wire_enum! {
    /// Where a statement came from.
    OriginKind {
        /// Not said.
        #[default]
        Unknown = 0 "unknown",
        /// An HTTP request.
        Http = 1 "http",
        /// A command line.
        Cli = 2 "cli",
        /// A queued or scheduled job.
        Job = 3 "job",
    }
}

wire_enum! {
    /// Which database engine.
    System {
        /// Not said.
        #[default]
        Other = 0 "other",
        /// SQLite.
        Sqlite = 1 "sqlite",
        /// PostgreSQL.
        Postgres = 2 "postgresql",
        /// MySQL.
        Mysql = 3 "mysql",
        /// MariaDB.
        Mariadb = 4 "mariadb",
    }
}
