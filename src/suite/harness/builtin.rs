//! The definitions that slim carries.

use super::{Options, task, yaml};
use crate::suite::{Error, Task};
use std::path::Path;

/// A definition by its name.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// The task's name.
    pub name: &'static str,
    /// The definition, YAML.
    pub text: &'static str,
}

/// One row a definition.
macro_rules! definitions {
    ($($name:literal),+ $(,)?) => {
        &[$(Builtin { name: $name, text: include_str!(concat!("tasks/", $name, ".yaml")) }),+]
    };
}

const BUILTINS: &[Builtin] = definitions![
    "arc_challenge",
    "arc_easy",
    "babi",
    "bbh_zeroshot_boolean_expressions",
    "bbh_zeroshot_date_understanding",
    "bbh_zeroshot_logical_deduction_three_objects",
    "bbh_zeroshot_navigate",
    "bbh_zeroshot_object_counting",
    "bbh_zeroshot_tracking_shuffled_objects_three_objects",
    "blimp",
    "commonsense_qa",
    "gsm8k",
    "hellaswag",
    "kv_retrieval",
    "lambada_openai",
    "mathqa",
    "mmlu",
    "mmlu_continuation",
    "mmlu_generative",
    "nq_open",
    "nq_open_context",
    "openbookqa",
    "piqa",
    "popqa",
    "triviaqa",
    "wikitext",
    "winogrande",
];

/// All of them, by name.
pub fn builtins() -> &'static [Builtin] {
    BUILTINS
}

impl Builtin {
    /// The definition with that name.
    pub fn named(name: &str) -> Option<Builtin> {
        BUILTINS
            .iter()
            .find(|builtin| builtin.name == name)
            .copied()
    }

    /// The task with its documents.
    ///
    /// # Errors
    /// Data that are not there or do not fit.
    pub fn open(self, options: &Options) -> Result<Task, Error> {
        let path = Path::new(self.name).with_extension("yaml");
        let root = yaml::parse(self.text).map_err(|fault| super::faulty(&path, &fault))?;
        task(&path, Path::new(""), root, options)
    }
}
