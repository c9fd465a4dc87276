//! What one audited SQL statement is: types, versioned encoding, query hash and fingerprint, limits, redaction.
//!
//! Nothing here does I/O.

mod binding;
mod bindings;
mod context;
mod decode;
mod dialect;
mod encode;
mod escape;
mod event;
mod fields;
mod id;
mod json;
mod label;
mod lexer;
mod limits;
mod literals;
mod message;
mod names;
mod normalise;
mod placeholders;
mod places;
mod record;
mod redact;
mod route;
mod segments;
mod statement;
mod tables;
mod verb;
mod wire;

pub use binding::{Binding, Value};
pub use bindings::{encode_bindings, query_hash};
pub use context::{encode_actor, encode_database, encode_origin};
pub use encode::Occurrence;
pub use event::{
    Actor, ActorType, Cut, Database, Event, Operation, Origin, OriginKind, Outcome, StatementText, Status, System,
    TransactionOutcome,
};
pub use id::{EventId, ParseEventIdError};
pub use json::{JsonError, Truncated, bindings_json, parse_bindings_json, parse_truncated_json, truncated_json};
pub use label::ProducerLabel;
pub use limits::{Limits, cut_at_char_boundary};
pub use message::{MAX_MESSAGE_BYTES, MAX_MESSAGE_RECORDS, Message, MessageError, is_auditq};
pub use normalise::normalise;
pub use record::{Gap, Record, Target};
pub use redact::{BindingPolicy, DEFAULT_NAMES, Literals, Redaction};
pub use route::{Route, encode_route, route_of};
pub use statement::{Statement, fingerprint};
pub use verb::TransactionVerb;
pub use wire::DecodeError;
