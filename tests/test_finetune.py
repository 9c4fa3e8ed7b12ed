"""`finetune` and `evaluate`: what they return, write, repeat and refuse to mix up."""

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import afina
import toy
from afina.core import Table
from afina.tasks.classification import Classification

Command = Callable[..., toy.Said]
KEYS = {
    *(
        "run",
        "model",
        "task",
        "method",
        "scores",
        "baselines",
        "details",
        "rows_per_s",
        "tokens_per_s",
        "processes",
    ),
    *("share_of_peak", "seconds", "trained_weights", "peak_memory_mb"),
}
one_thread = pytest.fixture(scope="module")(toy.one_thread)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A folder with `toy.csv`, the model `tiny` and a run of both, `runs/toy`."""
    place = tmp_path_factory.mktemp("done")
    toy.table(place / "toy.csv")
    toy.model(place / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert afina.finetune("toy.csv", model="tiny", max_steps=4, dropout=0.2, quiet=True)
    return place


@pytest.fixture
def afina_(
    done: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The command, in a copy of that folder."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return toy.command(capfd)


def check_keys(found: dict[str, object]) -> None:
    """Every key of INTERFACE.md is there, and every score has its four."""
    assert set(found) >= KEYS
    assert set(found["seconds"]) == {"prepare", "train", "evaluate", "total"}  # type: ignore[call-overload]
    scores, baselines = found["scores"], found["baselines"]
    assert {"majority", "tfidf"} <= set(baselines)  # type: ignore[call-overload]
    for each in (scores, *baselines.values()):  # type: ignore[attr-defined]
        assert set(each) == {"validation", "test"}
        for part in each.values():
            for score in (part or {}).values():
                assert set(score) == {"value", "low", "high", "n"}
    for part in scores.values():  # type: ignore[attr-defined]
        assert part is None or next(iter(part)) == "macro_f1"


def test_json_holds_what_interface_promises(afina_: Command) -> None:
    said = afina_("finetune", "toy.csv", "--model", "tiny", "--max-steps", "2", "--overwrite", "--json")
    assert said.code == 0
    check_keys(said.json)
    assert said.json["scores"]["test"]["accuracy"]["n"] == 6
    assert {name: said.json[name] for name in ("run", "model", "task", "method")} == {
        "run": "runs/toy",
        "model": "tiny",
        "task": "classification",
        "method": "full",
    }
    assert said.json == json.loads(Path("runs/toy/scores.json").read_text(encoding="utf-8"))


def test_the_folder_of_a_run(done: Path) -> None:
    run = done / "runs" / "toy"
    names = ["best", "last", "predictions.csv", "report.html", "run.toml", "scores.json", "steps.jsonl"]
    assert sorted(file.name for file in run.iterdir()) == names
    settings = tomllib.loads((run / "run.toml").read_text(encoding="utf-8"))
    assert settings["data"] == "toy.csv"
    assert settings["dropout"] == 0.2
    assert not {"output_dir", "resume", "overwrite", "dry_run", "json"} & set(settings)
    assert {"versions", "data", "model", "threads"} <= set(settings["recorded"])


def test_from_python(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(done)
    run = afina.Run(done / "runs" / "toy")
    assert 0 <= run.scores["test"]["macro_f1"]["value"] <= 1
    texts = ["el servicio muy bueno", "lo odio", "el servicio muy bueno y algo más largo que los otros"]
    answers = run.bundle.predict(texts)
    alone = [run.bundle.predict([text])[0] for text in texts]
    assert [a["prediction"] for a in answers] == [a["prediction"] for a in alone]
    assert [a["probability"] for a in answers] == pytest.approx([a["probability"] for a in alone], abs=1e-5)


def test_plain_transformers_loads_it_with_the_same_answers(done: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder, texts = done / "runs" / "toy" / "best", ["muy bueno", "qué malo, no vuelvo"]
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    with torch.no_grad():
        theirs = model.eval()(**tokenizer(texts, return_tensors="pt", padding=True)).logits.softmax(-1)
    for answer, probabilities in zip(
        afina.Run(folder.parent).bundle.predict(texts), theirs.tolist(), strict=True
    ):
        assert list(answer["probabilities"].values()) == pytest.approx(probabilities, abs=1e-6)
        assert answer["prediction"] == model.config.id2label[probabilities.index(max(probabilities))]


def test_a_task_object_does_what_its_name_does(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(done)
    task = Classification(class_weight="balanced")
    run = afina.finetune(
        "toy.csv", task=task, model="tiny", max_steps=1, output_dir=done / "object", quiet=True
    )
    assert run is not None
    assert run.settings["task"] == "classification"
    assert run.settings["class_weight"] == "balanced"


def test_run_toml_repeats_the_run_bit_by_bit(afina_: Command) -> None:
    for expected in ("runs/toy-2", "runs/toy-3"):
        said = afina_("finetune", "runs/toy/run.toml", "--json", "--quiet")
        assert said.code == 0
        assert said.json["run"] == expected
        assert toy.weights(Path(expected)) == toy.weights(Path("runs/toy"))
        assert toy.steps(Path(expected)) == toy.steps(Path("runs/toy"))
    first, second = (Path(run, "run.toml").read_bytes() for run in ("runs/toy", "runs/toy-2"))
    assert first == second


def test_run_toml_is_repeated_from_another_folder(
    done: Path, afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are not found from here are looked for in the folder where they were named."""
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    said = afina_("finetune", str(done / "runs" / "toy" / "run.toml"), "--dry-run")
    assert said.code == 0, said.err
    assert not (other / "runs").exists()
    wrong = afina_("finetune", str(done / "runs" / "toy" / "run.toml"), "--test", "toy.csv", "--dry-run")
    assert wrong.code == 2 and "toy.csv" in wrong.err  # what is named now is looked for here


def test_a_flag_lies_over_run_toml(afina_: Command) -> None:
    said = afina_("finetune", "runs/toy/run.toml", "--seed", "5", "--output-dir", "five", "--json", "--quiet")
    assert said.json["run"] == "five"
    assert afina.Run("five").settings == afina.Run("runs/toy").settings | {"seed": 5}
    assert toy.weights(Path("five")) != toy.weights(Path("runs/toy"))


def test_a_repeat_on_changed_data_says_so(afina_: Command) -> None:
    toy.table(Path("toy.csv"), [*toy.ROWS, ("qué bien todo", "bien")])
    said = afina_("finetune", "runs/toy/run.toml", "--dry-run")
    assert said.code == 0
    assert "its rows have changed" in said.err
    said = afina_("finetune", "toy.csv", "--model", "tiny", "--resume")
    assert said.code == 2
    assert "its rows have changed" in said.err and "--overwrite" in said.err


def test_a_repeat_from_a_changed_model_says_so(afina_: Command) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    file = Path("tiny/model.safetensors")
    weights = load_file(file)
    next(iter(weights.values())).add_(torch.tensor(0.5))
    save_file(weights, file, metadata={"format": "pt"})
    said = afina_("finetune", "runs/toy/run.toml", "--dry-run")
    assert said.code == 0 and "The model tiny is not the model of the run: its weights" in said.err
    said = afina_("finetune", "toy.csv", "--model", "tiny", "--resume")
    assert said.code == 2 and "its weights have changed. Start anew with --overwrite." in said.err
    said = afina_("finetune", "runs/toy/run.toml", "--model", "tiny", "--dry-run")  # a model of one's choice
    assert said.code == 0 and "weights have changed" not in said.err


def test_resuming_a_whole_run_changes_nothing_but_the_times(
    afina_: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is with a run that was killed after training, while it was scored."""
    before = toy.weights(Path("runs/toy"))
    peak = json.loads(Path("runs/toy/scores.json").read_text(encoding="utf-8"))["peak_memory_mb"]
    monkeypatch.setattr("afina.train.fit.peak_memory_mb", lambda: 1.0)  # a process that has trained nothing
    for words in (("toy.csv", "--model", "tiny", "--max-steps", "4"), ("runs/toy/run.toml",)):
        said = afina_("finetune", *words, "--resume", "--quiet", "--json")
        assert said.code == 0
        assert said.json["run"] == "runs/toy"
        assert said.json["peak_memory_mb"] == pytest.approx(peak, rel=0.05) and peak > 1
        assert toy.weights(Path("runs/toy")) == before
        assert len([line for line in toy.steps(Path("runs/toy")) if "loss" in line]) == 4
    # The times are those of all sittings.
    file = Path("runs/toy/last/progress.json")
    saved = json.loads(file.read_text("utf-8"))
    assert saved["total"] > saved["seconds"]
    file.write_text(json.dumps(saved | {"seconds": 1000.0, "total": 1500.0}), encoding="utf-8")
    seconds = afina_("finetune", "toy.csv", "--resume", "--quiet", "--json").json["seconds"]
    assert seconds["train"] == 1000 and 1500 < seconds["total"] < 1600


def test_official_splits(afina_: Command) -> None:
    other = toy.table(Path("other.csv"), [(f"{text} hoy", label) for text, label in toy.ROWS[::3]])
    words = (
        "finetune",
        "toy.csv",
        "--model",
        "tiny",
        "--max-steps",
        "1",
        "--json",
        "--quiet",
        "--output-dir",
    )
    found = afina_(*words, "test_only", "--test", other).json
    assert found["scores"]["test"]["macro_f1"]["n"] == 14
    assert found["scores"]["validation"]
    found = afina_(*words, "validation_only", "--validation", other).json
    assert found["scores"]["test"] is None
    assert found["baselines"]["majority"]["test"] is None
    assert found["scores"]["validation"]["macro_f1"]["n"] == 14
    check_keys(found)
    assert "validation" in afina_("finetune", "validation_only/run.toml", "--output-dir", "again").out


def test_evaluate(afina_: Command) -> None:
    other = toy.table(Path("other.csv"), [(f"{text} hoy", label) for text, label in toy.ROWS[::3]])
    before = toy.content(Path("runs/toy"))
    said = afina_("evaluate", "runs/toy", other, "--json")
    assert said.code == 0
    check_keys(said.json)
    assert said.json["scores"]["validation"] is None
    assert said.json["scores"]["test"]["macro_f1"]["n"] == 14
    assert said.json["baselines"]["tfidf"]["test"]["macro_f1"]["n"] == 14
    assert toy.content(Path("runs/toy")) == before
    for part in ("macro-F1", "Majority", "TF-IDF"):
        assert part in afina_("evaluate", "runs/toy", other).out


def test_evaluate_takes_columns_of_other_names(afina_: Command) -> None:
    rows = [(label, text) for text, label in toy.ROWS]
    other = toy.table(Path("other.csv"), rows, ("sentimiento", "opinion"))
    told = [
        afina_("evaluate", "runs/toy", *words, "--json", "--quiet").json["scores"]
        for words in (("toy.csv",), (other,), (other, "--text", "opinion", "--label", "sentimiento"))
    ]
    assert told[0] == told[1] == told[2]


def test_evaluate_counts_unknown_labels_as_errors(afina_: Command) -> None:
    known = toy.table(Path("known.csv"), toy.ROWS)
    more = toy.table(Path("more.csv"), [*toy.ROWS, ("texto nuevo", "regular"), ("otro más", "regular")])
    right, worse = (
        afina_("evaluate", "runs/toy", file, "--json").json["scores"]["test"]["accuracy"]
        for file in (known, more)
    )
    assert worse["n"] == 42
    assert worse["value"] * 42 == pytest.approx(right["value"] * 40)
    assert "knows none of the labels" not in afina_("evaluate", "runs/toy", "more.csv").err
    toy.table(Path("other.csv"), [("texto nuevo", "regular"), ("otro más", "raro")])
    assert "knows none of the labels" in afina_("evaluate", "runs/toy", "other.csv").err


def test_evaluate_without_the_training_data_leaves_the_baselines_out(afina_: Command) -> None:
    shutil.move("toy.csv", "elsewhere.csv")
    said = afina_("evaluate", "runs/toy", "elsewhere.csv", "--json")
    assert said.code == 0
    check_keys(said.json)
    assert said.json["baselines"]["tfidf"] == {"validation": None, "test": None}
    assert afina_("evaluate", "runs/toy", "elsewhere.csv").code == 0


def test_knobs_are_the_fields_of_the_task() -> None:
    chosen = Classification(text="a", label="b").choose_columns(Table([], ("a", "b"), "x.csv"))
    assert (chosen.text, chosen.label) == ("a", "b")


def test_evaluate_says_what_it_found(afina_: Command) -> None:
    rows = [*((text, label) for text, label in toy.ROWS), ("texto nuevo", "regular"), ("", "bien")]
    other = toy.table(Path("other.csv"), rows, ("opinion", "sentimiento"))
    said = afina_("evaluate", "runs/toy", other, "--json")
    for part in (
        "'opinion'",
        "'sentimiento'",
        "Rows without text or label, left out: 1.",
        "does not know",
        "regular",
    ):
        assert part in said.err
    assert said.err.splitlines() == said.json["details"]["data"]["notes"]
    shutil.move("toy.csv", "elsewhere.csv")
    assert "no baselines" in afina_("evaluate", "runs/toy", other).err
    assert afina_("evaluate", "runs/toy", other, "--json", "--quiet").err == ""


def test_a_dry_run_as_json(afina_: Command) -> None:
    said = afina_("finetune", "toy.csv", "--model", "tiny", "--output-dir", "new", "--dry-run", "--json")
    assert said.code == 0
    check_keys(said.json)
    assert said.json["run"] == "new" and said.json["scores"] == {"validation": None, "test": None}
    assert said.json["details"]["data"]["rows"] == {"train": 28, "validation": 6, "test": 6}
    assert not Path("new").exists()
    assert afina_("finetune", "toy.csv", "--output-dir", "new", "--dry-run").out == ""


def test_labels_are_named_and_those_without_rows_too(afina_: Command) -> None:
    rare = [("algo raro", "raro"), ("otra cosa rara", "raro"), ("sin etiqueta", "NaN")]
    said = afina_("finetune", toy.table(Path("rare.csv"), [*toy.ROWS, *rare]), "--dry-run", "--model", "tiny")
    assert "Labels (3): bien (14), mal (14), raro (2)." in said.err
    assert "Rows without text or label, left out: 1." in said.err
    for part in ("validation", "test"):
        assert f"Labels without a row in the {part} part" in said.err


def test_a_split_column_beside_files_is_named(afina_: Command) -> None:
    rows = [(text, label, ("train", "test")[i % 2]) for i, (text, label) in enumerate(toy.ROWS)]
    table = toy.table(Path("parts.csv"), rows, ("text", "label", "split"))
    words = ("finetune", table, "--model", "tiny", "--dry-run")
    assert "not used to split" not in afina_(*words).err
    test = toy.table(Path("test.csv"), [(f"{text} hoy", label) for text, label in toy.ROWS[::3]])
    assert "Column 'split' is not used to split" in afina_(*words, "--test", test).err


def test_spanish_decimals(afina_: Command) -> None:
    said = afina_("finetune", "toy.csv", "--model", "tiny", "--dry-run", "--output-dir", "x", "--lang", "es")
    assert "0,001" in said.err


def test_one_process_trains_in_both_precisions(afina_: Command) -> None:
    for precision in ("fp32", "bf16", "fp32"):
        words = ("--model", "tiny", "--max-steps", "1", "--precision", precision, "--quiet", "--json")
        assert afina_("finetune", "toy.csv", *words, "--output-dir", "run", "--overwrite").code == 0
