//! Training: endless fresh documents, AdamW, a cosine schedule with warm-up.

use std::time::Instant;

use anyhow::{Result, anyhow};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

use crate::network::Network;
use crate::rng::Rng;
use crate::text::{Document, Forms, Suite};
use crate::tokenizer::{END_OF_TEXT_ID, Tokenizer};
use crate::world::World;

/// Tokens a row. A prompt of the suite fits with room to spare.
const ROW: usize = 80;
/// Rows of a step, shared out between the workers.
const ROWS: usize = 8;
const WORKERS: usize = 2;
const PEAK_LEARNING_RATE: f64 = 2e-3;
const WARM_UP: usize = 100;
const MAX_GRAD_NORM: f64 = 1.0;
/// The rest of the text is mostly chance (who has which box), so answers count for more, and only
/// a share of the other tokens is predicted at all.
const OTHER_TOKEN_WEIGHT: f32 = 0.2;
const OTHER_TOKEN_SHARE: f64 = 0.25;
/// Letters are learned last, because the answer must be known first.
const FIRST_FORMS: Forms = Forms {
    stem: 0.45,
    letter: 0.2,
    drill: 0.3,
    copy: 0.05,
};
const LAST_FORMS: Forms = Forms {
    stem: 0.4,
    letter: 0.5,
    drill: 0.07,
    copy: 0.03,
};
/// The learning rate and the forms follow a course of this many steps, of which a training may
/// take the first part.
const COURSE: usize = 2500;
const REPORT_EVERY: usize = 50;

pub struct Teacher<'a> {
    pub world: &'a World,
    pub suite: &'a Suite,
    pub tokenizer: &'a Tokenizer,
}

/// One worker's share of a step: `ids` [rows, ROW], and what is predicted after which of them.
struct Batch {
    ids: Tensor,
    positions: Tensor,
    targets: Tensor,
    weights: Tensor,
}

impl Teacher<'_> {
    /// Whole documents end to end, the last one cut, so that a row begins with a prompt's start.
    fn row(&self, forms: &Forms, rng: &mut Rng) -> Result<Vec<(u32, bool)>> {
        let mut row = Vec::new();
        while row.len() <= ROW {
            let document = Document::draw(self.world, self.suite, forms, rng);
            row.extend(self.tokenizer.encode_document(&document)?);
            row.push((END_OF_TEXT_ID, false));
        }
        row.truncate(ROW + 1);
        Ok(row)
    }

    /// Weights sum to one over the workers, so that their losses and gradients add up.
    fn batch(&self, forms: &Forms, rng: &mut Rng) -> Result<Batch> {
        let (mut ids, mut positions, mut targets, mut weights) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROWS / WORKERS {
            let row = self.row(forms, rng)?;
            for pair in row.windows(2) {
                let (target, is_answer) = pair[1];
                if is_answer || rng.unit() < OTHER_TOKEN_SHARE {
                    positions.push(ids.len() as u32);
                    targets.push(target);
                    weights.push(if is_answer { 1.0 } else { OTHER_TOKEN_WEIGHT });
                }
                ids.push(pair[0].0);
            }
        }
        let total = weights.iter().sum::<f32>() * WORKERS as f32;
        weights.iter_mut().for_each(|weight| *weight /= total);
        Ok(Batch {
            ids: Tensor::from_vec(ids, (ROWS / WORKERS, ROW), &Device::Cpu)?,
            positions: Tensor::new(positions, &Device::Cpu)?,
            targets: Tensor::new(targets, &Device::Cpu)?,
            weights: Tensor::new(weights, &Device::Cpu)?,
        })
    }

    /// Trains for `steps`, calling `examine` now and then.
    pub fn train(
        &self,
        network: &Network,
        steps: usize,
        rng: &mut Rng,
        mut examine: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let vars: Vec<_> = network.weights.values().cloned().collect();
        let settings = ParamsAdamW {
            beta2: 0.98,
            weight_decay: 0.05,
            ..ParamsAdamW::default()
        };
        let mut optimizer = AdamW::new(vars, settings)?;
        let start = Instant::now();
        let mut recent_loss = 0.0;
        for step in 1..=steps {
            let forms = forms(step);
            let batches = (0..WORKERS)
                .map(|_| self.batch(&forms, rng))
                .collect::<Result<Vec<_>>>()?;
            let (loss, mut gradients) = gradients(network, &batches)?;
            clip(network, &mut gradients)?;
            optimizer.set_learning_rate(learning_rate(step));
            optimizer.step(&gradients)?;
            recent_loss += loss / REPORT_EVERY as f32;
            if step % REPORT_EVERY == 0 || step == steps {
                let seconds = start.elapsed().as_secs_f64();
                let speed = (step * ROWS * ROW) as f64 / seconds;
                let left = seconds / step as f64 * (steps - step) as f64;
                eprintln!(
                    "step {step:5}/{steps}  loss {recent_loss:.3}  {speed:.0} tokens/s  {left:.0} s left"
                );
                recent_loss = 0.0;
                examine(step)?;
            }
        }
        Ok(())
    }
}

fn learning_rate(step: usize) -> f64 {
    let warm_up = (step as f64 / WARM_UP as f64).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / COURSE as f64).cos());
    PEAK_LEARNING_RATE * warm_up * (0.02 + 0.98 * cosine)
}

/// From the first forms to the last, over the first half of the course.
fn forms(step: usize) -> Forms {
    let done = (2.0 * step as f64 / COURSE as f64).min(1.0);
    let between = |first: f64, last: f64| first + (last - first) * done;
    Forms {
        stem: between(FIRST_FORMS.stem, LAST_FORMS.stem),
        letter: between(FIRST_FORMS.letter, LAST_FORMS.letter),
        drill: between(FIRST_FORMS.drill, LAST_FORMS.drill),
        copy: between(FIRST_FORMS.copy, LAST_FORMS.copy),
    }
}

/// Loss and gradients of a step: one thread a batch, summed in a fixed order.
fn gradients(network: &Network, batches: &[Batch]) -> Result<(f32, GradStore)> {
    let work = |batch: &Batch| -> Result<(f32, GradStore)> {
        let loss = network.loss(&batch.ids, &batch.positions, &batch.targets, &batch.weights)?;
        Ok((loss.to_scalar()?, loss.backward()?))
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = batches
            .iter()
            .map(|batch| scope.spawn(|| work(batch)))
            .collect();
        workers.into_iter().map(|worker| worker.join()).collect()
    });
    let mut total: Option<(f32, GradStore)> = None;
    for part in parts {
        let (loss, gradients) = part.map_err(|_| anyhow!("a training thread panicked"))??;
        total = Some(match total.take() {
            None => (loss, gradients),
            Some((sum, mut summed)) => {
                for var in network.weights.values() {
                    if let (Some(a), Some(b)) = (summed.get(var), gradients.get(var)) {
                        let both = (a + b)?;
                        summed.insert(var, both);
                    }
                }
                (sum + loss, summed)
            }
        });
    }
    total.ok_or_else(|| anyhow!("a step needs at least one batch"))
}

/// Scales the gradients down to `MAX_GRAD_NORM`, if they are longer.
fn clip(network: &Network, gradients: &mut GradStore) -> Result<()> {
    let mut squares = 0.0;
    for var in network.weights.values() {
        if let Some(gradient) = gradients.get(var) {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
    }
    let norm = squares.sqrt();
    if norm > MAX_GRAD_NORM {
        for var in network.weights.values() {
            if let Some(gradient) = gradients.get(var) {
                let scaled = (gradient * (MAX_GRAD_NORM / norm))?;
                gradients.insert(var, scaled);
            }
        }
    }
    Ok(())
}
