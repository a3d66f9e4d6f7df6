//! A task definition in lm-evaluation-harness's YAML vocabulary, read and checked.

use super::fields::Fields;
use super::filter::{self, Pipeline};
use super::metric::{self, Metric};
use super::template::Template;
use super::yaml::{Data, Fault, Node};
use crate::suite::{Family, Protocol, Sampling};
use std::collections::BTreeMap;

/// Text generated where the definition names no limit; the harness's default.
const DEFAULT_MAX_GEN_TOKS: usize = 256;
const MAX_GEN_TOKS: usize = 4096;
const MAX_SHOTS: usize = 100;

/// What is asked of the model for every document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    MultipleChoice,
    GenerateUntil,
    Loglikelihood,
    Rolling,
}

const OUTPUTS: &[(&str, Output)] = &[
    ("multiple_choice", Output::MultipleChoice),
    ("generate_until", Output::GenerateUntil),
    ("loglikelihood", Output::Loglikelihood),
    ("loglikelihood_rolling", Output::Rolling),
];

impl Output {
    /// The harness's name.
    pub fn name(self) -> &'static str {
        let named = OUTPUTS.iter().find(|(_, output)| *output == self);
        named.map_or("", |(name, _)| name)
    }

    fn protocol(self) -> Protocol {
        match self {
            Output::GenerateUntil => Protocol::Generate,
            _ => Protocol::Continuation,
        }
    }
}

/// How the documents for the examples are picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sampler {
    /// At random, as the harness draws them.
    Random,
    /// The first of the pool.
    First,
}

/// Where a text, a target or the choices come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Number(i64),
    Texts(Vec<String>),
    /// A field's name or a Jinja template.
    Template(Template),
}

/// Names of the dataset's splits.
#[derive(Debug, Clone, Default)]
pub(super) struct Splits {
    pub training: Option<String>,
    pub validation: Option<String>,
    pub test: Option<String>,
    pub fewshot: Option<String>,
}

/// A checked definition.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub task: String,
    pub dataset_path: String,
    pub dataset_name: Option<String>,
    /// Split → files, as given.
    pub data_files: BTreeMap<String, Vec<String>>,
    pub splits: Splits,
    pub output: Output,
    pub doc_to_text: Source,
    pub doc_to_target: Source,
    pub doc_to_choice: Option<Source>,
    pub description: Option<Template>,
    pub gen_prefix: Option<Template>,
    pub target_delimiter: String,
    pub fewshot_delimiter: String,
    pub num_fewshot: usize,
    pub sampler: Sampler,
    pub samples: Option<Vec<serde_json::Value>>,
    pub until: Vec<String>,
    pub max_gen_toks: usize,
    pub sampling: Option<Sampling>,
    pub filters: Vec<Pipeline>,
    pub metrics: Vec<Metric>,
    pub meta: Meta,
}

/// What slim wants to know beyond the harness, which lets `metadata` hold anything.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub version: String,
    pub family: Family,
    pub protocol: Protocol,
    pub about: String,
    /// Each gives one slice of a document.
    pub slices: Vec<Template>,
    pub id: Option<Template>,
    /// Examples come from documents that agree in this field.
    pub fewshot_by: Option<String>,
    /// The text whose words and bytes a perplexity counts; the target where absent.
    pub counted: Option<Template>,
}

/// Reads a definition whose included files are already merged into `root`.
pub(super) fn read(root: Node) -> Result<Definition, Fault> {
    let mut fields = Fields::of(root, "")?;
    let missing = |fields: &Fields, name: &str, problem: &str| {
        Err(fields.fault(fields.line, name, format!("is missing: {problem}")))
    };
    let Some((_, task)) = fields.text("task")? else {
        return missing(&fields, "task", "give the task a name");
    };
    let output = fields.word("output_type", OUTPUTS)?;
    let output = output.unwrap_or(Output::GenerateUntil);
    let Some((_, dataset_path)) = fields.text("dataset_path")? else {
        return missing(
            &fields,
            "dataset_path",
            "name a dataset of the hub, or `json` with dataset_kwargs.data_files",
        );
    };
    let dataset_name = fields.text("dataset_name")?.map(|(_, name)| name);
    let data_files = data_files(&mut fields)?;
    let splits = splits(&mut fields)?;
    let doc_to_text = source(&mut fields, "doc_to_text")?;
    let doc_to_target = source(&mut fields, "doc_to_target")?;
    let doc_to_choice = source(&mut fields, "doc_to_choice")?;
    let Some(doc_to_target) = doc_to_target else {
        return missing(&fields, "doc_to_target", "say what the right answer is");
    };
    if output == Output::MultipleChoice && doc_to_choice.is_none() {
        return missing(
            &fields,
            "doc_to_choice",
            "multiple_choice needs the choices",
        );
    }
    let fewshot_delimiter = plain(&mut fields, "fewshot_delimiter", "\n\n")?;
    let generation = generation(&mut fields, &fewshot_delimiter)?;
    let (sampler, samples) = fewshot(&mut fields)?;
    let definition = Definition {
        task,
        dataset_path,
        dataset_name,
        data_files,
        splits,
        output,
        doc_to_text: doc_to_text.unwrap_or(Source::Texts(vec![String::new()])),
        doc_to_target,
        doc_to_choice,
        description: template(&mut fields, "description")?,
        gen_prefix: template(&mut fields, "gen_prefix")?,
        target_delimiter: plain(&mut fields, "target_delimiter", " ")?,
        num_fewshot: fields.count("num_fewshot", MAX_SHOTS)?.unwrap_or(0),
        fewshot_delimiter,
        sampler,
        samples,
        until: generation.until,
        max_gen_toks: generation.max_gen_toks,
        sampling: generation.sampling,
        filters: filter::read(&mut fields)?,
        metrics: metric::read(&mut fields, output)?,
        meta: meta(&mut fields, output)?,
    };
    once(&mut fields)?;
    fields.skip(&[
        "tag",
        "task_alias",
        "should_decontaminate",
        "doc_to_decontamination_query",
    ]);
    fields.end()?;
    Ok(definition)
}

/// What the harness can and slim cannot; absent or at the value that changes nothing.
fn once(fields: &mut Fields) -> Result<(), Fault> {
    if let Some((line, repeats)) = fields.int("repeats")?
        && repeats != 1
    {
        return Err(fields.fault(line, "repeats", "slim generates once: give 1"));
    }
    for name in ["process_docs", "process_results", "custom_dataset"] {
        if let Some(node) = fields.take(name) {
            let problem = "is Python, which slim does not run: write what it does as Jinja \
                           templates in doc_to_text, doc_to_choice and doc_to_target";
            return Err(fields.fault(node.line, name, problem));
        }
    }
    for name in [
        "use_prompt",
        "doc_to_image",
        "doc_to_audio",
        "unsafe_code",
        "group",
    ] {
        if let Some(node) = fields.take(name)
            && node.data != Data::Bool(false)
        {
            return Err(fields.fault(node.line, name, "is not read by slim: remove it"));
        }
    }
    Ok(())
}

fn data_files(fields: &mut Fields) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let mut files = BTreeMap::new();
    let Some(mut kwargs) = fields.fields("dataset_kwargs")? else {
        return Ok(files);
    };
    kwargs.skip(&["trust_remote_code", "streaming"]);
    if let Some(node) = kwargs.take("data_files") {
        match node.data {
            Data::Map(entries) => {
                for (split, node) in entries {
                    let path = kwargs.path(&format!("data_files.{split}"));
                    files.insert(split, names(node, &path)?);
                }
            }
            _ => {
                // The harness's datasets library calls a single file's split `train`.
                let path = kwargs.path("data_files");
                files.insert("train".to_owned(), names(node, &path)?);
            }
        }
    }
    kwargs.end()?;
    Ok(files)
}

fn names(node: Node, path: &str) -> Result<Vec<String>, Fault> {
    match node.data {
        Data::Text(name) => Ok(vec![name]),
        Data::List(nodes) => {
            let lists: Result<Vec<_>, Fault> =
                nodes.into_iter().map(|node| names(node, path)).collect();
            Ok(lists?.concat())
        }
        data => Err(Fault::new(
            node.line,
            path,
            format!("is {data}: give the name of a file"),
        )),
    }
}

fn splits(fields: &mut Fields) -> Result<Splits, Fault> {
    let mut split = |name| Ok(fields.text(name)?.map(|(_, split)| split));
    let splits = Splits {
        training: split("training_split")?,
        validation: split("validation_split")?,
        test: split("test_split")?,
        fewshot: split("fewshot_split")?,
    };
    if splits.test.is_none() && splits.validation.is_none() {
        let problem = "is missing, and so is validation_split: name the split that is asked";
        return Err(fields.fault(fields.line, "test_split", problem));
    }
    Ok(splits)
}

fn plain(fields: &mut Fields, name: &'static str, default: &str) -> Result<String, Fault> {
    let text = fields.text(name)?.map(|(_, text)| text);
    Ok(text.unwrap_or_else(|| default.to_owned()))
}

fn template(fields: &mut Fields, name: &'static str) -> Result<Option<Template>, Fault> {
    let Some((line, text)) = fields.text(name)? else {
        return Ok(None);
    };
    let path = fields.path(name);
    Template::new(line, &path, text).map(Some)
}

fn source(fields: &mut Fields, name: &'static str) -> Result<Option<Source>, Fault> {
    let Some(node) = fields.take(name) else {
        return Ok(None);
    };
    let path = fields.path(name);
    let wrong = |line: usize, data: &Data| {
        let problem = match data {
            Data::Tagged(tag, text) if tag == "function" => format!(
                "names the Python function {text}, which slim does not run: write what it does as a Jinja template"
            ),
            data => format!("is {data}: give a template, a field's name or a list of texts"),
        };
        Err(Fault::new(line, path.clone(), problem))
    };
    match node.data {
        Data::Int(number) => Ok(Some(Source::Number(number))),
        Data::Text(text) => Ok(Some(Source::Template(Template::new(
            node.line, &path, text,
        )?))),
        Data::List(nodes) => {
            let mut texts = Vec::with_capacity(nodes.len());
            for node in nodes {
                match node.data {
                    Data::Text(text) => texts.push(text),
                    Data::Int(number) => texts.push(number.to_string()),
                    // PyYAML reads a bare yes or no as a truth value too.
                    data => return wrong(node.line, &data),
                }
            }
            Ok(Some(Source::Texts(texts)))
        }
        data => wrong(node.line, &data),
    }
}

/// When a generated text ends, and how its tokens are drawn.
struct Generation {
    until: Vec<String>,
    max_gen_toks: usize,
    sampling: Option<Sampling>,
}

fn generation(fields: &mut Fields, delimiter: &str) -> Result<Generation, Fault> {
    let default = || vec![delimiter.to_owned()];
    let Some(mut kwargs) = fields.fields("generation_kwargs")? else {
        return Ok(Generation {
            until: default(),
            max_gen_toks: DEFAULT_MAX_GEN_TOKS,
            sampling: None,
        });
    };
    let until = kwargs.texts("until")?;
    if let Some((line, _)) = until.iter().flatten().find(|(_, stop)| stop.is_empty()) {
        let problem = "has an empty text, which ends every answer at once: remove it";
        return Err(kwargs.fault(*line, "until", problem));
    }
    let max = kwargs.count("max_gen_toks", MAX_GEN_TOKS)?;
    let sampling = sampling(&mut kwargs)?;
    kwargs.end()?;
    let until = until.map(|stops| stops.into_iter().map(|(_, stop)| stop).collect());
    Ok(Generation {
        until: until.unwrap_or_else(default),
        max_gen_toks: max.unwrap_or(DEFAULT_MAX_GEN_TOKS),
        sampling,
    })
}

fn sampling(kwargs: &mut Fields) -> Result<Option<Sampling>, Fault> {
    let drawn = kwargs.bool("do_sample")? == Some(true);
    let temperature = number(kwargs, "temperature", |t| t >= 0.0, "0 or more")?;
    let top_p = number(
        kwargs,
        "top_p",
        |p| p > 0.0 && p <= 1.0,
        "above 0, at most 1",
    )?;
    let top_k = kwargs.count("top_k", usize::MAX)?.filter(|&k| k > 0);
    let cold = |t: &(usize, f64)| t.1 == 0.0;
    match (drawn, temperature) {
        (true, Some((line, _))) if temperature.as_ref().is_some_and(cold) => {
            let problem = "is 0, but do_sample is true: give do_sample false, or a temperature";
            Err(kwargs.fault(line, "temperature", problem))
        }
        (false, Some((line, _))) if !temperature.as_ref().is_some_and(cold) => {
            let problem = "does nothing while do_sample is false: give 0.0, or do_sample true";
            Err(kwargs.fault(line, "temperature", problem))
        }
        (false, _) => Ok(None),
        (true, temperature) => Ok(Some(Sampling {
            temperature: temperature.map_or(1.0, |(_, t)| t),
            top_k,
            top_p: top_p.map(|(_, p)| p),
        })),
    }
}

/// A number with its line.
fn number(
    kwargs: &mut Fields,
    name: &'static str,
    allowed: impl Fn(f64) -> bool,
    wanted: &str,
) -> Result<Option<(usize, f64)>, Fault> {
    let Some((line, text)) = kwargs.text(name)? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) if allowed(number) => Ok(Some((line, number))),
        _ => Err(kwargs.fault(line, name, format!("is {text}: give a number, {wanted}"))),
    }
}

type Samples = Option<Vec<serde_json::Value>>;

fn fewshot(fields: &mut Fields) -> Result<(Sampler, Samples), Fault> {
    let Some(mut config) = fields.fields("fewshot_config")? else {
        return Ok((Sampler::Random, None));
    };
    let samplers = [("default", Sampler::Random), ("first_n", Sampler::First)];
    let sampler = config.word("sampler", &samplers)?;
    let samples = config.list("samples")?;
    let samples = samples.map(|nodes| nodes.iter().map(json).collect());
    config.end()?;
    Ok((sampler.unwrap_or(Sampler::Random), samples))
}

/// A document that stands in the definition itself.
fn json(node: &Node) -> serde_json::Value {
    match &node.data {
        Data::Null => serde_json::Value::Null,
        Data::Bool(value) => (*value).into(),
        Data::Int(value) => (*value).into(),
        Data::Float(value) => (*value).into(),
        Data::Text(text) | Data::Tagged(_, text) => text.as_str().into(),
        Data::List(nodes) => nodes.iter().map(json).collect(),
        Data::Map(entries) => {
            let entries = entries.iter().map(|(key, node)| (key.clone(), json(node)));
            serde_json::Value::Object(entries.collect())
        }
    }
}

fn meta(fields: &mut Fields, output: Output) -> Result<Meta, Fault> {
    let families: Vec<_> = Family::ALL.iter().map(|f| (f.as_str(), *f)).collect();
    let protocols: Vec<_> = Protocol::ALL.iter().map(|p| (p.as_str(), *p)).collect();
    let top = fields.line;
    let Some(mut meta) = fields.fields("metadata")? else {
        let problem =
            "is missing: say `metadata: {family: knowledge}` (or retrieval, reasoning, language)";
        return Err(fields.fault(top, "metadata", problem));
    };
    let Some(family) = meta.word("family", &families)? else {
        let known: Vec<&str> = families.iter().map(|(name, _)| *name).collect();
        let problem = format!(
            "is missing: say which ability it measures, {}",
            known.join(", ")
        );
        return Err(meta.fault(meta.line, "family", problem));
    };
    let protocol = meta
        .word("protocol", &protocols)?
        .unwrap_or(output.protocol());
    if (protocol == Protocol::Generate) != (output == Output::GenerateUntil) {
        let problem = format!("is {protocol}, but output_type is {}", output.name());
        return Err(meta.fault(meta.line, "protocol", problem));
    }
    let slices = meta.texts("slices")?.unwrap_or_default().into_iter();
    let path = meta.path("slices");
    let slices = slices.map(|(line, text)| Template::new(line, &path, text));
    let read = Meta {
        version: plain(&mut meta, "version", "0")?,
        family,
        protocol,
        about: plain(&mut meta, "about", "")?,
        slices: slices.collect::<Result<_, _>>()?,
        id: template(&mut meta, "id")?,
        fewshot_by: meta.text("fewshot_by")?.map(|(_, name)| name),
        counted: template(&mut meta, "counted")?,
    };
    // The rest of metadata is anybody's.
    Ok(read)
}
