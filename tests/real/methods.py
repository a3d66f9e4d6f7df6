"""Tables of what `cargo bench --bench methods -- judge` printed.

    python tests/real/methods.py answers.jsonl [cross | single | weigh weights.jsonl]

`cross`: chosen for one family, measured on each, and against the set for all alike. `weigh`: how what `-- weigh`
printed of each family ranks the same sets (Spearman). `single`: sets that lack one layer each (method `single`),
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
    groups, seen = defaultdict(list), set()
    for line in lines[1:]:
        choice = line["choice"]
        key = (choice["preserve"], choice["keep"], choice["method"], choice["heal"], choice["default"])
        # A matrix begins with the set for all alike, which may have been chosen before.
        if (key, choice["seed"], set_of(choice)) not in seen:
            groups[key].append((choice, cells(line)))
        seen.add((key, choice["seed"], set_of(choice)))
    return original, groups


def set_of(choice):
    return tuple(map(str, choice["set"]))


def cells(line):
    return {
        name: (cell["chance"], np.array(cell["right"], float), np.array(cell["nats"], float))
        for name, cell in line["cells"].items()
    }


def mean_of(runs):
    """Question by question over seeds."""
    return {name: tuple(sum(np.asarray(run[name][i]) for run in runs) / len(runs) for i in range(3)) for name in runs[0]}


def same_draws(one, other):
    """Two methods' means over the draws that both chose with: more draws make a mean better by themselves."""
    seeds = {choice["seed"] for choice, _ in one} & {choice["seed"] for choice, _ in other}
    return (mean_of([cells for choice, cells in runs if choice["seed"] in seeds]) for runs in (one, other))


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


def of_family(original, run, family, at=None):
    """The mean of the report split's and the public tasks' losses; with resamples, of each of them."""
    parts = [part for part in (of(original, family, public) for public in (False, True)) if part]
    if at is None:
        return float(np.mean([loss(original, run, part) for part in parts]))
    return np.mean([loss_samples(original, run, part, at) for part in parts], axis=0)


def difference(original, one, other, family, at):
    low, high = np.percentile(of_family(original, one, family, at) - of_family(original, other, family, at), [2.5, 97.5])
    return of_family(original, one, family) - of_family(original, other, family), low, high


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
        if ours:
            print("\niterative less another, loss, over the draws of both:\n")
        for _, method, runs, *_ in table if ours else []:
            if method != "iterative":
                one, other = same_draws(ours[2], runs)
                change = all_samples(original, one, at) - all_samples(original, other, at)
                low, high = np.percentile(change, [2.5, 97.5])
                print(f"- {method} {change.mean():+.3f} [{low:+.3f}, {high:+.3f}]")


def best_others(original, groups):
    """slim's own method against the best other of every cell, picked with hindsight."""
    at = draws(original)
    print("\n### slim's own and the best other, loss by family\n")
    print("| layers | " + " | ".join(FAMILIES) + " |\n|---|" + "---|" * len(FAMILIES))
    merged = defaultdict(lambda: defaultdict(list))
    for key, runs in groups.items():
        if not key[0] and key[4]:
            merged[key[1]][key[2]].extend(runs)
    for keep in sorted(merged, reverse=True):
        ours = merged[keep].pop("iterative")
        row = []
        for family in FAMILIES:
            of_method = lambda method: of_family(original, mean_of([cells for _, cells in merged[keep][method]]), family)
            best = min(merged[keep], key=of_method)
            one, another = same_draws(ours, merged[keep][best])
            change, low, high = difference(original, one, another, family, at)
            own, other = (of_family(original, run, family) for run in (one, another))
            verdict = "**better**" if high < 0 else "**worse**" if low > 0 else "level"
            row.append(f"{own:.2f}, {best} {other:.2f}: {verdict} {change:+.2f} [{low:+.2f}, {high:+.2f}]")
        print(f"| {keep} | " + " | ".join(row) + " |")


def heals(original, groups):
    at = draws(original)
    print("\n### Compensation\n")
    print("| layers | none | scale | linear | scale − none | linear − none |\n|---|---|---|---|---|---|")
    by = defaultdict(dict)
    for key, runs in groups.items():
        if key[2] == "iterative" and not key[0]:
            by[key[1]].setdefault(key[3], []).extend((choice["seed"], cells) for choice, cells in runs)
    for keep in sorted((keep for keep in by if len(by[keep]) == 3), reverse=True):
        # Draws that were mended in every way.
        seeds = set.intersection(*({seed for seed, _ in found} for found in by[keep].values()))
        runs = {heal: mean_of([cells for seed, cells in found if seed in seeds]) for heal, found in by[keep].items()}
        samples = {heal: all_samples(original, run, at) for heal, run in runs.items()}
        row = [f"{np.mean(all_losses(original, runs[h], None)):.3f}" for h in ("none", "scale", "linear")]
        for heal in ("scale", "linear"):
            difference = samples[heal] - samples["none"]
            low, high = np.percentile(difference, [2.5, 97.5])
            row.append(f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]")
        print(f"| {keep} | " + " | ".join(row) + " |")


def cross(original, groups):
    at = draws(original)
    # Draws that chose for every family.
    draws_of = lambda key: {choice["seed"] for choice, _ in groups[key]}
    for keep in sorted({key[1] for key in groups if key[0]}, reverse=True):
        keys = {key[0]: key for key in groups if key[1:3] == (keep, "iterative") and key[4]}
        seeds = set.intersection(*(draws_of(key) for key in keys.values()))
        runs = {family: mean_of([run for choice, run in groups[key] if choice["seed"] in seeds]) for family, key in keys.items()}
        for what in ("loss", "retained"):
            print(f"\n### {keep} layers, {what}, draws {sorted(seeds)}\n")
            print("| chosen for | " + " | ".join(FAMILIES) + " |\n|---|" + "---|" * len(FAMILIES))
            for family in [family for family in FAMILIES + [""] if family in runs]:
                run = runs[family]
                cell = lambda f: f"{of_family(original, run, f):.2f}" if what == "loss" else percent(retained(original, run, of(original, f, None), at))
                print(f"| {family or 'all alike'} | " + " | ".join(("**%s**" if f == family else "%s") % cell(f) for f in FAMILIES) + " |")
            if what == "loss" and "" in runs:
                found = [difference(original, runs[f], runs[""], f, at) if f in runs else (0, 0, 0) for f in FAMILIES]
                print("| diagonal − all alike | " + " | ".join("%+.2f [%+.2f, %+.2f]" % one for one in found) + " |")
                others = defaultdict(list)
                for key, found in groups.items():
                    if key[1] == keep and not key[0] and key[4] and key[2] != "iterative":
                        others[key[2]] += [run for choice, run in found if choice["seed"] in seeds]
                others = {method: mean_of(found) for method, found in others.items() if len(found) == len(seeds)}
                row = []
                for f in FAMILIES if others else []:
                    # With hindsight.
                    best = min(others, key=lambda method: of_family(original, others[method], f))
                    row.append(f"{best} %+.2f [%+.2f, %+.2f]" % difference(original, runs[f], others[best], f, at))
                print("| diagonal − best other | " + " | ".join(row) + " |")


def weigh(original, groups, path):
    """Within each depth, and what the set that a criterion would choose loses more than the best of these sets."""
    judged = {(set_of(choice), key[3]): run for key, found in groups.items() for choice, run in found}
    sets = defaultdict(list)
    for line in map(json.loads, open(path)):
        choice = line["choice"]
        if run := judged.get((set_of(choice), choice["heal"])):
            sets[choice["keep"]].append((line["found"], run))
    rank = lambda values: np.argsort(np.argsort(values))
    spearman = lambda a, b: np.corrcoef(rank(a), rank(b))[0, 1]
    print("\nSpearman with what was judged; behind it the regret, nats. Depths: " + ", ".join(f"{keep} ({len(sets[keep])} sets)" for keep in sets))
    print("\n| criterion | " + " | ".join(FAMILIES) + " |\n|---|" + "---|" * len(FAMILIES))
    some = next(iter(sets.values()))[0][0]
    items = sorted({int(name.split()[1]) for name in some if name.split()[0] in FAMILIES})
    criteria = [(f"{n} items of it", lambda found, f, n=n: found[f"{f} {n}"]) for n in items]
    criteria += [(f"{n} items' answers + copying", lambda found, f, n=n: max(0, found[f"answers {f} {n}"]) + found["copies"]) for n in items]
    criteria += [("copying alone", lambda found, f: found["copies"]), ("KL on plain text", lambda found, f: found["texts 64"])]
    for name, of_found in criteria:
        row = []
        for family in FAMILIES:
            ranks, regrets = [], []
            for keep in sets:
                by = [of_found(found, family) for found, _ in sets[keep]]
                lost = [of_family(original, run, family) for _, run in sets[keep]]
                ranks.append(spearman(by, lost))
                regrets.append(lost[int(np.argmin(by))] - min(lost))
            row.append(", ".join(f"{r:.2f}" for r in ranks) + f"; {np.mean(regrets):.2f}")
        print(f"| {name} | " + " | ".join(row) + " |")


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
elif "weigh" in sys.argv[2:]:
    weigh(original, groups, sys.argv[3])
elif "single" in sys.argv[2:]:
    single(original, groups)
else:
    groups = {key: found for key, found in groups.items() if key[2] != "single"}
    depths(original, groups)
    best_others(original, groups)
    heals(original, groups)
