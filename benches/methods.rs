//! Every method at several depths, on questions that the choice never saw:
//!
//!     cargo bench --bench methods -- MODEL PROFILE [KEY=VALUE …]
//!
//! | key | |
//! |---|---|
//! | `keep=22,15` | depths |
//! | `methods=a,b` | all without it |
//! | `heal=none,scale,linear` | ways to mend what slim's own method chose; the others are bare |
//! | `preserve=retrieval` | a family; `cross` chooses for each family in turn, and for none |
//! | `seeds=3` | seeds of the methods that draw |
//! | `items=24`, `select=8` | items of each family that judge, and that choose |
//! | `tasks=a,b`, `data=DIR`, `limit=100` | public tasks that judge too |
//! | `measure=both` | what slim's own method looks at |
//!
//! Prints one line of JSON a candidate: what it retains, by family and by task, and what choosing it
//! cost. `tests/real/methods.py` makes the tables of docs/findings.md of it.

use anyhow::{Context, Result, bail};
use candle_core::Device;
use serde_json::json;
use slim::arch::{Arch, KeepSet};
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::{TextTokenizer, runnable};
use slim::eval::{Asking, Engine, Mended, Question, Silent, generate, judge, questions};
use slim::importance::Profile;
use slim::model::Model;
use slim::plan::compensation::Heal;
use slim::plan::{
    Budget, METHODS, Material, Measure, Method, Preserve, Search, Size, Wishes, mend, method,
    with_search,
};
use slim::suite::harness::Options;
use slim::suite::{Family, Protocol, Split, Suite};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// slim's own method.
const OWN: &str = "iterative";

/// Methods that draw.
const DRAWN: [&str; 3] = [OWN, "evolution", "random"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let [model, profile, rest @ ..] = arguments.as_slice() else {
        // Benches of all kinds are run together, without arguments.
        println!("methods: give MODEL PROFILE");
        return Ok(());
    };
    let pairs = rest
        .iter()
        .map(|pair| pair.split_once('=').context("KEY=VALUE"));
    let keys: BTreeMap<&str, &str> = pairs.collect::<Result<_>>()?;
    Comparison::new(Path::new(model), Path::new(profile), keys)?.run()
}

struct Comparison<'k> {
    checkpoint: Checkpoint,
    model: Model,
    tokenizer: TextTokenizer,
    profile: Profile,
    suite: Suite,
    public: Option<Suite>,
    keys: BTreeMap<&'k str, &'k str>,
}

/// A chosen set, and how it came about.
struct Candidate {
    method: &'static str,
    preserve: String,
    heal: &'static str,
    seed: u64,
    seconds: f64,
    passes: u64,
    mended: Mended,
}

impl<'k> Comparison<'k> {
    fn new(model: &Path, profile: &Path, keys: BTreeMap<&'k str, &'k str>) -> Result<Self> {
        let checkpoint = Checkpoint::open(model)?;
        let public = keys.get("tasks").map(|tasks| {
            let options = Options {
                data: keys.get("data").map(PathBuf::from).into_iter().collect(),
                limit: keys.get("limit").and_then(|limit| limit.parse().ok()),
                ..Options::default()
            };
            let tasks: Vec<String> = tasks.split(',').map(str::to_owned).collect();
            Suite::select(&tasks, &options)
        });
        Ok(Self {
            model: Model::load(&checkpoint, &Device::Cpu, |_, _| {})?,
            tokenizer: runnable(&checkpoint)?,
            checkpoint,
            profile: serde_json::from_slice(&std::fs::read(profile)?)?,
            suite: Suite::embedded(),
            public: public.transpose()?,
            keys,
        })
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        let found = self.keys.get(key).and_then(|value| value.parse().ok());
        found.unwrap_or(default)
    }

    fn questions<'s>(
        &self,
        suite: &'s Suite,
        split: Split,
        items: usize,
    ) -> Result<Vec<Question<'s>>> {
        let asking = Asking {
            tokenizer: &self.tokenizer,
            context_length: self.model.config().context_length,
            chat: None,
        };
        questions(&suite.sample(split, items), Protocol::ALL, &asking)
    }

    fn run(&self) -> Result<()> {
        let depths = self.keys.get("keep").context("keep=22,15")?;
        let depths = depths.split(',').map(str::parse::<usize>);
        let depths: Vec<usize> = depths.collect::<Result<_, _>>()?;
        let families: Vec<String> = match self.keys.get("preserve") {
            None => vec![String::new()],
            Some(&"cross") => {
                let all = Family::ALL.iter().map(ToString::to_string);
                all.chain([String::new()]).collect()
            }
            Some(family) => vec![(*family).to_owned()],
        };
        let mut candidates = Vec::new();
        for family in families {
            candidates.extend(self.choose(&family, &depths)?);
        }
        self.judge(&candidates)
    }

    /// Every method's sets, choosing for a family.
    fn choose(&self, family: &str, depths: &[usize]) -> Result<Vec<Candidate>> {
        let preserve: Vec<Preserve> = match family {
            "" => Vec::new(),
            one => vec![one.parse()?],
        };
        let layers = Arch::of(&self.checkpoint)?.layers(&self.checkpoint)?;
        let calibrate = self.questions(&self.suite, Split::Calibrate, 32)?;
        let select = self.number("select", 8) as usize;
        let select = self.questions(&self.suite, Split::Select, select)?;
        let material = Material {
            model: &self.model,
            tokenizer: &self.tokenizer,
            layers: &layers,
            profile: &self.profile,
            calibrate: &calibrate,
            select: &select,
            size: &|_: &KeepSet| bail!("sizes are not asked for") as Result<Size>,
        };
        let mut found = Vec::new();
        // What slim's own method is measured with must not help the others.
        for own in [true, false] {
            let methods = self.methods(own)?;
            if methods.is_empty() {
                continue;
            }
            let heals = match own {
                true => self
                    .keys
                    .get("heal")
                    .copied()
                    .unwrap_or("none,scale,linear"),
                false => "none",
            };
            let wishes = Wishes {
                preserve: &preserve,
                floor: None,
                measure: match self.keys.get("measure") {
                    Some(&"answers") => Measure::Answers,
                    Some(&"divergence") => Measure::Divergence,
                    _ => Measure::Both,
                },
                method: METHODS[0],
                heal: match heals {
                    "none" => Some(Heal::None),
                    _ => Some(Heal::Scale),
                },
                budget: Budget::Knee,
                curve: false,
                free_ends: false,
                candidates: self.number("candidates", 6) as usize,
                seed: 0,
                generations: self.number("generations", 24) as usize,
            };
            with_search(&wishes, &material, &Silent, |search| {
                for (method, seed) in methods {
                    let search = Search { seed, ..*search };
                    let chosen = chosen(method, &search, &material, depths, heals)?;
                    found.extend(chosen.into_iter().map(|candidate| Candidate {
                        preserve: family.to_owned(),
                        ..candidate
                    }));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// slim's own method or the others, with their seeds.
    fn methods(&self, own: bool) -> Result<Vec<(&'static dyn Method, u64)>> {
        let names: Vec<&str> = match self.keys.get("methods") {
            Some(names) => names.split(',').collect(),
            None => METHODS.iter().map(|method| method.name()).collect(),
        };
        let seeds = self.number("seeds", 1);
        let mut all = Vec::new();
        for name in names.into_iter().filter(|name| (*name == OWN) == own) {
            let method = method(name).with_context(|| format!("no method {name}"))?;
            let seeds = if DRAWN.contains(&name) { seeds } else { 1 };
            all.extend((0..seeds).map(|seed| (method, seed)));
        }
        Ok(all)
    }

    /// Asks all candidates at once.
    fn judge(&self, candidates: &[Candidate]) -> Result<()> {
        let items = self.number("items", 24) as usize;
        let mut asked = self.questions(&self.suite, Split::Report, items)?;
        if let Some(public) = &self.public {
            asked.extend(self.questions(public, Split::Report, usize::MAX)?);
        }
        let original = Mended {
            keep: KeepSet::all(self.model.n_layers()),
            mends: BTreeMap::new(),
        };
        let all = candidates.iter().map(|candidate| candidate.mended.clone());
        let masks: Vec<Mended> = std::iter::once(original).chain(all).collect();
        eprintln!("{} candidates, {} questions", masks.len(), asked.len());
        let right = self.right(&asked, &masks)?;
        let names = |public: bool| {
            move |question: &Question| match public {
                true => format!("{}/{}", question.task.family, question.task.name),
                false => format!("{}/{}", question.task.family, question.protocol()),
            }
        };
        let own = |question: &Question| {
            self.suite
                .tasks
                .iter()
                .any(|t| t.name == question.task.name)
        };
        let cell = |question: &Question| names(!own(question))(question);
        for (i, right) in right.iter().enumerate() {
            let mut cells: BTreeMap<String, (usize, usize, f64)> = BTreeMap::new();
            for (question, right) in asked.iter().zip(right) {
                let sums = cells.entry(cell(question)).or_default();
                sums.0 += 1;
                sums.1 += usize::from(*right);
                sums.2 += question.ask.chance();
            }
            let cells: BTreeMap<String, _> = cells
                .into_iter()
                .map(|(cell, (n, right, chance))| {
                    let chance = chance / n as f64;
                    (cell, json!({"n": n, "right": right, "chance": chance}))
                })
                .collect();
            let line = match i.checked_sub(1) {
                None => {
                    json!({"method": "original", "keep": self.model.n_layers(), "cells": cells})
                }
                Some(i) => {
                    let candidate = &candidates[i];
                    json!({
                        "method": candidate.method, "preserve": candidate.preserve,
                        "heal": candidate.heal, "seed": candidate.seed,
                        "seconds": candidate.seconds, "passes": candidate.passes,
                        "keep": candidate.mended.keep.len(), "set": candidate.mended.keep,
                        "cells": cells,
                    })
                }
            };
            println!("{line}");
        }
        Ok(())
    }

    /// Whether each answer is right, by candidate; text is generated.
    fn right(&self, asked: &[Question], masks: &[Mended]) -> Result<Vec<Vec<bool>>> {
        let (written, scored): (Vec<&Question>, Vec<&Question>) = asked
            .iter()
            .partition(|question| !question.prompt.is_empty());
        let engine = Engine::new(&self.model);
        let likelihoods = engine.likelihoods(&scored, masks, &Silent)?;
        let replies = generate(&self.model, masks, &written, &self.tokenizer, &Silent)?;
        let all = likelihoods
            .iter()
            .zip(&replies)
            .map(|(likelihoods, replies)| {
                let (mut likelihoods, mut replies) = (likelihoods.iter(), replies.iter());
                let right = |question: &Question| {
                    if question.prompt.is_empty() {
                        let found = likelihoods.next();
                        return found.is_some_and(|found| question.is_right(found));
                    }
                    let text = replies.next().map(|reply| reply.generated.text.as_str());
                    let said = question
                        .ask
                        .written()
                        .zip(text)
                        .map(|(w, text)| w.cut(text));
                    let measured = judge(question.ask, &[], said);
                    measured.first().is_some_and(|found| found.value > 0.5)
                };
                asked.iter().map(right).collect()
            });
        Ok(all.collect())
    }
}

/// One method's sets, mended in some ways.
fn chosen(
    method: &'static dyn Method,
    search: &Search,
    material: &Material,
    depths: &[usize],
    heals: &str,
) -> Result<Vec<Candidate>> {
    let begun = Instant::now();
    let spent = || search.trial.spent() + search.texts.spent() + search.few_texts.spent();
    let before = spent();
    let choices = method.choose(search, depths)?;
    let (seconds, passes) = (begun.elapsed().as_secs_f64(), spent() - before);
    eprintln!("{} {}: {seconds:.0} s", method.name(), search.seed);
    let mut found = Vec::new();
    for choice in choices {
        for heal in heals.split(',') {
            let (heal, way) = match heal {
                "scale" => ("scale", Heal::Scale),
                "linear" => ("linear", Heal::Linear),
                _ => ("none", Heal::None),
            };
            let fit = mend(Some(way), material, search, &choice.keep)?;
            found.push(Candidate {
                method: method.name(),
                preserve: String::new(),
                heal,
                seed: search.seed,
                seconds,
                passes,
                mended: fit.mended,
            });
        }
    }
    Ok(found)
}
