//! A task, its items, and the text that each protocol makes of them.

use serde::{Deserialize, Serialize};

use super::{Family, Protocol, Split};

/// The version of the task file format that this build reads and writes.
pub const SCHEMA_VERSION: u32 = 1;

/// More options than letters cannot be asked as a choice.
pub(super) const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// One file of the suite: items of one family that share their shots and stop strings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// Version of the file format, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique name, by which it is shown.
    pub task: String,
    /// The ability it measures.
    pub family: Family,
    /// One sentence for people.
    pub about: String,
    /// The protocols it is meant for; see [`Task::serves`] for a single item.
    pub protocols: Vec<Protocol>,
    /// Generated text ends before the first of these.
    pub stop: Vec<String>,
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// Solved items shown before each item, except in `continuation`.
    pub shots: Vec<Item>,
    /// The items, in file order.
    pub items: Vec<Item>,
}

/// One question with its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
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
    /// The part of the task it belongs to; decided on loading, not written.
    #[serde(skip, default = "first_split")]
    pub split: Split,
}

fn first_split() -> Split {
    Split::Calibrate
}

impl Item {
    /// The right answer's text: the right option, or without options the first accepted text.
    pub fn target(&self) -> &str {
        let right = self.options.get(self.answer).or(self.accept.first());
        right.map_or("", String::as_str)
    }

    /// Share of right answers that guessing reaches: 1/options, and 0 for `generate`.
    pub fn chance(&self, protocol: Protocol) -> f64 {
        match protocol {
            Protocol::Generate => 0.0,
            _ if self.options.is_empty() => 0.0,
            _ => 1.0 / self.options.len() as f64,
        }
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

    fn letter_candidates(&self) -> Vec<String> {
        LETTERS
            .chars()
            .take(self.options.len())
            .map(|letter| format!(" {letter}"))
            .collect()
    }

    /// The item as an example with its answer.
    fn solved(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Choice => {
                let letter = LETTERS.chars().nth(self.answer).unwrap_or_default();
                format!("{} {letter}\n\n", self.choice_prompt())
            }
            Protocol::Continuation => String::new(),
            Protocol::Generate => {
                format!("{} {}.\n", self.after_context(&self.stem), self.target())
            }
        }
    }
}

impl Task {
    /// Whether the item can be asked this way: the task means it, and the item has the fields.
    pub fn serves(&self, item: &Item, protocol: Protocol) -> bool {
        self.protocols.contains(&protocol) && item.has_fields_for(protocol)
    }

    /// The text before the answer: shots, then the item; it never ends in a space.
    ///
    /// `continuation` has no shots: it reads as natural text, and may be empty.
    pub fn prompt(&self, item: &Item, protocol: Protocol) -> String {
        let shots = self
            .shots
            .iter()
            .filter(|shot| shot.has_fields_for(protocol));
        let shots: String = shots.map(|shot| shot.solved(protocol)).collect();
        match protocol {
            Protocol::Choice => shots + &item.choice_prompt(),
            Protocol::Continuation | Protocol::Generate => shots + &item.after_context(&item.stem),
        }
    }

    /// The texts that are scored after the prompt, in option order, each with its leading space.
    ///
    /// `generate` has one, the right answer. After an empty prompt there is no space to lead with.
    pub fn candidates(&self, item: &Item, protocol: Protocol) -> Vec<String> {
        let space = if self.prompt(item, protocol).is_empty() {
            ""
        } else {
            " "
        };
        match protocol {
            Protocol::Choice => item.letter_candidates(),
            Protocol::Continuation => item
                .options
                .iter()
                .map(|option| format!("{space}{option}"))
                .collect(),
            Protocol::Generate => vec![format!("{space}{}", item.target())],
        }
    }

    /// Whether generated text is right: equal, after normalising both, to the right option or to
    /// one of `accept`. Normalising cuts at the first stop string, and drops surrounding space
    /// and quotes, closing punctuation and case.
    pub fn accepts(&self, item: &Item, generated: &str) -> bool {
        let cut = self
            .stop
            .iter()
            .filter_map(|stop| generated.find(stop.as_str()))
            .min();
        let said = normalise(
            cut.and_then(|end| generated.get(..end))
                .unwrap_or(generated),
        );
        let right = item
            .options
            .get(item.answer)
            .into_iter()
            .chain(&item.accept);
        !said.is_empty() && right.into_iter().any(|text| normalise(text) == said)
    }
}

const QUOTES: &[char] = &['"', '\'', '`', '“', '”', '‘', '’', '«', '»'];
const CLOSING: &[char] = &['.', ',', ';', '!', '?'];

fn normalise(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || QUOTES.contains(&c) || CLOSING.contains(&c);
    let starts = |c: char| c.is_whitespace() || QUOTES.contains(&c);
    text.trim_end_matches(ends)
        .trim_start_matches(starts)
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(context: &str, question: &str, stem: &str, options: &[&str], answer: usize) -> Item {
        Item {
            id: "i".into(),
            slices: vec![],
            context: context.into(),
            question: question.into(),
            stem: stem.into(),
            options: options.iter().map(|o| o.to_string()).collect(),
            answer,
            accept: vec![],
            split: Split::Report,
        }
    }

    fn task(shots: Vec<Item>) -> Task {
        Task {
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
        let task = task(vec![shot]);
        assert_eq!(
            task.prompt(&ask, Protocol::Choice),
            "Question: What does a cow say?\nA. oink\nB. moo\nAnswer: B\n\n\
             On the farm.\nQuestion: What does a cat say?\nA. meow\nB. tweet\nAnswer:"
        );
        assert_eq!(task.candidates(&ask, Protocol::Choice), [" A", " B"]);
        assert_eq!(
            task.prompt(&ask, Protocol::Continuation),
            "On the farm.\nA cat says"
        );
        assert_eq!(
            task.candidates(&ask, Protocol::Continuation),
            [" meow", " tweet"]
        );
        assert_eq!(
            task.prompt(&ask, Protocol::Generate),
            "A cow says moo.\nOn the farm.\nA cat says"
        );
        assert_eq!(task.candidates(&ask, Protocol::Generate), [" meow"]);
    }

    #[test]
    fn whole_sentences_are_scored_without_a_leading_space_and_only_by_continuation() {
        let pair = item("", "", "", &["The dogs bark.", "The dogs barks."], 0);
        let task = task(vec![]);
        assert_eq!(task.prompt(&pair, Protocol::Continuation), "");
        assert_eq!(task.candidates(&pair, Protocol::Continuation), pair.options);
        assert!(task.serves(&pair, Protocol::Continuation));
        assert!(!task.serves(&pair, Protocol::Choice));
        assert!(!task.serves(&pair, Protocol::Generate));
    }

    #[test]
    fn a_protocol_that_the_task_does_not_name_is_not_served() {
        let mut task = task(vec![]);
        task.protocols = vec![Protocol::Choice];
        let ask = item("", "Q?", "S", &["a", "b"], 0);
        assert!(task.serves(&ask, Protocol::Choice));
        assert!(!task.serves(&ask, Protocol::Generate));
    }

    #[test]
    fn generated_text_is_compared_without_case_quotes_and_closing_punctuation() {
        let mut ask = item("", "", "The capital is", &["Paris", "Rome"], 0);
        ask.accept = vec!["the City of Light".into()];
        let task = task(vec![]);
        for right in [" Paris", " paris.\nThe", "“Paris”,", " The city of light!"] {
            assert!(task.accepts(&ask, right), "{right}");
        }
        for wrong in [
            "",
            "\nParis",
            " Parisian",
            " Rome",
            " Paris and Rome",
            "...",
        ] {
            assert!(!task.accepts(&ask, wrong), "{wrong}");
        }
    }

    #[test]
    fn chance_is_one_of_the_options_and_nothing_for_free_text() {
        let ask = item("", "Q?", "S", &["a", "b", "c", "d"], 0);
        assert_eq!(ask.chance(Protocol::Choice), 0.25);
        assert_eq!(ask.chance(Protocol::Continuation), 0.25);
        assert_eq!(ask.chance(Protocol::Generate), 0.0);
    }
}
