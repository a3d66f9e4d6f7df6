//! Means, intervals, tests, and how many items a statement takes.

mod bootstrap;
mod chance;
mod flips;
mod holm;
mod paired;
#[cfg(test)]
mod reference;

pub use bootstrap::{Interval, bootstrap};
pub use chance::above_chance;
pub use flips::Flips;
pub use holm::holm;
pub use paired::{Pair, Paired};

/// The level of every test and interval: two-sided.
pub const ALPHA: f64 = 0.05;

/// The two-sided 5 % point of the normal distribution.
const Z_ALPHA: f64 = 1.959_963_984_540_054;

/// Mean and its standard error, sample sd (n − 1) / √n; the error is 0 for fewer than two values.
pub fn mean_se(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let se = match values.len() {
        1 => 0.0,
        _ => (squares / (n - 1.0) / n).sqrt(),
    };
    (mean, se)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_error_is_the_sample_deviation_over_root_n() {
        let (mean, se) = mean_se(&[1.0, 0.0, 1.0, 0.0]);
        assert_eq!(mean, 0.5);
        assert!((se - (1.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
    }
}
