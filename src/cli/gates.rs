//! Gates in a file, for pipelines: TOML, YAML or JSON.

use crate::suite::harness::json_of_yaml;
use crate::verify::{By, Gate};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::Path;

/// What such a file says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    by: Option<By>,
    gates: Vec<String>,
}

/// The gates of a file, and how it wants them judged.
///
/// # Errors
/// A file that cannot be read, an unknown field, or a rule that is no gate; with its name.
pub(super) fn read(path: &Path) -> Result<(Vec<Gate>, Option<By>)> {
    let named = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", named()))?;
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let written: Written = match extension {
        "toml" => toml::from_str(&text).with_context(named)?,
        "json" => serde_json::from_str(&text).with_context(named)?,
        "yaml" | "yml" => {
            serde_json::from_value(json_of_yaml(&text).with_context(named)?).with_context(named)?
        }
        _ => bail!("{}: gates stand in a .toml, .yaml or .json file", named()),
    };
    let gates = written.gates.iter().map(|gate| gate.parse());
    let gates = gates.collect::<Result<_>>().with_context(named)?;
    Ok((gates, written.by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_formats_say_the_same_and_what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        let toml = "# edge\nby = \"point\"\ngates = [\"retrieval>=0.9\", \"size<=0.8\"]\n";
        let yaml = "# edge\nby: point\ngates:\n  - retrieval>=0.9\n  - 'size<=0.8'\n";
        let json = r#"{"by": "point", "gates": ["retrieval>=0.9", "size<=0.8"]}"#;
        let all = [
            file("g.toml", toml).unwrap(),
            file("g.yaml", yaml).unwrap(),
            file("g.json", json).unwrap(),
        ];
        assert_eq!(all[0].0.len(), 2);
        assert_eq!(all[0].1, Some(By::Point));
        assert!(all[0] == all[1] && all[1] == all[2]);
        for (name, text, word) in [
            ("a.toml", "gate = []", "gate"),
            ("b.toml", "gates = [\"retrieval>0.9\"]", "retrieval>0.9"),
            ("c.yaml", "gates: [", "c.yaml"),
            ("d.yaml", "gates: []\nbuy: point", "buy"),
            ("e.txt", "", ".toml, .yaml or .json"),
        ] {
            let error = format!("{:#}", file(name, text).unwrap_err());
            assert!(error.contains(word), "{name}: {error}");
        }
    }
}
