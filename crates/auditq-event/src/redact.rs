use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::binding::Value;
use crate::names::SensitiveNames;
use crate::statement::Statement;

/// Names of columns and parameters whose values are secrets, as long as the application says nothing else.
///
/// A name matches where its words stand in a row in another name's words: `api_key` in `apiKeyHash`.
pub const DEFAULT_NAMES: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "api_key",
    "apikey",
    "access_key",
    "accesskey",
    "private_key",
    "privatekey",
    "signing_key",
    "encryption_key",
    "authorization",
    "credential",
    "credentials",
    "cvv",
    "cvv2",
    "cvc",
    "pin",
    "otp",
    "totp",
    "ssn",
    "card_number",
    "cardnumber",
    "credit_card",
    "creditcard",
];

/// Which literals in the SQL text are taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Literals {
    /// Those that stand at a sensitive place.
    #[default]
    Sensitive,
    /// Every one.
    All,
    /// None.
    None,
}

/// Which bindings are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindingPolicy {
    /// All but the sensitive ones.
    #[default]
    Keep,
    /// None: each is recorded as its keyed hash.
    RedactAll,
}

/// What counts as a secret, and the key under which secrets are hashed.
///
/// Secrets are found by the name of the column, parameter or function that they stand with in the SQL. Out of reach:
/// an `INSERT` without a column list, keys inside JSON, and what a name does not give away.
#[derive(Clone)]
pub struct Redaction {
    names: SensitiveNames,
    literals: Literals,
    bindings: BindingPolicy,
    hmac: Hmac<Sha256>,
}

impl Redaction {
    /// Redacts what has one of the [`DEFAULT_NAMES`], under a key that only the application knows.
    ///
    /// Under the same key the same secret has the same hash, so that rows can be compared; without the key nobody can
    /// try out secrets.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            names: SensitiveNames::new(DEFAULT_NAMES),
            literals: Literals::default(),
            bindings: BindingPolicy::default(),
            hmac: keyed(&key),
        }
    }

    /// Takes these names in place of the default ones.
    #[must_use]
    pub fn with_names<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names = SensitiveNames::new(names);
        self
    }

    /// Takes these names too.
    #[must_use]
    pub fn with_more_names<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names.extend(names);
        self
    }

    /// Says which literals are taken out of the SQL.
    #[must_use]
    pub const fn with_literals(mut self, literals: Literals) -> Self {
        self.literals = literals;
        self
    }

    /// Says which bindings are recorded.
    #[must_use]
    pub const fn with_bindings(mut self, bindings: BindingPolicy) -> Self {
        self.bindings = bindings;
        self
    }

    /// Which literals are taken out.
    #[must_use]
    pub const fn literals(&self) -> Literals {
        self.literals
    }

    /// Which bindings are recorded.
    #[must_use]
    pub const fn bindings(&self) -> BindingPolicy {
        self.bindings
    }

    /// Tells whether a column or parameter of this name holds secrets.
    #[must_use]
    pub fn is_sensitive(&self, name: &str) -> bool {
        self.names.matches(name.as_bytes())
    }

    pub(crate) const fn names(&self) -> &SensitiveNames {
        &self.names
    }

    /// The keyed hash that a session is known by: 32 hexadecimal digits, never the id itself.
    #[must_use]
    pub fn session_hash(&self, session_id: &str) -> String {
        hex(&self.tagged(b"auditq session v1\0", session_id.as_bytes()))
    }

    /// The keyed hash of a secret; the same whether it came as a binding or as a literal.
    pub(crate) fn hmac_of_value(&self, value: &[u8]) -> [u8; 16] {
        self.tagged(b"auditq value v1\0", value)
    }

    /// The first 16 bytes of HMAC-SHA256; `domain` keeps hashes of different things apart.
    fn tagged(&self, domain: &[u8], value: &[u8]) -> [u8; 16] {
        let mut hmac = self.hmac.clone();
        hmac.update(domain);
        hmac.update(value);
        let whole: [u8; 32] = hmac.finalize().into_bytes().into();
        std::array::from_fn(|index| whole[index])
    }

    /// Takes out of a database's message what it quotes of the statement's secrets.
    ///
    /// `values` are all bindings of the execution, in order. Secrets of one to three characters are only found where
    /// no letter or digit adjoins them; of a longer one also its beginning, from 32 bytes on, is found, because
    /// databases shorten what they quote.
    #[must_use]
    pub fn redact_error<'m, 'v>(
        &self,
        message: &'m str,
        statement: &Statement,
        values: impl IntoIterator<Item = Value<'v>>,
    ) -> Cow<'m, str> {
        let Some(literals) = statement.secrets() else {
            return Cow::Borrowed("[redacted: the statement has too many secrets to look for]");
        };
        let mut text = Cow::Borrowed(message);
        for secret in literals {
            take_out(&mut text, secret);
        }
        for (index, value) in values.into_iter().enumerate() {
            if statement.is_sensitive(index) {
                value.with_bytes(|secret| take_out(&mut text, secret));
            }
        }
        text
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction")
            .field("names", &self.names)
            .field("literals", &self.literals)
            .field("bindings", &self.bindings)
            .finish_non_exhaustive()
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    KeyInit::new(&{
        let mut block = [0u8; 64];
        block[..32].copy_from_slice(key);
        block.into()
    })
}

/// What a message shows in place of a secret.
const MARK: &str = "[redacted]";

/// As much of a secret as must be found before it counts as that secret.
const PREFIX_BYTES: usize = 32;

fn take_out(text: &mut Cow<'_, str>, secret: &[u8]) {
    // A secret that is not UTF-8 cannot stand in a message as such; its readable beginning can.
    let secret = match str::from_utf8(secret) {
        Ok(secret) => secret,
        Err(error) => str::from_utf8(&secret[..error.valid_up_to()]).unwrap_or_default(),
    };
    let prefix = crate::limits::cut_at_char_boundary(secret, PREFIX_BYTES);
    if prefix.is_empty() || !text.contains(prefix) {
        return;
    }
    let mut rest: &str = text;
    let mut out = String::with_capacity(text.len());
    while let Some(at) = rest.find(prefix) {
        let found = common_prefix(&rest[at..], secret);
        let end = at + found;
        let stands_alone =
            !rest[..at].ends_with(char::is_alphanumeric) && !rest[end..].starts_with(char::is_alphanumeric);
        out.push_str(&rest[..at]);
        if secret.chars().nth(3).is_some() || stands_alone {
            out.push_str(MARK);
        } else {
            out.push_str(&rest[at..end]);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    *text = Cow::Owned(out);
}

/// Length of what two texts have in common at their beginning, in bytes.
fn common_prefix(left: &str, right: &str) -> usize {
    left.chars().zip(right.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_never_printed() {
        let text = format!("{:?}", Redaction::new([0xAB; 32]));
        assert!(text.contains("literals: Sensitive"), "{text}");
        assert!(!text.contains("171") && !text.to_lowercase().contains("hmac"), "{text}");
    }

    #[test]
    fn hashes_depend_on_the_key_and_on_what_is_hashed() {
        let (one, two) = (Redaction::new([1; 32]), Redaction::new([2; 32]));
        assert_eq!(one.session_hash("abc"), one.session_hash("abc"));
        assert_eq!(one.session_hash("abc").len(), 32);
        assert_ne!(one.session_hash("abc"), two.session_hash("abc"));
        assert_ne!(one.session_hash("abc"), hex(&one.hmac_of_value(b"abc")));
    }

    #[test]
    fn the_hash_is_hmac_sha_256_as_everyone_computes_it() {
        // python3 -c 'import hmac; print(hmac.new(b"\1"*32, b"auditq value v1\0hunter2", "sha256").hexdigest()[:32])'
        assert_eq!(hex(&Redaction::new([1; 32]).hmac_of_value(b"hunter2")), "5a5ced2896194c31482c787bd26c9609");
    }

    #[test]
    fn a_secret_is_taken_out_of_a_message_wherever_it_stands() {
        let out = |message: &'static str, secret: &[u8]| {
            let mut text = Cow::Borrowed(message);
            take_out(&mut text, secret);
            text.into_owned()
        };
        assert_eq!(out("Key (token)=(abcd) and abcd", b"abcd"), "Key (token)=([redacted]) and [redacted]");
        assert_eq!(out("entry '123' for 12345", b"123"), "entry '[redacted]' for 12345");
        assert_eq!(
            out("entry '0123456789012345678901234567890123...'", b"0123456789012345678901234567890123456789"),
            "entry '[redacted]...'"
        );
        assert_eq!(out("nothing", b""), "nothing");
        assert_eq!(out("a geheim\u{00e9}m", "geheimé".as_bytes()), "a [redacted]m");
    }
}
