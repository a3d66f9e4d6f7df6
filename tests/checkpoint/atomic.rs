//! An output appears whole or not at all.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use slim::checkpoint::{
    AtomicDir, AtomicFile, BoxError, DType, Data, OutTensor, Producer, check_target,
    check_target_folder, gguf, safetensors,
};

use crate::{names, no_progress};

fn tensor<'a>(
    produce: impl Fn(&mut dyn Write) -> Result<(), BoxError> + Sync + 'a,
) -> OutTensor<'a> {
    let produce: Producer<'a> = Box::new(produce);
    OutTensor {
        name: "t".into(),
        dtype: DType::F32,
        shape: vec![2, 2],
        data: Data::Stream(produce),
    }
}

#[test]
fn a_stream_that_fails_or_lies_about_its_length_leaves_the_target_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    fs::write(&target, "before").unwrap();
    let streams = [
        (
            tensor(|_| Err("the disk of the sun".into())),
            "the disk of the sun",
        ),
        (
            tensor(|w| Ok(w.write_all(&[0; 15])?)),
            "1 of its 16 bytes never came",
        ),
        (tensor(|w| Ok(w.write_all(&[0; 17])?)), "more bytes came"),
        // The error of writing too much cannot be swallowed.
        (
            tensor(|w| {
                w.write_all(&[0; 16])?;
                let _ = w.flush();
                let _ = w.write_all(&[0; 1]);
                let _ = w.flush();
                Ok(())
            }),
            "more bytes came",
        ),
    ];
    for (tensor, message) in streams {
        let tensors = [tensor];
        let error = gguf::write(&target, &[], &tensors, |_| Ok(()), &no_progress).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        let error =
            safetensors::write(&target, &Default::default(), &tensors, &no_progress).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        let out = folder.path().join("folder");
        let none = safetensors::Companions::default();
        safetensors::write_folder(
            &out,
            none,
            &Default::default(),
            &tensors,
            None,
            &no_progress,
        )
        .unwrap_err();
        assert_eq!(names(folder.path()), ["model"]);
        assert_eq!(fs::read(&target).unwrap(), b"before");
    }
}

#[test]
fn a_replaced_file_keeps_its_mode_and_a_new_one_gets_the_processs() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    let commit = || {
        let output = AtomicFile::create(&target).unwrap();
        output.file().write_all_at_start(b"new");
        output.commit().unwrap();
        fs::metadata(&target).unwrap().mode() & 0o777
    };
    let ordinary = fs::File::create(folder.path().join("other")).unwrap();
    assert_eq!(commit(), ordinary.metadata().unwrap().mode() & 0o777);
    fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(commit(), 0o640);
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["model", "other"]);
}

trait WriteAtStart {
    fn write_all_at_start(&self, bytes: &[u8]);
}

impl WriteAtStart for fs::File {
    fn write_all_at_start(&self, bytes: &[u8]) {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, 0).unwrap();
    }
}

#[test]
fn a_link_stays_a_link_and_its_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real");
    let link = folder.path().join("link");
    fs::write(&real, "before").unwrap();
    symlink("real", &link).unwrap();
    let output = AtomicFile::create(&link).unwrap();
    output.file().write_all_at_start(b"after!");
    output.commit().unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&real).unwrap(), b"after!");
}

#[test]
fn targets_that_cannot_be_written_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let file = path("file");
    fs::write(&file, "x").unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    let refusal =
        |path: &Path, inputs: &[&Path]| check_target(path, inputs).unwrap_err().to_string();

    check_target(&path("new"), &[&file]).unwrap();
    check_target(&file, &[]).unwrap();
    assert!(refusal(folder.path(), &[]).contains("is a folder"));
    assert!(refusal(&path("absent/new"), &[]).contains("does not exist; create it first"));
    assert!(refusal(&path("dangling"), &[]).contains("leads nowhere"));
    assert!(refusal(Path::new("/dev/null"), &[]).contains("no regular file"));

    let hard = path("hard");
    fs::hard_link(&file, &hard).unwrap();
    symlink("file", path("soft")).unwrap();
    for twin in [&file, &hard, &path("soft")] {
        assert!(refusal(twin, &[&file]).contains("the file that is read"));
    }

    assert!(
        check_target_folder(&file)
            .unwrap_err()
            .to_string()
            .contains("is a file")
    );
    assert!(
        check_target_folder(folder.path())
            .unwrap_err()
            .to_string()
            .contains("not empty")
    );
    check_target_folder(&path("new")).unwrap();
}

#[test]
fn a_write_protected_target_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
    if fs::File::options().write(true).open(&file).is_ok() {
        eprintln!("skipped: this user may write everything");
        return;
    }
    assert!(
        check_target(&file, &[])
            .unwrap_err()
            .to_string()
            .contains("write-protected")
    );
}

#[test]
fn what_a_killed_run_left_of_a_folder_is_cleared_but_not_a_running_ones() {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("model");
    let killed = parent.path().join(".model.slim-partial");
    fs::create_dir(&killed).unwrap();
    fs::write(killed.join("half"), "x").unwrap();

    let running = AtomicDir::create(&target).unwrap();
    assert!(names(running.path()).is_empty());
    let second = AtomicDir::create(&target).unwrap_err().to_string();
    assert!(second.contains("another run"), "{second}");
    drop(running);
    assert!(names(parent.path()).is_empty());

    let kept = AtomicDir::create(&target).unwrap();
    fs::write(kept.path().join("a"), "x").unwrap();
    kept.commit().unwrap();
    assert_eq!(names(parent.path()), ["model"]);
    assert_eq!(names(&target), ["a"]);
}
