"""Chains of stages: what each begins from, what is kept from it, what goes on, what is refused."""

import json
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import toy
from afina.data.corpus import Corpus
from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.models.find import find
from afina.models.load import load, load_tokenizer
from afina.tasks.regression import Regression
from afina.train.run import Run
from afina.verbs import _links, _pretraining, finetune
from afina.verbs._chain import _alike
from afina.verbs._links import lifted
from afina.verbs._phases import between
from test_pretrain import corpus

Command = Callable[..., toy.Said]
ADAPT = {
    "verb": "adapt", "texts": ["text.txt"], "max_tokens": 1500, "tokens_per_step": 500, "short_length": 32,
}  # fmt: skip
PAIRS = {"verb": "finetune", "data": "pairs.csv", "task": "sentence_pair", "max_steps": 2}
RUN = {"verb": "finetune", "data": "toy.csv", "max_steps": 2}

one_thread = pytest.fixture(scope="module")(toy.one_thread)


def chain(*stages: dict[str, Any], file: str = "chain.toml", **above: Any) -> str:
    """Write a file of settings with stages and return its name."""
    import tomli_w

    Path(file).write_text(tomli_w.dumps({"model": "tiny"} | above | {"stage": list(stages)}), "utf-8")
    return file


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, rows, pairs of rows and a text."""
    folder = tmp_path_factory.mktemp("chain")
    toy.model(folder / "tiny")
    toy.table(folder / "toy.csv")
    corpus(folder / "text.txt", 40)
    pairs = [
        (f"{i} y {text}", f"{i} o {text}", "sí" if i % 2 else "no") for i, (text, _) in enumerate(toy.ROWS)
    ]
    toy.table(folder / "pairs.csv", pairs, ("premise", "hypothesis", "label"))
    return folder


@pytest.fixture
def afina_(
    place: Path,
    tmp_path: Path,
    one_thread: None,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    """The command, in a folder with all that."""
    for each in place.iterdir():
        (tmp_path / each.name).symlink_to(each)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("afina.verbs._forgetting.MOST", 5)
    return toy.command(capfd)


def stopping(at: int) -> Callable[..., Iterator[list[Any]]]:
    """Return what reads text as the training does, and presses Ctrl-C in a step."""

    def read(*given: Any) -> Iterator[list[Any]]:
        for step, batch in enumerate(between(*given), given[2]):
            if step == at:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    return read


@pytest.mark.slow
def test_a_chain_is_runs_in_a_row(afina_: Command, tmp_path: Path) -> None:
    said = afina_("finetune", chain(ADAPT, PAIRS, RUN), "--json", "--seed", "3")
    assert said.code == 0, said.err
    assert (
        "Stage 1 of 3: adapt (text.txt)." in said.err
        and "its head, for sentence_pair, is dropped" in said.err
    )
    run = tmp_path / "runs" / "toy"
    first, second = (run / "stages" / name for name in ("1-adapt", "2-finetune"))
    assert all(
        (each / name).exists() for each in (first, second) for name in ("best", "run.toml", "scores.json")
    )
    assert (second / "report.html").is_file()
    told = said.json["stages"]
    assert [(each["verb"], each["left_out"]) for each in told] == [("adapt", 0), ("finetune", 0)]
    assert told[0]["losses"]["validation"]["mlm"] and told[1]["scores"]["test"]["macro_f1"]["n"] == 6
    assert said.json["model"] == "tiny" and said.json["run"] == "runs/toy"
    assert json.loads((run / "scores.json").read_text("utf-8")) == said.json

    written = tomllib.loads((run / "run.toml").read_text("utf-8"))
    assert (written["data"], written["model"], written["max_steps"]) == ("toy.csv", "tiny", 2)
    assert [each["verb"] for each in written["stage"]] == ["adapt", "finetune"]
    assert written["stage"][1]["learning_rate"] > 0  # what was open is decided
    assert [each["seed"] for each in written["stage"]] == [3, 3]
    assert tomllib.loads((second / "run.toml").read_text("utf-8"))["model"] == "runs/toy/stages/1-adapt/best"

    # Each begins from the body that the one before has left, and its first step moves it only a little.
    body = load(second / "left", "AutoModel").state_dict()
    assert not any(name.startswith("classifier") for name in body)
    after = load(run / "best", "AutoModel").state_dict()
    base = load(find("tiny"), "AutoModel").state_dict()
    gaps = [sum(float((after[name] - each[name]).norm()) for name in after) for each in (body, base)]
    assert gaps[0] < gaps[1]
    assert load_tokenizer(second / "left").model_max_length == load_tokenizer(find("tiny")).model_max_length

    assert afina_("predict", "runs/toy", "Muy bien.", "--json").json[0]["prediction"] in ("bien", "mal")
    assert afina_("evaluate", "runs/toy", "toy.csv", "--json").code == 0
    for page in (run / "report.html", run / "best" / "README.md"):
        text = page.read_text("utf-8").replace("\\", "")
        assert "1. adapt (text.txt); 2. finetune sentence_pair (pairs.csv)" in text
        assert "No text that it was chosen by" in text

    assert afina_("finetune", "chain.toml", "--overwrite", "--dry-run").code == 0
    again = afina_("finetune", "runs/toy/run.toml", "--json")
    assert again.code == 0, again.err
    assert again.json["run"] == "runs/toy-2" and toy.weights(tmp_path / "runs/toy-2") == toy.weights(run)


@pytest.mark.slow
def test_a_chain_goes_on_where_it_was_cut(
    afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("finetune", chain(ADAPT | {"max_tokens": 3000}, PAIRS, RUN), "--quiet", "--output-dir")
    assert afina_(*words, "straight").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(_pretraining, "between", stopping(2))
        assert afina_(*words, "cut").code == 130
    cut = tmp_path / "cut"
    assert not (cut / "stages" / "2-finetune").exists() and not (cut / "best").exists()
    assert afina_("predict", "cut", "Muy bien.").code == 2
    said = afina_(*words, "cut")
    assert said.code == 2 and "--resume" in said.err

    def failing(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # in the second stage, before it has kept anything but its settings
        patch.setattr("afina.train.bundle.Bundle.save", failing)
        assert afina_("finetune", "cut/run.toml", "--resume", "--quiet").code == 130
    done = cut / "stages" / "1-adapt" / "scores.json"
    when = done.stat().st_mtime_ns
    chain(ADAPT | {"max_tokens": 2000}, PAIRS, RUN)
    said = afina_(*words, "cut", "--resume")
    assert said.code == 2 and "Stage 1 (adapt)" in said.err and "--max-tokens 3000, not 2000" in said.err
    chain(PAIRS, RUN)
    said = afina_(*words, "cut", "--resume")
    assert said.code == 2 and "with the stages adapt, finetune, not finetune" in said.err
    chain(ADAPT | {"max_tokens": 3000}, PAIRS, RUN)
    said = afina_(*words, "cut", "--resume")
    assert said.code == 0, said.err
    assert toy.weights(cut) == toy.weights(tmp_path / "straight")
    assert afina_("finetune", "cut/run.toml", "--resume", "--quiet").code == 0
    assert done.stat().st_mtime_ns == when

    (tmp_path / "text.txt").unlink()  # of a stage that is done: what it has learnt is not what is there now
    corpus(tmp_path / "text.txt", 41)
    said = afina_("finetune", "cut/run.toml", "--resume", "--quiet")
    assert said.code == 2 and "Stage 1 (adapt): The text has changed since the run began" in said.err


@pytest.mark.slow
def test_a_chain_is_found_from_elsewhere_and_when_it_has_moved(
    afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "finetune", chain(ADAPT, PAIRS, RUN | {"method": "lora"}), "--quiet"
    with monkeypatch.context() as patch:
        patch.setattr(_pretraining, "between", stopping(1))
        assert afina_(*words).code == 130
    said = afina_(*words, "--resume")  # the file that was typed names the run, which does not lie beside it
    assert said.code == 0, said.err
    assert sorted(each.name for each in Path("runs").iterdir()) == ["toy"]
    answers = Run("runs/toy").bundle.predict(["Muy bien."])
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    said = afina_("finetune", "../runs/toy/run.toml", "--dry-run")
    assert said.code == 0, said.err
    said = afina_("finetune", "../runs/toy/run.toml", "--resume", "--dry-run")
    assert said.code == 0, said.err
    (tmp_path / "runs" / "toy").rename(tmp_path / "runs" / "moved")
    assert (
        Run("../runs/moved").bundle.predict(["Muy bien."]) == answers
    )  # its base is what the stages have left


@pytest.mark.slow
def test_rows_that_are_scored_on_are_learnt_in_no_stage(afina_: Command, tmp_path: Path) -> None:
    every = {"data": "toy.csv", "model": "tiny", "max_steps": 1, "quiet": True}
    judged = finetune.rows_of("toy.csv", finetune.choose({}, finetune.Finetune)).judging
    assert len(judged) == 12
    (tmp_path / "field.txt").write_text(
        "\n\n".join([f"Texto {i}. {judged[0]['text'].upper()}" for i in range(20)]), "utf-8"
    )
    pairs = [(text, f"otro {i}", "ab"[i % 2]) for i, (text, _label) in enumerate(toy.ROWS)]
    toy.table(tmp_path / "leaky.csv", pairs, ("premise", "hypothesis", "label"))
    stages = [ADAPT | {"texts": ["field.txt"]}, PAIRS | {"data": "leaky.csv"}]
    run: Any = finetune.finetune(**every, stage=stages, output_dir="run")
    assert [each["left_out"] for each in run.result["stages"]] == [20, 12]
    assert len(run.result["stages"]) == 2
    told = json.loads((tmp_path / "run/stages/2-finetune/scores.json").read_text("utf-8"))["details"]["data"]
    assert sum(told["rows"].values()) == 28
    assert "Rows that the run will be scored on, left out here: 12." in told["notes"]
    read = Corpus.open(tmp_path / "run/stages/1-adapt/corpus")
    tokenizer = load_tokenizer(find("tiny"))
    text = " ".join(tokenizer.decode(sentence) for i in range(len(read)) for sentence in read.document(i))
    assert "texto" in text.lower() and judged[0]["text"].lower() not in text.lower()
    assert "left out of that: 32" in (tmp_path / "run/report.html").read_text("utf-8")

    # Of folds every row is a test row.
    said = afina_(
        "finetune", chain(PAIRS | {"data": "leaky.csv"}, RUN), "--folds", "2", "--output-dir", "folds"
    )
    assert said.code == 2 and "Stage 1 (finetune)" in said.err and "left out here: 40" in said.err


def test_what_counts_as_the_same_row() -> None:
    unseen = Unseen(["El perro.", ("¿Qué es?", "Un texto."), ("¿Qué es?", "Otro."), "  "])
    assert "el  PERRO." in unseen and ("Un gato.", "El perro.") in unseen
    assert ("Otro.", "¿Qué es?") in unseen and "Otro." in unseen
    assert ("¿Qué es?", "Un tercero.") not in unseen  # the same question about another text
    assert "El perro ." in unseen  # as words of CoNLL are put together
    assert "El perro. Un gato." not in unseen and "" not in unseen and () not in unseen
    assert ((("user", "El perro."),)) in unseen
    assert unseen.kept(["El perro.", "Un gato."]) == ["Un gato."]
    assert (
        unseen.fingerprint
        == Unseen([("Otro.", "¿qué es?"), ("Un texto.", "¿Qué es?"), "El perro."]).fingerprint
    )


@pytest.mark.slow
def test_a_head_of_the_same_labels_goes_on(afina_: Command, tmp_path: Path) -> None:
    other = [(f"{text} {text}", label) for text, label in toy.ROWS]
    toy.table(tmp_path / "noisy.csv", other)
    toy.table(tmp_path / "others.csv", [(text, label + "!") for text, label in other])
    for name, kept in (("noisy.csv", True), ("others.csv", False)):
        stage = {"verb": "finetune", "data": name, "max_steps": 2, "method": "lora", "max_length": 20}
        said = afina_("finetune", chain(stage, RUN), "--output-dir", name[:5], "--method", "lora")
        assert said.code == 0, said.err
        left = tmp_path / name[:5] / "stages" / "1-finetune" / "left"
        model: Any = load(left, "AutoModelForSequenceClassification", {"num_labels": 2})
        assert any("classifier" in weight for weight in model.drawn) is not kept
        assert ("with its head" in said.err) is kept
        assert not (left / "adapter_config.json").exists()
        # What is below the run's adapter is what the stage has left.
        base = Run(tmp_path / name[:5]).bundle.base
        assert base and base.model == str(left.resolve())
        assert "base_model" not in (tmp_path / name[:5] / "best" / "README.md").read_text("utf-8")
    body, base_ = (load(each, "AutoModel").state_dict() for each in (left, find("tiny")))
    assert any(not torch.equal(body[name], base_[name]) for name in body)


def test_dry_run_tells_of_each_stage_and_writes_nothing(afina_: Command, tmp_path: Path) -> None:
    file = chain(ADAPT, PAIRS, RUN)
    before = toy.content(tmp_path)
    said = afina_("finetune", file, "--dry-run", "--json")
    assert said.code == 0, said.err
    assert [f"Stage {i} of 3" in said.err for i in (1, 2, 3)] == [True] * 3
    assert said.err.count("(--dry-run)") == 3
    assert [each["losses"] for each in said.json["stages"]] == [None, None]
    assert toy.content(tmp_path) == before


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"texts": ["text.txt"]}], 'Stage 1 (?): It does not say what is done'),
        ([{"verb": "adopt", "texts": ["text.txt"]}], "Did you mean 'adapt'"),
        ([{"verb": "adapt", "texts": "text.txt"}], 'Stage 1 (adapt): It does not say which texts'),
        ([{"verb": "finetune"}], 'Stage 1 (finetune): It does not say which data'),
        ([PAIRS, ADAPT], "Stage 2 (adapt): Stage 1 learns sentence_pair"),
        ([ADAPT, PAIRS | {"learning_rat": 1}], "Stage 2 (finetune): There is no setting 'learning_rat'"),
        ([ADAPT, PAIRS | {"learning_rate": -1}], "Stage 2 (finetune): Setting 'learning_rate'"),
        ([ADAPT, PAIRS | {"data": "no.csv"}], "Stage 2 (finetune): "),
        ([ADAPT | {"texts": ["no.txt"]}], "Stage 1 (adapt): The text file no.txt does not exist"),
        ([PAIRS | {"text": "nothing"}], "Stage 1 (finetune): "),
        ([PAIRS | {"model": "tiny"}], "'model' is said for the whole chain"),
        ([PAIRS | {"resume": True}], "'resume' is said for the whole chain"),
        ([PAIRS | {"method": "houlsby"}], "Stage 1 (finetune): Method 'houlsby' leaves no model"),
        ([PAIRS | {"method": "head"}], "its head is dropped"),
        ([PAIRS | {"task": "seq2seq", "source": "premise", "target": "hypothesis"}], "Stage 1 (finetune): "),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_with_its_number_before_anything_is_written(
    stages: list[dict[str, Any]], message: str, afina_: Command, tmp_path: Path
) -> None:
    file = chain(*stages, RUN)
    before = toy.content(tmp_path)
    said = afina_("finetune", file, "--quiet")
    assert said.code == 2 and message in said.err and said.err.count("\n") == 1, said.err
    assert toy.content(tmp_path) == before


def test_what_stages_cannot_go_with(afina_: Command) -> None:
    assert "throw away" in afina_("finetune", chain(ADAPT, RUN), "--random-weights").err
    Path("chain.toml").write_text('data = "toy.csv"\nstage = "adapt"\n', "utf-8")
    assert "Setting 'stage' is 'adapt', but must be a list" in afina_("finetune", "chain.toml").err
    Path("chain.toml").write_text('data = "toy.csv"\nstage = ["adapt"]\n', "utf-8")
    assert "must be tables of settings" in afina_("finetune", "chain.toml").err
    assert afina_("finetune", "toy.csv", "--stage", "adapt").code == 2


def test_what_python_has_besides_is_written_as_a_file_has_it() -> None:
    stage = {"verb": "adapt", "texts": [Path("a.txt")], "max_tokens": None}
    (link,) = _links.of([stage], Path("run"), resume=False)
    assert link.settings == {"texts": ["a.txt"]}


def test_a_head_goes_on_only_to_numbers_of_the_same_scale() -> None:
    free = Regression(centre=3.0, scale=1.5)
    assert _alike(free, Regression(centre=3.0, scale=1.5))
    assert not _alike(free, Regression(centre=0.5, scale=1.5))
    assert not _alike(free, Regression(centre=3.0, scale=1.5, bounds="0,5"))


def test_the_last_stage_is_the_run_itself() -> None:
    first, last = {"verb": "adapt", "texts": ["a.txt"]}, {"verb": "finetune", "data": "b.csv", "seed": 1}
    alone = {"data": "b.csv", "seed": 1, "model": "m"}
    assert lifted({"model": "m", "stage": [first, last]}) == alone | {"stage": [first]}
    assert lifted({"model": "m", "data": "b.csv", "stage": [first, last]}) == alone | {"stage": [first]}
    assert lifted({"model": "m", "stage": [last]}) == alone
    for other in (
        {"data": "c.csv", "stage": [first, last]},  # another task comes before
        {"data": "b.csv", "stage": [first]},
        {"data": "b.csv", "stage": [last], "recorded": {}},  # head first, then all of it: written by afina
        {"data": "b.csv"},
    ):
        assert lifted(other) == other
    with pytest.raises(InputError, match="'seed' is 1 there and 2"):
        lifted({"seed": 2, "stage": [first, last]})


@pytest.mark.slow
def test_a_chain_is_a_row_of_a_comparison(afina_: Command, tmp_path: Path) -> None:
    file = chain(ADAPT, RUN)
    words = ("compare", "toy.csv", "--methods", "lora", "--models", f"tiny,{file}", "--seeds", "1")
    said = afina_(*words, "--max-steps", "2", "--json", "--neutral", "text.txt")
    assert said.code == 0, said.err
    rows = {(line["method"], line["model"]): line for line in said.json["rows"]}
    assert list(rows)[:3] == [("lora", "tiny"), ("random_weights", "tiny"), ("lora", "chain.toml")]
    plain, chained = rows["lora", "tiny"], rows["lora", "chain.toml"]
    assert chained["error"] is None and chained["scores"]["macro_f1"]["n"] == 6
    assert chained["saved_mb"] > plain["saved_mb"]  # what the stages have left lies nowhere else
    assert chained["train_seconds"] > 0
    loss = chained["forgetting"]["neutral"]
    assert loss["before"] == plain["forgetting"]["neutral"]["before"] != loss["off"]
    assert any("1. adapt (text.txt)" in note for note in chained["notes"]) and not plain["notes"]
    assert "chain.toml" in (tmp_path / "runs/toy-compare/report.html").read_text("utf-8")
    chain(ADAPT | {"max_tokens": 2000}, RUN)
    said = afina_(*words, "--max-steps", "2", "--resume")
    assert said.code == 2 and "The stages are not those" in said.err

    chain(ADAPT | {"texts": ["no.txt"]}, RUN)
    before = toy.content(tmp_path)
    said = afina_(*words, "--output-dir", "other")
    assert said.code == 2 and "chain.toml: Stage 1 (adapt)" in said.err
    chain(file="none.toml", data="toy.csv")
    assert "holds no stages" in afina_("compare", "toy.csv", "--models", "none.toml", "--output-dir", "x").err
    (tmp_path / "none.toml").unlink()
    assert toy.content(tmp_path) == before
