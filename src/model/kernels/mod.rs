//! The products and functions of a layer on a CPU, on plain slices of f32.
//!
//! Every sum is made in one order that depends on nothing but its own row: a result is the same
//! to the bit whatever stands beside it in a batch, however texts are packed, and however many
//! threads there are.

mod attention;
mod functions;
mod micro;
mod panels;
mod store;

pub(super) use attention::Attention;
pub(super) use functions::{Rotation, add, gate, normalise, rotate};
pub use functions::{exp_gap, exp_sum, largest};
pub(super) use panels::Panels;
pub(super) use store::{Source, Store};
