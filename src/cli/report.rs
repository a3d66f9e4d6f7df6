//! `slim report FILE.json -o FILE.svg`: pictures of what other commands measured.

use super::Passed;
use super::options::{read_json, write_text};
use crate::checkpoint::check_target;
use crate::importance::{HeadProfile, Profile};
use crate::plan::Plan;
use crate::report::svg;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim score model.gguf -o profile.json && slim report profile.json -o profile.svg
  slim score model.gguf --granularity head -o heads.json && slim report heads.json -o heads.svg
  slim plan profile.json --model model.gguf --curve -o plan.json && slim report plan.json -o curve.svg")]
pub(super) struct Args {
    /// A profile that `slim score` wrote, or a plan of `slim plan --curve`
    input: PathBuf,
    /// Where the picture goes: a file.svg
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    ensure!(
        args.output.extension().is_some_and(|e| e == "svg"),
        "{}: pictures are SVG files: name it .svg",
        args.output.display()
    );
    check_target(&args.output, &[&args.input])?;
    let picture = picture(&args.input)?;
    write_text(&args.output, &picture)?;
    Ok(true)
}

/// What kind of file it is shows in its fields.
fn picture(path: &Path) -> Result<String> {
    let found: Value = read_json(path, "profile or plan")?;
    let has = |field: &str| found.get(field).is_some();
    let wrong = |what: &str| format!("{}: not {what} that this slim reads", path.display());
    if has("heads") {
        let profile: HeadProfile =
            read_json(path, "profile").with_context(|| wrong("a profile"))?;
        return Ok(svg::heads(&profile));
    }
    if has("layers") {
        let profile: Profile = read_json(path, "profile").with_context(|| wrong("a profile"))?;
        return Ok(svg::profile(&profile));
    }
    if has("keep") && has("n_layers") {
        let plan: Plan = read_json(path, "plan").with_context(|| wrong("a plan"))?;
        ensure!(
            plan.curve.len() > 1,
            "{}: the plan has no curve: make it with slim plan --curve",
            path.display()
        );
        return Ok(svg::curve(&plan));
    }
    bail!(
        "{}: neither a profile of slim score nor a plan of slim plan --curve",
        path.display()
    )
}
