//! Edited weights in the output against plain f64 arithmetic on the source's weights.

#[path = "../support/mod.rs"]
mod support;

mod reading;
mod refusals;
mod values;
