//! Task sheets: items with fields, from which every protocol makes its text. The embedded suite is
//! written so, and people's own JSON files.

mod check;
mod read;
mod write;

use serde::{Deserialize, Serialize};

use super::ask::{Answer, Ask, Check, Item, Message, Role, Task, Terms, Written};
use super::harness::Metric;
use super::{Family, Protocol, Split, split};
use std::sync::Arc;

/// The version of the task file format that this build reads and writes.
pub const SCHEMA_VERSION: u32 = 1;

/// More options than letters cannot be asked as a choice.
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// One file of the suite: items of one family that share their shots and stop strings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sheet {
    /// Version of the file format, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique name, by which it is shown.
    pub task: String,
    /// The ability it measures.
    pub family: Family,
    /// One sentence for people.
    pub about: String,
    /// The protocols it is meant for; an item is asked in those whose fields it has.
    pub protocols: Vec<Protocol>,
    /// Generated text ends before the first of these.
    pub stop: Vec<String>,
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// Solved items shown before each item, except in `continuation`.
    pub shots: Vec<SheetItem>,
    /// The items, in file order.
    pub items: Vec<SheetItem>,
}

/// One question with its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SheetItem {
    /// Unique within the task; shots have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// What distinguishes it within its task; the first is the main one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<String>,
    /// Text that all protocols show first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// What `choice` asks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub question: String,
    /// The text that an option continues, for `continuation` and `generate`.
    #[serde(default)]
    pub stem: String,
    /// The possible answers.
    #[serde(default)]
    pub options: Vec<String>,
    /// Index of the right one in `options`.
    #[serde(default)]
    pub answer: usize,
    /// Further texts that are right when generated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<String>,
}

impl SheetItem {
    /// The right answer's text: the right option, or without options the first accepted text.
    pub fn target(&self) -> &str {
        let right = self.options.get(self.answer).or(self.accept.first());
        right.map_or("", String::as_str)
    }

    /// The first slice, or the empty string.
    pub fn main_slice(&self) -> &str {
        self.slices.first().map_or("", String::as_str)
    }

    /// Whether the fields that the protocol reads are there.
    fn has_fields_for(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Choice => !self.question.is_empty() && self.options.len() >= 2,
            Protocol::Continuation => self.options.len() >= 2,
            Protocol::Generate => !self.stem.is_empty() && !self.target().is_empty(),
        }
    }

    /// `{context\n}{text}`, or the bare context when there is no text.
    fn after_context(&self, text: &str) -> String {
        match (self.context.is_empty(), text.is_empty()) {
            (true, _) => text.to_owned(),
            (_, true) => self.context.clone(),
            _ => format!("{}\n{text}", self.context),
        }
    }

    fn choice_prompt(&self) -> String {
        let mut text = format!("Question: {}\n", self.question);
        for (letter, option) in LETTERS.chars().zip(&self.options) {
            text += &format!("{letter}. {option}\n");
        }
        self.after_context(&(text + "Answer:"))
    }

    fn letters(&self) -> Vec<String> {
        let letters = LETTERS.chars().take(self.options.len());
        letters.map(String::from).collect()
    }

    /// Everything that is right when written.
    fn targets(&self) -> Vec<String> {
        let right = self.options.get(self.answer);
        right.into_iter().chain(&self.accept).cloned().collect()
    }

    /// What a protocol asks.
    fn question(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Choice => self.choice_prompt(),
            Protocol::Continuation | Protocol::Generate => self.after_context(&self.stem),
        }
    }

    /// The item as an example with its answer.
    fn solved(&self, protocol: Protocol) -> [Message; 2] {
        let (answer, delimiter) = match protocol {
            Protocol::Choice => {
                let letter = LETTERS.chars().nth(self.answer);
                (letter.map(String::from).unwrap_or_default(), "\n\n")
            }
            _ => (format!("{}.", self.target()), "\n"),
        };
        [
            Message::new(Role::User, self.question(protocol), " "),
            Message::new(Role::Assistant, answer, delimiter),
        ]
    }
}

impl Sheet {
    /// Whether the item can be asked this way: the sheet means it, and the item has the fields.
    fn serves(&self, item: &SheetItem, protocol: Protocol) -> bool {
        self.protocols.contains(&protocol) && item.has_fields_for(protocol)
    }

    /// The examples before each item. `continuation` has none: it reads as natural text.
    fn shown(&self, protocol: Protocol) -> Arc<[Message]> {
        if protocol == Protocol::Continuation {
            return Arc::default();
        }
        let fit = self
            .shots
            .iter()
            .filter(|shot| shot.has_fields_for(protocol));
        fit.flat_map(|shot| shot.solved(protocol)).collect()
    }

    fn ask(&self, item: &SheetItem, protocol: Protocol, shown: Arc<[Message]>) -> Ask {
        let question = item.question(protocol);
        // After an empty prompt there is no space to lead with.
        let delimiter = match question.is_empty() && shown.is_empty() {
            true => "",
            false => " ",
        };
        let right = vec![item.answer];
        let answer = match protocol {
            Protocol::Choice => Answer::Options {
                texts: item.letters(),
                right,
            },
            Protocol::Continuation => Answer::Options {
                texts: item.options.clone(),
                right,
            },
            Protocol::Generate => Answer::Written(Written {
                sampling: None,
                targets: item.targets(),
                until: self.stop.clone(),
                max_tokens: self.max_new_tokens,
                check: Check::Normalised,
            }),
        };
        Ask {
            protocol,
            shown,
            question: vec![Message::new(Role::User, question, "")],
            delimiter: delimiter.to_owned(),
            answer,
            metrics: Metric::main_of(protocol),
        }
    }

    /// The sheet as a task: every item with every way it can be asked.
    pub fn to_task(&self) -> Task {
        let ways: Vec<(Protocol, Arc<[Message]>)> = Protocol::ALL
            .iter()
            .map(|&protocol| (protocol, self.shown(protocol)))
            .collect();
        let item = |item: &SheetItem| Item {
            id: item.id.clone(),
            slices: item.slices.clone(),
            split: Split::Report,
            asks: ways
                .iter()
                .filter(|(protocol, _)| self.serves(item, *protocol))
                .map(|(protocol, shown)| self.ask(item, *protocol, shown.clone()))
                .collect(),
        };
        let mut items: Vec<Item> = self.items.iter().map(item).collect();
        split::assign(&mut items);
        Task {
            name: self.task.clone(),
            family: self.family,
            about: self.about.clone(),
            terms: Terms {
                version: self.schema_version.to_string(),
                output_type: "mixed".to_owned(),
                dataset: "embedded".to_owned(),
                n_shot: self.shots.len(),
            },
            items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(
        context: &str,
        question: &str,
        stem: &str,
        options: &[&str],
        answer: usize,
    ) -> SheetItem {
        SheetItem {
            id: "i".into(),
            slices: vec![],
            context: context.into(),
            question: question.into(),
            stem: stem.into(),
            options: options.iter().map(|o| o.to_string()).collect(),
            answer,
            accept: vec![],
        }
    }

    fn task(shots: Vec<SheetItem>) -> Sheet {
        Sheet {
            schema_version: SCHEMA_VERSION,
            task: "t".into(),
            family: Family::Knowledge,
            about: String::new(),
            protocols: Protocol::ALL.to_vec(),
            stop: vec!["\n".into()],
            max_new_tokens: 12,
            shots,
            items: vec![],
        }
    }

    #[test]
    fn each_protocol_writes_its_prompt_and_candidates() {
        let shot = item(
            "",
            "What does a cow say?",
            "A cow says",
            &["oink", "moo"],
            1,
        );
        let ask = item(
            "On the farm.",
            "What does a cat say?",
            "A cat says",
            &["meow", "tweet"],
            0,
        );
        let mut sheet = task(vec![shot]);
        sheet.items = vec![ask];
        let task = sheet.to_task();
        let prompt = |protocol| task.items[0].ask(protocol).unwrap().prompts().remove(0);
        let options = |protocol| {
            let ask = task.items[0].ask(protocol).unwrap();
            let options = ask.options().into_iter();
            options
                .map(|o| format!("{}{o}", ask.delimiter))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            prompt(Protocol::Choice),
            "Question: What does a cow say?\nA. oink\nB. moo\nAnswer: B\n\n\
             On the farm.\nQuestion: What does a cat say?\nA. meow\nB. tweet\nAnswer:"
        );
        assert_eq!(options(Protocol::Choice), [" A", " B"]);
        assert_eq!(prompt(Protocol::Continuation), "On the farm.\nA cat says");
        assert_eq!(options(Protocol::Continuation), [" meow", " tweet"]);
        assert_eq!(
            prompt(Protocol::Generate),
            "A cow says moo.\nOn the farm.\nA cat says"
        );
        assert_eq!(options(Protocol::Generate), [" meow"]);
    }

    #[test]
    fn whole_sentences_are_scored_without_a_leading_space_and_only_by_continuation() {
        let mut sheet = task(vec![]);
        sheet.items = vec![item("", "", "", &["The dogs bark.", "The dogs barks."], 0)];
        let pair = sheet.to_task().items.remove(0);
        let [ask] = pair.asks.as_slice() else {
            panic!("one way");
        };
        assert_eq!(ask.protocol, Protocol::Continuation);
        assert_eq!(
            (ask.prompts(), ask.delimiter.as_str()),
            (vec![String::new()], "")
        );
        assert_eq!(ask.options(), sheet.items[0].options);
    }

    #[test]
    fn a_protocol_that_the_task_does_not_name_is_not_served() {
        let mut task = task(vec![]);
        task.protocols = vec![Protocol::Choice];
        let ask = item("", "Q?", "S", &["a", "b"], 0);
        assert!(task.serves(&ask, Protocol::Choice));
        assert!(!task.serves(&ask, Protocol::Generate));
    }
}
