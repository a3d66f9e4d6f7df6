//! Quantised types against llama.cpp's own (fixtures/quantise says how its figures were made).

#[path = "../support/mod.rs"]
mod support;

mod blocks;
mod files;
mod imatrix;
mod recipes;
mod rows;
