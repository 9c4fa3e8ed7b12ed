"""`compare`: the table, the tests between its rows, what is asked of it and what is refused."""

import html
import json
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import toy
import toys
from afina.core import About, Rival
from afina.errors import InputError
from afina.methods.full import Full
from afina.names import find
from afina.report import compare as report
from afina.report.lines import best_first
from afina.train.run import read_settings
from afina.verbs import _trials
from afina.verbs._ranking import recommend, table
from afina.verbs._runners import Runner
from afina.verbs._settings import FRESH_RATE, preset_rate
from afina.verbs.compare import seconds

Command = Callable[..., toy.Said]
LINE = {
    *("method", "model", "seeds", "scores", "trained_weights", "saved_mb", "peak_memory_mb", "train_seconds"),
    *("latency_ms", "ece", "tokens", "learnt", "change", "forgetting", "notes", "error"),
}
FLAGS = ("--methods", "full", "--models", "tiny", "--seeds", "2", "--max-steps", "3", "--quiet", "--json")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `toy.csv`, the model `tiny` and a comparison of both, `runs/toy-compare`."""
    place = tmp_path_factory.mktemp("compared")
    toy.table(place / "toy.csv")
    toy.model(place / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        from afina.verbs.compare import compare

        compare("toy.csv", methods="full", models="tiny", seeds=2, max_steps=3, quiet=True)
    return place


@pytest.fixture
def afina_(
    done: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The command, in a copy of that folder."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return toy.command(capfd)


def test_the_table_has_every_method_and_baseline_with_every_key(done: Path) -> None:
    found = json.loads((done / "runs/toy-compare/scores.json").read_text(encoding="utf-8"))
    assert [line["method"] for line in found["rows"]] == ["full", "random_weights", "majority", "tfidf"]
    for line in found["rows"]:
        assert set(line) >= LINE and line["error"] is None
        assert set(next(iter(line["scores"].values()))) >= {"value", "low", "high", "n"}
        assert next(iter(line["scores"])) == "macro_f1"
    full = found["rows"][0]
    assert full["seeds"] == [0, 1] and full["model"] == "tiny"
    assert all(full[cost] > 0 for cost in ("trained_weights", "saved_mb", "train_seconds", "latency_ms"))
    assert [line["change"] for line in found["rows"]] == ["all weights", "all weights", "none", "none"]
    assert all(0 <= line["ece"] <= 1 for line in found["rows"])
    assert [*full["forgetting"]] == ["es", "en"]
    assert all(set(loss) == {"before", "after", "off"} for loss in full["forgetting"].values())
    assert [line["forgetting"] for line in found["rows"][1:]] == [None] * 3
    for line in found["rows"][:2]:
        assert set(line["learnt"]) == {"train", "validation", "last", "runs"}
        assert 0 <= line["learnt"]["last"] <= line["learnt"]["runs"] == 2
    assert [line["learnt"] for line in found["rows"][2:]] == [None, None]
    assert len(found["tests"]) == 6
    assert set(found["tests"][0]) == {"a", "b", "metric", "difference", "low", "high", "p", "decision"}
    assert found["recommendation"]["method"] in {line["method"] for line in found["rows"]}
    page = (done / "runs/toy-compare/report.html").read_text(encoding="utf-8")
    assert "<html" in page and "Had each method learnt enough?" in page


def test_the_baselines_of_a_run_are_those_of_the_run_alone(afina_: Command) -> None:
    """The comparison computes them once for all of its runs."""
    words = ("--model", "tiny", "--max-steps", "3", "--json", "--output-dir", "alone")
    alone = afina_("finetune", "toy.csv", *words)
    assert alone.code == 0, alone.err
    assert sum(found is not None for found in alone.json["baselines"].values()) == 2
    for kept in ("baselines", "scores"):
        shared = json.loads(Path("runs/toy-compare/runs/full-0/scores.json").read_text(encoding="utf-8"))
        assert shared[kept] == alone.json[kept]


def test_random_weights_learn_at_a_rate_of_their_own(done: Path) -> None:
    rates = [
        read_settings(done / "runs/toy-compare/runs" / run / "run.toml")["learning_rate"]
        for run in ("full-0", "random_weights-0")
    ]
    assert rates == [1e-3, FRESH_RATE] and FRESH_RATE < 1e-3
    task = find("tasks", "sentence_pair")()
    assert preset_rate(task, Full(), 256, random_weights=True) == FRESH_RATE  # not slowed down once more
    assert preset_rate(task, Full(), 768, random_weights=True) == preset_rate(task, Full(), 768)


def test_the_report_says_why_a_method_is_worse_than_the_best() -> None:
    def line(name: str, train: float, last: int) -> dict[str, Any]:
        learnt = {"train": train, "validation": 0.5, "last": last, "runs": 3}
        return {"method": name, "model": "m", "name": name, "learnt": learnt}

    lines = [
        line("full", 0.8, 1),
        line("lora", 0.6, 3),
        line("prompt", 0.6, 0),
        line("prefix", 0.9, 3),
        line("head", 0.1, 3),
    ]
    lines.insert(1, {"method": "tfidf", "model": None, "name": "tfidf", "learnt": None})

    def test(a: str, b: str, decision: str) -> dict[str, str]:
        return {"a": a, "b": b, "decision": decision}

    tests = [
        test("full", "lora", "better"),
        test("prompt", "full", "worse"),
        test("full", "prefix", "better"),
        test("full", "head", "no difference shown"),
        test("lora", "head", "better"),
    ]
    behind, learning, by_heart = report._reasons(lines, tests, 1, several=False)
    assert "Worse than full" in behind and "(0.800 there)" in behind
    assert behind.endswith("lora (0.600), prompt (0.600).")
    assert "more epochs" in learning and learning.endswith(": lora (0.600).")
    assert "As good as full" in by_heart and by_heart.endswith(": prefix (0.900).")
    # Of a loss less is better, so the same figures say the opposite.
    behind, learning, by_heart = report._reasons(lines, tests, -1, several=False)
    assert behind.endswith(": prefix (0.900).") and by_heart.endswith("lora (0.600), prompt (0.600).")


@pytest.mark.slow
def test_a_decoder_is_also_asked_with_examples_in_its_prompt(
    afina_: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = toys.build(tmp_path_factory.mktemp("models")) / "decoder"
    shape = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(shape | {"max_position_embeddings": 512}))
    told = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    (model / "tokenizer_config.json").write_text(json.dumps(told | {"model_max_length": 512}))
    Path("neutral.txt").write_text("Hoy no llueve en la costa.\nEl tren sale a las ocho.\n", encoding="utf-8")
    said = afina_(
        *("compare", "toy.csv", "--methods", "head", "--models", model, "--seeds", "1", "--max-steps", "2"),
        *("--neutral", "neutral.txt", "--output-dir", "decoder", "--json"),
    )
    assert said.code == 0, said.err
    rows = {line["method"]: line for line in said.json["rows"]}
    assert list(rows) == ["head", "random_weights", "few_shot", "majority", "tfidf"]
    asked = rows["few_shot"]
    assert asked["error"] is None and asked["model"] == str(model) and asked["seeds"] == [0]
    assert asked["trained_weights"] == 0 and asked["saved_mb"] is None and asked["train_seconds"] is None
    assert asked["latency_ms"] > 0 and asked["peak_memory_mb"] > 0
    assert asked["scores"].keys() == rows["tfidf"]["scores"].keys() and asked["change"] == "none"
    (note,) = asked["notes"]  # eight examples fit, and the model is small
    assert "billion" in note and note in Path("decoder/report.html").read_text(encoding="utf-8")
    assert any("few_shot" in (test["a"], test["b"]) for test in said.json["tests"])
    loss = rows["head"]["forgetting"]["neutral"]
    assert loss["before"] == loss["after"] == loss["off"] > 0
    again = afina_("evaluate", model, "toy.csv", "--few-shot", "8", "--train", "toy.csv", "--json")
    assert again.code == 0, again.err


def test_a_model_that_cannot_be_loaded_stops_no_other(done: Path, tmp_path: Path) -> None:
    from afina.verbs.compare import _before

    shutil.copytree(done / "tiny", tmp_path / "broken")
    shape = json.loads((tmp_path / "broken/config.json").read_text(encoding="utf-8"))
    (tmp_path / "broken/config.json").write_text(json.dumps(shape | {"hidden_size": 32}))
    texts = {"es": [{"text": "Hoy llueve."}]}
    assert _before(tmp_path / "broken", texts) is None
    assert _before(done / "tiny", texts) == {"es": pytest.approx(9.7, abs=0.5)}


def test_what_cannot_be_measured_is_not_called_nothing(done: Path, tmp_path: Path) -> None:
    from afina.report import compare

    result = json.loads((done / "runs/toy-compare/scores.json").read_text(encoding="utf-8"))
    for line in result["rows"]:
        line["forgetting"] = None
    (tmp_path / "scores.json").write_text(json.dumps(result), encoding="utf-8")
    page = compare.write(tmp_path).read_text(encoding="utf-8")
    assert page.count("not measurable") == 1


def test_every_run_has_the_same_rows_and_another_seed(done: Path) -> None:
    import tomllib

    runs = sorted((done / "runs/toy-compare/runs").glob("*/run.toml"))
    settings = [tomllib.loads(run.read_text(encoding="utf-8")) for run in runs]
    assert len(runs) == 4
    assert len({each["recorded"]["data"] for each in settings}) == 1
    assert [each["seed"] for each in settings] == [0, 1, 0, 1]
    assert [each["random_weights"] for each in settings] == [False, False, True, True]


def test_a_comparison_goes_on_with_what_is_missing(afina_: Command) -> None:
    folder = Path("runs/toy-compare/runs")
    before = {place: place.stat().st_mtime_ns for place in folder.glob("*/scores.json")}
    lost = folder / "full-1"
    shutil.rmtree(lost)
    said = afina_("compare", "toy.csv", *FLAGS, "--resume")
    assert said.code == 0, said.err
    assert len(said.json["rows"]) == 4
    after = {place: place.stat().st_mtime_ns for place in folder.glob("*/scores.json")}
    assert {place for place in before if before[place] != after[place]} == {lost / "scores.json"}


def test_a_comparison_that_is_there_is_not_written_over(afina_: Command) -> None:
    said = afina_("compare", "toy.csv", *FLAGS)
    assert said.code == 2 and "--resume" in said.err
    other = afina_("compare", "toy.csv", *FLAGS, "--resume", "--max-steps", "5")
    assert other.code == 2 and "--max-steps" in other.err


def test_a_comparison_of_other_rows_weights_or_neutral_text_does_not_go_on(afina_: Command) -> None:
    begun = Path("runs/toy-compare/compare.toml")
    others = {
        Path("toy.csv"): (
            lambda was: was + was.splitlines()[1].replace(b",", b" of late,", 1) + b"\n",
            "data",
        ),
        Path("tiny/model.safetensors"): (lambda was: was[:-1] + bytes([was[-1] ^ 1]), "tiny"),
        begun: (lambda was: re.sub(rb'(neutral = ")\w+', rb"\1other", was), "neutral text"),
    }
    for file, (other, words) in others.items():
        was = file.read_bytes()
        file.write_bytes(other(was))
        assert file.read_bytes() != was
        before = toy.content(Path())
        said = afina_("compare", "toy.csv", *FLAGS, "--resume")
        assert said.code == 2 and words in said.err and "changed" in said.err and "--overwrite" in said.err
        assert toy.content(Path()) == before
        file.write_bytes(was)


def test_a_comparison_from_before_goes_on_though_its_neutral_text_was_not_recorded(done: Path) -> None:
    from afina.verbs._resume import as_recorded
    from afina.verbs.compare import choose

    facts = {"rows": "a", "weights": {"tiny": "b"}, "neutral": "c"}
    chosen = choose({"models": str(done / "tiny")})
    for recorded in ({}, {"rows": "a", "weights": {"tiny": "b"}}, facts):
        as_recorded(recorded, facts, chosen)
    with pytest.raises(InputError, match="neutral text"):
        as_recorded(facts | {"neutral": "d"}, facts, chosen)


def test_a_run_that_fails_is_a_line_that_says_so(afina_: Command) -> None:
    said = afina_(
        "compare", "toy.csv", *FLAGS, "--seeds", "1", "--learning-rate", "1e30", "--output-dir", "bad"
    )  # fmt: skip
    assert said.code == 0, said.err
    full, *_others = said.json["rows"]
    assert "--learning-rate" in full["error"] and full["scores"] is None
    recommended = said.json["recommendation"]
    assert recommended["method"] is None and "nothing to recommend" in recommended["why"]


def test_no_run_begins_after_the_budget(afina_: Command) -> None:
    said = afina_(
        "compare",
        "toy.csv",
        *FLAGS,
        "--budget",
        "0s",
        "--max-length",
        "32",
        "--output-dir",
        "none",
        "--lang",
        "es",
    )
    assert said.code == 0, said.err
    assert [line["error"] is None for line in said.json["rows"]] == [False, False, True, True]
    recommended = said.json["recommendation"]
    assert recommended["method"] is None and "0s" in recommended["why"]
    page = Path("none/report.html").read_text(encoding="utf-8")
    assert "0s" in page and recommended["why"] in html.unescape(page)


def test_a_search_takes_half_of_the_budget_at_most(afina_: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else methods are searched, and none is measured."""
    untils = []

    def carry_out(trials: list[_trials.Trial], *, until: float, late: str = "late", **_given: Any) -> Any:
        untils.append((len(trials), until - time.time()))
        return [_trials.Done(each, None, None, late) for each in trials]

    monkeypatch.setattr(_trials, "carry_out", carry_out)
    said = afina_("compare", "toy.csv", *FLAGS, "--tune", "small", "--budget", "2h", "--output-dir", "tuned")
    assert said.code == 0, said.err
    (searched, half), (measured, whole) = untils
    assert (searched, measured) == (3, 4)
    assert half == pytest.approx(3600, abs=300) and whole - half == pytest.approx(3600, abs=60)
    full = said.json["rows"][0]
    assert any("the half of the budget" in note for note in full["notes"]), full["notes"]


@pytest.mark.parametrize("late", [0, 2])
def test_where_the_budget_ended_is_said(late: int) -> None:
    from afina.verbs.compare import _ended

    trial = _trials.trial("full", "m", 0, {})
    done = [_trials.Done(trial, {}, {}, None)] * 3 + [_trials.Done(trial, None, None, "Killed.")]
    sentences = _ended("25s", done + [_trials.Done(trial, None, None, _trials.LATE)] * late)
    assert len(sentences) == bool(late)
    assert all("25s" in each and "4 of the 6" in each for each in sentences)


def test_a_small_search_takes_the_best_of_three_rates(afina_: Command) -> None:
    said = afina_(
        "compare", "toy.csv", *FLAGS, "--seeds", "1", "--tune", "small", "--output-dir", "tuned"
    )  # fmt: skip
    assert said.code == 0, said.err
    runs = {
        place.parent.name: json.loads(place.read_text()) for place in Path("tuned").glob("runs/*/scores.json")
    }
    searched = {name: each for name, each in runs.items() if "rate" in name}
    assert len(searched) == 3
    best = max(next(iter(each["scores"]["validation"].values()))["value"] for each in searched.values())
    chosen = json.loads(Path("tuned/runs/full-0/trial.json").read_text())["settings"]["learning_rate"]
    rated = [
        json.loads(Path(f"tuned/runs/{name}/trial.json").read_text())["settings"]["learning_rate"]
        for name, each in searched.items()
        if next(iter(each["scores"]["validation"].values()))["value"] == best
    ]
    assert chosen in rated


class Stage:
    """A runner whose runs score what `scores` says of their learning rate; other rates are not trained."""

    def __init__(self, scores: dict[float, float]) -> None:
        self.scores, self.run = scores, list[str]()

    def __call__(self, folder: Path, asked: dict[str, Any], _until: float | None, _stop: Any) -> str | None:
        self.run.append(folder.name)
        rate = asked["settings"]["learning_rate"]
        if rate not in self.scores:
            return "Killed."
        folder.mkdir()
        scores = {"validation": {"macro_f1": {"value": self.scores[rate]}}}
        for name, value in (
            ("trial.json", asked),
            ("scores.json", {"scores": scores}),
            ("measured.json", {}),
        ):
            (folder / name).write_text(json.dumps(value), encoding="utf-8")
        return None


def test_a_run_with_another_rate_is_not_taken_for_the_one_that_is_asked_for(tmp_path: Path) -> None:
    def carried(rate: float | None, until: float | None = None) -> tuple[list[str], str | None]:
        own = {} if rate is None else {"learning_rate": rate}
        stage = Stage({1.0: 0.5, 3.0: 0.9})
        (done,) = _trials.carry_out(
            [_trials.trial("head", "tiny", 0, own)], "toy.csv", {"offline": True}, tmp_path,
            runner=Runner(stage, 1), until=until, tell=lambda _line: None,
        )  # fmt: skip
        return stage.run, done.error

    assert carried(1.0) == (["head-0"], None)
    assert carried(1.0) == ([], None)
    assert carried(3.0, until=0.0)[0] == [] and carried(1.0) == ([], None)  # too late to replace it
    assert carried(3.0) == (["head-0"], None)
    assert carried(3.0) == ([], None)
    (tmp_path / "head-0/trial.json").unlink()
    assert carried(3.0) == (["head-0"], None)


def test_a_search_that_crashed_is_told_and_its_runs_are_made_anew(tmp_path: Path) -> None:
    from afina.verbs._tuning import FACTORS, tune
    from afina.verbs.compare import choose

    model = str(toy.model(tmp_path / "tiny"))
    (tmp_path / "runs").mkdir()
    chosen = choose({"methods": "head", "models": model, "seeds": 1, "tune": "small"})
    key = ("head", model, None)

    def tuned(*scores: float) -> tuple[float | None, list[str], list[str]]:
        """Return the rate that is chosen among those with a score, what is said, and what is then run with it."""
        stage = Stage(dict(zip(rates, scores, strict=False)))
        carry_out = partial(
            _trials.carry_out, data="toy.csv", alike={}, folder=tmp_path / "runs",
            runner=Runner(stage, 1), until=None, tell=lambda _line: None,
        )  # fmt: skip
        found, said = tune(chosen, 1, carry_out)
        own = found.get(key, {})
        searched = len(stage.run)
        if own:
            carry_out([_trials.trial("head", model, 0, own)])
        return own.get("learning_rate"), said.get(key[:2], []), stage.run[searched:]

    preset = preset_rate(chosen.task, find("methods", "head")(), 16)
    rates = [factor * preset for factor in FACTORS]
    rate, (said,), _run = tuned()
    assert rate is None and "without a search" in said and said.endswith("Killed.")
    rate, (said,), run = tuned(0.5, 0.6)
    assert (
        rate == rates[1] and said.startswith("1 of the 3") and said.endswith("Killed.") and run == ["head-0"]
    )
    assert tuned(0.5, 0.6, 0.9) == (rates[2], [], ["head-0"])
    assert tuned(0.5, 0.6, 0.9) == (rates[2], [], [])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--methods", "ful"], "full"),
        (["--methods", "full,full"], "twice"),
        (["--budget", "soon"], "30min"),
        (["--seeds", "0"], "at least 1"),
        (["--neutral", "nowhere.txt"], "nowhere.txt"),
        (["--models", "nowhere/at/all"], "nowhere/at/all"),
        (["--task", "clasification"], "classification"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    afina_: Command, flags: list[str], words: str
) -> None:
    before = toy.content(Path())
    said = afina_("compare", "toy.csv", "--output-dir", "new", *flags)
    assert said.code == 2 and words in said.err and "Traceback" not in said.err
    assert toy.content(Path()) == before


def test_times() -> None:
    assert [seconds(time) for time in ("90s", "30min", "1.5h")] == [90, 1800, 5400]


def line(method: str, value: float, **costs: float) -> dict[str, Any]:
    scores = {"macro_f1": {"value": value}}
    return dict.fromkeys(LINE) | {"method": method, "model": "m", "scores": scores} | costs


def test_the_recommendation_follows_table_tests_and_limits() -> None:
    lines = [
        line("full", 0.80, saved_mb=30.0, peak_memory_mb=900.0, latency_ms=5.0),
        line("lora", 0.79, saved_mb=1.0, peak_memory_mb=500.0, latency_ms=6.0),
        line("head", 0.60, saved_mb=0.5, peak_memory_mb=300.0, latency_ms=5.0),
    ]
    tests = [
        {"a": "full", "b": "lora", "decision": "no difference shown"},
        {"a": "full", "b": "head", "decision": "better"},
        {"a": "lora", "b": "head", "decision": "better"},
    ]
    none = dict.fromkeys(("max_memory", "max_size", "max_latency"))
    free = recommend(lines, tests, none, 1)
    assert free["method"] == "full" and "lora" in free["why"] and "head" not in free["why"]
    small = recommend(lines, tests, none | {"max_size": 10.0}, 1)
    assert small["method"] == "lora" and "full" in small["why"]
    assert recommend(lines, tests, none | {"max_latency": 1.0}, 1)["method"] is None
    assert recommend(lines, tests, none, -1)["method"] == "head"


NONE = dict.fromkeys(("max_memory", "max_size", "max_latency"))
LINES = [
    line("full", 0.80, peak_memory_mb=900.0),
    line("lora", 0.79, peak_memory_mb=100.0),
    line("head", 0.60, peak_memory_mb=100.0),
]


def pairs(**decisions: str) -> list[dict[str, str]]:
    """Return tests between the lines `a_b`."""
    return [
        dict(zip("ab", names.split("_"), strict=True), decision=each) for names, each in decisions.items()
    ]


@pytest.mark.parametrize("decision", ["better", "no difference shown"])
def test_better_than_every_other_one_is_said_of_those_within_the_limits(decision: str) -> None:
    tests = pairs(full_lora=decision, full_head="better", lora_head="better")
    why = recommend(LINES, tests, NONE | {"max_memory": 200}, 1)["why"]
    assert "better than every other one within the limits" in why and "Beyond the limits: full." in why
    assert ("better than every other one," in recommend(LINES, tests, NONE, 1)["why"]) == (
        decision == "better"
    )
    undecided = pairs(full_lora=decision, full_head="better", lora_head="no difference shown")
    assert "better than every" not in recommend(LINES, undecided, NONE | {"max_memory": 200}, 1)["why"]
    assert "better than every" not in recommend(LINES, tests[:2], NONE | {"max_memory": 200}, 1)["why"]


def test_no_baseline_is_recommended_where_no_method_was_measured() -> None:
    late = line("full", 0.0) | {"scores": None, "error": "not begun: the budget was used up"}
    rivals = [line("tfidf", 0.8) | {"model": None}, line("majority", 0.3) | {"model": None}]
    tests = pairs(tfidf_majority="better")
    found = recommend([late, *rivals], tests, NONE, 1)
    assert (
        found["method"] is None and "better" not in found["why"] and "Without a result: full" in found["why"]
    )
    random = line("random_weights", 0.5)
    assert recommend([late, random, *rivals], tests, NONE, 1)["method"] is None
    assert (
        recommend([LINES[2], *rivals], tests, NONE, 1)["method"] == "tfidf"
    )  # which beats what was measured


def test_switched_off_after_stages_is_the_model_that_they_left(done: Path, tmp_path: Path) -> None:
    result = json.loads((done / "runs/toy-compare/scores.json").read_text(encoding="utf-8"))
    row = result["rows"][0]
    row["forgetting"] = {"es": {"before": 3.247, "after": 3.5, "off": 3.413}}
    for model, told in (("tiny", False), ("chain.toml", True)):
        row["model"] = model
        (tmp_path / "scores.json").write_text(json.dumps(result), encoding="utf-8")
        page = report.write(tmp_path).read_text(encoding="utf-8")
        assert ("switched off, after the stages: 3.413" in page) == told
        assert ("switched off: 3.413" in page) != told
        assert ("which the stages left" in page) == told and "the model as it was" not in page


def test_the_only_line_is_better_than_nothing() -> None:
    alone = recommend(LINES[:1], [], NONE, 1)["why"]
    assert "better" not in alone and "only one with a result" in alone
    within = recommend(LINES[:2], pairs(full_lora="better"), NONE | {"max_memory": 200}, 1)["why"]
    assert "better" not in within and "only one within the limits" in within
    failed = line("ia3", 0.0) | {"scores": None, "error": "not begun: the budget was used up"}
    assert "Without a result: ia3." in recommend([*LINES, failed], [], NONE, 1)["why"]
    assert "Without a result: ia3." in recommend([failed], [], NONE, 1)["why"]


def test_a_baseline_in_other_tokens_leaves_one_model_its_recommendation() -> None:
    """So it is with a chain that adds tokens: the counted baseline has those of the model as it lay there."""
    lines = [each | {"tokens": "c.toml"} for each in LINES[:2]] + [
        line("ngram", 0.1) | {"tokens": "", "model": None}
    ]
    found = recommend(lines, pairs(full_lora="better"), NONE, 1)
    assert found["method"] == "full" and "unlike" not in found["why"]


def test_one_seed_tells_of_trained_models_not_of_methods() -> None:
    tests = pairs(full_lora="better")
    for seeds, told in ([0], True), ([0, 1], False):
        lines = [each | {"seeds": seeds} for each in LINES[:2]]
        assert ("With one seed" in recommend([*lines, line("tfidf", 0.1)], tests, NONE, 1)["why"]) == told


def test_lines_are_named_alike_where_all_runs_of_a_model_have_failed(done: Path, tmp_path: Path) -> None:
    failed = line("full", 0.0) | {"model": "b", "scores": None, "error": "No memory."}
    tests = [{"a": "full@m", "b": "lora@m", "decision": "no difference shown"}]
    why = recommend([*LINES[:2], failed], tests, NONE, 1)["why"]
    assert "full (m)" in why and "between it and lora (m)" in why and "Without a result: full (b)" in why

    result = json.loads((done / "runs/toy-compare/scores.json").read_text(encoding="utf-8"))
    result["rows"].append(dict(result["rows"][0], model="b", scores=None, error="No memory."))
    for test in result["tests"]:
        test |= {each: f"{test[each]}@tiny" for each in "ab" if test[each] in ("full", "random_weights")}
    (tmp_path / "scores.json").write_text(json.dumps(result), encoding="utf-8")
    page = report.write(tmp_path).read_text(encoding="utf-8")
    assert "full (tiny)" in page and "full (b): No memory." in page and "full@tiny" not in page


def test_what_a_baseline_beats_is_not_called_worse_than_itself() -> None:
    learnt = {"train": 0.8, "validation": 0.5, "last": 1, "runs": 3}
    lines = [line("tfidf", 0.9) | {"name": "TF-IDF"}, LINES[0] | {"name": "full", "learnt": learnt}]
    assert report._reasons(lines, pairs(full_tfidf="worse"), 1, several=False) == []


def test_what_is_as_good_and_cheaper_beats_in_the_picture() -> None:
    figures = {
        "full": (0.9, 1e6),
        "lora": (0.9, 1e4),
        "twin": (0.9, 1e4),
        "head": (0.5, 1e3),
        "ia3": (0.4, 1e3),
    }
    lines = [
        line(name, value, trained_weights=cost) | {"name": name} for name, (value, cost) in figures.items()
    ]
    found = report._scatter(lines, "trained_weights", 1)
    assert found and [point.system for point in found.points if point.best] == ["lora", "twin", "head"]
    worse = report._scatter(lines, "trained_weights", -1)
    assert worse and [point.system for point in worse.points if point.best] == ["ia3"]


def lost(method: str, model: str, losses: list[float]) -> _trials.Done:
    """Return a finished run with one loss a row, each of two tokens."""
    answers = [{"loss": loss, "tokens": 2, "text": None} for loss in losses]
    measured = {
        "answers": answers,
        "task_settings": {},
        "saved_mb": 1.0,
        "latency_ms": 1.0,
        "forgetting": None,
    }
    trial = _trials.trial(method, model, 0, {}, whose=model)
    return _trials.Done(trial, None, measured, None)


def test_losses_of_unlike_tokens_are_not_held_against_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from afina.report import console

    task = find("tasks", "causal_lm")()
    rows = [{"text": f"Line {i}."} for i in range(40)]
    noise = [i % 7 / 10 for i in range(40)]
    done = [
        lost("full", "a", [8 + each for each in noise]),
        lost("lora", "a", [9 + each for each in reversed(noise)]),
        lost("full", "b", [4 + each for each in noise]),
        lost("lora", "b", [5 + each for each in reversed(noise)]),
    ]
    ngram = {"ngram": lost("ngram", "a", [10.0] * 40).measured["answers"]}  # type: ignore[index]

    def found(
        tokens: dict[str | None, str],
    ) -> tuple[list[dict[str, Any]], set[tuple[str, str]], dict[str, Any]]:
        lines, tests = table(done, task, ngram, rows, tokens)
        said = recommend(lines, tests, NONE, task.direction, task.about())
        return lines, {(test["a"], test["b"]) for test in tests}, said | {"tests": tests}

    _lines, tested, said = found({"a": "a", "b": "a", None: "a"})
    assert len(tested) == 10 and (said["method"], said["model"]) == ("full", "b")

    lines, tested, said = found({"a": "a", "b": "b", None: "a"})
    of_a = {("full@a", "lora@a"), ("full@a", "ngram"), ("lora@a", "ngram")}
    assert tested == of_a | {("full@b", "lora@b")}
    assert said["method"] is None and "unlike tokens" in said["why"]
    assert "a: full (a) has the best" in said["why"] and "b: full (b) has the best" in said["why"]
    ordered = [(line["method"], line["model"]) for line in best_first(lines, -1)]
    assert ordered == [("full", "a"), ("lora", "a"), ("ngram", None), ("full", "b"), ("lora", "b")]
    for each in lines:
        each["trained_weights"] = 5 if each["model"] == "a" else 1
    result = {
        "run": "r", "task": "causal_lm", "task_settings": {}, "part": "test", "folds": 0, "direction": -1,
        "rows": lines, "tests": said.pop("tests"), "recommendation": said,
    }  # fmt: skip
    (tmp_path / "scores.json").write_text(json.dumps(result), encoding="utf-8")
    page = report.write(tmp_path).read_text(encoding="utf-8")
    assert page.count("unlike tokens") == 2
    assert "Lower is better." in page and "Further up" not in page and "Further down" in page  # a loss
    pictured = report._scatter([each | {"name": each["method"]} for each in lines[:4]], "trained_weights", -1)
    assert pictured and [point.best for point in pictured.points] == [True, False, True, False]
    console.compare(result)
    assert "unlike tokens" in capsys.readouterr().out


def test_models_have_the_same_tokens_where_their_tokenizers_part_text_alike(tmp_path: Path) -> None:
    from afina.models.load import load_tokenizer
    from afina.verbs._tokens import shared

    models = {name: toy.model(tmp_path / name) for name in ("tiny", "saved", "cut", "other", "broken")}
    load_tokenizer(models["tiny"]).save_pretrained(models["saved"])
    change(models["cut"] / "tokenizer.json", truncation=None, padding=None)
    change(models["other"] / "tokenizer.json", normalizer=None)
    change(models["broken"] / "config.json", vocab_size=3)
    models["chain.toml"] = models["tiny"]
    found = {"tiny": "tiny", "saved": "tiny", "cut": "tiny", "other": "other", None: "tiny"}
    assert shared(models, [], template=False) == found | {"chain.toml": "tiny"}
    assert shared(models, ["chain.toml"], template=False) == found | {"chain.toml": "chain.toml"}
    models = {name: models[name] for name in ("broken", "chain.toml", "other")}
    assert shared(models, ["chain.toml"], template=False) == {
        "chain.toml": "chain.toml",
        "other": "other",
        None: "",
    }
    (models["other"] / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert shared({"a": models["chain.toml"], "b": models["other"]}, [], template=True)["b"] == "b"


def test_what_only_measures_is_not_recommended_but_named() -> None:
    rivals = {"ngram": Rival("Trigrams", "counting trigrams", "…", only_measured=True)}
    lines = [line("full", 4.0, saved_mb=1.0), line("lora", 5.0, saved_mb=1.0), line("ngram", 3.0)]
    tests = [
        {"a": "full", "b": "ngram", "decision": "worse"},
        {"a": "full", "b": "lora", "decision": "better"},
    ]
    none = dict.fromkeys(("max_memory", "max_size", "max_latency"))
    found = recommend(lines, tests, none, -1, About(rivals=rivals))
    assert found["method"] == "full" and "Trigrams came out better" in found["why"]
    assert "Trigrams" not in recommend(lines, tests, none, 1, About(rivals=rivals))["why"]


def test_models_that_differ_in_their_weights_alone_share_the_random_ones(done: Path, tmp_path: Path) -> None:
    from afina.verbs._design import once
    from afina.verbs.compare import choose

    for name in ("tiny", "adapted", "deeper", "other_words"):
        shutil.copytree(done / "tiny", tmp_path / name)
    change(tmp_path / "adapted/config.json", dtype="float16", architectures=["BertForPreTraining"])
    change(tmp_path / "deeper/config.json", num_hidden_layers=7)
    change(tmp_path / "other_words/tokenizer.json", truncation=None, version="2.0")
    models = [str(tmp_path / name) for name in ("tiny", "adapted", "deeper", "other_words")]
    chosen = choose({"methods": "full", "models": ",".join(models)})
    ways = [list(chosen.ways(chosen.task, model)) for model in models]
    assert ways == [
        ["full", "random_weights"],
        ["full"],
        ["full", "random_weights"],
        ["full", "random_weights"],
    ]
    assert [sentence.split()[0] for sentence in once(chosen)] == [models[1]]


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(afina_: Command) -> None:
    words = (
        "compare",
        "toy.csv",
        "--methods",
        "full,head",
        "--models",
        "tiny",
        "--seeds",
        "2",
        "--max-steps",
        "3",
    )
    before = sorted(Path().rglob("*"))
    said = afina_(*words, "--output-dir", "planned", "--dry-run", "--json", "--tune", "small")
    assert said.code == 0, said.err
    assert sorted(Path().rglob("*")) == before
    lines = {line["method"]: line for line in said.json["rows"]}
    assert list(lines) == ["full", "head", "random_weights"]
    assert lines["full"].keys() >= LINE and lines["full"]["scores"] is None
    assert lines["head"]["trained_weights"] < lines["full"]["trained_weights"]
    assert all(line["train_seconds"] > 0 and line["peak_memory_mb"] > 50 for line in lines.values())
    assert "full: " in said.err and "random_weights: " in said.err
    assert (
        "12 runs would be made" in said.err
    )  # two methods, two seeds and three rates each, and random weights twice


def test_a_dry_run_says_what_would_fail(afina_: Command) -> None:
    said = afina_(
        "compare",
        "toy.csv",
        "--methods",
        "full,lora",
        "--target-modules",
        "nowhere",
        "--models",
        "tiny",
        "--dry-run",
    )
    assert said.code in (0, 2) and "Traceback" not in said.err


def test_models_with_names_alike_have_runs_of_their_own(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from afina.verbs.compare import choose

    monkeypatch.chdir(done)
    for name in ("a/b", "a_b"):
        toy.model(Path(name))
    chosen = choose({"methods": "head", "models": "a/b,a_b,tiny"})
    assert [chosen.mark(name) for name in chosen.models] == ["a_b", "a_b-2", "tiny"]
    with pytest.raises(InputError, match="named twice"):
        choose({"methods": "head", "models": "tiny,tiny/"})


def test_a_search_begins_from_the_rate_that_is_named_and_ties_stay_there(tmp_path: Path) -> None:
    from afina.verbs._tuning import tune
    from afina.verbs.compare import choose

    model = str(toy.model(tmp_path / "tiny"))
    chosen = choose({"methods": "head", "models": model, "seeds": 1, "tune": "small", "learning_rate": 1e-4})

    def tuned(*scores: float) -> float:
        place = tmp_path / str(scores)
        place.mkdir()
        stage = Stage(dict(zip((0.3 * 1e-4, 1e-4, 3.0 * 1e-4), scores, strict=True)))
        found, _said = tune(
            chosen, 1, partial(
                _trials.carry_out, data="toy.csv", alike={}, folder=place,
                runner=Runner(stage, 1), until=None, tell=lambda _line: None,
            )
        )  # fmt: skip
        return float(found["head", model, None]["learning_rate"])

    assert tuned(0.3, 0.3, 0.3) == 1e-4
    assert tuned(0.3, 0.2, 0.3) in (0.3 * 1e-4, 3.0 * 1e-4)
    assert tuned(0.1, 0.2, 0.3) == 3.0 * 1e-4


def test_a_model_that_lies_in_what_is_overwritten_is_spared(afina_: Command) -> None:
    best = "runs/toy-compare/runs/full-0/best"
    said = afina_("compare", "toy.csv", "--methods", "head", "--models", best, "--seeds", "1", "--overwrite")
    assert said.code == 2 and "the new run needs it" in said.err
    assert Path(best, "config.json").exists()
