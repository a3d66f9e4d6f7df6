//! The mask engine and the decoder on the trained fixture, against candle-transformers and against
//! one text at a time.

mod support;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
use slim::arch::{Half, KeepSet};
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::{TextTokenizer, runnable};
use slim::eval::{
    Asking, Engine, Mask, Mended, Question, Reply, Silent, WithoutHead, generate, layer_passes,
    questions,
};
use slim::model::{Compute, LinearMap, Mend, Model, Resources, Run};
use slim::prune::{Request, write};
use slim::suite::harness::Options;
use slim::suite::{Answer, Protocol, Sampling, Split, Suite};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use support::village;

fn fixture() -> (Model, TextTokenizer) {
    let checkpoint = Checkpoint::open(&village()).unwrap();
    let model = Model::load(&checkpoint, &Device::Cpu, |_, _| {}).unwrap();
    (model, runnable(&checkpoint).unwrap())
}

fn suite() -> Suite {
    Suite::open(village().join("suite"), &Options::default()).unwrap()
}

/// ln softmax(logits)[token] of one row.
fn log_prob(logits: &Tensor, row: usize, token: u32) -> f64 {
    let row: Vec<f32> = logits.get(row).unwrap().to_vec1().unwrap();
    let max = row.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
    f64::from(row[token as usize] - max) - sum.ln()
}

fn masks(n_layers: usize) -> Vec<KeepSet> {
    let without = |layers: &[usize]| KeepSet::without(n_layers, layers).unwrap();
    vec![
        KeepSet::all(n_layers),
        without(&[0]),
        without(&[3]),
        without(&[2, 5]),
        without(&[n_layers - 1]),
    ]
}

fn asked<'s>(suite: &'s Suite, tokenizer: &TextTokenizer) -> Vec<Question<'s>> {
    let items = suite.sample(Split::Calibrate, 3);
    let asking = Asking {
        tokenizer,
        context_length: 512,
        chat: None,
    };
    questions(&items, Protocol::ALL, &asking).unwrap()
}

#[test]
fn many_masks_at_once_give_what_each_gives_alone() {
    let (model, tokenizer) = fixture();
    let suite = suite();
    let questions = asked(&suite, &tokenizer);
    let masks = masks(model.n_layers());
    let together = Engine::new(&model)
        .likelihoods(&questions, &masks, &Silent)
        .unwrap();
    let mut compared = 0;
    for (mask, answers) in masks.iter().zip(&together) {
        for (question, found) in questions.iter().zip(answers) {
            for (candidate, found) in question.candidates.iter().zip(found) {
                let text = [&candidate.prompt[..], &candidate.tokens].concat();
                let logits = model.forward(&text, mask.layers()).unwrap();
                let first = candidate.prompt.len() - 1;
                let alone: f64 = (0..candidate.tokens.len())
                    .map(|i| log_prob(&logits, first + i, candidate.tokens[i]))
                    .sum();
                let found = found.log_prob;
                let error = (found - alone).abs() / alone.abs().max(1.0);
                assert!(error < 1e-4, "{}: {found} {alone}", question.item.id);
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

fn write_gguf(checkpoint: &Checkpoint, keep: &KeepSet, outtype: &str, target: &Path) {
    let request = Request {
        outtype: outtype.parse().unwrap(),
        source_digest: false,
        ..Request::new(checkpoint, keep, target)
    };
    write(&request, &|_| {}).unwrap();
}

#[test]
fn quantised_weights_give_the_same_in_f32_and_nearly_so_in_8_bits() {
    let (model, tokenizer) = fixture();
    let suite = suite();
    let questions = asked(&suite, &tokenizer);
    let all = [KeepSet::all(model.n_layers())];
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("q8.gguf");
    write_gguf(
        &Checkpoint::open(&village()).unwrap(),
        &all[0],
        "q8_0",
        &target,
    );
    let checkpoint = Checkpoint::open(&target).unwrap();
    let values = |compute, graph| {
        let resources = Resources {
            compute,
            graph,
            ..Resources::of(&Device::Cpu)
        };
        let model = Model::open(&checkpoint, &resources, |_, _| {}).unwrap();
        let found = Engine::new(&model)
            .likelihoods(&questions, &all, &Silent)
            .unwrap();
        let found = found.into_iter().flatten().flatten();
        found
            .map(|likelihood| likelihood.log_prob)
            .collect::<Vec<f64>>()
    };
    // candle's own graph on the same blocks.
    let graph = values(Compute::F32, true);
    let f32 = values(Compute::F32, false);
    let q8_0 = values(Compute::Q8_0, false);
    for ((graph, f32), q8_0) in graph.iter().zip(&f32).zip(&q8_0) {
        assert!(
            (graph - f32).abs() < 1e-4 * graph.abs().max(1.0),
            "{graph} {f32}"
        );
        assert!(
            (q8_0 - f32).abs() < 0.2 * f32.abs().max(1.0),
            "{q8_0} {f32}"
        );
    }
    assert_ne!(f32, q8_0);
}

/// Where a set of layers is cut from the file, the smaller file gives the same numbers.
#[test]
fn a_mask_gives_the_logits_of_the_model_that_is_pruned_by_it() {
    let (model, tokenizer) = fixture();
    let suite = suite();
    let questions = asked(&suite, &tokenizer);
    let checkpoint = Checkpoint::open(&village()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let masks = masks(model.n_layers());
    let engine = Engine::new(&model);
    let together = engine.likelihoods(&questions, &masks, &Silent).unwrap();
    for (mask, expected) in masks.iter().zip(&together) {
        let target = folder.path().join("pruned.gguf");
        let _ = std::fs::remove_file(&target);
        write_gguf(&checkpoint, mask, "keep", &target);
        let pruned = Checkpoint::open(&target).unwrap();
        let pruned = Model::load(&pruned, &Device::Cpu, |_, _| {}).unwrap();
        let all = [KeepSet::all(pruned.n_layers())];
        let found = Engine::new(&pruned).likelihoods(&questions, &all, &Silent);
        for (found, expected) in found.unwrap()[0]
            .iter()
            .flatten()
            .zip(expected.iter().flatten())
        {
            let error = (found.log_prob - expected.log_prob).abs();
            assert!(
                error <= 1e-5 * expected.log_prob.abs(),
                "{found:?} {expected:?}"
            );
        }
    }
}

/// Packs, tiles and streaming follow from the order of the questions and the memory allowed.
#[test]
fn a_likelihood_depends_neither_on_what_stands_beside_it_nor_on_memory() {
    let (model, tokenizer) = fixture();
    let suite = suite();
    let questions = asked(&suite, &tokenizer);
    let masks = masks(model.n_layers());
    let expected = Engine::new(&model)
        .likelihoods(&questions, &masks, &Silent)
        .unwrap();
    let checkpoint = Checkpoint::open(&village()).unwrap();
    let mut shuffled: Vec<usize> = (0..questions.len()).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut shuffled);
    for (memory, streamed) in [(u64::MAX, false), (208 << 20, false), (200 << 20, true)] {
        let resources = Resources {
            memory,
            ..Resources::of(&Device::Cpu)
        };
        let model = Model::open(&checkpoint, &resources, |_, _| {}).unwrap();
        assert_eq!(model.is_streamed(), streamed);
        let some: Vec<&Question> = shuffled.iter().map(|&i| &questions[i]).collect();
        let found = Engine::new(&model)
            .likelihoods(&some, &masks, &Silent)
            .unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            for (found, &i) in found.iter().zip(&shuffled) {
                assert_eq!(found, &expected[i], "{memory}");
            }
        }
    }
}

#[test]
fn too_little_memory_is_an_error_that_says_how_much_it_takes() {
    let checkpoint = Checkpoint::open(&village()).unwrap();
    let resources = Resources {
        memory: 100 << 20,
        ..Resources::of(&Device::Cpu)
    };
    let error = Model::open(&checkpoint, &resources, |_, _| {})
        .err()
        .unwrap();
    assert!(error.to_string().contains("give --memory"), "{error}");
}

/// KL(p ‖ q) of two rows of logits, in f64.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let norm = |row: &[f32]| row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    let (norm_p, norm_q) = (norm(p), norm(q));
    let term = |(&p, &q): (&f32, &f32)| {
        let log_p = f64::from(p) - norm_p;
        log_p.exp() * (log_p - (f64::from(q) - norm_q))
    };
    p.iter().zip(q).map(term).sum()
}

#[test]
fn the_distance_to_the_original_is_the_divergence_of_the_predictions_of_each_token() {
    let (model, tokenizer) = fixture();
    let suite = suite();
    let questions = asked(&suite, &tokenizer);
    let masks = masks(model.n_layers());
    let engine = Engine::new(&model);
    let original = engine.reference(&questions, &Silent).unwrap();
    let found = engine
        .compare(&questions, &masks, &original, &Silent)
        .unwrap();
    let plain = engine.likelihoods(&questions, &masks, &Silent).unwrap();
    let mut largest = 0f64;
    for (mask, (answers, plain)) in masks.iter().zip(found.iter().zip(&plain)) {
        for (question, (found, plain)) in questions.iter().zip(answers.iter().zip(plain)) {
            for (candidate, (found, plain)) in
                question.candidates.iter().zip(found.iter().zip(plain))
            {
                assert_eq!(found.likelihood, *plain);
                let text = [&candidate.prompt[..], &candidate.tokens].concat();
                let rows = |keep: &[usize]| {
                    let logits = model.forward(&text, keep).unwrap();
                    logits.to_vec2::<f32>().unwrap()
                };
                let all = KeepSet::all(model.n_layers());
                let (before, after) = (rows(all.layers()), rows(mask.layers()));
                let at = candidate.prompt.len() - 1..text.len() - 1;
                let sum: f64 = at.map(|i| divergence(&before[i], &after[i])).sum();
                let error = (found.divergence - sum).abs();
                assert!(error < 1e-4 * sum.max(1.0), "{} {sum}", found.divergence);
                largest = largest.max(sum);
            }
        }
    }
    assert!(largest > 1.0);
    assert!(
        found[0]
            .iter()
            .flatten()
            .all(|found| found.divergence < 1e-6)
    );
}

#[test]
fn observing_says_in_which_row_each_prompt_ends() {
    let (model, tokenizer) = fixture();
    let suite = suite();
    let questions = asked(&suite, &tokenizer);
    let layer = 3;
    let mut seen = Vec::new();
    let all = [KeepSet::all(model.n_layers())];
    Engine::new(&model)
        .observe(&[&questions], &all, &Silent, |at, _, after, rows| {
            for &(question, row) in rows.ends.iter().filter(|_| at == layer) {
                seen.push((question, after.get(row)?.to_vec1::<f32>()?));
            }
            Ok(())
        })
        .unwrap();
    let order: Vec<usize> = seen.iter().map(|(question, _)| *question).collect();
    assert_eq!(order, (0..questions.len()).collect::<Vec<_>>());
    for (question, state) in seen.iter().step_by(4) {
        let prompt = &questions[*question].candidates[0].prompt;
        let frame = model.frame(Run::after(0, prompt.len())).unwrap();
        let mut hidden = model.embed(prompt).unwrap();
        for at in 0..=layer {
            hidden = model.layer(at, &hidden, &frame).unwrap();
        }
        let alone = hidden.squeeze(0).unwrap().get(prompt.len() - 1).unwrap();
        let alone: Vec<f32> = alone.to_vec1().unwrap();
        let largest = alone.iter().fold(0f32, |a, b| a.max(b.abs()));
        for (a, b) in state.iter().zip(&alone) {
            assert!((a - b).abs() < 1e-4 * largest, "{question}: {a} {b}");
        }
    }
}

/// The fixture as candle-transformers runs it, with some of its weights changed.
struct Oracle {
    config: LlamaConfig,
    weights: HashMap<String, Tensor>,
}

impl Oracle {
    fn new() -> Self {
        let text = std::fs::read(village().join("config.json")).unwrap();
        let file = village().join("model.safetensors");
        let weights = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        let single =
            |(name, weight): (String, Tensor)| (name, weight.to_dtype(DType::F32).unwrap());
        Self {
            config: serde_json::from_slice(&text).unwrap(),
            weights: weights.into_iter().map(single).collect(),
        }
    }

    /// Only some layers, renumbered.
    fn keep(mut self, keep: &KeepSet) -> Self {
        self.config.num_hidden_layers = keep.len();
        let kept = |(name, weight): (String, Tensor)| {
            let Some(rest) = name.strip_prefix("model.layers.") else {
                return Some((name, weight));
            };
            let (layer, rest) = rest.split_once('.').unwrap();
            let new = keep.new_index(layer.parse().unwrap())?;
            Some((format!("model.layers.{new}.{rest}"), weight))
        };
        self.weights = self.weights.into_iter().filter_map(kept).collect();
        self
    }

    fn change(mut self, layer: usize, projection: &str, f: impl Fn(&Tensor) -> Tensor) -> Self {
        let name = format!("model.layers.{layer}.{projection}.weight");
        let weight = self.weights.get_mut(&name).unwrap();
        *weight = f(weight);
        self
    }

    /// Next-token logits after each prompt.
    fn logits(self, prompts: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let config = self.config.into_config(false);
        let vars = VarBuilder::from_tensors(self.weights, DType::F32, &Device::Cpu);
        let oracle = Llama::load(vars, &config).unwrap();
        let after = |prompt: &Vec<u32>| {
            let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
            let input = Tensor::new(prompt.as_slice(), &Device::Cpu).unwrap();
            let input = input.unsqueeze(0).unwrap();
            let logits = oracle.forward(&input, 0, &mut cache).unwrap();
            logits.squeeze(0).unwrap().to_vec1().unwrap()
        };
        prompts.iter().map(after).collect()
    }
}

fn prompts(tokenizer: &TextTokenizer) -> Vec<Vec<u32>> {
    asked(&suite(), tokenizer)
        .iter()
        .step_by(5)
        .map(|question| question.candidates[0].prompt.to_vec())
        .collect()
}

/// Next-token logits of a candidate after a prompt.
fn next(model: &Model, mask: &impl Mask, prompt: &[u32]) -> Vec<f32> {
    let frame = model.frame(Run::after(0, prompt.len())).unwrap();
    let mut hidden = model.embed(prompt).unwrap();
    for layer in 0..model.n_layers() {
        let form = mask.form(layer);
        if !form.is_gone() {
            hidden = model.layer_as(layer, form, &hidden, &frame, None).unwrap();
        }
    }
    let logits = model.logits(&hidden.squeeze(0).unwrap()).unwrap();
    logits.get(prompt.len() - 1).unwrap().to_vec1().unwrap()
}

fn assert_close(ours: &[f32], theirs: &[f32]) {
    let largest = theirs.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= 1e-3 * largest, "{a} {b}");
    }
}

#[test]
fn kept_layers_compute_what_candle_transformers_computes_with_only_those_layers() {
    let (model, tokenizer) = fixture();
    let prompts = prompts(&tokenizer);
    for keep in masks(model.n_layers()) {
        let theirs = Oracle::new().keep(&keep).logits(&prompts);
        for (prompt, theirs) in prompts.iter().zip(theirs) {
            assert_close(&next(&model, &keep, prompt), &theirs);
        }
    }
}

#[test]
fn a_half_layer_computes_what_candle_transformers_computes_with_the_other_half_at_zero() {
    let (model, tokenizer) = fixture();
    let prompts = prompts(&tokenizer);
    let all = KeepSet::all(model.n_layers());
    let keep = all.with_half(2, Half::Attention).with_half(5, Half::Mlp);
    let zero = |weight: &Tensor| weight.zeros_like().unwrap();
    let oracle = Oracle::new()
        .change(2, "mlp.down_proj", zero)
        .change(5, "self_attn.o_proj", zero);
    for (prompt, theirs) in prompts.iter().zip(oracle.logits(&prompts)) {
        assert_close(&next(&model, &keep, prompt), &theirs);
    }
}

#[test]
fn a_head_left_out_is_what_candle_transformers_computes_with_its_columns_at_zero() {
    let (model, tokenizer) = fixture();
    let graph = Resources {
        graph: true,
        ..Resources::of(&Device::Cpu)
    };
    let checkpoint = Checkpoint::open(&village()).unwrap();
    let graph = Model::open(&checkpoint, &graph, |_, _| {}).unwrap();
    let prompts = prompts(&tokenizer);
    let width = model.config().head_dim;
    let (layer, head) = (3, model.n_heads(3) - 1);
    let without = |weight: &Tensor| {
        let inputs = weight.dim(1).unwrap();
        let own = head * width..(head + 1) * width;
        let stays: Vec<f32> = (0..inputs)
            .map(|input| f32::from(u8::from(!own.contains(&input))))
            .collect();
        weight
            .broadcast_mul(&Tensor::new(stays, &Device::Cpu).unwrap())
            .unwrap()
    };
    let oracle = Oracle::new().change(layer, "self_attn.o_proj", without);
    let mask = WithoutHead(Some((layer, head)));
    for (prompt, theirs) in prompts.iter().zip(oracle.logits(&prompts)) {
        assert_close(&next(&model, &mask, prompt), &theirs);
        assert_close(&next(&graph, &mask, prompt), &theirs);
    }
    let whole = next(&model, &WithoutHead(None), &prompts[0]);
    assert_ne!(next(&model, &mask, &prompts[0]), whole);
}

/// As the mends will be written: the map in down_proj, the factor's inverse in later layers.
fn mended(model: &Model) -> (Mended, Oracle) {
    let size = model.config().hidden_size;
    let keep = KeepSet::without(model.n_layers(), &[3, 6]).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let map: Vec<f32> = (0..size * size)
        .map(|i| f32::from(u8::from(i % (size + 1) == 0)) + 0.1 * (random.f32() - 0.5))
        .collect();
    let mends = [
        (2, Mend::Linear(LinearMap::new(map.clone(), size).unwrap())),
        (5, Mend::Scale(1.7)),
    ];
    let mends = mends.map(|(layer, mend)| (layer, Arc::new(mend)));
    let map = Tensor::from_vec(map, (size, size), &Device::Cpu).unwrap();
    let map = map.t().unwrap().contiguous().unwrap();
    let smaller = |weight: &Tensor| (weight / 1.7).unwrap();
    let oracle = Oracle::new()
        .change(2, "mlp.down_proj", |weight| map.matmul(weight).unwrap())
        .change(7, "self_attn.o_proj", smaller)
        .change(7, "mlp.down_proj", smaller)
        .keep(&keep);
    let mends = mends.into_iter().collect();
    (Mended { keep, mends }, oracle)
}

#[test]
fn mends_compute_what_candle_transformers_computes_with_the_weights_that_hold_them() {
    let (model, tokenizer) = fixture();
    assert_eq!(model.n_layers(), 8);
    let prompts = prompts(&tokenizer);
    let (mended, oracle) = mended(&model);
    for (prompt, theirs) in prompts.iter().zip(oracle.logits(&prompts)) {
        assert_close(&next(&model, &mended, prompt), &theirs);
    }
}

#[test]
fn candidates_of_all_kinds_together_give_what_each_gives_alone() {
    let (model, tokenizer) = fixture();
    let suite = suite();
    let questions = asked(&suite, &tokenizer);
    let (mended, _) = mended(&model);
    let whole = |keep: KeepSet| Mended {
        keep,
        mends: BTreeMap::new(),
    };
    let all = KeepSet::all(model.n_layers());
    let mut masks = vec![
        whole(all.with_half(2, Half::Attention)),
        whole(all.with_half(2, Half::Mlp)),
        whole(all),
        whole(mended.keep.clone()),
    ];
    for without in [2, 5] {
        let mut less = mended.clone();
        less.mends.remove(&without);
        masks.push(less);
    }
    masks.push(mended);
    let written: Vec<&Question> = questions
        .iter()
        .filter(|question| question.protocol() == Protocol::Generate)
        .collect();
    let together = generate(&model, &masks, &written, &tokenizer, &Silent).unwrap();
    for (mask, replies) in masks.iter().zip(&together) {
        let mask = std::slice::from_ref(mask);
        let alone = generate(&model, mask, &written, &tokenizer, &Silent).unwrap();
        assert_eq!(&alone[0], replies);
    }
    assert!((1..masks.len()).all(|i| together[i] != together[0]));
}

#[test]
fn texts_of_many_masks_that_decode_together_are_those_that_each_decodes_alone() {
    let (model, tokenizer) = fixture();
    let suite = suite();
    let questions = asked(&suite, &tokenizer);
    let written: Vec<&Question> = questions
        .iter()
        .filter(|question| question.protocol() == Protocol::Generate)
        .collect();
    assert!(written.len() >= 6);
    let masks = masks(model.n_layers());
    let together = generate(&model, &masks, &written, &tokenizer, &Silent).unwrap();
    let likelihoods = Engine::new(&model)
        .likelihoods(&written, &masks, &Silent)
        .unwrap();
    for ((keep, replies), likelihoods) in masks.iter().zip(&together).zip(&likelihoods) {
        for ((question, reply), likelihoods) in written.iter().zip(replies).zip(likelihoods) {
            assert_eq!(&reply.likelihoods, likelihoods, "{}", question.item.id);
            let mut text = question.prompt.clone();
            for token in &reply.generated.tokens {
                let logits = model.forward(&text, keep.layers()).unwrap();
                let last: Vec<f32> = logits.get(text.len() - 1).unwrap().to_vec1().unwrap();
                let best = last.iter().copied().fold(f32::MIN, f32::max);
                assert_eq!(last[*token as usize], best, "{}", question.item.id);
                text.push(*token);
            }
        }
    }
}

/// candle-transformers' LogitsProcessor draws, with a seed of its own for every text.
#[test]
fn drawn_texts_are_the_same_alone_and_together_and_are_not_the_likeliest() {
    let (model, tokenizer) = fixture();
    let mut suite = suite();
    for task in &mut suite.tasks {
        for ask in task.items.iter_mut().flat_map(|item| &mut item.asks) {
            if let Answer::Written(written) = &mut ask.answer {
                written.sampling = Some(Sampling {
                    temperature: 3.0,
                    top_k: None,
                    top_p: Some(0.95),
                });
            }
        }
    }
    let greedy = self::suite();
    let texts = |suite: &Suite, together: bool| {
        let questions = asked(suite, &tokenizer);
        let written = questions
            .iter()
            .filter(|question| !question.prompt.is_empty());
        let written: Vec<&Question> = written.collect();
        let masks = masks(model.n_layers());
        let write = |questions: &[&Question]| {
            let replies = generate(&model, &masks, questions, &tokenizer, &Silent).unwrap();
            replies.into_iter().next().unwrap()
        };
        let replies: Vec<Reply> = match together {
            true => write(&written),
            false => written
                .iter()
                .flat_map(|question| write(&[question]))
                .collect(),
        };
        let texts = replies.into_iter().map(|reply| reply.generated.tokens);
        texts.collect::<Vec<_>>()
    };
    let drawn = texts(&suite, true);
    assert_eq!(drawn, texts(&suite, false));
    assert_ne!(drawn, texts(&greedy, true));
}

#[test]
fn ablating_every_layer_costs_half_of_what_each_alone_would() {
    for n in [8, 30] {
        let all = KeepSet::all(n);
        let masks: Vec<KeepSet> = (0..n).map(|layer| all.drop_layers(&[layer])).collect();
        // One shared path that loses a mask at every layer, and each ablation's own rest.
        assert_eq!(layer_passes(&masks, n), (n - 1) + n * (n - 1) / 2);
    }
}
