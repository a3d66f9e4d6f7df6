//! slim's own way of choosing, held against what the cheap ways choose.

mod support;

use anyhow::bail;
use candle_core::Device;
use slim::arch::{Arch, KeepSet};
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::runnable;
use slim::eval::{Asking, Question, Silent, questions};
use slim::importance::{Profile, Run, SAMPLES_VERSION, Samples, Scoring, Shard};
use slim::model::Model;
use slim::plan::compensation::Heal;
use slim::plan::{Budget, Material, Measure, Wishes, method, with_search};
use slim::suite::harness::Options;
use slim::suite::{Protocol, Split, Suite};
use support::village;

fn profile(model: &Model, asked: &[Question]) -> Profile {
    let scoring = Scoring::new(model, &[], asked);
    let run = Run {
        schema_version: SAMPLES_VERSION,
        slim: String::new(),
        shard: Shard::WHOLE,
        model: String::new(),
        model_sha256: String::new(),
        n_layers: scoring.n_layers(),
        compute: String::new(),
        suite: String::new(),
        items_per_family: asked.len(),
        asked: String::new(),
        portions: scoring.tokens(),
    };
    let mut samples = Samples::default();
    scoring
        .measure(Shard::WHOLE, &mut samples, &Silent)
        .unwrap();
    run.profile(samples).unwrap()
}

#[test]
fn by_all_questions_the_chosen_set_loses_no_more_than_any_cheap_methods_set() {
    let checkpoint = Checkpoint::open(&village()).unwrap();
    let model = Model::load(&checkpoint, &Device::Cpu, |_, _| {}).unwrap();
    let tokenizer = runnable(&checkpoint).unwrap();
    let suite = Suite::open(village().join("suite"), &Options::default()).unwrap();
    let asking = Asking {
        tokenizer: &tokenizer,
        context_length: model.config().context_length,
        chat: None,
    };
    let ask = |split, per_family| {
        // No texts are written: likelihood alone decides.
        let asked = suite.sample(split, per_family);
        questions(&asked, &[Protocol::Continuation], &asking).unwrap()
    };
    let (calibrate, select) = (ask(Split::Calibrate, 2), ask(Split::Select, 16));
    let layers = Arch::of(&checkpoint).unwrap().layers(&checkpoint).unwrap();
    let material = Material {
        model: &model,
        tokenizer: &tokenizer,
        layers: &layers,
        profile: &profile(&model, &calibrate),
        calibrate: &calibrate,
        select: &select,
        size: &|_: &KeepSet| bail!("sizes are not asked for"),
    };
    for (preserve, sizes) in [("", [6, 5, 4, 3]), ("retrieval", [6, 5, 4, 3])] {
        let preserve: Vec<_> = preserve.parse().into_iter().collect();
        let wishes = Wishes {
            preserve: &preserve,
            floor: None,
            measure: Measure::Both,
            method: method("iterative").unwrap(),
            heal: Some(Heal::None),
            budget: Budget::Knee,
            curve: false,
            free_ends: false,
            halvable: None,
            candidates: 1,
            seed: 0,
            generations: 1,
        };
        with_search(&wishes, &material, &Silent, |search| {
            assert!(search.trial.len() < search.jury.len());
            let loss = |name: &str| {
                let chosen = method(name).unwrap().choose(search, &sizes)?;
                let sets: Vec<KeepSet> = chosen.into_iter().map(|choice| choice.keep).collect();
                let losses = search.losses(search.jury, &sets, &Silent)?;
                anyhow::Ok(
                    losses
                        .into_iter()
                        .map(|loss| loss.total)
                        .collect::<Vec<f64>>(),
                )
            };
            let own = loss("iterative")?;
            for name in ["influence", "ablation", "perplexity", "clusters"] {
                for ((size, own), other) in sizes.iter().zip(&own).zip(loss(name)?) {
                    assert!(*own <= other + 1e-9, "{size} layers: {own}, {name} {other}");
                }
            }
            Ok(())
        })
        .unwrap();
    }
}
