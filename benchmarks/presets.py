"""Which learning rate suits a method, and which a task: a search on rows that no other record is scored on.

`python benchmarks/presets.py methods hard random tasks long decoder` writes `results/presets-methods.json` and so on; a search that
was cut off goes on. Each run learns from up to 800 rows of a training part in 160 steps of 16 rows and is judged by
400 others of the same part. No test or validation file of a set is seen here, and of the sets on which the methods are
compared no row at all.
"""

import json
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import record

import afina
from afina.data.read import read

DATA = record.ROOT.parent / "shared" / "data"
WORK = record.ROOT / ".work" / "presets"
ROWS = {"train": 800, "validation": 400}
STEPS, SEEDS, WORKERS = 160, (0, 1), 2
FACTORS = (0.3, 1.0, 2.0, 3.0)
# Where the best of these was the highest, or the next one learnt nothing any more: one rate above or between.
MORE = {
    "houlsby": 1.5,
    "partial": 6.0,
    "gradual": 6.0,
    "prompt": 6.0,
    "lora": 0.6,
    "hybrid": 1.5,
    "prefix": 2 / 3,
}
WORDS = {"task": "token_labels", "text": "tokens", "label": "tags"}
SETS: dict[str, dict[str, Any]] = {
    "trec": {"file": "trec/train.csv", "task": "classification", "text": "text", "label": "label"},
    "tweets_en": {"file": "tweet_sentiment_en/train.csv", "task": "classification"},
    "conll2003": {"file": "conll2003_en/train.conll.xz", "columns": ("1", "4"), **WORDS},
    "xnli_en": {"file": "xnli_en/esxnli.csv", "task": "sentence_pair"},
    "goemotions": {"file": "goemotions/train.jsonl.xz", "task": "multi_label"},
    "stsb": {"file": "stsb/train.csv", "task": "sentence_pair", "target": "score"},
    "squad": {"file": "squad_v11_dev/dev-v1.1.minus_xquad.json.xz", "task": "extractive_qa", "by": "title"},
    "gpteacher": {"file": "gpteacher/roleplay.jsonl.xz", "task": "chat"},
}
METHODS = {
    "full": 5e-4, "partial": 5e-4, "gradual": 1e-3, "head": 3e-2, "houlsby": 2e-3, "lora": 5e-3,
    "prompt": 1e-2, "prefix": 3e-3, "ia3": 2e-2, "bitfit": 1e-2, "hybrid": 2e-3,
}  # fmt: skip
LONG = ("squad", "gpteacher")
GPT = {"model": "afina/gpt-mini-es-en"}
FRESH = {"random_weights": True}
FRESH_FACTORS = (0.2, 0.4, 0.6, 1.0, 2.0)
SEARCHES: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "methods": [(name, method, {}) for name in ("trec", "conll2003") for method in METHODS],
    "tasks": [(name, "full", {}) for name in SETS if name not in LONG],
    "long": [(name, "full", {}) for name in LONG],
    # What learns little is where a rate that is too high learns nothing: three moods of short texts.
    "hard": [("tweets_en", method, {}) for method in METHODS if method not in ("full", "head", "bitfit")],
    # The rival without pre-training deserves a rate of its own.
    "random": [(name, "full", FRESH) for name in ("trec", "conll2003", "tweets_en")],
    "decoder": [("trec", method, GPT) for method in METHODS],
}


def files(name: str) -> tuple[Path, Path]:
    """Write the rows that a set is learnt from and those it is judged by, and return the two files."""
    about = SETS[name]
    rows, draw = read(DATA / about["file"]).rows, random.Random(1)
    group = about.get("by")
    if group:
        names = sorted({row[group] for row in rows})
        draw.shuffle(names)
        place = {each: i for i, each in enumerate(names)}
        rows.sort(key=lambda row: place[row[group]])
        parts = {"train": [row for row in rows if place[row[group]] % 3], "validation": [
            row for row in rows if place[row[group]] % 3 == 0
        ]}  # fmt: skip
    else:
        draw.shuffle(rows)
        parts = {"validation": rows[: ROWS["validation"]], "train": rows[ROWS["validation"] :]}
    found = []
    for part, number in ROWS.items():
        kept = parts[part][:number]
        if columns := about.get("columns"):
            kept = [{"tokens": row[columns[0]], "tags": row[columns[1]]} for row in kept]
        file = WORK / name / f"{part}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
        found.append(file)
    return found[0], found[1]


def judged(job: tuple[str, str, dict[str, Any], float, int]) -> dict[str, Any]:
    """Run one configuration, or take what it found before, and return its validation figure."""
    import torch

    torch.set_num_threads(1)
    name, method, flags, rate, seed = job
    about = SETS[name]
    model = "random" if flags == FRESH else "gpt" if flags else "bert"
    key = f"{name}-{method}-{model}-{rate:g}-{seed}"
    kept = WORK / "found" / f"{key}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    train, validation = (WORK / name / f"{part}.jsonl" for part in ROWS)
    own = {key: about[key] for key in ("task", "text", "label", "target") if key in about}
    steps = STEPS if about["task"] not in ("extractive_qa", "chat") else STEPS // 2
    run = afina.finetune(
        str(train), **own, **flags, validation=str(validation), method=method, learning_rate=rate, seed=seed,
        max_steps=steps, eval_steps=steps // 4, max_length=256, train_batch_size=16, precision="bf16", quiet=True,
        output_dir=str(WORK / "runs" / key), overwrite=True,
    )  # fmt: skip
    scores = json.loads((run.path / "scores.json").read_text(encoding="utf-8"))["scores"]["validation"]
    metric = next(iter(scores))
    found = {
        "set": name, "method": method, "model": "random weights" if flags == FRESH else flags.get("model", "afina/bert-mini-es-en"), "learning_rate": rate,
        "seed": seed, "metric": metric, "value": scores[metric]["value"],
    }  # fmt: skip
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def search(kind: str) -> None:
    """Run one search, or go on with it, and write its record."""
    jobs = []
    for name, method, flags in SEARCHES[kind]:
        if not (WORK / name / "validation.jsonl").is_file():
            files(name)
        factors = (*FACTORS, MORE[method]) if kind in ("methods", "hard") and method in MORE else FACTORS
        factors = FRESH_FACTORS if kind == "random" else factors
        jobs += [
            (name, method, flags, METHODS[method] * factor, seed) for factor in factors for seed in SEEDS
        ]
    found = []
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        for number, each in enumerate(pool.map(judged, jobs), 1):
            print(number, "of", len(jobs), each, flush=True)
            found.append(each)
    about = record.about(f"python benchmarks/presets.py {kind}")
    settings = {"rows": ROWS, "steps": STEPS, "rows_a_step": 16, "precision": "bf16"}
    print(record.save(f"presets-{kind}", about | settings | {"means": means(found), "runs": found}))


def means(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean over the seeds of each set, method and model by learning rate."""
    keys = list(dict.fromkeys((each["set"], each["method"], each["model"], each["metric"]) for each in found))
    lines = []
    for key in keys:
        mine = [each for each in found if (each["set"], each["method"], each["model"], each["metric"]) == key]
        rates = sorted({each["learning_rate"] for each in mine})
        by_rate = {
            f"{rate:g}": sum(each["value"] for each in mine if each["learning_rate"] == rate)
            / sum(each["learning_rate"] == rate for each in mine)
            for rate in rates
        }
        lines.append(dict(zip(("set", "method", "model", "metric"), key, strict=True)) | {"by_rate": by_rate})
    return lines


if __name__ == "__main__":
    for each in sys.argv[1:] or SEARCHES:
        search(each)
