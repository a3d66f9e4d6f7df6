//! Choosing, with every method.

use super::Choice;
use super::subject::Subject;
use anyhow::{Context, Result, bail, ensure};
use slim::arch::{Arch, KeepSet};
use slim::convert::quantise::Quantise;
use slim::convert::{OutType, Target};
use slim::eval::{Question, Silent};
use slim::importance::{Profile, Run, SAMPLES_VERSION, Samples, Scoring, Shard};
use slim::plan;
use slim::plan::compensation::Heal;
use slim::plan::{
    Budget, Halving, METHODS, Material, Measure, Method, Preserve, Search, Size, Wishes, halved,
    mend, method, with_search,
};
use slim::prune::planned;
use slim::suite::{Family, Split};
use std::time::Instant;

/// slim's own method.
const OWN: &str = "iterative";

pub fn run(subject: &Subject) -> Result<()> {
    let list = |key: &str| subject.keys.get(key).map(|value| value.split(','));
    let depths = list("keep").context("keep=22,15")?.map(str::parse);
    let depths: Vec<usize> = depths.collect::<Result<_, _>>()?;
    let families: Vec<String> = match subject.keys.get("preserve") {
        None => vec![String::new()],
        Some(&"cross") => {
            let all = Family::ALL.iter().map(ToString::to_string);
            all.chain([String::new()]).collect()
        }
        Some(family) => vec![(*family).to_owned()],
    };
    let methods: Vec<&dyn Method> = match list("methods") {
        None => METHODS.to_vec(),
        Some(mut names) => names.try_fold(Vec::new(), |mut all, name| {
            all.push(method(name).with_context(|| format!("no method {name}"))?);
            anyhow::Ok(all)
        })?,
    };
    let seeds: Vec<u64> = match list("seeds") {
        None => vec![0],
        Some(seeds) => seeds.map(str::parse).collect::<Result<_, _>>()?,
    };
    for seed in seeds {
        let calibrate = subject.drawn(Split::Calibrate, subject.number("calibrate", 16), seed)?;
        let select = subject.drawn(Split::Select, subject.number("select", 40), seed)?;
        let draw = Draw {
            subject,
            seed,
            profile: profile(subject, &calibrate)?,
            calibrate,
            select,
        };
        for family in &families {
            draw.choose(family, &depths, &methods)?;
        }
    }
    Ok(())
}

/// A seed's items and what they say of every layer.
struct Draw<'s> {
    subject: &'s Subject<'s>,
    seed: u64,
    profile: Profile,
    calibrate: Vec<Question<'s>>,
    select: Vec<Question<'s>>,
}

impl Draw<'_> {
    fn choose(
        &self,
        family: &str,
        depths: &[usize],
        methods: &[&'static dyn Method],
    ) -> Result<()> {
        let preserve: Vec<Preserve> = match family {
            "" => Vec::new(),
            one => vec![one.parse()?],
        };
        let Subject {
            model, tokenizer, ..
        } = self.subject;
        let layers = Arch::of(&self.subject.checkpoint)?.layers(&self.subject.checkpoint)?;
        let material = Material {
            model,
            tokenizer,
            layers: &layers,
            profile: &self.profile,
            calibrate: &self.calibrate,
            select: &self.select,
            size: &|_: &KeepSet| bail!("sizes are not asked for") as Result<Size>,
        };
        type All = Vec<&'static dyn Method>;
        let own = |method: &&'static dyn Method| method.name() == OWN;
        let (own, others): (All, All) = methods.iter().copied().partition(own);
        // What slim's own method is measured with must not help the others.
        for (methods, heal) in [(own, None), (others, Some(Heal::None))] {
            if methods.is_empty() {
                continue;
            }
            with_search(
                &self.wishes(&preserve, heal),
                &material,
                &Silent,
                |search| {
                    for method in methods {
                        for line in self.lines(method, family, depths, search, &material)? {
                            println!("{}", serde_json::to_string(&line)?);
                        }
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }

    fn wishes<'w>(&self, preserve: &'w [Preserve], heal: Option<Heal>) -> Wishes<'w> {
        Wishes {
            preserve,
            floor: None,
            measure: match self.subject.keys.get("measure") {
                Some(&"answers") => Measure::Answers,
                Some(&"divergence") => Measure::Divergence,
                _ => Measure::Both,
            },
            method: METHODS[0],
            heal,
            budget: Budget::Knee,
            curve: false,
            free_ends: false,
            halvable: None,
            candidates: self.subject.number("candidates", 6),
            seed: self.seed,
            generations: self.subject.number("generations", 24),
        }
    }

    /// One method's sets.
    fn lines(
        &self,
        method: &dyn Method,
        family: &str,
        depths: &[usize],
        search: &Search,
        material: &Material,
    ) -> Result<Vec<Choice>> {
        let name = method.name();
        let known = self.subject.keys.get("whole").filter(|_| name == OWN);
        let (chosen, seconds, layer_passes) = measured(search, || match known {
            Some(path) => self.known(path, family, depths),
            None => method.choose(search, depths),
        })?;
        eprintln!("{name} {family} {}: {seconds:.0} s", self.seed);
        let mut lines = Vec::new();
        for choice in chosen {
            let line = Choice {
                method: name.to_owned(),
                preserve: family.to_owned(),
                seed: self.seed,
                keep: choice.keep.len(),
                set: choice.keep.clone(),
                heal: Heal::None,
                default: true,
                seconds,
                layer_passes,
            };
            if name != OWN {
                lines.push(line);
                continue;
            }
            lines.extend(mended(&line, search, material)?);
            if self.subject.keys.contains_key("halves") {
                let (set, seconds, layer_passes) =
                    measured(search, || self.halved(search, &choice))?;
                eprintln!("halves {}: {seconds:.0} s", line.keep);
                let halves = Choice {
                    method: "halves".to_owned(),
                    set,
                    seconds,
                    layer_passes,
                    ..line
                };
                lines.extend(mended(&halves, search, material)?);
            }
        }
        Ok(lines)
    }

    /// What slim's own method chose before.
    fn known(&self, path: &str, family: &str, depths: &[usize]) -> Result<Vec<plan::Choice>> {
        let own: Vec<plan::Choice> = Choice::read(path)?
            .into_iter()
            .filter(|line| {
                let drawn = line.seed == self.seed && line.preserve == family;
                drawn && line.method == OWN && line.default && depths.contains(&line.keep)
            })
            .map(|line| plan::Choice {
                keep: line.set,
                steps: Vec::new(),
            })
            .collect();
        ensure!(
            own.len() == depths.len(),
            "{path} has {} of the {} sets: one of each depth for '{family}', seed {}",
            own.len(),
            depths.len(),
            self.seed
        );
        Ok(own)
    }

    /// Half layers in the place of whole ones, with no more parameters.
    fn halved(&self, search: &Search, whole: &plan::Choice) -> Result<KeepSet> {
        let checkpoint = &self.subject.checkpoint;
        let (target, types) = (Target::Gguf, OutType::Keep);
        let size = |keep: &KeepSet| {
            let found = planned(checkpoint, keep, target, types, Quantise::default())?;
            Ok(Size {
                bytes: found.bytes,
                params: found.params,
                speedup: 1.0,
            })
        };
        let halving = Halving {
            halvable: &Arch::of(checkpoint)?.halvable(checkpoint)?,
            size: &size,
            budget: &Budget::Keep(whole.keep.len()),
            whole,
        };
        Ok(halved(search, &halving)?.keep)
    }
}

/// What was chosen, mended in every way.
fn mended(line: &Choice, search: &Search, material: &Material) -> Result<[Choice; 3]> {
    let fit = mend(None, material, search, &line.set)?;
    let by_itself = fit.cuts.first().map_or(Heal::None, |cut| cut.heal);
    let all = [Heal::None, Heal::Scale, Heal::Linear];
    Ok(all.map(|heal| Choice {
        heal,
        default: heal == by_itself,
        ..line.clone()
    }))
}

/// What some work finds, its seconds, and the layer passes of tokens that it took.
fn measured<T>(search: &Search, work: impl FnOnce() -> Result<T>) -> Result<(T, f64, u64)> {
    let (begun, before) = (Instant::now(), search.spent());
    let found = work()?;
    let spent = search.spent() - before;
    Ok((found, begun.elapsed().as_secs_f64(), spent))
}

fn profile(subject: &Subject, questions: &[Question]) -> Result<Profile> {
    let begun = Instant::now();
    let scoring = Scoring::new(&subject.model, &[], questions);
    let run = Run {
        schema_version: SAMPLES_VERSION,
        slim: String::new(),
        shard: Shard::WHOLE,
        model: String::new(),
        model_sha256: String::new(),
        n_layers: scoring.n_layers(),
        compute: String::new(),
        suite: subject.suite.name.clone(),
        items_per_family: questions.len(),
        asked: String::new(),
        portions: scoring.tokens(),
    };
    let mut samples = Samples::default();
    scoring.measure(Shard::WHOLE, &mut samples, &Silent)?;
    eprintln!("profile: {:.0} s", begun.elapsed().as_secs_f64());
    run.profile(samples)
}
