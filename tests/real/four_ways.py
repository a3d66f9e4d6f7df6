"""Prunes one model four ways (safetensors and GGUF in, safetensors and GGUF out), loads every
result in the runtime of its format (transformers, stock llama.cpp), and prints how closely they
agree, as Markdown.

    pip install torch transformers numpy
    LLAMA_CPP=target/real python tests/real/four_ways.py SLIM MODEL.gguf HF_FOLDER OUT [LAYERS]

HF_FOLDER holds the same model as MODEL.gguf. By hand, not in .ci/run: torch is 3 GB.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
ASKED = json.loads((HERE / "prompts.json").read_text())
LAST = 8  # positions of each prompt that are compared


def llama_cpp(model, out):
    """[{tokens, greedy, text}] and log-probabilities [positions, vocabulary]."""
    subprocess.run(["node", HERE / "dump.mjs", model, out, str(LAST)], check=True)
    answers = json.loads(Path(f"{out}.json").read_text())
    rows = sum(min(LAST, len(answer["tokens"])) for answer in answers)
    return answers, np.fromfile(f"{out}.f32", np.float32).reshape(rows, -1)


def transformers(folder, _out):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    answers, rows = [], []
    for prompt in ASKED["prompts"]:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(ids).logits[0, -LAST:].double()
            written = model.generate(ids, max_new_tokens=ASKED["new_tokens"], do_sample=False, repetition_penalty=1.0)
        greedy = written[0, ids.shape[1] :].tolist()
        ends = model.generation_config.eos_token_id
        if greedy and greedy[-1] in (ends if isinstance(ends, list) else [ends]):
            greedy.pop()
        rows.append(torch.log_softmax(logits, -1).float().numpy())
        answers.append({"tokens": ids[0].tolist(), "greedy": greedy, "text": tokenizer.decode(greedy)})
    return answers, np.concatenate(rows)


def compare(one, other):
    (a, rows), (b, others) = one, other
    for x, y in zip(a, b, strict=True):
        assert x["tokens"] == y["tokens"], f"token ids differ: {x['tokens']} {y['tokens']}"
    likely = rows > -20  # where probabilities in f32 still say something
    worst = np.abs(rows - others)[likely].max()
    same_top = (rows.argmax(1) == others.argmax(1)).mean()
    same_text = sum(x["greedy"] == y["greedy"] for x, y in zip(a, b))
    return f"{worst:.1e} | {same_top:.0%} | {same_text} of {len(a)}"


def main(slim, gguf, folder, out, layers="9,10,12,13,14,17"):
    out = Path(out)
    out.mkdir(parents=True)
    ways = {  # name: source, target, type, runtime
        "safetensors → GGUF": (folder, "st.gguf", "f32", llama_cpp),
        "safetensors → safetensors": (folder, "st", "keep", transformers),
        "GGUF → GGUF": (gguf, "gg.gguf", "f32", llama_cpp),
        "GGUF → safetensors": (gguf, "gg", "f32", transformers),
        "GGUF → GGUF, kept Q4_1": (gguf, "kept.gguf", "keep", llama_cpp),
        "safetensors → GGUF, kept BF16": (folder, "bf16.gguf", "keep", llama_cpp),
    }
    read = {}
    for name, (source, target, outtype, runtime) in ways.items():
        target = out / target
        subprocess.run([slim, "prune", "--drop-layers", layers, "--outtype", outtype, source, target], check=True)
        read[name] = runtime(target, out / "dump")
        print(f"{name}:", *(repr(answer["text"]) for answer in read[name][0]), sep="\n    ", flush=True)
    names = list(ways)
    pairs = [(0, 1), (2, 3), (0, 2), (1, 3), (2, 4), (0, 5)]
    print("\n| one | other | log-probability, at most | same most likely token | same greedy text |")
    print("|---|---|---|---|---|")
    for i, j in pairs:
        print(f"| {names[i]} | {names[j]} | {compare(read[names[i]], read[names[j]])} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
