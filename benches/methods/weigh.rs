//! Weighing: what the sets of a file of choices lose by the things that methods can choose by, to compare
//! with what judging finds.

use super::Choice;
use super::subject::Subject;
use anyhow::Result;
use serde_json::{Map, json};
use slim::arch::KeepSet;
use slim::eval::{Candidate, Compared, Engine, Mended, Question, Silent, generate};
use slim::importance::Signals;
use slim::plan::compensation::{Heal, Scales};
use slim::plan::{Measure, Objective, Unasked, copied_texts, measurable, plain_texts};
use slim::suite::{Answer, Ask, Check, Protocol, Sampling, Split, Written};
use std::collections::BTreeMap;

pub fn run(subject: &Subject, choices: &str) -> Result<()> {
    let choices = Choice::read(choices)?;
    let model = &subject.model;
    let calibrate = subject.drawn(Split::Calibrate, subject.number("calibrate", 16), 0)?;
    let signals = Signals::of(&Engine::new(model), &calibrate, model.n_layers(), &Silent)?;
    let scales = Scales::new(signals.magnitudes, model);
    let masks: Vec<Mended> = choices
        .iter()
        .map(|choice| match choice.heal {
            Heal::None => Mended {
                keep: choice.set.clone(),
                mends: BTreeMap::new(),
            },
            _ => scales.mend(&choice.set),
        })
        .collect();
    let mut found: Vec<Map<String, serde_json::Value>> = vec![Map::new(); masks.len()];
    let counted = measurable(model, &calibrate, &Silent)?;
    let numbers = subject.keys.get("select").unwrap_or(&"8,16,40");
    let numbers = numbers.split(',').filter(|n| !n.is_empty()).map(str::parse);
    for n in numbers.collect::<Result<Vec<usize>, _>>()? {
        let questions = subject.drawn(Split::Select, n, 0)?;
        let one = Objective::new(&[], Measure::Answers, counted.clone());
        let other = Objective::new(&[], Measure::Divergence, counted.clone());
        let both = Objective::new(&[], Measure::Both, counted.clone());
        let asked: Vec<&Question> = questions
            .iter()
            .filter(|q| one.counts(q.task.family, q.protocol()))
            .collect();
        let engine = Engine::new(model);
        let reference = engine.reference(&asked, &Silent)?;
        let all = [KeepSet::all(model.n_layers())];
        let before = engine.compare(&asked, &all, &reference, &Silent)?.remove(0);
        let after = engine.compare(&asked, &masks, &reference, &Silent)?;
        for (found, after) in found.iter_mut().zip(&after) {
            for (name, objective) in [("", &both), ("answers ", &one), ("divergence ", &other)] {
                let lost = objective.judge(&asked, &before, after, Unasked::default());
                for (family, loss) in lost.families {
                    found.insert(format!("{name}{family} {n}"), json!(loss));
                }
            }
        }
        eprintln!("{n} items a family: {} tokens", engine.tokens(&asked));
    }
    let own = own_texts(subject, &calibrate)?;
    let more = plain_texts(&calibrate, 64);
    let copies = copied_texts(&more, 8, 64, &mut fastrand::Rng::with_seed(0));
    for (name, texts) in [("own texts", own), ("texts 64", more), ("copies", copies)] {
        if texts.is_empty() {
            continue;
        }
        let engine = Engine::new(model);
        let reference = engine.reference(&texts, &Silent)?;
        let answers = engine.compare(&texts, &masks, &reference, &Silent)?;
        let tokens: usize = texts.iter().map(|t| t[0].tokens.len()).sum();
        let mean = |answers: &Vec<Vec<Compared>>, of: &dyn Fn(&Compared) -> f64| {
            answers.iter().flatten().map(of).sum::<f64>() / tokens as f64
        };
        for (found, answers) in found.iter_mut().zip(&answers) {
            found.insert(name.to_owned(), json!(mean(answers, &|c| c.divergence)));
            found.insert(
                format!("{name}, surprise"),
                json!(mean(answers, &|c| -c.likelihood.log_prob)),
            );
        }
        eprintln!("{name} {tokens}");
    }
    for (choice, found) in choices.iter().zip(found) {
        println!("{}", json!({"choice": choice, "found": found}));
    }
    Ok(())
}

/// What the original writes by itself, from a word drawn at random on.
fn own_texts(subject: &Subject, some: &[Question]) -> Result<Vec<[Candidate; 1]>> {
    let model = &subject.model;
    let mut random = fastrand::Rng::with_seed(0);
    let n = subject.number("own", 16);
    let length = subject.number("length", 96);
    let (task, item) = (some[0].task, some[0].item);
    let ask = Ask {
        protocol: Protocol::Generate,
        shown: [].into(),
        question: Vec::new(),
        delimiter: String::new(),
        answer: Answer::Written(Written {
            targets: vec![String::new()],
            until: Vec::new(),
            max_tokens: length,
            sampling: Some(Sampling {
                temperature: 1.0,
                top_k: None,
                top_p: None,
            }),
            check: Check::Normalised,
        }),
        metrics: [].into(),
    };
    let mut questions = Vec::new();
    while questions.len() < n {
        let token = random.u32(0..model.config().vocab_size as u32);
        let word = subject.tokenizer.decode(&[token])?;
        let word = word.trim_start();
        if word.len() < 2 || !word.chars().all(|c| c.is_ascii_alphabetic()) {
            continue;
        }
        questions.push(Question {
            task,
            item,
            ask: &ask,
            text: String::new(),
            candidates: vec![Candidate {
                prompt: [token].into(),
                tokens: vec![token],
            }],
            prompt: vec![token],
            truncated: 0,
        });
    }
    let asked: Vec<&Question> = questions.iter().collect();
    let all = [KeepSet::all(model.n_layers())];
    let replies = generate(model, &all, &asked, &subject.tokenizer, &Silent)?.remove(0);
    let mut texts = Vec::new();
    for (question, reply) in questions.iter().zip(replies) {
        if reply.generated.tokens.is_empty() {
            continue;
        }
        texts.push([Candidate {
            prompt: question.prompt.clone().into(),
            tokens: reply.generated.tokens,
        }]);
    }
    Ok(texts)
}
