//! slim's own way of choosing.

mod support;

use anyhow::bail;
use candle_core::Device;
use slim::arch::{Arch, KeepSet};
use slim::checkpoint::Checkpoint;
use slim::convert::vocabulary::runnable;
use slim::eval::{Asking, Question, Silent, questions};
use slim::importance::Profile;
use slim::model::Model;
use slim::plan::compensation::Heal;
use slim::plan::{Budget, Material, Measure, Search, Trial, Wishes, method, with_search};
use slim::suite::harness::Options;
use slim::suite::{Family, Protocol, Split, Suite};
use std::process::Command;
use support::village;

/// The fixture's, as a user makes it.
fn profile() -> Profile {
    let slim = Command::new(env!("CARGO_BIN_EXE_slim"))
        .arg("score")
        .arg(village())
        .arg("--suite")
        .arg(village().join("suite"))
        .args(["--calibrate-items", "2", "--json"])
        .output()
        .unwrap();
    serde_json::from_slice(&slim.stdout).unwrap()
}

/// A search over the fixture, by likelihood alone: no texts are written.
fn search(measure: Measure, look: impl FnOnce(&Model, &[Question], &Search)) {
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
        let asked = suite.sample(split, per_family);
        questions(&asked, &[Protocol::Continuation], &asking).unwrap()
    };
    let (calibrate, select) = (ask(Split::Calibrate, 2), ask(Split::Select, 16));
    let layers = Arch::of(&checkpoint).unwrap().layers(&checkpoint).unwrap();
    let material = Material {
        model: &model,
        tokenizer: &tokenizer,
        layers: &layers,
        profile: &profile(),
        calibrate: &calibrate,
        select: &select,
        size: &|_: &KeepSet| bail!("sizes are not asked for"),
    };
    let wishes = Wishes {
        preserve: &[],
        floor: None,
        measure,
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
        look(&model, &select, search);
        Ok(())
    })
    .unwrap();
}

#[test]
fn of_the_best_sets_that_few_questions_know_all_questions_choose() {
    search(Measure::Both, |model, select, search| {
        let of = |family| {
            let of_family = |question: &&Question| question.task.family == family;
            select.iter().filter(of_family).collect::<Vec<_>>()
        };
        // The same few questions try the sets, and others have the last word: of one family, or of another.
        let families = [Family::Knowledge, Family::Language].map(of);
        let few = of(Family::Reasoning);
        let trial = Trial::new(model, &few[..4], None);
        let juries = [0, 1].map(|i| Trial::new(model, &families[i], None));
        let chosen = |jury| -> Vec<KeepSet> {
            let search = Search {
                trial: &trial,
                jury: Some(jury),
                ..*search
            };
            let own = method("iterative").unwrap();
            let chosen = own.choose(&search, &[6, 5, 4, 3]).unwrap();
            chosen.into_iter().map(|choice| choice.keep).collect()
        };
        let sets = [chosen(&juries[0]), chosen(&juries[1])];
        assert_ne!(sets[0], sets[1]);
        for (jury, own, other) in [(&juries[0], 0, 1), (&juries[1], 1, 0)] {
            let losses = |i: usize| search.losses(jury, &sets[i], &Silent).unwrap();
            for (own, other) in losses(own).iter().zip(losses(other)) {
                assert!(own.total <= other.total, "{} {}", own.total, other.total);
            }
        }
    });
}

#[test]
fn what_a_set_loses_of_retrieval_is_told_by_copying_unless_only_answers_count() {
    let set = KeepSet::all(8).drop_layers(&[3, 4]);
    search(Measure::Divergence, |_, _, search| {
        let loss = &search
            .losses(search.trial, std::slice::from_ref(&set), &Silent)
            .unwrap()[0];
        let copying = search
            .copies
            .divergences(std::slice::from_ref(&set), &Silent)
            .unwrap()[0];
        assert!(copying > 0.0);
        assert_eq!(loss.families[&Family::Retrieval], copying);
        assert!(loss.families[&Family::Language] != copying);
    });
    search(Measure::Answers, |_, _, search| {
        assert!(search.copies.is_empty());
    });
}

#[test]
fn the_best_sets_are_asked_everything_without_reading_the_texts_again() {
    search(Measure::Both, |model, select, search| {
        let all: Vec<&Question> = select.iter().collect();
        let (trial, jury) = (
            Trial::new(model, &all[..4], None),
            Trial::new(model, &all, None),
        );
        let spent_on_texts = |jury| {
            let search = Search {
                trial: &trial,
                jury,
                ..*search
            };
            let spent = || search.texts.spent() + search.copies.spent();
            let before = spent();
            let own = method("iterative").unwrap();
            own.choose(&search, &[6]).unwrap();
            spent() - before
        };
        // The first time the original reads them, too.
        let first = spent_on_texts(None);
        let without = spent_on_texts(None);
        assert!(first > without && without > 0);
        assert_eq!(spent_on_texts(Some(&jury)), without);
        assert!(jury.spent() > 0);
    });
}

#[test]
fn a_method_makes_the_original_read_only_what_it_compares() {
    search(Measure::Both, |_, _, search| {
        let choose = |name| method(name).unwrap().choose(search, &[6]).unwrap();
        choose("influence");
        assert_eq!(search.spent(), 0);
        choose("perplexity");
        assert!(search.texts.spent() > 0);
        assert_eq!(search.spent(), search.texts.spent());
    });
}
