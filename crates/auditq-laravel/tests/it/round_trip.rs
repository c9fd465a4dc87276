use std::borrow::Cow;

use auditq_laravel::php::{Key, Limits, Object, Property, Value, parse};
use proptest::prelude::*;

use crate::support::written;

fn key() -> impl Strategy<Value = Key<'static>> {
    prop_oneof![
        any::<i64>().prop_map(Key::Int),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Key::Str(Cow::Owned(bytes))),
    ]
}

fn property() -> impl Strategy<Value = Property<'static>> {
    prop_oneof![
        "[a-z]{0,6}".prop_map(|name| Property::public(&name)),
        "[a-z]{0,6}".prop_map(|name| Property::protected(&name)),
        ("[A-Z][a-z\\\\]{0,6}", "[a-z]{0,6}").prop_map(|(class, name)| Property::private(&class, &name)),
        any::<i64>().prop_filter_map("a property", |number| Property::mangled(Key::Int(number)).ok()),
    ]
}

fn leaf() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        prop_oneof![any::<f64>(), any::<u64>().prop_map(f64::from_bits)].prop_map(Value::Float),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Str(Cow::Owned(bytes))),
        ".{0,20}".prop_map(Value::text),
        ("[A-Z][a-z_\\\\é]{0,9}", "[A-Z][a-z]{0,5}")
            .prop_map(|(class, case)| Value::Enum { class: Cow::Owned(class), case: Cow::Owned(case) }),
        ("[A-Z][a-z]{0,9}", prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(class, data)| Value::Custom { class: Cow::Owned(class), data: Cow::Owned(data) }),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Value<'static>> {
    leaf().prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec((key(), inner.clone()), 0..8).prop_map(Value::Array),
            ("[A-Z][A-Za-z0-9_\\\\]{0,12}", prop::collection::vec((property(), inner), 0..6))
                .prop_map(|(class, properties)| Value::Object(Object { class: Cow::Owned(class), properties })),
        ]
    })
}

/// NaN is not equal to itself; the text that it is written as is.
fn same(left: &Value<'_>, right: &Value<'_>) -> bool {
    written(left) == written(right)
}

proptest! {
    #[test]
    fn what_was_written_is_read_as_it_was(value in value()) {
        let bytes = written(&value);
        let read = parse(&bytes, &Limits::default()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(same(&read, &value), "{:?}", read);
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(prop_oneof![
        any::<u8>(),
        prop::sample::select(b"abdisONrREC:;{}\"0123456789".to_vec()),
    ], 0..200)) {
        if let Ok(value) = parse(&bytes, &Limits::default()) {
            prop_assert!(!written(&value).is_empty());
        }
    }

    #[test]
    fn a_value_with_one_byte_changed_is_a_value_or_an_error(value in value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = written(&value);
        let index = at.index(bytes.len());
        bytes[index] = byte;
        if let Ok(read) = parse(&bytes, &Limits::default()) {
            let again = written(&read);
            let read_again = parse(&again, &Limits::default()).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(same(&read, &read_again));
        }
    }
}
