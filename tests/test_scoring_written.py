"""Figures of generated texts: the same as sacrebleu's and rouge-score's, with intervals that hold them."""

import random
import unicodedata

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from afina.scoring import written
from afina.scoring.written import Words, difference, f_score, figures, missing, rouge_l, statistics

SIGNS = {
    "ascii": "abc de_f.,! 01",
    "spanish": "aáñü ¿é! oz…",
    "any": "añ 😀👍🏽 中文ж\u0301\n\t\u200b",
}


def texts(kind: str, n: int, seed: int) -> tuple[list[str], list[str]]:
    """Return `n` answers and references, some empty, most of them alike in part."""
    rng = random.Random(seed)

    def drawn() -> str:
        return "".join(rng.choices(SIGNS[kind], k=rng.choice([0, 1, 3, 20, 60])))

    references = [drawn() for _row in range(n)]
    told = [rng.choice([drawn(), gold, gold[: len(gold) // 2] + drawn()]) for gold in references]
    return told, references


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", SIGNS)
def test_chrf_is_sacrebleus(kind: str, seed: int) -> None:
    told, references = texts(kind, 1 + seed, seed)
    theirs = CHRF()
    assert figures(told, references)["chrf"].value == pytest.approx(
        theirs.corpus_score(told, [references]).score, abs=1e-9
    )
    counts = statistics(list(zip(told, references, strict=True)))
    for row, (mine, gold) in enumerate(zip(told, references, strict=True)):
        assert float(f_score(counts[row])) == pytest.approx(
            theirs.sentence_score(mine, [gold]).score, abs=1e-9
        )


@pytest.mark.parametrize("seed", range(20))
def test_rouge_is_rouge_scores_on_ascii(seed: int) -> None:
    told, references = texts("ascii", 12, seed)
    plain = RougeScorer(["rougeL"])
    theirs = [plain.score(gold, mine)["rougeL"].fmeasure for mine, gold in zip(told, references, strict=True)]
    assert rouge_l(list(zip(told, references, strict=True))) == pytest.approx(theirs)
    assert figures(told, references)["rouge_l"].value == pytest.approx(float(np.mean(theirs)))


def test_rouge_reads_letters_with_accents() -> None:
    """rouge-score's own tokenizer reads «año» as «a» and «o», so that «año» and «afo» are half alike."""
    assert Words().tokenize("¿Qué AÑO, niño_mío?") == ["qué", "año", "niño", "mío"]
    decomposed = unicodedata.normalize("NFD", "el año")
    assert rouge_l([("el año", decomposed), ("el año", "el ano"), ("", ""), ("ñ", "")]) == [1.0, 0.5, 0, 0]


def test_exact_match_passes_over_blanks_and_unicode_forms_alone() -> None:
    told = ["  el  niño\n", "El niño", unicodedata.normalize("NFD", "niño"), ""]
    found = figures(told, ["el niño", "el niño", "niño", ""])["exact_match"]
    assert found.value == 0.75 and found.low is not None and found.low < 0.75


def test_only_rows_with_both_texts_count() -> None:
    assert figures([], []) == figures([None, "a"], ["a", None]) == {}
    some = figures(["la casa azul", None, "b"], ["la casa azul", "x", None])
    assert {name: (score.value, score.n) for name, score in some.items()} == {
        "chrf": (pytest.approx(100), 1),
        "rouge_l": (1.0, 1),
        "exact_match": (1.0, 1),
    }
    assert some["chrf"].low is some["rouge_l"].low is None


def test_intervals_hold_the_value_and_are_the_same_twice() -> None:
    told, references = texts("spanish", 60, 7)
    found = figures(told, references)
    assert found == figures(told, references)
    for score in found.values():
        assert score.low is not None and score.high is not None
        assert score.low < score.value < score.high and score.n == 60
    narrow = figures(told * 4, references * 4)["chrf"]
    width = found["chrf"].high - found["chrf"].low  # type: ignore[operator]
    assert (narrow.high - narrow.low) == pytest.approx(width / 2, rel=0.1)  # type: ignore[operator]


def test_the_bootstrap_is_that_of_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "1")
    told, references = texts("spanish", 80, 3)
    mine = figures(told, references)["chrf"]
    theirs = CHRF().corpus_score(told, [references], n_bootstrap=1000)
    assert mine.low == pytest.approx(theirs._mean - theirs._ci, abs=1.5)
    assert mine.high == pytest.approx(theirs._mean + theirs._ci, abs=1.5)


def test_a_paired_difference() -> None:
    references = texts("spanish", 40, 1)[1]
    worse = [gold[: len(gold) // 2] for gold in references]
    better = difference(references, worse, references)
    assert better.shown and better.metric == "chrf" and better.p < 0.01
    assert better.low < better.value < better.high
    turned = difference(worse, references, references)
    assert turned.value == pytest.approx(-better.value)
    none = difference(worse, worse, references)
    assert not none.shown and none.value == 0 and none.p == 1
    assert not difference(["a"], ["b"], ["a"]).shown
    halves = difference([*references[:20], *[None] * 20], worse, references)
    assert halves == difference(references[:20], worse[:20], references[:20])


def test_without_the_libraries_exact_match_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing() == []
    monkeypatch.setattr(written, "find_spec", lambda name: None)
    (sentence,) = missing()
    assert 'pip install "afina[generation]"' in sentence and "sacrebleu and rouge_score" in sentence
    assert list(figures(["a"], ["a"])) == ["exact_match"]
    gap = difference(["a"] * 9, ["b"] * 9, ["a"] * 9)
    assert (gap.metric, gap.value) == ("exact_match", 1.0)
