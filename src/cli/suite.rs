//! `slim suite list | show | export`

use super::options::SuiteOptions;
use super::{Passed, show};
use crate::checkpoint::Checkpoint;
use crate::convert::vocabulary::{ChatTemplate, TextTokenizer, runnable};
use crate::eval::{Asking, questions};
use crate::suite::harness::{Builtin, builtins};
use crate::suite::{Sheet, Suite};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The tasks that slim carries and those that need a dataset
    List,
    /// The exact prompt and tokens of an item, under every protocol
    #[command(after_help = "Examples:\n  slim suite show knowledge_places\n  \
        slim suite show gsm8k 0 --data datasets --model model.gguf")]
    Show(Show),
    /// A task's file, to begin one of your own
    #[command(after_help = "Example:\n  slim suite export hellaswag > mine.yaml")]
    Export {
        /// The task's name
        task: String,
    },
}

#[derive(clap::Args)]
struct Show {
    /// The task's name, or a task file
    task: String,
    /// The item's id; the first if left out
    item: Option<String>,
    /// A checkpoint whose tokenizer makes the tokens
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    suite: SuiteOptions,
}

impl Args {
    /// The model that it reads.
    pub(super) fn model(&mut self) -> Option<&mut PathBuf> {
        match &mut self.command {
            Command::Show(args) => args.model.as_mut(),
            _ => None,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    let text = match &args.command {
        Command::List => list(),
        Command::Show(args) => args.text()?,
        Command::Export { task } => export(task)?,
    };
    show(&text)?;
    Ok(true)
}

fn list() -> String {
    let mut text = String::from("Carried whole (slim's own items):\n");
    for task in &Suite::embedded().tasks {
        let _ = writeln!(
            text,
            "  {:<22} {:<10} {:>4} items  {}",
            task.name,
            task.family,
            task.items.len(),
            task.about
        );
    }
    text += "\nDefined as in lm-evaluation-harness (--tasks NAME --data DIR):\n";
    for builtin in builtins() {
        let _ = writeln!(text, "  {}", builtin.name);
    }
    text
}

fn export(name: &str) -> Result<String> {
    if let Some(sheet) = Sheet::embedded().iter().find(|sheet| sheet.task == name) {
        return Ok(sheet.to_json());
    }
    match Builtin::named(name) {
        Some(builtin) => Ok(builtin.text.to_owned()),
        None => bail!("there is no task {name}: `slim suite list` names them"),
    }
}

impl Show {
    fn text(&self) -> Result<String> {
        let suite = self.suite.named(&self.task)?;
        let task = suite.tasks.first().context("the task was opened")?;
        let item = match &self.item {
            None => task.items.first(),
            Some(id) => task.items.iter().find(|item| item.id == *id),
        };
        let Some(item) = item else {
            let some: Vec<&str> = task.items.iter().take(8).map(|i| i.id.as_str()).collect();
            bail!(
                "task {} has no item {:?}: it has {} items, such as {}",
                task.name,
                self.item.as_deref().unwrap_or_default(),
                task.items.len(),
                some.join(", ")
            );
        };
        let mut text = format!(
            "task {} ({}), item {}, split {}, slices {}\n",
            task.name,
            task.family,
            item.id,
            item.split,
            item.slices.join(", ")
        );
        let subject = self.tokenizer()?;
        let protocols = self.suite.protocols();
        for ask in item
            .asks
            .iter()
            .filter(|ask| protocols.contains(&ask.protocol))
        {
            let _ = writeln!(text, "\n── {} {}", ask.protocol, "─".repeat(60));
            for prompt in ask.prompts() {
                let _ = writeln!(text, "{prompt}▮");
            }
            for (i, option) in ask.options().iter().enumerate() {
                let right = match ask.right().contains(&i) || ask.right().is_empty() {
                    true => "✓",
                    false => " ",
                };
                let _ = writeln!(text, "{right} {:?}", format!("{}{option}", ask.delimiter));
            }
            if let Some(written) = ask.written() {
                let _ = writeln!(
                    text,
                    "generated until one of {:?}, at most {} tokens",
                    written.until, written.max_tokens
                );
            }
        }
        if let Some((tokenizer, chat)) = &subject {
            let asking = Asking {
                tokenizer,
                context_length: usize::MAX / 2,
                chat: chat.as_ref(),
            };
            for question in questions(&[(task, item)], &protocols, &asking)? {
                let _ = writeln!(
                    text,
                    "\n── tokens, {} {}",
                    question.protocol(),
                    "─".repeat(52)
                );
                if chat.is_some() {
                    let _ = writeln!(text, "{}▮", question.text);
                }
                for candidate in &question.candidates {
                    let _ = writeln!(text, "{:?} → {:?}", candidate.prompt, candidate.tokens);
                }
                if !question.prompt.is_empty() {
                    let _ = writeln!(text, "{:?} → generated", question.prompt);
                }
            }
        }
        Ok(text)
    }

    fn tokenizer(&self) -> Result<Option<(TextTokenizer, Option<ChatTemplate>)>> {
        let Some(path) = &self.model else {
            return Ok(None);
        };
        let checkpoint = Checkpoint::open(path)?;
        let tokenizer = runnable(&checkpoint);
        let tokenizer = tokenizer.with_context(|| format!("{}: tokenizer", path.display()))?;
        Ok(Some((tokenizer, self.suite.chat_template(&checkpoint)?)))
    }
}
