"""Tables of what `cargo bench --bench methods -- judge` printed.

    python tests/real/methods.py answers.jsonl [cross | single]

`cross`: chosen for one family, measured on each. `single`: sets that lack one layer each (method `single`),
what each third of the depth is worth.

`retained`: what a family's answers keep above guessing, over the protocols (and public tasks) in which the
original is above chance. `loss`: mean fall of the continuous score, nats, over all of them. Seeds are
averaged question by question; intervals are paired bootstraps over questions (95 %).
"""

import json
import sys
from collections import defaultdict

import numpy as np

RESAMPLES = 1000
FAMILIES = ["knowledge", "retrieval", "reasoning", "language"]
PROTOCOLS = {"choice", "continuation", "generate"}
random = np.random.default_rng(0)


def read(path):
    lines = [json.loads(line) for line in open(path)]
    original = cells(lines[0])
    groups = defaultdict(list)
    for line in lines[1:]:
        choice = line["choice"]
        key = (choice["preserve"], choice["keep"], choice["method"], choice["heal"], choice["default"])
        groups[key].append((choice, cells(line)))
    return original, groups


def cells(line):
    return {
        name: (cell["chance"], np.array(cell["right"], float), np.array(cell["nats"], float))
        for name, cell in line["cells"].items()
    }


def mean_of(runs):
    """Question by question over seeds."""
    return {name: tuple(sum(np.asarray(run[name][i]) for run in runs) / len(runs) for i in range(3)) for name in runs[0]}


def above_chance(chance, right):
    n, p, z = len(right), right.mean(), 1.645
    low = (p + z * z / 2 / n - z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)) / (1 + z * z / n)
    return low > max(chance, 0.02)


def is_public(name):
    return name.split("/")[1] not in PROTOCOLS


def of(original, family, public):
    return [name for name in original if name.startswith(family + "/") and (public is None or is_public(name) == public)]


def draws(original):
    """The same resamples for every candidate."""
    sizes = {name: len(cell[1]) for name, cell in original.items()}
    return {name: random.integers(0, n, (RESAMPLES, n)) for name, n in sizes.items()}


def retained(original, run, names, at):
    names = [name for name in names if above_chance(*original[name][:2])]
    if not names:
        return None
    value = lambda cells: sum(cells[n][1].mean() - original[n][0] for n in names)
    sample = lambda cells: sum(cells[n][1][at[n]].mean(1) - original[n][0] for n in names)
    low, high = np.percentile(sample(run) / np.maximum(sample(original), 1e-9), [2.5, 97.5])
    return value(run) / value(original), low, high


def loss(original, run, names):
    return float(np.mean([(original[n][2] - run[n][2]).mean() for n in names]))


def loss_samples(original, run, names, at):
    return np.mean([(original[n][2] - run[n][2])[at[n]].mean(1) for n in names], axis=0)


def percent(found):
    return "–" if found is None else f"{100 * found[0]:.0f} [{100 * found[1]:.0f}, {100 * found[2]:.0f}]"


def all_losses(original, run, public):
    return [loss(original, run, of(original, family, public)) for family in FAMILIES]


def all_samples(original, run, at, public=None):
    return np.mean([loss_samples(original, run, of(original, family, public), at) for family in FAMILIES], axis=0)


def label(key):
    method, heal = key[2], key[3]
    return f"**{method}**" if method == "iterative" else method


def depths(original, groups):
    at = draws(original)
    for keep in sorted({key[1] for key in groups}, reverse=True):
        print(f"\n### {keep} layers\n")
        print("| method | seeds | " + " | ".join(FAMILIES) + " | loss, report split | loss, public tasks | s | tokens × layers, 10⁶ |")
        print("|---|---|" + "---|" * (len(FAMILIES) + 4))
        rows = []
        for key, runs in groups.items():
            if key[1] != keep or key[0] or not key[4]:
                continue
            rows.append((key, runs))
        merged = defaultdict(list)
        for key, runs in rows:
            merged[key[2]].extend(runs)
        table = []
        for method, runs in merged.items():
            run = mean_of([cells for _, cells in runs])
            own, public = (float(np.mean(all_losses(original, run, p))) for p in (False, True))
            table.append((own + public, method, runs, run, own, public))
        table.sort(key=lambda row: row[0])
        for _, method, runs, run, own, public in table:
            shares = [percent(retained(original, run, of(original, family, None), at)) for family in FAMILIES]
            seconds = np.mean([choice["seconds"] for choice, _ in runs])
            passes = np.mean([choice["layer_passes"] for choice, _ in runs]) / 1e6
            name = f"**{method}**" if method == "iterative" else method
            print(f"| {name} | {len(runs)} | " + " | ".join(shares) + f" | {own:.3f} | {public:.3f} | {seconds:.0f} | {passes:.1f} |")
        ours = next((row for row in table if row[1] == "iterative"), None)
        others = [row for row in table if row[1] != "iterative"]
        if ours and others:
            best = others[0]
            difference = all_samples(original, ours[3], at) - all_samples(original, best[3], at)
            low, high = np.percentile(difference, [2.5, 97.5])
            print(f"\niterative − {best[1]}, loss: {difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]")


def best_others(original, groups):
    """slim's own method against the best other of every cell, picked with hindsight."""
    at = draws(original)
    print("\n### slim's own and the best other, loss by family\n")
    print("| layers | " + " | ".join(FAMILIES) + " |\n|---|" + "---|" * len(FAMILIES))
    merged = defaultdict(lambda: defaultdict(list))
    for key, runs in groups.items():
        if not key[0] and key[4]:
            merged[key[1]][key[2]].extend(cells for _, cells in runs)
    for keep in sorted(merged, reverse=True):
        runs = {method: mean_of(found) for method, found in merged[keep].items()}
        row = []
        for family in FAMILIES:
            parts = [of(original, family, public) for public in (False, True)]
            parts = [part for part in parts if part]
            value = lambda run: np.mean([loss(original, run, part) for part in parts])
            sample = lambda run: np.mean([loss_samples(original, run, part, at) for part in parts], axis=0)
            best = min((method for method in runs if method != "iterative"), key=lambda method: value(runs[method]))
            difference = sample(runs["iterative"]) - sample(runs[best])
            low, high = np.percentile(difference, [2.5, 97.5])
            own, other = value(runs["iterative"]), value(runs[best])
            verdict = "**better**" if high < 0 else "**worse**" if low > 0 else "level"
            row.append(f"{own:.2f}, {best} {other:.2f}: {verdict} {own - other:+.2f} [{low:+.2f}, {high:+.2f}]")
        print(f"| {keep} | " + " | ".join(row) + " |")


def heals(original, groups):
    at = draws(original)
    print("\n### Compensation\n")
    print("| layers | none | scale | linear | scale − none | linear − none |\n|---|---|---|---|---|---|")
    by = defaultdict(dict)
    for key, runs in groups.items():
        if key[2] == "iterative" and not key[0]:
            by[key[1]].setdefault(key[3], []).extend(cells for _, cells in runs)
    for keep in sorted(by, reverse=True):
        runs = {heal: mean_of(found) for heal, found in by[keep].items()}
        samples = {heal: all_samples(original, run, at) for heal, run in runs.items()}
        row = [f"{np.mean(all_losses(original, runs[h], None)):.3f}" for h in ("none", "scale", "linear")]
        for heal in ("scale", "linear"):
            difference = samples[heal] - samples["none"]
            low, high = np.percentile(difference, [2.5, 97.5])
            row.append(f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]")
        print(f"| {keep} | " + " | ".join(row) + " |")


def cross(original, groups):
    at = draws(original)
    for keep in sorted({key[1] for key in groups}, reverse=True):
        for what in ("loss", "retained"):
            print(f"\n### {keep} layers, {what}\n")
            print("| chosen for | " + " | ".join(FAMILIES) + " |\n|---|" + "---|" * len(FAMILIES))
            for family in FAMILIES + [""]:
                found = [run for key, runs in groups.items() if key[:3] == (family, keep, "iterative") and key[4] for _, run in runs]
                if not found:
                    continue
                run = mean_of(found)
                cell = lambda f: f"{loss(original, run, of(original, f, None)):.3f}" if what == "loss" else percent(retained(original, run, of(original, f, None), at))
                print(f"| {family or 'all alike'} | " + " | ".join(("**%s**" if f == family else "%s") % cell(f) for f in FAMILIES) + " |")


def single(original, groups):
    at = draws(original)
    runs = {}
    for key, found in groups.items():
        if key[2] == "single":
            for choice, cells in found:
                n_layers = len(choice["set"]) + 1
                gone = next(layer for layer in range(n_layers) if layer not in choice["set"])
                runs[gone] = cells
    inner = [layer for layer in sorted(runs) if 0 < layer < n_layers - 1]
    thirds = [part.tolist() for part in np.array_split(np.array(inner), 3)]
    for what in ("nats", "points of accuracy"):
        print(f"\n### {what} lost without one layer\n")
        print("| | original | layer 0 | " + " | ".join(f"{part[0]}–{part[-1]}" for part in thirds) + f" | layer {n_layers - 1} | deep − shallow |\n|---|---|---|---|---|---|---|---|")
        for name in sorted(original, key=lambda name: (FAMILIES.index(name.split("/")[0]), name)):
            index = 2 if what == "nats" else 1
            falls = lambda layer: original[name][index] - runs[layer][name][index]
            scale = 1 if index == 2 else 100
            part = lambda layers: np.mean([falls(layer) for layer in layers], axis=0)
            groups_ = [[0], *thirds, [n_layers - 1]]
            values = [f"{scale * part(layers).mean():+.2f}" if index == 2 else f"{scale * part(layers).mean():+.0f}" for layers in groups_]
            difference = (part(thirds[2]) - part(thirds[0]))[at[name]].mean(1)
            low, high = scale * np.percentile(difference, [2.5, 97.5])
            digits = 2 if index == 2 else 0
            middle = scale * (part(thirds[2]) - part(thirds[0])).mean()
            base = f"{original[name][2].mean():.2f}" if index == 2 else f"{100 * original[name][1].mean():.0f} %"
            print(f"| {name} | {base} | {values[0]} | {values[1]} | {values[2]} | {values[3]} | {values[4]} | {middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] |")


original, groups = read(sys.argv[1])
if "cross" in sys.argv[2:]:
    cross(original, groups)
elif "single" in sys.argv[2:]:
    single(original, groups)
else:
    groups = {key: found for key, found in groups.items() if key[2] != "single"}
    depths(original, groups)
    best_others(original, groups)
    heals(original, groups)
