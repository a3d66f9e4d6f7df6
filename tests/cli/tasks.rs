//! Tasks in the harness's words, through the binary: results, samples, and runs that were killed.

use super::bench::{Bench, village};
use serde_json::Value;
use std::fs;

const TASK: &str = r#"task: farm
dataset_path: json
dataset_kwargs: {data_files: {test: farm.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{options}}"
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
metadata: {version: 2, family: knowledge, slices: "{{kind}}"}
"#;

/// A bench with the village's suite, and a task file of our own beside its documents.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::write(bench.path("farm.yaml"), TASK).unwrap();
    let document = |i: usize| {
        format!(
            "{{\"question\": \"Anna has the lamp number {i}. Now the lamp is with\", \"options\": \
             [\"Anna\", \"Bob\"], \"answer\": 0, \"kind\": \"k{}\"}}\n",
            i % 2
        )
    };
    let documents: String = (0..7).map(document).collect();
    fs::write(bench.path("farm.jsonl"), documents).unwrap();
    bench
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn results_are_in_the_harnesss_schema_and_in_a_table() {
    let bench = bench();
    let model = village().display().to_string();
    let ran = bench
        .slim(&format!("eval {model} --tasks farm.yaml --limit 5 --json"))
        .quietly();
    let found = json(&ran.stdout);
    let result = &found["results"]["farm"];
    let accuracy = result["acc,none"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&accuracy));
    assert!(result["acc_norm,none"].is_number() && result["acc_stderr,none"].is_number());
    assert_eq!(found["n-samples"]["farm"]["effective"], 5);
    assert_eq!(found["n-shot"]["farm"], 0);
    assert_eq!(found["versions"]["farm"], "2");
    assert_eq!(found["higher_is_better"]["farm"]["acc"], true);
    assert_eq!(found["configs"]["farm"]["output_type"], "multiple_choice");
    let ran = bench.slim(&format!("eval {model} --tasks farm.yaml"));
    assert!(
        ran.stdout.contains("|farm ") || ran.stdout.contains("| farm "),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("acc_norm"), "{}", ran.stdout);
}

#[test]
fn a_run_that_was_killed_is_taken_up_and_gives_the_same_numbers() {
    let bench = bench();
    let model = village().display().to_string();
    let suite = village().join("suite").display().to_string();
    let run = format!("eval {model} --suite {suite} --items 20 --samples s.jsonl -o");
    bench.slim(&format!("{run} whole.json")).quietly();
    let whole = fs::read_to_string(bench.path("whole.json")).unwrap();
    let samples = fs::read(bench.path("s.jsonl")).unwrap();
    let lines = samples.iter().filter(|&&byte| byte == b'\n').count();
    assert!(lines > 130, "more than two portions: {lines}");
    // A kill leaves any number of bytes behind, also none and half a line.
    for share in [0, 10, 45, 80, 99] {
        let kept = samples.len() * share / 100;
        fs::write(bench.path("s.jsonl"), &samples[..kept]).unwrap();
        let ran = bench.slim(&format!("{run} again.json"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(
            ran.stderr.contains("are answered"),
            kept > 2000,
            "{}",
            ran.stderr
        );
        let again = fs::read_to_string(bench.path("again.json")).unwrap();
        assert!(again == whole, "after {share} % of the file");
        let mut now: Vec<String> = lines_of(&fs::read(bench.path("s.jsonl")).unwrap());
        let mut then = lines_of(&samples);
        now.sort();
        then.sort();
        assert!(now == then, "{share} %: every question has one line");
    }
}

fn lines_of(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn samples_of_another_run_are_not_mixed_in() {
    let bench = bench();
    let model = village().display().to_string();
    let run = |limit: usize| {
        bench.slim(&format!(
            "eval {model} --tasks farm.yaml --limit {limit} --samples s.jsonl"
        ))
    };
    assert_eq!(run(3).code, Some(0));
    let before = fs::read(bench.path("s.jsonl")).unwrap();
    let refused = run(4);
    let words = ["s.jsonl", "another run", "the questions differ", "remove"];
    assert_eq!(refused.unlike_an_error(&words), None);
    fs::write(bench.path("s.jsonl"), "a diary\n").unwrap();
    let refused = run(3);
    assert_eq!(refused.unlike_an_error(&["no file of samples"]), None);
    assert_eq!(fs::read(bench.path("s.jsonl")).unwrap(), b"a diary\n");
    assert!(before.starts_with(b"{\"slim\""));
}

#[test]
fn an_item_is_shown_with_its_prompt_and_tokens() {
    let bench = bench();
    let model = village().display().to_string();
    let ran = bench
        .slim(&format!("suite show farm.yaml 2 --model {model}"))
        .quietly();
    for words in [
        "lamp number 2",
        "✓ \" Anna\"",
        "  \" Bob\"",
        "→",
        "slices k0",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let refused = bench.slim("suite show farm.yaml 99");
    assert_eq!(refused.unlike_an_error(&["no item", "99", "7 items"]), None);
    let exported = bench.slim("suite export hellaswag").quietly();
    assert!(exported.stdout.contains("task: hellaswag"));
    let listed = bench.slim("suite list").quietly();
    assert!(listed.stdout.contains("knowledge_places") && listed.stdout.contains("gsm8k"));
}

#[test]
fn a_chat_template_is_applied_on_request_and_its_absence_told() {
    let bench = bench();
    let copy = bench.path("copy");
    fs::create_dir(&copy).unwrap();
    for entry in village().read_dir().unwrap().flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let config = copy.join("tokenizer_config.json");
    let mut fields = json(&fs::read_to_string(&config).unwrap());
    fields.as_object_mut().unwrap().remove("chat_template");
    fs::write(&config, fields.to_string()).unwrap();
    let refused = bench.slim("eval copy --tasks farm.yaml --apply-chat-template");
    let words = ["no chat template", "--apply-chat-template"];
    assert_eq!(refused.unlike_an_error(&words), None);
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}<assistant>{% endif %}";
    fs::write(copy.join("chat_template.jinja"), template).unwrap();
    let shown = bench
        .slim("suite show farm.yaml 1 --model copy --apply-chat-template --num-fewshot 0")
        .quietly();
    let chat = "<user>Anna has the lamp number 1. Now the lamp is with\n<assistant>";
    assert!(shown.stdout.contains(chat), "{}", shown.stdout);
    // A description that the template has no place for is left out, but not silently.
    let described = TASK.replace("doc_to_text", "description: On lamps.\ndoc_to_text");
    fs::write(bench.path("farm.yaml"), described).unwrap();
    let eval = "eval copy --tasks farm.yaml --limit 1 --apply-chat-template";
    bench.slim(eval).quietly();
    let strict = "{% for m in messages %}{% if m.role == 'system' %}\
                  {{ raise_exception('no system') }}{% endif %}{{ m.content }}{% endfor %}";
    fs::write(copy.join("chat_template.jinja"), strict).unwrap();
    let told = bench.slim(eval);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(
        told.stderr.contains("descriptions are left out"),
        "{}",
        told.stderr
    );
}

#[test]
fn perplexity_is_that_of_the_second_half_of_each_chunk() {
    let bench = bench();
    let model = village().display().to_string();
    let text =
        "Anna has the lamp. Anna gives the lamp to Bob. Now the lamp is with Bob. ".repeat(40);
    fs::write(bench.path("text.txt"), text).unwrap();
    let run = format!("eval {model} --perplexity text.txt --ctx-size 64 --json");
    let found = json(&bench.slim(&run).quietly().stdout);
    let chunks = found["chunks"].as_u64().unwrap();
    assert!(chunks >= 4);
    assert_eq!(found["scored"].as_u64().unwrap(), chunks * 31);
    assert!(found["perplexity"].as_f64().unwrap() > 1.0);
    let refused = bench.slim(&format!(
        "eval {model} --perplexity text.txt --ctx-size 100000"
    ));
    assert_eq!(refused.unlike_an_error(&["--ctx-size", "context"]), None);
}

#[test]
fn a_run_that_would_ask_nothing_or_of_no_data_is_refused() {
    let bench = bench();
    let model = village().display().to_string();
    for (options, words) in [
        (
            "--tasks farm.yaml --limit 0",
            &["nothing is asked", "--limit"][..],
        ),
        (
            "--tasks farm.yaml --protocols generate",
            &["nothing is asked", "--protocols"],
        ),
        ("--tasks piqa --data nowhere", &["nowhere", "no folder"]),
        (
            "--tasks farm.yaml --num-fewshot 50",
            &["num_fewshot", "is 50"],
        ),
    ] {
        let ran = bench.slim(&format!("eval {model} {options}"));
        assert_eq!(ran.unlike_an_error(words), None, "{options}");
    }
    let twice = TASK.replace("version: 2,", "version: 2, id: \"{{kind}}\",");
    fs::write(bench.path("farm.yaml"), twice).unwrap();
    let ran = bench.slim(&format!("eval {model} --tasks farm.yaml"));
    let words = ["metadata.id", "two documents", "k0"];
    assert_eq!(ran.unlike_an_error(&words), None);
}
