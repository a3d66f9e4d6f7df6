//! `general.size_label`: the parameter count as stock converters round it.

use crate::checkpoint::OutTensor;

/// The label of a file with these tensors: 135M, or 8x7.0B for a mixture of experts, where the
/// second number counts what is shared and one expert.
pub(super) fn size_label(tensors: &[OutTensor]) -> String {
    let (mut shared, mut expert, mut experts) = (0, 0, 0);
    for tensor in tensors {
        let elements = tensor.shape.iter().product::<u64>();
        match tensor.shape.as_slice() {
            [count, _, _] if tensor.name.contains("_exps.") => {
                experts = *count;
                expert += elements / (*count).max(1);
            }
            _ => shared += elements,
        }
    }
    match experts {
        0 => rounded(shared),
        n => format!("{n}x{}", rounded(shared + expert)),
    }
}

/// Two digits at least, in thousands, millions, billions or trillions: 181K, 135M, 8.0B.
fn rounded(parameters: u64) -> String {
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
    use super::rounded;

    #[test]
    fn labels_are_those_of_published_models() {
        assert_eq!(rounded(134_515_008), "135M");
        assert_eq!(rounded(8_030_261_248), "8.0B");
        assert_eq!(rounded(1_235_814_400), "1.2B");
        assert_eq!(rounded(180_800), "181K");
    }
}
