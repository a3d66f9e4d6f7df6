"""Leaving out each layer in turn: a plain loop over transformers (f32) next to slim score, on the same questions.

    python tests/real/ablation_speed.py SLIM MODEL DATA FOLDER [QUESTIONS]

MODEL is a Hugging Face folder, DATA the folder with arc_easy_test.jsonl (../shared/data), FOLDER takes the questions in
the hub's layout. The loop asks the options of a question as one padded batch, as scripts do. Both use two threads.
Prints Markdown: seconds, the ratio, peak memory, how many of the accuracies differ; the same for block influence.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

THREADS = os.environ.get("THREADS", "2")


def prepare(data, folder, n):
    """The questions as ARC's documents. slim's calibrate split is every fifth."""
    rows = [json.loads(line) for line in (data / "arc_easy_test.jsonl").read_text().splitlines()]
    place = folder / "ai2_arc" / "ARC-Easy"
    place.mkdir(parents=True, exist_ok=True)
    rows = [row for row in rows if len(row["choices"]) == 4]
    document = lambda row: {"question": row["query"].removeprefix("Question: "), "answerKey": "ABCD"[row["gold"]],
                            "choices": {"text": row["choices"], "label": list("ABCD")}}
    documents = [document(row) for row in rows]
    (place / "test.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    return documents[::5][:n]


def slim(binary, model, folder, n):
    command = [binary, "score", model, "--tasks", "arc_easy", "--data", str(folder), "--calibrate-items", str(n),
               "-o", str(folder / "profile.json")]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "RAYON_NUM_THREADS": THREADS})
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {command}")
    profile = json.loads((folder / "profile.json").read_text())
    whole = profile["original"][0]["accuracy"]
    found = [whole] + [whole - layer["drops"][0]["accuracy"] for layer in profile["layers"]]
    return {"seconds": time.perf_counter() - begin, "peak": usage.ru_maxrss, "accuracies": found,
            "influence": [layer["influence"] for layer in profile["layers"]]}


def loop(model_path, questions):
    """Runs in a process of its own, so that its memory is its own."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(int(THREADS))
    torch.set_grad_enabled(False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(model_path) / "tokenizer.json"))
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
    begin = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    loading = time.perf_counter() - begin
    layers = list(model.model.layers)
    batches, states = [], []
    for question in questions:
        prompt = f"Question: {question['question']}\nAnswer:"
        options = [encode(f"{prompt} {option}") for option in question["choices"]["text"]]
        longest = max(map(len, options))
        ids = torch.tensor([option + [0] * (longest - len(option)) for option in options])
        mask = torch.tensor([[1] * len(option) + [0] * (longest - len(option)) for option in options])
        batches.append((ids, mask, len(encode(prompt)), [len(o) for o in options], "ABCD".index(question["answerKey"])))

    def accuracy(observe=None):
        right = 0
        for ids, mask, start, lengths, answer in batches:
            states.clear()
            out = model(input_ids=ids, attention_mask=mask, use_cache=False)
            log_probs = torch.log_softmax(out.logits, -1)
            scores = [sum(float(log_probs[i, t - 1, ids[i, t]]) for t in range(start, n)) for i, n in enumerate(lengths)]
            right += scores.index(max(scores)) == answer
            if observe is not None:
                observe(mask)
        return right / len(batches)

    def keep(some):
        model.model.layers = torch.nn.ModuleList(some)
        model.config.num_hidden_layers = len(some)

    begin = time.perf_counter()
    found = [accuracy()]
    for layer in range(len(layers)):
        keep(layers[:layer] + layers[layer + 1:])
        found.append(accuracy())
    ablation = time.perf_counter() - begin
    keep(layers)
    sums = [0.0] * len(layers)
    tokens = 0

    # The last of transformers' hidden states is behind the final norm, so layers are watched.
    for layer in layers:
        layer.register_forward_hook(lambda _, inputs, out: states.append((inputs[0], out[0] if isinstance(out, tuple) else out)))

    def influence(mask):
        nonlocal tokens
        tokens += int(mask.sum())
        for layer, (before, after) in enumerate(states):
            similarity = torch.nn.functional.cosine_similarity(before, after, dim=-1)
            sums[layer] += float(((1 - similarity) * mask).sum())

    begin = time.perf_counter()
    accuracy(influence)
    return {"loading": loading, "seconds": ablation, "influence_seconds": time.perf_counter() - begin, "accuracies": found,
            "influence": [s / tokens for s in sums], "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def main(binary, model, data, folder, n="20"):
    folder = Path(folder).resolve()
    questions = prepare(Path(data), folder, int(n))
    command = [sys.executable, __file__, "--loop", model]
    their = json.loads(subprocess.run(command, input=json.dumps(questions), check=True, capture_output=True, text=True,
                                      env={**os.environ, "OMP_NUM_THREADS": THREADS, "TOKENIZERS_PARALLELISM": "false"}).stdout)
    our = slim(binary, model, folder, int(n))
    differ = sum(abs(a - b) > 1e-9 for a, b in zip(our["accuracies"], their["accuracies"], strict=True))
    print("| ablation of every layer, and block influence | seconds | peak RSS, MiB |")
    print("|---|---|---|")
    print(f"| transformers, {len(questions)} questions, {len(their['accuracies'])} models | {their['seconds']:.1f} + {their['loading']:.1f} "
          f"loading, {their['influence_seconds']:.1f} influence | {their['peak'] / 1024:.0f} |")
    print(f"| slim score, all of it | {our['seconds']:.1f} | {our['peak'] / 1024:.0f} |")
    total = their["seconds"] + their["influence_seconds"] + their["loading"]
    print(f"\n{total / our['seconds']:.1f} × as fast; {differ} of {len(our['accuracies'])} accuracies differ.")
    worst = max(range(len(our["influence"])), key=lambda i: abs(our["influence"][i] - their["influence"][i]))
    print(f"Block influence, layer {worst} (the largest difference): {our['influence'][worst]:.5f} and {their['influence'][worst]:.5f}: "
          "the loop counts a question's prompt once an option, slim once.")


if __name__ == "__main__":
    if sys.argv[1] == "--loop":
        print(json.dumps(loop(sys.argv[2], json.load(sys.stdin))))
    else:
        main(*sys.argv[1:])
