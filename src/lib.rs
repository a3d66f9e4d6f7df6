//! slim takes a language-model checkpoint and writes a smaller one with fewer layers.
//!
//! A checkpoint walks through the rooms in this order, and no room looks back:
//! [`checkpoint`] opens it, [`arch`] says what its tensors and keys mean, [`convert`] gives it the
//! other format's names and bytes, [`model`] runs it, [`suite`] holds what it is asked,
//! [`eval`] asks, [`importance`] turns the answers into a profile of the layers, [`plan`] chooses
//! which layers stay, [`prune`] writes them, [`heal`] trains the result a little by its original,
//! [`verify`] holds the written file against the original, and [`report`] shows it to people and
//! pipelines.

pub mod arch;
pub mod checkpoint;
pub mod cli;
pub mod convert;
pub mod eval;
pub mod heal;
pub mod importance;
pub mod model;
pub mod plan;
pub mod prune;
pub mod report;
pub mod suite;
pub mod verify;
