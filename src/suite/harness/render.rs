//! Documents become items, as the harness builds its requests.

use super::Options;
use super::definition::{Definition, Output, Sampler, Source};
use super::metric::Metric;
use super::shots::{PythonRandom, SEED};
use super::template::{Document, Template, printed};
use super::yaml::Fault;
use crate::suite::ask::{Answer, Ask, Check, Item, Message, Role, Task, Terms, Written};
use crate::suite::{Split, split};
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Makes a task of a definition: `documents` are asked, `pool` gives the examples.
pub(super) fn task(
    definition: &Definition,
    documents: &[Document],
    pool: &[Document],
    options: &Options,
) -> Result<Task, Fault> {
    let n_shot = options.num_fewshot.unwrap_or(definition.num_fewshot);
    let own: Vec<Document> = match pool.is_empty() {
        true => definition
            .samples
            .iter()
            .flatten()
            .cloned()
            .map(Document::new)
            .collect(),
        false => Vec::new(),
    };
    let pool = if pool.is_empty() { &own } else { pool };
    let mut renderer = Renderer {
        definition,
        pool,
        n_shot,
        random: PythonRandom::new(SEED),
        solved: HashMap::new(),
        pipelines: definition.filters.clone().into(),
        metrics: definition.metrics.clone().into(),
    };
    let limit = options.limit.unwrap_or(usize::MAX);
    let documents = documents.iter().take(limit).enumerate();
    let mut items = documents
        .map(|(i, document)| renderer.item(i, document))
        .collect::<Result<Vec<_>, _>>()?;
    // Samples and pairs are found by it.
    let mut ids = HashSet::new();
    if let (Some(id), Some(twice)) = (
        &definition.meta.id,
        items.iter().find(|item| !ids.insert(item.id.as_str())),
    ) {
        let problem = format!("gives {:?} for two documents: ids must differ", twice.id);
        return Err(Fault::new(id.line, &id.field, problem));
    }
    split::assign(&mut items);
    Ok(Task {
        name: definition.task.clone(),
        family: definition.meta.family,
        about: definition.meta.about.clone(),
        terms: Terms {
            version: definition.meta.version.clone(),
            output_type: definition.output.name().to_owned(),
            dataset: definition.dataset_path.clone(),
            n_shot,
        },
        items,
    })
}

struct Renderer<'a> {
    definition: &'a Definition,
    pool: &'a [Document],
    n_shot: usize,
    random: PythonRandom,
    /// Examples that were rendered, by their place in the pool.
    solved: HashMap<usize, [Message; 2]>,
    pipelines: Arc<[super::Pipeline]>,
    metrics: Arc<[Metric]>,
}

/// A target as the harness sees it.
enum Target {
    Index(i64),
    Text(String),
    Several(Vec<Json>),
}

impl Renderer<'_> {
    fn item(&mut self, index: usize, document: &Document) -> Result<Item, Fault> {
        let meta = &self.definition.meta;
        let slices = meta.slices.iter().map(|slice| slice.text(document));
        let slices: Vec<String> = slices.collect::<Result<_, _>>()?;
        let id = match &meta.id {
            Some(id) => id.text(document)?,
            None => index.to_string(),
        };
        Ok(Item {
            id,
            slices: slices
                .into_iter()
                .filter(|slice| !slice.is_empty())
                .collect(),
            split: Split::Report,
            asks: vec![self.ask(document)?],
        })
    }

    fn ask(&mut self, document: &Document) -> Result<Ask, Fault> {
        let definition = self.definition;
        let mut shown: Vec<Message> = Vec::new();
        if let Some(description) = &definition.description {
            let description = description.text(document)?;
            if !description.is_empty() {
                shown.push(Message::new(Role::System, description, ""));
            }
        }
        for shot in self.shots(document)? {
            shown.extend(self.solved(shot)?);
        }
        let choices = self.choices(document)?;
        let target = target(definition, document, choices.is_some())?;
        let text = text(&definition.doc_to_text, document)?;
        let inputs = match (&choices, index_of(&text)) {
            (Some(choices), Some(gold)) => Some((choices.clone(), gold)),
            _ => None,
        };
        let prefix = prefix(definition, document)?;
        let mut question = Vec::new();
        if inputs.is_none() {
            let begun = prefix.as_ref();
            let delimiter = match begun.is_some_and(|begun| needs_delimiter(&text, begun)) {
                true => definition.target_delimiter.as_str(),
                false => "",
            };
            question.push(Message::new(Role::User, text, delimiter));
        }
        question.extend(prefix.map(|prefix| Message::new(Role::Assistant, prefix, "")));
        Ok(Ask {
            protocol: definition.meta.protocol,
            shown: shown.into(),
            question,
            delimiter: match definition.output {
                Output::Loglikelihood | Output::Rolling => String::new(),
                _ => definition.target_delimiter.clone(),
            },
            answer: self.answer(document, choices, inputs, target)?,
            metrics: self.metrics.clone(),
        })
    }

    fn answer(
        &self,
        document: &Document,
        choices: Option<Vec<String>>,
        inputs: Option<(Vec<String>, i64)>,
        target: Target,
    ) -> Result<Answer, Fault> {
        let definition = self.definition;
        Ok(match definition.output {
            Output::MultipleChoice => match (inputs, choices.unwrap_or_default()) {
                (Some((texts, gold)), _) => Answer::Inputs {
                    right: self.right(document, &texts, &Target::Index(gold))?,
                    ending: said(&target, &[]),
                    texts,
                },
                (None, texts) => Answer::Options {
                    right: self.right(document, &texts, &target)?,
                    texts,
                },
            },
            Output::Loglikelihood => Answer::Text(said(&target, &[])),
            Output::Rolling => {
                let text = said(&target, &[]);
                let counted = match &definition.meta.counted {
                    Some(counted) => counted.text(document)?,
                    None => text.clone(),
                };
                Answer::Passage {
                    words: pieces(&counted),
                    bytes: counted.len(),
                    text,
                }
            }
            Output::GenerateUntil => Answer::Written(Written {
                sampling: definition.sampling,
                targets: match &target {
                    Target::Several(targets) => targets.iter().map(printed).collect(),
                    one => vec![said(one, choices.as_deref().unwrap_or_default())],
                },
                until: definition.until.clone(),
                max_tokens: definition.max_gen_toks,
                check: Check::Filtered(self.pipelines.clone()),
            }),
        })
    }

    /// Indices of the right options.
    fn right(
        &self,
        document: &Document,
        texts: &[String],
        target: &Target,
    ) -> Result<Vec<usize>, Fault> {
        let index = |target: &Json| match target.as_i64() {
            Some(index) => usize::try_from(index).ok().filter(|&i| i < texts.len()),
            None => texts.iter().position(|text| *text == printed(target)),
        };
        let right: Option<Vec<usize>> = match target {
            Target::Index(gold) => index(&Json::from(*gold)).map(|i| vec![i]),
            Target::Text(text) => index(&Json::from(text.as_str())).map(|i| vec![i]),
            Target::Several(targets) => targets.iter().map(index).collect(),
        };
        right.filter(|right| !right.is_empty()).ok_or_else(|| {
            let (line, field) = place(&self.definition.doc_to_target, "doc_to_target");
            let problem = format!(
                "gives {:?}, which is none of the {} choices, for the document {}",
                said(target, &[]),
                texts.len(),
                shortened(&document.json)
            );
            Fault::new(line, field, problem)
        })
    }

    /// The pool's places of the examples before a document.
    fn shots(&mut self, document: &Document) -> Result<Vec<usize>, Fault> {
        if self.n_shot == 0 {
            return Ok(Vec::new());
        }
        let definition = self.definition;
        let splits = &definition.splits;
        let same = |i: &usize| self.pool[*i].json == document.json;
        let mut from: Vec<usize> = (0..self.pool.len()).collect();
        if let Some(field) = &definition.meta.fewshot_by {
            let value = document.json.get(field);
            from.retain(|&i| self.pool[i].json.get(field) == value);
        }
        // The harness drops the document itself where it thinks that the splits are the same.
        let apart = splits.fewshot != splits.test;
        let picked: Vec<usize> = match definition.sampler {
            Sampler::First => {
                from.retain(|i| apart || !same(i));
                from.into_iter().take(self.n_shot).collect()
            }
            Sampler::Random => {
                let n = self.n_shot + usize::from(!apart);
                let drawn = self.random.sample(from.len(), n);
                let mut drawn: Vec<usize> = drawn.into_iter().map(|at| from[at]).collect();
                drawn.retain(|i| apart || !same(i));
                drawn.truncate(self.n_shot);
                if drawn.len() < self.n_shot {
                    from.retain(|i| !same(i));
                    let again = self.random.sample(from.len(), self.n_shot);
                    drawn = again.into_iter().map(|at| from[at]).collect();
                }
                drawn
            }
        };
        if picked.len() < self.n_shot {
            let problem = format!(
                "is {}, but there are only {} documents to take examples from",
                self.n_shot,
                picked.len()
            );
            return Err(Fault::new(0, "num_fewshot", problem));
        }
        Ok(picked)
    }

    /// A document of the pool as a question with its answer.
    fn solved(&mut self, shot: usize) -> Result<[Message; 2], Fault> {
        if let Some(solved) = self.solved.get(&shot) {
            return Ok(solved.clone());
        }
        let definition = self.definition;
        let document = &self.pool[shot];
        let choices = self.choices(document)?;
        let target = target(definition, document, choices.is_some())?;
        let mut question = text(&definition.doc_to_text, document)?;
        let mut options = choices.as_deref().unwrap_or_default();
        if let (Some(choices), Some(index)) = (&choices, index_of(&question)) {
            let chosen = usize::try_from(index).ok().and_then(|i| choices.get(i));
            question = chosen.cloned().unwrap_or_default();
            options = &[];
        }
        let answer = match &target {
            Target::Several(several) => several.first().map(printed).unwrap_or_default(),
            one => said(one, options),
        };
        let answer = match prefix(definition, document)? {
            Some(prefix) if needs_delimiter(&prefix, &answer) => format!("{prefix} {answer}"),
            Some(prefix) => prefix + &answer,
            None => answer,
        };
        let solved = [
            Message::new(Role::User, question, &definition.target_delimiter),
            Message::new(Role::Assistant, answer, &definition.fewshot_delimiter),
        ];
        self.solved.insert(shot, solved.clone());
        Ok(solved)
    }

    fn choices(&self, document: &Document) -> Result<Option<Vec<String>>, Fault> {
        let Some(source) = &self.definition.doc_to_choice else {
            return Ok(None);
        };
        let template = match source {
            Source::Texts(texts) => return Ok(Some(texts.clone())),
            Source::Number(number) => return Ok(Some(vec![number.to_string()])),
            Source::Template(template) => template,
        };
        match template.value(document)? {
            Json::Array(values) if !values.is_empty() => {
                Ok(Some(values.iter().map(printed).collect()))
            }
            other => {
                let problem = format!("gives {}, not a list of choices", shortened(&other));
                Err(Fault::new(template.line, &template.field, problem))
            }
        }
    }
}

fn prefix(definition: &Definition, document: &Document) -> Result<Option<String>, Fault> {
    let prefix = definition.gen_prefix.as_ref();
    let prefix = prefix.map(|prefix| prefix.text(document)).transpose()?;
    Ok(prefix.filter(|prefix| !prefix.is_empty()))
}

fn text(source: &Source, document: &Document) -> Result<String, Fault> {
    match source {
        Source::Number(number) => Ok(number.to_string()),
        Source::Texts(texts) => Ok(texts.first().cloned().unwrap_or_default()),
        Source::Template(template) => template.text(document),
    }
}

/// The pieces of Python's `re.split(r"\s+", text)`: an empty beginning or end counts as one.
fn pieces(text: &str) -> usize {
    let words = text.split_whitespace().count();
    let empty = [
        text.starts_with(char::is_whitespace),
        text.ends_with(char::is_whitespace),
    ];
    (words + empty.iter().filter(|&&empty| empty).count()).max(1)
}

/// The harness takes a text of digits for an index into the choices.
fn index_of(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn target(definition: &Definition, document: &Document, choices: bool) -> Result<Target, Fault> {
    let value = match &definition.doc_to_target {
        Source::Number(number) => return Ok(Target::Index(*number)),
        Source::Texts(texts) => texts.iter().map(|text| Json::from(text.as_str())).collect(),
        Source::Template(template) => template.value(document)?,
    };
    Ok(match value {
        Json::Array(values) => Target::Several(values),
        Json::Number(ref number) if choices => match number.as_i64() {
            Some(index) => Target::Index(index),
            None => Target::Text(number.to_string()),
        },
        other => {
            let text = printed(&other);
            match index_of(&text).filter(|_| choices) {
                Some(index) => Target::Index(index),
                None => Target::Text(text),
            }
        }
    })
}

/// A target as text; an index is the choice that it points to, where there are choices.
fn said(target: &Target, choices: &[String]) -> String {
    match target {
        Target::Text(text) => text.clone(),
        Target::Index(index) => {
            let choice = usize::try_from(*index).ok().and_then(|i| choices.get(i));
            choice.cloned().unwrap_or_else(|| index.to_string())
        }
        Target::Several(several) => several.first().map(printed).unwrap_or_default(),
    }
}

fn needs_delimiter(before: &str, after: &str) -> bool {
    !before.is_empty()
        && !before.ends_with(char::is_whitespace)
        && !after.starts_with(char::is_whitespace)
}

fn place(source: &Source, name: &str) -> (usize, String) {
    match source {
        Source::Template(Template { line, field, .. }) => (*line, field.clone()),
        _ => (0, name.to_owned()),
    }
}

fn shortened(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
