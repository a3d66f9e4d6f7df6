//! What a user does, through the binary: real files in, real files out, exit codes and messages.

mod bench;
mod cluster;
mod config;
mod containers;
mod errors_page;
mod formats;
mod halves;
mod heal;
mod hostile;
mod interrupted;
mod main_job;
mod patterns;
mod pipeline;
mod plan;
mod report;
mod shards;
mod statistics;
mod streams;
mod tasks;
mod tiny;
mod wrong_models;
mod wrong_pairs;
mod wrong_uses;
