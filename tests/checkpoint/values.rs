//! Metadata values keep their encoding, and say what they hold.

use std::borrow::Cow;

use proptest::prelude::*;
use slim::checkpoint::gguf::{Value, ValueType};

use crate::tiny;

/// What any test below needs of a value: its encoding is a valid value of its own type again.
fn again(value: &Value<'_>) -> bool {
    let raw = Value::raw(value.ty(), Cow::Borrowed(value.encoded()));
    raw.is_some_and(|raw| raw == *value)
}

proptest! {
    #[test]
    fn integers_come_back(n: i64, u: u64, s: i32, b: bool) {
        prop_assert_eq!(Value::i64(n).as_i64(), Some(n));
        prop_assert_eq!(Value::i64(n).as_u64(), u64::try_from(n).ok());
        prop_assert_eq!(Value::u64(u).as_u64(), Some(u));
        prop_assert_eq!(Value::u64(u).as_i64(), i64::try_from(u).ok());
        prop_assert_eq!(Value::i32(s).as_i64(), Some(s.into()));
        prop_assert_eq!(Value::bool(b).as_bool(), Some(b));
        prop_assert_eq!(Value::str("1").as_u64(), None);
        prop_assert!(again(&Value::i64(n)) && again(&Value::u64(u)) && again(&Value::bool(b)));
    }

    #[test]
    fn floats_keep_every_bit(bits: u32, wide: f64) {
        let value = Value::f32(f32::from_bits(bits));
        prop_assert_eq!(value.encoded(), bits.to_le_bytes());
        prop_assert_eq!(Value::f64(wide).as_f64(), Some(wide));
        prop_assert_eq!(value.as_u64(), None);
    }

    #[test]
    fn arrays_come_back_and_subsets_keep_the_type(
        texts in prop::collection::vec(".*", 0..20),
        numbers in prop::collection::vec(any::<i32>(), 1..40),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let strings = Value::strs(&texts);
        prop_assert!(again(&strings));
        prop_assert_eq!(strings.iter_str().unwrap().collect::<Vec<_>>(), texts);
        prop_assert!(strings.iter_i64().is_none());

        let array = Value::i32s(&numbers);
        prop_assert!(again(&array));
        prop_assert_eq!(array.array(), Some((ValueType::I32, numbers.len() as u64)));
        let wide: Vec<i64> = numbers.iter().map(|&n| n.into()).collect();
        prop_assert_eq!(array.iter_i64().unwrap().collect::<Vec<_>>(), wide);

        let picks: Vec<usize> = picks.iter().map(|i| i.index(numbers.len())).collect();
        let chosen: Vec<i32> = picks.iter().map(|&i| numbers[i]).collect();
        prop_assert_eq!(array.select(&picks), Some(Value::i32s(&chosen)));
        prop_assert_eq!(array.select(&[numbers.len()]), None);
    }

    #[test]
    fn any_bytes_are_one_valid_value_or_none(ty in 0u32..14, bytes in prop::collection::vec(0u8..4, 0..80)) {
        let Some(ty) = ValueType::from_id(ty) else { return Ok(()) };
        if let Some(value) = Value::raw(ty, Cow::Borrowed(&bytes)) {
            prop_assert_eq!(value.encoded(), &bytes[..]);
            let count = value.elements().map(|e| e.count() as u64);
            prop_assert_eq!(count, value.array().map(|(_, n)| n));
            let _ = format!("{value:?} {:?} {:?}", value.as_f64(), value.as_str());
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_kept_as_bytes() {
    let bytes = tiny::array(8, 2, &[tiny::string("ok"), tiny::string(b"\xff")].concat());
    let value = Value::raw(ValueType::Array, Cow::Owned(bytes)).unwrap();
    assert!(value.iter_str().is_none());
    let all: Vec<&[u8]> = value.iter_bytes().unwrap().collect();
    assert_eq!(all, [&b"ok"[..], b"\xff"]);
    assert_eq!(
        value.select(&[1]).unwrap().iter_bytes().unwrap().next(),
        Some(&b"\xff"[..])
    );
}

#[test]
fn an_array_of_u64_beyond_i64_is_not_wrapped() {
    assert!(Value::u64s(&[1, u64::MAX]).iter_i64().is_none());
    assert!(Value::bools(&[true, false]).iter_i64().unwrap().eq([1, 0]));
    assert!(Value::f32s(&[1.5]).iter_f64().unwrap().eq([1.5]));
}
