"""Do five folds on 300 rows tell what a large test set tells? The pooled score beside that of the whole test set.

`python benchmarks/folds.py` writes `results/folds.json`. From each set 300 rows are drawn with a seed. Five folds of
them are scored; then one ordinary run learns from the same 300 rows and is scored on up to 1,000 rows of the test set
(sms_spam has none: on 1,000 others of its rows, no copies of the 300). They agree where the score of the test set lies
within the interval of the folds. Names of sets, and `--rows 60`, make it smaller; then nothing is recorded.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import record

from afina.data.read import read
from afina.errors import InputError

DATA = record.ROOT.parent / "shared" / "data"
WORK = record.ROOT / ".work" / "folds"
ROWS, TEST, FOLDS = 300, 1000, 5
SETS: dict[str, dict[str, str | None]] = {
    "sms_spam": {"train": "sms_spam/data.csv", "test": None},
    "tweet_sentiment_es": {"train": "tweet_sentiment_es/train.csv", "test": "tweet_sentiment_es/test.csv"},
}


def drawn(name: str, number: int, data: Path) -> tuple[Path, Path]:
    """Write the rows that are learnt from, and those of the test set, and return the two files."""
    about, draw = SETS[name], random.Random(0)
    every = [(row["text"], row["label"]) for row in read(data / str(about["train"])).rows]
    draw.shuffle(every)
    learnt, others = every[:number], every[number:]
    if about["test"]:
        others = [(row["text"], row["label"]) for row in read(data / about["test"]).rows]
        draw.shuffle(others)
    seen = {text for text, _label in learnt}
    tested = [row for row in others if row[0] not in seen][:TEST]
    place = WORK / f"{name}-{number}"
    place.mkdir(parents=True, exist_ok=True)
    for part, rows in (("rows", learnt), ("test", tested)):
        with (place / f"{part}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *rows])
    return place / "rows.csv", place / "test.csv"


def finetune(rows: Path, kind: str, *flags: str) -> dict[str, Any]:
    """Run `afina finetune`, or go on with it, and return its result."""
    place = rows.parent / kind
    go_on = ["--resume"] if place.is_dir() else []
    command = [
        sys.executable, "-m", "afina", "finetune", str(rows), "--task", "classification", *flags,
        "--output-dir", str(place), *go_on, "--json", "--lang", "en",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError(f"{place}: the run ended with {done.returncode}")
    return json.loads(done.stdout)


def measure(name: str, number: int, data: Path) -> dict[str, Any]:
    """Return both scores of one set, metric by metric, and whether they agree."""
    rows, test = drawn(name, number, data)
    folds = finetune(rows, "folds", "--folds", str(FOLDS))
    whole = finetune(rows, "whole", "--test", str(test))
    found = {}
    for metric in ("macro_f1", "accuracy"):
        ours, theirs = folds["scores"]["folds"][metric], whole["scores"]["test"][metric]
        agree = None if ours["low"] is None else ours["low"] <= theirs["value"] <= ours["high"]
        found[metric] = {"folds": ours, "test": theirs, "agree": agree}
    return {
        "set": name,
        "rows": number,
        "sizes": whole["details"]["data"]["rows"],
        "scores": found,
        "by_fold": folds["details"]["by_fold"],
        "seconds": {"folds": folds["seconds"]["total"], "test": whole["seconds"]["total"]},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="*", default=[*SETS])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args()
    measured = [measure(name, asked.rows, asked.data) for name in asked.sets]
    print(json.dumps(measured, indent=1))
    if asked.rows == ROWS and asked.sets == [*SETS]:
        found = {"folds": FOLDS, "sets": measured}
        print(record.save("folds", record.about("python benchmarks/folds.py") | found))
