//! The same model in the other format: names, row orders, element types, metadata, tokenizer.

mod conversion;
mod edit;
mod element;
mod halves;
mod metadata;
mod outtype;
pub mod quantise;
mod tensors;
pub mod vocabulary;

pub use edit::{Edit, Edits};
pub use element::to_tensor;
pub(crate) use element::{to_f32, to_quantised};
pub use metadata::{QUANTIZATION_VERSION, file_type, gguf_metadata, hf_config, torch_name};
pub use outtype::OutType;
pub use tensors::{Target, kept_tensors};
