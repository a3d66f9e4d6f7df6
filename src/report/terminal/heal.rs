//! What healing came to.

use super::{lines, table};
use crate::report::heal::Healing;

/// The held-out text before and after, and what it took.
pub fn heal(healing: &Healing) -> String {
    let effect = &healing.effect;
    let mut rows = table(&["held-out text", "KL to the original", "perplexity"], 1);
    let row = |name: &str, divergence: f64, perplexity: f64| {
        [
            name.to_owned(),
            format!("{divergence:.4}"),
            format!("{perplexity:.3}"),
        ]
    };
    rows.add_row(row("original", 0.0, effect.original_perplexity));
    for (name, check) in [("pruned", effect.before), ("healed", effect.after)] {
        rows.add_row(row(name, check.divergence, check.perplexity));
    }
    let minutes = healing.seconds / 60.0;
    let mut text = format!(
        "{}\n{:.1} M weights trained on {} tokens in {} steps, {minutes:.1} minutes; measured on {} \
         tokens that were held out\n",
        lines(&rows),
        effect.parameters as f64 / 1e6,
        effect.tokens,
        effect.steps,
        effect.held_out_tokens,
    );
    if !effect.healed {
        text += "Healing did not help: the weights that were written are the pruned model's own.\n";
    }
    text
}
