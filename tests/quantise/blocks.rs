//! The blocks of each type.

use crate::rows::{COLUMNS, edges, golden, importance, random};
use candle_core::Device;
use serde_json::Value;
use sha2::{Digest, Sha256};
use slim::checkpoint::DType;
use slim::convert::quantise::{Importance, encode};
use slim::convert::to_tensor;

fn named(figures: &Value) -> impl Iterator<Item = (DType, &Value)> {
    let figures = figures.as_object().unwrap().iter();
    figures.map(|(name, value)| (DType::from_name(name).unwrap(), value))
}

fn quantise(rows: &[f32], dtype: DType, importance: Option<&[f32]>) -> Vec<u8> {
    let importance = importance.map(|values| Importance::of_columns(values, rows.len()));
    encode(rows, COLUMNS, dtype, importance, 0).unwrap()
}

/// Decodes with candle, which knows nothing of how slim encodes.
fn decode(blocks: &[u8], dtype: DType, elements: usize) -> Vec<f32> {
    let tensor = to_tensor(blocks, dtype, &[elements], &Device::Cpu).unwrap();
    tensor.to_vec1().unwrap()
}

/// The root of the mean squared error, each column weighted.
fn error(rows: &[f32], blocks: &[u8], dtype: DType, weights: &[f32]) -> f64 {
    let decoded = decode(blocks, dtype, rows.len());
    let pairs = rows.iter().zip(&decoded).zip(weights.iter().cycle());
    let squares = pairs.map(|((x, y), w)| f64::from(*w) * (f64::from(*y) - f64::from(*x)).powi(2));
    (squares.sum::<f64>() / rows.len() as f64).sqrt()
}

#[test]
fn simple_types_are_ggmls_own_bytes() {
    let rows = [random(64), edges()].concat();
    for (dtype, digest) in named(&golden("blocks.json")["sha256 of random and edge rows"]) {
        let ours = Sha256::digest(quantise(&rows, dtype, None));
        let ours: String = ours.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(ours, digest.as_str().unwrap(), "{dtype}");
    }
}

#[test]
fn k_types_miss_by_less_than_ggmls() {
    let rows = random(64);
    for (dtype, theirs) in named(&golden("blocks.json")["rmse of random rows"]) {
        let ours = error(&rows, &quantise(&rows, dtype, None), dtype, &[1.0]);
        let theirs = theirs.as_f64().unwrap();
        assert!(ours <= theirs, "{dtype}: {ours} against {theirs}");
    }
}

#[test]
fn with_importance_the_weighted_error_is_less_than_ggmls_and_than_without() {
    let (rows, weights) = (random(64), importance());
    let figures = golden("blocks.json");
    for (dtype, theirs) in named(&figures["weighted rmse of random rows with importance"]) {
        let with = error(
            &rows,
            &quantise(&rows, dtype, Some(&weights)),
            dtype,
            &weights,
        );
        let without = error(&rows, &quantise(&rows, dtype, None), dtype, &weights);
        let theirs = theirs.as_f64().unwrap();
        assert!(with <= theirs, "{dtype}: {with} against {theirs}");
        assert!(with < without, "{dtype}: {with} against {without}");
    }
}

#[test]
fn edge_rows_decode_to_within_a_step_of_what_they_were() {
    let rows = edges();
    for (dtype, levels) in [
        (DType::Q2_K, 4.0),
        (DType::Q3_K, 8.0),
        (DType::Q4_K, 16.0),
        (DType::Q5_K, 32.0),
        (DType::Q6_K, 64.0),
    ] {
        for weights in [None, Some(vec![0.0; COLUMNS]), Some(importance())] {
            let decoded = decode(
                &quantise(&rows, dtype, weights.as_deref()),
                dtype,
                rows.len(),
            );
            let blocks = rows.chunks(256).zip(decoded.chunks(256));
            for (i, (block, decoded)) in blocks.enumerate() {
                let largest = block.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                let step = 3.0 * largest / levels + 1e-7;
                for (x, y) in block.iter().zip(decoded) {
                    assert!((x - y).abs() <= step, "{dtype}, block {i}: {x} became {y}");
                }
            }
        }
    }
}

#[test]
fn weights_that_no_block_can_hold_are_an_error() {
    for wrong in [f32::NAN, f32::INFINITY, -1e6] {
        let mut rows = random(1);
        rows[17] = wrong;
        for dtype in [DType::Q4_0, DType::Q8_0, DType::Q4_K, DType::Q6_K] {
            let error = encode(&rows, COLUMNS, dtype, None, 0)
                .unwrap_err()
                .to_string();
            assert!(error.contains("finite"), "{error}");
        }
    }
    assert!(encode(&random(1), 500, DType::Q4_K, None, 0).is_err());
    assert!(encode(&random(1), 0, DType::Q4_K, None, 0).is_err());
    assert!(encode(&random(1), COLUMNS, DType::IQ4_NL, None, 0).is_err());
}
