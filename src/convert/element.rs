//! Element types: any readable type to f32, f32 to any writable type.

use crate::checkpoint::DType;
use anyhow::{Context, Result, bail};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType as CandleDType, Device, Tensor};
use half::{bf16, f16};
use std::borrow::Cow;

/// The quantised types that candle reads, which are ggml's own blocks.
const QUANTISED: &[(DType, GgmlDType)] = &[
    (DType::Q4_0, GgmlDType::Q4_0),
    (DType::Q4_1, GgmlDType::Q4_1),
    (DType::Q5_0, GgmlDType::Q5_0),
    (DType::Q5_1, GgmlDType::Q5_1),
    (DType::Q8_0, GgmlDType::Q8_0),
    (DType::Q2_K, GgmlDType::Q2K),
    (DType::Q3_K, GgmlDType::Q3K),
    (DType::Q4_K, GgmlDType::Q4K),
    (DType::Q5_K, GgmlDType::Q5K),
    (DType::Q6_K, GgmlDType::Q6K),
];

/// Reads the bytes of a tensor of any float or ggml type as f32 on a device.
///
/// # Errors
/// A type that cannot be dequantised.
pub fn to_tensor(bytes: &[u8], dtype: DType, shape: &[usize], device: &Device) -> Result<Tensor> {
    let plain = |dtype| -> Result<Tensor> {
        let tensor = Tensor::from_raw_buffer(bytes, dtype, shape, device)?;
        Ok(tensor.to_dtype(CandleDType::F32)?)
    };
    match dtype {
        DType::F32 => plain(CandleDType::F32),
        DType::F16 => plain(CandleDType::F16),
        DType::BF16 => plain(CandleDType::BF16),
        DType::F64 => plain(CandleDType::F64),
        quantised => {
            // candle reads blocks through a pointer, so they must be aligned as its structs are.
            let aligned = match bytes.as_ptr().align_offset(align_of::<u64>()) {
                0 => Cow::Borrowed(bytes),
                _ => Cow::Owned(bytes.to_vec()),
            };
            let storage = QStorage::from_data(aligned, device, ggml_dtype(quantised)?)?;
            Ok(QTensor::new(storage, shape)?.dequantize(device)?)
        }
    }
}

/// Writes f32 rows in another type; `row` is the length of a row.
///
/// # Errors
/// A type that slim does not write.
pub(super) fn from_f32(values: Vec<f32>, dtype: DType, row: usize) -> Result<Vec<u8>> {
    Ok(match dtype {
        DType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F16 => values
            .iter()
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect(),
        DType::BF16 => values
            .iter()
            .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
            .collect(),
        DType::Q8_0 => {
            let rows = values.len() / row.max(1);
            let tensor = Tensor::from_vec(values, (rows, row), &Device::Cpu)?;
            let quantised = QTensor::quantize(&tensor, GgmlDType::Q8_0)?;
            quantised.data()?.into_owned()
        }
        other => bail!("slim does not write {} yet", other.name()),
    })
}

fn ggml_dtype(dtype: DType) -> Result<GgmlDType> {
    let known = QUANTISED.iter().find(|(ours, _)| *ours == dtype);
    known.map(|(_, theirs)| *theirs).with_context(|| {
        format!(
            "{} cannot be dequantised: such a model can be pruned with --drop-layers, but not scored or converted",
            dtype.name()
        )
    })
}
