//! Which share of a run falls to this process, where a scheduler knows it.

use crate::importance::Shard;
use anyhow::{Context, Result, ensure};
use std::str::FromStr;

/// `--shard`, as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish {
    /// `3/16`
    This(Shard),
    /// `auto`, or `auto/16`
    Auto { count: Option<usize> },
}

/// One process of how many, from 0.
struct Rank {
    rank: usize,
    count: usize,
}

/// The process's environment, or a test's.
type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

impl FromStr for Wish {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some(rest) = text.strip_prefix("auto") else {
            return Ok(Self::This(text.parse()?));
        };
        let count = rest.strip_prefix('/').map(str::parse::<usize>).transpose();
        let count = count
            .ok()
            .filter(|count| rest.is_empty() || count.is_some());
        let count = count.filter(|count| *count != Some(0));
        let what =
            || format!("'{text}' is no shard: 3/16 is the third of sixteen; auto, or auto/16");
        Ok(Self::Auto {
            count: count.with_context(what)?,
        })
    }
}

impl Wish {
    /// The shard, and where it was read.
    pub(super) fn find(self, env: Env) -> Result<(Shard, Option<&'static str>)> {
        let wanted = match self {
            Self::This(shard) => return Ok((shard, None)),
            Self::Auto { count } => count,
        };
        let (found, by) = match (slurm(env)?, number(env, KUBERNETES)?, wanted) {
            (Some(found), ..) => (found, "Slurm"),
            (None, Some(rank), Some(count)) => (Rank { rank, count }, "Kubernetes"),
            (None, Some(rank), None) => anyhow::bail!(
                "--shard auto: Kubernetes says that this is pod {rank} ({KUBERNETES}), but not of how \
                 many. Give the job's completions, as --shard auto/16"
            ),
            (None, None, _) => anyhow::bail!(
                "--shard auto: this is no task of a Slurm array or step and no pod of an indexed \
                 Kubernetes job. Name the shard, as --shard 3/16"
            ),
        };
        ensure!(
            found.count > 1 || wanted.is_some(),
            "--shard auto: {by} runs a single task, which may be the whole run, or one shard of an \
             array that is submitted again. Say which, as --shard auto/1 or --shard 3/16"
        );
        if let Some(wanted) = wanted {
            ensure!(
                wanted == found.count,
                "--shard auto/{wanted}: {by} runs {} task(s), not {wanted}, and does not say which \
                 shard this is. Name it, as --shard {}/{wanted}",
                found.count,
                wanted.min(3)
            );
        }
        ensure!(
            found.rank < found.count,
            "--shard auto/{0}: this is the pod of index {1}, but {0} pods have the indices 0 to {2}. \
             Give the job's completions",
            found.count,
            found.rank,
            found.count - 1
        );
        Ok((Shard::new(found.rank + 1, found.count)?, Some(by)))
    }
}

/// A pod's index in an indexed job, from 0.
const KUBERNETES: &str = "JOB_COMPLETION_INDEX";

/// The tasks of a job array, and the processes that `srun` started in each.
fn slurm(env: Env) -> Result<Option<Rank>> {
    Ok(match (array(env)?, step(env)?) {
        (Some(array), Some(step)) => Some(Rank {
            rank: array
                .rank
                .saturating_mul(step.count)
                .saturating_add(step.rank),
            count: array.count.saturating_mul(step.count),
        }),
        (array, step) => array.or(step),
    })
}

fn array(env: Env) -> Result<Option<Rank>> {
    let Some(id) = number(env, "SLURM_ARRAY_TASK_ID")? else {
        return Ok(None);
    };
    let part = |what: &str| {
        let name = format!("SLURM_ARRAY_TASK_{what}");
        let found = number(env, &name)?;
        found.with_context(|| format!("--shard auto: {name} is not set; name the shard, as 3/16"))
    };
    let (min, max, count) = (part("MIN")?, part("MAX")?, part("COUNT")?);
    let step = number(env, "SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
    let of = |id: usize| id.checked_sub(min).map(|above| above / step);
    let rank = of(id).filter(|rank| *rank < count);
    // The ids of 1,4,9 say nothing of the places: only those without gaps do.
    let whole = of(max).is_some_and(|last| last + 1 == count);
    let rank = rank.filter(|_| whole).with_context(|| {
        format!(
            "--shard auto: of the {count} task(s) of Slurm's array between {min} and {max}, which \
             shard task {id} has cannot be told. Number the array without gaps, as --array=1-16, or \
             name the shard, as --shard 3/16"
        )
    })?;
    Ok(Some(Rank { rank, count }))
}

/// The process of a step of several; a batch script itself is none.
fn step(env: Env) -> Result<Option<Rank>> {
    let rank = number(env, "SLURM_PROCID")?;
    let count = number(env, "SLURM_STEP_NUM_TASKS")?;
    Ok(rank.zip(count).map(|(rank, count)| Rank { rank, count }))
}

fn number(env: Env, name: &str) -> Result<Option<usize>> {
    let Some(text) = env(name) else {
        return Ok(None);
    };
    let number = text.parse();
    number
        .map(Some)
        .with_context(|| format!("--shard auto: {name} is '{text}', which is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(wish: &str, variables: &str) -> Result<String, String> {
        let env = |name: &str| {
            let mut pairs = variables
                .split_whitespace()
                .filter_map(|v| v.split_once('='));
            let found = pairs.find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_owned())
        };
        let wish = wish.parse::<Wish>();
        let found = wish.and_then(|wish| wish.find(&env));
        found
            .map(|(shard, _)| shard.to_string())
            .map_err(|error| error.to_string())
    }

    fn array(id: usize, min: usize, max: usize, count: usize, step: usize) -> String {
        format!(
            "SLURM_ARRAY_TASK_ID={id} SLURM_ARRAY_TASK_MIN={min} SLURM_ARRAY_TASK_MAX={max} \
             SLURM_ARRAY_TASK_COUNT={count} SLURM_ARRAY_TASK_STEP={step}"
        )
    }

    #[test]
    fn an_array_may_begin_anywhere_and_have_any_step() {
        for (variables, shard) in [
            (array(3, 1, 16, 16, 1), "3/16"),
            (array(0, 0, 15, 16, 1), "1/16"),
            (array(15, 0, 15, 16, 1), "16/16"),
            (array(30, 10, 40, 4, 10), "3/4"),
        ] {
            assert_eq!(
                find("auto", &variables).as_deref(),
                Ok(shard),
                "{variables}"
            );
        }
    }

    /// `sbatch --array=1,5,9` sets no step; `--array=5` alone runs a failed task again.
    #[test]
    fn a_part_of_an_array_cannot_tell_its_shard() {
        let gaps = find("auto", &array(5, 1, 9, 3, 1)).unwrap_err();
        assert!(gaps.contains("without gaps"), "{gaps}");
        for wish in ["auto", "auto/16"] {
            let again = find(wish, &array(5, 5, 5, 1, 1)).unwrap_err();
            assert!(again.contains("--shard 3/16"), "{again}");
        }
        assert_eq!(find("auto/1", &array(5, 5, 5, 1, 1)).as_deref(), Ok("1/1"));
        assert_eq!(
            find("auto/16", &array(5, 1, 16, 16, 1)).as_deref(),
            Ok("5/16")
        );
    }

    #[test]
    fn processes_of_a_step_share_too_and_each_task_of_an_array_may_have_several() {
        let step = "SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4";
        assert_eq!(find("auto", step).as_deref(), Ok("2/4"));
        let both = format!("{step} {}", array(3, 1, 3, 3, 1));
        assert_eq!(find("auto", &both).as_deref(), Ok("10/12"));
        // What a batch script sees.
        assert!(find("auto", "SLURM_PROCID=0 SLURM_NTASKS=4").is_err());
    }

    #[test]
    fn a_pod_knows_its_index_and_is_told_the_number() {
        let pod = "JOB_COMPLETION_INDEX=0";
        assert_eq!(find("auto/16", pod).as_deref(), Ok("1/16"));
        assert!(find("auto", pod).unwrap_err().contains("auto/16"));
        let outside = find("auto/4", "JOB_COMPLETION_INDEX=4").unwrap_err();
        assert!(outside.contains("0 to 3"), "{outside}");
        let odd = find("auto/4", "JOB_COMPLETION_INDEX=x").unwrap_err();
        assert!(odd.contains("no number"), "{odd}");
    }

    #[test]
    fn nothing_is_guessed_without_a_scheduler() {
        assert!(find("auto", "").unwrap_err().contains("--shard 3/16"));
        assert_eq!(find("3/16", &array(1, 1, 2, 2, 1)).as_deref(), Ok("3/16"));
        for wrong in ["auto/", "auto/0", "auto/x", "automatic", "auto16", "0/4"] {
            assert!(find(wrong, "JOB_COMPLETION_INDEX=0").is_err(), "{wrong}");
        }
    }
}
