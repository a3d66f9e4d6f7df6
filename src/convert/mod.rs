//! The same model in the other format: names, row orders, tokenizer, quantised types.

pub mod vocabulary;
