"""Every task on real sets: the embedded model beside its baselines and beside the same shape with random weights.

`python benchmarks/tasks.py mrpc conll2002 …` writes one record a set; without names all of them. A record is what
`afina compare --methods full` finds in three seeds on a fixed, seeded sample of the set's own splits. A campaign that
was cut off goes on with the runs that are missing.
"""

import json
import random
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import record

from afina.data.read import read
from afina.errors import InputError

DATA = record.ROOT.parent / "shared" / "data"
WORK = record.ROOT / ".work" / "tasks"
ROWS = {"train": 1000, "validation": 300, "test": 1000}
SEEDS, WORKERS = 3, 2
STEPS = 240  # of 16 rows, for every system alike; two cores can pay for no more of 90 runs
KEPT = ("task", "part", "fingerprint", "rows", "tests")
TAGS = ["--text", "tokens", "--label", "tags"]
# `whole` files have no test part: the verb draws one, keeping articles and conversations together.
SETS: dict[str, dict[str, Any]] = {
    "mrpc": {"task": "sentence_pair", "train": "mrpc/train.csv", "test": "mrpc/test.csv"},
    "rte": {"task": "sentence_pair", "train": "rte/train.csv", "test": "rte/dev.csv"},
    "stsb": {
        "task": "sentence_pair",
        "train": "stsb/train.csv",
        "validation": "stsb/dev.csv",
        "test": "stsb/test.csv",
        "flags": ["--target", "score"],
    },
    "xnli_es": {"task": "sentence_pair", "train": "xnli_es/dev.csv", "test": "xnli_es/test.csv"},
    "goemotions": {
        "task": "multi_label",
        "train": "goemotions/train.jsonl.xz",
        "validation": "goemotions/dev.jsonl",
        "test": "goemotions/test.jsonl",
    },
    "conll2002": {
        "task": "token_labels",
        "train": "conll2002_es/train.conll.xz",
        "validation": "conll2002_es/dev.conll",
        "test": "conll2002_es/test.conll",
        "columns": ("1", "3"),
    },
    "conll2002_pos": {
        "task": "token_labels",
        "train": "conll2002_es/train.conll.xz",
        "validation": "conll2002_es/dev.conll",
        "test": "conll2002_es/test.conll",
        "columns": ("1", "2"),
    },
    "wnut17": {
        "task": "token_labels",
        "train": "wnut17/train.conll",
        "validation": "wnut17/dev.conll",
        "test": "wnut17/test.conll",
        "columns": ("1", "2"),
    },
    "cantemist": {
        "task": "token_labels",
        "train": "cantemist_ner_es/train.conll.xz",
        "validation": "cantemist_ner_es/dev.conll.xz",
        "test": "cantemist_ner_es/test.conll.xz",
        "columns": ("1", "2"),
    },
    "ewt_pos": {
        "task": "token_labels",
        "train": "ud_en_ewt/train.conllu.xz",
        "validation": "ud_en_ewt/dev.conllu.xz",
        "test": "ud_en_ewt/test.conllu.xz",
        "columns": ("form", "upos"),
    },
    "squad_en": {
        "task": "extractive_qa",
        "train": "squad_v11_dev/dev-v1.1.minus_xquad.json.xz",
        "steps": 60,
        "scorings": 2,
        "by": "title",
    },
    "squad_es": {
        "task": "extractive_qa",
        "train": "squad_es_dev/dev-v1.1-es_small.minus_xquad.json.xz",
        "steps": 60,
        "scorings": 2,
        "by": "title",
        "flags": ["--answer-language", "es"],
    },
    "squad_es_v2": {
        "task": "extractive_qa",
        "train": "squad_es_dev/dev-v2.0-es_small.minus_xquad.json.xz",
        "steps": 60,
        "scorings": 2,
        "by": "title",
        "flags": ["--answer-language", "es"],
    },
    "alpaca": {"task": "chat", "train": "alpaca_demo_en/data.jsonl", "steps": 60, "scorings": 2},
    "chatterbot": {"task": "chat", "train": "chatterbot/data.jsonl"},
}


def sample(file: str, number: int, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a fixed sample of a file's rows; with `by` whole groups of that column (articles)."""
    found = read(DATA / file).rows
    draw = random.Random(0)
    if group := about.get("by"):
        names = sorted({row[group] for row in found})
        draw.shuffle(names)
        kept: list[dict[str, Any]] = []
        for name in names:
            if len(kept) < number:
                kept += [row for row in found if row[group] == name]
        return kept
    return found if len(found) <= number else draw.sample(found, number)


def write(part: str, name: str, about: dict[str, Any], number: int) -> Path:
    """Write the sample of one part as JSON Lines, lists of words and tags under names of their own."""
    rows = sample(about[part], number, about)
    if columns := about.get("columns"):
        rows = [{"tokens": row[columns[0]], "tags": row[columns[1]]} for row in rows]
    file = WORK / name / f"{part}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def compare(
    name: str,
    about: dict[str, Any],
    place: Path,
    *,
    seeds: int,
    steps: int,
    models: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Return what `afina compare --methods full` says of one set, gone on with where it was cut off."""
    files = {part: write(part, name, about, number) for part, number in ROWS.items() if part in about}
    command = [
        sys.executable, "-m", "afina", "compare", str(files["train"]), "--task", about["task"], "--methods", "full",
        *(word for part in ("validation", "test") if part in files for word in (f"--{part}", str(files[part]))),
        *(TAGS if "columns" in about else []), *about.get("flags", []), "--seeds", str(seeds), "--workers", str(WORKERS),
        *(["--models", ",".join(map(str, models))] if models else []),
        "--max-steps", str(steps), "--eval-steps", str(steps // about.get("scorings", 5)),
        "--output-dir", str(place), "--resume" if place.is_dir() else "--overwrite", "--json", "--lang", "en",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError(f"{name}: the comparison ended with {done.returncode}")
    begun = tomllib.loads((place / "compare.toml").read_text(encoding="utf-8"))
    return json.loads(done.stdout) | {"fingerprint": begun["recorded"]["rows"]}


def measure(name: str) -> Path:
    """Run the comparison of one set, or go on with it, and write its record."""
    about = SETS[name]
    place, steps = WORK / name / "compare", about.get("steps", STEPS)
    result = compare(name, about, place, seeds=SEEDS, steps=steps)
    kept = {key: result[key] for key in KEPT}
    runs = {
        system: [
            json.loads(file.read_text(encoding="utf-8"))
            for file in sorted(place.glob(f"runs/{system}-*/scores.json"))
        ]
        for system in ("full", "random_weights")
    }
    sizes = runs["full"][0]["details"]["data"]
    learnt = {system: fitting(place, system, kept["rows"]) for system in runs}
    return record.save(
        f"task-{name}",
        record.about(f"python benchmarks/tasks.py {name}")
        | {
            "set": about,
            "steps": steps,
            "sizes": sizes["rows"],
            "length": sizes["length"],
        }
        | kept
        | {"run_seconds": {system: [run["seconds"]["total"] for run in runs[system]] for system in runs}}
        | {"fitting": learnt, "says": said(kept["tests"], learnt["full"])},
    )


def fitting(place: Path, system: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a system's runs reached on rows that they learnt from and on the others, mean over the seeds."""
    metric = next(iter(next(row["scores"] for row in rows if row["method"] == system)))
    best = []
    for file in sorted(place.glob(f"runs/{system}-*/steps.jsonl")):
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        best.append([line for line in lines if line.get("best")][-1])
    found = {part: sum(line[part][metric] for line in best) / len(best) for part in ("train", "validation")}
    return {"metric": metric} | found | {"best_epoch": sum(line["epoch"] for line in best) / len(best)}


def said(tests: list[dict[str, Any]], learnt: dict[str, Any]) -> list[str]:
    """Say where the embedded model does not win, and what the curves of its runs tell of the reason."""
    lines = []
    for test in tests:
        if "full" not in (test["a"], test["b"]):
            continue
        other = test["b"] if test["a"] == "full" else test["a"]
        won = test["decision"] == ("better" if test["a"] == "full" else "worse")
        if not won:
            even = test["decision"] == "no difference shown"
            lines.append(f"{'No difference is shown from' if even else 'It loses to'} {other}.")
    if not lines:
        return ["It beats random weights and every baseline."]
    train, new, metric = learnt["train"], learnt["validation"], learnt["metric"]
    # A loss has no fixed scale, so its gap is a share of it.
    gap = new / train - 1 if metric == "loss" else train - new
    seen = f"{metric} {train:.3f} on rows that were learnt, {new:.3f} on others, in epoch {learnt['best_epoch']:.1f}"
    if gap > 0.15:
        lines.append(
            f"It learns its rows by heart ({seen}): too few rows for what its pre-training has taught it."
        )
    else:
        lines.append(f"It has not learnt its rows either ({seen}): too few steps, or too small a model.")
    return lines


if __name__ == "__main__":
    for each in sys.argv[1:] or SETS:
        print(measure(each), flush=True)
