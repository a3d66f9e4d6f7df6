//! The filter `tojson` as transformers defines it: Python's `json.dumps`, which leaves HTML and
//! the order of keys alone, and all letters unless asked.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::python::Metered;

/// Where Python's recursion would end.
const MAX_DEPTH: usize = 500;

/// How the text is laid out.
struct Style {
    ensure_ascii: bool,
    /// One item a line, with so much before it for each level.
    indent: Option<String>,
    between_items: String,
    after_key: String,
    sort_keys: bool,
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let style = Style::new(ensure_ascii, &options)?;
    let mut out = Metered::new(state);
    style.value(&mut out, value, 0)?;
    Ok(out.text.into())
}

impl Style {
    fn new(ensure_ascii: Option<bool>, options: &Kwargs) -> Result<Self, Error> {
        let named = options.get::<Option<bool>>("ensure_ascii")?;
        let indent = match options.get::<Option<Value>>("indent")? {
            None => None,
            Some(value) => Some(match (value.as_usize(), value.as_str()) {
                (Some(width), _) => " ".repeat(width.min(64)),
                (_, Some(text)) => text.to_owned(),
                _ => return Err(invalid("tojson: indent is neither a number nor a text")),
            }),
        };
        let between_items = match indent {
            Some(_) => ",",
            None => ", ",
        };
        let mut separators = (between_items.to_owned(), ": ".to_owned());
        if let Some(given) = options.get::<Option<Value>>("separators")? {
            let text = |at: usize| given.get_item_by_index(at).map(|part| part.to_string());
            separators = (text(0)?, text(1)?);
        }
        let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
        options.assert_all_used()?;
        Ok(Self {
            ensure_ascii: ensure_ascii.or(named).unwrap_or(false),
            indent,
            between_items: separators.0,
            after_key: separators.1,
            sort_keys,
        })
    }

    fn value(&self, out: &mut Metered, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid("tojson: lists in lists without end"));
        }
        match value.kind() {
            ValueKind::None => out.push("null"),
            ValueKind::Bool if value.is_true() => out.push("true"),
            ValueKind::Bool => out.push("false"),
            ValueKind::Number => out.push(&number(value)),
            ValueKind::String => self.string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                let item = |out: &mut Metered, item: &Value| self.value(out, item, depth + 1);
                self.list(out, ["[", "]"], depth, items, item)
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                let entry = |out: &mut Metered, key: &Value| {
                    self.key(out, key)?;
                    out.push(&self.after_key)?;
                    self.value(out, &value.get_item(key)?, depth + 1)
                };
                self.list(out, ["{", "}"], depth, keys.into_iter(), entry)
            }
            kind => Err(invalid(format!("tojson: {kind} has no JSON form"))),
        }
    }

    fn list(
        &self,
        out: &mut Metered,
        [open, close]: [&str; 2],
        depth: usize,
        items: impl Iterator<Item = Value>,
        item: impl Fn(&mut Metered, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open)?;
        let mut empty = true;
        for each in items {
            out.push_item(&self.between_items, empty)?;
            empty = false;
            self.new_line(out, depth + 1)?;
            item(out, &each)?;
        }
        if !empty {
            self.new_line(out, depth)?;
        }
        out.push(close)
    }

    fn new_line(&self, out: &mut Metered, depth: usize) -> Result<(), Error> {
        let Some(indent) = &self.indent else {
            return Ok(());
        };
        out.push("\n")?;
        (0..depth).try_for_each(|_| out.push(indent))
    }

    /// Python writes keys that are no strings as strings.
    fn key(&self, out: &mut Metered, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(out, key.as_str().unwrap_or_default()),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                out.push("\"")?;
                self.value(out, key, 0)?;
                out.push("\"")
            }
            kind => Err(invalid(format!("tojson: {kind} as a key"))),
        }
    }

    fn string(&self, out: &mut Metered, text: &str) -> Result<(), Error> {
        out.push("\"")?;
        let mut units = [0u16; 2];
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            let escaped = match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\t' => "\\t".to_owned(),
                '\u{8}' => "\\b".to_owned(),
                '\u{c}' => "\\f".to_owned(),
                ' '..='~' => continue,
                '\u{7f}'.. if !self.ensure_ascii => continue,
                c => {
                    let units = c.encode_utf16(&mut units).iter();
                    units.map(|unit| format!("\\u{unit:04x}")).collect()
                }
            };
            out.push(text.get(plain..at).unwrap_or_default())?;
            out.push(&escaped)?;
            plain = at + c.len_utf8();
        }
        out.push(text.get(plain..).unwrap_or_default())?;
        out.push("\"")
    }
}

/// A number as Python writes it: `1e-05`, `1e+16`, `NaN`.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(number) = f64::try_from(value.clone()) else {
        return value.to_string();
    };
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    let text = format!("{number:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(small) => format!("{digits}e-{small:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
    }
}

fn invalid(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.into())
}
