//! `slim report FILE.json … -o FILE.svg|FILE.html`: what other commands measured, for people.

use super::Passed;
use super::files::{check_beside, read_json, write_text};
use crate::importance::{HeadProfile, Profile};
use crate::plan::Plan;
use crate::report::{Report, html, profiles_page, svg};
use anyhow::{Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  slim score model.gguf -o profile.json && slim report profile.json -o profile.svg
  slim report base.json distilled.json -o both.svg
  slim score model.gguf --granularity head -o heads.json && slim report heads.json -o heads.svg
  slim plan profile.json --model model.gguf --curve -o plan.json && slim report plan.json -o curve.svg
  slim verify model.gguf small.gguf --report report.json && slim report report.json profile.json -o report.html")]
pub(super) struct Args {
    /// A profile of `slim score` (a second one is drawn over it), a plan of `slim plan --curve`, or for a
    /// page a report of `slim verify` or `slim prune`, with profiles and a plan, or profiles alone
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// Where it goes: a picture (.svg) or a page (.html)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// What a file holds, as its fields show.
enum Measured {
    Report(Box<Report>),
    Profile(Profile),
    Heads(HeadProfile),
    Plan(Box<Plan>),
}

pub(super) fn run(args: &Args) -> Result<Passed> {
    let inputs: Vec<&Path> = args.inputs.iter().map(PathBuf::as_path).collect();
    check_beside(Some(&args.output), &inputs)?;
    let extension = args.output.extension().and_then(|e| e.to_str());
    ensure!(
        matches!(extension, Some("svg" | "html")),
        "{}: name a picture .svg, or a page .html",
        args.output.display()
    );
    let all = args.inputs.iter().map(|path| measured(path));
    let all: Vec<Measured> = all.collect::<Result<_>>()?;
    let text = match extension {
        Some("html") => page(all)?,
        _ => picture(&all)?,
    };
    write_text(&args.output, &text)?;
    Ok(true)
}

fn picture(all: &[Measured]) -> Result<String> {
    Ok(match all {
        [Measured::Profile(one)] => svg::profile(one, None),
        [Measured::Profile(one), Measured::Profile(other)] => svg::profile(one, Some(other)),
        [Measured::Heads(heads)] => svg::heads(heads),
        [Measured::Plan(plan)] => {
            ensure!(
                plan.curve.len() > 1,
                "the plan has no curve: make it with slim plan --curve"
            );
            svg::curve(plan)
        }
        [Measured::Report(report)] => svg::retention(&report.comparison),
        _ => bail!("a picture is of one file, or of two profiles"),
    })
}

fn page(all: Vec<Measured>) -> Result<String> {
    let (mut reports, mut profiles, mut plans) = (Vec::new(), Vec::new(), Vec::new());
    for measured in all {
        match measured {
            Measured::Report(report) => reports.push(report),
            Measured::Profile(profile) => profiles.push(profile),
            Measured::Plan(plan) => plans.push(plan),
            Measured::Heads(_) => {
                bail!("a page is made of a report, profiles and a plan: draw the heads as .svg")
            }
        }
    }
    if reports.is_empty() && !profiles.is_empty() && plans.is_empty() {
        return Ok(profiles_page(&profiles));
    }
    let [report] = reports.as_slice() else {
        bail!(
            "a page needs one report of slim verify or slim prune (--report report.json), not {}",
            reports.len()
        );
    };
    Ok(html(report, &profiles, plans.first().map(|plan| &**plan)))
}

fn measured(path: &Path) -> Result<Measured> {
    let found: Value = read_json(path, "report, profile or plan")?;
    let has = |field: &str| found.get(field).is_some();
    Ok(if has("comparison") {
        Measured::Report(read_json(path, "report")?)
    } else if has("heads") {
        Measured::Heads(read_json(path, "profile of heads")?)
    } else if has("layers") {
        Measured::Profile(read_json(path, "profile")?)
    } else if has("keep") && has("n_layers") {
        Measured::Plan(read_json(path, "plan")?)
    } else {
        bail!(
            "{}: neither a report, nor a profile of slim score, nor a plan of slim plan --curve",
            path.display()
        )
    })
}
