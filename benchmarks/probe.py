"""What the layers of a model know: logistic regression on [CLS], on the mean of the tokens and on one of them drawn at
random, layer by layer.

`python benchmarks/probe.py FOLDER NAME` writes `results/probe-NAME.json`. The rows are all of the sets' training
parts (for the tweets the development part too): these figures are for choices, test rows are not looked at.
"""

import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from classification import DATA, rows, sample
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from afina.models.load import load, load_tokenizer
from afina.scoring.classification import macro_f1

STRENGTHS = (0.003, 0.03, 0.3)  # the best counts, for every reading alike
Rows = list[dict[str, str]]


def sets() -> dict[str, tuple[Rows, Rows]]:
    """Return rows to learn from and rows to score, of each set."""
    banking, sst2 = (
        random.Random(1).sample(found, len(found))
        for found in (rows(DATA / "banking77/train.csv"), rows(DATA / "sst2/train.csv.xz"))
    )
    few = sample(banking, None, 10)
    texts = {row["text"] for row in few}
    return {
        "banking77": (few, [row for row in banking if row["text"] not in texts][:1500]),
        "sst2": (sst2[:5000], sst2[5000:7000]),
        "tweets_es": (rows(DATA / "tweet_sentiment_es/train.csv"), rows(DATA / "tweet_sentiment_es/dev.csv")),
    }


def read(model: Any, tokenizer: Any, texts: list[str]) -> dict[str, np.ndarray]:
    """Return [rows, width] of each reading: [CLS], mean and one token by layer (0: embeddings), pooled [CLS]."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    draw = torch.Generator().manual_seed(0)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), 64):
        some = [texts[i] for i in order[start : start + 64]]
        batch = tokenizer(some, padding=True, truncation=True, max_length=128, return_tensors="pt")
        out = model.base_model(**batch, output_hidden_states=True)
        words = batch["attention_mask"][..., None].float()
        words[:, 0] = 0  # [CLS] is read by itself
        one = torch.multinomial(words[..., 0], 1, generator=draw)[:, 0]
        for layer, hidden in enumerate(out.hidden_states):
            found[f"mean_{layer}"].append(((hidden * words).sum(1) / words.sum(1)).numpy())
            found[f"cls_{layer}"].append(hidden[:, 0].numpy())
            found[f"token_{layer}"].append(hidden[torch.arange(len(hidden)), one].numpy())
        found["pooled"].append(out.pooler_output.numpy())
    back = np.argsort(order)
    return {name: np.concatenate(parts)[back] for name, parts in found.items() if name != "cls_0"}


def score(train: np.ndarray, labels: list[str], other: np.ndarray, gold: list[str]) -> float:
    """Return macro-F1 of logistic regression on standardised features."""
    scale = StandardScaler().fit(train)
    return max(
        macro_f1(
            np.array(gold),
            LogisticRegression(C=strength, max_iter=500).fit(scale.transform(train), labels).predict(scale.transform(other)),
            sorted(set(gold)),
        )
        for strength in STRENGTHS
    )  # fmt: skip


@torch.no_grad()
def probed(folder: Path) -> dict[str, dict[str, float]]:
    """Return the score of every reading of one model, set by set."""
    model, tokenizer = load(folder, "AutoModelForPreTraining", dropout=0.0), load_tokenizer(folder)
    model.eval()
    found = {}
    for each, (learnt, scored) in sets().items():
        labels, gold = [row["label"] for row in learnt], [row["label"] for row in scored]
        ours, theirs = (read(model, tokenizer, [row["text"] for row in part]) for part in (learnt, scored))
        found[each] = {what: round(score(ours[what], labels, theirs[what], gold), 4) for what in ours}
        print(each, found[each], flush=True)
    return found


def main(folder: Path, name: str) -> None:
    """Write the record of one model."""
    about = record.about(f"python benchmarks/probe.py FOLDER {name}")
    print(record.save(f"probe-{name}", about | {"macro_f1": probed(folder)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
