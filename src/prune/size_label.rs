//! `general.size_label`: the parameter count as stock converters round it.

/// Two digits at least, in thousands, millions, billions or trillions: 181K, 135M, 8.0B.
pub(super) fn size_label(parameters: u64) -> String {
    let count = parameters as f64;
    let (scale, suffix) = match count {
        c if c > 1e12 => (1e12, 'T'),
        c if c > 1e9 => (1e9, 'B'),
        c if c > 1e6 => (1e6, 'M'),
        _ => (1e3, 'K'),
    };
    let scaled = count / scale;
    let decimals = usize::from(scaled.round() < 10.0) + usize::from(scaled.round() < 1.0);
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::size_label;

    #[test]
    fn labels_are_those_of_published_models() {
        assert_eq!(size_label(134_515_008), "135M");
        assert_eq!(size_label(8_030_261_248), "8.0B");
        assert_eq!(size_label(1_235_814_400), "1.2B");
        assert_eq!(size_label(180_800), "181K");
    }
}
