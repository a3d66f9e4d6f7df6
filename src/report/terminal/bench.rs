//! Size, loading, speed and memory of models, and each beside the first.

use super::{lines, table};
use crate::report::Figures;
use crate::report::words::megabytes;

const HEADER: [&str; 7] = [
    "model",
    "layers",
    "size",
    "load, s",
    "prompt\ntokens/s",
    "generation\ntokens/s",
    "peak",
];

/// A row a model, with its share of the first one's figures below it.
pub fn bench(all: &[Figures]) -> String {
    let mut rows = table(&HEADER, 1);
    for (i, figures) in all.iter().enumerate() {
        rows.add_row([
            figures.path.clone(),
            figures.n_layers.to_string(),
            megabytes(figures.bytes),
            format!("{:.2}", figures.load),
            format!("{:.1}", figures.speed.prompt),
            format!("{:.1}", figures.speed.generation),
            figures.peak.map_or("–".to_owned(), megabytes),
        ]);
        let Some(first) = all.first().filter(|_| i > 0) else {
            continue;
        };
        let times = |a: f64, b: f64| format!("× {:.2}", a / b);
        let peaks = figures.peak.zip(first.peak);
        rows.add_row([
            String::new(),
            times(figures.n_layers as f64, first.n_layers as f64),
            times(figures.bytes as f64, first.bytes as f64),
            times(figures.load, first.load),
            times(figures.speed.prompt, first.speed.prompt),
            times(figures.speed.generation, first.speed.generation),
            peaks.map_or(String::new(), |(a, b)| times(a as f64, b as f64)),
        ]);
    }
    lines(&rows)
}
