//! Small files of both formats, put together byte by byte and not by slim's writers, so that any
//! of their claims can be made false.
#![allow(dead_code)] // each test binary uses its part

/// A string as GGUF encodes it.
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

/// A key, its type id and its encoded value.
pub fn key(name: &str, ty: u32, value: &[u8]) -> Vec<u8> {
    [&string(name)[..], &ty.to_le_bytes(), value].concat()
}

/// The encoding of an array.
pub fn array(element: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

/// A tensor's entry; `ne` is innermost first.
pub fn tensor(name: &str, ne: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((ne.len() as u32).to_le_bytes());
    bytes.extend(ne.iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(ty.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

/// 48 + 40 + 16 bytes of tensors, each padded with zeros to a multiple of 32.
fn data() -> Vec<u8> {
    let byte = |at: u8| match at {
        0..48 | 64..104 | 128..144 => at + 1,
        _ => 0,
    };
    (0..160).map(byte).collect()
}

/// A GGUF file whose every part can be set.
#[derive(Clone)]
pub struct Gguf {
    pub magic: [u8; 4],
    pub version: u32,
    pub n_tensors: Option<u64>,
    pub n_keys: Option<u64>,
    pub keys: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub alignment: usize,
    pub data: Vec<u8>,
}

impl Gguf {
    /// A valid file: a key of every type, tensors of three types.
    pub fn valid() -> Self {
        let strings = [string("a"), string("bc"), string("")].concat();
        Self {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_keys: None,
            keys: vec![
                key("general.architecture", 8, &string("llama")),
                key("k.u8", 0, &[200]),
                key("k.i8", 1, &[200]),
                key("k.u16", 2, &[1, 2]),
                key("k.i16", 3, &[1, 255]),
                key("llama.block_count", 4, &2u32.to_le_bytes()),
                key("k.i32", 5, &(-5i32).to_le_bytes()),
                key("k.f32", 6, &1.5f32.to_le_bytes()),
                key("k.bool", 7, &[1]),
                key("k.strs", 9, &array(8, 3, &strings)),
                key("k.i32s", 9, &array(5, 2, &[1, 0, 0, 0, 255, 255, 255, 255])),
                key(
                    "k.nested",
                    9,
                    &array(9, 2, &[array(0, 1, &[7]), array(0, 0, &[])].concat()),
                ),
                key("k.u64", 10, &u64::MAX.to_le_bytes()),
                key("k.i64", 11, &i64::MIN.to_le_bytes()),
                key("k.f64", 12, &2.5f64.to_le_bytes()),
            ],
            tensors: vec![
                tensor("token_embd.weight", &[4, 3], 0, 0),
                tensor("blk.0.attn_q.weight", &[32, 2], 3, 64),
                tensor("blk.1.attn_q.weight", &[8], 1, 128),
            ],
            alignment: 32,
            data: data(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let n_tensors = self.n_tensors.unwrap_or(self.tensors.len() as u64);
        let n_keys = self.n_keys.unwrap_or(self.keys.len() as u64);
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(n_tensors.to_le_bytes());
        bytes.extend(n_keys.to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// A safetensors file of this header and data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let len = header.len() as u64;
    [&len.to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A valid safetensors header over 20 bytes of data.
pub const HEADER: &str = r#"{"__metadata__":{"format":"pt","a":"é"},"model.layers.0.w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]},"empty":{"dtype":"U8","shape":[0],"data_offsets":[20,20]}}   "#;

/// The file of [`HEADER`].
pub fn valid_safetensors() -> Vec<u8> {
    safetensors(HEADER, &(0..20).collect::<Vec<u8>>())
}
