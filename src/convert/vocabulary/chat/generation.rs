//! `{% generation %}` marks what the model says, so that transformers can train on it alone. It
//! shows nothing, but has a scope of its own.

/// The source with `{% generation %} … {% endgeneration %}` as `{% with %} … {% endwith %}`, which
/// Jinja knows. Whitespace control and lines stay.
pub(super) fn as_scopes(source: String) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some((before, tag)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let Some((inside, after)) = tag.split_once("%}") else {
            rest = tag;
            break;
        };
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let scope = match word {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => {
                rest = tag;
                continue;
            }
        };
        out.push_str(&inside.replacen(word, scope, 1));
        out.push_str("%}");
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::as_scopes;

    #[test]
    fn the_tags_change_and_nothing_else_does() {
        let source = "{%- generation -%}\n{{ x }}{%+ endgeneration\n %}{% if generation %}{%";
        let scopes = "{%- with -%}\n{{ x }}{%+ endwith\n %}{% if generation %}{%";
        assert_eq!(as_scopes(source.to_owned()), scopes);
    }
}
