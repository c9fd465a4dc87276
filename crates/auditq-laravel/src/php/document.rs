use super::value::{Object, Value};

/// A parsed value with the numbers that references go by.
#[derive(Debug)]
pub struct Document<'v, 'a> {
    root: &'v Value<'a>,
    /// The values that have a number, from 1.
    numbered: Vec<&'v Value<'a>>,
}

impl<'v, 'a> Document<'v, 'a> {
    /// Numbers the values of `root` as PHP does: in order of appearance, itself first, keys and `R:` left out.
    #[must_use]
    pub fn new(root: &'v Value<'a>) -> Self {
        let mut numbered = Vec::new();
        // Children wait in reverse, so that the next to be seen is the last.
        let mut waiting = vec![root];
        while let Some(value) = waiting.pop() {
            match value {
                Value::Alias(_) => continue,
                Value::Array(items) => waiting.extend(items.iter().rev().map(|(_, value)| value)),
                Value::Object(object) => waiting.extend(object.properties.iter().rev().map(|(_, value)| value)),
                _ => {}
            }
            numbered.push(value);
        }
        Self { root, numbered }
    }

    /// The whole.
    #[must_use]
    pub const fn root(&self) -> &'v Value<'a> {
        self.root
    }

    /// The value itself, or what the reference stands for. A reference to nothing stays what it is.
    #[must_use]
    pub fn follow(&self, value: &'v Value<'a>) -> &'v Value<'a> {
        let mut found = value;
        // A chain of references goes to ever smaller numbers; one that does not was never parsed.
        for _ in 0..=self.numbered.len() {
            let (Value::Same(slot) | Value::Alias(slot)) = found else { return found };
            match slot.checked_sub(1).and_then(|index| self.numbered.get(index)) {
                Some(target) => found = target,
                None => return found,
            }
        }
        found
    }

    /// The value of an object's property, references followed.
    #[must_use]
    pub fn property(&self, object: &'v Object<'a>, name: &str) -> Option<&'v Value<'a>> {
        object.get(name).map(|value| self.follow(value))
    }

    /// The value of an array's key, references followed; of two equal keys the last counts.
    #[must_use]
    pub fn entry(&self, array: &'v Value<'a>, name: &str) -> Option<&'v Value<'a>> {
        let items = array.as_array()?;
        items.iter().rev().find(|(key, _)| key.is(name)).map(|(_, value)| self.follow(value))
    }
}
