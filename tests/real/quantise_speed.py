"""Times slim against llama-quantize on the same GGUF, in turns, and prints medians as Markdown.

    python tests/real/quantise_speed.py SLIM LLAMA_QUANTIZE MODEL.gguf FOLDER TYPES [RUNS] [THREADS]

TYPES is a comma-separated list such as q8_0,q4_0,q4_k_m. Both drop layer 1 and write the rest, so
that both do the same work; slim also hashes the source, for the provenance in the file. FOLDER is
where the outputs go. Both use THREADS threads (2). Run it with `chrt -f 50` on a busy machine.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def timed(command, environment):
    """Seconds and peak resident KiB of a command."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status != 0:
        sys.exit(f"failed: {command}")
    return seconds, usage.ru_maxrss


def main(slim, llama_quantize, model, folder, types, runs="5", threads="2"):
    output = str(Path(folder) / "quantised.gguf")
    environment = {**os.environ, "RAYON_NUM_THREADS": threads}
    print("| type | written by | MB | median, s | fastest, s | × llama-quantize | peak RSS, MiB |\n|---|---|---|---|---|---|---|")
    for name in types.split(","):
        ways = {
            "llama-quantize": [llama_quantize, "--prune-layers", "1", model, output, name.upper(), threads],
            "slim": [slim, "prune", "--drop-layers", "1", "--outtype", name, model, output],
        }
        measured = {way: [] for way in ways}
        sizes = {}
        for run in range(int(runs) + 1):
            for way, command in ways.items():
                Path(output).unlink(missing_ok=True)
                os.sync()
                took = timed(command, environment)
                sizes[way] = Path(output).stat().st_size
                if run > 0:  # the first warms the page cache
                    measured[way].append(took)
        Path(output).unlink(missing_ok=True)
        theirs = statistics.median(seconds for seconds, _ in measured["llama-quantize"])
        for way, took in measured.items():
            seconds = [s for s, _ in took]
            median, peak = statistics.median(seconds), max(kib for _, kib in took) / 1024
            print(f"| {name} | {way} | {sizes[way] / 1e6:.1f} | {median:.2f} | {min(seconds):.2f} "
                  f"| {median / theirs:.2f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
