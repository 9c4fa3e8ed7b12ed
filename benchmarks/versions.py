"""Are new weights of the embedded encoder better than those before, and by how much are both above random ones?

`python benchmarks/versions.py OLD_FOLDER sst2 tweets_es …` writes one record a set: `afina compare --methods full` of the
old weights, those that ship and random ones, five seeds each, at settings that were fixed before any of it was run: 240
steps of 16 rows at the defaults, a fixed sample of the set's own splits. `git show COMMIT:PATH` brings old weights back.
"""

import json
import sys
from pathlib import Path
from typing import Any

import record
import tasks

WORK = record.ROOT / ".work" / "versions"
SEEDS, STEPS = 5, 240
NEW = "afina/bert-mini-es-en"
TWEETS = {
    part: f"tweet_sentiment_es/{file}.csv"
    for part, file in (("train", "train"), ("validation", "dev"), ("test", "test"))
}
SETS: dict[str, dict[str, Any]] = {
    "sst2": {"task": "classification", "train": "sst2/train.csv.xz", "test": "sst2/dev.csv"},
    "banking77": {"task": "classification", "train": "banking77/train.csv", "test": "banking77/test.csv"},
    "tweets_es": {"task": "classification", **TWEETS},
    "conll2002": tasks.SETS["conll2002"],
    "cantemist": tasks.SETS["cantemist"],
}  # fmt: skip


def measure(name: str, old: Path) -> Path:
    """Compare the weights on one set, or go on with it, and write its record."""
    about = SETS[name]
    result = tasks.compare(name, about, WORK / name, seeds=SEEDS, steps=STEPS, models=[old, NEW])
    kept = {key: result[key] for key in tasks.KEPT}
    plain = json.dumps(
        record.about(f"python benchmarks/versions.py OLD {name}") | {"set": about, "steps": STEPS} | kept
    )
    about_old = json.loads((old / "about.json").read_text(encoding="utf-8"))
    return record.save(f"versions-{name}", json.loads(plain.replace(str(old), "old")) | {"old": about_old})


if __name__ == "__main__":
    for each in sys.argv[2:] or SETS:
        print(measure(each, Path(sys.argv[1])), flush=True)
