//! The element types of both formats, as one table.

use std::borrow::Cow;
use std::fmt;

use safetensors::Dtype;

/// How a tensor's elements are stored.
#[allow(non_camel_case_types)] // the names that the formats and their tools use
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    F32,
    F16,
    BF16,
    F64,
    I8,
    I16,
    I32,
    I64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ2_XXS,
    IQ2_XS,
    IQ3_XXS,
    IQ1_S,
    IQ4_NL,
    IQ3_S,
    IQ2_S,
    IQ4_XS,
    IQ1_M,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
    Q2_0,
    /// A GGML type that is newer than slim: its bytes can be copied, not read.
    Ggml(u32),
    /// A safetensors type without a GGML twin (U8, BOOL, the F8 kinds …).
    Safetensors(Dtype),
}

struct Row {
    dtype: DType,
    name: &'static str,
    ggml_id: u32,
    safetensors: Option<Dtype>,
    /// Elements in a block, bytes in a block.
    block: (u64, u64),
}

const fn plain(dtype: DType, name: &'static str, id: u32, twin: Dtype, bytes: u64) -> Row {
    Row {
        dtype,
        name,
        ggml_id: id,
        safetensors: Some(twin),
        block: (1, bytes),
    }
}

const fn quant(dtype: DType, name: &'static str, id: u32, elements: u64, bytes: u64) -> Row {
    Row {
        dtype,
        name,
        ggml_id: id,
        safetensors: None,
        block: (elements, bytes),
    }
}

/// Ids and block sizes of ggml's type traits. Ids that ggml has retired (4, 5, 31–33, 36–38) are
/// absent on purpose: they read as [`DType::Ggml`].
#[rustfmt::skip]
const TABLE: &[Row] = &[
    plain(DType::F32,  "f32",   0, Dtype::F32,  4),
    plain(DType::F16,  "f16",   1, Dtype::F16,  2),
    plain(DType::I8,   "i8",   24, Dtype::I8,   1),
    plain(DType::I16,  "i16",  25, Dtype::I16,  2),
    plain(DType::I32,  "i32",  26, Dtype::I32,  4),
    plain(DType::I64,  "i64",  27, Dtype::I64,  8),
    plain(DType::F64,  "f64",  28, Dtype::F64,  8),
    plain(DType::BF16, "bf16", 30, Dtype::BF16, 2),
    quant(DType::Q4_0,    "q4_0",     2,  32,  18),
    quant(DType::Q4_1,    "q4_1",     3,  32,  20),
    quant(DType::Q5_0,    "q5_0",     6,  32,  22),
    quant(DType::Q5_1,    "q5_1",     7,  32,  24),
    quant(DType::Q8_0,    "q8_0",     8,  32,  34),
    quant(DType::Q8_1,    "q8_1",     9,  32,  36),
    quant(DType::Q2_K,    "q2_k",    10, 256,  84),
    quant(DType::Q3_K,    "q3_k",    11, 256, 110),
    quant(DType::Q4_K,    "q4_k",    12, 256, 144),
    quant(DType::Q5_K,    "q5_k",    13, 256, 176),
    quant(DType::Q6_K,    "q6_k",    14, 256, 210),
    quant(DType::Q8_K,    "q8_k",    15, 256, 292),
    quant(DType::IQ2_XXS, "iq2_xxs", 16, 256,  66),
    quant(DType::IQ2_XS,  "iq2_xs",  17, 256,  74),
    quant(DType::IQ3_XXS, "iq3_xxs", 18, 256,  98),
    quant(DType::IQ1_S,   "iq1_s",   19, 256,  50),
    quant(DType::IQ4_NL,  "iq4_nl",  20,  32,  18),
    quant(DType::IQ3_S,   "iq3_s",   21, 256, 110),
    quant(DType::IQ2_S,   "iq2_s",   22, 256,  82),
    quant(DType::IQ4_XS,  "iq4_xs",  23, 256, 136),
    quant(DType::IQ1_M,   "iq1_m",   29, 256,  56),
    quant(DType::TQ1_0,   "tq1_0",   34, 256,  54),
    quant(DType::TQ2_0,   "tq2_0",   35, 256,  66),
    quant(DType::MXFP4,   "mxfp4",   39,  32,  17),
    quant(DType::NVFP4,   "nvfp4",   40,  64,  36),
    quant(DType::Q1_0,    "q1_0",    41, 128,  18),
    quant(DType::Q2_0,    "q2_0",    42,  64,  18),
];

impl DType {
    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.dtype == self)
    }

    /// Whether weights share a scale in blocks.
    pub fn is_quantised(self) -> bool {
        self.row().is_some_and(|row| row.block.0 > 1)
    }

    /// The lower-case name that people type: `q4_1`, `bf16`; `type 77` for one newer than slim.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Ggml(id) => Cow::Owned(format!("type {id}")),
            Self::Safetensors(twin) => Cow::Owned(twin.to_string().to_lowercase()),
            known => Cow::Borrowed(known.row().map_or("unknown", |row| row.name)),
        }
    }

    /// The type of this lower-case name, of those in the table.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|row| row.name == name)
            .map(|row| row.dtype)
    }

    /// The id in a GGUF tensor entry, where the type has one.
    pub fn ggml_id(self) -> Option<u32> {
        match self {
            Self::Ggml(id) => Some(id),
            known => known.row().map(|row| row.ggml_id),
        }
    }

    /// The type in a safetensors header, where the type has one.
    pub fn safetensors(self) -> Option<Dtype> {
        match self {
            Self::Safetensors(twin) => Some(twin),
            known => known.row().and_then(|row| row.safetensors),
        }
    }

    /// The type with this id; one that slim does not know is kept as [`DType::Ggml`].
    pub fn from_ggml(id: u32) -> Self {
        TABLE
            .iter()
            .find(|row| row.ggml_id == id)
            .map_or(Self::Ggml(id), |row| row.dtype)
    }

    /// The type that a safetensors header calls this.
    pub fn from_safetensors(twin: Dtype) -> Self {
        TABLE
            .iter()
            .find(|row| row.safetensors == Some(twin))
            .map_or(Self::Safetensors(twin), |row| row.dtype)
    }

    /// (elements, bytes) of a block; `None` for a type newer than slim.
    pub fn block(self) -> Option<(u64, u64)> {
        match self {
            Self::Safetensors(twin) => Some(match twin.bitsize() as u64 {
                4 => (2, 1),
                6 => (4, 3),
                bits => (1, bits / 8),
            }),
            known => known.row().map(|row| row.block),
        }
    }

    /// Bytes of a tensor of this type and shape (outermost dimension first). `None` where the
    /// type's size is unknown, a row is no whole number of blocks, or the size overflows.
    pub fn byte_len(self, shape: &[u64]) -> Option<u64> {
        let (elements, bytes) = self.block()?;
        let count = shape.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim))?;
        // GGML blocks never cross rows; safetensors packs its sub-byte types over the whole tensor.
        let unit = match self {
            Self::Safetensors(_) => count,
            _ => shape.last().copied().unwrap_or(1),
        };
        if unit % elements != 0 {
            return None;
        }
        (count / elements).checked_mul(bytes)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_again_by_each_of_its_keys() {
        for row in TABLE {
            assert_eq!(DType::from_ggml(row.ggml_id), row.dtype);
            assert_eq!(DType::from_name(row.name), Some(row.dtype));
            if let Some(twin) = row.safetensors {
                assert_eq!(DType::from_safetensors(twin), row.dtype);
                assert_eq!(row.block, (1, twin.bitsize() as u64 / 8));
            }
        }
    }

    #[test]
    fn the_blocks_agree_with_candle() {
        use candle_core::quantized::GgmlDType as G;
        for (theirs, ours) in [
            (G::F32, DType::F32),
            (G::F16, DType::F16),
            (G::BF16, DType::BF16),
            (G::Q4_0, DType::Q4_0),
            (G::Q4_1, DType::Q4_1),
            (G::Q5_0, DType::Q5_0),
            (G::Q5_1, DType::Q5_1),
            (G::Q8_0, DType::Q8_0),
            (G::Q8_1, DType::Q8_1),
            (G::Q2K, DType::Q2_K),
            (G::Q3K, DType::Q3_K),
            (G::Q4K, DType::Q4_K),
            (G::Q5K, DType::Q5_K),
            (G::Q6K, DType::Q6_K),
            (G::Q8K, DType::Q8_K),
        ] {
            let block = (theirs.block_size() as u64, theirs.type_size() as u64);
            assert_eq!(ours.block(), Some(block), "{ours}");
        }
    }

    #[test]
    fn a_byte_length_is_of_whole_blocks_and_never_overflows() {
        assert_eq!(DType::Q4_1.byte_len(&[3, 64]), Some(3 * 2 * 20));
        assert_eq!(DType::Q4_1.byte_len(&[64, 3]), None);
        assert_eq!(DType::F32.byte_len(&[]), Some(4));
        assert_eq!(DType::F32.byte_len(&[u64::MAX, 2]), None);
        assert_eq!(DType::F32.byte_len(&[u64::MAX / 2]), None);
        assert_eq!(DType::Ggml(77).byte_len(&[32]), None);
        assert_eq!(DType::Safetensors(Dtype::F4).byte_len(&[2, 3]), Some(3));
        assert_eq!(DType::Safetensors(Dtype::F4).byte_len(&[3]), None);
    }
}
