use std::borrow::Cow;

/// A PHP value as it stands in serialized data.
///
/// Texts are bytes: PHP counts bytes and knows no encoding. What was parsed borrows from the text it was parsed from.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A float; `NAN`, the infinities and `-0` too.
    Float(f64),
    /// A string.
    Str(Cow<'a, [u8]>),
    /// An array, list or map, in its order. Of two equal keys the last counts.
    Array(Vec<(Key<'a>, Value<'a>)>),
    /// An object by the names and values of its properties.
    Object(Object<'a>),
    /// A case of an enum.
    Enum {
        /// The enum.
        class: Cow<'a, str>,
        /// The case's name; a backed enum's value is not in serialized data.
        case: Cow<'a, str>,
    },
    /// An object that serialized itself (`Serializable`): its bytes are the class's own.
    Custom {
        /// The class.
        class: Cow<'a, str>,
        /// What it wrote.
        data: Cow<'a, [u8]>,
    },
    /// `r:`, the same object as the value of that number.
    Same(usize),
    /// `R:`, a PHP reference to the value of that number.
    Alias(usize),
}

/// A key of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// A number.
    Int(i64),
    /// A text.
    Str(Cow<'a, [u8]>),
}

/// An object as data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a> {
    /// Its class.
    pub class: Cow<'a, str>,
    /// Its properties in their order.
    pub properties: Vec<(Property<'a>, Value<'a>)>,
}

/// The name of a property as it is serialized: `name`, `\0*\0name` or `\0Class\0name`, or a number where the class
/// has its own `__serialize()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property<'a>(Key<'a>);

/// Who may see a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility<'p> {
    /// Everybody.
    Public,
    /// The class and those derived from it.
    Protected,
    /// The class of that name alone.
    Private(&'p [u8]),
    /// It is no property: `__serialize()` numbered it.
    Numbered,
}

impl<'a> Value<'a> {
    /// Takes a text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Str(Cow::Owned(text.into().into_bytes()))
    }

    /// The bytes of a string.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Str(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A string that is UTF-8.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        self.as_bytes().and_then(|bytes| str::from_utf8(bytes).ok())
    }

    /// The entries of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[(Key<'a>, Self)]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// An object's class and properties.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }
}

impl<'a> Key<'a> {
    /// Takes a text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Str(Cow::Owned(text.into().into_bytes()))
    }

    /// Tells whether the key is this text.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        matches!(self, Self::Str(bytes) if **bytes == *name.as_bytes())
    }

    /// The key as a person reads it: bytes that are not UTF-8 as `\xHH`.
    #[must_use]
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Int(number) => number.to_string().into(),
            Self::Str(bytes) => readable(bytes),
        }
    }
}

impl<'a> Object<'a> {
    /// Begins an object without properties.
    #[must_use]
    pub fn new(class: impl Into<Cow<'a, str>>) -> Self {
        Self { class: class.into(), properties: Vec::new() }
    }

    /// Adds a public property.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value<'a>) -> Self {
        self.properties.push((Property::public(name), value));
        self
    }

    /// The property of that name, whoever may see it; of several, such as a parent's and a child's, the last.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.properties.iter().rev().find(|(property, _)| property.name() == name.as_bytes()).map(|(_, value)| value)
    }
}

impl<'a> Property<'a> {
    /// Takes a name as it is serialized.
    ///
    /// # Errors
    /// The name itself, when it begins with NUL and is no protected or private one.
    pub fn mangled(key: Key<'a>) -> Result<Self, Key<'a>> {
        let is_good = match &key {
            Key::Str(bytes) => match bytes.strip_prefix(b"\0") {
                Some(rest) => rest.iter().position(|byte| *byte == 0).is_some_and(|end| end > 0),
                None => true,
            },
            Key::Int(_) => true,
        };
        if is_good { Ok(Self(key)) } else { Err(key) }
    }

    /// A public property.
    #[must_use]
    pub fn public(name: &str) -> Self {
        Self(Key::text(name))
    }

    /// A protected property.
    #[must_use]
    pub fn protected(name: &str) -> Self {
        Self(Key::text(format!("\0*\0{name}")))
    }

    /// A private property of `class`.
    #[must_use]
    pub fn private(class: &str, name: &str) -> Self {
        Self(Key::text(format!("\0{class}\0{name}")))
    }

    /// The name as it is serialized.
    #[must_use]
    pub const fn key(&self) -> &Key<'a> {
        &self.0
    }

    /// The name that the class's source has; empty for a numbered one.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.split().1
    }

    /// Who may see it.
    #[must_use]
    pub fn visibility(&self) -> Visibility<'_> {
        match (&self.0, self.split().0) {
            (Key::Int(_), _) => Visibility::Numbered,
            (_, None) => Visibility::Public,
            (_, Some(b"*")) => Visibility::Protected,
            (_, Some(class)) => Visibility::Private(class),
        }
    }

    /// The name as a person reads it.
    #[must_use]
    pub fn shown(&self) -> Cow<'_, str> {
        match &self.0 {
            Key::Int(number) => number.to_string().into(),
            Key::Str(_) => readable(self.name()),
        }
    }

    fn split(&self) -> (Option<&[u8]>, &[u8]) {
        let Key::Str(bytes) = &self.0 else { return (None, &[]) };
        let Some(rest) = bytes.strip_prefix(b"\0") else { return (None, bytes) };
        match rest.iter().position(|byte| *byte == 0) {
            Some(end) => (Some(&rest[..end]), &rest[end + 1..]),
            None => (None, bytes),
        }
    }
}

/// A text for people: what is not UTF-8 stands as `\xHH`.
pub(crate) fn readable(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return text.into();
    }
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02X}"));
        }
    }
    out.into()
}

/// The beginning of a text, for an error that also stands in tables and on terminals: no control characters.
pub(crate) fn shown(text: &str, bytes: usize) -> String {
    let kept = &text[..text.floor_char_boundary(bytes)];
    let mut out = String::with_capacity(kept.len() + 3);
    for letter in kept.chars() {
        if letter.is_control() { out.extend(letter.escape_default()) } else { out.push(letter) }
    }
    if kept.len() < text.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_properties_say_who_may_see_them() {
        let of = |name: &'static [u8]| Property::mangled(Key::Str(Cow::Borrowed(name)));
        let protected = of(b"\0*\0queryData").unwrap();
        assert_eq!((protected.name(), protected.visibility()), (&b"queryData"[..], Visibility::Protected));
        let private = of(b"\0App\\Job\0a").unwrap();
        assert_eq!((private.name(), private.visibility()), (&b"a"[..], Visibility::Private(b"App\\Job")));
        let plain = of(b"").unwrap();
        assert_eq!((plain.name(), plain.visibility()), (&b""[..], Visibility::Public));
        assert!(of(b"\0").is_err());
        assert!(of(b"\0a").is_err());
        assert!(of(b"\0\0a").is_err());
        assert_eq!(Property::mangled(Key::Int(3)).unwrap().visibility(), Visibility::Numbered);
    }

    #[test]
    fn what_an_error_shows_is_short_and_without_control_characters() {
        assert_eq!(shown("a\0\u{1b}[2J\né", 40), "a\\u{0}\\u{1b}[2J\\né");
        assert_eq!(shown("ééé", 3), "é…");
    }

    #[test]
    fn what_is_not_utf_8_is_shown_byte_by_byte() {
        assert_eq!(readable("é\u{0}".as_bytes()), "é\u{0}");
        assert_eq!(readable(b"a\xFFb\xC3"), "a\\xFFb\\xC3");
    }
}
