//! The vocabulary room: both formats, both ways, and running.

mod build;
mod chat;
mod formats;
mod golden;
mod hostile;
mod running;
