//! The mask engine against the plain loop, on the same work in the same run: `cargo bench --bench
//! engine -- [MODEL [texts | options | answers | long | all [QUESTIONS [LENGTH]]]]`. The loop asks one keep set
//! at a time, one text at a time, as scripts do.
//!
//! Prints Markdown: seconds, ratios, and what share of the machine's f32 rate the pass reaches.

use candle_core::Device;
use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use slim::arch::KeepSet;
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::{TextTokenizer, runnable};
use slim::eval::{Asking, Candidate, Engine, Question, Silent, generate, questions};
use slim::model::{Config, Model};
use slim::suite::{Answer, Protocol, Split, Suite};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Questions of each kind, unless told otherwise: enough that a pass takes seconds on a 135M model.
const QUESTIONS: usize = 24;

/// Tokens of a long text, unless told otherwise, and texts of this length.
const LONG: usize = 64;
const LONG_TEXTS: usize = 8;

/// The naive loops are asked fewer keep sets, evenly spread, and their time is scaled.
const NAIVE_MASKS: usize = 6;

fn main() -> anyhow::Result<()> {
    // Cargo adds --bench.
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'));
    let path = arguments.next();
    let path = path.map_or_else(|| Path::new("fixtures/village").to_owned(), PathBuf::from);
    let only = arguments.next();
    let wanted = |part: &str| {
        only.as_deref()
            .is_none_or(|only| only == part || only == "all")
    };
    let n = arguments.next().map(|n| n.parse()).transpose()?;
    let length = arguments.next().map(|n| n.parse()).transpose()?;
    let length = length.unwrap_or(LONG);
    let checkpoint = Checkpoint::open(&path)?;
    let model = Model::load(&checkpoint, &Device::Cpu, |_, _| {})?;
    let mut bench = Bench {
        tokenizer: runnable(&checkpoint)?,
        masks: masks(model.n_layers()),
        n: n.unwrap_or(QUESTIONS),
        suite: Suite::embedded(),
        model,
    };
    let peak = peak();
    println!(
        "{}: {} layers, {} threads, {peak:.0} GFLOP/s measured peak\n",
        path.display(),
        bench.model.n_layers(),
        rayon::current_num_threads()
    );
    println!("| ablating every layer | plain loop, s | engine, s | × | GFLOP/s | of the peak |");
    println!("|---|---|---|---|---|---|");
    if wanted("texts") {
        bench.unshared(peak)?;
    }
    if wanted("options") {
        bench.options(peak)?;
    }
    if wanted("answers") {
        let answers = bench.questions(Protocol::Generate, bench.n)?;
        bench.generation("short answers", &answers[..bench.n])?;
    }
    if wanted("long") {
        bench.suite = lengthened(bench.suite, length);
        let n = LONG_TEXTS.min(bench.n);
        let texts = bench.questions(Protocol::Generate, n)?;
        bench.generation(&format!("texts of {length} tokens"), &texts[..n])?;
    }
    Ok(())
}

struct Bench {
    model: Model,
    tokenizer: TextTokenizer,
    suite: Suite,
    /// The whole model, then each layer left out.
    masks: Vec<KeepSet>,
    /// Questions of each kind.
    n: usize,
}

fn masks(n_layers: usize) -> Vec<KeepSet> {
    let all = KeepSet::all(n_layers);
    let ablations = (0..n_layers).map(|layer| all.drop_layers(&[layer]));
    std::iter::once(all.clone()).chain(ablations).collect()
}

/// The same questions, written on to a given length.
fn lengthened(mut suite: Suite, length: usize) -> Suite {
    let items = suite.tasks.iter_mut().flat_map(|task| &mut task.items);
    for ask in items.flat_map(|item| &mut item.asks) {
        if let Answer::Written(written) = &mut ask.answer {
            written.until.clear();
            written.max_tokens = length;
        }
    }
    suite
}

fn seconds<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(f64, T)> {
    let begin = Instant::now();
    let result = work()?;
    Ok((begin.elapsed().as_secs_f64(), result))
}

impl Bench {
    /// One text a question, no beginning in common.
    fn unshared(&self, peak: f64) -> anyhow::Result<()> {
        let length = 96;
        let vocab_size = self.model.config().vocab_size as u32;
        let mut random = fastrand::Rng::with_seed(1);
        let texts: Vec<[Candidate; 1]> = (0..self.n)
            .map(|_| {
                let tokens: Vec<u32> = (0..length).map(|_| random.u32(0..vocab_size)).collect();
                let (prompt, tokens) = tokens.split_at(length - 4);
                [Candidate {
                    prompt: prompt.into(),
                    tokens: tokens.to_vec(),
                }]
            })
            .collect();
        self.likelihoods("texts without a common beginning", &texts, &texts, peak)
    }

    /// Questions with four options: the plain loop asks each option by itself.
    fn options(&self, peak: f64) -> anyhow::Result<()> {
        let questions = self.questions(Protocol::Continuation, 2 * self.n)?;
        let questions: Vec<&Question> = questions
            .iter()
            .filter(|question| question.candidates.len() == 4)
            .take(self.n)
            .collect();
        let alone: Vec<[Candidate; 1]> = questions
            .iter()
            .flat_map(|question| question.candidates.iter().map(|option| [option.clone()]))
            .collect();
        self.likelihoods("questions with four options", &alone, &questions, peak)
    }

    fn questions(&self, protocol: Protocol, n: usize) -> anyhow::Result<Vec<Question<'_>>> {
        let items = self.suite.sample(Split::Report, n);
        let asking = Asking {
            tokenizer: &self.tokenizer,
            context_length: self.model.config().context_length,
            chat: None,
        };
        questions(&items, &[protocol], &asking)
    }

    fn likelihoods<A: AsRef<[Candidate]>, B: AsRef<[Candidate]>>(
        &self,
        name: &str,
        alone: &[A],
        together: &[B],
        peak: f64,
    ) -> anyhow::Result<()> {
        let engine = Engine::new(&self.model);
        let some: Vec<&KeepSet> = self.some_masks();
        let (naive, _) = seconds(|| {
            for mask in &some {
                for text in alone {
                    let mask = std::slice::from_ref(*mask);
                    black_box(engine.likelihoods(std::slice::from_ref(text), mask, &Silent)?);
                }
            }
            Ok(())
        })?;
        let naive = naive * self.masks.len() as f64 / some.len() as f64;
        let (fast, _) = seconds(|| engine.likelihoods(together, &self.masks, &Silent))?;
        let tokens = engine.work(together, &self.masks) as f64;
        let rate = tokens * flops_of_a_token(self.model.config()) / fast / 1e9;
        println!(
            "| {name} | {naive:.1} | {fast:.1} | {:.2} | {rate:.0} | {:.0} % |",
            naive / fast,
            100.0 * rate / peak
        );
        Ok(())
    }

    fn generation(&self, name: &str, questions: &[Question]) -> anyhow::Result<()> {
        let questions: Vec<&Question> = questions.iter().collect();
        let some = self.some_masks();
        let write = |masks: &[KeepSet], questions: &[&Question]| {
            generate(&self.model, masks, questions, &self.tokenizer, &Silent)
        };
        let (naive, _) = seconds(|| {
            for mask in &some {
                for question in &questions {
                    let mask = std::slice::from_ref(*mask);
                    black_box(write(mask, std::slice::from_ref(question))?);
                }
            }
            Ok(())
        })?;
        let (batched, _) = seconds(|| {
            for mask in &some {
                black_box(write(std::slice::from_ref(*mask), &questions)?);
            }
            Ok(())
        })?;
        let (fast, _) = seconds(|| write(&self.masks, &questions))?;
        let scale = self.masks.len() as f64 / some.len() as f64;
        for (loop_is, plain) in [("", naive), (", the loop in one batch a keep set", batched)] {
            let plain = plain * scale;
            println!(
                "| {name}{loop_is} | {plain:.1} | {fast:.1} | {:.2} | | |",
                plain / fast
            );
        }
        Ok(())
    }

    /// Keep sets that stand for all: the same number of layers but for the first.
    fn some_masks(&self) -> Vec<&KeepSet> {
        let step = self.masks.len().div_ceil(NAIVE_MASKS);
        self.masks.iter().skip(1).step_by(step).collect()
    }
}

/// Multiplications and additions of one token in one layer, without attention's scores.
fn flops_of_a_token(config: &Config) -> f64 {
    let (q, kv) = (
        config.n_heads * config.head_dim,
        config.n_kv_heads * config.head_dim,
    );
    let weights = config.hidden_size * (2 * q + 2 * kv + 3 * config.intermediate_size);
    2.0 * weights as f64
}

/// Fused multiply-adds a second on all threads, as the machine does them out of registers.
fn peak() -> f64 {
    let rounds = 20_000_000u64;
    let one = || {
        let begin = Instant::now();
        let sums = chains(black_box(rounds));
        let flops = rounds as f64 * (sums * 2) as f64;
        flops / begin.elapsed().as_secs_f64() / 1e9
    };
    let threads = rayon::current_num_threads();
    (0..2)
        .map(|_| {
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
                all.into_iter()
                    .map(|thread| thread.join().unwrap_or(0.0))
                    .sum::<f64>()
            })
        })
        .fold(0.0, f64::max)
}

/// Adds to sums in registers, enough of them to hide how long an addition takes; says how many they are.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn chains(rounds: u64) -> usize {
    const LANES: usize = match target_cfg_f!(target_feature = "avx512f") {
        true => 16,
        false => 8,
    };
    let (factor, term) = (black_box([0.999f32; LANES]), black_box([0.001f32; LANES]));
    let mut sums = black_box([[1.0f32; LANES]; 10]);
    for _ in 0..rounds {
        for chain in &mut sums {
            for lane in 0..LANES {
                chain[lane] = chain[lane].mul_add(factor[lane], term[lane]);
            }
        }
    }
    black_box(sums).as_flattened().len()
}
