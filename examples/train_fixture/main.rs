//! Trains the fixture model: a small Llama that knows a village and can read, pass on and agree.
//!
//! ```text
//! RAYON_NUM_THREADS=1 cargo run --example train_fixture -- fixtures/village [STEPS]
//! ```
//!
//! Text is drawn from a closed world (`world`), a tokenizer is trained on it (`tokenizer`), a
//! network is trained on what the tokenizer makes of it (`train`), rounded to bf16, examined on
//! instances that it has not read (`exam`), and written as a Hugging Face folder (`files`).
//! Training runs its own two threads, so candle's matrix products do best with one each.

mod exam;
mod files;
mod network;
mod rng;
mod text;
mod tokenizer;
mod train;
mod wiring;
mod world;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use exam::{Examiner, PROTOCOLS, share};
use network::{Config, Network};
use rng::Rng;
use text::{Document, Forms, Suite, Task};
use tokenizer::Tokenizer;
use train::Teacher;
use world::World;

const SEED: u64 = 20;
const ITEMS_PER_TASK: usize = 100;
const TOKENIZER_SAMPLE: usize = 20_000;
/// The tokenizer reads every form.
const TOKENIZER_FORMS: Forms = Forms {
    stem: 0.5,
    letter: 0.3,
    drill: 0.1,
    copy: 0.1,
};
const DEFAULT_STEPS: usize = 900;
/// A glance at progress costs seconds, so it is short and rare.
const GLANCE_EVERY: usize = 300;
const GLANCE_ITEMS: usize = 32;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().context("usage: train_fixture FOLDER [STEPS]")?);
    let steps = args
        .next()
        .map_or(Ok(DEFAULT_STEPS), |steps| steps.parse())
        .context("STEPS is a number")?;

    let world = World::new(SEED);
    let suite = Suite::new(&world, ITEMS_PER_TASK, &mut Rng::new(SEED + 1));
    let mut rng = Rng::new(SEED + 2);
    let sample: Vec<String> = (0..TOKENIZER_SAMPLE)
        .map(|_| Document::draw(&world, &suite, &TOKENIZER_FORMS, &mut rng).text)
        .collect();
    let tokenizer = Tokenizer::train(sample.into_iter())?;
    let network = Network::new(config(tokenizer.vocab_size()), &mut Rng::new(SEED + 3))?;
    let all = network.all_layers();

    files::write_suite(&folder.join("suite"), &suite.tasks)?;
    let teacher = Teacher {
        world: &world,
        suite: &suite,
        tokenizer: &tokenizer,
    };
    teacher.train(&network, steps, &mut rng, |step| {
        if step % GLANCE_EVERY == 0 {
            // An interrupted training leaves a model too.
            files::write_model(&folder, &network, &tokenizer)?;
            print_row(
                "glance",
                &accuracies(&network, &tokenizer, &suite.tasks, &all, GLANCE_ITEMS)?,
            );
        }
        Ok(())
    })?;

    network.round_to_bf16()?;
    files::write_model(&folder, &network, &tokenizer)?;
    report(&network, &tokenizer, &suite.tasks)
}

fn config(vocab_size: usize) -> Config {
    Config {
        vocab_size,
        hidden_size: 128,
        intermediate_size: 352,
        num_hidden_layers: 8,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        max_position_embeddings: 512,
        initializer_range: 0.04,
    }
}

/// Accuracy of one task in one protocol, on how many items.
struct Accuracy {
    task: String,
    protocol: &'static str,
    chance: f64,
    items: usize,
    share: f64,
}

impl Accuracy {
    /// By more than three standard errors of guessing; any right generation is beyond guessing,
    /// so a fifth is asked of it.
    fn beats_chance(&self) -> bool {
        let error = (self.chance * (1.0 - self.chance) / self.items as f64).sqrt();
        self.share > (self.chance + 3.0 * error).max(0.2)
    }
}

fn accuracies(
    network: &Network,
    tokenizer: &Tokenizer,
    tasks: &[Task],
    keep: &[usize],
    most: usize,
) -> Result<Vec<Accuracy>> {
    let examiner = Examiner {
        network,
        tokenizer,
        keep,
    };
    let mut all = Vec::new();
    for task in tasks {
        let items = &task.items[..most.min(task.items.len())];
        for protocol in PROTOCOLS {
            all.push(Accuracy {
                task: task.task.clone(),
                protocol,
                chance: if protocol == "generate" { 0.0 } else { 0.25 },
                items: items.len(),
                share: share(&examiner.right(task, items, protocol)?),
            });
        }
    }
    Ok(all)
}

fn print_row(label: &str, row: &[Accuracy]) {
    let cells: Vec<String> = row
        .chunks(PROTOCOLS.len())
        .map(|cells| {
            let shares: Vec<String> = cells
                .iter()
                .map(|cell| format!("{:.2}", cell.share))
                .collect();
            format!("{} {}", cells[0].task, shares.join("/"))
        })
        .collect();
    println!("{label:>8}  {}", cells.join("  "));
}

/// The tables of the README: by slice, then with each layer removed.
fn report(network: &Network, tokenizer: &Tokenizer, tasks: &[Task]) -> Result<()> {
    let all = network.all_layers();
    println!("accuracy as {}", PROTOCOLS.join("/"));
    let whole = accuracies(network, tokenizer, tasks, &all, usize::MAX)?;
    print_row("all", &whole);
    let examiner = Examiner {
        network,
        tokenizer,
        keep: &all,
    };
    for task in tasks {
        for protocol in PROTOCOLS {
            let right = examiner.right(task, &task.items, protocol)?;
            let mut slices: Vec<&str> = task
                .items
                .iter()
                .map(|item| item.slices[0].as_str())
                .collect();
            slices.sort_unstable();
            slices.dedup();
            for slice in slices {
                let within = task
                    .items
                    .iter()
                    .zip(&right)
                    .filter(|(item, _)| item.slices[0] == slice);
                let within: Vec<bool> = within.map(|(_, right)| *right).collect();
                println!(
                    "{:>14} {protocol:>12} {slice:>10} {:.2}",
                    task.task,
                    share(&within)
                );
            }
        }
    }
    for removed in &all {
        let keep: Vec<usize> = all
            .iter()
            .copied()
            .filter(|layer| layer != removed)
            .collect();
        print_row(
            &format!("less {removed}"),
            &accuracies(network, tokenizer, tasks, &keep, usize::MAX)?,
        );
    }
    let weak: Vec<String> = whole
        .iter()
        // Letters are reported, not required: this network only guesses them.
        .filter(|accuracy| accuracy.protocol != "choice" && !accuracy.beats_chance())
        .map(|accuracy| {
            format!(
                "{} {} ({:.2})",
                accuracy.task, accuracy.protocol, accuracy.share
            )
        })
        .collect();
    ensure!(
        weak.is_empty(),
        "not clearly above chance: {}; train for longer",
        weak.join(", ")
    );
    Ok(())
}
