//! What becomes of a layer in a candidate: all of it, a half of it, or nothing, and what makes up for
//! the layers that are gone behind it.

use super::kernels::Panels;
use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};

/// How hidden states go through a layer.
#[derive(Clone, Copy)]
pub struct Form<'m> {
    /// Whether it attends.
    pub attention: bool,
    /// The attention head whose output is left out.
    pub without_head: Option<usize>,
    /// Whether it has its MLP.
    pub mlp: bool,
    /// What makes up for the layers that are gone behind it.
    pub mend: Option<&'m Mend>,
}

impl<'m> Form<'m> {
    /// The layer as it is.
    pub const WHOLE: Self = Self {
        attention: true,
        without_head: None,
        mlp: true,
        mend: None,
    };

    /// No layer.
    pub const GONE: Self = Self {
        attention: false,
        without_head: None,
        mlp: false,
        mend: None,
    };

    /// Whether states pass it by.
    pub fn is_gone(&self) -> bool {
        !self.attention && !self.mlp && self.mend.is_none()
    }

    /// Whether two states can go through the layer in one product: the mend is the same one.
    pub fn is_same(&self, other: &Self) -> bool {
        let mend = |form: &Self| form.mend.map(std::ptr::from_ref);
        let parts = |form: &Self| (form.attention, form.without_head, form.mlp);
        parts(self) == parts(other) && mend(self) == mend(other)
    }
}

/// What makes up for layers that are gone, in the last layer before them.
pub enum Mend {
    /// The layer's output times a factor (Prune&Comp; written, the factor's inverse stands in every
    /// later layer, because a final norm does not see the scale of its input).
    Scale(f32),
    /// The MLP's output y becomes y · T (ReplaceMe, arXiv 2505.02819).
    Linear(LinearMap),
    /// The norm behind the MLP has these weights instead: where there is one, a map before it could
    /// not be folded into the MLP.
    Norm(Vec<f32>),
}

/// A matrix [hidden_size, hidden_size] that rows are multiplied with from the right.
pub struct LinearMap {
    values: Vec<f32>,
    size: usize,
    panels: Panels,
}

impl LinearMap {
    /// Of values in the order of rows: `values[i][j]` is what input i adds to output j.
    ///
    /// # Errors
    /// A number of values that is not the square of `size`.
    pub fn new(values: Vec<f32>, size: usize) -> Result<Self> {
        ensure!(
            values.len() == size * size,
            "{} values are no matrix of {size} rows and columns",
            values.len()
        );
        let read = |outputs: std::ops::Range<usize>, rows: &mut [f32]| {
            for (row, output) in rows.chunks_exact_mut(size.max(1)).zip(outputs) {
                let column = values.chunks_exact(size).map(|inputs| inputs[output]);
                row.iter_mut().zip(column).for_each(|(x, value)| *x = value);
            }
            Ok(())
        };
        Ok(Self {
            panels: Panels::new(size, size, read)?,
            values,
            size,
        })
    }

    /// The values in the order of rows.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn panels(&self) -> &Panels {
        &self.panels
    }

    pub(super) fn tensor(&self, device: &Device) -> candle_core::Result<Tensor> {
        Tensor::from_slice(&self.values, (self.size, self.size), device)
    }
}
