//! Which layers stay and which go: a square each.

use super::canvas::{Anchor, Canvas};
use crate::arch::{Half, KeepSet};

const CELL: f64 = 22.0;
const TOP: f64 = 22.0;
const ACROSS: usize = 40;

/// The picture of a keep set of a model with `n_layers`; a half layer is half a square, its attention above.
pub fn strip(keep: &KeepSet, n_layers: usize) -> String {
    let rows = n_layers.div_ceil(ACROSS).max(1);
    let width = CELL * n_layers.clamp(1, ACROSS) as f64 + 8.0;
    let mut canvas = Canvas::new(width, (TOP + CELL + 8.0) * rows as f64);
    for layer in 0..n_layers {
        let x = 4.0 + CELL * (layer % ACROSS) as f64;
        let y = TOP + (TOP + CELL + 8.0) * (layer / ACROSS) as f64;
        let label = layer.to_string();
        canvas.text(
            x + CELL / 2.0 - 1.0,
            y - 6.0,
            Anchor::Middle,
            "soft",
            &label,
        );
        let whole = (CELL - 2.0, CELL - 2.0);
        let half = (CELL - 2.0, CELL / 2.0 - 1.0);
        let (at, size, says) = match (keep.contains(layer), keep.half(layer)) {
            (true, None) => ((x, y), Some(whole), "stays"),
            (true, Some(Half::Attention)) => ((x, y), Some(half), "only its attention stays"),
            (true, Some(Half::Mlp)) => {
                ((x, y + CELL / 2.0 - 1.0), Some(half), "only its MLP stays")
            }
            (false, _) => ((x, y), None, "goes"),
        };
        let says = format!("layer {layer} {says}");
        canvas.bar((x, y), whole, ("gone", 1.0), &says);
        if let Some(size) = size {
            canvas.bar(at, size, ("kept", 1.0), &says);
        }
    }
    canvas.finish()
}
