use std::collections::HashMap;

use crate::dialect::Dialect;
use crate::fields::MAX_BINDINGS;
use crate::lexer::{Token, TokenKind};

/// A set of bindings by their place, from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BindingSet {
    words: Vec<u64>,
}

impl BindingSet {
    /// Adds a binding; places that no driver reaches are left out.
    pub(crate) fn insert(&mut self, index: usize) {
        if index >= MAX_BINDINGS {
            return;
        }
        if self.words.len() <= index / 64 {
            self.words.resize(index / 64 + 1, 0);
        }
        self.words[index / 64] |= 1 << (index % 64);
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        self.words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

/// Finds the bindings whose placeholder stands where `is_secret` holds for the token's index.
///
/// A binding that is used twice is in the set when one of the places is.
pub(crate) fn bindings_where(
    sql: &[u8],
    tokens: &[Token],
    dialect: Dialect,
    is_secret: impl Fn(usize) -> bool,
) -> BindingSet {
    let placeholders = || tokens.iter().enumerate().filter(|(_, token)| token.kind == TokenKind::Placeholder);
    // In PostgreSQL a question mark beside `$1` is an operator.
    let dollars = dialect.is_postgres() && placeholders().any(|(_, token)| token.text(sql).starts_with(b"$"));
    let mut set = BindingSet::default();
    let mut names: HashMap<&[u8], usize> = HashMap::new();
    let mut last = 0;
    for (index, token) in placeholders() {
        let text = token.text(sql);
        if dollars && text == b"?" {
            continue;
        }
        let number = number_of(text);
        let is_name = number.is_none() || (text[0] == b'$' && dialect.dollar_numbers_are_names());
        let place = match number {
            Some(number) if !is_name => number,
            _ if text == b"?" => last + 1,
            _ => *names.entry(text).or_insert(last + 1),
        };
        last = last.max(place);
        if is_secret(index) {
            set.insert(place.wrapping_sub(1));
            set.insert(number.unwrap_or(place).wrapping_sub(1));
        }
    }
    set
}

/// The number in `?3`, `$3` or `:3`.
fn number_of(placeholder: &[u8]) -> Option<usize> {
    str::from_utf8(placeholder.get(1..)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::tokens;

    fn places(sql: &str, dialect: Dialect, secret: &str) -> Vec<usize> {
        let list = tokens(sql.as_bytes(), dialect);
        let set = bindings_where(sql.as_bytes(), &list, dialect, |index| {
            list[..index].iter().rev().nth(1).is_some_and(|token| token.is_word(sql.as_bytes(), secret))
        });
        (0..100).filter(|index| set.contains(*index)).collect()
    }

    #[test]
    fn placeholders_are_numbered_as_the_database_numbers_them() {
        assert_eq!(places("a = ? and s = ? and b = ?", Dialect::Mysql, "s"), [1]);
        assert_eq!(places("a = ?5 and s = ?", Dialect::Sqlite, "s"), [5]);
        assert_eq!(places("a = :x and s = :y and b = :x", Dialect::Sqlite, "s"), [1]);
        assert_eq!(places("a = $2 and s = $1", Dialect::Postgres, "s"), [0]);
        assert_eq!(places("j ? 'k' and a = $1 and s = $2", Dialect::Postgres, "s"), [1]);
        assert_eq!(places("a = $2 and s = $1", Dialect::Sqlite, "s"), [0, 1], "both ways to number are covered");
        assert_eq!(places("s = ?99999999999999999999 or s = ?0", Dialect::Sqlite, "s"), [0]);
    }
}
