//! Filters: what is taken from a generated text before it is compared.

use super::fields::Fields;
use super::regex::{Found, PythonRegex};
use super::yaml::{Fault, Node};

/// A named chain of filters (`filter_list`).
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// `strict-match`, `flexible-extract`, …; `none` where the task names none.
    pub name: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    /// The text of the n-th match, counted from the end if negative.
    Regex {
        pattern: PythonRegex,
        nth: i64,
        fallback: String,
    },
    Trim,
    Lower,
    Upper,
    /// Of several texts the first; slim generates one.
    First,
}

impl Pipeline {
    /// What the filters leave of a text.
    pub fn apply(&self, text: &str) -> String {
        let steps = self.steps.iter();
        steps.fold(text.to_owned(), |text, step| step.apply(&text))
    }
}

impl Step {
    fn apply(&self, text: &str) -> String {
        match self {
            Step::Trim => text.trim().to_owned(),
            Step::Lower => text.to_lowercase(),
            Step::Upper => text.to_uppercase(),
            Step::First => text.to_owned(),
            Step::Regex {
                pattern,
                nth,
                fallback,
            } => {
                // A pattern that cannot decide has found nothing.
                let found = pattern.find_all(text).unwrap_or_default();
                let index = match usize::try_from(*nth) {
                    Ok(nth) => Some(nth),
                    Err(_) => found.len().checked_sub(nth.unsigned_abs() as usize),
                };
                match index.and_then(|index| found.get(index)) {
                    Some(Found::Text(text)) => text.trim().to_owned(),
                    Some(Found::Nothing) | None => fallback.clone(),
                }
            }
        }
    }
}

/// The field `filter_list`; without it the text is compared as it is.
pub(super) fn read(fields: &mut Fields) -> Result<Vec<Pipeline>, Fault> {
    let path = fields.path("filter_list");
    let Some(nodes) = fields.list("filter_list")? else {
        return Ok(vec![Pipeline {
            name: "none".to_owned(),
            steps: Vec::new(),
        }]);
    };
    let pipeline = |(i, node)| pipeline(node, &format!("{path}[{i}]"));
    nodes.into_iter().enumerate().map(pipeline).collect()
}

fn pipeline(node: Node, path: &str) -> Result<Pipeline, Fault> {
    let mut fields = Fields::of(node, path)?;
    let Some((_, name)) = fields.text("name")? else {
        return Err(fields.fault(fields.line, "name", "is missing: give the filters a name"));
    };
    let Some(nodes) = fields.list("filter")? else {
        let problem = "is missing: give a list of `function: …`";
        return Err(fields.fault(fields.line, "filter", problem));
    };
    let path = fields.path("filter");
    let step = |(i, node)| step(node, &format!("{path}[{i}]"));
    let steps = nodes
        .into_iter()
        .enumerate()
        .map(step)
        .collect::<Result<_, _>>()?;
    fields.end()?;
    Ok(Pipeline { name, steps })
}

#[derive(Clone, Copy)]
enum Kind {
    Regex,
    Trim,
    Lower,
    Upper,
    First,
}

const KINDS: &[(&str, Kind)] = &[
    ("regex", Kind::Regex),
    ("remove_whitespace", Kind::Trim),
    ("lowercase", Kind::Lower),
    ("uppercase", Kind::Upper),
    ("take_first", Kind::First),
];

fn step(node: Node, path: &str) -> Result<Step, Fault> {
    let mut fields = Fields::of(node, path)?;
    let Some(kind) = fields.word("function", KINDS)? else {
        return Err(fields.fault(fields.line, "function", "is missing: name the filter"));
    };
    let step = match kind {
        Kind::Trim => Step::Trim,
        Kind::Lower => Step::Lower,
        Kind::Upper => Step::Upper,
        Kind::First => Step::First,
        Kind::Regex => {
            let default = (fields.line, r"#### (\-?[0-9\.\,]+)".to_owned());
            let (line, pattern) = fields.text("regex_pattern")?.unwrap_or(default);
            let pattern = PythonRegex::new(&pattern)
                .map_err(|problem| fields.fault(line, "regex_pattern", problem))?;
            let nth = fields.int("group_select")?.map_or(0, |(_, n)| n);
            let fallback = fields.text("fallback")?.map(|(_, text)| text);
            Step::Regex {
                pattern,
                nth,
                fallback: fallback.unwrap_or_else(|| "[invalid]".to_owned()),
            }
        }
    };
    fields.end()?;
    Ok(step)
}
