//! From what is wished and what was measured to a plan.

use super::budget::{Budget, Point, Size, knee, smallest_retaining};
use super::compensation::{Cut, Fit, Heal, Scales, cuts, fit};
use super::methods::{Choice, Halving, Method, Search, halved};
use super::objective::{Measure, Objective, Preserve};
use super::scope::Scope;
use super::texts::{copied_texts, plain_texts};
use super::trial::Trial;
use super::writing::Writing;
use super::{Plan, SCHEMA_VERSION, measurable};
use crate::arch::{KeepSet, Layers};
use crate::convert::vocabulary::TextTokenizer;
use crate::eval::{Engine, Mended, Progress, Question, digest};
use crate::importance::{Profile, Signals};
use crate::model::{Mend, Model};
use crate::suite::Family;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tokens a channel of the hidden state that a linear map is fitted on, at least, where nobody asks for one.
/// Of some twenty, maps serve other questions of the suite that they were fitted on and harm everything
/// else, which the select split cannot see (docs/findings.md).
const TOKENS_A_CHANNEL: usize = 64;

/// Texts of the search that know no tasks, at most: the papers' few thousand tokens.
const TEXTS: usize = 32;
const FEW_TEXTS: usize = 4;

/// Texts that are said twice, and their tokens.
const COPIES: usize = 8;
const COPIED: usize = 64;

/// Items of each family by which many sets are tried, at most; the best answer all questions.
const FEW_ITEMS: usize = 8;

/// How to choose.
pub struct Wishes<'w> {
    /// What is to be preserved.
    pub preserve: &'w [Preserve],
    /// What the others must retain.
    pub floor: Option<f64>,
    /// What is looked at of an answer.
    pub measure: Measure,
    /// The way.
    pub method: &'static dyn Method,
    /// How missing layers are made up for; absent, whichever serves best.
    pub heal: Option<Heal>,
    /// How deep the result may be.
    pub budget: Budget,
    /// Whether every depth is measured, whatever the budget.
    pub curve: bool,
    /// Whether the first and the last layer may go.
    pub free_ends: bool,
    /// Layers of which a half may go; absent, only whole layers go.
    pub halvable: Option<&'w [usize]>,
    /// Layers or groups tried at each step.
    pub candidates: usize,
    /// Of everything that is drawn.
    pub seed: u64,
    /// Generations of the evolution, at most.
    pub generations: usize,
}

/// What to choose by.
pub struct Material<'m> {
    /// The loaded model.
    pub model: &'m Model,
    /// Its tokenizer.
    pub tokenizer: &'m TextTokenizer,
    /// Its pattern.
    pub layers: &'m Layers<'m>,
    /// What each layer is worth by itself.
    pub profile: &'m Profile,
    /// Questions of the calibrate split: what can be measured, and what cuts are mended by.
    pub calibrate: &'m [Question<'m>],
    /// Questions of the select split.
    pub select: &'m [Question<'m>],
    /// How large a set's output is.
    pub size: &'m dyn Fn(&KeepSet) -> Result<Size>,
}

/// A plan, and the candidate that it describes.
pub struct Chosen {
    /// The plan.
    pub plan: Plan,
    /// The set with what makes up for its cuts.
    pub mended: Mended,
}

/// Measures what methods choose by, and lets them.
///
/// # Errors
/// What the engine or `choose` reports.
pub fn with_search<T>(
    wishes: &Wishes,
    material: &Material,
    progress: &dyn Progress,
    choose: impl FnOnce(&Search) -> Result<T>,
) -> Result<T> {
    let (model, profile) = (material.model, material.profile);
    let n_layers = model.n_layers();
    ensure!(
        profile.layers.len() == n_layers,
        "the profile has {} layers, the model {n_layers}: is it another model's profile?",
        profile.layers.len()
    );
    let counted = measurable(model, material.calibrate, progress)?;
    let objective = Objective::new(wishes.preserve, wishes.measure, counted);
    let objective = objective.with_floor(wishes.floor);
    let counts = |question: &&Question| objective.counts(question.task.family, question.protocol());
    let select: Vec<&Question> = material.select.iter().filter(counts).collect();
    let few_questions = of_first_items(&select, FEW_ITEMS);
    let signals = Signals::of(&Engine::new(model), material.calibrate, n_layers, progress)?;
    let scales = Scales::new(signals.magnitudes.clone(), model);
    let scales = (wishes.heal != Some(Heal::None)).then_some(&scales);
    let texts = plain_texts(material.calibrate, TEXTS);
    let few = &texts[..texts.len().min(FEW_TEXTS)];
    let copied = COPIED.min(model.config().context_length.saturating_sub(1) / 2);
    let copies = match objective.looks_at_copying(&select) {
        true => copied_texts(
            &texts,
            COPIES,
            copied,
            &mut fastrand::Rng::with_seed(wishes.seed),
        ),
        false => Vec::new(),
    };
    let tokenizer = material.tokenizer;
    let jury = Trial::new(model, &select, scales);
    choose(&Search {
        scope: &Scope::new(material.layers, wishes.free_ends),
        profile,
        signals: &signals,
        objective: &objective,
        trial: &Trial::new(model, &few_questions, scales),
        jury: (few_questions.len() < select.len()).then_some(&jury),
        // Bare, as published: slim's own search gives its candidates mended.
        texts: &Trial::new(model, &texts, None),
        few_texts: &Trial::new(model, few, None),
        copies: &Trial::new(model, &copies, None),
        writing: &Writing::new(model, tokenizer, &few_questions, &objective, scales),
        candidates: wishes.candidates,
        generations: wishes.generations,
        seed: wishes.seed,
        progress,
    })
}

/// Chooses the layers that stay.
///
/// # Errors
/// A budget that cannot be met; what the engine reports.
pub fn choose(wishes: &Wishes, material: &Material, progress: &dyn Progress) -> Result<Chosen> {
    // A depth that cannot be is found before any work.
    let scope = Scope::new(material.layers, wishes.free_ends);
    let depth = Depth::of(wishes, &scope, material.size)?;
    with_search(wishes, material, progress, |search| {
        let curve = match depth.needs_curve {
            true => curve(wishes.method, search, material.size)?,
            false => Vec::new(),
        };
        let n_layers = scope.n_layers();
        let (keep, why) = depth.decide(&wishes.budget, &curve, n_layers)?;
        let choice = match keep == n_layers {
            true => Choice {
                keep: KeepSet::all(n_layers),
                steps: Vec::new(),
            },
            false => {
                let chosen = wishes.method.choose(search, &[keep])?;
                chosen.into_iter().next().context("nothing was chosen")?
            }
        };
        let choice = match wishes.halvable {
            None => choice,
            Some(halvable) => {
                let halving = Halving {
                    halvable,
                    size: material.size,
                    budget: &wishes.budget,
                    whole: &choice,
                };
                halved(search, &halving)?
            }
        };
        let fit = mend(wishes.heal, material, search, &choice.keep)?;
        Ok(Chosen {
            plan: Plan {
                schema_version: SCHEMA_VERSION,
                slim: env!("CARGO_PKG_VERSION").to_owned(),
                model: material.profile.model.clone(),
                model_sha256: material.profile.model_sha256.clone(),
                n_layers,
                dropped: choice.keep.dropped(n_layers),
                keep: choice.keep,
                method: wishes.method.name().to_owned(),
                why,
                objective: search.objective.weights().clone(),
                counted: search.objective.counted(),
                fitted_on: needs_fit(&fit.cuts).then(|| digest(material.calibrate)),
                cuts: fit.cuts,
                layer_passes: search.spent(),
                curve,
                steps: choice.steps,
            },
            mended: fit.mended,
        })
    })
}

/// The questions of the first `n` items of each family.
fn of_first_items<'q>(questions: &[&'q Question<'q>], n: usize) -> Vec<&'q Question<'q>> {
    let mut seen: BTreeMap<Family, BTreeSet<(&str, &str)>> = BTreeMap::new();
    let mut first = |question: &&&'q Question<'q>| {
        let seen = seen.entry(question.task.family).or_default();
        let id = (question.task.name.as_str(), question.item.id.as_str());
        seen.contains(&id) || (seen.len() < n && seen.insert(id))
    };
    questions
        .iter()
        .filter(|question| first(question))
        .copied()
        .collect()
}

/// What is known of the depth before anything is measured.
struct Depth {
    keep: Option<usize>,
    why: Option<String>,
    needs_curve: bool,
}

impl Depth {
    fn of(wishes: &Wishes, scope: &Scope, size: &dyn Fn(&KeepSet) -> Result<Size>) -> Result<Self> {
        let known = |keep, why| Self {
            keep: Some(keep),
            why,
            needs_curve: wishes.curve,
        };
        let whole = KeepSet::all(scope.n_layers());
        let within = |what: &str, fits: &dyn Fn(&Size) -> bool| -> Result<Self> {
            let costs = vec![0.0; scope.n_layers()];
            let sets = scope.depths().into_iter();
            let sets = sets.filter_map(|depth| scope.cheapest(&costs, depth));
            let mut smallest = None;
            for set in std::iter::once(whole.clone()).chain(sets) {
                let found = size(&set)?;
                if fits(&found) {
                    let why = format!("{} layers are the most that {what}", set.len());
                    return Ok(known(set.len(), Some(why)));
                }
                smallest = Some((set.len(), found));
            }
            let (layers, found) = smallest.context("the model has no layers")?;
            anyhow::bail!(
                "of the depths that can be, none {what}: the fewest layers, {layers}, have {} bytes, {} parameters and {:.2} times the speed; allow more, or choose a smaller --outtype",
                found.bytes,
                found.params,
                found.speedup
            )
        };
        match wishes.budget {
            Budget::Keep(keep) => {
                scope.check(keep)?;
                Ok(known(keep, None))
            }
            Budget::Bytes(most) => within(&format!("fit {most} bytes"), &|s| s.bytes <= most),
            Budget::Params(most) => {
                within(&format!("fit {most} parameters"), &|s| s.params <= most)
            }
            Budget::Speedup(least) => within(&format!("are {least} times as fast"), &|s| {
                s.speedup >= least
            }),
            Budget::Retention(_) | Budget::Knee => Ok(Self {
                keep: None,
                why: None,
                needs_curve: true,
            }),
        }
    }

    fn decide(
        self,
        budget: &Budget,
        curve: &[Point],
        n_layers: usize,
    ) -> Result<(usize, Option<String>)> {
        if let Some(keep) = self.keep {
            return Ok((keep, self.why));
        }
        if let Budget::Retention(wanted) = budget {
            let keep = smallest_retaining(curve, wanted).unwrap_or(n_layers);
            ensure!(
                keep < n_layers,
                "no depth retains that on the select split: `slim plan --curve` shows what each retains"
            );
            let why = format!("{keep} layers are the fewest down to which that is retained");
            return Ok((keep, Some(why)));
        }
        let Some(knee) = knee(curve) else {
            anyhow::bail!(
                "the curve of loss over depth has no knee: say how many layers stay, with --keep"
            );
        };
        let why = format!(
            "the curve bends at {} layers: up to there a layer costs {:.3} nats, from there on {:.3}",
            knee.keep, knee.before, knee.after
        );
        Ok((knee.keep, Some(why)))
    }
}

/// Every depth, measured; the whole model first.
fn curve(
    method: &dyn Method,
    search: &Search,
    size: &dyn Fn(&KeepSet) -> Result<Size>,
) -> Result<Vec<Point>> {
    let mut sets = vec![KeepSet::all(search.scope.n_layers())];
    let depths = search.scope.depths();
    sets.extend(
        method
            .curve(search, &depths)?
            .into_iter()
            .map(|choice| choice.keep),
    );
    search.progress.begin(
        "measuring every depth",
        search.all().work(&sets) + search.copies.work(&sets),
    );
    let masks: Vec<Mended> = sets.iter().map(|set| search.all().mended(set)).collect();
    let found = search.judged(search.all(), &masks, search.progress)?;
    let point = |(keep, (loss, retained)): (KeepSet, (super::objective::Loss, BTreeMap<_, _>))| {
        Ok(Point {
            size: size(&keep)?,
            keep,
            loss: loss.total,
            retained,
        })
    };
    sets.into_iter().zip(found).map(point).collect()
}

/// Mends the cuts as it is wished; where nothing is wished, in the way that loses least on the select
/// split. A linear map is tried only with enough tokens for it.
pub fn mend(
    heal: Option<Heal>,
    material: &Material,
    search: &Search,
    keep: &KeepSet,
) -> Result<Fit> {
    let scales = Scales::new(search.signals.magnitudes.clone(), material.model);
    let linear = || {
        fit(
            material.model,
            keep,
            material.calibrate,
            &scales,
            search.progress,
        )
    };
    let plain = || Fit {
        mended: Mended {
            keep: keep.clone(),
            mends: BTreeMap::new(),
        },
        cuts: Vec::new(),
    };
    match heal {
        Some(Heal::None) => return Ok(plain()),
        Some(Heal::Scale) => return Ok(scaled(&scales, keep)),
        Some(Heal::Linear) => return linear(),
        None if cuts(keep).is_empty() => return Ok(plain()),
        None => {}
    }
    let mut fits = vec![plain(), scaled(&scales, keep)];
    let tokens = Engine::new(material.model).tokens(material.calibrate);
    if tokens >= TOKENS_A_CHANNEL * material.model.config().hidden_size {
        fits.push(linear()?);
    }
    let masks: Vec<Mended> = fits.iter().map(|fit| fit.mended.clone()).collect();
    // On the select split alone: the plain text is what a map was fitted on.
    let losses = search.judged(search.all(), &masks, search.progress)?;
    let fits = fits
        .into_iter()
        .zip(losses.into_iter().map(|(loss, _)| loss.total));
    let best = fits.min_by(|a, b| a.1.total_cmp(&b.1));
    Ok(best.context("nothing was tried")?.0)
}

fn scaled(scales: &Scales, keep: &KeepSet) -> Fit {
    let cut = |(after, gone): (usize, std::ops::Range<usize>)| {
        let factor = scales.factor(&gone);
        Cut {
            after,
            heal: factor.map_or(Heal::None, |_| Heal::Scale),
            factor,
            residual: None,
            gone: gone.collect(),
        }
    };
    Fit {
        mended: scales.mend(keep),
        cuts: cuts(keep).into_iter().map(cut).collect(),
    }
}

impl Plan {
    /// The candidate that a plan describes; its linear maps are fitted anew, on the calibrate
    /// questions that it was made with.
    ///
    /// # Errors
    /// What the model reports.
    pub fn mended(
        &self,
        model: Option<&Model>,
        calibrate: &[Question],
        progress: &dyn Progress,
    ) -> Result<Mended> {
        if let Some(model) = model.filter(|_| self.needs_fit()) {
            ensure!(
                self.fitted_on.as_ref() == Some(&digest(calibrate)),
                "the plan's linear maps were fitted on other questions: give the options that it was \
                 made with (--suite, --tasks, --protocols), or plan again"
            );
            let engine = Engine::new(model);
            let signals = Signals::of(&engine, calibrate, model.n_layers(), progress)?;
            let scales = Scales::new(signals.magnitudes, model);
            return Ok(fit(model, &self.keep, calibrate, &scales, progress)?.mended);
        }
        let scale = |cut: &Cut| Some((cut.after, Arc::new(Mend::Scale(cut.factor?))));
        Ok(Mended {
            keep: self.keep.clone(),
            mends: self.cuts.iter().filter_map(scale).collect(),
        })
    }

    /// Whether linear maps make up for cuts: the plan does not hold them.
    pub fn needs_fit(&self) -> bool {
        needs_fit(&self.cuts)
    }
}

fn needs_fit(cuts: &[Cut]) -> bool {
    cuts.iter().any(|cut| cut.heal == Heal::Linear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{Split, Suite};

    #[test]
    fn a_few_items_are_the_first_of_each_family_under_all_protocols() {
        let suite = Suite::embedded();
        let asked = |per_family: usize| -> Vec<Question> {
            let sample = suite.sample(Split::Select, per_family);
            let asks = sample.into_iter().flat_map(|(task, item)| {
                item.asks.iter().map(move |ask| Question {
                    task,
                    item,
                    ask,
                    text: String::new(),
                    candidates: Vec::new(),
                    prompt: Vec::new(),
                    truncated: 0,
                })
            });
            asks.collect()
        };
        let name = |q: &Question| format!("{}/{}/{}", q.task.name, q.item.id, q.protocol());
        let (many, few) = (asked(3), asked(2));
        let many: Vec<&Question> = many.iter().collect();
        let names = |found: Vec<&Question>| found.into_iter().map(name).collect::<Vec<_>>();
        assert_eq!(names(of_first_items(&many, 2)), names(few.iter().collect()));
        assert_eq!(of_first_items(&many, 3).len(), many.len());
    }
}
