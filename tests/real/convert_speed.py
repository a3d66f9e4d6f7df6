"""Times Hugging Face → GGUF: `slim prune --drop-layers none` against llama.cpp's converter on the
same folder, in turns, and prints medians as Markdown.
    python tests/real/convert_speed.py SLIM LLAMA_CPP_SOURCE HF_FOLDER OUT_FOLDER [RUNS]

The Python needs what the converter needs (torch, transformers, gguf, sentencepiece).
"""

import os
import statistics
import sys
from pathlib import Path

from write_speed import timed


def main(slim, source, model, folder, runs="5"):
    out = Path(folder) / "out.gguf"
    converter = str(Path(source) / "convert_hf_to_gguf.py")
    print("| outtype | command | median, s | fastest, s | × slim | peak RSS, MiB |\n|---|---|---|---|---|---|")
    for outtype in ["bf16", "f16", "f32", "q8_0"]:
        ways = {
            "slim prune --drop-layers none": [slim, "prune", "--drop-layers", "none", "--outtype", outtype, model, out],
            "convert_hf_to_gguf.py": [sys.executable, converter, "--outtype", outtype, "--outfile", out, model],
        }
        measured = {name: [] for name in ways}
        for _ in range(int(runs)):
            for name, command in ways.items():
                out.unlink(missing_ok=True)
                os.sync()
                measured[name].append(timed([str(part) for part in command]))
        out.unlink(missing_ok=True)
        ours = statistics.median(seconds for seconds, _ in next(iter(measured.values())))
        for name, took in measured.items():
            seconds = [s for s, _ in took]
            median, peak = statistics.median(seconds), max(kib for _, kib in took) / 1024
            print(f"| {outtype} | {name} | {median:.2f} | {min(seconds):.2f} | {median / ours:.1f} | {peak:.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
