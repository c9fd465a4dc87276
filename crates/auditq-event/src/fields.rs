//! The numbers of the wire format. A number is never given to another field; new ones are only added.

/// First byte of every record.
pub(crate) const FORMAT_VERSION: u8 = 1;

/// Second byte of a record.
pub(crate) mod kind {
    pub(crate) const EVENT: u8 = 1;
    pub(crate) const REPEAT: u8 = 2;
    pub(crate) const OUTCOME: u8 = 3;
    pub(crate) const GAP: u8 = 4;
    /// Another record, behind where it goes.
    pub(crate) const ROUTED: u8 = 5;
}

pub(crate) mod event {
    pub(crate) const OCCURRED_AT: u64 = 1;
    pub(crate) const RECORDED_AT: u64 = 2;
    pub(crate) const DURATION_US: u64 = 3;
    pub(crate) const QUERY_HASH: u64 = 4;
    pub(crate) const STATEMENT: u64 = 5;
    pub(crate) const BINDINGS: u64 = 6;
    pub(crate) const STATUS: u64 = 7;
    pub(crate) const ERROR_CODE: u64 = 8;
    pub(crate) const ERROR_MESSAGE: u64 = 9;
    pub(crate) const ROWS_AFFECTED: u64 = 10;
    pub(crate) const ROWS_RETURNED: u64 = 11;
    pub(crate) const TRANSACTION_ID: u64 = 12;
    pub(crate) const TRANSACTION_OUTCOME: u64 = 13;
    pub(crate) const ACTOR: u64 = 14;
    pub(crate) const ORIGIN: u64 = 15;
    pub(crate) const DATABASE: u64 = 16;
    pub(crate) const REPEAT_COUNT: u64 = 17;
    pub(crate) const LAST_AT: u64 = 18;
    pub(crate) const EXTRA: u64 = 19;
}

pub(crate) mod statement {
    pub(crate) const SQL: u64 = 1;
    pub(crate) const CUT: u64 = 2;
    pub(crate) const INVALID_UTF8: u64 = 3;
    pub(crate) const FINGERPRINT: u64 = 4;
    pub(crate) const OPERATION: u64 = 5;
    pub(crate) const TABLES: u64 = 6;
}

pub(crate) mod actor {
    pub(crate) const TYPE: u64 = 1;
    pub(crate) const USER_ID: u64 = 2;
    pub(crate) const USERNAME: u64 = 3;
    pub(crate) const SESSION_HASH: u64 = 4;
    pub(crate) const TENANT: u64 = 5;
}

pub(crate) mod origin {
    pub(crate) const KIND: u64 = 1;
    pub(crate) const REQUEST_ID: u64 = 2;
    pub(crate) const TRACE_ID: u64 = 3;
    pub(crate) const IP: u64 = 4;
    pub(crate) const HTTP_METHOD: u64 = 5;
    pub(crate) const URL_PATH: u64 = 6;
    pub(crate) const USER_AGENT: u64 = 7;
}

pub(crate) mod database {
    pub(crate) const CONNECTION: u64 = 1;
    pub(crate) const SYSTEM: u64 = 2;
    pub(crate) const NAME: u64 = 3;
    pub(crate) const APP: u64 = 4;
    pub(crate) const HOST: u64 = 5;
    pub(crate) const PID: u64 = 6;
}

pub(crate) mod repeat {
    pub(crate) const TARGET: u64 = 1;
    pub(crate) const COUNT: u64 = 2;
    pub(crate) const LAST_AT: u64 = 3;
}

pub(crate) mod outcome {
    pub(crate) const OUTCOME: u64 = 1;
    pub(crate) const TARGETS: u64 = 2;
}

pub(crate) mod gap {
    pub(crate) const FIRST_AT: u64 = 1;
    pub(crate) const LAST_AT: u64 = 2;
    pub(crate) const LOST: u64 = 3;
    pub(crate) const REASON: u64 = 4;
}

pub(crate) mod label {
    pub(crate) const PRODUCER_ID: u64 = 1;
    pub(crate) const APP: u64 = 2;
    pub(crate) const HOST: u64 = 3;
    pub(crate) const PID: u64 = 4;
}

/// First byte of each binding.
pub(crate) mod binding {
    pub(crate) const NULL: u8 = 0;
    pub(crate) const FALSE: u8 = 1;
    pub(crate) const TRUE: u8 = 2;
    pub(crate) const INT: u8 = 3;
    pub(crate) const UINT: u8 = 4;
    pub(crate) const FLOAT: u8 = 5;
    pub(crate) const TEXT: u8 = 6;
    pub(crate) const INVALID_TEXT: u8 = 7;
    pub(crate) const TYPED: u8 = 8;
    pub(crate) const SHORTENED: u8 = 9;
    pub(crate) const REDACTED: u8 = 10;
    /// Not a binding: how many there were, when not all of them follow. Stands last.
    pub(crate) const TOTAL: u8 = 15;
}

/// More bindings than any driver can send.
pub(crate) const MAX_BINDINGS: usize = 65_536;
/// As many tables as a statement is searched for.
pub(crate) const MAX_TABLES: usize = 64;
