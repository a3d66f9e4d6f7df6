//! The rows of fixtures/quantise/make.py, made again.

use serde_json::Value;
use std::path::Path;

pub const COLUMNS: usize = 512;

/// Bell-shaped weights with a few outliers, whole numbers until the last step.
pub fn random(count: usize) -> Vec<f32> {
    let mut state = 12345u32;
    let mut draw = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 16) as i32
    };
    let mut weight = |i: usize| {
        let total: i32 = (0..4).map(|_| draw()).sum();
        let value = (total - 131072) as f32 / 2f32.powi(21);
        value * if i.is_multiple_of(97) { 8.0 } else { 1.0 }
    };
    (0..count * COLUMNS).map(&mut weight).collect()
}

/// Where a quantiser may stumble.
pub fn edges() -> Vec<f32> {
    let base = random(1);
    let scaled = |factor: f32| base.iter().map(|x| x * factor).collect::<Vec<_>>();
    let with = |change: fn(usize, f32) -> f32| {
        let changed = base.iter().enumerate().map(|(i, &x)| change(i, x));
        changed.collect::<Vec<f32>>()
    };
    [
        vec![0.0; COLUMNS],
        vec![-0.0; COLUMNS],
        vec![0.375; COLUMNS],
        vec![-0.375; COLUMNS],
        scaled(2f32.powi(-100)),
        scaled(2f32.powi(-126)),
        with(|i, x| if i == 100 { 100.0 } else { x }),
        with(|i, x| if i % 32 == 0 { -1.0 } else { x }),
        with(|i, x| match i % 4 {
            0 => -0.0,
            2 => 0.0,
            _ => x,
        }),
        with(|_, x| x.abs()),
        with(|_, x| -x.abs()),
        scaled(2f32.powi(16)),
    ]
    .concat()
}

/// How much each column matters.
pub fn importance() -> Vec<f32> {
    let of = |i: usize| 1.0 + ((i * 7919 % 64) as f32).powi(2) / 64.0;
    (0..COLUMNS).map(of).collect()
}

pub fn golden(file: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/quantise");
    serde_json::from_slice(&std::fs::read(root.join(file)).unwrap()).unwrap()
}
