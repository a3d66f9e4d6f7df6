"""Compares slim eval with lm-evaluation-harness (transformers, f32) item by item, and prints Markdown.

    python tests/real/eval_parity.py SLIM MODEL DATA FOLDER LIMIT [TASK…]

MODEL is a Hugging Face folder, DATA the folder with public benchmark items (../shared/data), FOLDER
takes datasets in the hub's layout and results; the harness's results are kept there and used again.
Both use two threads. The harness runs its own task files; only where the documents lie is changed.
Tasks that it lacks (popqa, kv_retrieval, nq_open_context) it runs from `slim suite export`.
With CHAT=1 both use the model's chat template, each example a turn of either side.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

THREADS = os.environ.get("THREADS", "2")
CHAT = os.environ.get("CHAT") == "1"
LETTERS = "ABCDE"
EXPORTED = "(from slim suite export)"


def rows(data, name):
    return [json.loads(line) for line in (data / f"{name}.jsonl").read_text().splitlines()]


def choices(row, text):
    labels = LETTERS[: len(row["choices"])]
    return {"choices": {"text": row["choices"], "label": list(labels)}, "answerKey": labels[row["gold"]], **text}


def winogrande(row):
    first, second = row["context_options"]
    common = os.path.commonprefix([first, second])
    start = common.rfind(" ") + 1
    return {"sentence": f"{first[:start]}_ {row['continuation']}", "option1": first[start:],
            "option2": second[start:], "answer": str(row["gold"] + 1)}


def hellaswag(row):
    label, _, rest = row["ctx"].partition(": ")
    return {"activity_label": label, "ctx_a": rest, "ctx_b": "", "endings": row["endings"], "label": str(row["label"])}


def bbh(row):
    return {k: row[k] for k in ("input", "target")}


def mathqa(row):
    """The items have four of the five options; a usual fifth stands in, the same for both programs."""
    problem, *options = row["query"].removeprefix("Question: ").removesuffix("\nAnswer: ").split("\n")
    texts = [option.split(". ", 1)[1] for option in options] + ["none of these"]
    return {"Problem": problem, "correct": "abcde"[row["gold"]],
            "options": " , ".join(f"{letter} ) {text}" for letter, text in zip("abcde", texts))}


# Our task → (file in DATA, document in the hub's layout, split, folder, the harness's task file).
TASKS = {
    "arc_easy": ("arc_easy_test", lambda r: choices(r, {"question": r["query"].removeprefix("Question: ")}), "test", "ai2_arc/ARC-Easy", "arc/arc_easy.yaml"),
    "openbookqa": ("openbookqa_test", lambda r: choices(r, {"question_stem": r["query"]}), "test", "openbookqa/main", "openbookqa/openbookqa.yaml"),
    "piqa": ("piqa_valid", lambda r: {k: r[k] for k in ("goal", "sol1", "sol2", "label")}, "validation", "piqa/data", "piqa/piqa.yaml"),
    "winogrande": ("winogrande_dev", winogrande, "validation", "winogrande/winogrande_xl", "winogrande/default.yaml"),
    "hellaswag": ("hellaswag_val", hellaswag, "validation", "hellaswag/data", "hellaswag/hellaswag.yaml"),
    "lambada_openai": ("lambada_openai", lambda r: {"text": f"{r['context']} {r['continuation']}"}, "test", "lambada_openai/default", "lambada/lambada_openai.yaml"),
    "gsm8k": ("gsm8k_test", lambda r: {k: r[k] for k in ("question", "answer")}, "test", "gsm8k/main", "gsm8k/gsm8k.yaml"),
    "nq_open": ("nq_open_dev", lambda r: {k: r[k] for k in ("question", "answer")}, "validation", "nq_open/data", "nq_open/nq_open.yaml"),
    "blimp": ("blimp", lambda r: r, "train", "blimp/data", None),
    **{f"bbh_zeroshot_{name}": (f"bbh_{name}", bbh, "test", f"bbh/{name}", f"bbh/zeroshot/{name}.yaml")
       for name in ("boolean_expressions", "navigate", "object_counting", "tracking_shuffled_objects_three_objects")},
    "babi": ("babi_en", lambda r: {"passage": r["story"] + "\n", **{k: r[k] for k in ("question", "answer", "task")}}, "test", "babi/data", "babi/babi.yaml"),
    "mathqa": ("math_qa", mathqa, "test", "math_qa/data", "mathqa/mathqa.yaml"),
    "popqa": ("popqa_bf", lambda r: {"id": r["id"], "question": r["input"], "possible_answers": r["output"], "s_pop": r["s_pop"]}, "test", "PopQA/data", EXPORTED),
    "kv_retrieval": ("kv_retrieval_75", lambda r: r, "test", "kv_retrieval/data", EXPORTED),
    "nq_open_context": ("nq_open_oracle", lambda r: r, "test", "nq-open-oracle/data", EXPORTED),
    "wikitext": (None, None, "test", "wikitext_document_level/wikitext-2-raw-v1", "wikitext/wikitext.yaml"),
    "mmlu": ("mmlu_test", lambda r: r, "test", "mmlu/all", "mmlu/default/mmlu_{}.yaml"),
    "mmlu_continuation": ("mmlu_test", lambda r: r, "test", "mmlu/all", "mmlu/continuation/mmlu_{}.yaml"),
    "mmlu_generative": ("mmlu_test", lambda r: r, "test", "mmlu/all", "mmlu/generative/mmlu_{}.yaml"),
}
SHOTS = {"mmlu": 5, "mmlu_continuation": 5, "mmlu_generative": 5}


def write(path, documents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(d) + "\n" for d in documents))


def pages(data):
    """Articles of the raw WikiText, a document each."""
    text, found = (data / "wikitext2_test_a.raw").read_text(), []
    for line in text.splitlines(keepends=True):
        if line.startswith(" = ") and not line.startswith(" = = "):
            found.append("")
        if found:
            found[-1] += line
    return [{"page": page} for page in found]


def prepare(task, data, folder):
    name, document, split, place, _ = TASKS[task]
    documents = pages(data) if task == "wikitext" else [document(row) for row in rows(data, name)]
    write(folder / "hub" / place / f"{split}.jsonl", documents)
    if task == "gsm8k":
        write(folder / "hub" / place / "train.jsonl", [document(row) for row in rows(data, "gsm8k_train_fewshot")])
    if task.startswith("mmlu"):
        write(folder / "hub" / place / "dev.jsonl", rows(data, "mmlu_dev"))
    return documents


def harness_files(task, data, folder, documents, limit):
    """Task files of the harness that read our documents; returns (their names, which documents each has)."""
    import lm_eval

    tasks = Path(lm_eval.__file__).parent / "tasks"
    _, _, split, place, file = TASKS[task]
    out = folder / "harness" / task
    out.mkdir(parents=True, exist_ok=True)
    indices = {}

    def one(name, include, files, group):
        kwargs = json.dumps({"data_files": {split: str(path) for split, path in files.items()}})
        (out / f"{name}.yaml").write_text(
            f"include: {include}\ntask: {name}\ndataset_path: json\ndataset_name: null\ndataset_kwargs: {kwargs}\n"
            + "".join(f"{kind}_split: null\n" for kind in ("training", "validation", "test")
                      if {"training": "train"}.get(kind, kind) not in files and (task, kind) != ("blimp", "validation")))
        indices[name] = group

    if task.startswith("mmlu") or task == "blimp":
        key = "UID" if task == "blimp" else "subject"
        for value in dict.fromkeys(d[key] for d in documents[:limit]):
            group = [i for i, d in enumerate(documents[:limit]) if d[key] == value]
            files = {split: out / f"{value}.{split}.jsonl"}
            write(files[split], [documents[i] for i in group])
            if task != "blimp":
                files["dev"] = out / f"{value}.dev.jsonl"
                write(files["dev"], [r for r in rows(data, "mmlu_dev") if r["subject"] == value])
            name = "blimp/" + value + ".yaml" if task == "blimp" else file.format(value)
            one(f"x_{task}_{value}", tasks / name, files, group)
    else:
        hub = folder / "hub" / place
        source = folder / f"{task}.yaml" if file == EXPORTED else tasks / file
        one(f"x_{task}", source, {path.stem: path for path in hub.glob("*.jsonl")}, list(range(len(documents)))[:limit])
    return out, indices


def tokenizer(model, folder):
    """tokenizer.json as it stands: for the class GPT2Tokenizer transformers 5 makes its own splitting of digits."""
    copy = folder / "tokenizer"
    copy.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(model) / "tokenizer.json", copy)
    config = json.loads((Path(model) / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return str(copy)


def harness(model, task, data, folder, limit):
    """Runs in a process of its own, so that its memory is its own."""
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(int(THREADS))
    documents = prepare(task, data, folder)
    include, indices = harness_files(task, data, folder, documents, limit)
    lm = HFLM(pretrained=model, tokenizer=tokenizer(model, folder), dtype="float32", device="cpu", batch_size=8)
    begin = time.perf_counter()
    results = simple_evaluate(lm, tasks=list(indices), task_manager=TaskManager(include_path=str(include), include_defaults=False),
                              num_fewshot=SHOTS.get(task), limit=limit, bootstrap_iters=0, log_samples=True,
                              apply_chat_template=CHAT, fewshot_as_multiturn=CHAT)
    seconds = time.perf_counter() - begin
    items = {}
    for name, samples in results["samples"].items():
        for sample in samples:
            item = items.setdefault(str(indices[name][sample["doc_id"]]), {"metrics": {}})
            resps = [r[0] for r in sample["resps"]]
            item["log_probs"] = [r[0] if isinstance(r, (list, tuple)) else r for r in resps] if not isinstance(resps[0], str) else None
            item["prompt"] = sample["arguments"][0][0]
            item["said"] = resps[0] if isinstance(resps[0], str) else None
            for metric in sample["metrics"]:
                value = sample[metric]
                item["metrics"][f"{metric},{sample['filter']}"] = value if not isinstance(value, (list, tuple)) else value[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    json.dump({"seconds": seconds, "peak": peak, "items": items}, open(folder / f"{task}.harness.json", "w"))


def slim(binary, model, task, folder, limit):
    samples = folder / f"{task}.samples.jsonl"
    samples.unlink(missing_ok=True)
    command = [binary, "eval", model, "--tasks", task, "--data", str(folder / "hub"), "--limit", str(limit),
               "--samples", str(samples), "-o", str(folder / f"{task}.slim.json")]
    command += ["--num-fewshot", str(SHOTS[task])] if task in SHOTS else []
    command += ["--apply-chat-template"] if CHAT else []
    begin = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "RAYON_NUM_THREADS": THREADS}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {command}")
    seconds = time.perf_counter() - begin
    lines = [json.loads(line) for line in samples.read_text().splitlines()[1:]]
    return {"seconds": seconds, "peak": usage.ru_maxrss, "items": {line["id"]: line for line in lines}}


def compare(task, ours, theirs):
    """One row a metric."""
    assert set(ours["items"]) == set(theirs["items"]), (task, len(ours["items"]), len(theirs["items"]))
    worst, texts, differ = 0.0, 0, {}
    for id, their in theirs["items"].items():
        our = ours["items"][id]
        if our["prompt"]:  # of a whole article there is none
            assert our["prompt"] == their.get("prompt", our["prompt"]), (task, id, our["prompt"], their["prompt"])
        if their["log_probs"] is not None:
            # The windows of a long text are one number there.
            found = [sum(our["log_probs"])] if len(their["log_probs"]) < len(our["log_probs"]) else our["log_probs"]
            worst = max([worst, *(abs(a - b) / max(1, abs(b)) for a, b in zip(found, their["log_probs"], strict=True))])
        elif our["said"] != their["said"]:
            texts += 1
        for measured in our["metrics"]:
            # A filter of ours in the place of one that is Python has another name.
            if measured["metric"] in their["metrics"]:
                values = differ.setdefault(measured["metric"], [])
                values.append((measured["value"], float(their["metrics"][measured["metric"]])))
    ratio = theirs["seconds"] / ours["seconds"]
    n, generated = len(theirs["items"]), next(iter(theirs["items"].values()))["said"] is not None
    for metric, values in differ.items():
        mean = lambda side: sum(v[side] for v in values) / len(values)
        other = sum(abs(a - b) > 1e-3 * max(1, abs(b)) for a, b in values)
        likeness = f"{texts} texts" if generated else f"{worst:.1e}"
        print(f"| {task} | {n} | {metric} | {mean(0):.4f} | {mean(1):.4f} | {other} | {likeness} | {ours['seconds']:.1f} | "
              f"{theirs['seconds']:.1f} | {ratio:.1f} | {ours['peak'] / 1024:.0f} and {theirs['peak'] / 1024:.0f} |")


def main(binary, model, data, folder, limit, *tasks):
    data, folder, limit = Path(data).resolve(), Path(folder).resolve(), int(limit)
    print("| task | items | metric | slim | harness | items that differ | log-likelihoods, relative, or texts that differ | slim, s | harness, s | × | peak RSS, MiB |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for task in tasks or TASKS:
        kept = folder / f"{task}.harness.json"
        if not kept.exists():
            folder.mkdir(parents=True, exist_ok=True)
            if TASKS[task][-1] == EXPORTED:
                exported = subprocess.run([binary, "suite", "export", task], check=True, stdout=subprocess.PIPE)
                (folder / f"{task}.yaml").write_bytes(exported.stdout)
            subprocess.run([sys.executable, __file__, "--harness", model, task, str(data), str(folder), str(limit)], check=True,
                           env={**os.environ, "OMP_NUM_THREADS": THREADS, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
                           stdout=subprocess.DEVNULL, stderr=open(folder / f"{task}.log", "w"))
        prepare(task, data, folder)
        compare(task, slim(binary, model, task, folder, limit), json.loads(kept.read_text()))
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "--harness":
        _, _, model, task, data, folder, limit = sys.argv
        harness(model, task, Path(data), Path(folder), int(limit))
    else:
        main(*sys.argv[1:])
