//! What the fuzz targets share with each other and with the tests that replay their findings.

#[path = "../../tests/attacks/base.rs"]
pub mod base;
#[path = "../../tests/attacks/bytes.rs"]
mod bytes;
#[path = "../../tests/attacks/cases.rs"]
pub mod cases;
#[path = "../../tests/attacks/target.rs"]
pub mod target;
#[path = "../../tests/checkpoint/tiny.rs"]
mod tiny;
#[path = "../../tests/attacks/walk.rs"]
pub mod walk;
