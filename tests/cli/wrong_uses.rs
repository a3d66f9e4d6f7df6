//! Wrong commands: exit 2, a message that names the thing and says what to do, nothing written.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::bench::{Bench, assert_refused};
use crate::tiny;

/// A bench with a model in every layout and all kinds of places to write to.
pub fn bench() -> Bench {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    bench
        .slim("prune --drop-layers 3 tiny three.gguf")
        .quietly();
    fs::create_dir(bench.path("nothing")).unwrap();
    fs::create_dir(bench.path("full")).unwrap();
    fs::write(bench.path("full/mine.txt"), "mine").unwrap();
    fs::write(bench.path("text.txt"), "some text").unwrap();
    symlink("three.gguf", bench.path("link.gguf")).unwrap();
    bench
}

#[test]
fn an_input_that_is_no_model_is_refused() {
    let bench = bench();
    fs::create_dir(bench.path("bare")).unwrap();
    fs::copy(
        bench.path("tiny/model.safetensors"),
        bench.path("bare/model.safetensors"),
    )
    .unwrap();
    fs::create_dir(bench.path("pickled")).unwrap();
    fs::write(bench.path("pickled/config.json"), "{}").unwrap();
    fs::write(bench.path("pickled/pytorch_model.bin"), "x").unwrap();
    fs::write(bench.path("empty.gguf"), "").unwrap();
    assert_refused(
        &bench,
        &[
            (
                "prune --drop-layers 1 absent out.gguf",
                &["absent", "no such file"],
            ),
            ("inspect absent", &["absent", "no such file"]),
            (
                "prune --drop-layers 1 nothing out.gguf",
                &["nothing", "model.safetensors"],
            ),
            (
                "prune --drop-layers 1 bare out.gguf",
                &["config.json", "missing"],
            ),
            (
                "prune --drop-layers 1 bare/model.safetensors out.gguf",
                &["config.json", "missing"],
            ),
            (
                "prune --drop-layers 1 pickled out.gguf",
                &["pickled", "save the model as"],
            ),
            (
                "prune --drop-layers 1 text.txt out.gguf",
                &["text.txt", "give a .gguf"],
            ),
            (
                "prune --drop-layers 1 tiny/config.json out.gguf",
                &["json file", "give the folder"],
            ),
            ("inspect empty.gguf", &["empty.gguf", "empty"]),
            ("inspect /dev/null", &["/dev/null", "no regular file"]),
        ],
    );
}

#[test]
fn an_output_that_cannot_be_placed_is_refused() {
    let prune = "prune --drop-layers 1";
    assert_refused(
        &bench(),
        &[
            (
                &format!("{prune} tiny out.bin"),
                &["out.bin", ".gguf or .safetensors"],
            ),
            (
                &format!("{prune} tiny absent/out.gguf"),
                &["absent", "does not exist", "create it"],
            ),
            (
                &format!("{prune} tiny absent/out"),
                &["absent", "does not exist", "create it"],
            ),
            (
                &format!("{prune} tiny absent/out.safetensors"),
                &["absent", "does not exist"],
            ),
            (
                &format!("{prune} three.gguf three.gguf"),
                &["three.gguf", "is read", "another name"],
            ),
            (
                &format!("{prune} three.gguf link.gguf"),
                &["link.gguf", "is read", "another name"],
            ),
            (
                &format!("{prune} link.gguf three.gguf"),
                &["three.gguf", "is read", "another name"],
            ),
            (
                &format!("{prune} tiny tiny/model.safetensors"),
                &["model.safetensors"],
            ),
            (
                &format!("{prune} tiny/model.safetensors tiny/model.safetensors"),
                &["is read"],
            ),
            (
                &format!("{prune} tiny/model.safetensors tiny/out.safetensors"),
                &["config.json", "folder"],
            ),
            (
                &format!("{prune} three.gguf tiny/out.safetensors"),
                &["config.json", "folder"],
            ),
            (
                &format!("{prune} tiny text.txt/out.gguf"),
                &["text.txt", "does not exist"],
            ),
            (
                &format!("{prune} --outtype q8_0 tiny out"),
                &["q8_0", ".gguf"],
            ),
            (
                &format!("{prune} --outtype q8_0 three.gguf out.safetensors"),
                &["q8_0", ".gguf"],
            ),
            (
                &format!("{prune} --outtype q9 tiny out.gguf"),
                &["q9", "f32, f16, bf16, q4_0"],
            ),
        ],
    );
}

/// The advice for a file that is wanted where a folder lies would be wrong here.
#[test]
fn a_folder_that_holds_something_is_refused_and_the_advice_fits() {
    let prune = "prune --drop-layers 1";
    assert_refused(
        &bench(),
        &[
            (
                &format!("{prune} tiny full"),
                &["full", "not empty", "new one"],
            ),
            (&format!("{prune} tiny tiny"), &["tiny", "not empty"]),
            (&format!("{prune} tiny full/"), &["full", "not empty"]),
        ],
    );
}

#[test]
fn an_empty_folder_is_filled() {
    let bench = bench();
    bench.slim("prune --drop-layers 1 tiny nothing").quietly();
    bench.slim("inspect nothing").quietly();
}

/// What stands behind the dot is no extension.
#[test]
fn a_folder_may_have_a_dot_in_its_name() {
    let bench = bench();
    bench
        .slim("prune --drop-layers 1 tiny tiny-1.7b-small/")
        .quietly();
    bench.slim("inspect tiny-1.7b-small").quietly();
}

#[test]
fn layers_that_do_not_exist_are_refused() {
    let refused: [(&str, &[&str]); 15] = [
        ("--keep 0", &["at least one layer"]),
        ("--keep 99", &["--keep 99", "4 layers"]),
        ("--keep -1", &["-1"]),
        ("--keep x", &["'x'", "--keep"]),
        ("--drop 99", &["--drop 99", "4 layers"]),
        ("--drop 4", &["at least one layer"]),
        ("--keep 3 --drop 1", &["--keep", "--drop", "cannot be used"]),
        (
            "--keep 3 --drop-layers 1",
            &["--keep", "--drop-layers", "cannot be used"],
        ),
        ("--drop-layers 99", &["99", "0 to 3"]),
        ("--drop-layers 3-1", &["3-1", "backwards"]),
        ("--drop-layers x", &["'x'", "20-27,3"]),
        ("--drop-layers all", &["'all'", "20-27,3"]),
        ("--drop-layers 0-3", &["all 4 layers", "at least one"]),
        ("--drop-layers 1,1", &["layer 1", "twice"]),
        ("", &["no knee", "--keep"]),
    ];
    let uses = refused.map(|(depth, words)| (format!("prune {depth} tiny out.gguf"), words));
    let uses: Vec<_> = uses
        .iter()
        .map(|(command, words)| (command.as_str(), *words))
        .collect();
    assert_refused(&bench(), &uses);
}

#[test]
fn wishes_that_mean_nothing_are_refused() {
    assert_refused(
        &bench(),
        &[
            (
                "prune --keep 3 --preserve cooking tiny out.gguf",
                &["cooking", "retrieval", "language"],
            ),
            (
                "prune --keep 3 --preserve retrieval=x tiny out.gguf",
                &["retrieval=x"],
            ),
            (
                "prune --keep 3 --preserve retrieval=-1 tiny out.gguf",
                &["retrieval=-1"],
            ),
            (
                "prune --keep 3 --preserve retrieval=nan tiny out.gguf",
                &["retrieval=nan"],
            ),
            (
                "prune --keep 3 --select-items 0 tiny out.gguf",
                &["--select-items", "1 or more"],
            ),
            (
                "score tiny --calibrate-items 0",
                &["--calibrate-items", "1 or more"],
            ),
            (
                "prune --keep 3 --report-items x tiny out.gguf",
                &["--report-items", "'x'"],
            ),
            (
                "prune --keep 3 --gate retrieval tiny out.gguf",
                &["retrieval>=0.9"],
            ),
            (
                "prune --keep 3 --gate cooking>=1 tiny out.gguf",
                &["cooking", "retrieval"],
            ),
            (
                "prune --keep 3 --gate retrieval>=95 tiny out.gguf",
                &["0.9 means 90 %"],
            ),
            (
                "prune --keep 3 --gate retrieval>=nan tiny out.gguf",
                &["gate"],
            ),
            (
                "prune --keep 3 --gate retrieval/sing>=1 tiny out.gguf",
                &["sing", "choice"],
            ),
            ("eval tiny --protocols sing", &["sing", "choice"]),
            ("eval tiny --split all", &["all", "report"]),
            ("prune --keep 3 tiny", &["output"]),
            ("slice tiny", &["slice"]),
        ],
    );
}

#[test]
fn a_suite_that_cannot_be_read_is_refused() {
    let bench = bench();
    fs::create_dir(bench.path("broken")).unwrap();
    fs::write(bench.path("broken/task.json"), "{").unwrap();
    fs::create_dir(bench.path("partly")).unwrap();
    let notes = crate::bench::village().join("suite");
    let task = fs::read_dir(notes).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(task).unwrap();
    let mut task: Value = serde_json::from_str(&text).unwrap();
    task["family"] = json!("language");
    fs::write(bench.path("partly/task.json"), task.to_string()).unwrap();
    assert_refused(
        &bench,
        &[
            (
                "prune --keep 3 --suite absent tiny out.gguf",
                &["absent", "no such file"],
            ),
            (
                "prune --keep 3 --suite broken tiny out.gguf",
                &["task.json", "docs/suite.md"],
            ),
            (
                "prune --keep 3 --suite nothing tiny out.gguf",
                &["nothing", "no *.json or *.yaml task file"],
            ),
            ("eval tiny --suite broken", &["task.json"]),
            (
                "prune --keep 3 --preserve reasoning --suite partly tiny out.gguf",
                &["no task of the reasoning family"],
            ),
        ],
    );
}

/// Only the gates need the suite, and only after writing: easily found too late.
#[test]
fn a_suite_for_the_gates_is_looked_for_before_anything_is_written() {
    let drop = "prune --drop-layers 1 tiny out.gguf --gate language>=0";
    assert_refused(
        &bench(),
        &[(
            &format!("{drop} --suite absent"),
            &["absent", "no such file"],
        )],
    );
}

/// Reports are the last thing written: easily found after the whole job, or written over a model.
#[test]
fn a_report_that_cannot_be_placed_is_refused_before_the_work() {
    let few = "--suite VILLAGE/suite --report-items 1 --gate language>=0";
    let drop = "prune --drop-layers 1";
    let score = "--suite VILLAGE/suite --calibrate-items 1";
    assert_refused(
        &bench(),
        &[
            (
                &format!("{drop} tiny out.gguf --report absent/r.json {few}"),
                &["absent", "create it"],
            ),
            (
                &format!("{drop} tiny out.gguf --report full {few}"),
                &["full", "folder"],
            ),
            (
                &format!("{drop} three.gguf out.gguf --report three.gguf {few}"),
                &["three.gguf"],
            ),
            (
                &format!("{drop} tiny out.gguf --report out.gguf {few}"),
                &["out.gguf"],
            ),
            (
                &format!("verify tiny three.gguf --report three.gguf {few}"),
                &["three.gguf"],
            ),
            (
                &format!("score three.gguf -o three.gguf {score}"),
                &["three.gguf"],
            ),
            (
                &format!("score tiny -o absent/p.json {score}"),
                &["absent", "create it"],
            ),
            (
                "eval three.gguf -o three.gguf --items 1 --suite VILLAGE/suite",
                &["three.gguf"],
            ),
        ],
    );
}

#[test]
fn folders_that_cannot_be_written_to_are_refused() {
    let bench = bench();
    // A mount of its own, gone with the shell: root may write everywhere else.
    let mount = "mount -t tmpfs -o ro none full";
    let probe = bench.sh(&format!("unshare -m sh -c '{mount}'"));
    if probe.code != Some(0) {
        eprintln!("skipped: this user may not mount: {}", probe.stderr);
        return;
    }
    for output in ["full/out.gguf", "full/out", "full/out.safetensors"] {
        let slim = format!("{} prune --drop-layers 1 tiny {output}", crate::bench::SLIM);
        let ran = bench.sh(&format!("unshare -m sh -c '{mount} && {slim}'"));
        assert_eq!(
            ran.unlike_an_error(&["full", "read-only"]),
            None,
            "{output}"
        );
    }
}
