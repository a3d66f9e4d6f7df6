//! The suite that slim carries.

use super::{Sheet, Suite};

/// One row a task file.
macro_rules! tasks {
    ($($file:literal),+ $(,)?) => {
        &[$(($file, include_str!(concat!("tasks/", $file)))),+]
    };
}

const TASKS: &[(&str, &str)] = tasks![
    "knowledge_nature.json",
    "knowledge_people.json",
    "knowledge_places.json",
    "language_agreement.json",
    "language_brackets.json",
    "language_coherence.json",
    "language_embedding.json",
    "language_forms.json",
    "reasoning_holders.json",
    "reasoning_numbers.json",
    "reasoning_order.json",
    "reasoning_principles.json",
    "reasoning_rules.json",
    "reasoning_sequence.json",
    "retrieval_people.json",
    "retrieval_words.json",
];

impl Sheet {
    /// The sheets that slim carries.
    pub fn embedded() -> Vec<Sheet> {
        let read = |(file, text): &(&str, &str)| Sheet::read(file.as_ref(), text.as_bytes());
        let sheets = TASKS.iter().map(read).collect::<Result<_, _>>();
        // The text is part of this program and a test reads it, so no input can end here.
        sheets.expect("the embedded tasks are valid")
    }
}

impl Suite {
    /// The embedded suite: four families in all protocols, a few hundred short items.
    pub fn embedded() -> Suite {
        Suite {
            name: "embedded".to_owned(),
            tasks: Sheet::embedded().iter().map(Sheet::to_task).collect(),
        }
    }
}
