//! A head start: attention heads that already look back when training begins.
//!
//! From random weights, heads that find "what came after this word last time" appear only after
//! many millions of tokens (Olsson et al., 2022), which is hours here. So the first layer begins
//! with heads that fetch the word before and the word before that, and a few later ones with heads
//! that compare words. Training may keep, change or ignore them.
//!
//! The residual stream begins divided: one constant, the word itself, and a code for each of the
//! two words before.

use std::collections::BTreeMap;
use std::f64::consts::SQRT_2;
use std::ops::Range;

use anyhow::{Context, Result};

use crate::network::Config;
use crate::rng::Rng;

const CONSTANT: usize = 0;
const WORD: Range<usize> = 1..64;
/// Where the code of the word `n` places back begins, for n = 1 and 2.
const BACK: [usize; 2] = [96, 64];
const CONSTANT_VALUE: f32 = 0.4;
const WORD_SCALE: f64 = 0.1;
/// What the constant becomes once the first norm has scaled the embedding.
const NORMED_CONSTANT: f64 = 5.0;
/// How sharply the first layer's heads look at one distance, before the square roots.
const DISTANCE_GAIN: f64 = 6.4;
const MATCH_GAIN: f64 = 1.7;
const COPY_GAIN: f64 = 1.0;

/// Layers with a head that finds where the word stood before and copies the word after it.
const NEXT_WORD_LAYERS: [usize; 2] = [2, 4];
/// Layers with a head that finds where the word stood before and copies the word two before it,
/// as the letter stands before the option.
const LETTER_LAYERS: [usize; 2] = [3, 5];

/// A weight [rows, columns], by the rows or columns of its heads.
struct Weights<'a> {
    config: &'a Config,
    values: &'a mut BTreeMap<String, Vec<f32>>,
}

impl Weights<'_> {
    fn set(
        &mut self,
        layer: usize,
        part: &str,
        row: usize,
        column: usize,
        value: f64,
    ) -> Result<()> {
        let columns = self.config.hidden_size;
        let name = format!("model.layers.{layer}.self_attn.{part}.weight");
        let weight = self
            .values
            .get_mut(&name)
            .with_context(|| format!("no weight {name}"))?;
        *weight
            .get_mut(row * columns + column)
            .with_context(|| format!("{name} is too small"))? = value as f32;
        Ok(())
    }

    /// Empties one head's rows of a projection, or its columns of `o_proj`.
    fn clear(&mut self, layer: usize, part: &str, head: usize) -> Result<()> {
        let head_dim = self.config.head_dim();
        for inner in head * head_dim..(head + 1) * head_dim {
            for outer in 0..self.config.hidden_size {
                match part {
                    "o_proj" => self.set(layer, part, outer, inner, 0.0)?,
                    _ => self.set(layer, part, inner, outer, 0.0)?,
                }
            }
        }
        Ok(())
    }
}

/// Replaces the embedding's division and the wired heads in freshly drawn weights.
pub fn wire(config: &Config, values: &mut BTreeMap<String, Vec<f32>>, rng: &mut Rng) -> Result<()> {
    let embedding = values
        .get_mut("model.embed_tokens.weight")
        .context("no embedding")?;
    for row in embedding.chunks_mut(config.hidden_size) {
        row.iter_mut()
            .for_each(|value| *value = (0.1 * WORD_SCALE * rng.normal()) as f32);
        row[WORD]
            .iter_mut()
            .for_each(|value| *value = (WORD_SCALE * rng.normal()) as f32);
        row[CONSTANT] = CONSTANT_VALUE;
    }
    // A random code of the word, one row a coordinate of a head: words differ, lengths stay.
    let spread = 1.0 / (SQRT_2 * 0.9 * (WORD.len() as f64).sqrt());
    let code: Vec<Vec<f64>> = (0..config.head_dim())
        .map(|_| WORD.map(|_| spread * rng.normal()).collect())
        .collect();
    let mut weights = Weights { config, values };
    wire_distances(&mut weights, &code)?;
    for layer in NEXT_WORD_LAYERS {
        wire_next_word(&mut weights, layer, &code)?;
    }
    for layer in LETTER_LAYERS {
        wire_letter(&mut weights, layer, &code)?;
    }
    Ok(())
}

/// Heads 0 and 1 of the first layer: with a constant query and key, rotary embedding makes the
/// score a sum of cos((distance − n) θ), highest where the distance is n.
fn wire_distances(weights: &mut Weights, code: &[Vec<f64>]) -> Result<()> {
    let head_dim = weights.config.head_dim();
    let half = head_dim / 2;
    for part in ["k_proj", "v_proj"] {
        weights.clear(0, part, 0)?;
    }
    let gain = DISTANCE_GAIN / NORMED_CONSTANT;
    // Slow pairs hardly tell near distances apart.
    let pairs = 0..half / 2 - 2;
    for pair in pairs.clone() {
        weights.set(0, "k_proj", pair, CONSTANT, gain)?;
    }
    for (coordinate, row) in code.iter().enumerate() {
        for (dim, value) in WORD.zip(row) {
            weights.set(0, "v_proj", coordinate, dim, *value)?;
        }
    }
    for (head, start) in BACK.into_iter().enumerate() {
        weights.clear(0, "q_proj", head)?;
        weights.clear(0, "o_proj", head)?;
        for pair in pairs.clone() {
            let theta = weights.config.rope_theta.powf(-(pair as f64) / half as f64);
            let (sin, cos) = (-(head as f64 + 1.0) * theta).sin_cos();
            weights.set(0, "q_proj", head * head_dim + pair, CONSTANT, gain * cos)?;
            weights.set(
                0,
                "q_proj",
                head * head_dim + half + pair,
                CONSTANT,
                gain * sin,
            )?;
        }
        for coordinate in 0..head_dim {
            weights.set(
                0,
                "o_proj",
                start + coordinate,
                head * head_dim + coordinate,
                WORD_SCALE,
            )?;
        }
    }
    Ok(())
}

/// Coordinates of a head that rotary embedding turns so slowly that a comparison survives some
/// dozens of places.
fn slow_coordinates(head_dim: usize) -> impl Iterator<Item = usize> {
    let half = head_dim / 2;
    (0..head_dim).filter(move |coordinate| coordinate % half >= half / 2 - 1)
}

/// Head 0: this word's code against the code of the word before, copying the word.
fn wire_next_word(weights: &mut Weights, layer: usize, code: &[Vec<f64>]) -> Result<()> {
    for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        weights.clear(layer, part, 0)?;
    }
    for coordinate in slow_coordinates(code.len()) {
        for (dim, value) in WORD.zip(&code[coordinate]) {
            weights.set(layer, "q_proj", coordinate, dim, MATCH_GAIN * value)?;
        }
        weights.set(
            layer,
            "k_proj",
            coordinate,
            BACK[0] + coordinate,
            MATCH_GAIN,
        )?;
    }
    for (coordinate, row) in code.iter().enumerate() {
        for (dim, value) in WORD.zip(row) {
            weights.set(layer, "v_proj", coordinate, dim, *value)?;
            weights.set(layer, "o_proj", dim, coordinate, COPY_GAIN * value)?;
        }
    }
    Ok(())
}

/// The first head of the last key group: this word's code against each word's own, copying the
/// word two before.
fn wire_letter(weights: &mut Weights, layer: usize, code: &[Vec<f64>]) -> Result<()> {
    let kv_head = weights.config.num_key_value_heads - 1;
    let head = kv_head * weights.config.num_attention_heads / weights.config.num_key_value_heads;
    for (part, head) in [
        ("q_proj", head),
        ("k_proj", kv_head),
        ("v_proj", kv_head),
        ("o_proj", head),
    ] {
        weights.clear(layer, part, head)?;
    }
    for coordinate in slow_coordinates(code.len()) {
        for (dim, value) in WORD.zip(&code[coordinate]) {
            weights.set(
                layer,
                "q_proj",
                head * code.len() + coordinate,
                dim,
                MATCH_GAIN * value,
            )?;
            weights.set(
                layer,
                "k_proj",
                kv_head * code.len() + coordinate,
                dim,
                MATCH_GAIN * value,
            )?;
        }
    }
    for (coordinate, row) in code.iter().enumerate() {
        weights.set(
            layer,
            "v_proj",
            kv_head * code.len() + coordinate,
            BACK[1] + coordinate,
            1.0,
        )?;
        for (dim, value) in WORD.zip(row) {
            weights.set(
                layer,
                "o_proj",
                dim,
                head * code.len() + coordinate,
                COPY_GAIN * value,
            )?;
        }
    }
    Ok(())
}
