"""Which method is right for a set of rows, and does another draw of seeds say the same?

`python benchmarks/methods.py tweets_es conll2002 ewt_pos mrpc banking77` writes one record a set: `afina compare` of eight methods in
three seeds on a fixed sample of the set's own splits and, of the sets of AGAIN, once more with three other seeds. The
learning rates are those that ship, searched on other sets (`presets.py`). Beside the table and the tests a record holds
what each run said of its time and memory before it trained, and what it then took. A campaign that was cut off goes on.
`longer-conll2002` compares three of the methods with three times the steps: do those that train few weights catch up?
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import record
import tasks
from scipy.stats import kendalltau

from afina.errors import InputError

WORK = record.ROOT / ".work" / "methods"
METHODS = ("full", "partial", "head", "houlsby", "lora", "prompt", "prefix", "hybrid")
SEEDS, STEPS, WORKERS = 3, 240, 2
TWEETS = "tweet_sentiment_es"
SETS: dict[str, dict[str, Any]] = {
    "tweets_es": {
        "task": "classification",
        **{part: f"{TWEETS}/{file}.csv" for part, file in (("train", "train"), ("validation", "dev"), ("test", "test"))},
    },
    "conll2002": tasks.SETS["conll2002"],
    "mrpc": tasks.SETS["mrpc"],
    "banking77": {"task": "classification", "train": "banking77/train.csv", "test": "banking77/test.csv"},
    "ewt_pos": tasks.SETS["ewt_pos"],
}  # fmt: skip
AGAIN = ("tweets_es", "conll2002", "banking77", "ewt_pos")
LONGER = "longer-"
ASKED = {False: (METHODS, SEEDS, STEPS), True: (("full", "houlsby", "lora"), 2, 3 * STEPS)}
CLOSE = {"memory_mb": 0.15, "seconds": 0.25}  # how far what was foretold may lie from what was measured
DECIDED = 0.5  # share of the pairs of methods that must be told apart, or their order says nothing


def compared(name: str, seed: int) -> tuple[dict[str, Any], Path]:
    """Run the comparison of one set from one first seed, or go on with it; return its result and its folder."""
    methods, seeds, steps = ASKED[name.startswith(LONGER)]
    about = SETS[name.removeprefix(LONGER)]
    files = {
        part: tasks.write(part, name, about, number) for part, number in tasks.ROWS.items() if part in about
    }
    place = WORK / name / f"from-{seed}"
    command = [
        sys.executable, "-m", "afina", "compare", str(files["train"]), "--task", about["task"],
        "--methods", ",".join(methods), "--seed", str(seed), "--seeds", str(seeds), "--workers", str(WORKERS),
        *(word for part in ("validation", "test") if part in files for word in (f"--{part}", str(files[part]))),
        *(tasks.TAGS if "columns" in about else []), *about.get("flags", []),
        "--max-steps", str(steps), "--eval-steps", str(steps // 5),
        "--output-dir", str(place), "--resume" if place.is_dir() else "--overwrite", "--json", "--lang", "en",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError(f"{name}: the comparison ended with {done.returncode}")
    return json.loads(done.stdout), place


def foretold(place: Path) -> list[dict[str, Any]]:
    """Return, a run, what it said before training and what its own process then measured."""
    found = [
        {"run": file.parent.name} | foretold_of(file.parent)
        for method in METHODS
        for file in sorted(place.glob(f"runs/{method}-[0-9]*/scores.json"))
    ]
    return [each for each in found if "said" in each]


def foretold_of(run: Path) -> dict[str, Any]:
    """Return what one run said before training, what it took and the ratio of the two; nothing where it said nothing."""
    about = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    said = about["details"].get("forecast")
    if not said:
        return {}
    took = {"memory_mb": about["peak_memory_mb"], "seconds": about["seconds"]["train"]}
    ratios = {key: said[key] / took[key] for key in CLOSE}
    close = all(abs(ratios[key] - 1) <= most for key, most in CLOSE.items())
    return {"said": said, "took": took, "ratios": ratios, "close": close}


def order(result: dict[str, Any]) -> dict[str, float]:
    """Return the methods' main figures."""
    rows = [row for row in result["rows"] if row["method"] in METHODS]
    return {row["method"]: next(iter(row["scores"].values()))["value"] for row in rows}


def resolved(result: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the pairs of methods between which a difference is shown."""
    tests = [test for test in result["tests"] if {test["a"], test["b"]} <= set(METHODS)]
    return {(test["a"], test["b"]) for test in tests if test["decision"] in ("better", "worse")}


def agreement(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return Kendall's tau-b of the two orders, over all pairs and over those that the first has told apart."""
    a, b = order(first), order(second)
    pairs, every = resolved(first), len(METHODS) * (len(METHODS) - 1) // 2
    same = sum((a[one] - a[other]) * (b[one] - b[other]) > 0 for one, other in pairs)
    decidable = len(pairs) >= DECIDED * every
    return {
        "pairs": every,
        "resolved": len(pairs),
        "decidable": decidable,
        "tau_b_of_resolved": (2 * same - len(pairs)) / len(pairs) if pairs else None,
        "tau_b_of_all": float(
            kendalltau([a[name] for name in METHODS], [b[name] for name in METHODS]).statistic
        ),
        "resolved_in_both": len(pairs & resolved(second)),
    }


def measure(name: str) -> Path:
    """Compare the methods on one set and write its record."""
    _methods, seeds, steps = ASKED[name.startswith(LONGER)]
    first, place = compared(name, 0)
    told = foretold(place)
    kept = {key: first[key] for key in ("task", "part", "rows", "tests", "recommendation")}
    fitting = {method: tasks.fitting(place, method, first["rows"]) for method in order(first)}
    again: dict[str, Any] = {}
    if name in AGAIN:
        second, _place = compared(name, SEEDS)
        again = {"again": {"scores": order(second), "agreement": agreement(first, second)}}
    close = sum(each["close"] for each in told)
    return record.save(
        f"methods-{name}",
        record.about(f"python benchmarks/methods.py {name}")
        | {"set": SETS[name.removeprefix(LONGER)], "steps": steps, "seeds": seeds}
        | kept
        | {"fitting": fitting, "forecast": {"runs": told, "close": close, "of": len(told)}}
        | again,
    )


if __name__ == "__main__":
    for each in sys.argv[1:] or SETS:
        print(measure(each), flush=True)
