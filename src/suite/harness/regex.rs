//! Python's regular expressions, as far as task definitions use them.

use fancy_regex::{Captures, Regex};

/// A pattern of Python's `re`.
#[derive(Debug, Clone)]
pub(super) struct PythonRegex(Regex);

impl PythonRegex {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(pattern: &str) -> Result<Self, String> {
        match Regex::new(&translated(pattern)) {
            Ok(regex) => Ok(Self(regex)),
            Err(e) => Err(format!("{pattern:?} is no regular expression: {e}")),
        }
    }

    /// `re.findall`: of a match its only group, of several the first that is not empty, and
    /// without groups all of it.
    ///
    /// # Errors
    /// The text makes the pattern search without end.
    pub fn find_all(&self, text: &str) -> Result<Vec<Found>, String> {
        let mut found = Vec::new();
        for captures in self.0.captures_iter(text) {
            found.push(chosen(&captures.map_err(|e| e.to_string())?));
        }
        Ok(found)
    }

    /// `re.sub`: `\1` in the replacement is the first group.
    ///
    /// # Errors
    /// The text makes the pattern search without end.
    pub fn replace_all(&self, text: &str, replacement: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut at = 0;
        for captures in self.0.captures_iter(text) {
            let captures = captures.map_err(|e| e.to_string())?;
            let Some(whole) = captures.get(0) else {
                continue;
            };
            out += text.get(at..whole.start()).unwrap_or_default();
            out += &expanded(replacement, &captures);
            at = whole.end();
        }
        Ok(out + text.get(at..).unwrap_or_default())
    }
}

/// What `findall` gives for one match.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    Text(String),
    /// Several groups, all empty.
    Nothing,
}

fn chosen(captures: &Captures<'_, str>) -> Found {
    let group = |i: usize| captures.get(i).map_or("", |m| m.as_str()).to_owned();
    match captures.len() {
        1 => Found::Text(group(0)),
        2 => Found::Text(group(1)),
        n => match (1..n).map(group).find(|text| !text.is_empty()) {
            Some(text) => Found::Text(text),
            None => Found::Nothing,
        },
    }
}

fn expanded(replacement: &str, captures: &Captures<'_, str>) -> String {
    let mut out = String::new();
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                chars.next();
                let group = digit.to_digit(10).unwrap_or(0) as usize;
                out += captures.get(group).map_or("", |m| m.as_str());
            }
            ('\\', Some('n')) => {
                chars.next();
                out.push('\n');
            }
            ('\\', Some('\\')) => {
                chars.next();
                out.push('\\');
            }
            _ => out.push(c),
        }
    }
    out
}

/// Python's `$` also matches before a last line break, and its `\Z` is `\z` here.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Z') => out += "\\z",
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            '[' if in_class => out += "\\[",
            '[' => {
                in_class = true;
                out.push('[');
                // A closing bracket in the first place is a plain one.
                if chars.clone().next() == Some('^') {
                    out.extend(chars.next());
                }
                if chars.clone().next() == Some(']') {
                    chars.next();
                    out += "\\]";
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '$' if in_class => out += "\\$",
            '$' => out += "(?=\\n?\\z)",
            '&' | '~' if in_class => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Vec<String> {
        let found = PythonRegex::new(pattern).unwrap().find_all(text).unwrap();
        let text = |f| match f {
            Found::Text(text) => text,
            Found::Nothing => "<nothing>".into(),
        };
        found.into_iter().map(text).collect()
    }

    /// Each expectation is what Python 3.11's `re.findall` gives.
    #[test]
    fn patterns_of_published_tasks_find_what_python_finds() {
        let text = "so 3 + 4 = $1,234.5.\n#### 1,234\n";
        assert_eq!(found(r"#### (\-?[0-9\.\,]+)", text), ["1,234"]);
        assert_eq!(
            found(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", text),
            ["3", "4", "$1,234.5.", "1,234"]
        );
        assert_eq!(
            found(r"(?<=the answer is )(.*)(?=.)", "so the answer is 12."),
            ["12"]
        );
        assert_eq!(found(r"^(.*?)(?=\n|$)", "first\nsecond"), ["first"]);
        assert_eq!(found(r"^(.*?)\s*$", "word  \n"), ["word"]);
        assert_eq!(found(r"\b(Yes|No|yes|no)\b", "No, yes"), ["No", "yes"]);
    }

    /// Each expectation is what Python 3.11's `re.sub` gives.
    #[test]
    fn replacing_is_pythons() {
        let sub = |pattern: &str, with: &str, text: &str| {
            PythonRegex::new(pattern)
                .unwrap()
                .replace_all(text, with)
                .unwrap()
        };
        assert_eq!(sub(r"(?s).*#### ", "", "a\nb #### 7"), "7");
        assert_eq!(sub(r"\.$", "", "7.\n"), "7\n");
        assert_eq!(sub(r"\(\s*([^\)]*?)\s*\)", r"(\1)", "( a b )"), "(a b)");
        assert_eq!(sub(r"\[.*?\]", "", "x [title] y"), "x  y");
    }

    #[test]
    fn a_broken_pattern_is_an_error() {
        assert!(PythonRegex::new("(a").is_err());
    }
}
