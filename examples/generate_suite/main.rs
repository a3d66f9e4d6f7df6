//! Writes the generated tasks of the embedded suite: `cargo run --example generate_suite`.
//!
//! Retrieval, reasoning and nesting are made from word lists and a seed, so that nothing in them
//! can have been read before. The knowledge tasks are written by hand, and keep their items; made are
//! the twins that state an item's fact in the context. The output is checked in; a test holds the files against this code.

use std::path::Path;

use slim::suite::Sheet;

mod knowledge;
mod language;
mod make;
mod reasoning;
mod retrieval;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/suite/tasks");
    for task in tasks() {
        std::fs::write(folder.join(format!("{}.json", task.task)), task.to_json())?;
    }
    Ok(())
}

/// Every generated task.
pub fn tasks() -> Vec<Sheet> {
    let mut tasks = vec![
        retrieval::retrieval_words(),
        retrieval::retrieval_people(),
        reasoning::reasoning_holders(),
        reasoning::reasoning_numbers(),
        reasoning::reasoning_sequence(),
        reasoning::reasoning_order(),
        reasoning::reasoning_rules(),
        language::language_agreement(),
        language::language_embedding(),
        language::language_brackets(),
    ];
    tasks.extend(knowledge::knowledge());
    tasks
}
