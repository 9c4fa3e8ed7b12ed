"""SQuAD's rules on cases worked out by hand, and means over clusters."""

import numpy as np
import pytest

from afina.scoring.clusters import difference, mean
from afina.scoring.sliding import tfidf_span
from afina.scoring.squad import exact_match, f1, normal, score

CASES = [
    # answer, golds, EM 1.1, F1 1.1, EM 2.0, F1 2.0
    ("Denver Broncos", ["Denver Broncos"], 1, 1, 1, 1),
    ("The Denver  broncos!", ["denver Broncos", "Carolina"], 1, 1, 1, 1),
    ("Broncos", ["Denver Broncos"], 0, 2 / 3, 0, 2 / 3),
    ("Broncos of Denver", ["Carolina", "Denver Broncos"], 0, 0.8, 0, 0.8),
    ("Carolina", ["Denver Broncos"], 0, 0, 0, 0),
    ("U.S.", ["US"], 1, 1, 1, 1),
    ("co-op", ["co op"], 0, 0, 0, 0),
    ("a a b b b", ["b b c"], 0, 2 * (2 / 3) * (2 / 3) / (2 / 3 + 2 / 3), 0, 2 / 3),
    ("the", ["a"], 1, 0, 1, 1),  # nothing is left of either: the versions differ
    ("the", ["Denver"], 0, 0, 0, 0),
    ("", ["Denver"], 0, 0, 0, 0),
    ("«Denver»", ["Denver"], 0, 0, 0, 0),  # only ASCII's marks are passed over
    ("theatre", ["atre"], 0, 0, 0, 0),
]


@pytest.mark.parametrize(("answer", "golds", "em_1", "f1_1", "em_2", "f1_2"), CASES)
def test_the_rules_of_the_scripts(
    answer: str, golds: list[str], em_1: float, f1_1: float, em_2: float, f1_2: float
) -> None:
    assert (exact_match(answer, golds), exact_match(answer, golds, v2=True)) == (em_1, em_2)
    assert (f1(answer, golds), f1(answer, golds, v2=True)) == (pytest.approx(f1_1), pytest.approx(f1_2))


def test_no_answer_by_the_second_version() -> None:
    assert exact_match("", [], v2=True) == f1("", [], v2=True) == 1
    assert exact_match("sí", [], v2=True) == f1("sí", [], v2=True) == 0
    assert (
        exact_match("", ["the"], v2=True) == f1("", ["the"], v2=True) == 1
    )  # a gold of which nothing is left
    assert f1("the Broncos", ["the", "Broncos"], v2=True) == 1


def test_spanish_articles_and_marks() -> None:
    assert normal("¿«La Casa» de las  flores?", "es") == "casa de flores"
    assert normal("¿«La Casa»?", "en") == "¿«la casa»"
    assert exact_match("los Beatles", ["Beatles"], "es") == 1 != exact_match("los Beatles", ["Beatles"])
    assert normal("el lago", "es") == "lago" and normal("elástico", "es") == "elástico"


def test_parts_with_and_without_answer() -> None:
    told = ["sí", "", "no", ""] * 10
    golds = [["sí"], [], [], ["uno dos"]] * 10
    contexts = [str(row // 4) for row in range(40)]
    found = score(told, golds, contexts)
    assert {name: (figure.value, figure.n) for name, figure in found.values.items()} == {
        "f1": (0.5, 40),
        "exact_match": (0.5, 40),
        "has_answer_f1": (0.5, 20),
        "has_answer_exact_match": (0.5, 20),
        "no_answer_accuracy": (0.5, 20),
    }
    assert found.details == {"outcomes": {"exact": 20, "invented": 10, "missed": 10}, "rules": "SQuAD 2.0"}
    plain = score(["sí", "dos"], [["sí"], ["uno dos"]], ["a", "b"])
    assert [*plain.values] == ["f1", "exact_match"] and plain.values["f1"].low is None
    assert plain.values["f1"].value == (1 + 2 / 3) / 2


def clustered(rng: np.random.Generator, clusters: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return figures 0 or 1 whose clusters (1 to 8 rows) have chances of their own, and the clusters."""
    sizes = rng.integers(1, 9, clusters)
    chance = rng.beta(3 * level, 3 * (1 - level), clusters)
    of_row = np.repeat(np.arange(clusters), sizes)
    return (rng.random(len(of_row)) < chance[of_row]).astype(float), of_row


@pytest.mark.parametrize("clusters", [10, 30, 100])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
def test_intervals_cover(clusters: int, level: float) -> None:
    """Of 400 simulated samples at least 91 % of the intervals hold the truth, rows of a cluster being alike."""
    rng = np.random.default_rng(1)
    held = 0
    for _sample in range(400):
        figure = mean(*map(list, clustered(rng, clusters, level)))
        assert figure.low is not None and figure.high is not None
        held += figure.low <= level <= figure.high
    assert held / 400 >= 0.91


def test_alike_systems_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(2)
    shown = 0
    for _sample in range(120):
        a, clusters = clustered(rng, 30, 0.5)
        swap = rng.random(len(a)) < 0.3
        b = np.where(swap, (rng.random(len(a)) < 0.5).astype(float), a)
        a = np.where(rng.random(len(a)) < 0.3, (rng.random(len(a)) < 0.5).astype(float), a)
        shown += difference("f1", list(a), list(b), list(clusters)).shown
    assert shown / 120 <= 0.07


def test_a_difference_has_its_sign_and_its_size() -> None:
    gap = difference("f1", [1.0] * 40, [0.0] * 20 + [0.5] * 20, [row // 4 for row in range(40)])
    assert gap.value == 0.75 and gap.shown and 0.4 < gap.low < 0.75 < gap.high <= 1
    none = difference("f1", [0.5] * 40, [0.5] * 40, [row // 4 for row in range(40)])
    assert (none.value, none.p, none.shown) == (0, 1, False)
    assert not difference("f1", [1.0] * 9, [0.0] * 9, ["one"] * 9).shown


def test_the_sliding_window_finds_what_stands_beside_the_words_of_the_question() -> None:
    names = ["Ana", "Luis", "Eva", "Juan", "Rosa", "Iker", "Sara", "Hugo"]
    rows = [
        {
            "question": f"¿Quién pintó la torre {tower}?",
            "context": f"Llovía mucho en la ciudad. La torre {tower} la pintó {name}. Nadie sabe nada más de ello.",
            "answers": [{"text": name}],
        }
        for tower, name in zip(["azul", "roja", "negra", "verde"] * 2, names, strict=True)
    ]
    spans = tfidf_span(rows[:4], rows, f1)
    told = [row["context"][span.start : span.end] for row, span in zip(rows, spans, strict=True)]
    assert sum(f1(answer, [row["answers"][0]["text"]]) for answer, row in zip(told, rows, strict=True)) >= 6
    assert tfidf_span(rows, [{"question": "¿?", "context": "…"}], f1)[0] == (0, 0)
