//! What is read and written again is the same, byte for byte.

use std::fs;
use std::path::Path;

use slim::checkpoint::gguf::{self, Value};
use slim::checkpoint::{Checkpoint, DType, Data, Format, OutTensor, safetensors};

use crate::tiny::{self, Gguf};
use crate::{copies, golden_ggufs, names, no_progress};

/// All keys of a GGUF checkpoint, to be written.
fn keys(checkpoint: &Checkpoint) -> Vec<(String, Value<'_>)> {
    let keys = checkpoint.gguf().unwrap().iter();
    keys.map(|(key, value)| (key.to_owned(), value)).collect()
}

fn rewritten(input: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.gguf");
    let checkpoint = Checkpoint::open(input).unwrap();
    let tensors = copies(&checkpoint);
    gguf::write(
        &target,
        &keys(&checkpoint),
        &tensors,
        |_| Ok(()),
        &no_progress,
    )
    .unwrap();
    assert_eq!(names(folder.path()), ["out.gguf"]);
    fs::read(target).unwrap()
}

#[test]
fn a_gguf_rewritten_whole_is_the_same_file() {
    for path in golden_ggufs() {
        assert!(
            rewritten(&path) == fs::read(&path).unwrap(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn keys_of_every_type_and_tensors_newer_than_slim_survive_a_rewrite() {
    let mut file = Gguf::valid();
    file.tensors[1] = tiny::tensor("blk.0.attn_q.weight", &[32, 2], 4711, 64);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.gguf");
    fs::write(&path, file.bytes()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let unknown = checkpoint.tensor("blk.0.attn_q.weight").unwrap();
    assert_eq!(unknown.dtype, DType::Ggml(4711));
    assert_eq!(checkpoint.bytes(unknown), &file.data[64..128]);
    assert_eq!(rewritten(&path), file.bytes());
}

#[test]
fn the_alignment_of_the_file_is_kept() {
    let mut file = Gguf::valid();
    file.keys
        .push(tiny::key("general.alignment", 4, &64u32.to_le_bytes()));
    file.alignment = 64;
    file.data.resize(192, 0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.gguf");
    fs::write(&path, file.bytes()).unwrap();
    assert_eq!(rewritten(&path), file.bytes());
}

#[test]
fn a_digest_of_the_data_can_go_into_the_metadata_after_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.gguf");
    let zeros = "0".repeat(64);
    let ones = "1".repeat(64);
    let metadata = [("slim.digest".to_owned(), Value::str(&zeros))];
    let set = |new: String| {
        move |keys: &mut [(String, Value<'_>)]| {
            keys[0].1 = Value::str(&new);
            Ok(())
        }
    };
    gguf::write(&target, &metadata, &[], set(ones.clone()), &no_progress).unwrap();
    let written = Checkpoint::open(&target).unwrap();
    assert_eq!(written.gguf().unwrap().get_str("slim.digest"), Some(&*ones));

    let longer = set("2".repeat(65));
    let error = gguf::write(&target, &metadata, &[], longer, &no_progress).unwrap_err();
    assert!(error.to_string().contains("not as long"), "{error}");
    let kept = Checkpoint::open(&target).unwrap();
    assert_eq!(kept.gguf().unwrap().get_str("slim.digest"), Some(&*ones));
}

#[test]
fn streamed_tensors_are_written_like_copied_ones_and_progress_counts_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.gguf");
    fs::write(&input, Gguf::valid().bytes()).unwrap();
    let checkpoint = Checkpoint::open(&input).unwrap();
    let mut streams = copies(&checkpoint);
    for (out, tensor) in streams.iter_mut().zip(checkpoint.tensors()) {
        let bytes = checkpoint.bytes(tensor);
        out.data = Data::Stream(Box::new(move |writer| {
            for chunk in bytes.chunks(7) {
                writer.write_all(chunk)?;
            }
            Ok(())
        }));
    }
    let done = std::cell::Cell::new(0);
    let progress = |n| done.set(done.get() + n);
    let target = folder.path().join("out.gguf");
    gguf::write(&target, &keys(&checkpoint), &streams, |_| Ok(()), &progress).unwrap();
    assert_eq!(done.get(), 48 + 40 + 16);
    assert_eq!(fs::read(&target).unwrap(), rewritten(&input));
}

#[test]
fn released_pages_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.gguf");
    fs::write(&path, Gguf::valid().bytes()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let tensor = &checkpoint.tensors()[1];
    let before = checkpoint.bytes(tensor).to_vec();
    checkpoint.release(tensor);
    assert_eq!(checkpoint.bytes(tensor), before);
}

#[test]
fn a_safetensors_file_is_read_back_by_the_reference_crate() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.safetensors");
    fs::write(&input, tiny::valid_safetensors()).unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let checkpoint = Checkpoint::open(&input).unwrap();
    assert_eq!(checkpoint.format(), Format::Safetensors);
    let metadata = &checkpoint.hf().unwrap().header_metadata;
    let target = folder.path().join("out.safetensors");
    safetensors::write(&target, metadata, &copies(&checkpoint), &no_progress).unwrap();

    let written = fs::read(&target).unwrap();
    let (header, metadata) = ::safetensors::SafeTensors::read_metadata(&written).unwrap();
    assert_eq!(header % 8, 0);
    assert_eq!(metadata.offset_keys(), ["model.layers.0.w", "b", "empty"]);
    assert_eq!(metadata.metadata().as_ref().unwrap()["a"], "é");
    let theirs = ::safetensors::SafeTensors::deserialize(&written).unwrap();
    for tensor in checkpoint.tensors() {
        let view = theirs.tensor(&tensor.name).unwrap();
        assert_eq!(view.data(), checkpoint.bytes(tensor));
        assert_eq!(Some(view.dtype()), tensor.dtype.safetensors());
    }
}

#[test]
fn the_reference_crates_own_file_is_rewritten_byte_for_byte() {
    use ::safetensors::tensor::{Dtype, TensorView, serialize};
    let data: Vec<u8> = (0..24).collect();
    let f32s = TensorView::new(Dtype::F32, vec![2, 2], &data[..16]).unwrap();
    let f16s = TensorView::new(Dtype::F16, vec![4], &data[16..]).unwrap();
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let theirs = serialize([("b \"quoted\"", f16s), ("a", f32s)], Some(metadata)).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.safetensors");
    fs::write(&input, &theirs).unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let checkpoint = Checkpoint::open(&input).unwrap();
    let target = folder.path().join("out.safetensors");
    let metadata = &checkpoint.hf().unwrap().header_metadata;
    safetensors::write(&target, metadata, &copies(&checkpoint), &no_progress).unwrap();
    assert_eq!(fs::read(&target).unwrap(), theirs);
}

#[test]
fn what_does_not_fit_a_format_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let stream = |dtype, shape: &[u64]| OutTensor {
        name: "t".into(),
        dtype,
        shape: shape.to_vec(),
        data: Data::Stream(Box::new(|_| Ok(()))),
    };
    let twins = vec![stream(DType::F32, &[1]), stream(DType::F32, &[1])];
    let gguf = |tensors: Vec<OutTensor<'_>>| {
        let target = folder.path().join("out.gguf");
        let error = gguf::write(&target, &[], &tensors, |_| Ok(()), &no_progress);
        error.unwrap_err().to_string()
    };
    assert!(gguf(twins).contains("two of this name"));
    assert!(gguf(vec![stream(DType::Q4_0, &[33])]).contains("whole number of q4_0 blocks"));
    assert!(gguf(vec![stream(DType::F32, &[1, 1, 1, 1, 1])]).contains("dimensions"));
    assert!(gguf(vec![stream(DType::F32, &[u64::MAX, 8])]).contains("blocks"));
    assert!(
        gguf(vec![stream(
            DType::Safetensors(::safetensors::Dtype::U8),
            &[1]
        )])
        .contains("no type u8")
    );
    assert!(gguf(vec![stream(DType::Ggml(99), &[1])]).contains("type 99"));

    let target = folder.path().join("out.safetensors");
    let quantised = [stream(DType::Q4_0, &[32])];
    let error =
        safetensors::write(&target, &Default::default(), &quantised, &no_progress).unwrap_err();
    assert!(error.to_string().contains("no type q4_0"), "{error}");
    assert!(names(folder.path()).is_empty());
}
