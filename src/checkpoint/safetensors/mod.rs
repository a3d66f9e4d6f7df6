//! safetensors: a JSON header of names, types, shapes and offsets, then the tensors without gaps.

mod reader;

pub(crate) use reader::read;
