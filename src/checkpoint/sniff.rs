//! Which format a file is of.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Error;

/// The kind of a file.
pub(super) enum Sniffed {
    Gguf,
    Safetensors,
    /// Neither, with what it looks like.
    Other(&'static str),
}

/// What a file is, by its first bytes; its name only helps with what is too short or unclear.
pub(super) fn sniff(path: &Path) -> Result<Sniffed, Error> {
    let mut head = [0u8; 9];
    let mut filled = 0;
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(Error::io("read", path))? {
            0 => break,
            n => filled += n,
        }
    }
    let named = |extension: &str| path.extension().is_some_and(|e| e == extension);
    Ok(match head.get(..filled).unwrap_or_default() {
        [] => Sniffed::Other("it is empty"),
        [b'G', b'G', b'U', b'F', ..] => Sniffed::Gguf,
        _ if named("gguf") => Sniffed::Gguf,
        [.., b'{'] if filled == head.len() => Sniffed::Safetensors,
        _ if named("safetensors") => Sniffed::Safetensors,
        [b'P', b'K', 3, 4, ..] => Sniffed::Other("it is a zip archive, as pickled weights are"),
        [b'{', ..] => Sniffed::Other("it is a JSON file; give the folder that it lies in"),
        _ => Sniffed::Other("its first bytes are of neither format"),
    })
}
