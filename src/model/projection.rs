//! Products in candle's graph.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail,
};

/// x · Wᵀ + b.
#[derive(Clone)]
pub(super) struct Projection {
    /// [n_outputs, n_inputs].
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Projection {
    /// [.., n_inputs] → [.., n_outputs].
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n_outputs, n_inputs) = self.weight.dims2()?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = n_outputs;
        }
        let rows = x.reshape(((), n_inputs))?;
        let product = match x.track_op() && !self.weight.track_op() {
            true => rows.contiguous()?.apply_op1(Frozen(self.weight.clone())),
            false => rows.matmul(&self.weight.t()?),
        };
        let product = product?.reshape(shape)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// x · Wᵀ by a weight that does not change. candle makes the gradients of both sides of a product:
/// of such a weight that is a third of all work, and memory of its size, for nothing.
struct Frozen(Tensor);

impl Frozen {
    /// `x` is contiguous, [rows, n_inputs].
    fn product<S: BackendStorage>(
        &self,
        x: &S,
        layout: &Layout,
        weight: &S,
        weight_layout: &Layout,
    ) -> Result<(S, Shape)> {
        let (rows, n_inputs) = layout.shape().dims2()?;
        let n_outputs = weight_layout.dim(0)?;
        let transposed = weight_layout.transpose(0, 1)?;
        let sizes = (1, rows, n_outputs, n_inputs);
        let product = x.matmul(weight, sizes, layout, &transposed)?;
        Ok((product, Shape::from((rows, n_outputs))))
    }
}

/// A forward pass on one kind of device.
macro_rules! forward {
    ($name:ident, $storage:ty, $kind:ident) => {
        fn $name(&self, x: &$storage, layout: &Layout) -> Result<($storage, Shape)> {
            let (weight, of) = self.0.storage_and_layout();
            let Storage::$kind(weight) = &*weight else {
                bail!("a weight is not on the device of what it is multiplied with");
            };
            self.product(x, layout, weight, of)
        }
    };
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen product"
    }

    forward!(cpu_fwd, CpuStorage, Cpu);
    forward!(cuda_fwd, CudaStorage, Cuda);
    forward!(metal_fwd, MetalStorage, Metal);

    fn bwd(&self, _x: &Tensor, _product: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient.contiguous()?.matmul(&self.0).map(Some)
    }
}
