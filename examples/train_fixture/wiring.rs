//! A head start: attention heads that already look back when training begins.
//!
//! From random weights, heads that find "what came after this word last time" appear only after
//! many millions of tokens (Olsson et al., 2022), which is hours here. So some heads begin with
//! something to do, as the table below says. Training may keep, change or ignore it.
//!
//! The residual stream begins divided: one constant, the word itself, and codes of the two words
//! before. A code is one random projection of the word, the same everywhere.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result};

use crate::network::Config;
use crate::rng::Rng;

const CONSTANT: usize = 0;
const WORD: Range<usize> = 1..64;
const CONSTANT_VALUE: f64 = 0.4;
const WORD_SCALE: f64 = 0.1;

/// A part of the residual stream.
#[derive(Clone, Copy)]
enum Slot {
    /// The word, which a code projects; writing a code back gives the word's direction.
    Word,
    /// A code as it is, from this dimension on.
    Code(usize),
}

const ONE_BACK: Slot = Slot::Code(96);
const TWO_BACK: Slot = Slot::Code(64);

/// Where a head looks.
#[derive(Clone, Copy)]
enum Look {
    /// So many tokens back.
    Back(usize),
    /// Where this slot holds the code of the present word.
    Match(Slot),
}

/// A head that begins with something to do: where it looks, what it reads there, where it writes.
struct Wired {
    layer: usize,
    head: usize,
    look: Look,
    read: Slot,
    write: Slot,
}

/// From the end of a question's stem to the colon of "Answer:": " what?", a line break, four lines
/// of a letter, a point, a word and a line break, "Answer" and the colon.
const STEM_TO_ANSWER: usize = 21;

const WIRED: [Wired; 7] = [
    wired(0, 0, Look::Back(1), Slot::Word, ONE_BACK),
    wired(0, 1, Look::Back(2), Slot::Word, TWO_BACK),
    // What came after this word before?
    wired(1, 0, Look::Match(ONE_BACK), Slot::Word, Slot::Word),
    wired(3, 0, Look::Match(ONE_BACK), Slot::Word, Slot::Word),
    wired(4, 2, Look::Back(STEM_TO_ANSWER), Slot::Word, Slot::Word),
    // Which letter stands two tokens before this word?
    wired(5, 2, Look::Match(Slot::Word), TWO_BACK, Slot::Word),
    wired(6, 2, Look::Match(Slot::Word), TWO_BACK, Slot::Word),
];

const fn wired(layer: usize, head: usize, look: Look, read: Slot, write: Slot) -> Wired {
    Wired {
        layer,
        head,
        look,
        read,
        write,
    }
}

/// How sharply a head looks at a distance: the scale of its constant query and key.
const DISTANCE_GAIN: f64 = 1.6;
/// How sharply a head compares codes.
const MATCH_GAIN: f64 = 1.7;
/// How loudly a copied word stands beside the word itself.
const WORD_GAIN: f64 = 1.0;
/// How loudly a code stands beside the word.
const CODE_GAIN: f64 = 0.1;

/// Divides the freshly drawn embedding and wires the heads of the table.
pub fn wire(config: &Config, values: &mut BTreeMap<String, Vec<f32>>, rng: &mut Rng) -> Result<()> {
    let embedding = values
        .get_mut("model.embed_tokens.weight")
        .context("no embedding")?;
    for row in embedding.chunks_mut(config.hidden_size) {
        for (dim, value) in row.iter_mut().enumerate() {
            let scale = if WORD.contains(&dim) {
                WORD_SCALE
            } else {
                0.1 * WORD_SCALE
            };
            *value = if dim == CONSTANT {
                CONSTANT_VALUE
            } else {
                scale * rng.normal()
            } as f32;
        }
    }
    // The first norm makes word entries about 1.27; this makes code entries about 1.
    let spread = 1.0 / (1.27 * (WORD.len() as f64).sqrt());
    let code = (0..config.head_dim())
        .map(|_| WORD.map(|_| spread * rng.normal()).collect())
        .collect();
    let mut wiring = Wiring {
        config,
        values,
        code,
    };
    WIRED.iter().try_for_each(|head| wiring.head(head))
}

struct Wiring<'a> {
    config: &'a Config,
    values: &'a mut BTreeMap<String, Vec<f32>>,
    /// [head_dim][word dimensions]
    code: Vec<Vec<f64>>,
}

impl Wiring<'_> {
    fn head(&mut self, wired: &Wired) -> Result<()> {
        let &Wired {
            layer,
            head,
            look,
            read,
            write,
        } = wired;
        let head_dim = self.config.head_dim();
        let kv_head = head * self.config.num_key_value_heads / self.config.num_attention_heads;
        let (query, key) = match look {
            Look::Back(distance) => self.at_distance(distance),
            Look::Match(slot) => (self.compares(Slot::Word), self.compares(slot)),
        };
        self.project(layer, "q_proj", head, &query)?;
        self.project(layer, "k_proj", kv_head, &key)?;
        let value: Vec<_> = (0..head_dim)
            .map(|row| self.reads(read, row, 1.0))
            .collect();
        self.project(layer, "v_proj", kv_head, &value)?;
        let gain = match write {
            Slot::Word => WORD_GAIN,
            Slot::Code(_) => CODE_GAIN,
        };
        for column in 0..head_dim {
            let written = self.reads(write, column, gain);
            for dim in 0..self.config.hidden_size {
                let value = written
                    .iter()
                    .find(|(at, _)| *at == dim)
                    .map_or(0.0, |(_, value)| *value);
                self.set(layer, "o_proj", dim, head * head_dim + column, value)?;
            }
        }
        Ok(())
    }

    /// One row of a projection that takes the code out of a slot: (dimension, weight) pairs.
    fn reads(&self, slot: Slot, row: usize, gain: f64) -> Vec<(usize, f64)> {
        match slot {
            Slot::Word => WORD
                .zip(self.code[row].iter().map(|value| gain * value))
                .collect(),
            Slot::Code(start) => vec![(start + row, gain)],
        }
    }

    /// Rows of a constant query and key. Rotary embedding makes of them a score that is a sum of
    /// cos((distance − wanted) θ), highest at the distance that is wanted.
    fn at_distance(&self, wanted: usize) -> (Rows, Rows) {
        let head_dim = self.config.head_dim();
        let half = head_dim / 2;
        let (mut query, mut key) = (vec![vec![]; head_dim], vec![vec![]; head_dim]);
        // Slower pairs hardly tell near distances apart.
        for pair in 0..half / 2 - 2 {
            let theta = self.config.rope_theta.powf(-(pair as f64) / half as f64);
            let (sin, cos) = (-(wanted as f64) * theta).sin_cos();
            key[pair] = vec![(CONSTANT, DISTANCE_GAIN)];
            query[pair] = vec![(CONSTANT, DISTANCE_GAIN * cos)];
            query[half + pair] = vec![(CONSTANT, DISTANCE_GAIN * sin)];
        }
        (query, key)
    }

    /// Rows that take a code for comparison, in the coordinates that rotary embedding turns so
    /// slowly that the comparison survives some dozens of tokens.
    fn compares(&self, slot: Slot) -> Rows {
        let half = self.config.head_dim() / 2;
        let row = |row: usize| match row % half >= half / 2 - 1 {
            true => self.reads(slot, row, MATCH_GAIN),
            false => vec![],
        };
        (0..2 * half).map(row).collect()
    }

    /// Replaces the rows of one head of a projection.
    fn project(&mut self, layer: usize, part: &str, head: usize, rows: &Rows) -> Result<()> {
        for (row, entries) in rows.iter().enumerate() {
            let row = head * rows.len() + row;
            for dim in 0..self.config.hidden_size {
                self.set(layer, part, row, dim, 0.0)?;
            }
            for (dim, value) in entries {
                self.set(layer, part, row, *dim, *value)?;
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        layer: usize,
        part: &str,
        row: usize,
        column: usize,
        value: f64,
    ) -> Result<()> {
        let name = format!("model.layers.{layer}.self_attn.{part}.weight");
        let weight = self
            .values
            .get_mut(&name)
            .with_context(|| format!("no weight {name}"))?;
        let entry = weight.get_mut(row * self.config.hidden_size + column);
        *entry.with_context(|| format!("{name} is too small"))? = value as f32;
        Ok(())
    }
}

/// A projection's rows, each as (dimension, weight) pairs; the rest is zero.
type Rows = Vec<Vec<(usize, f64)>>;
