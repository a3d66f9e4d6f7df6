//! What a GGUF file says about its model.

use std::ops::Range;
use std::sync::Arc;

use super::value::{Value, ValueType};
use crate::checkpoint::file::MappedFile;

/// The keys and values of a GGUF file, in the file's order, as spans over its mapping.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub(super) file: Arc<MappedFile>,
    pub(super) version: u32,
    pub(super) alignment: u32,
    pub(super) entries: Vec<Entry>,
    /// Indices into `entries`, sorted by key.
    pub(super) by_key: Vec<usize>,
}

/// A key and its value, as spans of the file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: Range<usize>,
    pub ty: ValueType,
    pub value: Range<usize>,
}

impl Metadata {
    /// The format's version, 2 or 3 (which differ in nothing that slim reads).
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the tensors' places are multiples of.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True of a file without keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of this key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.find(key).map(|entry| self.value(entry))
    }

    /// The string of this key, if it is one.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        let entry = self.find(key).filter(|entry| entry.ty == ValueType::Str)?;
        let text = self.file.bytes().get(entry.value.clone())?.get(8..)?;
        std::str::from_utf8(text).ok()
    }

    /// The integer of this key, of whatever width, if it is one and not negative.
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// The number of this key, if it is one.
    pub fn get_f64(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    /// All keys and values, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries
            .iter()
            .map(|entry| (self.key(entry), self.value(entry)))
    }

    pub(super) fn find(&self, key: &str) -> Option<&Entry> {
        let entry = |&i: &usize| self.entries.get(i);
        let at = self
            .by_key
            .binary_search_by(|i| entry(i).map_or("", |e| self.key(e)).cmp(key))
            .ok()?;
        self.by_key.get(at).and_then(entry)
    }

    fn key(&self, entry: &Entry) -> &str {
        let bytes = self.file.bytes().get(entry.key.clone());
        bytes
            .and_then(|key| std::str::from_utf8(key).ok())
            .unwrap_or_default()
    }

    pub(super) fn value(&self, entry: &Entry) -> Value<'_> {
        let bytes = self.file.bytes().get(entry.value.clone());
        Value::trusted(entry.ty, bytes.unwrap_or_default())
    }
}
