//! The notation in which the attacks spell bytes: `fixtures/attacks/README.md` describes it.

/// The bytes of a text such as `u32:9 u64:2^63 s'name' 3*(x:ff) 'raw'`.
///
/// # Panics
/// A text that is none: the attacks are written by us.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut rest = text;
    let bytes = sequence(&mut rest);
    assert!(rest.is_empty(), "{rest:?} is left of {text:?}");
    bytes
}

/// A number: `12`, `2^63`, `2^64-1`.
pub fn number(text: &str) -> u64 {
    let plain = |text: &str| -> u128 {
        let number = match text.split_once('^') {
            Some((base, power)) => base
                .parse::<u128>()
                .ok()
                .zip(power.parse().ok())
                .map(|(b, p)| b.pow(p)),
            None => text.parse().ok(),
        };
        number.unwrap_or_else(|| panic!("{text:?} is no number"))
    };
    let value = match text.split_once('-') {
        Some((left, right)) => plain(left) - plain(right),
        None => plain(text),
    };
    value
        .try_into()
        .unwrap_or_else(|_| panic!("{text:?} is more than 64 bits"))
}

fn sequence(rest: &mut &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        *rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with(')') {
            return bytes;
        }
        bytes.extend(item(rest));
    }
}

fn item(rest: &mut &str) -> Vec<u8> {
    if let Some(inner) = rest.strip_prefix('(') {
        *rest = inner;
        let bytes = sequence(rest);
        *rest = rest.strip_prefix(')').expect("a group ends with )");
        return bytes;
    }
    for (quote, counted) in [("s'", true), ("'", false)] {
        let Some(text) = rest.strip_prefix(quote) else {
            continue;
        };
        let (text, after) = text.split_once('\'').expect("a text ends with '");
        *rest = after;
        let len = (text.len() as u64).to_le_bytes();
        return [if counted { &len[..] } else { &[] }, text.as_bytes()].concat();
    }
    let end = rest.find([' ', ')', '*']).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    if let Some(after) = after.strip_prefix('*') {
        *rest = after;
        return item(rest).repeat(number(word) as usize);
    }
    let (kind, value) = word
        .split_once(':')
        .unwrap_or_else(|| panic!("{word:?} is no item"));
    match kind {
        "u8" => vec![number(value) as u8],
        "u16" => (number(value) as u16).to_le_bytes().into(),
        "u32" => (number(value) as u32).to_le_bytes().into(),
        "u64" => number(value).to_le_bytes().into(),
        "i32" => value.parse::<i32>().expect("an i32").to_le_bytes().into(),
        "f32" => value.parse::<f32>().expect("an f32").to_le_bytes().into(),
        "x" => (0..value.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&value[at..at + 2], 16).expect("hexadecimal digits"))
            .collect(),
        other => panic!("{other:?} is no kind of bytes"),
    }
}
