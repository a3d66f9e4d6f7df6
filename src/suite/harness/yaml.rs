//! YAML as a tree in which every value knows its line.

use std::fmt;

use anyhow::anyhow;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::Value;

/// Values may be nested this deep; no task file needs half of it.
const MAX_DEPTH: usize = 32;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Counted from 1.
    pub line: usize,
    pub data: Data,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; no key stands twice.
    Map(Vec<(String, Node)>),
    /// A value with a tag of its own such as `!function`, and its text.
    Tagged(String, String),
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub line: usize,
    /// The field, as a path such as `metric_list[0].metric`; empty for the file as a whole.
    pub field: String,
    pub problem: String,
}

impl Fault {
    pub fn new(line: usize, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            line,
            field: field.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Data {
    /// What it is, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Null => f.write_str("empty"),
            Data::Bool(value) => write!(f, "the truth value {value}"),
            Data::Int(value) => write!(f, "the number {value}"),
            Data::Float(value) => write!(f, "the number {value}"),
            Data::Text(text) => {
                let shown: String = text.chars().take(40).collect();
                write!(f, "the text {shown:?}")
            }
            Data::List(_) => f.write_str("a list"),
            Data::Map(_) => f.write_str("a mapping"),
            Data::Tagged(tag, _) => write!(f, "a value tagged !{tag}"),
        }
    }
}

impl From<Node> for Value {
    /// The same without lines; a tagged value is its text.
    fn from(node: Node) -> Self {
        match node.data {
            Data::Null => Self::Null,
            Data::Bool(value) => value.into(),
            Data::Int(value) => value.into(),
            Data::Float(value) => value.into(),
            Data::Text(text) | Data::Tagged(_, text) => text.into(),
            Data::List(nodes) => nodes.into_iter().map(Self::from).collect(),
            Data::Map(fields) => Self::Object(
                fields
                    .into_iter()
                    .map(|(key, node)| (key, Self::from(node)))
                    .collect(),
            ),
        }
    }
}

/// Reads one document as JSON would have it.
///
/// # Errors
/// What is no YAML, with its line; aliases.
pub fn json_of_yaml(text: &str) -> anyhow::Result<Value> {
    let node = parse(text).map_err(|fault| anyhow!("line {}: {}", fault.line, fault.problem))?;
    Ok(node.into())
}

/// Reads one document. Aliases are refused: they make small files large.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let mut events = Events(Parser::new_from_str(text));
    loop {
        match events.next()? {
            (Event::StreamEnd, line) => return Err(Fault::new(line, "", "the file is empty")),
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (event, line) => {
                let node = events.node(event, line, 0)?;
                events.next()?;
                return match events.next()? {
                    (Event::StreamEnd, _) => Ok(node),
                    (_, line) => Err(Fault::new(line, "", "a second document begins")),
                };
            }
        }
    }
}

struct Events<'t>(Parser<'t, saphyr_parser::StrInput<'t>>);

impl<'t> Events<'t> {
    fn next(&mut self) -> Result<(Event<'t>, usize), Fault> {
        match self.0.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(e)) => Err(Fault::new(e.marker().line(), "", e.info().to_owned())),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn node(&mut self, event: Event<'t>, line: usize, depth: usize) -> Result<Node, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::new(line, "", "values are nested too deep"));
        }
        let data = match event {
            Event::Scalar(text, style, _, tag) => match tag {
                Some(tag) if !tag.is_yaml_core_schema() => {
                    Data::Tagged(tag.suffix.clone(), text.into_owned())
                }
                _ => scalar(&text, style == ScalarStyle::Plain),
            },
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(_) => {
                let problem = "anchors and aliases (& and *) are not read: write the value out";
                return Err(Fault::new(line, "", problem));
            }
            _ => return Err(Fault::new(line, "", "a value is missing")),
        };
        Ok(Node { line, data })
    }

    fn list(&mut self, depth: usize) -> Result<Data, Fault> {
        let mut values = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Data::List(values)),
                (event, line) => values.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Data, Fault> {
        let mut fields: Vec<(String, Node)> = Vec::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Data::Map(fields)),
                (Event::Scalar(key, ..), line) => (key.into_owned(), line),
                (_, line) => return Err(Fault::new(line, "", "a key must be a plain word")),
            };
            if fields.iter().any(|(other, _)| *other == key) {
                return Err(Fault::new(line, key, "stands twice: remove one"));
            }
            let (event, line) = self.next()?;
            fields.push((key, self.node(event, line, depth + 1)?));
        }
    }
}

/// What an untagged scalar means (YAML 1.1's core, as PyYAML reads it).
fn scalar(text: &str, plain: bool) -> Data {
    if !plain {
        return Data::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Data::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Data::Bool(false)
        }
        _ => {
            let digits = text.trim_start_matches(['-', '+']);
            let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
            match (text.parse(), text.parse()) {
                (Ok(value), _) if number => Data::Int(value),
                (_, Ok(value)) if number => Data::Float(value),
                _ => Data::Text(text.to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines_and_kinds() {
        let text =
            "task: x\nn: 3\nf: 0.5\nyes_: yes\nquoted: \"3\"\nlist:\n  - a\n  - !function b.c\n";
        let Data::Map(fields) = parse(text).unwrap().data else {
            panic!("a mapping");
        };
        let lines: Vec<usize> = fields.iter().map(|(_, node)| node.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 7]);
        assert_eq!(fields[1].1.data, Data::Int(3));
        assert_eq!(fields[2].1.data, Data::Float(0.5));
        assert_eq!(fields[3].1.data, Data::Bool(true));
        assert_eq!(fields[4].1.data, Data::Text("3".into()));
        let Data::List(list) = &fields[5].1.data else {
            panic!("a list");
        };
        assert_eq!(list[1].data, Data::Tagged("function".into(), "b.c".into()));
    }

    #[test]
    fn what_could_grow_or_confuse_is_refused_with_its_line() {
        for (text, line, word) in [
            ("a: &x 1\nb: *x\n", 2, "aliases"),
            ("a: 1\na: 2\n", 2, "twice"),
            ("a: 1\nb: [1, 2\n", 3, ""),
            ("", 0, "empty"),
            ("a: 1\n---\nb: 2\n", 2, "second"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.problem.contains(word), "{text:?}: {fault:?}");
            assert!(fault.line.abs_diff(line) <= 1, "{text:?}: {fault:?}");
        }
        let deep = "[".repeat(100);
        assert!(parse(&deep).unwrap_err().problem.contains("deep"));
    }
}
