//! slim's own way of choosing.

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
use slim::plan::{Budget, Material, Measure, Search, Trial, Wishes, method, with_search};
use slim::suite::harness::Options;
use slim::suite::{Family, Protocol, Split, Suite};
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
fn of_the_best_sets_that_few_questions_know_all_questions_choose() {
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
    let wishes = Wishes {
        preserve: &[],
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
        let of = |family| {
            let of_family = |question: &&Question| question.task.family == family;
            select.iter().filter(of_family).collect::<Vec<_>>()
        };
        // The same few questions try the sets, and others have the last word: of one family, or of another.
        let families = [Family::Knowledge, Family::Language].map(of);
        let few = of(Family::Reasoning);
        let trial = |asked| Trial::new(&model, asked, None, &Silent).unwrap();
        let trials = [trial(&families[0]), trial(&families[1])];
        let sizes = [6, 5, 4, 3];
        let chosen = |jury| {
            let search = Search {
                trial: &trial(&few[..4]),
                jury,
                ..*search
            };
            let chosen = method("iterative").unwrap().choose(&search, &sizes)?;
            anyhow::Ok(chosen.into_iter().map(|choice| choice.keep).collect())
        };
        let sets: [Vec<KeepSet>; 2] = [chosen(&trials[0])?, chosen(&trials[1])?];
        assert_ne!(sets[0], sets[1]);
        for (jury, (own, other)) in [(0, (0, 1)), (1, (1, 0))] {
            let losses = |i: usize| search.losses(&trials[jury], &sets[i], &Silent).unwrap();
            for (own, other) in losses(own).iter().zip(losses(other)) {
                assert!(own.total <= other.total, "{} {}", own.total, other.total);
            }
        }
        Ok(())
    })
    .unwrap();
}
