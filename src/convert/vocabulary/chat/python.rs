//! Text that grows within the budget.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, State, Value};

/// What one unit of the engine's fuel pays for.
const BYTES: usize = 64;

/// What one item of a list costs beside its text.
const ITEM: usize = 32;

/// A text under construction that the template pays for as it grows, not afterwards: a list that
/// repeats itself a billion times is a few bytes until it is written out.
pub(super) struct Metered<'s, 't, 'e> {
    state: &'s State<'t, 'e>,
    pub(super) text: String,
    used: usize,
    paid: usize,
}

impl<'s, 't, 'e> Metered<'s, 't, 'e> {
    pub(super) fn new(state: &'s State<'t, 'e>) -> Self {
        Self {
            state,
            text: String::new(),
            used: 0,
            paid: 0,
        }
    }

    /// Appends `text`.
    ///
    /// # Errors
    /// The budget is spent.
    pub(super) fn push(&mut self, text: &str) -> Result<(), Error> {
        self.charge(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    /// Appends what stands before an item of a list: the separator, but not before the first.
    ///
    /// # Errors
    /// The budget is spent.
    pub(super) fn push_item(&mut self, separator: &str, first: bool) -> Result<(), Error> {
        self.charge(ITEM)?;
        match first {
            true => Ok(()),
            false => self.push(separator),
        }
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.paid {
            let units = (self.used - self.paid).div_ceil(BYTES);
            self.state.consume_fuel(units as u64)?;
            self.paid += units * BYTES;
        }
        Ok(())
    }

    /// Appends a value as Python's `str` spells it, and within lists as its `repr` does.
    ///
    /// # Errors
    /// The budget is spent.
    pub(super) fn push_value(&mut self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.push(text),
            None => self.push_repr(value),
        }
    }

    fn push_repr(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::Seq if value.downcast_object_ref::<Tuple>().is_some() => {
                self.push_list(["(", ")"], value, value.len() == Some(1))
            }
            ValueKind::Seq | ValueKind::Iterable => self.push_list(["[", "]"], value, false),
            ValueKind::Map => {
                self.push("{")?;
                for (at, key) in value.try_iter()?.enumerate() {
                    self.push_item(", ", at == 0)?;
                    self.push_repr(&key)?;
                    self.push(": ")?;
                    self.push_repr(&value.get_item(&key)?)?;
                }
                self.push("}")
            }
            // The engine knows Python's quotes, but only shows them in a list.
            ValueKind::String => {
                let listed = Value::from(vec![value.clone()]).to_string();
                let quoted = listed.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
                self.push(quoted.unwrap_or_default())
            }
            _ => self.push(&value.to_string()),
        }
    }

    fn push_list(
        &mut self,
        [open, close]: [&str; 2],
        list: &Value,
        comma: bool,
    ) -> Result<(), Error> {
        self.push(open)?;
        for (at, item) in list.try_iter()?.enumerate() {
            self.push_item(", ", at == 0)?;
            self.push_repr(&item)?;
        }
        self.push(if comma { "," } else { "" })?;
        self.push(close)
    }
}

/// Pays for a string of so many bytes.
///
/// # Errors
/// The budget is spent.
pub(super) fn pay(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes.div_ceil(BYTES) as u64)
}

/// The filter `string`: a value as Python's `str` spells it.
pub(super) fn string(state: &State, value: &Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        return Ok(value.clone());
    }
    let mut text = Metered::new(state);
    text.push_value(value)?;
    Ok(text.text.into())
}

/// The filter `escape`: HTML as Python's markupsafe writes it.
pub(super) fn escape(state: &State, value: &Value) -> Result<Value, Error> {
    let plain = string(state, value)?;
    let mut text = Metered::new(state);
    for c in plain.as_str().unwrap_or_default().chars() {
        match c {
            '&' => text.push("&amp;")?,
            '<' => text.push("&lt;")?,
            '>' => text.push("&gt;")?,
            '"' => text.push("&#34;")?,
            '\'' => text.push("&#39;")?,
            c => text.push(c.encode_utf8(&mut [0; 4]))?,
        }
    }
    Ok(text.text.into())
}
