//! Compensation: the weights that are written compute what the candidate that was chosen computes, in
//! every architecture; and what is fitted is the least-squares solution.

mod support;

use candle_core::{Device, Tensor};
use slim::arch::{Arch, KeepSet};
use slim::checkpoint::Checkpoint;
use slim::convert::OutType;
use slim::eval::{Candidate, Engine, Mask, Mended, Silent};
use slim::importance::Signals;
use slim::model::{Mend, Model, Run};
use slim::plan::Scope;
use slim::plan::compensation::{Heal, Scales, cuts, edits, fit};
use slim::prune::{Request, write};
use std::path::Path;
use support::{REFUSED, golden_cases, relative_error};

fn load(path: &Path) -> (Checkpoint, Model) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let model = Model::load(&checkpoint, &Device::Cpu, |_, _| {}).unwrap();
    (checkpoint, model)
}

fn texts(model: &Model, n: usize) -> Vec<[Candidate; 1]> {
    let mut random = fastrand::Rng::with_seed(3);
    let vocab_size = model.config().vocab_size as u32;
    let mut token = || random.u32(0..vocab_size);
    let mut text = || {
        [Candidate {
            prompt: [token()].into(),
            tokens: (0..24).map(|_| token()).collect(),
        }]
    };
    (0..n).map(|_| text()).collect()
}

fn scales(model: &Model, texts: &[[Candidate; 1]]) -> Scales {
    let engine = Engine::new(model);
    let signals = Signals::of(&engine, texts, model.n_layers(), &Silent).unwrap();
    Scales::new(signals.magnitudes, model)
}

/// Logits of a text under a candidate, [tokens, vocab_size].
fn logits(model: &Model, mask: &impl Mask, tokens: &[u32]) -> Tensor {
    let frame = model.frame(Run::after(0, tokens.len())).unwrap();
    let mut hidden = model.embed(tokens).unwrap();
    for layer in 0..model.n_layers() {
        let form = mask.form(layer);
        if !form.is_gone() {
            hidden = model.layer_as(layer, form, &hidden, &frame, None).unwrap();
        }
    }
    model.logits(&hidden.squeeze(0).unwrap()).unwrap()
}

/// A set with a cut between kept layers that the pattern allows.
fn with_cut(checkpoint: &Checkpoint, n_layers: usize) -> Option<KeepSet> {
    let arch = Arch::of(checkpoint).unwrap();
    let layers = arch.layers(checkpoint).unwrap();
    let scope = Scope::new(&layers, true);
    // Late layers are dear, so that one in the middle goes.
    let costs: Vec<f64> = (0..n_layers).map(|l| (l as f64 - 1.4).abs()).collect();
    let sets = scope.depths().into_iter();
    let mut sets = sets.filter_map(|size| scope.cheapest(&costs, size));
    sets.find(|keep| !cuts(keep).is_empty())
}

#[test]
fn what_is_written_computes_what_was_chosen_in_every_architecture() {
    let folder = tempfile::tempdir().unwrap();
    let (mut compared, mut linear, mut norms) = (0, 0, 0);
    for (name, path) in golden_cases() {
        if name.ends_with(REFUSED) {
            continue;
        }
        let (checkpoint, model) = load(&path);
        let Some(keep) = with_cut(&checkpoint, model.n_layers()) else {
            continue;
        };
        let texts = texts(&model, 16);
        let scales = scales(&model, &texts);
        let fitted = fit(&model, &keep, &texts, &scales, &Silent).unwrap();
        for (way, mended) in [("scale", scales.mend(&keep)), ("linear", fitted.mended)] {
            for mend in mended.mends.values() {
                linear += usize::from(matches!(**mend, Mend::Linear(_)));
                norms += usize::from(matches!(**mend, Mend::Norm(_)));
            }
            if mended.mends.is_empty() {
                // Layers that see the scale of the state have no place for a factor.
                assert!(way == "scale" && !model.has_norms_before(), "{name}");
                continue;
            }
            let arch = Arch::of(&checkpoint).unwrap();
            let edits = edits(&checkpoint, arch, &mended).unwrap();
            assert!(!edits.is_empty(), "{name} {way}");
            let target = folder.path().join(format!("{}-{way}", compared));
            let written = write(
                &Request {
                    edits: &edits,
                    outtype: OutType::Only(slim::checkpoint::DType::F32),
                    source_digest: false,
                    ..Request::new(&checkpoint, &keep, &target)
                },
                &|_| {},
            );
            let (_, pruned) = load(&written.unwrap());
            let tokens = &texts[0][0].tokens;
            let ours = logits(&pruned, &KeepSet::all(keep.len()), tokens);
            let chosen = logits(&model, &mended, tokens);
            let error = relative_error(&ours, &chosen);
            assert!(error < 1e-3, "{name} {way}: {error}");
            // And it is another model than the bare one.
            let bare = logits(&model, &keep, tokens);
            assert!(
                relative_error(&chosen, &bare) > 10.0 * error,
                "{name} {way}"
            );
            compared += 1;
        }
    }
    assert!(
        compared >= 20 && linear >= 5 && norms >= 2,
        "{compared} {linear} {norms}"
    );
}

#[test]
fn a_map_leaves_on_other_texts_the_share_missing_that_is_reported() {
    let (_, model) = load(&support::village());
    let texts = texts(&model, 200);
    let scales = scales(&model, &texts);
    let keep = KeepSet::without(model.n_layers(), &[3, 4]).unwrap();
    let fitted = fit(&model, &keep, &texts, &scales, &Silent).unwrap();
    let [cut] = fitted.cuts.as_slice() else {
        panic!("one cut");
    };
    assert_eq!(
        (cut.after, cut.gone.as_slice(), cut.heal),
        (2, &[3, 4][..], Heal::Linear)
    );
    let residual = cut.residual.unwrap();
    // The distance of the states behind the cut, on other texts, with and without the map.
    let distance = |mended: &Mended| {
        let mut sums = (0.0, 0.0);
        for text in &self::texts(&model, 230)[200..] {
            let tokens = &text[0].tokens;
            let frame = model.frame(Run::after(0, tokens.len())).unwrap();
            let mut original = model.embed(tokens).unwrap();
            let mut pruned = original.clone();
            for layer in 0..5 {
                original = model.layer(layer, &original, &frame).unwrap();
                let form = mended.form(layer);
                if !form.is_gone() {
                    pruned = model.layer_as(layer, form, &pruned, &frame, None).unwrap();
                }
            }
            let missing = (&original - &pruned).unwrap();
            // Behind the first token, as in the fit.
            let rows = missing.narrow(1, 1, tokens.len() - 1).unwrap();
            let squares = rows.sqr().unwrap().sum_all().unwrap();
            sums.0 += f64::from(squares.to_scalar::<f32>().unwrap());
            sums.1 += 1.0;
        }
        (sums.0 / sums.1).sqrt()
    };
    let bare = Mended {
        keep: keep.clone(),
        mends: Default::default(),
    };
    let ratio = distance(&fitted.mended) / distance(&bare);
    assert!(ratio < 0.9, "{ratio}");
    assert!((ratio - residual).abs() < 0.1, "{ratio} {residual}");
}
