//! Files that lie. Whatever they claim, opening them succeeds or says what is wrong.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use slim::checkpoint::{Checkpoint, Error};
use tempfile::TempDir;

use crate::tiny::{self, Gguf, array, key, tensor};

/// A folder in which one file after the other is opened.
struct Bench {
    _folder: TempDir,
    path: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        Self {
            path: folder.path().join(name),
            _folder: folder,
        }
    }

    /// Opens a file of these bytes and, where that succeeds, looks at everything in it.
    fn open(&self, bytes: &[u8]) -> Result<usize, Error> {
        // A new file each time: the old one may still be mapped.
        let _ = fs::remove_file(&self.path);
        fs::write(&self.path, bytes).unwrap();
        let checkpoint = Checkpoint::open(&self.path)?;
        let mut seen = 0;
        for tensor in checkpoint.tensors() {
            assert_eq!(checkpoint.tensor(&tensor.name), Some(tensor));
            seen += checkpoint.bytes(tensor).len();
            checkpoint.release(tensor);
        }
        assert!(seen <= bytes.len(), "tensors overlap");
        for (key, value) in checkpoint.gguf().iter().flat_map(|m| m.iter()) {
            seen += format!("{key} {value:?}").len();
            let elements = value.elements().map(|e| e.count() as u64);
            assert_eq!(elements, value.array().map(|(_, count)| count));
        }
        Ok(seen)
    }

    fn refusal(&self, bytes: &[u8]) -> String {
        match self.open(bytes) {
            Ok(_) => panic!("opened without complaint"),
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn the_small_files_of_these_tests_are_valid() {
    assert!(Bench::new("m.gguf").open(&Gguf::valid().bytes()).is_ok());
    assert!(
        Bench::new("m.safetensors")
            .open(&tiny::valid_safetensors())
            .is_ok()
    );
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bench = Bench::new("m.gguf");
    let gguf = Gguf::valid().bytes();
    // The last tensor ends 16 bytes before the padded end: only what follows may be missing.
    for len in 0..gguf.len() - 16 {
        bench.refusal(&gguf[..len]);
    }
    let bench = Bench::new("m.safetensors");
    let safetensors = tiny::valid_safetensors();
    for len in 0..safetensors.len() {
        bench.refusal(&safetensors[..len]);
    }
}

#[test]
fn a_file_with_any_bit_flipped_is_opened_or_refused() {
    for (name, valid) in [
        ("m.gguf", Gguf::valid().bytes()),
        ("m.safetensors", tiny::valid_safetensors()),
    ] {
        let bench = Bench::new(name);
        for byte in 0..valid.len() - 20 {
            for bit in 0..8 {
                let mut bytes = valid.clone();
                bytes[byte] ^= 1 << bit;
                let _ = bench.open(&bytes);
            }
        }
    }
}

/// Changes one thing of the valid file and returns what is said of it.
fn said_of(change: impl FnOnce(&mut Gguf)) -> String {
    let mut file = Gguf::valid();
    change(&mut file);
    Bench::new("m.gguf").refusal(&file.bytes())
}

#[test]
fn versions_that_slim_does_not_read_are_named() {
    assert!(said_of(|f| f.version = 1).contains("version 1"));
    assert!(said_of(|f| f.version = 3u32.swap_bytes()).contains("big-endian"));
    assert!(said_of(|f| f.version = 4).contains("newer"));
    assert!(said_of(|f| f.magic = *b"GGML").contains("begin with GGUF"));
    let mut two = Gguf::valid();
    two.version = 2;
    assert!(Bench::new("m.gguf").open(&two.bytes()).is_ok());
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused() {
    for huge in [u64::MAX, 1 << 63, 1 << 40, 1000] {
        assert!(said_of(|f| f.n_tensors = Some(huge)).contains("tensors cannot be"));
        assert!(said_of(|f| f.n_keys = Some(huge)).contains("keys cannot be"));
        let said = said_of(|f| f.keys.insert(0, key("k", 8, &huge.to_le_bytes())));
        assert!(said.contains("bytes are needed"), "{said}");
        for element in 0..13 {
            let said = said_of(|f| f.keys.push(key("k", 9, &array(element, huge, &[]))));
            assert!(
                said.contains("cannot be") || said.contains("bytes are needed"),
                "{said}"
            );
        }
        let mut name = huge.to_le_bytes().to_vec();
        name.extend([0; 20]);
        assert!(said_of(|f| f.tensors[0] = name).contains("bytes are needed"));
    }
}

#[test]
fn value_types_that_do_not_exist_are_refused() {
    assert!(said_of(|f| f.keys.push(key("k", 13, &[0; 8]))).contains("value type 13"));
    assert!(said_of(|f| f.keys.push(key("k", u32::MAX, &[0; 8]))).contains("value type"));
    assert!(said_of(|f| f.keys.push(key("k", 9, &array(99, 0, &[])))).contains("value type 99"));
}

#[test]
fn arrays_in_arrays_have_a_bottom() {
    let nested = |depth: usize| (0..depth).fold(array(0, 1, &[1]), |inner, _| array(9, 1, &inner));
    for depth in [4, 1000, 100_000] {
        assert!(said_of(|f| f.keys.push(key("k", 9, &nested(depth)))).contains("nested deeper"));
    }
    let mut shallow = Gguf::valid();
    shallow.keys.push(key("k", 9, &nested(3)));
    assert!(Bench::new("m.gguf").open(&shallow.bytes()).is_ok());
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_refused() {
    for bad in [0u32, 3, 33, u32::MAX] {
        let said = said_of(|f| f.keys.push(key("general.alignment", 4, &bad.to_le_bytes())));
        assert!(said.contains("power of two"), "{said}");
    }
    let as_u64 = key("general.alignment", 10, &32u64.to_le_bytes());
    assert!(said_of(|f| f.keys.push(as_u64)).contains("power of two"));
    let vast = key("general.alignment", 4, &(1u32 << 31).to_le_bytes());
    assert!(said_of(|f| f.keys.push(vast)).contains("alignment"));
}

#[test]
fn names_are_unique_text_without_nul() {
    let again = key("k.u8", 0, &[1]);
    assert!(said_of(|f| f.keys.push(again)).contains("k.u8 occurs twice"));
    let twin = tensor("token_embd.weight", &[4], 0, 128);
    assert!(said_of(|f| f.tensors[2] = twin).contains("token_embd.weight occurs twice"));
    assert!(said_of(|f| f.keys.push(key("a\0b", 0, &[1]))).contains("NUL"));
    assert!(said_of(|f| f.keys.push(key("", 0, &[1]))).contains("empty"));
    assert!(said_of(|f| f.tensors[0] = tensor("a\0b", &[4], 0, 0)).contains("NUL"));
    let mut broken = key("kk", 0, &[1]);
    broken[8] = 0xff;
    assert!(said_of(|f| f.keys.push(broken)).contains("UTF-8"));
}

#[test]
fn shapes_that_no_tensor_has_are_refused() {
    assert!(said_of(|f| f.tensors[0] = tensor("t", &[1; 5], 0, 0)).contains("5 dimensions"));
    let mut endless = tiny::string("t");
    endless.extend((1u32 << 31).to_le_bytes());
    endless.extend([0; 40]);
    assert!(said_of(|f| f.tensors[0] = endless).contains("2147483648 dimensions"));
    assert!(said_of(|f| f.tensors[0] = tensor("t", &[4, 0], 0, 0)).contains("no elements"));
    for ne in [[u64::MAX, 2], [1 << 63, 2], [1 << 32, 1 << 32]] {
        for ty in [0, 2, 4711] {
            assert!(
                said_of(|f| f.tensors[0] = tensor("t", &ne, ty, 0)).contains("impossible shape")
            );
        }
    }
    // Bytes overflow where elements do not; a row that is no whole number of blocks.
    assert!(said_of(|f| f.tensors[0] = tensor("t", &[1 << 62], 0, 0)).contains("does not fit"));
    assert!(said_of(|f| f.tensors[1] = tensor("t", &[31, 32], 3, 64)).contains("does not fit"));
}

#[test]
fn tensors_lie_apart_aligned_and_inside_the_file() {
    let moved = |offset| said_of(|f| f.tensors[1] = tensor("t", &[32, 2], 3, offset));
    assert!(moved(1).contains("alignment"));
    assert!(moved(32).contains("does not fit") || moved(32).contains("token_embd"));
    assert!(moved(0).contains("another tensor's place") || moved(0).contains("does not fit"));
    assert!(moved(128).contains("another tensor's place") || moved(128).contains("does not fit"));
    for beyond in [160, 192, 1 << 40, 1 << 63, u64::MAX - 31] {
        assert!(
            moved(beyond).contains("beyond the end") || moved(beyond).contains("fit"),
            "{beyond}"
        );
    }
    // Of unknown types too: no two may share a place.
    let said = said_of(|f| {
        f.tensors[0] = tensor("a", &[4], 4711, 64);
        f.tensors[1] = tensor("b", &[4], 4712, 64);
    });
    assert!(said.contains("another tensor's place"), "{said}");
}

fn said_of_header(header: &str) -> String {
    Bench::new("m.safetensors").refusal(&tiny::safetensors(header, &[0; 16]))
}

#[test]
fn safetensors_headers_that_lie_are_refused() {
    let entry = |rest: &str| format!(r#"{{"a":{{"dtype":"F32",{rest}}}}}"#);
    for (header, message) in [
        (entry(r#""shape":[4],"data_offsets":[0,12]"#), "invalid"),
        (entry(r#""shape":[3],"data_offsets":[0,12]"#), "12 of 16"),
        (entry(r#""shape":[5],"data_offsets":[0,20]"#), "20 of 16"),
        (entry(r#""shape":[3],"data_offsets":[4,16]"#), "offset"),
        (entry(r#""shape":[4],"data_offsets":[16,0]"#), "offset"),
        (
            entry(r#""shape":[18446744073709551615,2],"data_offsets":[0,16]"#),
            "overflow",
        ),
        (
            entry(r#""shape":[4611686018427387904],"data_offsets":[0,16]"#),
            "overflow",
        ),
        (entry(r#""shape":[-4],"data_offsets":[0,16]"#), "header"),
        (entry(r#""shape":[4.0],"data_offsets":[0,16]"#), "header"),
        (entry(r#""shape":[4]"#), "data_offsets"),
        (
            r#"{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}"#.into(),
            "F99",
        ),
        (r#"{"__metadata__":{"a":1}}"#.into(), "header"),
        (r#"{"__metadata__":{},"__metadata__":{}}"#.into(), "twice"),
        ("{}".into(), "0 of 16"),
        ("[]".into(), "header"),
        ("{".into(), "header"),
        ("".into(), "header"),
        ("{\"\u{0}\":1}".into(), "header"),
        (format!("{{\"a\":{}", "[".repeat(100_000)), "header"),
    ] {
        let said = said_of_header(&header);
        assert!(said.contains(message), "{header:.80}: {said}");
    }
    let a = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let b = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#;
    assert!(said_of_header(&format!("{{{a},{b}}}")).contains("a occurs twice"));
    let over = r#""b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#;
    assert!(said_of_header(&format!("{{{a},{over}}}")).contains("offset"));
}

#[test]
fn a_header_longer_than_its_file_or_than_any_is_refused() {
    let bench = Bench::new("m.safetensors");
    for (len, message) in [
        (u64::MAX, "the most"),
        (100_000_001, "the most"),
        (1000, "are left"),
    ] {
        let bytes = [&len.to_le_bytes()[..], b"{}"].concat();
        assert!(bench.refusal(&bytes).contains(message));
    }
    let not_text = [&2u64.to_le_bytes()[..], b"\xff\xff"].concat();
    assert!(bench.refusal(&not_text).contains("header"));
}

/// Bytes of the valid file, some replaced by values that break things more often than others.
fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let interesting = prop_oneof![
        Just(0u8),
        Just(1),
        Just(0x7f),
        Just(0x80),
        Just(0xff),
        any::<u8>()
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), interesting), 1..12);
    (edits, 0..4usize).prop_map(move |(edits, cut)| {
        let mut bytes = valid.clone();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        bytes
    })
}

#[test]
fn a_damaged_gguf_is_opened_or_refused() {
    let bench = Bench::new("m.gguf");
    let cases = ProptestConfig::with_cases(2000);
    proptest!(cases, |(bytes in mutated(Gguf::valid().bytes()))| {
        let _ = bench.open(&bytes);
    });
}

/// And what slim takes, the reference crate takes.
#[test]
fn a_damaged_safetensors_is_refused_wherever_the_reference_crate_refuses_it() {
    let bench = Bench::new("m.safetensors");
    let cases = ProptestConfig::with_cases(2000);
    proptest!(cases, |(bytes in mutated(tiny::valid_safetensors()))| {
        let ours = bench.open(&bytes);
        let theirs = ::safetensors::SafeTensors::read_metadata(&bytes);
        prop_assert!(ours.is_err() || theirs.is_ok(), "{:?}", theirs.err());
    });
}
