"""SQuAD's rules on cases worked out by hand and on random ones, and means over clusters."""

import random
import string
import unicodedata
from collections import Counter
from itertools import groupby

import numpy as np
import pytest

from afina.scoring.clusters import difference, mean
from afina.scoring.sliding import tfidf_span
from afina.scoring.squad import Language, exact_match, f1, normal, score

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


# Random answers, and the rules once more --------------------------------------------------------------------

PASSED_OVER = {"en": ["a", "an", "the"], "es": ["un", "una", "unos", "unas", "el", "la", "los", "las"]}
BLANKS = [*"  \t\n\r", *map(chr, (0x0B, 0x1C, 0x85, 0xA0, 0x1680, 0x2003, 0x2028, 0x202F, 0x3000))]
MARKS = [*string.punctuation, *"¿¡«»…—’“”·、。‿", *map(chr, (0x200B, 0xFEFF, 0xAD, 0x301, 0x1F600)), *"€+º"]
WORDS = [
    *("Denver", "denver", "DENVER", "Broncos", "Ávila", "ávila", "A\u0301vila", "İzmir", "straße", "STRASSE"),
    *("ﬁn", "niño", "theatre", "elástico", "unión", "another", "12", "3.500", "²", "a1", "漢字", "الكتاب", "U.S."),
    *("co-op", "T.H.E", "o'clock", "the\u0301", "a_n", "l'a"),
    *("the’s", "¿el", "El.", "A-la", "an\u200b", "unÄ", "LOS", "A", "Aª"),
]  # fmt: skip


def left_of(answer: str, language: Language) -> list[str]:
    """Return what counts of an answer: its words in lower case, without marks and articles."""
    signs = [
        sign
        for sign in answer.lower()
        if sign not in string.punctuation and not (language == "es" and unicodedata.category(sign)[0] == "P")
    ]
    found = ""
    for is_word, run in groupby(signs, str.isalnum):  # an article is one where no letter or digit adjoins it
        part = "".join(run)
        found += " " if is_word and part in PASSED_OVER[language] else part
    return ["".join(run) for blank, run in groupby(found, str.isspace) if not blank]


def by_the_rules(answer: str, golds: list[str], language: Language, v2: bool) -> tuple[float, float]:
    """Return exact match and F1 against the gold that is best for each."""
    told, known = left_of(answer, language), [left_of(gold, language) for gold in golds]
    if v2:  # golds of which nothing is left do not count; where none counts, saying nothing is right
        known = [gold for gold in known if gold] or [[]]
    best = 0.0
    for gold in known:
        rest, shared = list(gold), 0
        for word in told:
            if word in rest:
                rest.remove(word)
                shared += 1
        if v2 and (not told or not gold):
            best = max(best, 1.0 if told == gold else 0.0)
        elif shared:
            precision, recall = shared / len(told), shared / len(gold)
            best = max(best, 2 * precision * recall / (precision + recall))
    return float(told in known), best


def an_answer(draw: random.Random) -> str:
    """Return up to six words, articles and marks, with blanks of all kinds between them, or none."""
    found = ""
    for _part in range(draw.choice([0, 1, 1, 2, 3, 4, 6])):
        article = draw.choice(PASSED_OVER[draw.choice(["en", "es"])])
        found += draw.choice(
            [draw.choice(WORDS), draw.choice([article, article.upper()]), draw.choice(MARKS)]
        )
        found += "".join(draw.choices(BLANKS, k=draw.choice([0, 1, 1, 1, 2])))
    return found


def told_otherwise(draw: random.Random, answer: str) -> str:
    """Return an answer in another form or with other words: alike often enough for all cases to come up."""
    words = answer.split()
    if draw.random() < 0.3:
        draw.shuffle(words)
    for _change in range(draw.choice([0, 0, 1, 1, 2, 3])):
        at = draw.randint(0, len(words))
        words[at : at + draw.choice([0, 0, 1])] = [an_answer(draw).strip()]
    text = draw.choice(BLANKS).join(words)
    return draw.choice([text, text.upper(), text.lower(), draw.choice(MARKS) + text])


def drawn(draw: random.Random, v2: bool) -> tuple[str, list[str]]:
    """Return an answer and up to four golds, none only in version 2."""
    golds = [an_answer(draw) for _gold in range(draw.randrange(0 if v2 else 1, 5))]
    return (told_otherwise(draw, draw.choice(golds)) if golds else an_answer(draw)), golds


@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("language", ["en", "es"])
def test_random_answers_are_scored_by_the_rules_to_the_last_digit(language: Language, v2: bool) -> None:
    draw = random.Random(7)
    rows = [drawn(draw, v2) for _row in range(3000)]
    figures = [by_the_rules(told, golds, language, v2) for told, golds in rows]
    for (told, golds), expected in zip(rows, figures, strict=True):
        found = exact_match(told, golds, language, v2=v2), f1(told, golds, language, v2=v2)
        assert found == expected, (told, golds)
        assert normal(told, language) == " ".join(left_of(told, language))
    fell = Counter("exact" if em else "partly" if part else "wrong" for em, part in figures)
    assert min(fell["exact"], fell["partly"], fell["wrong"]) > 500
    # By version 1 nothing is left of answer and gold: the same, but they share no word.
    assert (sum(em > part for em, part in figures) > 50) != v2
    assert sum(told != "" and not left_of(told, language) for told, _golds in rows) > 100

    parts = {"": figures}
    if v2:
        parts["has_answer_"] = [one for one, (_told, golds) in zip(figures, rows, strict=True) if golds]
        silent = [one for one, (_told, golds) in zip(figures, rows, strict=True) if not golds]
        assert len(silent) > 500
    means = {
        prefix + name: sum(one[i] for one in part) / len(part)
        for prefix, part in parts.items()
        for i, name in enumerate(("exact_match", "f1"))
    }
    if v2:
        means["no_answer_accuracy"] = sum(em for em, _f1 in silent) / len(silent)
    whole = score(*zip(*rows, strict=True), [str(row // 5) for row in range(len(rows))], language)
    assert {name: figure.value for name, figure in whole.values.items()} == means


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
