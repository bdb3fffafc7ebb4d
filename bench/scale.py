"""What a node costs the store as nodes become more, for `make bench-scale`; bench/README.md says what each figure means.

Prints a table, marks what misses its target, writes target/bench-scale.json, and puts the table into bench/README.md where
all of 10, 100 and 1,000 nodes were measured.
"""

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

SIZES = [10, 100, 1000]
# Seconds that a rollout may take; one that is not over by then is counted as far as it came.
ROLLOUT_LONGEST = 240
LOAD = Path("target/scale/examples/scale")
README = Path("bench/README.md")
# A figure of the largest cluster that may be this many times that of the smallest.
GROWTH = 1.5
# name, key of the load's answer, unit, target at the most nodes, whether it is held against the fewest nodes, digits, what
FIGURES = [
    ("requests", "requests", "requests", None, True, 1, "to etcd per node and rollout"),
    ("received", "bytes", "bytes", None, True, 0, "from etcd per node and rollout"),
    ("writes", "revisions", "revisions", 8, True, 2, "of etcd per node and rollout"),
    ("hand_over_ms", "hand_over_ms", "ms", 5, False, 2, "from a slot given back to the next one's fence, median"),
    ("known_ms", "known_ms", "ms", 1000, False, 0, "from the notification until the last node has the new record at hand"),
    ("acting_ms", "acting_ms", "ms", None, False, 0, "from the notification until the last node has begun its pull"),
    ("idle", "idle_requests", "requests/s", 0.2, True, 3, "to etcd per node while nothing happens"),
    ("etcd_memory", "memory_mb", "MB", None, False, 0, "resident, with 20 tracks a node"),
    ("replacement_ms", "replacement_ms", "ms", None, False, 2, "from a fence to its slot given back, median; on simulated engines"),
    ("rollout", "rollout_seconds", "s", None, False, 1, "from the notification to the last slot given back"),
    ("replaced", "replaced", "instances", None, False, 0, "in that time"),
]


def measure(nodes):
    print(f"{nodes} nodes …", file=sys.stderr, flush=True)
    told = subprocess.run([str(LOAD), str(nodes), str(ROLLOUT_LONGEST)], check=True, stdout=subprocess.PIPE)
    return json.loads(told.stdout)


def growth(few, most, key):
    return most[key] / few[key] if few[key] > 0 else 1.0


def rows(answers):
    """For each figure its values, its target, and whether the most nodes meet it."""
    few, most = answers[0], answers[-1]
    for name, key, unit, target, grows, digits, what in FIGURES:
        values = [answer[key] for answer in answers]
        is_met = all(value is not None for value in values)
        if is_met and target is not None:
            is_met = most[key] <= target
        if is_met and grows:
            is_met = growth(few, most, key) <= GROWTH
        if name == "replaced":
            is_met = all(answer["replaced"] == answer["nodes"] for answer in answers)
        targets = ([f"≤ {target}"] if target is not None else []) + ([f"× ≤ {GROWTH}"] if grows else [])
        shown = ["–" if value is None else f"{value:,.{digits}f}" for value in values]
        yield name, f"{unit} {what}", shown, ", ".join(targets), is_met


def table(answers):
    head = ["figure", "what"] + [f"{answer['nodes']:,} nodes" for answer in answers] + ["target"]
    lines = ["| " + " | ".join(head) + " |", "|---|---" + "|---:" * len(answers) + "|---|"]
    for name, what, shown, target, is_met in rows(answers):
        lines.append("| " + " | ".join([f"`{name}`", what, *shown, target + ("" if is_met else " **missed**")]) + " |")
    return "\n".join(lines)


def results(answers):
    """In the form of target/bench.json, and all that was told besides."""
    found = {}
    for answer in answers:
        for name, key, unit, target, _, _, what in FIGURES:
            found[f"{name}_{answer['nodes']}"] = {
                "value": answer[key], "unit": unit, "target": target, "better": "lower", "against": what, "runs": 1}
    few, most = answers[0], answers[-1]
    for name, key, _, _, grows, _, _ in FIGURES:
        if grows:
            found[f"{name}_growth"] = {
                "value": round(growth(few, most, key), 4), "unit": "ratio", "target": GROWTH, "better": "lower",
                "against": f"{most['nodes']} nodes beside {few['nodes']}", "runs": 1}
    return {**found, "told": answers}


def main():
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    answers = [measure(nodes) for nodes in sizes]
    Path("target/bench-scale.json").write_text(json.dumps(results(answers), indent=2) + "\n")
    print(table(answers))
    if sizes == SIZES:
        made = f"Made by `make bench-scale` on {datetime.date.today()}, on a machine of {os.cpu_count()} cores."
        text = README.read_text()
        text = re.sub(r"(<!-- scale -->\n).*?(<!-- /scale -->)", lambda m: f"{m[1]}{made}\n\n{table(answers)}\n{m[2]}", text, flags=re.S)
        README.write_text(text)
    missed = [name for name, _, _, _, is_met in rows(answers) if not is_met]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)


if __name__ == "__main__":
    main()
