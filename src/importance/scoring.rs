//! Measuring: every layer removed in turn, all in one pass of the mask engine for each portion.

use super::{Influence, Record, Sample, Samples, Shard, Sparsity, sparsity};
use crate::arch::KeepSet;
use crate::eval::{Engine, Likelihood, Progress, Question, Rows, Silent};
use crate::model::Model;
use anyhow::Result;
use candle_core::{DType, Tensor};
use std::ops::Range;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

/// Tokens of a portion, at least, but for the last: what a kill costs, and what machines share the
/// work by. Fewer than the engine packs together, so a portion of questions that share nothing is
/// one pack. A model that is read layer by layer takes as many portions at once as have room.
const PORTION_TOKENS: u64 = 256;

/// A portion ends where a new one would repeat at most this share of it: one in so many tokens.
const REPEATED: u64 = 16;

/// The questions that score a model's layers, in portions that do not depend on who measures them.
pub struct Scoring<'a> {
    /// One a device.
    engines: Vec<Engine<'a>>,
    questions: &'a [Question<'a>],
    /// The whole model, then without each layer.
    masks: Vec<KeepSet>,
    portions: Vec<Portion>,
}

/// Questions that are measured together.
struct Portion {
    questions: Range<usize>,
    tokens: u64,
}

impl<'a> Scoring<'a> {
    /// Of a loaded model, on these questions; `others` are the same model on further devices.
    pub fn new(model: &'a Model, others: &'a [Model], questions: &'a [Question<'a>]) -> Self {
        let all = KeepSet::all(model.n_layers());
        let ablations = (0..model.n_layers()).map(|layer| all.drop_layers(&[layer]));
        let masks: Vec<KeepSet> = std::iter::once(all.clone()).chain(ablations).collect();
        let engine = Engine::new(model);
        // Layer passes of the whole model.
        let depth = model.n_layers().max(1) as u64;
        let tokens = |range| engine.work(&questions[range], &masks[..1]) / depth;
        let portions = portions(questions.len(), tokens);
        let others = others.iter().map(Engine::new);
        Self {
            engines: std::iter::once(engine).chain(others).collect(),
            questions,
            masks,
            portions,
        }
    }

    /// The model's layers.
    pub fn n_layers(&self) -> usize {
        self.masks.len() - 1
    }

    /// All questions, in order.
    pub fn questions(&self) -> &'a [Question<'a>] {
        self.questions
    }

    /// The tokens of every portion.
    pub fn tokens(&self) -> Vec<u64> {
        self.portions.iter().map(|portion| portion.tokens).collect()
    }

    /// Measures those portions of a shard that `samples` does not know, and tells it of each.
    ///
    /// # Errors
    /// What the engine and the samples' file report.
    pub fn measure(
        &self,
        shard: Shard,
        samples: &mut Samples,
        progress: &dyn Progress,
    ) -> Result<()> {
        let share = shard.share(&self.tokens());
        let (known, new): (Vec<usize>, Vec<usize>) =
            share.into_iter().partition(|&portion| samples.has(portion));
        let work = |portions: &[usize]| portions.iter().map(|&p| self.work(p)).sum::<u64>();
        progress.begin("scoring every layer", work(&known) + work(&new));
        progress.resume(work(&known));
        let queue = Mutex::new(new.as_slice());
        if let [engine] = self.engines.as_slice() {
            while let Some(portions) = self.take(engine, &queue) {
                for record in self.records(engine, portions, progress)? {
                    samples.add(record)?;
                }
            }
            return Ok(());
        }
        std::thread::scope(|scope| {
            let (send, receive) = channel();
            for engine in &self.engines {
                let (send, queue) = (send.clone(), &queue);
                scope.spawn(move || {
                    while let Some(portions) = self.take(engine, queue) {
                        let records = self.records(engine, portions, &Silent);
                        let failed = records.is_err();
                        // Nobody listens any more after another device's error.
                        if send.send(records).is_err() || failed {
                            break;
                        }
                    }
                });
            }
            drop(send);
            for records in receive {
                for record in records? {
                    progress.advance(self.work(record.portion));
                    samples.add(record)?;
                }
            }
            Ok(())
        })
    }

    /// The next portions for an engine: as many as it best measures at once.
    fn take<'q>(&self, engine: &Engine, queue: &Mutex<&'q [usize]>) -> Option<&'q [usize]> {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let asked: Vec<_> = queue.iter().map(|&portion| self.asked(portion)).collect();
        let n = engine.at_once(&asked, &self.masks).min(asked.len());
        let (portions, rest) = queue.split_at(n);
        *queue = rest;
        (n > 0).then_some(portions)
    }

    fn asked(&self, portion: usize) -> &'a [Question<'a>] {
        &self.questions[self.portions[portion].questions.clone()]
    }

    fn work(&self, portion: usize) -> u64 {
        let questions = self.asked(portion);
        self.engines
            .first()
            .map_or(0, |engine| engine.work(questions, &self.masks))
    }

    /// What one pass through the layers tells of some portions.
    fn records(
        &self,
        engine: &Engine,
        portions: &[usize],
        progress: &dyn Progress,
    ) -> Result<Vec<Record>> {
        let asked: Vec<_> = portions.iter().map(|&p| self.asked(p)).collect();
        let mut states = States::of(&asked, self.n_layers());
        let look = |layer: usize, before: &Tensor, after: &Tensor, rows: Rows| {
            states.look(layer, before, after, rows.ends)
        };
        let likelihoods = engine.observe(&asked, &self.masks, progress, look)?;
        let mut sparsities = states.sparsity.into_iter().enumerate();
        let mut records = Vec::new();
        for ((&portion, influence), asked) in portions.iter().zip(states.influence).zip(asked) {
            let sample = |(question, (at, sparsity)): (&Question, (usize, _))| {
                let answers = likelihoods.iter().filter_map(|answers| answers.get(at));
                let answers: Vec<&[Likelihood]> = answers.map(Vec::as_slice).collect();
                Sample::new(question, &answers, sparsity)
            };
            // The questions come first: they end, and take no more than theirs of the others.
            let samples = asked.iter().zip(sparsities.by_ref()).map(sample);
            records.push(Record {
                portion,
                influence,
                samples: samples.collect(),
            });
        }
        Ok(records)
    }
}

/// What the states of the whole model show on some portions.
struct States {
    /// By portion and layer.
    influence: Vec<Vec<Influence>>,
    /// By question, those of all portions one after the other, and layer.
    sparsity: Vec<Vec<Option<Sparsity>>>,
    /// The portion of each question.
    owners: Vec<usize>,
}

impl States {
    fn of(asked: &[&[Question]], n_layers: usize) -> Self {
        let each = asked.iter().enumerate();
        let owners: Vec<usize> = each.flat_map(|(at, of)| vec![at; of.len()]).collect();
        Self {
            influence: vec![vec![Influence::NONE; n_layers]; asked.len()],
            sparsity: vec![vec![None; n_layers]; owners.len()],
            owners,
        }
    }

    /// Takes in the states around a layer, of one portion's questions.
    fn look(
        &mut self,
        layer: usize,
        before: &Tensor,
        after: &Tensor,
        ends: &[(usize, usize)],
    ) -> Result<()> {
        let (before, after) = (before.to_dtype(DType::F32)?, after.to_dtype(DType::F32)?);
        if let Some(&(question, _)) = ends.first() {
            let influence = &mut self.influence[self.owners[question]][layer];
            *influence = influence.plus(Influence::of(&before, &after)?);
        }
        for &(question, row) in ends {
            self.sparsity[question][layer] = sparsity(&after.get(row)?.to_vec1()?);
        }
        Ok(())
    }
}

/// Cuts questions into portions where the engine would begin afresh anyway, or nearly so: those
/// that share a prompt stay together. `tokens` says how many a range of them has, shared ones once.
fn portions(n_questions: usize, tokens: impl Fn(Range<usize>) -> u64) -> Vec<Portion> {
    let mut portions = Vec::new();
    let (mut start, mut own) = (0, 0);
    for next in 0..n_questions {
        let alone = tokens(next..next + 1);
        let longer = tokens(start..next + 1);
        let repeated = (own + alone).saturating_sub(longer);
        if own >= PORTION_TOKENS && repeated * REPEATED <= own {
            portions.push(Portion {
                questions: start..next,
                tokens: own,
            });
            (start, own) = (next, alone);
        } else {
            own = longer;
        }
    }
    if start < n_questions {
        portions.push(Portion {
            questions: start..n_questions,
            tokens: own,
        });
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::convert::vocabulary::runnable;
    use crate::eval::{Asking, Silent, questions};
    use crate::suite::{Protocol, Split, Suite, harness};
    use candle_core::Device;
    use std::cell::Cell;
    use std::path::Path;

    fn cut(lengths: &[u64], shots: u64) -> Vec<Range<usize>> {
        let tokens = |range: Range<usize>| shots + lengths[range].iter().sum::<u64>();
        let portions = portions(lengths.len(), tokens);
        portions.into_iter().map(|p| p.questions).collect()
    }

    #[test]
    fn questions_that_share_nothing_are_cut_where_a_portion_is_full() {
        let half = PORTION_TOKENS / 2;
        let lengths = [half + 1, half, 1, PORTION_TOKENS, 3];
        assert_eq!(cut(&lengths, 0), [0..2, 2..4, 4..5]);
        assert!(cut(&[], 0).is_empty());
        assert_eq!(cut(&[1], 0).len(), 1);
    }

    /// A new portion repeats the examples: 16 times as much must be new.
    #[test]
    fn the_longer_the_shared_examples_the_longer_the_portion() {
        let examples = PORTION_TOKENS / 4;
        // The examples once and 15 times as much again.
        let n = (examples * 15 / 60) as usize;
        assert_eq!(cut(&vec![60; 2 * n], examples), [0..n, n..2 * n]);
    }

    #[derive(Default)]
    struct Seen {
        total: Cell<u64>,
        resumed: Cell<u64>,
        advanced: Cell<u64>,
    }

    impl Progress for Seen {
        fn begin(&self, _: &str, total: u64) {
            self.total.set(total);
        }
        fn advance(&self, units: u64) {
            self.advanced.set(self.advanced.get() + units);
        }
        fn resume(&self, units: u64) {
            assert_eq!(self.advanced.get(), 0, "the bar starts where it was");
            self.resumed.set(self.resumed.get() + units);
        }
    }

    #[test]
    fn what_is_known_is_not_measured_again_and_the_bar_starts_there() {
        let village = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/village");
        let checkpoint = Checkpoint::open(&village).unwrap();
        let model = Model::load(&checkpoint, &Device::Cpu, |_, _| {}).unwrap();
        let tokenizer = runnable(&checkpoint).unwrap();
        let suite = Suite::open(village.join("suite"), &harness::Options::default()).unwrap();
        let asking = Asking {
            tokenizer: &tokenizer,
            context_length: 512,
            chat: None,
        };
        let items = suite.sample(Split::Calibrate, 6);
        let asked = questions(&items, Protocol::ALL, &asking).unwrap();
        let scoring = Scoring::new(&model, &[], &asked);
        let mut samples = Samples::default();
        let half = Shard::new(1, 2).unwrap();
        scoring.measure(half, &mut samples, &Silent).unwrap();
        let known = samples.known_count();
        assert!(0 < known && known < scoring.tokens().len());
        let seen = Seen::default();
        scoring.measure(Shard::WHOLE, &mut samples, &seen).unwrap();
        assert!(seen.resumed.get() > 0 && seen.advanced.get() > 0);
        assert_eq!(seen.total.get(), seen.resumed.get() + seen.advanced.get());
        assert_eq!(samples.known_count(), scoring.tokens().len());
        let again = Seen::default();
        scoring.measure(Shard::WHOLE, &mut samples, &again).unwrap();
        assert_eq!(again.resumed.get(), seen.total.get());
        assert_eq!(again.advanced.get(), 0);
    }
}
