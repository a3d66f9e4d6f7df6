//! Layers as people write them: `0-4,7,9:attention`.

use super::half::{Half, Part};
use anyhow::{Result, bail, ensure};
use std::ops::RangeInclusive;

/// Ascending indices as people write them: `0-4,7,9-11`.
pub fn ranges(layers: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = layers;
    while let Some(&first) = rest.first() {
        let run = (0..rest.len())
            .take_while(|&i| first.checked_add(i) == Some(rest[i]))
            .count();
        parts.push(match run {
            1 => first.to_string(),
            _ => format!("{first}-{}", rest[run - 1]),
        });
        rest = &rest[run..];
    }
    parts.join(",")
}

/// Reads `20-27,3` into indices.
///
/// # Errors
/// Anything that is not a number or an ascending range of numbers.
pub fn parse_ranges(text: &str) -> Result<Vec<usize>> {
    let mut layers = Vec::new();
    for part in text.split(',') {
        layers.extend(parse_range(part)?);
    }
    Ok(layers)
}

/// Reads `3,5:attention,7-9:mlp` into layers and halves of layers.
///
/// # Errors
/// As of [`parse_ranges`]; a half of another name.
pub fn parse_parts(text: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for part in text.split(',') {
        let (range, half) = match part.split_once(':') {
            None => (part, None),
            Some((range, name)) => match Half::named(name.trim()) {
                None => bail!("'{part}' names no half of a layer: write 7:attention or 7:mlp"),
                half => (range, half),
            },
        };
        parts.extend(parse_range(range)?.map(|layer| Part { layer, half }));
    }
    Ok(parts)
}

fn parse_range(part: &str) -> Result<RangeInclusive<usize>> {
    let number = |part: &str| -> Result<usize> {
        match part.trim().parse() {
            Ok(value) if value < 100_000 => Ok(value),
            _ => bail!("'{part}' is not a layer number (write layers as 20-27,3)"),
        }
    };
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "'{part}' runs backwards");
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::KeepSet;

    #[test]
    fn ranges_are_read_and_written_as_people_write_them() {
        let layers = parse_ranges("3,20-23").unwrap();
        assert_eq!(layers, [3, 20, 21, 22, 23]);
        assert_eq!(ranges(&layers), "3,20-23");
        for wrong in ["", "a", "5-3", "1,,2", "-1", "99999999999999999999"] {
            assert!(parse_ranges(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn layers_and_halves_that_go_are_named_together() {
        let parts = parse_parts("3,5:attention, 7-8:mlp").unwrap();
        let keep = KeepSet::without_parts(10, &parts).unwrap();
        let kept = "0-2,4,6,9,5:mlp,7:attention,8:attention";
        assert_eq!(keep.to_string(), kept);
        assert!(!keep.is_whole(10) && KeepSet::all(10).is_whole(10));
        let half = parse_parts("0:mlp").unwrap();
        let keep = KeepSet::without_parts(1, &half).unwrap();
        assert_eq!((keep.half_count(), keep.is_whole(1)), (1, false));
        for wrong in ["5:both", "5:", ":mlp", "5:mlp:mlp", "mlp", "5:Attention"] {
            assert!(parse_parts(wrong).is_err(), "{wrong}");
        }
        for wrong in ["3,3:mlp", "3:mlp,3:attention", "10:mlp", "0-9"] {
            let parts = parse_parts(wrong).unwrap();
            assert!(KeepSet::without_parts(10, &parts).is_err(), "{wrong}");
        }
    }
}
