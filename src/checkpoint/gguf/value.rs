//! A metadata value as it is encoded: looked into on demand, copied exactly.

use std::borrow::Cow;
use std::fmt;

use super::cursor::{Cursor, Fault};

/// The type of a metadata value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Str,
    Array,
    U64,
    I64,
    F64,
}

/// In the order of their ids in the file: (type, bytes of a value of fixed size).
const TYPES: [(ValueType, Option<u64>); 13] = [
    (ValueType::U8, Some(1)),
    (ValueType::I8, Some(1)),
    (ValueType::U16, Some(2)),
    (ValueType::I16, Some(2)),
    (ValueType::U32, Some(4)),
    (ValueType::I32, Some(4)),
    (ValueType::F32, Some(4)),
    (ValueType::Bool, Some(1)),
    (ValueType::Str, None),
    (ValueType::Array, None),
    (ValueType::U64, Some(8)),
    (ValueType::I64, Some(8)),
    (ValueType::F64, Some(8)),
];

impl ValueType {
    /// The type with this id in the file.
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.get(id as usize).map(|row| row.0)
    }

    /// The id of this type in the file.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// True of integers and truth values.
    fn is_integer(self) -> bool {
        self.is_number() && !matches!(self, Self::F32 | Self::F64)
    }

    fn is_number(self) -> bool {
        self.size().is_some()
    }

    fn size(self) -> Option<u64> {
        TYPES.get(self as usize).and_then(|row| row.1)
    }

    /// The fewest bytes that a value of this type takes: bounds the counts in a hostile file.
    fn least_size(self) -> u64 {
        match self {
            Self::Array => 12,
            other => other.size().unwrap_or(8),
        }
    }
}

/// Arrays in arrays occur in no published file; a few levels are kept for those that may come.
const MAX_DEPTH: u32 = 4;

/// Passes over one value of type `ty`, checking everything that it claims about its own size.
pub(super) fn skip(cursor: &mut Cursor<'_>, ty: ValueType, depth: u32) -> Result<(), Fault> {
    match ty {
        ValueType::Str => cursor.string().map(drop),
        ValueType::Array => {
            if depth >= MAX_DEPTH {
                return Err(cursor.fault(format!("arrays nested deeper than {MAX_DEPTH}")));
            }
            let (element, count) = array_head(cursor)?;
            match element.size() {
                Some(size) => cursor.take(count.saturating_mul(size)).map(drop),
                None => (0..count).try_for_each(|_| skip(cursor, element, depth + 1)),
            }
        }
        fixed => cursor.take(fixed.least_size()).map(drop),
    }
}

fn array_head(cursor: &mut Cursor<'_>) -> Result<(ValueType, u64), Fault> {
    let id = cursor.u32()?;
    let Some(element) = ValueType::from_id(id) else {
        return Err(cursor.fault(format!("an array of the unknown value type {id}")));
    };
    let count = cursor.u64()?;
    cursor.expect_room(count, element.least_size(), "array elements")?;
    Ok((element, count))
}

/// An encoded, validated value. What is read from a file borrows from its mapping.
#[derive(Clone, PartialEq, Eq)]
pub struct Value<'a> {
    ty: ValueType,
    bytes: Cow<'a, [u8]>,
}

/// A constructor for a scalar and one for an array of it.
macro_rules! numbers {
    ($($one:ident, $many:ident, $rust:ty, $ty:ident;)*) => {$(
        #[doc = concat!("A value of type ", stringify!($rust), ".")]
        pub fn $one(value: $rust) -> Self {
            Self { ty: ValueType::$ty, bytes: Cow::Owned(value.to_le_bytes().to_vec()) }
        }

        #[doc = concat!("An array of ", stringify!($rust), ".")]
        pub fn $many(values: &[$rust]) -> Self {
            let elements = values.iter().flat_map(|v| v.to_le_bytes());
            Self::array_of(ValueType::$ty, values.len(), elements)
        }
    )*};
}

impl Value<'static> {
    numbers! {
        u8, u8s, u8, U8;
        i8, i8s, i8, I8;
        u16, u16s, u16, U16;
        i16, i16s, i16, I16;
        u32, u32s, u32, U32;
        i32, i32s, i32, I32;
        u64, u64s, u64, U64;
        i64, i64s, i64, I64;
        f32, f32s, f32, F32;
        f64, f64s, f64, F64;
    }

    /// A truth value.
    pub fn bool(value: bool) -> Self {
        Self {
            ty: ValueType::Bool,
            bytes: Cow::Owned(vec![value.into()]),
        }
    }

    /// An array of truth values.
    pub fn bools(values: &[bool]) -> Self {
        let elements = values.iter().map(|&v| v.into());
        Self::array_of(ValueType::Bool, values.len(), elements)
    }

    /// A string.
    pub fn str(value: &str) -> Self {
        Self {
            ty: ValueType::Str,
            bytes: Cow::Owned(encode_str(value.as_bytes()).collect()),
        }
    }

    /// An array of strings.
    pub fn strs<S: AsRef<str>>(values: &[S]) -> Self {
        let elements = values
            .iter()
            .flat_map(|v| encode_str(v.as_ref().as_bytes()));
        Self::array_of(ValueType::Str, values.len(), elements)
    }

    fn array_of(element: ValueType, count: usize, elements: impl Iterator<Item = u8>) -> Self {
        let mut bytes = Vec::with_capacity(12 + elements.size_hint().0);
        bytes.extend(element.id().to_le_bytes());
        bytes.extend((count as u64).to_le_bytes());
        bytes.extend(elements);
        Self {
            ty: ValueType::Array,
            bytes: Cow::Owned(bytes),
        }
    }
}

impl<'a> Value<'a> {
    /// A value from its encoding (without the type id before it). `None` unless `bytes` is exactly
    /// one well-formed value of that type.
    pub fn raw(ty: ValueType, bytes: Cow<'a, [u8]>) -> Option<Self> {
        let mut cursor = Cursor::new(&bytes);
        skip(&mut cursor, ty, 0).ok()?;
        (cursor.at() == bytes.len()).then_some(Self { ty, bytes })
    }

    /// A value whose bytes [`skip`] has passed over.
    pub(super) fn trusted(ty: ValueType, bytes: &'a [u8]) -> Self {
        Self {
            ty,
            bytes: Cow::Borrowed(bytes),
        }
    }

    /// The value's type.
    pub fn ty(&self) -> ValueType {
        self.ty
    }

    /// The encoding, without the type id before it.
    pub fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// The same value, independent of the file.
    pub fn into_owned(self) -> Value<'static> {
        Value {
            ty: self.ty,
            bytes: Cow::Owned(self.bytes.into_owned()),
        }
    }

    /// The integer, of whatever width, or the truth value as 0 and 1.
    fn integer(&self) -> Option<i128> {
        let bytes: &[u8] = &self.bytes;
        Some(match self.ty {
            ValueType::U8 => u8::from_le_bytes(bytes.try_into().ok()?).into(),
            ValueType::I8 => i8::from_le_bytes(bytes.try_into().ok()?).into(),
            ValueType::U16 => u16::from_le_bytes(bytes.try_into().ok()?).into(),
            ValueType::I16 => i16::from_le_bytes(bytes.try_into().ok()?).into(),
            ValueType::U32 => u32::from_le_bytes(bytes.try_into().ok()?).into(),
            ValueType::I32 => i32::from_le_bytes(bytes.try_into().ok()?).into(),
            ValueType::U64 => u64::from_le_bytes(bytes.try_into().ok()?).into(),
            ValueType::I64 => i64::from_le_bytes(bytes.try_into().ok()?).into(),
            ValueType::Bool => (bytes.first()? != &0).into(),
            _ => return None,
        })
    }

    /// The integer, of whatever width, if it is not negative; a truth value as 0 and 1.
    pub fn as_u64(&self) -> Option<u64> {
        self.integer()?.try_into().ok()
    }

    /// The integer, of whatever width, if it fits; a truth value as 0 and 1.
    pub fn as_i64(&self) -> Option<i64> {
        self.integer()?.try_into().ok()
    }

    /// The number; an integer is rounded where f64 cannot hold it.
    pub fn as_f64(&self) -> Option<f64> {
        let bytes: &[u8] = &self.bytes;
        match self.ty {
            ValueType::F32 => Some(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::F64 => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
            _ => self.integer().map(|n| n as f64),
        }
    }

    /// The truth value. Any byte but 0 is true, as in C.
    pub fn as_bool(&self) -> Option<bool> {
        (self.ty == ValueType::Bool).then(|| self.bytes.first() != Some(&0))
    }

    /// The string's bytes: the format asks for UTF-8, but vocabularies exist that break it.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        (self.ty == ValueType::Str).then(|| self.bytes.get(8..).unwrap_or_default())
    }

    /// The string, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// Element type and number of elements.
    pub fn array(&self) -> Option<(ValueType, u64)> {
        if self.ty != ValueType::Array {
            return None;
        }
        array_head(&mut Cursor::new(&self.bytes)).ok()
    }

    /// The elements of an array, in order.
    pub fn elements(&self) -> Option<impl Iterator<Item = Value<'_>>> {
        let (element, count) = self.array()?;
        let all: &[u8] = &self.bytes;
        let mut cursor = Cursor::new(all);
        array_head(&mut cursor).ok()?;
        Some((0..count).map_while(move |_| {
            let start = cursor.at();
            skip(&mut cursor, element, 1).ok()?;
            Some(Value::trusted(element, all.get(start..cursor.at())?))
        }))
    }

    /// The strings of an array of strings, as bytes.
    pub fn iter_bytes(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let mut cursor = Cursor::new(&self.bytes);
        let (ValueType::Str, count) = self.array()? else {
            return None;
        };
        array_head(&mut cursor).ok()?;
        Some((0..count).map_while(move |_| cursor.string().ok()))
    }

    /// The strings of an array of strings, if all of them are UTF-8.
    pub fn iter_str(&self) -> Option<impl Iterator<Item = &str>> {
        let all_text = self.iter_bytes()?.all(|s| std::str::from_utf8(s).is_ok());
        let strings = self.iter_bytes()?;
        all_text.then(|| strings.filter_map(|s| std::str::from_utf8(s).ok()))
    }

    /// The integers (or truth values) of an array of them, if all fit.
    pub fn iter_i64(&self) -> Option<impl Iterator<Item = i64>> {
        let (element, _) = self.array()?;
        let all_fit = element.is_integer() && self.elements()?.all(|v| v.as_i64().is_some());
        let elements = self.elements()?;
        all_fit.then(|| elements.filter_map(|v| v.as_i64()))
    }

    /// The numbers of an array of numbers.
    pub fn iter_f64(&self) -> Option<impl Iterator<Item = f64>> {
        let (element, _) = self.array()?;
        let elements = self.elements()?;
        let numbers = elements.filter_map(|v| v.as_f64());
        element.is_number().then_some(numbers)
    }

    /// The array of the elements at `indices`, in that order and of the same type, whatever that
    /// is. `None` if this is no array or an index lies outside it.
    pub fn select(&self, indices: &[usize]) -> Option<Value<'static>> {
        let (element, _) = self.array()?;
        let all: Vec<Value<'_>> = self.elements()?.collect();
        let chosen: Vec<&Value<'_>> = indices.iter().map(|&i| all.get(i)).collect::<Option<_>>()?;
        let bytes = chosen.iter().flat_map(|v| v.encoded().iter().copied());
        Some(Value::array_of(element, indices.len(), bytes))
    }
}

fn encode_str(bytes: &[u8]) -> impl Iterator<Item = u8> {
    (bytes.len() as u64)
        .to_le_bytes()
        .into_iter()
        .chain(bytes.iter().copied())
}

/// Short enough for a message: long arrays and strings are told by their size.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ty {
            ValueType::Array => {
                let (element, count) = self.array().unwrap_or((ValueType::U8, 0));
                write!(f, "[{element:?}; {count}]")
            }
            ValueType::Str => match self.as_str() {
                Some(text) if text.len() <= 80 => write!(f, "{text:?}"),
                _ => write!(f, "Str of {} bytes", self.bytes.len().saturating_sub(8)),
            },
            ValueType::Bool => write!(f, "{}", self.as_bool().unwrap_or_default()),
            ValueType::F32 | ValueType::F64 => {
                write!(f, "{:?}({:?})", self.ty, self.as_f64().unwrap_or_default())
            }
            _ => write!(f, "{:?}({})", self.ty, self.integer().unwrap_or_default()),
        }
    }
}
