//! What the original's hidden states say of its layers without removing any.

use crate::arch::KeepSet;
use crate::eval::{Candidate, Engine, Progress};
use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor};

/// Means over some texts. State l is the input of layer l; the last is what the last layer gives out,
/// before the final norm.
pub struct Signals {
    /// Mean magnitude of every channel, [n_layers + 1][hidden_size]. The first token of a text is left
    /// out: attention sinks make it many times larger than all others.
    pub magnitudes: Vec<Vec<f64>>,
    /// Mean angular distance arccos(cos)/π between states at the end of prompts,
    /// [n_layers + 1][n_layers + 1] (Gromov et al., arXiv 2403.17887, eq. 6).
    pub angles: Vec<Vec<f64>>,
    /// Mean cosine between states at all tokens but the first, [n_layers + 1][n_layers + 1].
    pub cosines: Vec<Vec<f64>>,
}

/// Sums over tokens.
struct Sums {
    n_layers: usize,
    magnitudes: Vec<Vec<f64>>,
    tokens: usize,
    angles: Vec<f64>,
    prompts: usize,
    cosines: Vec<f64>,
}

impl Signals {
    /// Of the original on some questions.
    ///
    /// # Errors
    /// What the engine reports; questions without tokens.
    pub fn of<Q: AsRef<[Candidate]>>(
        engine: &Engine,
        questions: &[Q],
        n_layers: usize,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let all = [KeepSet::all(n_layers)];
        progress.begin("reading the states", engine.work(questions, &all));
        let mut sums = Sums::new(n_layers);
        let mut pack: Vec<Tensor> = Vec::new();
        engine.observe(
            &[questions],
            &all,
            progress,
            |layer, before, after, rows| {
                let state = |x: &Tensor| x.to_dtype(DType::F32)?.to_device(&Device::Cpu);
                if layer == 0 {
                    pack = vec![state(before)?];
                }
                pack.push(state(after)?);
                if layer + 1 == n_layers {
                    sums.add(&pack, rows.ends, rows.firsts)?;
                }
                Ok(())
            },
        )?;
        sums.means()
    }
}

impl Sums {
    fn new(n_layers: usize) -> Self {
        let states = n_layers + 1;
        Self {
            n_layers,
            magnitudes: vec![Vec::new(); states],
            tokens: 0,
            angles: vec![0.0; states * states],
            prompts: 0,
            cosines: vec![0.0; states * states],
        }
    }

    /// Takes in the states of one pack, each [tokens, hidden_size].
    fn add(&mut self, states: &[Tensor], ends: &[(usize, usize)], firsts: &[usize]) -> Result<()> {
        let tokens = states.first().context("no states")?.dim(0)?;
        let rows = |rows: Vec<u32>| Tensor::new(rows, &Device::Cpu);
        let others = (0..tokens).filter(|row| !firsts.contains(row));
        let others: Vec<u32> = others.map(|row| row as u32).collect();
        let n = others.len();
        if n > 0 {
            let others = rows(others)?;
            for (sum, state) in self.magnitudes.iter_mut().zip(states) {
                let state = state.index_select(&others, 0)?;
                let mean: Vec<f32> = state.abs()?.sum(0)?.to_vec1()?;
                sum.resize(mean.len(), 0.0);
                sum.iter_mut()
                    .zip(mean)
                    .for_each(|(sum, x)| *sum += f64::from(x));
            }
            for cosines in cosines(states, &others)? {
                add(&mut self.cosines, &cosines, |cosine| cosine);
            }
            self.tokens += n;
        }
        let ends: Vec<u32> = ends.iter().map(|(_, row)| *row as u32).collect();
        if !ends.is_empty() {
            self.prompts += ends.len();
            for cosines in cosines(states, &rows(ends)?)? {
                let angle = |cosine: f64| cosine.clamp(-1.0, 1.0).acos() / std::f64::consts::PI;
                add(&mut self.angles, &cosines, angle);
            }
        }
        Ok(())
    }

    fn means(self) -> Result<Signals> {
        anyhow::ensure!(
            self.tokens > 0 && self.prompts > 0,
            "the questions have no tokens behind the first"
        );
        let states = self.n_layers + 1;
        let square = |sums: &[f64], n: usize| {
            let rows = sums.chunks_exact(states);
            rows.map(|row| row.iter().map(|sum| sum / n as f64).collect())
                .collect()
        };
        let magnitudes = self.magnitudes.iter().map(|sums| {
            let means = sums.iter().map(|sum| sum / self.tokens as f64);
            means.collect()
        });
        Ok(Signals {
            magnitudes: magnitudes.collect(),
            angles: square(&self.angles, self.prompts),
            cosines: square(&self.cosines, self.tokens),
        })
    }
}

fn add(sums: &mut [f64], values: &[f32], f: impl Fn(f64) -> f64) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += f(f64::from(value));
    }
}

/// The cosines between all states at some rows: of each row [states · states].
fn cosines(states: &[Tensor], rows: &Tensor) -> Result<Vec<Vec<f32>>> {
    let unit = |state: &Tensor| -> candle_core::Result<Tensor> {
        let state = state.index_select(rows, 0)?;
        let norm = state.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        state.broadcast_div(&norm)?.unsqueeze(1)
    };
    let units: Vec<Tensor> = states
        .iter()
        .map(unit)
        .collect::<candle_core::Result<_>>()?;
    let units = Tensor::cat(&units, 1)?;
    let cosines = units.matmul(&units.transpose(1, 2)?.contiguous()?)?;
    Ok(cosines.flatten_from(1)?.to_vec2()?)
}
