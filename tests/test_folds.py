"""Folds: every row is scored once, by a model that has seen neither it nor what belongs to it."""

import csv
import json
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import afina
import toy
import toys
from afina.core import Row, Table, Task
from afina.data.split import folds
from afina.errors import InputError, Interrupted
from afina.names import find, known
from afina.tasks.classification import Classification
from afina.verbs._folds import merged, restated, rivals
from afina.verbs._prepare import Folded, Prepared, prepare, prepare_folds
from afina.verbs._trials import Done, trial

Command = Callable[..., toy.Said]
one_thread = pytest.fixture(scope="module")(toy.one_thread)
# Written down once: another machine, version or process must draw the same.
DRAWN = [1, 0, 2, 2, 1, 1, 0, 1, 0, 0, 2, 2]


def rows(count: int, labels: Sequence[str] = ("a", "b"), **more: Any) -> list[Row]:
    return [{"text": f"frase {i}", "label": labels[i % len(labels)], **more} for i in range(count)]


def placed(found: Sequence[Row], k: int, seed: int = 1, bond: Any = None, **more: Any) -> list[int]:
    drawn = folds(
        found, k, key=lambda row: row["text"], group=lambda row: row["label"], seed=seed, bond=bond, **more
    )
    assert set(drawn.places) == set(range(k))
    return drawn.places


def test_folds_are_of_one_size_and_in_proportion() -> None:
    found = rows(101, ["a"] * 6 + ["b"] * 3 + ["c"])
    places = placed(found, 5)
    assert sorted(Counter(places).values()) == [20, 20, 20, 20, 21]
    for label, most in (("a", 13), ("b", 6), ("c", 2)):
        of_label = Counter(fold for row, fold in zip(found, places, strict=True) if row["label"] == label)
        assert len(of_label) == 5 and max(of_label.values()) <= most
        assert max(of_label.values()) - min(of_label.values()) <= 1


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    found = rows(12)
    assert placed(found, 3) == DRAWN
    assert placed(found[::-1], 3) == DRAWN[::-1]
    assert placed(found, 3, seed=2) != DRAWN


def test_what_belongs_together_is_in_one_fold() -> None:
    found = rows(60, ["a", "b", "c"])
    for i, row in enumerate(found):
        row["author"] = f"author {i % 20}" if i < 40 else None
    found += [dict(found[i], label="b") for i in (0, 1, 45)]  # copies, one of them of a row without an author
    found.append(
        dict(found[0], author="author 1")
    )  # the text of one author with another's name joins the two
    places = placed(found, 4, bond=lambda row: row["author"])
    for field in ("text", "author"):
        for value in {row[field] for row in found if row[field] is not None}:
            mine = {fold for row, fold in zip(found, places, strict=True) if row[field] == value}
            assert len(mine) == 1, value
    authors = {row["author"]: fold for row, fold in zip(found, places, strict=True)}
    assert authors["author 0"] == authors["author 1"]
    assert max(Counter(places).values()) - min(Counter(places).values()) <= 3
    # Rows of no author are bonded to nothing.
    assert len({fold for row, fold in zip(found, places, strict=True) if row["author"] is None}) == 4


def test_rows_of_several_labels_have_each_in_every_fold() -> None:
    found = [{"text": f"t{i}", "labels": ["all"] + ["rare"] * (i % 10 == 0)} for i in range(50)]
    drawn = folds(
        found, 5, key=lambda row: row["text"], group=lambda row: ";".join(row["labels"]),
        strata=lambda some: ["all"] * len(some), labels=lambda row: row["labels"], seed=0,
    )  # fmt: skip
    rare = Counter(fold for row, fold in zip(found, drawn.places, strict=True) if "rare" in row["labels"])
    assert rare == dict.fromkeys(range(5), 1) and drawn.notes == []


def test_too_few_rows_or_groups_for_so_many_folds() -> None:
    for k in (1, 13):
        with pytest.raises(InputError, match="between 2 and 12"):
            placed(rows(12), k)
    with pytest.raises(InputError, match="between 2 and 3,"):
        placed(rows(12), 4, bond=lambda row: int(row["text"].split()[1]) % 3)


def divided(file: Path, k: int, **more: Any) -> Folded:
    """Divide the file and check that no fold has seen what it is scored on."""
    folded = prepare_folds(Classification(), str(file), k, seed=3, **more)
    assert folded.in_order([part.splits.test for part in folded.parts]) == folded.rows
    for part in folded.parts:
        seen = [*part.splits.train, *part.splits.validation]
        assert len(seen) + len(part.splits.test) == len(folded.rows)
        for field in ("text", "group"):
            values = [{row.get(field) for row in side} - {None} for side in (seen, part.splits.test)]
            assert values[0].isdisjoint(values[1])
        sides = [{row["text"] for row in side} for side in (part.splits.train, part.splits.validation)]
        assert sides[0].isdisjoint(sides[1])
    return folded


def test_no_model_has_seen_a_row_of_its_fold_its_copies_or_its_group(tmp_path: Path) -> None:
    found = [(text, label, f"autor {i % 9}") for i, (text, label) in enumerate(toy.ROWS)]
    found += [*found[:5], (*found[7][:2], "autor 3"), ("sin autor", "bien", "")]
    file = toy.table(tmp_path / "toy.csv", found, ("text", "label", "autor"))
    assert "copy" not in divided(file, 5).rows[0]
    grouped = divided(file, 4, group_by="autor")
    assert [row["group"] for row in grouped.rows[:2]] == ["autor 0", "autor 1"]
    assert grouped.rows[-1]["group"] is None
    assert "groups" in " ".join(grouped.notes) and "repeat another" in " ".join(grouped.notes)


def test_one_fold_alone_is_that_of_all(tmp_path: Path) -> None:
    file = toy.table(tmp_path / "toy.csv")
    folded = divided(file, 4)
    alone = prepare(Classification(), str(file), None, None, seed=3, folds=4, fold=2)
    assert alone.splits == folded.parts[2].splits and alone.task == folded.parts[2].task


def test_rows_of_one_value_stay_on_one_side_of_every_split(tmp_path: Path) -> None:
    found = [(text, label, f"autor {i % 13}") for i, (text, label) in enumerate(toy.ROWS)]
    file = toy.table(tmp_path / "toy.csv", found, ("text", "label", "autor"))
    parts = prepare(Classification(), str(file), None, None, seed=0, group_by="autor").splits
    sides = [{row["group"] for row in part} for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, sides)) == 13 and all(sides)
    # Of a given part the others leave what shares a group with it.
    other = [("texto nuevo", "bien", "autor 4"), ("otro texto", "mal", "autor 5")]
    test = toy.table(tmp_path / "test.csv", other, ("text", "label", "autor"))
    given = prepare(Classification(), str(file), None, str(test), seed=0, group_by="autor")
    assert {row["group"] for row in [*given.splits.train, *given.splits.validation]}.isdisjoint(
        {"autor 4", "autor 5"}
    )
    assert "share its group, left out: 6." in " ".join(given.notes)
    with pytest.raises(InputError, match=r"no column 'author' to group by\. Its columns: text, label, autor"):
        prepare(Classification(), str(file), None, None, seed=0, group_by="author")
    plain = toy.table(tmp_path / "plain.csv")
    with pytest.raises(InputError, match=r"plain.csv has no column 'autor'"):
        prepare(Classification(), str(file), None, str(plain), seed=0, group_by="autor")


def test_a_label_that_no_other_fold_has_cannot_be_scored(tmp_path: Path) -> None:
    file = toy.table(tmp_path / "one.csv", [*toy.ROWS, ("algo raro", "raro")])
    with pytest.raises(InputError, match=r"With the rows of fold \d as the test part: .*raro \(1\)"):
        prepare_folds(Classification(), str(file), 3, seed=0)
    file = toy.table(tmp_path / "two.csv", [*toy.ROWS, ("algo raro", "raro"), ("otro raro", "raro")])
    assert "not in every fold" in " ".join(prepare_folds(Classification(), str(file), 3, seed=0).notes)


def of_task(name: str) -> tuple[Any, list[Row]]:
    kind = find("tasks", name)
    table = Table(kind.toy(), tuple(kind.toy()[0]), "toy")
    task = kind().choose_columns(table)
    found = [row for row in map(task.clean, table.rows) if row is not None]
    return task, found


@pytest.mark.parametrize("name", [name for name in known("tasks") if name in ("multi_label", "token_labels")])
def test_what_copies_of_a_task_learnt_apart_is_scored_as_they_say_it(name: str) -> None:
    asked, found = of_task(name)
    common, own = asked.learn(found), asked.learn(found[::2])
    own = own.replace(labels=(*own.labels[:1], *own.labels[:0:-1]))  # another order of the same labels
    assert set(own.labels) == set(common.labels) and own.labels != common.labels
    if name == "multi_label":
        own = own.replace(thresholds=(0.83,) * len(own.labels))
    answers = [*own.baselines(found[::2], found, None, 64).values()][-1]
    if name == "multi_label":  # as probabilities that the usual threshold would read otherwise
        answers = [[0.84 if p else 0.82 for p in answer] for answer in answers]
    again = own.restate(answers, common)
    assert again != answers
    theirs, ours = own.score(answers, found).values, common.score(again, found).values
    assert {name: score.value for name, score in theirs.items()} == pytest.approx(
        {name: score.value for name, score in ours.items()}
    )
    assert own.watch(answers, found) == pytest.approx(common.watch(again, found))


def test_thresholds_of_each_fold_are_applied_before_the_answers_are_pooled() -> None:
    asked, found = of_task("multi_label")
    found = found[:12]
    places = [0, 1] * 6
    by_fold = [[row for row, at in zip(found, places, strict=True) if at == fold] for fold in (0, 1)]
    common = asked.learn(found)
    folded = Folded(common, found, places, [], [])
    tasks: list[Task] = [common.replace(thresholds=(t,) * len(common.labels)) for t in (0.9, 0.1)]
    right = {0: (0.95, 0.85), 1: (0.15, 0.05)}  # neither half of the rows is right by the other's threshold
    answers = [
        [[right[fold][label not in row["label"]] for label in common.labels] for row in by_fold[fold]]
        for fold in (0, 1)
    ]
    pooled = restated(folded, tasks, answers)
    assert common.score(pooled, found).values["subset_accuracy"].value == 1.0
    assert common.watch(pooled, found) == ("micro_f1", 1.0)


def test_a_baseline_learns_from_the_rows_that_the_fold_learns_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = divided(toy.table(tmp_path / "toy.csv"), 4)
    seen = []

    def spy(_self: Any, train: Sequence[Row], asked: Sequence[Row], *_model: Any) -> dict[str, list[Any]]:
        seen.append(({row["text"] for row in train}, {row["text"] for row in asked}))
        return {"majority": [[1.0, 0.0]] * len(asked)} | (
            {"odd": [[0.0, 1.0]] * len(asked)} if seen[1:] else {}
        )

    monkeypatch.setattr(Classification, "baselines", spy)
    found = [part.task.baselines(part.splits.train, part.splits.test, None, 64) for part in folded.parts]
    # One that not every fold has cannot be scored on all rows.
    assert list(rivals(folded, found)) == ["majority"]
    assert len(seen) == 4 and all(train.isdisjoint(asked) for train, asked in seen)
    assert set().union(*(asked for _train, asked in seen)) == {row["text"] for row in folded.rows}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A folder with `toy.csv`, the model `tiny` and three folds of both, `runs/toy`."""
    place = tmp_path_factory.mktemp("folds")
    found = [*toy.ROWS, *toy.ROWS[:3]]
    toy.table(place / "toy.csv", found)
    toy.model(place / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert afina.finetune("toy.csv", model="tiny", max_steps=3, folds=3, quiet=True)
    return place


@pytest.fixture
def afina_(
    done: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The command, in a copy of that folder."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return toy.command(capfd)


def told(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_all_rows_are_scored_once_and_each_by_its_own_fold(done: Path) -> None:
    run = done / "runs" / "toy"
    result = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    assert result["scores"]["validation"] is None and result["scores"]["test"] is None
    assert result["scores"]["folds"]["macro_f1"]["n"] == 43
    lines = told(run)
    assert [line["text"] for line in lines] == [text for text, _label in [*toy.ROWS, *toy.ROWS[:3]]]
    for fold in range(3):
        own = [{**line, "fold": str(fold)} for line in told(run / "folds" / str(fold))]
        assert own == [line for line in lines if line["fold"] == str(fold)]
    right = sum(line["label"] == line["prediction"] for line in lines)
    assert result["scores"]["folds"]["accuracy"]["value"] == pytest.approx(right / 43)
    assert {name for name, each in result["baselines"].items() if each["folds"]["accuracy"]["n"] == 43} == {
        *("majority", "tfidf")
    }
    assert [each["rows"] for each in result["details"]["by_fold"]] == [
        Counter(line["fold"] for line in lines)[str(fold)] for fold in range(3)
    ]
    assert len(result["details"]["differences"]["folds"]) == 2


def test_the_models_learnt_from_what_the_folds_say(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(done)
    folded = prepare_folds(Classification(), "toy.csv", 3, seed=0)
    for fold, part in enumerate(folded.parts):
        held = tomllib.loads(Path(f"runs/toy/folds/{fold}/run.toml").read_text(encoding="utf-8"))
        assert held["recorded"]["data"] == part.splits.fingerprint
        assert (held["folds"], held["fold"]) == (3, fold)


def test_there_is_no_model_of_all_folds_and_it_is_said(afina_: Command) -> None:
    assert not Path("runs/toy/best").exists()
    said = afina_("predict", "runs/toy", "muy bueno")
    assert said.code == 2 and "runs/toy/run.toml --folds 0" in said.err
    assert afina_("predict", "runs/toy/folds/1", "muy bueno").code == 0
    page = Path("runs/toy/report.html").read_text(encoding="utf-8")
    for part in ("each by a model that has not seen it", "Fold by fold", "--folds 0"):
        assert part in page
    said = afina_("finetune", "runs/toy/run.toml", "--folds", "0", "--json")
    assert said.code == 0 and said.json["run"] == "runs/toy-2" and Path("runs/toy-2/best").is_dir()
    assert "rows have changed" not in said.err and set(said.json["scores"]) == {"validation", "test"}


def test_a_fold_alone_is_the_fold_of_the_whole(afina_: Command) -> None:
    words = ("--model", "tiny", "--max-steps", "3", "--folds", "3", "--fold", "1", "--output-dir", "alone")
    said = afina_("finetune", "toy.csv", *words, "--json", "--quiet")
    assert said.code == 0 and said.json["scores"]["test"]
    whole, alone = afina.Run("runs/toy/folds/1"), afina.Run("alone")
    assert alone.settings == whole.settings
    assert alone.recorded | {"folder": whole.recorded["folder"]} == whole.recorded  # it lies elsewhere
    assert toy.weights(Path("alone")) == toy.weights(Path("runs/toy/folds/1"))
    assert toy.steps(Path("alone")) == toy.steps(Path("runs/toy/folds/1"))


def test_an_interrupted_run_goes_on_with_the_folds_that_are_missing(
    afina_: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afina.verbs import finetune as verb

    before = json.loads(Path("runs/toy/scores.json").read_text(encoding="utf-8"))
    words = (
        "finetune",
        "toy.csv",
        "--model",
        "tiny",
        "--max-steps",
        "3",
        "--folds",
        "3",
        "--quiet",
        "--json",
    )
    train, begun = verb._train, []

    def once(*arguments: Any) -> Any:
        if begun:
            raise Interrupted("stopped")
        begun.append(arguments)
        return train(*arguments)

    monkeypatch.setattr(verb, "_train", once)
    assert afina_(*words, "--overwrite").code == 130
    monkeypatch.setattr(verb, "_train", train)
    assert not Path("runs/toy/scores.json").exists() and not Path("runs/toy/folds/1").exists()
    first = Path("runs/toy/folds/0/scores.json").stat().st_mtime_ns
    said = afina_(*words, "--resume")
    assert said.code == 0, said.err
    assert Path("runs/toy/folds/0/scores.json").stat().st_mtime_ns == first
    assert said.json["scores"] == before["scores"] and said.json["baselines"] == before["baselines"]
    other = afina_(*words, "--folds", "4", "--resume")
    assert other.code == 2 and "--folds 3" in other.err


def test_a_dry_run_writes_nothing(afina_: Command) -> None:
    before = toy.content(Path())
    said = afina_(
        "finetune", "toy.csv", "--model", "tiny", "--folds", "4", "--output-dir", "new", "--dry-run"
    )
    assert said.code == 0 and "4 folds of 10 to 11 rows" in said.err and "would go to new" in said.err
    assert toy.content(Path()) == before


@pytest.mark.parametrize("verb", ["finetune", "compare"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--folds", "3", "--test", "toy.csv"), "takes no --test"),
        (("--folds", "3", "--validation", "toy.csv"), "takes no --test and no --validation"),
        (("--folds", "1"), "--folds 5"),
        (("--folds", "50"), "between 2 and 40"),
        (("--folds", "-1"), "at least 0"),
        (("--group-by", "autor"), "no column 'autor'"),
        (("--fold", "3", "--folds", "3"), "none of the 3"),
        (("--fold", "0"), "none of the 0"),
    ],
)
def test_what_contradicts_folds_is_one_sentence(
    afina_: Command, verb: str, flags: tuple[str, ...], words: str
) -> None:
    if verb == "compare" and "--fold" in flags:
        pytest.skip("compare has no --fold")
    model = "--model" if verb == "finetune" else "--models"
    before = toy.content(Path())
    said = afina_(verb, "toy.csv", model, "tiny", "--output-dir", "new", *flags)
    assert said.code == 2 and words in said.err and "Traceback" not in said.err
    assert toy.content(Path()) == before


def test_folds_are_suggested_where_test_rows_are_few(afina_: Command) -> None:
    words = ("finetune", "toy.csv", "--model", "tiny", "--max-steps", "1", "--output-dir", "few")
    assert "only 6 rows. --folds 5" in afina_(*words).err
    assert "--folds 5" not in afina_(*words, "--overwrite", "--folds", "3", "--fold", "0").err


def finished(seed: int, fold: int, answers: list[Any], task: Task, **measured: Any) -> Done:
    found = {
        "answers": answers,
        "task_settings": task.model_dump(mode="json"),
        "saved_mb": 1.0,
        "latency_ms": 2.0,
        "forgetting": None,
    }
    result = {"peak_memory_mb": 10.0 + fold, "seconds": {"train": 3.0}, "trained_weights": 7}
    return Done(trial("full", "m", seed, {}, fold=fold), result, found | measured, None)


def test_the_folds_of_a_seed_are_one_line_and_none_without_all_of_them() -> None:
    task = Classification(labels=("a", "b"))
    folded = Folded(task, rows(4), [1, 0, 0, 1], [Prepared(task, None, [])] * 2, [])  # type: ignore[arg-type]
    whole = [finished(0, 0, ["1", "2"], task), finished(0, 1, ["0", "3"], task)]
    missing = [finished(1, 0, ["1", "2"], task), Done(whole[1].trial._replace(seed=1), None, None, "lost")]
    first, second = merged([*whole, *missing], folded)
    assert first.measured and first.measured["answers"] == ["0", "1", "2", "3"]
    assert first.result and first.result["peak_memory_mb"] == 11.0
    assert second.measured is None and second.error == "lost" and second.trial.seed == 1


def test_what_was_learnt_is_told_over_all_folds() -> None:
    from afina.verbs._ranking import bare_line

    task = Classification(labels=("a", "b"))
    folded = Folded(task, rows(4), [1, 0, 0, 1], [Prepared(task, None, [])] * 2, [])  # type: ignore[arg-type]
    curves = [
        {"train": 0.8, "validation": 0.5, "best_step": 10, "steps": 20},
        {"train": 0.6, "validation": 0.25, "best_step": 20, "steps": 20},
    ]
    done = [
        each._replace(result=(each.result or {}) | {"details": {"fitting": curve}})
        for seed in (0, 1)
        for fold, curve in enumerate(curves)
        for each in [finished(seed, fold, ["1", "2"], task)]
    ]
    line = bare_line(merged(done, folded))
    assert line["learnt"] == {"train": pytest.approx(0.7), "validation": 0.375, "last": 2, "runs": 4}
    assert line["seeds"] == [0, 1]


def test_each_fold_searches_its_own_learning_rate(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from afina.verbs._design import cost
    from afina.verbs._tuning import tune
    from afina.verbs.compare import choose

    monkeypatch.chdir(done)
    chosen = choose({"methods": "full", "models": "tiny", "folds": 2, "tune": "small"})
    preset = 1e-3
    best = {0: 3 * preset, 1: 0.3 * preset}  # what the validation rows of each fold like best

    def carried_out(trials: Sequence[Any]) -> list[Done]:
        assert len({each.name for each in trials}) == len(trials) == 6
        assert all(each.settings["fold"] == int(each.name[-1]) for each in trials)
        return [
            Done(each, {"scores": {"validation": {"macro_f1": {"value": float(right)}}}}, None, None)
            for each in trials
            for right in [each.settings["learning_rate"] == pytest.approx(best[each.settings["fold"]])]
        ]

    found, untried = tune(chosen, 1, carried_out)
    assert {fold: pytest.approx(each["learning_rate"]) for (_m, _n, fold), each in found.items()} == best
    assert (
        untried == {} and "18 runs" in cost(chosen)[0]
    )  # two ways, three seeds, two folds, and three rates in each fold


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    return toys.build(tmp_path_factory.mktemp("models"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in known("tasks") if name != "masked_lm"]
)  # it is pre-training's
def test_every_task_scores_its_folds_as_each_fold_scored_itself(
    models: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afina.train.bundle import Bundle

    monkeypatch.chdir(tmp_path)
    kind = find("tasks", name)
    lines = [json.dumps(row, ensure_ascii=False) for row in kind.toy()]
    Path("toy.jsonl").write_text("\n".join(lines), encoding="utf-8")
    run = afina.finetune(
        "toy.jsonl", task=name, model=models / toys.FOLDERS.get(kind.head, ""), max_steps=2, max_length=32,
        folds=2, quiet=True,
    )  # fmt: skip
    folded = prepare_folds(kind(), "toy.jsonl", 2, seed=0)
    assert run.scores["folds"] and all(score["n"] for score in run.scores["folds"].values())
    for fold, part in enumerate(folded.parts):
        bundle = Bundle.load(run.path / "folds" / str(fold) / "best")
        again = bundle.task.restate(bundle.answers(part.splits.test), folded.task)
        found = folded.task.score(again, part.splits.test).values
        own = afina.Run(run.path / "folds" / str(fold)).scores["test"]
        assert {name: score.value for name, score in found.items()} == pytest.approx(
            {name: score["value"] for name, score in own.items()}
        )


@pytest.mark.slow
def test_a_comparison_has_the_same_folds_for_every_method(afina_: Command) -> None:
    words = (
        "compare",
        "toy.csv",
        "--models",
        "tiny",
        "--methods",
        "full",
        "--seeds",
        "1",
        "--max-steps",
        "2",
    )
    said = afina_(*words, "--folds", "2", "--json")
    assert said.code == 0, said.err
    assert "4 runs will be made: 2 for each" in said.err
    found = said.json
    assert found["part"] == "folds" and len(found["tests"]) == 6
    assert {line["method"]: line["scores"]["macro_f1"]["n"] for line in found["rows"]} == dict.fromkeys(
        ("full", "random_weights", "majority", "tfidf"), 43
    )
    folder = Path("runs/toy-compare/runs")
    asked = [{line["text"] for line in told(folder / f"full-0-fold-{fold}")} for fold in (0, 1)]
    assert asked[0].isdisjoint(asked[1]) and len(asked[0] | asked[1]) == 40
    for fold in (0, 1):
        assert {line["text"] for line in told(folder / f"random_weights-0-fold-{fold}")} == asked[fold]
    assert "same 2 folds" in (folder.parent / "report.html").read_text(encoding="utf-8")
    shutil.rmtree(folder / "full-0-fold-1")
    before = (folder / "full-0-fold-0" / "scores.json").stat().st_mtime_ns
    again = afina_(*words, "--folds", "2", "--json", "--resume")
    assert again.code == 0 and again.json["rows"][0]["scores"] == found["rows"][0]["scores"]
    assert (folder / "full-0-fold-0" / "scores.json").stat().st_mtime_ns == before
