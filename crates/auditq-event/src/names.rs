/// Names that mark secrets, each as its words.
#[derive(Clone, Debug, Default)]
pub(crate) struct SensitiveNames {
    patterns: Vec<Vec<String>>,
}

impl SensitiveNames {
    pub(crate) fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let mut this = Self::default();
        this.extend(names);
        this
    }

    pub(crate) fn extend<S: AsRef<str>>(&mut self, names: impl IntoIterator<Item = S>) {
        let split = |name: S| {
            let words = words(name.as_ref().as_bytes());
            words.iter().map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).collect::<Vec<_>>()
        };
        self.patterns.extend(names.into_iter().map(split).filter(|pattern| !pattern.is_empty()));
    }

    /// Tells whether the words of one of these names stand in a row in `name`.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        let words = words(name);
        self.patterns.iter().any(|pattern| {
            words.windows(pattern.len()).any(|window| {
                window.iter().zip(pattern).all(|(word, expected)| word.eq_ignore_ascii_case(expected.as_bytes()))
            })
        })
    }
}

/// Splits a name into words at punctuation, before digits, after digits, and where camel case begins a word.
fn words(name: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let mut start = 0;
    for end in 1..=name.len() {
        if end == name.len() || begins_word(name, end) {
            let word = &name[start..end];
            if word[0].is_ascii_alphanumeric() || !word[0].is_ascii() {
                words.push(word);
            }
            start = end;
        }
    }
    words
}

fn begins_word(name: &[u8], at: usize) -> bool {
    let (before, here) = (Class::of(name[at - 1]), Class::of(name[at]));
    match (before, here) {
        (Class::Upper, Class::Lower) => false,
        (Class::Upper, Class::Upper) => name.get(at + 1).is_some_and(|&next| Class::of(next) == Class::Lower),
        _ => before != here,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    Other,
}

impl Class {
    const fn of(byte: u8) -> Self {
        match byte {
            b'A'..=b'Z' => Self::Upper,
            b'0'..=b'9' => Self::Digit,
            b'a'..=b'z' | 0x80.. => Self::Lower,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::DEFAULT_NAMES;

    #[test]
    fn whole_words_match_and_parts_of_words_do_not() {
        let names = SensitiveNames::new(DEFAULT_NAMES);
        for name in [
            "password",
            "PASSWORD",
            "password_hash",
            "user_password",
            "userPassword",
            "Password2",
            "api_key",
            "apiKey",
            "APIKey",
            "x-api-key",
            "apikey",
            "resetToken",
            "RESET_TOKEN",
            "token",
            "cvv",
            "cvv2",
            "pin",
            "PIN_code",
            "cardNumber",
            "credit_card_no",
            "ssn",
            "oauth2_token",
            "_secret_",
        ] {
            assert!(names.matches(name.as_bytes()), "{name}");
        }
        for name in
            ["tokenizer_count", "spinning", "pinned", "secretary", "key", "api", "card", "number", "", "_", "42"]
        {
            assert!(!names.matches(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn an_application_may_add_names() {
        let mut names = SensitiveNames::new(["iban"]);
        names.extend(["", "Health Number"]);
        assert!(names.matches(b"IBAN") && names.matches(b"healthNumber"));
        assert!(!names.matches(b"password"));
    }
}
