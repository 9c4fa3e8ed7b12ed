"""Exact match and F1 of answer spans by the rules of SQuAD's official scripts (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from afina.core import Scores
from afina.errors import InputError
from afina.messages import _
from afina.scoring.clusters import mean

Language = Literal["en", "es"]

# What is passed over: English as in SQuAD's scripts, Spanish as in MLQA's (Lewis et al. 2020).
ARTICLES = {
    "en": re.compile(r"\b(a|an|the)\b"),
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
}
ASCII_MARKS = frozenset(string.punctuation)


def normal(answer: str, language: Language = "en") -> str:
    """Return the answer in lower case, without marks, articles and superfluous blanks.

    English drops ASCII's marks only, as the official script does; Spanish those of all scripts (¿, «, …).
    """
    kept = "".join(sign for sign in answer.lower() if not _is_mark(sign, language))
    return " ".join(ARTICLES[language].sub(" ", kept).split())


def _is_mark(sign: str, language: Language) -> bool:
    return sign in ASCII_MARKS or (language == "es" and unicodedata.category(sign).startswith("P"))


def exact_match(answer: str, golds: Sequence[str], language: Language = "en", *, v2: bool = False) -> float:
    """Return 1 where the answer is one of `golds` (none: the question has no answer) but for its form, else 0."""
    told = normal(answer, language)
    return float(any(told == normal(gold, language) for gold in _golds(golds, language, v2)))


def f1(answer: str, golds: Sequence[str], language: Language = "en", *, v2: bool = False) -> float:
    """Return the best F1 of the words that the answer shares with one of `golds`.

    The scripts differ where nothing is left of an answer after `normal`: in version 2 it equals another empty
    one and golds of that kind do not count; in version 1 it shares no word with anything, so F1 is 0.
    """
    told = normal(answer, language).split()
    return max(_f1(told, normal(gold, language).split(), v2) for gold in _golds(golds, language, v2))


def score(
    answers: Sequence[str], golds: Sequence[Sequence[str]], contexts: Sequence[str], language: Language = "en"
) -> Scores:
    """Return F1 and exact match of `answers` with intervals over contexts, whose questions are no independent rows.

    Where a question has no gold answer, version 2's rules hold for all, and the parts with and without an answer
    follow. `details.outcomes` counts how the answers fell out. InputError where there is no row.
    """
    if not answers:
        raise InputError(_("There is no row to score. Give a file with at least one question."))
    v2 = not all(golds)
    pairs = list(zip(answers, golds, strict=True))
    figures = {
        "f1": [f1(told, gold, language, v2=v2) for told, gold in pairs],
        "exact_match": [exact_match(told, gold, language, v2=v2) for told, gold in pairs],
    }
    values = {name: mean(figure, contexts) for name, figure in figures.items()}
    if v2:
        parts = {
            "has_answer": [row for row, gold in enumerate(golds) if gold],
            "no_answer": [row for row, gold in enumerate(golds) if not gold],
        }
        names = {
            "has_answer_f1": ("has_answer", "f1"),
            "has_answer_exact_match": ("has_answer", "exact_match"),
            "no_answer_accuracy": ("no_answer", "exact_match"),
        }
        for name, (part, figure) in names.items():
            if rows := parts[part]:
                values[name] = mean([figures[figure][row] for row in rows], [contexts[row] for row in rows])
    outcomes = Counter(
        _outcome(told, gold, right, shared)
        for (told, gold), right, shared in zip(pairs, figures["exact_match"], figures["f1"], strict=True)
    )
    return Scores(values, {"outcomes": dict(outcomes), "rules": "SQuAD 2.0" if v2 else "SQuAD 1.1"})


def _outcome(told: str, golds: Sequence[str], right: float, shared: float) -> str:
    if right:
        return "exact"
    if not golds:
        return "invented"
    if not told:
        return "missed"
    return "partly" if shared else "wrong"


def _golds(golds: Sequence[str], language: Language, v2: bool) -> Sequence[str]:
    return ([gold for gold in golds if normal(gold, language)] if v2 else golds) or [""]


def _f1(told: list[str], gold: list[str], v2: bool) -> float:
    if v2 and not (told and gold):
        return float(told == gold)
    shared = sum((Counter(told) & Counter(gold)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(told), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
