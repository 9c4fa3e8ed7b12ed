"""The embedded model against the same shape with random weights and against TF-IDF, on real sets.

`python benchmarks/classification.py sst2 tweets_es banking77 imdb` writes one record a set. Each run is a process
of its own. Rows: at most 5,000 to train and 2,000 to test on with three seeds (a fixed sample), all with one seed.
"""

import csv
import hashlib
import io
import json
import lzma
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import record

from afina.scoring.classification import macro_f1

DATA = record.ROOT.parent / "shared" / "data"
WORK = record.ROOT / ".work" / "classification"
SETS: dict[str, dict[str, Any]] = {
    "sst2": {"train": "sst2/train.csv.xz", "test": "sst2/dev.csv", "rows": 5000},
    "tweets_es": {
        "train": "tweet_sentiment_es/train.csv",
        "validation": "tweet_sentiment_es/dev.csv",
        "test": "tweet_sentiment_es/test.csv",
    },
    "banking77": {
        "train": "banking77/train.csv",
        "test": "banking77/test.csv",
        "per_class": 10,
        "test_rows": 2000,
    },
    "imdb": {
        "train": "imdb/train.csv.xz",
        "test": "imdb/test.csv.xz",
        "seeds": 1,
        "flags": [
            "--num-train-epochs",
            "1",
            "--max-length",
            "128",
            "--precision",
            "bf16",
            "--eval-steps",
            "352",
        ],
    },
}
MODELS = {"embedded": [], "random": ["--random-weights"]}


def rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, packed or not."""
    data = file.read_bytes()
    text = lzma.decompress(data) if file.suffix == ".xz" else data
    return list(csv.DictReader(io.StringIO(text.decode("utf-8"))))


def sample(found: list[dict[str, str]], number: int | None, per_class: int | None) -> list[dict[str, str]]:
    """Return a fixed seeded sample: `number` rows, or `per_class` rows of each label."""
    shuffled = random.Random(0).sample(found, len(found))
    if not per_class:
        return shuffled[:number] if number else found
    kept, taken = [], Counter[str]()
    for row in shuffled:
        taken[row["label"]] += 1
        if taken[row["label"]] <= per_class:
            kept.append(row)
    return kept


def write(found: list[dict[str, str]], file: Path) -> Path:
    """Write text and label of the rows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(found)
    return file


def one(name: str, about: dict[str, Any], model: str, seed: int) -> dict[str, Any]:
    """Fine-tune once, in a process of its own, and return what it printed."""
    folder = WORK / name
    train = write(
        sample(rows(DATA / about["train"]), about.get("rows"), about.get("per_class")), folder / "train.csv"
    )
    test = write(sample(rows(DATA / about["test"]), about.get("test_rows"), None), folder / "test.csv")
    validation = (
        write(rows(DATA / about["validation"]), folder / "dev.csv") if "validation" in about else None
    )
    made_of = hashlib.sha256(
        json.dumps([about, record.weights()["bert-mini-es-en"] if model == "embedded" else 0]).encode()
    ).hexdigest()
    run = folder / f"{model}-{seed}-{made_of[:8]}"
    command = [
        sys.executable, "-m", "afina", "finetune", str(train), "--task", "classification", "--test", str(test),
        *(["--validation", str(validation)] if validation else []), *about.get("flags", []), *MODELS[model],
        "--seed", str(seed), "--output-dir", str(run), "--overwrite", "--json", "--quiet", "--lang", "en",
    ]  # fmt: skip
    if not (run / "scores.json").is_file():  # a campaign that was cut off goes on where it stood
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    result = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        told = list(csv.DictReader(stream))
    result["gold"], result["told"] = [row["label"] for row in told], [row["prediction"] for row in told]
    return result


def difference(a: list[dict[str, Any]], b: list[dict[str, Any]], times: int = 2000) -> dict[str, float]:
    """Return the mean difference of macro-F1 over seeds, with a bootstrap interval over rows and seeds."""
    gold = np.array(a[0]["gold"])
    labels = sorted(set(gold))
    told = [[np.array(each["told"]) for each in runs] for runs in (a, b)]
    generator = np.random.default_rng(0)

    def gap(which: np.ndarray, seeds: np.ndarray) -> float:
        mean = [np.mean([macro_f1(gold[which], runs[i][which], labels) for i in seeds]) for runs in told]
        return float(mean[0] - mean[1])

    seeds = np.arange(len(a))
    drawn = [
        gap(generator.integers(0, len(gold), len(gold)), generator.choice(seeds, len(seeds)))
        for _ in range(times)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": gap(np.arange(len(gold)), seeds), "low": float(low), "high": float(high)}


def measure(name: str) -> None:
    """Write the record of one set."""
    about = SETS[name]
    seeds = range(about.get("seeds", 3))
    runs = {model: [one(name, about, model, seed) for seed in seeds] for model in MODELS}
    scored = {model: [each["scores"]["test"]["macro_f1"] for each in found] for model, found in runs.items()}
    tfidf = [each["baselines"]["tfidf"]["test"]["macro_f1"] for each in runs["embedded"]]
    majority = [each["baselines"]["majority"]["test"]["macro_f1"] for each in runs["embedded"]]
    first = runs["embedded"][0]
    file = record.save(
        f"classification-{name}",
        record.about(f"python benchmarks/classification.py {name}")
        | {
            "set": about,
            "rows": first["details"]["data"]["rows"],
            "metric": "macro_f1",
            "seeds": list(seeds),
            "scores": scored | {"tfidf": tfidf, "majority": majority},
            "accuracy": {
                m: [each["scores"]["test"]["accuracy"] for each in found] for m, found in runs.items()
            },
            "embedded_minus_random": difference(runs["embedded"], runs["random"]),
            "embedded_minus_tfidf": [_against_tfidf(each) for each in runs["embedded"]],
            "seconds": {model: [each["seconds"] for each in found] for model, found in runs.items()},
            "tokens_per_s": {
                model: [each["tokens_per_s"] for each in found] for model, found in runs.items()
            },
            "peak_memory_mb": first["peak_memory_mb"],
        },
    )
    print(file)


def _against_tfidf(result: dict[str, Any]) -> dict[str, Any]:
    return next(gap for gap in result["details"]["differences"]["test"] if gap["b"] == "tfidf")


if __name__ == "__main__":
    only = [word.removeprefix("--only=") for word in sys.argv if word.startswith("--only=")]
    for each in [word for word in sys.argv[1:] if word in SETS] or SETS:
        if only:  # make one model's runs ahead of the record
            for number in range(SETS[each].get("seeds", 3)):
                one(each, SETS[each], only[0], number)
        else:
            measure(each)
