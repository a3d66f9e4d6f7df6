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
            let tensor = blocks(bytes, ggml_dtype(quantised)?, shape, device)?;
            Ok(tensor.dequantize(device)?)
        }
    }
}

fn blocks(bytes: &[u8], dtype: GgmlDType, shape: &[usize], device: &Device) -> Result<QTensor> {
    // candle reads blocks through a pointer, so they must be aligned as its structs are.
    let aligned = match bytes.as_ptr().align_offset(align_of::<u64>()) {
        0 => Cow::Borrowed(bytes),
        _ => Cow::Owned(bytes.to_vec()),
    };
    Ok(QTensor::new(
        QStorage::from_data(aligned, device, dtype)?,
        shape,
    )?)
}

/// The bytes of a tensor of a ggml block type as candle multiplies it on a CPU; `None` for another
/// type.
///
/// # Errors
/// What candle reports.
pub(crate) fn to_quantised(bytes: &[u8], dtype: DType, shape: &[usize]) -> Result<Option<QTensor>> {
    match ggml_dtype(dtype) {
        Ok(dtype) => Ok(Some(blocks(bytes, dtype, shape, &Device::Cpu)?)),
        Err(_) => Ok(None),
    }
}

/// Reads the bytes of a tensor of any float or ggml type as f32.
///
/// # Errors
/// A type that cannot be dequantised.
pub(crate) fn to_f32(bytes: &[u8], dtype: DType, shape: &[usize]) -> Result<Vec<f32>> {
    Ok(match dtype {
        DType::F32 => {
            let values = bytes.as_chunks::<4>().0.iter();
            values.map(|b| f32::from_le_bytes(*b)).collect()
        }
        DType::BF16 => {
            let values = bytes.as_chunks::<2>().0.iter();
            let wide = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            values.map(wide).collect()
        }
        other => {
            let tensor = to_tensor(bytes, other, shape, &Device::Cpu)?;
            tensor.flatten_all()?.to_vec1()?
        }
    })
}

/// Whether [`to_f32`] reads a type.
pub(super) fn is_readable(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64) || ggml_dtype(dtype).is_ok()
}

/// Whether [`from_f32`] writes a type.
pub(super) fn is_writable(dtype: DType) -> bool {
    from_f32(&[], dtype).is_ok()
}

/// Writes f32 rows in a float type.
///
/// # Errors
/// Another type.
pub(super) fn from_f32(values: &[f32], dtype: DType) -> Result<Vec<u8>> {
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
        other => bail!("slim does not write {}", other.name()),
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
