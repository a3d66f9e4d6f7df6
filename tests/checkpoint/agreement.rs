//! An independent reader sees in the golden files what slim sees.

use slim::checkpoint::Checkpoint;

use crate::{golden_folders, golden_ggufs};

#[test]
fn gguf_rs_finds_the_same_tensors_at_the_same_places() {
    for path in golden_ggufs() {
        let ours = Checkpoint::open(&path).unwrap();
        let mut container = gguf_rs::get_gguf_container(path.to_str().unwrap()).unwrap();
        let theirs = container.decode().unwrap();
        assert_eq!(theirs.num_kv(), ours.gguf().unwrap().len() as u64);
        assert_eq!(theirs.tensors().len(), ours.tensors().len());
        for (a, b) in theirs.tensors().iter().zip(ours.tensors()) {
            assert_eq!(a.name, b.name);
            assert_eq!(Some(a.kind), b.dtype.ggml_id());
            let mut shape: Vec<u64> = b.shape.iter().rev().copied().collect();
            shape.resize(a.shape.len(), 1); // it fills up to four dimensions
            assert_eq!(a.shape, shape, "{}", a.name);
            assert_eq!(theirs.data_offset() + a.offset, b.range.start);
        }
    }
}

/// Values compared with the numbers and strings that gguf-rs makes of them.
#[test]
fn gguf_rs_reads_the_same_scalars() {
    for path in golden_ggufs() {
        let ours = Checkpoint::open(&path).unwrap();
        let mut container = gguf_rs::get_gguf_container(path.to_str().unwrap()).unwrap();
        let theirs = container.decode().unwrap();
        let mut compared = 0;
        for (key, value) in ours.gguf().unwrap().iter() {
            let their = &theirs.metadata()[key];
            if let Some(text) = value.as_str() {
                assert_eq!(their.as_str(), Some(text), "{key}");
            } else if let Some(truth) = value.as_bool() {
                assert_eq!(their.as_bool(), Some(truth), "{key}");
            } else if let Some(number) = value.as_f64() {
                let their = their.as_f64().unwrap();
                assert!(
                    (their - number).abs() <= 1e-6 * number.abs(),
                    "{key}: {their} {number}"
                );
            } else {
                continue;
            }
            compared += 1;
        }
        assert!(compared > 10);
    }
}

/// Names, types, shapes and bytes, through the reference crate.
#[test]
fn the_safetensors_crate_finds_the_same_tensors_in_the_golden_folders() {
    for folder in golden_folders() {
        let ours = Checkpoint::open(&folder).unwrap();
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.len(), ours.tensors().len());
        for tensor in ours.tensors() {
            let view = theirs.tensor(&tensor.name).unwrap();
            let shape: Vec<u64> = view.shape().iter().map(|&dim| dim as u64).collect();
            assert_eq!(shape, tensor.shape);
            assert_eq!(Some(view.dtype()), tensor.dtype.safetensors());
            assert!(view.data() == ours.bytes(tensor), "{}", tensor.name);
        }
    }
}
