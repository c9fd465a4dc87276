//! What an application's `config/*.php` says, as far as it stands there in plain text.

use std::path::Path;

use crate::application::text;
use crate::error::ConfigError;

/// One of those files, and the framework's own of that name, which since Laravel 11 counts for what the application's
/// leaves out.
pub(crate) struct PhpConfig {
    own: Option<String>,
    framework: Option<String>,
}

/// A setting in such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'t> {
    /// `'value'`, or a number.
    Plain(&'t str),
    /// `env('NAME', 'value')`; a default that is no plain text or number is none.
    Env(&'t str, Option<&'t str>),
}

impl PhpConfig {
    pub(crate) fn read(app: &Path, name: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            own: text(&app.join("config").join(name))?,
            framework: text(&app.join("vendor/laravel/framework/config").join(name))?,
        })
    }

    /// Whether the application has such a file.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The setting `key`; with `within`, the first after that text and before the next bracket closes.
    pub(crate) fn value(&self, within: Option<&str>, key: &str) -> Option<Value<'_>> {
        self.texts().find_map(|text| {
            let part = match within {
                Some(begin) => text.split_once(begin)?.1.split(']').next()?,
                None => text,
            };
            value(part, key)
        })
    }

    /// The first of `parts` that the file has, or else the framework's.
    pub(crate) fn first_of<'p>(&self, parts: &[&'p str]) -> Option<&'p str> {
        self.texts().find_map(|text| parts.iter().find(|part| text.contains(**part)).copied())
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        [&self.own, &self.framework].into_iter().flatten().map(String::as_str)
    }
}

fn value<'t>(text: &'t str, key: &str) -> Option<Value<'t>> {
    let (_, rest) = text.split_once(&format!("'{key}'"))?;
    let rest = rest.trim_start().strip_prefix("=>")?.trim_start();
    let rest = rest.strip_prefix("(int)").unwrap_or(rest).trim_start();
    let Some(arguments) = rest.strip_prefix("env(") else { return Some(Value::Plain(literal(rest)?.0)) };
    let (name, rest) = quoted(arguments)?;
    let default = rest.trim_start().strip_prefix(',').and_then(|rest| literal(rest.trim_start()));
    // What is joined to something is not all of it.
    let default = default.filter(|(_, rest)| rest.trim_start().starts_with([')', ',']));
    Some(Value::Env(name, default.map(|(text, _)| text)))
}

/// The text or number at the beginning, and what comes after it.
fn literal(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let is_number = digits > 0 && rest.trim_start().starts_with([',', ')', ']']);
    if is_number { Some((number, rest)) } else { quoted(text) }
}

/// The text in quotes at the beginning, and what comes after it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let (value, rest) = text.strip_prefix('\'')?.split_once('\'')?;
    (!value.contains('\\')).then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_plain_or_from_the_environment() {
        let plain = |text| value(text, "default");
        assert_eq!(plain("'default' => 'file',"), Some(Value::Plain("file")));
        assert_eq!(
            plain("'default' => env('CACHE_STORE', 'database'),"),
            Some(Value::Env("CACHE_STORE", Some("database")))
        );
        assert_eq!(plain("'default' => env('DB_CACHE'),"), Some(Value::Env("DB_CACHE", None)));
        assert_eq!(plain("'default' => env('X', Str::slug('a')),"), Some(Value::Env("X", None)));
        assert_eq!(plain("'default' => env('X', 'a'.'b'),"), Some(Value::Env("X", None)));
        for number in ["'default' => 300,", "'default' => 300 ]", "'default' => (int) 300,"] {
            assert_eq!(plain(number), Some(Value::Plain("300")), "{number}");
        }
        assert_eq!(plain("'default' => (int) env('X', 90),"), Some(Value::Env("X", Some("90"))));
        assert_eq!(plain("'default' => env('X', 60 * 5),"), Some(Value::Env("X", None)));
        for none in [
            "'default' => 60 * 5,",
            "'default' => $store,",
            "'defaults' => 'file',",
            "'default'",
            "'default' => 'C:\\\\x'",
        ] {
            assert_eq!(plain(none), None, "{none}");
        }
    }
}
