"""Compares slim eval with llama.cpp's llama-perplexity on the same GGUF: perplexity of a text, and HellaSwag.

    python tests/real/llama_perplexity.py SLIM LLAMA_PERPLEXITY MODEL.gguf TOKENIZER.json DATA FOLDER [ITEMS]

DATA is the folder with public benchmark items (../shared/data). llama.cpp runs with an f32 cache. It
divides an ending's log-probability by its tokens, the harness's acc_norm by its characters: slim's
log-probabilities are therefore also divided by tokens here.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from tokenizers import Tokenizer

EXACT = ["-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "2"]


def run(command):
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"failed: {command}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr, time.perf_counter() - begin


def perplexity(slim, llama, model, text):
    print("| chunks of 512 | slim | llama-perplexity | slim, s | llama-perplexity, s |\n|---|---|---|---|---|")
    for chunks in ("8", "24"):
        told, theirs = run([llama, "-m", model, "-f", text, "-c", "512", "-b", "512", "--chunks", chunks, *EXACT])
        expected = re.search(r"Final estimate: PPL = ([0-9.]+) \+/- ([0-9.]+)", told)
        told, ours = run([slim, "eval", model, "--perplexity", text, "--chunks", chunks, "--json"])
        found = json.loads(told)
        print(f"| {chunks} | {found['perplexity']:.4f} ± {found['stderr']:.2f} | {expected[1]} ± {float(expected[2]):.2f} | {ours:.1f} | {theirs:.1f} |")


def hellaswag(slim, llama, model, tokenizer, data, folder, items):
    rows = [json.loads(line) for line in (data / "hellaswag_val.jsonl").read_text().splitlines()][:items]
    theirs = folder / "hellaswag.txt"
    theirs.write_text("".join("\n".join([r["ctx"], str(r["label"]), *r["endings"]]) + "\n" for r in rows))
    place = folder / "hub/hellaswag/data"
    place.mkdir(parents=True, exist_ok=True)
    document = lambda r: {"activity_label": r["ctx"].partition(": ")[0], "ctx_a": r["ctx"].partition(": ")[2], "ctx_b": "",
                          "endings": r["endings"], "label": str(r["label"])}
    (place / "validation.jsonl").write_text("".join(json.dumps(document(r)) + "\n" for r in rows))
    told, their_time = run([llama, "-m", model, "--hellaswag", "--hellaswag-tasks", str(items), "-f", str(theirs), *EXACT])
    expected = [line for line in told.splitlines() if line.startswith(f"{items}\t")][-1].split("\t")[1]
    samples = folder / "samples.jsonl"
    samples.unlink(missing_ok=True)
    _, our_time = run([slim, "eval", model, "--tasks", "hellaswag", "--data", str(folder / "hub"), "--samples", str(samples)])
    lines = [json.loads(line) for line in samples.read_text().splitlines()[1:]]
    count = lambda text: len(Tokenizer.from_file(tokenizer).encode(text, add_special_tokens=False).ids)
    right = 0
    for line in lines:
        row = rows[int(line["id"])]
        tokens = [count(f"{row['ctx']} {ending}") - count(row["ctx"]) for ending in row["endings"]]
        shares = [log_prob / n for log_prob, n in zip(line["log_probs"], tokens)]
        right += shares.index(max(shares)) == row["label"]
    norm = sum(m["value"] for line in lines for m in line["metrics"] if m["metric"] == "acc_norm,none") / items
    print("\n| HellaSwag items | slim, by tokens | llama-perplexity | slim, acc_norm (by characters) | slim, s | llama-perplexity, s |\n|---|---|---|---|---|---|")
    print(f"| {items} | {right / items:.4f} | {float(expected.rstrip('%')) / 100:.4f} | {norm:.4f} | {our_time:.1f} | {their_time:.1f} |")


def main(slim, llama, model, tokenizer, data, folder, items="60"):
    data, folder = Path(data), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    perplexity(slim, llama, model, str(data / "wikitext2_test_a.raw"))
    hellaswag(slim, llama, model, tokenizer, data, folder, int(items))


if __name__ == "__main__":
    main(*sys.argv[1:])
