//! Jinja templates over a document, as the harness renders them.
//!
//! A template that is a single expression, `{{ choices.text }}`, gives the value itself where the
//! harness prints it and reads the print back.

use super::regex::PythonRegex;
use super::yaml::Fault;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Expression, Output, State, UndefinedBehavior};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Steps that one rendering may take: a template that loops for ever ends with an error.
const FUEL: u64 = 1_000_000;

/// A checked template, or the name of a document's field.
#[derive(Clone)]
pub(super) struct Template {
    /// Where it stands, for messages.
    pub line: usize,
    pub field: String,
    source: String,
    compiled: Compiled,
}

#[derive(Clone)]
enum Compiled {
    Expression(Arc<Expression<'static, 'static>>),
    Text(Arc<Environment<'static>>),
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

impl Template {
    /// Compiles the text that stands in `field` on `line`.
    pub fn new(line: usize, field: &str, source: String) -> Result<Self, Fault> {
        let compiled = match expression(&source) {
            Some(expression) => environment()
                .compile_expression_owned(expression.to_owned())
                .map(|expression| Compiled::Expression(Arc::new(expression))),
            None => {
                let mut own = environment().clone();
                own.add_template_owned("it", source.clone())
                    .map(|()| Compiled::Text(Arc::new(own)))
            }
        };
        let compiled = compiled.map_err(|e| {
            let problem = format!("is no Jinja template that slim can run: {}", told(&e));
            Fault::new(line, field, problem)
        })?;
        Ok(Self {
            line,
            field: field.to_owned(),
            source,
            compiled,
        })
    }

    /// The field of a document that this names, if it names one instead of being a template.
    fn named<'d>(&self, document: &'d Json) -> Option<&'d Json> {
        document.get(&self.source)
    }

    /// What it gives for a document.
    pub fn value(&self, document: &Document) -> Result<Json, Fault> {
        if let Some(value) = self.named(&document.json) {
            return Ok(value.clone());
        }
        let value = match &self.compiled {
            Compiled::Expression(expression) => expression.eval(&document.context),
            Compiled::Text(own) => own
                .get_template("it")
                .and_then(|template| template.render(&document.context))
                .map(Value::from),
        };
        let value = value.and_then(|value| match value.is_undefined() {
            true => Err(Error::from(ErrorKind::UndefinedError)),
            false => Ok(value),
        });
        value.map(|value| to_json(&value)).map_err(|e| {
            let names = document.json.as_object().into_iter().flat_map(|o| o.keys());
            let names: Vec<&str> = names.map(String::as_str).take(20).collect();
            let problem = format!(
                "fails: {} (the document has {})",
                told(&e),
                names.join(", ")
            );
            Fault::new(self.line, &self.field, problem)
        })
    }

    /// The same as text.
    pub fn text(&self, document: &Document) -> Result<String, Fault> {
        Ok(printed(&self.value(document)?))
    }
}

/// A document, and the same for templates.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub json: Json,
    context: Value,
}

impl Document {
    pub fn new(json: Json) -> Self {
        let context = to_jinja(&json);
        Self { json, context }
    }
}

/// The inside of a template that is nothing but one expression.
fn expression(source: &str) -> Option<&str> {
    let inside = source.strip_prefix("{{")?.strip_suffix("}}")?;
    let nested = ["{{", "}}", "{%", "{#"].iter().any(|m| inside.contains(m));
    let trimmed = inside.trim_matches('-').trim();
    (!nested && !trimmed.is_empty()).then_some(trimmed)
}

fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        // The builder refuses only delimiters that clash; these are its own.
        environment.set_syntax(syntax.unwrap_or_default());
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(method);
        environment.set_formatter(print);
        environment.add_filter("regex_replace", regex_replace);
        environment
    })
}

/// Python's methods of strings, lists and mappings.
fn method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (value.kind(), method, arguments) {
        (ValueKind::Seq, "index", [wanted]) => {
            let found = value.try_iter()?.position(|item| item == *wanted);
            found.map(Value::from).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidOperation,
                    format!("{wanted:?} is not in {value:?}"),
                )
            })
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

/// `re.sub(pattern, replacement, text)`.
fn regex_replace(text: &str, pattern: &str, replacement: &str) -> Result<String, Error> {
    let wrong = |problem: String| Error::new(ErrorKind::InvalidOperation, problem);
    let regex = PythonRegex::new(pattern).map_err(wrong)?;
    regex.replace_all(text, replacement).map_err(wrong)
}

/// As Python prints values.
fn print(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None => printed(&to_json(value)),
    };
    out.write_str(&text).map_err(Error::from)
}

/// A value as Python's `str` gives it.
pub(super) fn printed(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => represented(other),
    }
}

/// A value as Python's `repr` gives it.
fn represented(value: &Json) -> String {
    match value {
        Json::Null => "None".to_owned(),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => {
            let quote = match text.contains('\'') && !text.contains('"') {
                true => '"',
                false => '\'',
            };
            let inner: String = text.chars().map(|c| escaped(c, quote)).collect();
            format!("{quote}{inner}{quote}")
        }
        Json::Array(values) => {
            let values: Vec<String> = values.iter().map(represented).collect();
            format!("[{}]", values.join(", "))
        }
        Json::Object(fields) => {
            let field = |(key, value): (&String, &Json)| {
                format!(
                    "{}: {}",
                    represented(&Json::from(key.as_str())),
                    represented(value)
                )
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

fn escaped(c: char, quote: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        '\r' => "\\r".to_owned(),
        '\\' => "\\\\".to_owned(),
        c if c == quote => format!("\\{c}"),
        c => c.to_string(),
    }
}

fn to_jinja(value: &Json) -> Value {
    match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::from(integer),
            (_, float) => Value::from(float.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(values) => values.iter().map(to_jinja).collect(),
        Json::Object(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(key, value)| (key.clone(), to_jinja(value)));
            Value::from_object(fields.collect::<BTreeMap<String, Value>>())
        }
    }
}

fn to_json(value: &Value) -> Json {
    match value.kind() {
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => match (value.is_integer(), value.as_i64()) {
            (true, Some(integer)) => integer.into(),
            _ => f64::try_from(value.clone()).map_or(Json::Null, Json::from),
        },
        ValueKind::String => value.as_str().unwrap_or_default().into(),
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()
            .into_iter()
            .flatten()
            .map(|v| to_json(&v))
            .collect(),
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let field = |key: Value| {
                let inner = value.get_item(&key).map_or(Json::Null, |v| to_json(&v));
                (key.to_string(), inner)
            };
            Json::Object(keys.map(field).collect())
        }
        _ => Json::Null,
    }
}

/// The whole of a template error in one line.
fn told(error: &Error) -> String {
    let what = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    match error.line().filter(|&line| line > 1) {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(template: &str, document: Json) -> Result<Json, Fault> {
        Template::new(1, "t", template.to_owned())?.value(&Document::new(document))
    }

    #[test]
    fn templates_see_the_document_as_python_would() {
        let doc = json!({"q": " What? ", "choices": {"text": ["a", "b's"], "label": ["A", "B"]},
            "key": "B", "n": 3, "yes": true, "none": null});
        for (template, expected) in [
            ("q", json!(" What? ")),
            (
                "Question: {{q.strip()}}\nAnswer:\n",
                json!("Question: What?\nAnswer:\n"),
            ),
            ("{{choices.text}}", json!(["a", "b's"])),
            ("{{choices.label.index(key)}}", json!(1)),
            ("{{choices['text'][1]}}", json!("b's")),
            (
                "is {{yes}} {{none}} {{n}} {{choices.text}}",
                json!("is True None 3 ['a', \"b's\"]"),
            ),
            (
                "{{ q | trim | regex_replace('[A-Z](.)', '\\\\1\\\\1') }}",
                json!("hhat?"),
            ),
            (
                "{{ choices.text | map('replace', 'a', 'c') | list }}",
                json!(["c", "b's"]),
            ),
            (
                "{{ q.split('h', 1)[1].rstrip().capitalize() }}",
                json!("At?"),
            ),
        ] {
            assert_eq!(
                value(template, doc.clone()).unwrap(),
                expected,
                "{template}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_what_is() {
        for template in ["{{missing}}", "x {{missing}}", "{{q.missing.deeper}}"] {
            let fault = value(template, json!({"q": "x", "r": 1})).unwrap_err();
            assert!(fault.problem.contains("q, r"), "{fault:?}");
        }
        let fault = Template::new(7, "doc_to_text", "{{ q".into()).unwrap_err();
        assert_eq!((fault.line, fault.field.as_str()), (7, "doc_to_text"));
    }

    #[test]
    fn a_template_without_end_runs_out_of_fuel() {
        let endless =
            "{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}";
        assert!(value(endless, json!({})).is_err());
    }
}
