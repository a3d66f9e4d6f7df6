//! Both models of a healing: what is missing in one, and how it is made ready to train.

use super::super::note;
use super::super::progress::Bar;
use super::Train;
use crate::arch::Arch;
use crate::checkpoint::Checkpoint;
use crate::convert::vocabulary::{TextTokenizer, runnable};
use crate::eval::Progress;
use crate::heal::Cuts;
use crate::model::{Compute, Model, Resources, Trainable, Trained};
use crate::plan::Plan;
use crate::plan::compensation::Heal;
use crate::prune::Provenance;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// Copies of what trains that are in memory beside the first: gradients, two moments, the best.
const COPIES: u64 = 4;

/// Both models, what is missing in one, and what is trained.
pub(super) struct Pair {
    pub(super) original: Checkpoint,
    pub(super) pruned: Checkpoint,
    pub(super) cuts: Cuts,
    pub(super) train: Train,
}

/// What is missing in the pruned model, as far as it says so.
pub(super) fn cuts(original: &Checkpoint, pruned: &Checkpoint) -> Result<Cuts> {
    let layers = |checkpoint: &Checkpoint| Arch::of(checkpoint)?.n_layers(checkpoint);
    let (before, after) = (layers(original)?, layers(pruned)?);
    let name = pruned.path().display();
    let alone = "all layers train, by what comes next alone";
    let Some(provenance) = Provenance::read(pruned) else {
        note(&format!(
            "{name} does not say which layers were kept (slim prune writes that): {alone}"
        ));
        return Ok(Cuts::default());
    };
    if provenance.source_layers != before || provenance.kept.len() != after {
        note(&format!(
            "{name} has {after} layers and says that it comes from a model of {}, but {} has \
             {before}: {alone}",
            provenance.source_layers,
            original.path().display()
        ));
        return Ok(Cuts::default());
    }
    let factors = factors(&provenance);
    let factor = |after: usize| factors.get(&after).copied().unwrap_or(1.0);
    let cuts = Cuts::of(&provenance.kept, before, factor);
    if cuts.is_empty() {
        note(&format!("{name} misses no layer: {alone}"));
    }
    Ok(cuts)
}

/// The factors that make up for cuts, by the layer of the original before each.
fn factors(provenance: &Provenance) -> BTreeMap<usize, f64> {
    let plan = provenance.measured().map(serde_json::from_str::<Plan>);
    let cuts = plan
        .and_then(Result::ok)
        .map_or(Vec::new(), |plan| plan.cuts);
    let scaled = cuts.iter().filter(|cut| cut.heal == Heal::Scale);
    let factors = scaled.filter_map(|cut| Some((cut.after, f64::from(cut.factor?))));
    factors
        .filter(|(_, factor)| factor.is_normal() && *factor > 0.0)
        .collect()
}

/// The tokenizer of both models.
pub(super) fn tokenizer(pair: &Pair) -> Result<TextTokenizer> {
    let read = |checkpoint: &Checkpoint| {
        runnable(checkpoint).with_context(|| format!("{}: tokenizer", checkpoint.path().display()))
    };
    let (theirs, ours) = (read(&pair.original)?, read(&pair.pruned)?);
    let sample = "The quick brown fox, born in 1984, didn't jump: übermäßig 你好 {\"a\": [0.5]}\n";
    ensure!(
        theirs.encode(sample, false)? == ours.encode(sample, false)?,
        "{} and {} split text into different tokens: they are not of the same model",
        pair.original.path().display(),
        pair.pruned.path().display()
    );
    Ok(ours)
}

/// The type in which the pruned model's products are made: gradients do not come through rounding.
pub(super) fn learning(half: &Resources) -> Compute {
    match half.device.is_cpu() {
        true => Compute::F32,
        false => half.compute,
    }
}

/// The pruned model, ready to train.
pub(super) fn student(pair: &Pair, half: &Resources, progress: &Bar) -> Result<Trainable> {
    let resources = Resources {
        graph: true,
        compute: learning(half),
        ..half.clone()
    };
    let n_layers = Arch::of(&pair.pruned)?.n_layers(&pair.pruned)?;
    progress.begin("loading", n_layers as u64);
    let model = Model::open(&pair.pruned, &resources, |_, _| progress.advance(1))?;
    ensure!(
        !model.is_streamed(),
        "a model that trains must be in memory whole, with its original in the other half: {} MiB \
         are too few; give more --memory",
        half.memory >> 19
    );
    let room = model.room();
    let student = model.into_trainable(|layer| match pair.train {
        Train::Cuts => pair.cuts.trained(layer),
        Train::All => Trained::All,
    })?;
    let parameters = student.parameters().map(|p| p.var().elem_count() as u64);
    let needed = COPIES * 4 * parameters.sum::<u64>();
    ensure!(
        room >= needed,
        "what trains takes {} MiB beside the models, but {} MiB are left of --memory: give more{}",
        needed >> 20,
        room >> 20,
        match pair.train {
            Train::All => ", or --train cuts",
            Train::Cuts => "",
        }
    );
    Ok(student)
}
