/// How much of each text is recorded, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a statement's SQL. Defaults to 64 KiB.
    pub sql_bytes: usize,
    /// Of one binding. Defaults to 4 KiB.
    pub binding_bytes: usize,
    /// Of all bindings of one statement together, as encoded. Defaults to 16 KiB.
    pub bindings_bytes: usize,
    /// How many bindings are recorded. Defaults to 256.
    pub bindings_count: usize,
    /// Of an error message. Defaults to 1 KiB.
    pub error_bytes: usize,
    /// Of a user agent. Defaults to 512.
    pub user_agent_bytes: usize,
    /// Of every other text: names, paths, ids. Defaults to 1 KiB.
    pub text_bytes: usize,
    /// Of the head that is kept of a shortened value. Defaults to 64.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sql_bytes: 64 * 1024,
            binding_bytes: 4 * 1024,
            bindings_bytes: 16 * 1024,
            bindings_count: 256,
            error_bytes: 1024,
            user_agent_bytes: 512,
            text_bytes: 1024,
            head_bytes: 64,
        }
    }
}

impl Limits {
    /// For what was cut before.
    pub(crate) const UNLIMITED: Self = Self {
        sql_bytes: usize::MAX,
        binding_bytes: usize::MAX,
        bindings_bytes: usize::MAX,
        bindings_count: usize::MAX,
        error_bytes: usize::MAX,
        user_agent_bytes: usize::MAX,
        text_bytes: usize::MAX,
        head_bytes: usize::MAX,
    };
}

/// Cuts a text to at most `max` bytes without splitting a character.
#[must_use]
pub fn cut_at_char_boundary(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_before_the_character_that_does_not_fit() {
        assert_eq!(cut_at_char_boundary("aé😀", 0), "");
        assert_eq!(cut_at_char_boundary("aé😀", 2), "a");
        assert_eq!(cut_at_char_boundary("aé😀", 6), "aé");
        assert_eq!(cut_at_char_boundary("aé😀", 7), "aé😀");
        assert_eq!(cut_at_char_boundary("aé😀", usize::MAX), "aé😀");
    }
}
