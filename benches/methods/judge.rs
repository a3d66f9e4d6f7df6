//! Judging: every chosen set answers the same questions, all in one pass.

use super::Choice;
use super::subject::Subject;
use anyhow::{Context, Result};
use serde_json::json;
use slim::arch::KeepSet;
use slim::eval::{Engine, Mended, Question, Silent, generate, judge};
use slim::importance::Signals;
use slim::plan::compensation::{Heal, Scales, fit};
use slim::suite::harness::Options;
use slim::suite::{Split, Suite};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

/// Of one question.
struct Answer {
    right: bool,
    /// The continuous score, nats.
    value: f64,
}

pub fn run(subject: &Subject, choices: &str) -> Result<()> {
    let choices = Choice::read(choices)?;
    let public = public(subject)?;
    let items = subject
        .suite
        .sample(Split::Report, subject.number("items", 24));
    let mut asked = subject.ask(&items)?;
    let own = asked.len();
    if let Some(public) = &public {
        asked.extend(subject.ask(&public.sample(Split::Report, usize::MAX))?);
    }
    let mut masks = vec![bare(KeepSet::all(subject.model.n_layers()))];
    masks.extend(mended(subject, &choices)?);
    eprintln!("{} candidates, {} questions", masks.len(), asked.len());
    let answers = answers(subject, &asked, own, &masks)?;
    let cell = |i: usize, question: &Question| match i < own {
        true => format!("{}/{}", question.task.family, question.protocol()),
        false => format!("{}/{}", question.task.family, question.task.name),
    };
    for (i, answers) in answers.iter().enumerate() {
        let mut cells: BTreeMap<String, (f64, Vec<u8>, Vec<f64>)> = BTreeMap::new();
        for (at, (question, answer)) in asked.iter().zip(answers).enumerate() {
            let (chance, right, values) = cells.entry(cell(at, question)).or_default();
            *chance += question.ask.chance();
            right.push(u8::from(answer.right));
            values.push((answer.value * 1e4).round() / 1e4);
        }
        let cells: BTreeMap<String, _> = cells
            .into_iter()
            .map(|(cell, (chance, right, nats))| {
                let chance = chance / right.len() as f64;
                (
                    cell,
                    json!({"chance": chance, "right": right, "nats": nats}),
                )
            })
            .collect();
        let choice = i.checked_sub(1).and_then(|i| choices.get(i));
        println!("{}", json!({"choice": choice, "cells": cells}));
    }
    Ok(())
}

fn public(subject: &Subject) -> Result<Option<Suite>> {
    let Some(tasks) = subject.keys.get("tasks") else {
        return Ok(None);
    };
    let options = Options {
        data: subject
            .keys
            .get("data")
            .map(PathBuf::from)
            .into_iter()
            .collect(),
        limit: Some(subject.number("limit", 100)),
        ..Options::default()
    };
    let tasks: Vec<String> = tasks.split(',').map(str::to_owned).collect();
    Ok(Some(Suite::select(&tasks, &options)?))
}

fn bare(keep: KeepSet) -> Mended {
    Mended {
        keep,
        mends: BTreeMap::new(),
    }
}

/// The chosen sets, mended by what their seed's calibrate items show.
fn mended(subject: &Subject, choices: &[Choice]) -> Result<Vec<Mended>> {
    let model = &subject.model;
    let mut seeds: BTreeMap<u64, (Scales, Vec<Question>)> = BTreeMap::new();
    for choice in choices {
        if let Entry::Vacant(seed) = seeds.entry(choice.seed) {
            let n = subject.number("calibrate", 16);
            let questions = subject.drawn(Split::Calibrate, n, choice.seed)?;
            let signals = Signals::of(&Engine::new(model), &questions, model.n_layers(), &Silent)?;
            seed.insert((Scales::new(signals.magnitudes, model), questions));
        }
    }
    let mend = |choice: &Choice| {
        let (scales, questions) = seeds.get(&choice.seed).context("its seed")?;
        Ok(match choice.heal {
            Heal::None => bare(choice.set.clone()),
            Heal::Scale => scales.mend(&choice.set),
            Heal::Linear => fit(model, &choice.set, questions, scales, &Silent)?.mended,
        })
    };
    choices.iter().map(mend).collect()
}

/// The answers of every mask; what stands behind the first `own` questions is not written.
fn answers(
    subject: &Subject,
    asked: &[Question],
    own: usize,
    masks: &[Mended],
) -> Result<Vec<Vec<Answer>>> {
    let all: Vec<&Question> = asked.iter().collect();
    let writes = |question: &&Question| !question.prompt.is_empty();
    let written: Vec<&Question> = all[..own].iter().copied().filter(writes).collect();
    let likelihoods = Engine::new(&subject.model).likelihoods(&all, masks, &Silent)?;
    let replies = generate(&subject.model, masks, &written, &subject.tokenizer, &Silent)?;
    let of_mask = |(likelihoods, replies): (&Vec<Vec<_>>, &Vec<slim::eval::Reply>)| {
        let mut replies = replies.iter();
        let answer = |(i, (question, found)): (usize, (&Question, &Vec<_>))| {
            let said = (i < own && writes(&question))
                .then(|| replies.next())
                .flatten();
            let text = said.map(|reply| reply.generated.text.as_str());
            let written = question
                .ask
                .written()
                .zip(text)
                .map(|(w, text)| w.cut(text));
            let right = match written {
                Some(said) => judge(question.ask, &[], Some(said))
                    .first()
                    .is_some_and(|found| found.value > 0.5),
                None => question.is_right(found),
            };
            Answer {
                right,
                value: question.value(found),
            }
        };
        asked
            .iter()
            .zip(likelihoods)
            .enumerate()
            .map(answer)
            .collect()
    };
    Ok(likelihoods.iter().zip(&replies).map(of_mask).collect())
}
