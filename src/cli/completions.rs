//! `slim completions SHELL` and `slim man FOLDER`: what packagers install beside the binary.

use super::{Cli, Passed, show};
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim completions bash > /etc/bash_completion.d/slim
  slim completions zsh > ~/.zfunc/_slim")]
pub(super) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "slim", &mut text);
    show(&String::from_utf8(text).context("the completions are no text")?)?;
    Ok(true)
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  slim man /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// Where the pages go, one a subcommand
    folder: PathBuf,
}

pub(super) fn man(args: &ManArgs) -> Result<Passed> {
    let named = || format!("writing manual pages to {}", args.folder.display());
    std::fs::create_dir_all(&args.folder).with_context(named)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).with_context(named)?;
    Ok(true)
}
