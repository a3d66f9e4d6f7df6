"""Times `slim prune --drop-layers` from GGUF to GGUF against copying the same file, in turns, and
prints medians as Markdown.    python tests/real/write_speed.py SLIM MODEL.gguf FOLDER [RUNS [LAYERS…]]

FOLDER is where the outputs go: the file system that is measured. `cp, sync` is what slim promises
(the file is on the disk before it gets its name); `cp` leaves it in memory.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def timed(command):
    """Seconds and peak resident KiB of a command."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status != 0:
        sys.exit(f"failed: {command}")
    return seconds, usage.ru_maxrss


def main(slim, model, folder, runs="9", *layers):
    layers = layers or ("12-17", "12")
    copy = str(Path(folder) / "copy.gguf")
    prune = lambda layers: [slim, "prune", "--drop-layers", layers, model, copy]
    ways = {
        "cp": ["cp", model, copy],
        "cp, sync": ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", model, copy],
        **{f"slim prune --drop-layers {some}": prune(some) for some in layers},
        **{f"slim prune --drop-layers {some} --no-source-digest": [*prune(some), "--no-source-digest"] for some in layers[:1]},
        "sha256 alone": [sys.executable, "-c", "import hashlib,sys; hashlib.file_digest(open(sys.argv[1],'rb'),'sha256')", model],
    }
    measured = {name: [] for name in ways}
    sizes = {}
    for run in range(int(runs) + 1):
        for name, command in ways.items():
            Path(copy).unlink(missing_ok=True)
            os.sync()
            took = timed(command)
            if run > 0:  # the first warms the page cache
                measured[name].append(took)
            if Path(copy).exists():
                sizes[name] = Path(copy).stat().st_size
    Path(copy).unlink(missing_ok=True)
    synced = statistics.median(seconds for seconds, _ in measured["cp, sync"])
    print("| command | written, MB | median, ms | fastest, ms | × cp, sync | peak RSS, MiB |\n|---|---|---|---|---|---|")
    for name, took in measured.items():
        seconds = [s for s, _ in took]
        median, peak = statistics.median(seconds), max(kib for _, kib in took) / 1024
        print(f"| {name} | {sizes.get(name, 0) / 1e6:.1f} | {median * 1e3:.0f} | {min(seconds) * 1e3:.0f} "
              f"| {median / synced:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
