//! Adam, with moments that can be saved: those of candle-nn's optimisers cannot.

use super::student::Gradients;
use crate::model::Parameter;
use anyhow::Result;
use candle_core::Tensor;

const BETA: [f64; 2] = [0.9, 0.95];
const EPSILON: f64 = 1e-8;

/// Both moments of each parameter (Kingma and Ba, arXiv 1412.6980). Weights do not decay: a short
/// training starts where the original's long one left them.
pub struct Adam {
    /// Means of gradients and of their squares, a pair each parameter.
    pub moments: Vec<[Tensor; 2]>,
}

impl Adam {
    /// Moments of nothing yet.
    ///
    /// # Errors
    /// What candle reports.
    pub fn new<'p>(parameters: impl Iterator<Item = &'p Parameter>) -> Result<Self> {
        let zeros = |parameter: &Parameter| -> Result<[Tensor; 2]> {
            let zeros = parameter.var().as_detached_tensor().zeros_like()?;
            Ok([zeros.clone(), zeros])
        };
        Ok(Self {
            moments: parameters.map(zeros).collect::<Result<_>>()?,
        })
    }

    /// Step number `step`, counted from 1, at a learning rate.
    ///
    /// # Errors
    /// What candle reports.
    pub fn step<'p>(
        &mut self,
        parameters: impl Iterator<Item = &'p Parameter>,
        gradients: &Gradients,
        rate: f64,
        step: u64,
    ) -> Result<()> {
        let unbiased = BETA.map(|beta| 1.0 - beta.powf(step as f64));
        for ((parameter, gradient), moments) in parameters.zip(gradients).zip(&mut self.moments) {
            let Some(gradient) = gradient else {
                continue;
            };
            let [mean, square] = moments;
            *mean = ((&*mean * BETA[0])? + (gradient * (1.0 - BETA[0]))?)?;
            *square = ((&*square * BETA[1])? + (gradient.sqr()? * (1.0 - BETA[1]))?)?;
            let size = ((&*square / unbiased[1])?.sqrt()? + EPSILON)?;
            let change = ((&*mean * (rate / unbiased[0]))? / size)?;
            let values = parameter.var().as_detached_tensor();
            parameter.var().set(&(values - change)?)?;
        }
        Ok(())
    }
}

/// Shortens gradients that are together longer than `most` (Pascanu, Mikolov and Bengio, arXiv
/// 1211.5063); gives their length before.
///
/// # Errors
/// What candle reports.
pub fn clip(gradients: &mut Gradients, most: f64) -> Result<f64> {
    let mut square = 0.0;
    for gradient in gradients.iter().flatten() {
        square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let length = square.sqrt();
    if length > most {
        for gradient in gradients.iter_mut().flatten() {
            *gradient = (&*gradient * (most / length))?;
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn gradients_are_shortened_together_and_only_where_they_are_long() {
        let gradient = |values: &[f32]| Some(Tensor::new(values, &Device::Cpu).unwrap());
        let mut gradients = vec![gradient(&[3.0]), None, gradient(&[0.0, 4.0])];
        assert_eq!(clip(&mut gradients, 5.0).unwrap(), 5.0);
        assert_eq!(clip(&mut gradients, 1.0).unwrap(), 5.0);
        let found: Vec<f32> = gradients[2].as_ref().unwrap().to_vec1().unwrap();
        assert_eq!(found, [0.0, 0.8]);
    }
}
