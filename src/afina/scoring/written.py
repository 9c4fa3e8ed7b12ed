"""Written answers beside the true ones: exact match, chrF (Popović 2015) and ROUGE-L (Lin 2004).

chrF and ROUGE are those of sacrebleu and rouge-score, which the extra `generation` installs; without them exact
match is all there is. A corpus's chrF is no mean over rows: its interval and its tests draw rows anew and add up
what each brings to the counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from afina.core import Difference, Score
from afina.messages import _
from afina.scoring import clusters
from afina.scoring.clusters import LEAST
from afina.scoring.intervals import share

RESAMPLES = 2000
AT_ONCE = 4_000_000  # draws in memory
SEED = 2015
BETA = 2.0  # chrF's weight of recall
WORDS = re.compile(r"[^\W_]+")

Texts = Sequence[str | None]


def missing() -> list[str]:
    """Say what is not measured because a library is not installed, and how to install it."""
    lacking = [package for package in ("sacrebleu", "rouge_score") if find_spec(package) is None]
    if not lacking:
        return []
    sentence = _(
        "Of generated texts only the exact match is measured: {packages} cannot be found. "
        'Install them with pip install "afina[generation]".'
    )
    return [sentence.format(packages=f" {_('and')} ".join(lacking))]


def normal(text: str) -> str:
    """Return the text in Unicode's composed form (NFC), its blanks and line ends as single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def figures(told: Texts, references: Texts) -> dict[str, Score]:
    """Return `chrf` (0 … 100), `rouge_l` (0 … 1) and `exact_match` over the rows that have both texts; {} for none.

    chrF's interval is a percentile bootstrap over rows, the others' are those of shares and means; None where rows
    are fewer than eight.
    """
    pairs = _pairs(told, references)
    if not pairs:
        return {}
    found = {}
    if not missing():
        found["chrf"] = _chrf(statistics(pairs))
        found["rouge_l"] = clusters.mean(rouge_l(pairs), range(len(pairs)))
    right = sum(_exact(pairs))
    low, high = share(right, len(pairs)) or (None, None)
    return found | {"exact_match": Score(right / len(pairs), low, high, len(pairs))}


def difference(a: Texts, b: Texts, references: Texts) -> Difference:
    """Return by how much the chrF of `a` is above that of `b` on the rows that have all three texts.

    The interval is a paired bootstrap over rows, p that of approximate randomisation (Yeh 2000; Riezler and Maxwell
    2005): does it matter which system gave which answer? Of exact match where sacrebleu is not installed. With
    fewer than two rows nothing can be shown.
    """
    metric = "exact_match" if missing() else "chrf"
    kept = [row for row, texts in enumerate(zip(a, b, references, strict=True)) if None not in texts]
    gold = [references[row] for row in kept]
    ours, theirs = (_pairs([told[row] for row in kept], gold) for told in (a, b))
    if len(kept) < 2:
        bound = 1.0 if missing() else 100.0
        return Difference(metric, 0.0, -bound, bound, 1.0)
    if missing():
        return clusters.difference(metric, _exact(ours), _exact(theirs), range(len(kept)))
    of_a, of_b = statistics(ours), statistics(theirs)
    value = float(f_score(of_a.sum(0)) - f_score(of_b.sum(0)))
    (wrong_a, right_a), (wrong_b, right_b) = _extremes(of_a), _extremes(of_b)
    either = [np.hstack([right_a, wrong_b]), np.hstack([wrong_a, right_b])]
    drawn = resampled(np.vstack([np.hstack([of_a, of_b]), *either]))
    ours_drawn, theirs_drawn = (f_score(half) for half in np.split(drawn, 2, axis=1))
    low, high = np.quantile(ours_drawn - theirs_drawn, [0.025, 0.975])
    swapped = resampled(of_b - of_a, swapping=True)
    gaps = f_score(of_a.sum(0) + swapped) - f_score(of_b.sum(0) - swapped)
    p = (int((np.abs(gaps) >= abs(value) - 1e-9).sum()) + 1) / (RESAMPLES + 1)
    return Difference(metric, value, min(float(low), value), max(float(high), value), p)


def statistics(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return for each (told, reference) what chrF counts [rows, 3 a length]: n-grams told, true and shared."""
    from sacrebleu.metrics import CHRF

    told, references = zip(*pairs, strict=True)
    # sacrebleu's own way to its bootstrap; a public one to the counts there is not.
    counted = CHRF()._extract_corpus_statistics(list(told), [list(references)])
    return np.asarray(counted, dtype=float)


def f_score(counts: np.ndarray) -> np.ndarray:
    """Return the chrF, 0 … 100, of summed counts [..., 3 a length], as sacrebleu does: a length that either lacks is out."""
    told, true, shared = np.moveaxis(counts.reshape(*counts.shape[:-1], -1, 3), -1, 0)
    counted = (told > 0) & (true > 0)
    lengths = np.maximum(counted.sum(-1), 1)
    precision, recall = (
        (np.divide(shared, of, out=np.zeros_like(shared), where=counted)).sum(-1) / lengths
        for of in (told, true)
    )
    below = BETA**2 * precision + recall
    top = 100 * (1 + BETA**2) * precision * recall
    return np.divide(top, below, out=np.zeros_like(top), where=below > 0)


def resampled(counts: np.ndarray, *, swapping: bool = False) -> np.ndarray:
    """Return the sums of `counts` [rows, k] over rows drawn anew with replacement, or over a coin's choice of rows.

    One line a resample [resamples, k]; the same every time.
    """
    rng, n = np.random.default_rng(SEED), len(counts)
    sums = []
    for part in np.array_split(np.arange(RESAMPLES), -(-RESAMPLES * n // AT_ONCE)):
        size = len(part)
        times = rng.integers(0, 2, (size, n)) if swapping else rng.multinomial(n, np.full(n, 1 / n), size)
        sums.append(times.astype(float) @ counts)
    return np.concatenate(sums)


def rouge_l(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return for each (told, reference) the F of their longest common subsequence of words.

    On ASCII it is rouge-score's own; its tokenizer, though, would drop every letter with an accent.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    return [float(scorer.score(reference, told)["rougeL"].fmeasure) for told, reference in pairs]


class Words:
    """The words of a text in lower case, in any script: what rouge-score calls a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return WORDS.findall(unicodedata.normalize("NFC", text).lower())


def _pairs(told: Texts, references: Texts) -> list[tuple[str, str]]:
    return [
        (mine, gold)
        for mine, gold in zip(told, references, strict=True)
        if mine is not None and gold is not None
    ]


def _exact(pairs: Sequence[tuple[str, str]]) -> list[float]:
    return [float(normal(told) == normal(reference)) for told, reference in pairs]


def _chrf(counts: np.ndarray) -> Score:
    value, n = float(f_score(counts.sum(0))), len(counts)
    if n < LEAST:
        return Score(value, None, None, n)
    low, high = np.quantile(f_score(resampled(np.vstack([counts, *_extremes(counts)]))), [0.025, 0.975])
    return Score(value, min(float(low), value), max(float(high), value), n)


def _extremes(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of a row of the usual size that shares nothing with its reference, and of one that is it.

    They are drawn beside the rows: no error yet does not mean that none can be made (Agresti and Coull 1998, of
    shares).
    """
    wrong = counts.mean(0)
    right = np.repeat(wrong[1::3], 3)
    wrong[2::3] = 0
    return wrong, right
