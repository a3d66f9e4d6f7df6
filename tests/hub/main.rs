//! Downloads from a server that speaks the hub's protocol, and misbehaves.

mod faults;
mod layout;
mod models;
mod refusals;
mod server;
mod tasks;
