//! Python's methods on strings, lists and mappings, within the budget.
//!
//! minijinja's own compatibility layer knows the common ones, but does not ask what they cost:
//! `a.replace('x', a)` squares a text.

use minijinja::value::{Kwargs, StringInput, from_args};
use minijinja::{Error, State, Value, filters};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::python::{Metered, pay};

/// A value costs this much beside its text.
const SLOT: usize = 64;

/// Calls `value.method(args)`.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, method, args);
    };
    pay(state, text.len())?;
    match method {
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let joiner = StringInput::new(state, value)?;
            filters::join(state, items, Some(joiner), None, Kwargs::from_iter(NONE))
        }
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            let most = count.and_then(|n| usize::try_from(n).ok());
            let most = most.unwrap_or(usize::MAX);
            let found = text.matches(old).take(most).count();
            pay(state, found.saturating_mul(new.len()))?;
            Ok(text.replacen(old, new, most).into())
        }
        "split" | "splitlines" => {
            let separator = args.first().and_then(Value::as_str);
            let pieces = match separator {
                Some("") | None => text.chars().filter(|c| c.is_whitespace()).count(),
                Some(separator) => text.matches(separator).count(),
            };
            pay(state, pieces.saturating_mul(SLOT))?;
            unknown_method_callback(state, value, method, args)
        }
        "rsplit" => {
            let (separator, most): (&str, Option<i64>) = from_args(args)?;
            let most = most.and_then(|n| usize::try_from(n).ok());
            let most = most.unwrap_or(usize::MAX).saturating_add(1);
            pay(state, text.matches(separator).count().saturating_mul(SLOT))?;
            let mut parts: Vec<&str> = text.rsplitn(most, separator).collect();
            parts.reverse();
            Ok(parts.into_iter().collect())
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "title" => {
            let () = from_args(args)?;
            Ok(title(text).into())
        }
        "format" => {
            pay(state, most_formatted(state, text, args)?)?;
            unknown_method_callback(state, value, method, args)
        }
        _ => unknown_method_callback(state, value, method, args),
    }
}

/// Every run of letters with a capital first, as Python counts runs: the filter `title` starts one
/// only at a space.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for c in text.chars() {
        match within {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        within = c.is_alphabetic();
    }
    out
}

/// No keyword arguments.
const NONE: [(&str, Value); 0] = [];

/// More bytes than `text.format(args)` can have: every field as long as the longest argument, and
/// as wide as the largest number in the text.
fn most_formatted(state: &State, text: &str, args: &[Value]) -> Result<usize, Error> {
    let fields = text.matches('{').count();
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    let width = |digits: &str| match digits {
        "" => 0,
        digits => digits.parse().unwrap_or(usize::MAX),
    };
    let mut longest = numbers.map(width).max().unwrap_or(0);
    for value in args {
        let mut spelled = Metered::new(state);
        spelled.push_value(value)?;
        longest = longest.max(spelled.text.len());
    }
    Ok(fields.saturating_mul(longest))
}
