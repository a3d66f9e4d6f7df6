//! The Jinja environment that chat templates are written for: transformers' own.

use jiff::Zoned;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use super::{json, methods, python};

/// The work that one rendering may do: about so many instructions, or 64 times as many bytes.
/// Published templates need some thousands for a conversation of ten turns.
const FUEL: u64 = 1 << 19;

/// An environment without templates.
pub(super) fn new() -> Environment<'static> {
    let mut environment = Environment::new();
    // transformers sets both; without a newline at the end is Jinja's own default.
    if let Ok(syntax) = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
    {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| {
        let text = python::string(state, value)?;
        Ok(out.write_str(text.as_str().unwrap_or_default())?)
    });
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", python::string);
    environment.add_filter("safe", python::string);
    environment.add_filter("escape", python::escape);
    environment.add_filter("e", python::escape);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment
}

/// The words of a template that gave up by itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// What the template said when it raised the error.
pub(super) fn raised(error: &minijinja::Error) -> Option<&str> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(Raised(words)) = error.downcast_ref() {
            return Some(words);
        }
        cause = error.source();
    }
    None
}

fn raise_exception(words: String) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, words.clone());
    Err(error.with_source(Raised(words)))
}

/// The local time, as the template wants it written.
fn strftime_now(format: &str) -> Result<String, Error> {
    let text = jiff::fmt::strtime::format(format, &Zoned::now());
    text.map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
}

/// Whatever has a length and can be indexed, as in Python: strings and mappings too.
fn is_sequence(value: &Value) -> bool {
    use ValueKind::{Map, Seq, String, Undefined};
    matches!(value.kind(), Map | Seq | String | Undefined)
}

/// As in Python, `none` is not.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}
