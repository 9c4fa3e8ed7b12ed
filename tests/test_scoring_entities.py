"""Entities out of tags and their figures: against rules written down by hand, against seqeval, against scikit-learn."""

import json
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.metrics import f1_score as sklearn_f1

from afina.scoring import entities, ratios
from afina.scoring.intervals import wilson

SEQEVAL, SEEDS = Path(__file__).with_name("seqeval.json"), 40


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O B-A I-A O", [(1, 3, "A")]),
        ("B-A B-A I-A", [(0, 1, "A"), (1, 3, "A")]),
        ("B-A I-B I-A", [(0, 1, "A"), (1, 2, "B"), (2, 3, "A")]),  # another type begins another entity
        ("O I-A I-A B-A O I-B", [(1, 3, "A"), (3, 4, "A"), (5, 6, "B")]),  # IOB1
        ("S-A B-B I-B E-B S-B", [(0, 1, "A"), (1, 4, "B"), (4, 5, "B")]),  # BIOES
        ("U-A B-B I-B L-B", [(0, 1, "A"), (1, 4, "B")]),  # BILOU
        ("B-A E-A I-A E-A", [(0, 2, "A"), (2, 4, "A")]),  # after an end something begins
        ("S-A I-A O E-A", [(0, 1, "A"), (1, 2, "A"), (3, 4, "A")]),
        ("A A O B A", [(0, 2, "A"), (3, 4, "B"), (4, 5, "A")]),  # no prefixes
        ("B-A-B I-A-B", [(0, 2, "A-B")]),
        ("O O", []),
        ("", []),
    ],
)
def test_chunks(tags: str, found: list[tuple[int, int, str]]) -> None:
    assert entities.chunks(tags.split()) == found


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (["O B-A I-A", "B-A"], (0, False)),
        (["O I-A I-A B-A", "I-B O"], (2, True)),
        (["B-A I-A", "O I-A"], (1, False)),
        (["O O"], (0, False)),
    ],
)
def test_what_the_tags_follow(rows: list[str], found: tuple[int, bool]) -> None:
    assert entities.irregular([row.split() for row in rows]) == found


def test_tags_of_spans_are_read_back() -> None:
    words = [[0, 3], [4, 8], [9, 10], [10, 14]]
    spans = [[0, 8, "A"], [9, 14, "A"]]
    assert entities.tags(words, spans) == ["B-A", "I-A", "B-A", "I-A"]
    assert entities.tags(words, [[1, 2, "A"], [5, 14, "B"]]) == ["B-A", "B-B", "I-B", "I-B"]  # within words
    assert entities.tags(words, [[0, 6, "A"], [6, 8, "B"]]) == [
        "B-A",
        "I-A",
        "O",
        "O",
    ]  # a word has one label


def some(rng: random.Random, scheme: str) -> list[list[str]]:
    tags = ["O", *(f"{begins}-{kind}" for begins in scheme for kind in ("PER", "LOC", "X-Y"))]
    return [rng.choices(tags, k=rng.randrange(1, 12)) for _row in range(rng.randrange(1, 30))]


def spans(rows: list[list[str]]) -> list[list[tuple[int, int, str]]]:
    return [entities.chunks(row) for row in rows]


def drawn(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Return true and guessed tags of some rows."""
    rng = random.Random(seed)
    gold = some(rng, rng.choice(["BI", "BIES"]))
    return gold, [[rng.choice([tag, "O", "B-PER", "I-LOC"]) for tag in row] for row in gold]


def asked_of_seqeval(seed: int) -> dict[str, Any]:
    """Return what seqeval says, if it is installed; `python tests/test_scoring_entities.py` keeps it in SEQEVAL."""
    from seqeval import metrics

    gold, told = drawn(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of figures that divide by nothing
        report = metrics.classification_report(gold, told, output_dict=True)
        whole = [
            each(gold, told) for each in (metrics.f1_score, metrics.precision_score, metrics.recall_score)
        ]
    figures = {
        label: [float(report[label][name]) for name in ("precision", "recall", "f1-score", "support")]
        for label in ("LOC", "PER", "X-Y")
        if label in report
    }
    return {"tags": [gold, told], "whole": [float(figure) for figure in whole], "by_label": figures}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_figures_are_those_of_seqeval(seed: int) -> None:
    """seqeval 1.2.2 has answered once: it cannot be installed everywhere (setup_requires)."""
    expected = json.loads(SEQEVAL.read_text(encoding="utf-8"))[seed]
    gold, told = drawn(seed)
    assert [gold, told] == expected["tags"], "the rows are not those that seqeval was asked about"
    found = entities.score(spans(gold), spans(told), ["LOC", "PER"])
    assert [score.value for score in found.values.values()] == pytest.approx(expected["whole"])
    for label, figures in found.details["per_class"].items():
        if label in expected["by_label"]:
            assert [figures["precision"], figures["recall"], figures["f1"], figures["n"]] == pytest.approx(
                expected["by_label"][label]
            )
    assert entities.f1(spans(gold), spans(told)) == found.values["entity_f1"].value


def test_seqeval_still_says_so() -> None:
    pytest.importorskip("seqeval")
    assert [asked_of_seqeval(seed) for seed in range(SEEDS)] == json.loads(
        SEQEVAL.read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("seed", range(40))
def test_figures_are_those_of_the_rules_written_out(seed: int) -> None:
    """The conlleval script goes through the words once; here it does so in its own order."""
    rng = random.Random(seed)
    gold = some(rng, "BIES")
    told = [[rng.choice([tag, "O", "B-PER", "I-LOC"]) for tag in row] for row in gold]

    def ends(before: str, tag: str) -> bool:
        a, b = before[:1], tag[:1]
        return a in "ES" or (a in "BI" and b in "BSO") or (a != "O" and before[2:] != tag[2:])

    def starts(before: str, tag: str) -> bool:
        a, b = before[:1], tag[:1]
        return b in "BS" or (a in "ESO" and b in "EI") or (b != "O" and before[2:] != tag[2:])

    right = of_gold = said = 0
    for true, guess in zip(gold, told, strict=True):
        inside, last_true, last_guess = False, "O", "O"
        for a, b in zip([*true, "O"], [*guess, "O"], strict=True):
            end_true, end_guess = (
                ends(last_true, a) and last_true != "O",
                ends(last_guess, b) and last_guess != "O",
            )
            if inside and (end_true or end_guess):
                right += end_true and end_guess
                inside = False
            start_true, start_guess = starts(last_true, a), starts(last_guess, b)
            if start_true and start_guess and a[2:] == b[2:]:
                inside = True
            elif start_true != start_guess:
                inside = False
            of_gold, said, last_true, last_guess = of_gold + start_true, said + start_guess, a, b
    found = entities.score(spans(gold), spans(told), ["LOC", "PER", "X-Y"]).values
    assert found["entity_precision"].value == pytest.approx(right / max(said, 1))
    assert found["entity_recall"].value == pytest.approx(right / max(of_gold, 1))
    assert found["entity_f1"].value == pytest.approx(2 * right / max(of_gold + said, 1))


def test_figures_of_words_are_those_of_scikit_learn() -> None:
    rng = random.Random(0)
    gold = [rng.choices("ABCD", weights=(8, 4, 2, 1), k=rng.randrange(1, 9)) for _row in range(80)]
    told = [[rng.choice([tag, tag, "A", "B"]) for tag in row] for row in gold]
    found = entities.words(gold, told, ["A", "B", "C"])
    flat = [[tag for row in rows for tag in row] for rows in (gold, told)]
    assert found.values["accuracy"].value == pytest.approx(accuracy_score(*flat))
    assert found.values["macro_f1"].value == pytest.approx(
        sklearn_f1(*flat, labels=list("ABCD"), average="macro", zero_division=0)
    )
    assert found.details["unseen"] == ["D"]
    assert np.sum(found.details["confusion"]["counts"]) == len(flat[0])
    for score in found.values.values():
        assert score.low is not None and score.high is not None and score.low < score.value < score.high


def test_a_type_that_only_the_gold_has_is_an_error_and_named() -> None:
    found = entities.score([[(0, 1, "NEW")]] * 12, [[(0, 1, "PER")]] * 12, ["PER"])
    assert found.details["unseen"] == ["NEW"]
    assert found.details["per_class"]["NEW"]["n"] == 12
    assert found.values["entity_f1"][:2] == (0.0, 0.0) and (found.values["entity_f1"].high or 0) > 0.1
    assert found.details["faults"]["label"] == 12


def test_faults_are_sorted() -> None:
    gold = [[(0, 5, "A"), (6, 9, "A"), (10, 12, "B"), (20, 22, "A")]]
    told = [[(0, 5, "B"), (6, 8, "A"), (9, 13, "A"), (30, 31, "A")]]
    assert entities.score(gold, told, ["A", "B"]).details["faults"] == {
        "label": 1, "limits": 1, "both": 1, "missed": 1, "invented": 1,
    }  # fmt: skip


def test_nothing_to_find_and_nothing_said() -> None:
    found = entities.score([[]] * 20, [[]] * 20, ["A"])
    assert set(found.values.values()) == {(0.0, None, None, 20)}


def test_words_that_go_together_make_the_interval_wider() -> None:
    right = np.array([10, 0] * 20)
    together = ratios.share(right, np.full(40, 10))
    low, high = wilson(np.asarray(200), np.asarray(400))
    assert together.low is not None and together.high is not None
    assert together.high - together.low > 2.5 * (high - low)
    assert ratios.share(right[:9], np.full(9, 10))[1:3] == (None, None)


def clusters(
    rng: np.random.Generator, rows: int, level: float, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of unlike length whose words are right or wrong together."""
    whole = rng.integers(0, 12, rows)
    return rng.binomial(whole, rng.beta(level * spread, (1 - level) * spread, rows)), whole


@pytest.mark.parametrize(("rows", "level"), [(15, 0.8), (40, 0.9), (40, 0.5), (200, 0.97), (200, 0.7)])
def test_the_interval_of_a_share_covers(rows: int, level: float) -> None:
    rng = np.random.default_rng(rows)
    held = []
    for _draw in range(600):
        found = ratios.share(*clusters(rng, rows, level, 3.0))
        if found.low is not None and found.high is not None:
            held.append(found.low <= level <= found.high)
    assert np.mean(held) > 0.9


def test_the_paired_difference_keeps_its_level_and_has_power() -> None:
    rng = np.random.default_rng(1)
    shown = {0.0: 0, 0.08: 0}
    for better in shown:
        for _draw in range(60):
            whole = rng.integers(1, 12, 150).astype(float)
            hard = rng.beta(2, 1, 150)
            a, b = (rng.binomial(whole.astype(int), hard * scale) for scale in (0.9, 0.9 - better))
            found = ratios.difference("accuracy", (a.astype(float), whole), (b.astype(float), whole))
            assert found.low <= found.value <= found.high
            shown[better] += found.shown
    assert shown[0.0] <= 8 and shown[0.08] > 40


def test_equal_answers_do_not_differ() -> None:
    side = (np.array([3.0, 0, 2]), np.array([3.0, 1, 2]))
    found = ratios.difference("entity_f1", side, side)
    assert (found.value, found.p, found.shown) == (0, 1, False) and found.low < 0 < found.high


if __name__ == "__main__":
    SEQEVAL.write_text(json.dumps([asked_of_seqeval(seed) for seed in range(SEEDS)]) + "\n", encoding="utf-8")
