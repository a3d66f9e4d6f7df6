//! The layers of a model: all in memory, or read from the file one after the other.

use super::block::Block;
use super::config::Config;
use super::cpu::Cpu;
use super::graph::Graph;
use super::weights::Weights;
use anyhow::{Context, Result, anyhow, bail};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A block that is ready to compute.
pub(super) enum Layer {
    Cpu(Box<Block<Cpu>>),
    Graph(Box<Block<Graph>>),
}

/// What gives a model its layers.
pub(super) struct Layers {
    source: Source,
    held: Held,
}

#[derive(Clone)]
struct Source {
    weights: Arc<Weights>,
    config: Arc<Config>,
}

enum Held {
    All(Vec<Arc<Layer>>),
    Streamed(Mutex<Stream>),
}

/// One layer in use, and the next one, which is read meanwhile.
#[derive(Default)]
struct Stream {
    current: Option<(usize, Arc<Layer>)>,
    ahead: Option<(usize, JoinHandle<Result<Layer>>)>,
}

impl Source {
    fn load(&self, index: usize) -> Result<Layer> {
        let (weights, config) = (&self.weights, &self.config);
        Ok(match weights.by_kernels() {
            true => Layer::Cpu(Box::new(Block::load(weights, config, index)?)),
            false => Layer::Graph(Box::new(Block::load(weights, config, index)?)),
        })
    }
}

impl Layers {
    /// Reads all layers; `progress` is told each one that is ready.
    ///
    /// # Errors
    /// A tensor that is missing or cannot be read.
    pub(super) fn all(
        weights: Arc<Weights>,
        config: Arc<Config>,
        progress: impl Fn(usize, usize),
    ) -> Result<Self> {
        let n_layers = config.n_layers;
        let source = Source { weights, config };
        let load = |index: usize| {
            let layer = source.load(index)?;
            progress(index + 1, n_layers);
            Ok(Arc::new(layer))
        };
        let layers = (0..n_layers).map(load).collect::<Result<_>>()?;
        Ok(Self {
            source,
            held: Held::All(layers),
        })
    }

    /// Reads a layer when it is asked for.
    pub(super) fn streamed(weights: Arc<Weights>, config: Arc<Config>) -> Self {
        Self {
            source: Source { weights, config },
            held: Held::Streamed(Mutex::default()),
        }
    }

    /// Takes the layers from `first` on away.
    ///
    /// # Errors
    /// They are not in memory, or not in candle's graph, or in use.
    pub(super) fn split_off(&mut self, first: usize) -> Result<Vec<Block<Graph>>> {
        let Held::All(layers) = &mut self.held else {
            bail!("the layers are not in memory");
        };
        let taken = layers.split_off(first.min(layers.len())).into_iter();
        let block = |layer: Arc<Layer>| match Arc::into_inner(layer) {
            Some(Layer::Graph(block)) => Ok(*block),
            _ => bail!("the layers are not in candle's graph"),
        };
        taken.map(block).collect()
    }

    /// # Errors
    /// A layer that does not exist, or cannot be read.
    pub(super) fn get(&self, index: usize) -> Result<Arc<Layer>> {
        let none = || format!("no layer {index}");
        match &self.held {
            Held::All(layers) => Ok(layers.get(index).with_context(none)?.clone()),
            Held::Streamed(stream) => {
                // A stream that another thread left in the middle of a change is only read again.
                let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                stream.get(&self.source, index)
            }
        }
    }
}

impl Stream {
    fn get(&mut self, source: &Source, index: usize) -> Result<Arc<Layer>> {
        if let Some((_, layer)) = self.current.as_ref().filter(|(at, _)| *at == index) {
            return Ok(layer.clone());
        }
        // Never three at once.
        self.current = None;
        let layer = match self.ahead.take() {
            Some((at, reading)) => {
                let read = reading.join();
                let read = read.map_err(|_| anyhow!("reading layer {at} was broken off"))?;
                match at == index {
                    true => read?,
                    false => source.load(index)?,
                }
            }
            None => source.load(index)?,
        };
        let layer = Arc::new(layer);
        self.current = Some((index, layer.clone()));
        let next = index + 1;
        if next < source.config.n_layers {
            let source = source.clone();
            self.ahead = Some((next, std::thread::spawn(move || source.load(next))));
        }
        Ok(layer)
    }
}
