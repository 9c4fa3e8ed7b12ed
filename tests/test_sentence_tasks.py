"""Several labels, numbers and pairs of texts: from the file to the report, and what is wrong with a file."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
import toy
from afina.core import Row, Table
from afina.data.columns import guess_pair
from afina.data.number import number
from afina.errors import InputError
from afina.names import find
from afina.tasks.multi_label import MultiLabel
from afina.tasks.regression import Regression
from afina.tasks.sentence_pair import SentencePair
from afina.verbs._prepare import clean

Command = Callable[..., toy.Said]
one_thread = pytest.fixture(scope="module")(toy.one_thread)
MAIN = {"multi_label": "micro_f1", "regression": "spearman", "sentence_pair": "macro_f1"}


def rows_of(task: str) -> list[Row]:
    return find("tasks", task).toy()


def write(file: Path, rows: list[Row]) -> Path:
    """Write rows as JSON Lines or, by the ending, CSV."""
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file
    return toy.table(file, [[str(value) for value in row.values()] for row in rows], [*rows[0]])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A folder with a model, a file and a run of every task."""
    folder = tmp_path_factory.mktemp("sentence_tasks")
    toy.model(folder / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for task in MAIN:
            write(folder / f"{task}.jsonl", rows_of(task))
            assert afina.finetune(f"{task}.jsonl", task=task, model="tiny", max_steps=2, quiet=True)
    return folder


@pytest.fixture
def afina_(place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(place)
    return toy.command(capfd)


@pytest.mark.parametrize("task", MAIN)
def test_what_a_run_holds(task: str, place: Path) -> None:
    run = afina.Run(place / "runs" / task)
    for scores in (run.scores["test"], run.result["baselines"]["majority"]["test"]):
        assert next(iter(scores)) == MAIN[task]
    assert run.result["baselines"]["tfidf"]["test"]
    assert {gap["metric"] for gap in run.result["details"]["differences"]["test"]} == {MAIN[task]}
    page = (run.path / "report.html").read_text(encoding="utf-8")
    card = (run.path / "best" / "README.md").read_text(encoding="utf-8")
    for rival in run.bundle.task.about().rivals.values():
        assert rival.name in page and rival.name in card
    with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert {"text", "label", "prediction"} <= lines[0].keys()
    assert len(lines) == run.scores["test"][MAIN[task]]["n"]


@pytest.mark.parametrize("task", MAIN)
def test_evaluate_and_repeat(task: str, afina_: Command) -> None:
    said = afina_("evaluate", f"runs/{task}", f"{task}.jsonl", "--json")
    assert said.code == 0, said.err
    assert next(iter(said.json["scores"]["test"])) == MAIN[task]
    assert said.json["baselines"]["tfidf"]["test"], "the training rows are at hand"
    assert afina_("evaluate", f"runs/{task}", f"{task}.jsonl").code == 0
    again = afina_("finetune", f"runs/{task}/run.toml", "--dry-run")
    assert again.code == 0, again.err


def test_thresholds_are_tuned_on_validation_rows_and_saved(place: Path) -> None:
    run = afina.Run(place / "runs" / "multi_label")
    thresholds = run.bundle.task.thresholds  # type: ignore[attr-defined]
    assert len(thresholds) == 4 and len(set(thresholds)) == 1 and thresholds[0] != 0.5
    gold = [["a"], ["b"], []]
    task = MultiLabel().learn([{"text": "x", "label": each} for each in gold])
    rows = [{"text": "x", "label": each} for each in gold]
    answers = [[0.3, 0.1], [0.1, 0.25], [0.15, 0.1]]
    tuned = task.tune(answers, rows)
    assert tuned.thresholds == pytest.approx((0.2, 0.2))  # type: ignore[attr-defined]
    assert tuned.score(answers, rows).values["micro_f1"].value == 1.0
    assert task.replace(threshold="half").tune(answers, rows).thresholds == (0.5, 0.5)
    assert tuned.predict(answers[0], rows[0])["prediction"] == ["a"]
    assert tuned.predict(answers[2], rows[2]) | {"probabilities": None} == {
        "prediction": [],
        "probability": 0.85,
        "probabilities": None,
    }


def test_labels_come_as_lists_texts_or_columns() -> None:
    def labels(task: MultiLabel, row: Row) -> Any:
        cleaned = task.clean(row)
        return None if cleaned is None else cleaned["label"]

    one = MultiLabel(text="text", label="labels")
    for cell, expected in {
        "b;a": ["a", "b"],
        " b ; a;": ["a", "b"],
        '["a;b", "c"]': ["a;b", "c"],
        "['b', 'a']": ["a", "b"],  # as pandas writes a list
        "['b' 'a']": ["a", "b"],  # and an array
        """['b" "c' "a"]""": ["a", 'b" "c'],
        "[{[1]: 2}]": ["[{[1]: 2}]"],
        "[otro": ["[otro"],
        "uno": ["uno"],
        "": None,
    }.items():
        assert labels(one, {"text": "x", "labels": cell}) == expected
    assert labels(one, {"text": "x", "labels": [3, 1.0]}) == ["1", "3"]
    assert labels(one, {"text": "x", "labels": []}) == []
    flags = MultiLabel(text="text", label="a,b,c")
    assert labels(flags, {"text": "x", "a": "1", "b": 0, "c": True}) == ["a", "c"]
    assert labels(flags, {"text": "x", "a": "0", "b": 0, "c": False}) == []
    assert labels(flags, {"text": "x", "a": "1", "b": "", "c": 1}) is None
    for yes, no in (("1.0", "0.0"), (1.0, 0.0), ("True", "False"), ("VERDADERO", "FALSO"), ("Yes", "No"), ("Sí", "no"), ("si", "NO")):  # fmt: skip
        assert labels(flags, {"text": "x", "a": yes, "b": no, "c": no}) == ["a"]


def test_a_drawn_split_keeps_every_label_in_training() -> None:
    from afina.data.split import split

    rows = [{"text": f"t{i}", "label": ["a"] if i % 2 else ["a", "b"]} for i in range(40)]
    rows += [{"text": f"r{i}", "label": ["a", "raro"]} for i in range(3)] + [
        {"text": "x", "label": ["b", "uno"]}
    ]
    task = MultiLabel()
    for seed in range(20):
        found = split(rows, None, None, key=task.key, group=task.group, strata=task.strata, seed=seed)
        task.check(found)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("3", 3.0), (" 2.5 ", 2.5), ("2,5", 2.5), ("0,125", 0.125), ("-1e3", -1000.0), ("", None), (None, None)],
)
def test_numbers_are_read(cell: Any, expected: float | None) -> None:
    found = Regression(text="text", label="y").clean({"text": "x", "y": cell})
    assert (found and found["label"]) == expected


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *[
            ("3,5", 3.5),
            ("-0,250", -0.25),
            ("1.250,5", 1250.5),
            ("1,250.5", 1250.5),
            ("1.250.000", 1250000.0),
        ],
        *[("1,250,000.25", 1250000.25), ("1.250", 1.25), (" 7 ", 7.0), ("1e-3", 0.001), ("12345,5", 12345.5)],
        *[("NaN", None), ("<NA>", None), ("", None), (None, None), (float("nan"), None)],
    ],
)
def test_a_number_is_read_however_it_is_written(cell: Any, value: float | None) -> None:
    assert number(cell) == value


@pytest.mark.parametrize("cell", ["1_000", "1.25.5", "1,25,5", "12,34.5", "inf", "many", True, "1,250"])
def test_what_is_no_one_number_is_said(cell: Any) -> None:
    with pytest.raises(InputError, match=r"no number|may be"):
        number(cell)


def test_numbers_that_may_be_two_are_no_labels() -> None:
    rows = [{"text1": f"a b {i}", "text2": f"c d {i}", "valor": f"{i + 1},{i:03d}"} for i in range(40)]
    task = SentencePair(label="valor").choose_columns(Table(rows, ("text1", "text2", "valor"), "t.csv"))
    assert task.target == "score"
    with pytest.raises(InputError, match=r"1\.000 or 1000"):
        task.clean(rows[0])


@pytest.mark.parametrize(
    ("columns", "texts"),
    [
        # The dev files of XNLI and MNLI: the annotators' labels are numbered like the texts.
        ("gold_label sentence1 sentence2 promptID label1 label2 label3", ("sentence1", "sentence2")),
        ("id text1 text2 score1 score2 label", ("text1", "text2")),
        ("titular1 titular2 year1 year2 etiqueta", ("titular1", "titular2")),
        ("label1 label2 pregunta_a pregunta_b etiqueta", ("pregunta_a", "pregunta_b")),
        ("question answer label", ("question", "answer")),
    ],
)
def test_the_two_texts_of_a_pair_are_texts(columns: str, texts: tuple[str, str]) -> None:
    names = tuple(columns.split())
    rows = [{name: f"some words {i}" if name in texts else str(i % 2) for name in names} for i in range(8)]
    assert guess_pair(Table(rows, names, "t.tsv"), None, None) == texts


def test_bounds_hold_every_answer() -> None:
    import torch

    task = Regression(bounds="1,5").learn([{"label": 1.0}, {"label": 4.0}])
    assert task.form.answer(torch.tensor([[-50.0], [0.0], [50.0]])) == [1.0, 3.0, 5.0]
    free = Regression().learn([{"label": 1.0}, {"label": 5.0}])
    assert (free.centre, free.scale) == (3.0, 2.0)
    assert free.form.answer(torch.tensor([[1.0]])) == [5.0]


@pytest.mark.parametrize("bounds", [None, "0,4"])
def test_the_loss_of_numbers_is_least_where_the_answer_is_right(bounds: str | None) -> None:
    import torch

    gold = Regression(bounds=bounds).learn([{"label": 1.0}, {"label": 3.0}]).form
    encoded = torch.tensor([gold.encode(1.0), gold.encode(3.0), gold.encode(None)])
    right = encoded if bounds is None else encoded.logit()
    assert float(gold.loss(right[:, None], encoded)) == pytest.approx(0, abs=1e-6)
    assert float(gold.loss(right[:, None] + 0.5, encoded)) > 0.04
    assert gold.count(encoded.tolist()) == 2


def test_a_pair_has_segments_and_loses_of_its_longer_text(place: Path) -> None:
    bundle = afina.Run(place / "runs" / "sentence_pair").bundle
    row = {"text": "hola " * 40, "text_pair": "adiós"}
    ((whole,), (cut,)) = (
        bundle.task.encode([row], bundle.tokenizer, length)[0]["windows"] for length in (512, 12)
    )
    tail = whole["token_type_ids"].count(1)
    assert len(cut["input_ids"]) == len(cut["token_type_ids"]) == 12
    assert cut["token_type_ids"].count(1) == tail and cut["input_ids"][-tail:] == whole["input_ids"][-tail:]
    a, b = bundle.predict([("uno", "otro texto"), ("otro texto", "uno")])
    assert a["probability"] != b["probability"], "the order of the two texts counts"


def test_a_pair_gets_a_label_or_a_score_by_its_column() -> None:
    def target(values: list[Any], **settings: Any) -> Any:
        rows = [{"premise": f"a b {i}", "hypothesis": f"c d {i}", "label": v} for i, v in enumerate(values)]
        table = Table(rows, ("premise", "hypothesis", "label"), "t.csv")
        task = SentencePair.of(settings).choose_columns(table)
        assert (task.text, task.text_pair, task.label) == ("premise", "hypothesis", "label")
        return task.target

    assert target(["0", "1"] * 20) == target(["sí", "no"] * 20) == "label"
    assert target([i / 4 for i in range(20)]) == "score"
    assert target([str(i / 4) for i in range(20)], target="label") == "label"
    with pytest.raises(InputError, match="--positive"):
        target([i / 4 for i in range(20)], positive="1")
    with pytest.raises(InputError, match="--bounds"):
        target(["0", "1"] * 20, bounds="0,1")


def test_a_dash_for_a_gold_label_is_none() -> None:
    row = {"sentence1": "a b", "sentence2": "c d"}
    task = SentencePair(text="sentence1", text_pair="sentence2", label="gold_label")
    assert task.clean(row | {"gold_label": "-"}) is None
    assert task.clean(row | {"gold_label": "neutral"}) is not None
    raw = [row | {"gold_label": label} for label in ("-", "neutral", " - ", "")]
    notes: list[str] = []
    assert len(clean(task, raw, Table(raw, tuple(raw[0]), "snli.jsonl"), notes)) == 1
    assert notes == [
        "Rows without text, second text or label, left out: 1.",
        "Pairs on whose label nobody agreed (-), left out: 2.",
    ]
    signs = task.replace(label="label").clean(row | {"label": "-"})
    assert signs is not None and signs["label"] == "-"


def test_predict_for_pairs(place: Path, afina_: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(row["text"], row["text_pair"]) for row in rows_of("sentence_pair")[:4]]
    bundle = afina.Run(place / "runs" / "sentence_pair").bundle
    expected = [answer["prediction"] for answer in bundle.predict(pairs)]
    rows = [{"text": a, "text_pair": b} for a, b in pairs]
    assert [answer["prediction"] for answer in bundle.predict(rows)] == expected
    toy.table(place / "pairs.csv", pairs, ("uno", "dos"))
    toy.table(place / "named.csv", pairs, ("text", "text_pair"))
    for words in (["pairs.csv"], ["named.csv"], ["pairs.csv", "--text", "uno", "--text-pair", "dos"]):
        said = afina_("predict", "runs/sentence_pair", *words, "--json")
        assert [answer["prediction"] for answer in said.json] == expected, words
    tabbed = ["\t".join(pair) for pair in pairs]
    said = afina_("predict", "runs/sentence_pair", *tabbed, "--json")
    assert [answer["prediction"] for answer in said.json] == expected
    said = afina_("predict", "runs/sentence_pair", "one text")
    assert (said.code, said.err.count("\n")) == (2, 1) and "2 texts" in said.err and "tab" in said.err
    with pytest.raises(InputError, match="text_pair"):
        bundle.predict([{"text": "one"}])


def test_predict_for_several_labels_and_numbers(afina_: Command, place: Path) -> None:
    assert len(afina_("predict", "runs/multi_label", "la sopa", "hoy").out.splitlines()) == 2
    said = afina_("predict", "runs/multi_label", "multi_label.jsonl", "--output", "out.csv", "--json")
    with (place / "out.csv").open(encoding="utf-8", newline="") as stream:
        told = [row["prediction"] for row in csv.DictReader(stream)]
    assert told == [";".join(answer["prediction"]) for answer in said.json]
    (answer,) = afina_("predict", "runs/regression", "la sopa", "--json").json
    assert answer["prediction"] == answer["score"] and isinstance(answer["score"], float)
    assert float(afina_("predict", "runs/regression", "la sopa").out) == pytest.approx(
        answer["score"], abs=1e-3
    )


def changed(rows: list[Row], number: int, **values: Any) -> list[Row]:
    """Return the rows with the values of one, counted from 1, replaced."""
    return [row | values if n == number else row for n, row in enumerate(rows, 1)]


BAD: dict[str, tuple[str, Callable[[list[Row]], list[Row]], list[str], list[str]]] = {
    "labels of mixed types": (
        "multi_label", lambda rows: changed(rows, 7, labels=["a", 1]), [], ["row 7", '["a", 1]', "mixes"],
    ),
    "labels in labels": (
        "multi_label", lambda rows: changed(rows, 3, labels=[["a"]]), [], ["row 3", "no label"],
    ),
    "all labels alike": (
        "multi_label", lambda rows: [row | {"labels": ["a"]} for row in rows], [], ["same labels (a)"],
    ),
    "a column of one label": (
        "multi_label", lambda rows: [row | {"a": 1, "b": n % 3} for n, row in enumerate(rows)],
        ["--label", "a,b"], ["row 3", "'b' holds 2", "0 or 1"],
    ),
    "a missing column of labels": (
        "multi_label", lambda rows: [row | {"a": 1} for row in rows], ["--label", "a,bb"], ["no column 'bb'"],
    ),
    "no column of labels": (
        "multi_label", lambda rows: [{"text": row["text"], "n": 1} for row in rows], [], ["the labels", "--label"],
    ),
    "no number": ("regression", lambda rows: changed(rows, 5, label="many"), [], ["row 5", "'many' is no number"]),
    "infinite": ("regression", lambda rows: changed(rows, 5, label="inf"), [], ["row 5", "no number"]),
    "true": ("regression", lambda rows: changed(rows, 5, label=True), [], ["row 5", "no number"]),
    "a comma that may be two things": (
        "regression", lambda rows: changed(rows, 2, label="1,250"), [], ["row 2", "1.250 or 1250"],
    ),
    "a point that may be two things": (
        "regression", lambda rows: [row | {"label": label} for row, label in zip(rows, ["3,5", "1.250"] * 20, strict=False)],
        [], ["row 2", "1.250 or 1250", "without the point"],
    ),
    "constant": ("regression", lambda rows: [row | {"label": 2} for row in rows], [], ["'label' is 2 in every"]),
    "out of bounds": ("regression", lambda rows: rows, ["--bounds", "0,4"], ["4.5 lies outside", "0,4"]),
    "no bounds": ("regression", lambda rows: rows, ["--bounds", "4,0"], ["--bounds is '4,0', but must be two rising numbers"]),
    "one text": (
        "sentence_pair", lambda rows: [{"text": row["text"], "label": row["label"]} for row in rows], [],
        ["two columns", "--text-pair"],
    ),
    "a misspelt column": ("sentence_pair", lambda rows: rows, ["--text-pair", "texto"], ["'texto'", "'text'"]),
    "twice the same column": (
        "sentence_pair", lambda rows: rows, ["--text", "text", "--text-pair", "text"], ["both are 'text'"],
    ),
    "a pair's setting": ("regression", lambda rows: rows, ["--text-pair", "x"], ["'text_pair'", "sentence_pair"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name: str, afina_: Command, tmp_path: Path) -> None:
    task, change, flags, parts = BAD[name]
    file = write(tmp_path / "bad.jsonl", change(rows_of(task)))
    run = tmp_path / "run"
    said = afina_("finetune", file, "--task", task, "--model", "tiny", "--output-dir", run, *flags)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), said.err
    for part in parts:
        assert part in said.err
    assert not run.exists()


@pytest.mark.parametrize(("task", "label"), [("multi_label", ["nunca"]), ("sentence_pair", "nunca")])
def test_a_label_that_training_never_saw(task: str, label: Any, afina_: Command, tmp_path: Path) -> None:
    rows = rows_of(task)
    name = "labels" if task == "multi_label" else "label"
    other = write(tmp_path / "other.jsonl", changed(rows[:3], 1, **{name: label}))
    file, run = write(tmp_path / "train.jsonl", rows[3:]), tmp_path / "run"
    said = afina_("finetune", file, "--task", task, "--test", other, "--model", "tiny", "--output-dir", run)
    assert said.code == 2 and "nunca (1)" in said.err and "test part" in said.err
    found = afina_("evaluate", f"runs/{task}", other, "--json")
    assert found.code == 0, found.err
    assert found.json["details"]["test"]["unseen"] == ["nunca"]


def test_evaluate_says_that_a_task_reads_one_text(afina_: Command) -> None:
    said = afina_("evaluate", "runs/regression", "regression.jsonl", "--text-pair", "x")
    assert said.code == 2 and "--text-pair" in said.err


def test_labels_that_run_together_are_said() -> None:
    task = MultiLabel(label="labels")
    rows = [{"label": ["a"]}, {"label": ["b"]}, {"label": ["a, b"]}, {"label": []}]
    assert ["'a, b'" in note and "a;b" in note for note in task.remarks([], rows)] == [True]
    assert task.remarks([], [*rows[:2], {"label": ["a, c"]}, {"label": None}]) == []
    # Where no label stands alone, parts that come again in others tell.
    assert len(task.remarks([], [{"label": ["a,b"]}, {"label": ["b,c"]}, {"label": ["a,c"]}])) == 1
    assert task.remarks([], [{"label": ["Madrid, Spain"]}, {"label": ["Lima, Peru"]}]) == []


def test_labels_of_another_kind_in_some_rows_are_said() -> None:
    task = MultiLabel(label="labels")
    rows = [{"text": "a", "labels": ["x"]}, {"text": "b", "labels": ["y", "x"]}, {"text": "c", "labels": [5]}]
    assert ["row 3" in note for note in task.remarks(rows, [])] == [True]
    assert task.remarks(rows[:2], []) == task.remarks([{"labels": "a;b"}, {"labels": ["c"]}], []) == []
