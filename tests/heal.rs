//! Gradients of healing against slopes, layer by layer and in every architecture that runs.

mod support;

use candle_core::{Device, Tensor};
use slim::arch::{KeepSet, parse_parts};
use slim::checkpoint::Checkpoint;
use slim::heal::{Exercise, Gradients, Hint, Lesson, Next, Original, Student};
use slim::model::{Model, Resources, Trained};
use slim::prune::{Request, write};
use std::path::Path;
use support::{REFUSED, golden_cases, relative_error, village};

const LENGTH: usize = 12;
const HIDDEN_WEIGHT: f64 = 0.5;

fn open(path: &Path, graph: bool) -> Model {
    let resources = Resources {
        graph,
        ..Resources::of(&Device::Cpu)
    };
    Model::open(&Checkpoint::open(path).unwrap(), &resources, |_, _| {}).unwrap()
}

/// Made-up wishes: any distribution over a few tokens and the rest, and any states.
fn lesson(model: &Model, hints: usize, rng: &mut fastrand::Rng) -> Lesson {
    let (vocab_size, width) = (model.config().vocab_size, model.config().hidden_size);
    let mut next = Next {
        k: 4,
        ..Next::default()
    };
    for _ in 0..LENGTH {
        let first = rng.u32(..vocab_size as u32 - 4);
        next.tokens.extend(first..first + 4);
        let shares: Vec<f32> = (0..5).map(|_| 0.1 + rng.f32()).collect();
        let all: f32 = shares.iter().sum();
        next.log_probs
            .extend(shares[..4].iter().map(|s| (s / all).ln()));
        next.rest.push(shares[4] / all);
    }
    let state = |rng: &mut fastrand::Rng| {
        let values: Vec<f32> = (0..LENGTH * width).map(|_| rng.f32() - 0.5).collect();
        Tensor::from_vec(values, (LENGTH, width), &Device::Cpu).unwrap()
    };
    Lesson {
        next,
        states: (0..hints).map(|_| state(rng)).collect(),
        start: None,
        surprise: 0.0,
    }
}

fn exercises(student: &Student, hints: usize) -> Vec<Exercise> {
    let mut rng = fastrand::Rng::with_seed(5);
    let model = student.model().model();
    let vocab_size = model.config().vocab_size as u32;
    let texts: Vec<Vec<u32>> = (0..2)
        .map(|_| (0..LENGTH).map(|_| rng.u32(..vocab_size)).collect())
        .collect();
    let slices: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let starts = student.model().below(&slices).unwrap();
    let exercise = |(at, tokens): (usize, &Vec<u32>)| Exercise {
        tokens: tokens.clone(),
        start: starts.get(at).unwrap(),
        lesson: lesson(model, hints, &mut rng),
    };
    texts.iter().enumerate().map(exercise).collect()
}

fn loss(student: &mut Student, exercises: &[&Exercise]) -> f64 {
    let gap = student.gap(exercises).unwrap();
    gap.divergence + HIDDEN_WEIGHT * gap.distance
}

fn norm(x: &Tensor) -> f64 {
    let square = x.sqr().unwrap().sum_all().unwrap();
    f64::from(square.to_scalar::<f32>().unwrap()).sqrt()
}

/// Along its own gradient the loss must rise as fast as the gradient is long.
fn check_gradients(name: &str, student: &mut Student, exercises: &[&Exercise]) {
    let mut gradients = Gradients::new();
    let told = student
        .learn(exercises, 1.0, HIDDEN_WEIGHT, &mut gradients)
        .unwrap();
    let measured = student.gap(exercises).unwrap();
    let same = |a: f64, b: f64| (a - b).abs() < 1e-3 * a.abs().max(1.0);
    assert!(
        same(told.divergence, measured.divergence),
        "{name}: {told:?} {measured:?}"
    );
    assert!(
        same(told.distance, measured.distance),
        "{name}: {told:?} {measured:?}"
    );
    let parameters: Vec<_> = student.model().parameters().cloned().collect();
    assert_eq!(parameters.len(), gradients.len());
    for (parameter, gradient) in parameters.iter().zip(&gradients) {
        let gradient = gradient.as_ref().expect("every parameter has a gradient");
        let length = norm(gradient);
        assert!(
            length.is_finite() && length > 0.0,
            "{name}: {}",
            parameter.name()
        );
        let values = parameter.var().as_detached_tensor().copy().unwrap();
        let direction = (gradient / length).unwrap();
        let mut at = |by: f64| {
            let moved = (&values + (&direction * by).unwrap()).unwrap();
            parameter.var().set(&moved).unwrap();
            (moved, loss(student, exercises))
        };
        let step = 5e-4 * (told.divergence + HIDDEN_WEIGHT * told.distance) / length;
        // What was rounded off is no part of the way.
        let ((up, above), (down, below)) = (at(step), at(-step));
        let way = ((up - down).unwrap() * &direction).unwrap();
        let way = f64::from(way.sum_all().unwrap().to_scalar::<f32>().unwrap());
        let slope = (above - below) / way;
        parameter.var().set(&values).unwrap();
        assert!(
            (slope - length).abs() < 0.02 * length,
            "{name}, {}: the slope is {slope}, the gradient {length}",
            parameter.name()
        );
    }
}

#[test]
fn gradients_are_slopes_in_every_architecture() {
    let mut cases = golden_cases();
    cases.retain(|(name, _)| name.starts_with("fixtures") && !name.ends_with(REFUSED));
    assert!(cases.len() >= 15);
    for (name, folder) in cases {
        check_model(&name, open(&folder, true));
    }
}

fn check_model(name: &str, model: Model) {
    let last = model.n_layers() - 1;
    let hints = [0, last].map(|pruned| Hint {
        pruned,
        original: 0,
        scale: 1.0,
    });
    let trained = |layer| match layer {
        0 | 1 => Trained::All,
        _ if layer == last => Trained::Norms,
        _ => Trained::Nothing,
    };
    let mut student = Student::new(model.into_trainable(trained).unwrap(), &hints);
    let exercises = exercises(&student, hints.len());
    let exercises: Vec<&Exercise> = exercises.iter().collect();
    check_gradients(name, &mut student, &exercises);
}

#[test]
fn gradients_are_slopes_where_layers_lack_a_half() {
    let source = Checkpoint::open(&village()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let dropped = parse_parts("1:attention,2:mlp,4:attention").unwrap();
    let written = write(
        &Request {
            outtype: "f32".parse().unwrap(),
            source_digest: false,
            ..Request::new(
                &source,
                &KeepSet::without_parts(8, &dropped).unwrap(),
                &scratch.path().join("halves.gguf"),
            )
        },
        &|_| {},
    );
    check_model("halves", open(&written.unwrap(), true));
}

#[test]
fn gradients_go_down_through_what_does_not_train() {
    let trained = |layer| match layer {
        3 => Trained::All,
        5 => Trained::Norms,
        _ => Trained::Nothing,
    };
    let model = open(&village(), true);
    let hint = Hint {
        pruned: 4,
        original: 0,
        scale: 1.0,
    };
    let mut student = Student::new(model.into_trainable(trained).unwrap(), &[hint]);
    assert_eq!(student.model().first(), 3);
    let exercises = exercises(&student, 1);
    let exercises: Vec<&Exercise> = exercises.iter().collect();
    check_gradients("village", &mut student, &exercises);
}

#[test]
fn a_model_has_no_gap_to_itself() {
    let original = open(&village(), false);
    let student = open(&village(), true);
    let hints = [2, 6].map(|layer| Hint {
        pruned: layer,
        original: layer,
        scale: 1.0,
    });
    let student = student.into_trainable(|layer| match layer {
        2.. => Trained::All,
        _ => Trained::Nothing,
    });
    let mut student = Student::new(student.unwrap(), &hints);
    let text: Vec<u32> = (0..40).map(|i| (i * 7) % 600).collect();
    let original = Original::new(&original, &hints, Some(2));
    let lessons = original.lessons(&[&text]).unwrap();
    let mut lesson = lessons.into_iter().next().unwrap();
    let surprise = lesson.surprise;
    let start = lesson.start.take().unwrap();
    let own = student.model().below(&[&text]).unwrap();
    assert!(relative_error(&start, &own.get(0).unwrap()) < 1e-5);
    let exercise = Exercise {
        start,
        tokens: text,
        lesson,
    };
    let gap = student.gap(&[&exercise]).unwrap();
    assert!(gap.divergence.abs() < 1e-3, "{gap:?}");
    assert!(gap.distance < 1e-6, "{gap:?}");
    assert_eq!((gap.tokens, gap.scored), (40, 39));
    assert!((gap.surprise - surprise).abs() < 1e-3, "{gap:?} {surprise}");
}

#[test]
fn the_original_says_what_its_logits_say() {
    let model = open(&village(), false);
    let texts: Vec<Vec<u32>> = [3, 11]
        .map(|by| (0..20).map(|i| (i * by) % 600).collect())
        .into();
    let slices: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let hint = Hint {
        pruned: 0,
        original: 7,
        scale: 1.0,
    };
    let shorter = Hint { scale: 0.5, ..hint };
    let lessons = Original::new(&model, &[hint, shorter], Some(3))
        .lessons(&slices)
        .unwrap();
    let all: Vec<usize> = (0..8).collect();
    for (text, lesson) in texts.iter().zip(lessons) {
        let logits = model.forward(text, &all).unwrap().to_vec2::<f32>().unwrap();
        let Next {
            k,
            tokens,
            log_probs,
            rest,
        } = &lesson.next;
        assert_eq!((*k, rest.len(), tokens.len()), (512, 20, 20 * 512));
        let mut surprise = 0.0;
        for (row, logits) in logits.iter().enumerate() {
            let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let log_p = |token: usize| f64::from(logits[token]) - sum.ln();
            let places = row * k..(row + 1) * k;
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
            let mut likeliest = order[..*k].to_vec();
            likeliest.sort_unstable();
            assert_eq!(tokens[places.clone()], likeliest);
            for (&token, &found) in likeliest.iter().zip(&log_probs[places]) {
                assert!((log_p(token as usize) - f64::from(found)).abs() < 1e-4);
            }
            let others: f64 = order[*k..].iter().map(|&t| log_p(t as usize).exp()).sum();
            assert!((others - f64::from(rest[row])).abs() < 2e-6, "{others}");
            surprise -= text.get(row + 1).map_or(0.0, |&next| log_p(next as usize));
        }
        assert!((surprise - lesson.surprise).abs() < 1e-3);
        assert_eq!(lesson.states[0].dims(), [20, 128]);
        let half = (&lesson.states[0] * 0.5).unwrap();
        assert_eq!(relative_error(&lesson.states[1], &half), 0.0);
    }
}
