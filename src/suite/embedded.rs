//! The suite that slim carries.

use super::{Suite, load};

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

impl Suite {
    /// The embedded suite: four families in all protocols, a few hundred short items.
    pub fn embedded() -> Suite {
        let read = |(file, text): &(&str, &str)| load::task(file.as_ref(), text.as_bytes());
        let tasks = TASKS.iter().map(read).collect::<Result<_, _>>();
        // The text is part of this program and a test reads it, so no input can end here.
        Suite {
            name: "embedded".to_owned(),
            tasks: tasks.expect("the embedded tasks are valid"),
        }
    }
}
