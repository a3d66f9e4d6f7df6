//! One stretch of neighbouring layers goes: the one whose ends are most alike.

use super::{Choice, Method, Search};
use crate::arch::KeepSet;
use anyhow::{Context, Result};

/// Gromov et al., arXiv 2403.17887: the stretch with the least angular distance between the states
/// before and behind it, at the last token.
pub(super) struct Angular;

impl Method for Angular {
    fn name(&self) -> &'static str {
        "span"
    }

    fn about(&self) -> &'static str {
        "the best contiguous stretch by angular distance goes (Gromov et al., arXiv 2403.17887)"
    }

    fn choose(&self, search: &Search, sizes: &[usize]) -> Result<Vec<Choice>> {
        let choose = |&size: &usize| {
            let keep = best(search, size);
            Ok(Choice {
                keep: keep.with_context(|| {
                    format!(
                        "no stretch of layers can go so that {size} stay: choose another --method"
                    )
                })?,
                steps: Vec::new(),
            })
        };
        sizes.iter().map(choose).collect()
    }
}

fn best(search: &Search, size: usize) -> Option<KeepSet> {
    let n = search.scope.n_layers();
    let gone = n - size;
    let all = KeepSet::all(n);
    let stretches = (0..=size).map(|first| {
        let layers: Vec<usize> = (first..first + gone).collect();
        (
            search.signals.angles[first][first + gone],
            all.drop_layers(&layers),
        )
    });
    let allowed = stretches.filter(|(_, keep)| search.scope.allows(keep));
    let best = allowed.min_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, keep)| keep)
}
