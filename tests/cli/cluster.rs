//! Scoring that is interrupted, and scoring on many machines: always the profile of one run.

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Ran, SLIM, Wrong, assert_refused, words};
use crate::tiny;

/// Enough for several portions.
const SCORE: &str = "score tiny --suite VILLAGE/suite --calibrate-items 8";

/// The same, of a model that takes its time.
const SLOW: &str = "score VILLAGE --suite VILLAGE/suite --calibrate-items 6";

/// A bench with the samples and the profile of an uninterrupted run.
fn whole(score: &str) -> (Bench, Vec<u8>, Vec<u8>) {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    let run = format!("{score} --samples whole.jsonl -o whole.json");
    bench.slim(&run).quietly();
    let [samples, profile] = ["whole.jsonl", "whole.json"].map(|name| read(&bench, name));
    assert!(n_lines(&samples) >= 4, "a header and three portions");
    (bench, samples, profile)
}

fn read(bench: &Bench, name: &str) -> Vec<u8> {
    fs::read(bench.path(name)).unwrap()
}

fn n_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// Starts a command and kills it as soon as the file has so many lines. Whether it was killed.
fn kill_at(bench: &Bench, arguments: &str, file: &str, lines: usize) -> bool {
    let mut child = bench.command(SLIM).args(words(arguments)).spawn().unwrap();
    let began = Instant::now();
    while fs::read(bench.path(file)).map_or(0, |bytes| n_lines(&bytes)) < lines {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "no portion ends"
        );
        sleep(Duration::from_millis(1));
    }
    // SIGKILL, to the test's own child.
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

#[test]
fn devices_that_share_the_questions_make_the_profile_of_one() {
    let (bench, _, profile) = whole(SCORE);
    let run = format!("{SCORE} --device cpu,cpu,cpu --samples s.jsonl -o shared.json");
    bench.slim(&run).quietly();
    assert_eq!(read(&bench, "shared.json"), profile);
    let eval = "eval tiny --suite VILLAGE/suite --device cpu,cpu";
    let wrong: &[Wrong] = &[
        (eval, &["only slim score", "--device"]),
        ("score tiny --device gpu", &["no device", "auto, cpu, cuda"]),
        (
            "score tiny --compute bf16 --device cpu",
            &["--compute bf16", "GPU"],
        ),
        ("score tiny --memory 100MiB", &["--memory", "MiB or more"]),
    ];
    assert_refused(&bench, wrong);
    if cfg!(not(feature = "cuda")) {
        assert_refused(
            &bench,
            &[(
                "score tiny --device cuda",
                &["built without CUDA", "--features cuda"],
            )],
        );
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_profile() {
    let (bench, samples, profile) = whole(SLOW);
    let run = format!("{SLOW} --samples s.jsonl -o again.json");
    let mut killed = 0;
    for lines in 0..n_lines(&samples) {
        killed += usize::from(kill_at(&bench, &run, "s.jsonl", lines));
    }
    assert!(killed >= 2, "{killed} runs were killed");
    let ran = bench.slim(&run);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("portions are measured"), "{ran:?}");
    assert!(read(&bench, "again.json") == profile);
    assert!(read(&bench, "s.jsonl") == samples, "no portion twice");
}

#[test]
fn any_part_of_the_file_is_taken_up_whatever_byte_it_ends_with() {
    let (bench, samples, profile) = whole(SCORE);
    let header = samples.iter().position(|&byte| byte == b'\n').unwrap();
    let last = samples.len() - 1;
    for kept in [
        0,
        1,
        header,
        header + 1,
        header + 20,
        last / 2,
        last,
        last + 1,
    ] {
        fs::write(bench.path("s.jsonl"), &samples[..kept]).unwrap();
        let ran = bench.slim(&format!("{SCORE} --samples s.jsonl -o again.json"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(read(&bench, "again.json") == profile, "after {kept} bytes");
        assert!(read(&bench, "s.jsonl") == samples, "after {kept} bytes");
    }
}

#[test]
fn shards_make_the_profile_of_one_machine_byte_for_byte() {
    let (bench, samples, profile) = whole(SCORE);
    let n_portions = n_lines(&samples) - 1;
    for count in [2, n_portions + 2] {
        let mut portions = 0;
        for index in 1..=count {
            let shard = format!("--shard {index}/{count} --samples {index}-of-{count}.jsonl");
            let ran = bench.slim(&format!("{SCORE} {shard}"));
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert_eq!(ran.stderr.contains("nothing falls"), index > n_portions);
            let found = n_lines(&read(&bench, &format!("{index}-of-{count}.jsonl"))) - 1;
            portions += found;
        }
        assert_eq!(portions, n_portions);
        // In any order.
        let files = (1..=count).rev().map(|i| format!("{i}-of-{count}.jsonl"));
        let files = files.collect::<Vec<_>>().join(" ");
        let merged = bench.slim(&format!("score --merge {files} -o merged.json"));
        assert!(merged.quietly().stdout.contains("knowledge"));
        assert!(read(&bench, "merged.json") == profile, "{count} shards");
    }
    let json = bench.slim("score --merge whole.jsonl --json").quietly();
    assert!(json.stdout.as_bytes() == profile, "without the model");
}

/// The least memory: layers are read from the file, each for several portions at once.
#[test]
fn a_machine_with_little_memory_makes_the_same_profile() {
    let (bench, samples, profile) = whole(SLOW);
    let little = format!("{SLOW} --memory 200MiB --samples s.jsonl -o little.json");
    bench.slim(&little).quietly();
    assert!(read(&bench, "little.json") == profile);
    assert!(read(&bench, "s.jsonl") == samples);
}

#[test]
fn any_number_of_threads_makes_the_same_profile() {
    let (bench, _, profile) = whole(SCORE);
    for threads in ["1", "2", "5"] {
        let run = format!("{SCORE} -o threads.json");
        under(&bench, &[("RAYON_NUM_THREADS", threads)], &run).quietly();
        assert_eq!(read(&bench, "threads.json"), profile, "{threads} threads");
    }
}

#[test]
fn a_shard_that_was_killed_goes_on_and_merges() {
    let (bench, _, profile) = whole(SLOW);
    let shard = |index: usize| format!("{SLOW} --shard {index}/2 --samples {index}.jsonl");
    kill_at(&bench, &shard(1), "1.jsonl", 2);
    bench.slim(&shard(2)).quietly();
    let merge = "score --merge 1.jsonl 2.jsonl -o merged.json";
    let early = bench.slim(merge);
    let words = ["portions are missing: shard 1/2", "--shard 1/2", "goes on"];
    assert_eq!(early.unlike_an_error(&words), None);
    assert!(!bench.path("merged.json").exists());
    assert_eq!(bench.slim(&shard(1)).code, Some(0));
    bench.slim(merge).quietly();
    assert!(read(&bench, "merged.json") == profile);
}

/// slim in an environment without a scheduler but for these variables.
fn under(bench: &Bench, variables: &[(&str, &str)], arguments: &str) -> Ran {
    let mut command: Command = bench.command(SLIM);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("SLURM_") || name == "JOB_COMPLETION_INDEX" {
            command.env_remove(&*name);
        }
    }
    command.envs(variables.iter().copied());
    Ran::of(command.args(words(arguments)).output().unwrap())
}

#[test]
fn slurm_and_kubernetes_say_which_shard_it_is() {
    let (bench, _, profile) = whole(SCORE);
    let array = [
        ("SLURM_ARRAY_TASK_ID", "7"),
        ("SLURM_ARRAY_TASK_MIN", "7"),
        ("SLURM_ARRAY_TASK_MAX", "8"),
        ("SLURM_ARRAY_TASK_COUNT", "2"),
        ("SLURM_ARRAY_TASK_STEP", "1"),
    ];
    let slurm = under(
        &bench,
        &array,
        &format!("{SCORE} --shard auto --samples a.jsonl"),
    );
    assert_eq!(slurm.stderr, "note: Slurm makes this shard 1/2\n");
    assert!(slurm.stdout.starts_with("shard 1/2: "), "{slurm:?}");
    let pod = [("JOB_COMPLETION_INDEX", "1")];
    let kubernetes = format!("{SCORE} --shard auto/2 --samples b.jsonl");
    let kubernetes = under(&bench, &pod, &kubernetes);
    assert_eq!(kubernetes.stderr, "note: Kubernetes makes this shard 2/2\n");
    bench
        .slim("score --merge a.jsonl b.jsonl -o merged.json")
        .quietly();
    assert!(read(&bench, "merged.json") == profile);
}

#[test]
fn a_shard_that_cannot_be_told_is_not_guessed() {
    let bench = Bench::new();
    let auto = |wish: &str, variables: &[(&str, &str)], words: &[&str]| {
        let ran = under(
            &bench,
            variables,
            &format!("{SCORE} --shard {wish} --samples s.jsonl"),
        );
        assert_eq!(ran.unlike_an_error(words), None);
        assert!(bench.names().is_empty());
    };
    auto("auto", &[], &["Slurm", "Kubernetes", "--shard 3/16"]);
    let pod = [("JOB_COMPLETION_INDEX", "3")];
    auto("auto", &pod, &["pod 3", "auto/16"]);
    auto("auto/3", &pod, &["index 3", "0 to 2"]);
    let again = [
        ("SLURM_ARRAY_TASK_ID", "5"),
        ("SLURM_ARRAY_TASK_MIN", "5"),
        ("SLURM_ARRAY_TASK_MAX", "5"),
        ("SLURM_ARRAY_TASK_COUNT", "1"),
    ];
    auto("auto/16", &again, &["1 task(s), not 16", "--shard 3/16"]);
}

#[test]
fn samples_of_another_run_are_neither_continued_nor_overwritten() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    let score = "score tiny --suite VILLAGE/suite --calibrate-items 2";
    bench
        .slim(&format!("{score} --shard 1/2 --samples s.jsonl"))
        .quietly();
    let eval = "eval tiny --suite VILLAGE/suite --items 2 --protocols choice";
    bench
        .slim(&format!("{eval} --samples eval.jsonl"))
        .quietly();
    fs::write(bench.path("diary.jsonl"), "{\"today\": 1}\n").unwrap();
    fs::write(bench.path("note"), "no line").unwrap();
    fs::create_dir(bench.path("folder")).unwrap();
    let text = String::from_utf8(read(&bench, "s.jsonl")).unwrap();
    let (header, _) = text.split_once('\n').unwrap();
    fs::write(bench.path("broken.jsonl"), format!("{header}\n{{\"po\n")).unwrap();
    let n_layers = "\"n_layers\":4,";
    assert!(header.contains(n_layers), "{header}");
    let other = |name: &str, from: &str, to: &str| {
        fs::write(bench.path(name), text.replace(from, to)).unwrap();
    };
    other(
        "newer.jsonl",
        "{\"schema_version\":1,",
        "{\"schema_version\":2,",
    );
    other("deeper.jsonl", n_layers, "\"n_layers\":5,");
    let shard = format!("{score} --shard 1/2 --samples");
    assert_refused(
        &bench,
        &[
            (
                "score VILLAGE --suite VILLAGE/suite --calibrate-items 2 --shard 1/2 --samples s.jsonl",
                &[
                    "s.jsonl is of another run",
                    "the model differ",
                    "remove this one",
                ],
            ),
            (
                "score tiny --suite VILLAGE/suite --calibrate-items 3 --shard 1/2 --samples s.jsonl",
                &["another run", "--calibrate-items differ", "2 there, 3 here"],
            ),
            (
                &format!("{shard} s.jsonl --compute q8_0"),
                &["another run", "--compute differ", "f32 there, q8_0 here"],
            ),
            (
                &format!("{shard} s.jsonl --protocols choice"),
                &["another run", "the questions differ"],
            ),
            (
                &format!("{score} --shard 2/2 --samples s.jsonl"),
                &["another run", "the shard differ", "1/2 there, 2/2 here"],
            ),
            (
                &format!("{score} --samples s.jsonl"),
                &["the shard differ", "1/2 there, 1/1 here"],
            ),
            (
                &format!("{shard} eval.jsonl"),
                &["eval.jsonl is no file of samples that slim score"],
            ),
            (
                &format!("{eval} --samples s.jsonl"),
                &["s.jsonl is no file of samples"],
            ),
            (
                &format!("{shard} diary.jsonl"),
                &["diary.jsonl is no file of samples"],
            ),
            (&format!("{shard} note"), &["note is no file of samples"]),
            (&format!("{shard} folder"), &["folder"]),
            (
                &format!("{shard} /dev/null"),
                &["/dev/null", "no regular file"],
            ),
            (
                &format!("{shard} absent/s.jsonl"),
                &["absent", "does not exist"],
            ),
            (&format!("{shard} broken.jsonl"), &["broken.jsonl, line 2"]),
            (
                &format!("{shard} newer.jsonl"),
                &["version of the format differ", "2 there, 1 here"],
            ),
            (
                &format!("{shard} tiny/model.safetensors"),
                &["model.safetensors"],
            ),
            (
                "score --merge newer.jsonl",
                &["version 2", "reads 1", "score the shard again"],
            ),
            (
                "score --merge deeper.jsonl",
                &["deeper.jsonl", "model of 5 layers"],
            ),
            ("score --merge broken.jsonl", &["broken.jsonl, line 2"]),
        ],
    );
}

#[test]
fn shards_that_make_no_whole_are_not_merged() {
    let bench = Bench::new();
    tiny::write(&bench, "tiny");
    let score = format!("{SCORE} --shard");
    for shard in ["1/3", "2/3", "2/2"] {
        let name = shard.replace('/', "-");
        bench
            .slim(&format!("{score} {shard} --samples {name}.jsonl"))
            .quietly();
    }
    let other = "score VILLAGE --suite VILLAGE/suite --calibrate-items 8 --shard 2/3";
    bench
        .slim(&format!("{other} --samples other.jsonl"))
        .quietly();
    fs::write(bench.path("empty.jsonl"), "").unwrap();
    fs::copy(bench.path("1-3.jsonl"), bench.path("copy.jsonl")).unwrap();
    assert_refused(
        &bench,
        &[
            (
                "score --merge 1-3.jsonl 2-3.jsonl -o p.json",
                &["portions are missing", "shard 3/3", "--shard 3/3"],
            ),
            ("score --merge 2-3.jsonl", &["shard 1/3, 3/3"]),
            (
                "score --merge 1-3.jsonl copy.jsonl 2-3.jsonl",
                &["stands in 1-3.jsonl and in copy.jsonl", "each shard once"],
            ),
            ("score --merge 1-3.jsonl 1-3.jsonl", &["each shard once"]),
            (
                "score --merge 1-3.jsonl other.jsonl",
                &[
                    "1-3.jsonl and other.jsonl are not of one run",
                    "the model differ",
                ],
            ),
            (
                "score --merge 1-3.jsonl absent.jsonl",
                &["absent.jsonl", "no such file"],
            ),
            (
                "score --merge empty.jsonl",
                &["empty.jsonl is no file of samples"],
            ),
            ("score --merge tiny", &["tiny is no file of samples"]),
            ("score --merge", &["--merge", "value"]),
            ("score --merge 1-3.jsonl -o 1-3.jsonl", &["1-3.jsonl"]),
            (
                "score VILLAGE --merge 1-3.jsonl",
                &["cannot be used with", "--merge"],
            ),
            (
                "score --merge 1-3.jsonl --samples s.jsonl",
                &["cannot be used with"],
            ),
            (
                "score --merge 1-3.jsonl --shard 1/3 --samples s",
                &["cannot be used with"],
            ),
            (
                "score --merge 1-3.jsonl --protocols choice",
                &["cannot be used with"],
            ),
            (
                "score --merge 1-3.jsonl --calibrate-items 3",
                &["cannot be used with"],
            ),
            ("score", &["model"]),
            (&format!("{score} 1/2"), &["--samples"]),
            (
                &format!("{score} 1/2 --samples s -o p.json"),
                &["1/2 alone", "--merge"],
            ),
            (
                &format!("{score} 1/2 --samples s --json"),
                &["1/2 alone", "--merge"],
            ),
            (
                &format!("{score} 0/2 --samples s"),
                &["counted from 1", "1/2 to 2/2"],
            ),
            (&format!("{score} 3/2 --samples s"), &["no shard 3/2"]),
            (
                &format!("{score} third --samples s"),
                &["'third' is no shard", "3/16"],
            ),
            (&format!("{SCORE} --samples s.json -o s.json"), &["s.json"]),
        ],
    );
}

/// A scheduler may start a task anew while the old one still runs on a lost machine.
#[test]
fn two_runs_do_not_write_to_one_file() {
    let (bench, samples, _) = whole(SCORE);
    let file = fs::File::open(bench.path("whole.jsonl")).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    let ran = bench.slim(&format!("{SCORE} --samples whole.jsonl"));
    assert_eq!(
        ran.unlike_an_error(&["whole.jsonl", "another slim writes"]),
        None
    );
    assert!(read(&bench, "whole.jsonl") == samples);
}

#[test]
fn every_line_says_what_it_holds() {
    let (_, samples, _) = whole(SCORE);
    let text = String::from_utf8(samples).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = lines.next().unwrap();
    assert_eq!(header["shard"], "1/1");
    let n_layers = header["n_layers"].as_u64().unwrap() as usize;
    let mut asked = 0;
    for (portion, record) in lines.enumerate() {
        assert_eq!(record["portion"].as_u64(), Some(portion as u64));
        for sample in record["samples"].as_array().unwrap() {
            let values = sample["values"].as_array().unwrap();
            assert_eq!(values.len(), n_layers + 1);
            assert!(values.iter().all(|v| v.as_f64().unwrap() <= 0.0), "nats");
            asked += 1;
        }
    }
    assert_eq!(asked, 4 * 3 * 8, "families, protocols, items");
}
