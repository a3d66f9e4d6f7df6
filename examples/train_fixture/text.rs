//! The prompt forms of the suite's three protocols, and training documents written in them.

use std::collections::HashSet;
use std::ops::Range;

use serde::Serialize;

use crate::rng::Rng;
use crate::world::{FAMILIES, Family, Query, Scene, World};

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// One question of a task file.
#[derive(Serialize, Clone)]
pub struct Item {
    pub id: String,
    pub slices: Vec<String>,
    pub context: String,
    pub question: String,
    pub stem: String,
    pub options: Vec<String>,
    pub answer: usize,
}

/// A task file of slim's suite.
#[derive(Serialize)]
pub struct Task {
    pub schema_version: u32,
    pub task: String,
    pub family: String,
    pub about: String,
    pub protocols: Vec<String>,
    pub stop: Vec<String>,
    pub max_new_tokens: usize,
    pub shots: Vec<Item>,
    pub items: Vec<Item>,
}

impl Item {
    fn new(id: String, context: &str, query: Query) -> Self {
        Self {
            id,
            slices: vec![query.slice.to_string()],
            context: context.to_string(),
            question: query.question,
            stem: query.stem,
            options: query.options,
            answer: query.answer,
        }
    }

    /// The prompt whose next token is a letter.
    pub fn choice_prompt(&self) -> String {
        format!(
            "{}{}",
            with_context(&self.context),
            ask(&self.question, &self.options)
        )
    }

    /// The prompt that goes on with a space and an option.
    pub fn stem_prompt(&self) -> String {
        format!("{}{}", with_context(&self.context), self.stem)
    }
}

fn with_context(context: &str) -> String {
    if context.is_empty() {
        String::new()
    } else {
        format!("{context}\n")
    }
}

fn ask(question: &str, options: &[String]) -> String {
    let lines: String = LETTERS
        .iter()
        .zip(options)
        .map(|(letter, option)| format!("{letter}. {option}\n"))
        .collect();
    format!("Question: {question}\n{lines}Answer:")
}

/// Names an instance, whichever way it is asked.
fn key(context: &str, query: &Query) -> String {
    format!("{context}|{}", query.stem)
}

/// The task files, and the instances that the training text must not contain.
pub struct Suite {
    pub tasks: Vec<Task>,
    held_out: HashSet<String>,
}

impl Suite {
    /// `per_task` items a task, half of each slice; knowledge asks every fact once.
    pub fn new(world: &World, per_task: usize, rng: &mut Rng) -> Self {
        let mut held_out = HashSet::new();
        let tasks = FAMILIES
            .iter()
            .map(|family| {
                let items = match family.held_out {
                    true => fresh_items(world, family, per_task, &mut held_out, rng),
                    false => every_fact(world, family, rng),
                };
                task_file(family, items)
            })
            .collect();
        Self { tasks, held_out }
    }

    fn allows(&self, scene: &Scene) -> bool {
        scene
            .queries
            .iter()
            .all(|query| !self.held_out.contains(&key(&scene.context, query)))
    }
}

fn every_fact(world: &World, family: &Family, rng: &mut Rng) -> Vec<Item> {
    let mut order: Vec<usize> = (0..world.facts_len()).collect();
    rng.shuffle(&mut order);
    let items = order.iter().enumerate();
    items
        .map(|(n, index)| {
            Item::new(
                format!("{}-{n:03}", family.task),
                "",
                world.fact(*index, rng),
            )
        })
        .collect()
}

fn fresh_items(
    world: &World,
    family: &Family,
    count: usize,
    held_out: &mut HashSet<String>,
    rng: &mut Rng,
) -> Vec<Item> {
    let mut items = Vec::new();
    while items.len() < count {
        let scene = (family.scene)(world, rng);
        let wanted = family.slices[items.len() % family.slices.len()];
        let Some(query) = scene
            .queries
            .into_iter()
            .find(|query| query.slice == wanted)
        else {
            continue;
        };
        if held_out.insert(key(&scene.context, &query)) {
            items.push(Item::new(
                format!("{}-{:03}", family.task, items.len()),
                &scene.context,
                query,
            ));
        }
    }
    items
}

fn task_file(family: &Family, items: Vec<Item>) -> Task {
    let words = |list: &[&str]| list.iter().map(|word| word.to_string()).collect();
    Task {
        schema_version: 1,
        task: family.task.to_string(),
        family: family.name.to_string(),
        about: family.about.to_string(),
        protocols: words(&["choice", "continuation", "generate"]),
        stop: words(&["\n"]),
        max_new_tokens: 8,
        shots: Vec::new(),
        items,
    }
}

/// Shares of the documents: stems to continue, questions answered by letter, and two exercises.
pub struct Forms {
    pub stem: f64,
    pub letter: f64,
    pub drill: f64,
    pub copy: f64,
}

/// A training text, and the byte ranges where the answers stand.
#[derive(Default)]
pub struct Document {
    pub text: String,
    pub answers: Vec<Range<usize>>,
}

impl Document {
    fn say(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn answer(&mut self, text: &str) {
        let start = self.text.len();
        self.text.push(' ');
        self.text.push_str(text);
        self.answers.push(start..self.text.len());
    }

    /// A scene drawn from the mixture, asked about in one of the forms.
    pub fn draw(world: &World, suite: &Suite, forms: &Forms, rng: &mut Rng) -> Self {
        let family = &FAMILIES[rng.weighted(&FAMILIES.each_ref().map(|family| family.weight))];
        let mut scene = (family.scene)(world, rng);
        while !suite.allows(&scene) {
            scene = (family.scene)(world, rng);
        }
        rng.shuffle(&mut scene.queries);
        let mut document = Self::default();
        match rng.weighted(&[forms.stem, forms.letter, forms.drill, forms.copy]) {
            0 => document.ask_by_stem(&scene),
            1 => document.ask_by_letter(&scene),
            2 => document.drill(&scene, rng),
            _ => document.copy(rng),
        }
        document
    }

    /// Two questions are enough: letters take many tokens.
    fn ask_by_letter(&mut self, scene: &Scene) {
        self.say(&with_context(&scene.context));
        for query in scene.queries.iter().take(2) {
            self.say(&ask(&query.question, &query.options));
            self.answer(LETTERS[query.answer]);
            self.say("\n\n");
        }
    }

    /// Names options, so that only their letters are to be found: what a choice needs beside
    /// knowing the answer.
    fn drill(&mut self, scene: &Scene, rng: &mut Rng) {
        let Query {
            options, answer, ..
        } = &scene.queries[0];
        self.say(&ask(&format!("Say {} what?", options[*answer]), options));
        self.answer(LETTERS[*answer]);
        self.say("\nAlso:");
        for _ in 0..5 {
            let other = rng.below(options.len());
            self.say(&format!(" {}", options[other]));
            self.answer(LETTERS[other]);
        }
        self.say(".\n");
    }

    /// Says the same words twice. Nothing teaches faster to look back for what came after a word,
    /// which is what reading notes and passing on are made of (Olsson et al., 2022).
    fn copy(&mut self, rng: &mut Rng) {
        let n = 5 + rng.below(11);
        let words = World::words(n, rng);
        self.say(&format!("Say: {}.\nSay: {}", words.join(" "), words[0]));
        words[1..].iter().for_each(|word| self.answer(word));
        self.say(".\n");
    }

    fn ask_by_stem(&mut self, scene: &Scene) {
        self.say(&with_context(&scene.context));
        for query in &scene.queries {
            self.say(&query.stem);
            self.answer(query.answer_text());
            self.say(".\n");
        }
    }
}
