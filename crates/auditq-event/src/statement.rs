use std::fmt;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::dialect::Dialect;
use crate::encode::encode_statement;
use crate::escape::escaped;
use crate::event::{Cut, Operation, StatementText, System};
use crate::lexer::{Token, TokenKind, tokens};
use crate::limits::{Limits, cut_at_char_boundary};
use crate::literals::{RedactedLiterals, Secrets};
use crate::normalise::shape;
use crate::placeholders::{BindingSet, bindings_where};
use crate::places::secret_places;
use crate::redact::{BindingPolicy, Redaction, hex};
use crate::segments::Segments;
use crate::tables::tables;
use crate::verb::{TransactionVerb, Verb};

/// As much of a text as is read. What comes after is recorded as a keyed hash, and every binding counts as a secret.
const MAX_READ: usize = 4 * 1024 * 1024;

/// What is known of one SQL text: worked out once, then copied into each of its events.
#[derive(Clone)]
pub struct Statement {
    encoded: Box<[u8]>,
    fingerprint: u64,
    hash: u64,
    operation: Operation,
    transaction: Option<TransactionVerb>,
    sensitive: Sensitive,
    secrets: Secrets,
}

#[derive(Clone, Debug)]
enum Sensitive {
    All,
    Some(BindingSet),
}

impl Statement {
    /// Reads a statement: its shape, operation, tables, and where its secrets are.
    ///
    /// Takes time and memory in proportion to the text and never fails: what is not SQL is recorded as it stands, with
    /// operation `other`. Of more than 4 MiB the rest is recorded as a keyed hash.
    #[must_use]
    pub fn analyse(sql: &[u8], system: System, redaction: &Redaction, limits: &Limits) -> Self {
        let (read, unread) = sql.split_at(sql.len().min(MAX_READ));
        let dialect = Dialect::from(system);
        let mut tokens = tokens(read, dialect);
        let verb = Verb::find(read, &tokens);
        let places = secret_places(read, &tokens, &verb, redaction.names());
        let mut literals = RedactedLiterals::find(read, &tokens, dialect, &verb, &places, redaction);

        let mut recorded = literals.replace_in(read);
        if !unread.is_empty() {
            literals.secrets.give_up();
            let hmac = hex(&redaction.hmac_of_value(unread));
            recorded.to_mut().extend_from_slice(format!(" /* [{} bytes: {hmac}] */", unread.len()).as_bytes());
        }
        for literal in literals.iter() {
            // A quoted name that may be a secret counts as a literal everywhere.
            tokens[literal.token].kind = TokenKind::Text;
        }
        let fingerprint = fingerprint_of(read, &tokens);
        let text = StatementText {
            fingerprint,
            operation: verb.operation,
            tables: tables(read, &tokens, &verb, dialect, limits),
            ..recorded_text(sql, &recorded, limits)
        };
        Self {
            encoded: encode_statement(&text).into(),
            fingerprint,
            hash: hash_of(&literals, read, &tokens, unread, redaction),
            operation: verb.operation,
            transaction: verb.transaction,
            sensitive: if unread.is_empty() && redaction.bindings() == BindingPolicy::Keep {
                Sensitive::Some(sensitive_bindings(read, &tokens, dialect, &places, redaction))
            } else {
                Sensitive::All
            },
            secrets: literals.secrets,
        }
    }

    /// The statement's fields as they stand in each of its events.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Identity of the statement's shape, literals and bindings taken out.
    ///
    /// XXH3-64 with seed 0 over `"v1\0"` and the text of [`normalise`](crate::normalise()).
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Identity of the statement with its literals, whatever its comments and layout: what
    /// [`query_hash`](crate::query_hash) begins with. Secret literals count as their keyed hash.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// What kind of statement it is.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// What it does to the transaction of its connection, if that is what it is for.
    #[must_use]
    pub const fn transaction_verb(&self) -> Option<TransactionVerb> {
        self.transaction
    }

    /// Tells whether the binding at `index`, from 0, is a secret.
    #[must_use]
    pub fn is_sensitive(&self, index: usize) -> bool {
        match &self.sensitive {
            Sensitive::All => true,
            Sensitive::Some(set) => set.contains(index),
        }
    }

    /// Gives the statement's fields for an [`Event`](crate::Event).
    #[must_use]
    pub fn text(&self) -> StatementText {
        StatementText::decode_field(&self.encoded)
    }

    /// The literals that were taken out; `None` when they are too many to be remembered.
    pub(crate) fn secrets(&self) -> Option<&[Box<[u8]>]> {
        self.secrets.all()
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("text", &self.text())
            .field("hash", &self.hash)
            .field("transaction", &self.transaction)
            .field("sensitive", &self.sensitive)
            .finish_non_exhaustive()
    }
}

/// Identity of a statement's shape, without the rest of the analysis.
#[must_use]
pub fn fingerprint(sql: &[u8], system: System) -> u64 {
    let read = &sql[..sql.len().min(MAX_READ)];
    fingerprint_of(read, &tokens(read, Dialect::from(system)))
}

fn fingerprint_of(sql: &[u8], tokens: &[Token]) -> u64 {
    xxh3_64(&[b"v1\0", shape(sql, tokens).as_slice()].concat())
}

/// XXH3-64 with seed 0 over `"s1\0"` and each token, words lower-cased, with a zero byte after it.
fn hash_of(literals: &RedactedLiterals, sql: &[u8], tokens: &[Token], unread: &[u8], redaction: &Redaction) -> u64 {
    let mut source = Vec::with_capacity(sql.len() + tokens.len() + 3);
    source.extend_from_slice(b"s1\0");
    let mut redacted = literals.iter().peekable();
    for (at, token) in tokens.iter().enumerate() {
        let start = source.len();
        match redacted.next_if(|literal| literal.token == at) {
            Some(literal) => source.extend_from_slice(&literal.hmac),
            None => source.extend_from_slice(token.text(sql)),
        }
        if token.kind == TokenKind::Word {
            source[start..].make_ascii_lowercase();
        }
        source.push(0);
    }
    if !unread.is_empty() {
        source.extend_from_slice(&redaction.hmac_of_value(unread));
    }
    xxh3_64(&source)
}

fn sensitive_bindings(
    sql: &[u8],
    tokens: &[Token],
    dialect: Dialect,
    places: &Segments,
    redaction: &Redaction,
) -> BindingSet {
    bindings_where(sql, tokens, dialect, |at| places.is_secret(at) || redaction.names().matches(tokens[at].text(sql)))
}

/// The text as it is recorded, and what it was when that is less.
fn recorded_text(sql: &[u8], recorded: &[u8], limits: &Limits) -> StatementText {
    let text = escaped(recorded);
    let kept = cut_at_char_boundary(&text, limits.sql_bytes);
    let exact = kept.len() == text.len() && recorded == sql;
    let cut = || Cut { len: sql.len() as u64, sha256: Sha256::digest(recorded).into() };
    StatementText {
        cut: (!exact).then(cut),
        invalid_utf8: str::from_utf8(sql).is_err(),
        sql: kept.to_owned(),
        ..StatementText::default()
    }
}
