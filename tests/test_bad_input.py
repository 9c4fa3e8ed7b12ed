"""Bad input gets one clear sentence and exit code 2, and leaves everything as it was."""

import errno
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import afina
import toy
from afina.errors import InputError
from afina.verbs.models import models

Command = Callable[..., toy.Said]


one_thread = pytest.fixture(scope="module")(toy.one_thread)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A folder with good and bad tables, settings and models, and one finished run, `runs/done`."""
    place = tmp_path_factory.mktemp("bad_input")
    toy.table(place / "toy.csv")
    toy.table(place / "done.csv")
    toy.table(place / "unseen.csv", [*toy.ROWS[:10], ("texto nuevo", "regular")])
    toy.table(place / "one_class.csv", [(text, "x") for text, _label in toy.ROWS])
    toy.table(place / "few.csv", [*toy.ROWS[:4], *toy.ROWS[-4:]])
    toy.table(place / "no_label.csv", [(text,) for text, _label in toy.ROWS], ("text",))
    toy.table(place / "blank.csv", [("", "bien"), ("", "mal")])
    toy.table(
        place / "three.csv", [(t, label if i % 3 else "regular") for i, (t, label) in enumerate(toy.ROWS)]
    )
    (place / "empty.csv").touch()
    (place / "binary.csv").write_bytes(bytes(range(256)) * 40)
    (place / "things").mkdir()
    (place / "things" / "notes.txt").write_text("mine", encoding="utf-8")
    (place / "best_of_mine" / "best").mkdir(parents=True)
    for name, text in {
        "unknown_key": 'data = "toy.csv"\nlerning_rate = 0.1\n',
        "broken": 'data = "toy.csv\n',
        "no_data": "max_steps = 4\n",
        "bad_value": 'data = "toy.csv"\nmax_steps = "many"\n',
        "bad_task": 'data = "toy.csv"\n[task]\nname = "classification"\n',
        "bad_threads": 'data = "toy.csv"\n[recorded]\nthreads = "two"\n',
        "no_file": 'data = "missing.csv"\n',
    }.items():
        (place / f"{name}.toml").write_text(text, encoding="utf-8")
    _models(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run = afina.finetune("done.csv", model="tiny", max_steps=2, quiet=True)
    assert run is not None
    return place


def _models(place: Path) -> None:
    tiny = toy.model(place / "tiny")
    (place / "no_config").mkdir()
    for name in (
        *("broken_config", "odd_config", "pickled", "truncated", "empty_weights", "no_tokenizer"),
        *("broken_tokenizer", "other_tokenizer", "other_shape", "other_weights", "unknown_kind", "own_code"),
    ):
        shutil.copytree(tiny, place / name)
    config = json.loads((tiny / "config.json").read_text(encoding="utf-8"))
    for name, text in {
        "broken_config": "{",
        "odd_config": "[1]",
        "other_tokenizer": json.dumps(config | {"vocab_size": 100}),
        "other_shape": json.dumps(config | {"hidden_size": 8}),
        "unknown_kind": json.dumps({"model_type": "nosuch"}),
        "own_code": json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}),
    }.items():
        (place / name / "config.json").write_text(text, encoding="utf-8")
    (place / "own_code" / "mine.py").write_text('open("was_run", "w")\n', encoding="utf-8")
    whole = (tiny / "model.safetensors").read_bytes()
    (place / "truncated" / "model.safetensors").write_bytes(whole[:100_000])
    (place / "empty_weights" / "model.safetensors").write_bytes(b"")
    (place / "pickled" / "model.safetensors").rename(place / "pickled" / "pytorch_model.bin")
    (place / "broken_tokenizer" / "tokenizer.json").write_text("{", encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (place / "no_tokenizer" / name).unlink()
    import torch
    from safetensors.torch import save_file

    save_file(
        {"other.weight": torch.zeros(3)}, place / "other_weights" / "model.safetensors", {"format": "pt"}
    )


@pytest.fixture
def afina_(prepared: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, in the prepared folder."""
    monkeypatch.chdir(prepared)
    return toy.command(capfd)


CASES = {
    # data
    "finetune missing.csv": ["no file or folder 'missing.csv'"],
    "finetune toi.csv": ["no file or folder 'toi.csv'", "Did you mean 'toy.csv'?"],
    "finetune empty.csv": ["empty.csv is empty"],
    "finetune binary.csv": ["binary.csv", "binary"],
    "finetune toy.csv --text texto": ["no column 'texto'", "'text'"],
    "finetune toy.csv --label lable": ["no column 'lable'", "Did you mean 'label'?"],
    "finetune no_label.csv": ["no_label.csv", "--label"],
    "finetune one_class.csv": ["same label 'x'"],
    "finetune few.csv": ["8", "At least 10"],
    "finetune blank.csv": ["Usable rows: only 0."],
    "finetune toy.csv --test unseen.csv": ["test part", "regular (1)"],
    "finetune toy.csv --validation unseen.csv": ["validation part", "regular (1)"],
    "finetune toy.csv --test missing.csv": ["'missing.csv'"],
    "finetune toy.csv --test no_label.csv": ["no_label.csv has no column 'label'"],
    "finetune toy.csv --test blank.csv": ["blank.csv has no row"],
    "finetune toy.csv --positive bin": ["no label 'bin'", "Did you mean 'bien'?"],
    "finetune three.csv --positive bien": ["--positive needs two labels", "3"],
    # the command line
    "finetun toy.csv": ["no command 'finetun'", "Did you mean 'finetune'?", "afina --help"],
    "finetune toy.csv --learning-rte 1": ["'--learning-rte'", "'--learning-rate'?", "afina finetune --help"],
    "finetune toy.csv --max-steps": ["'--max-steps' needs a value"],
    "finetune toy.csv --resume=yes": ["'--resume' does not take a value"],
    "finetune toy.csv other words": ["'other words'", "quotation marks"],
    "finetune --json": ["DATA|run.toml is missing", "afina finetune --help"],
    "--verson": ["'--verson'", "'--version'?"],
    "finetune toy.csv --lang fr": ["no language 'fr'", "en, es"],
    # settings
    "finetune toy.csv --task clasification": ["no task 'clasification'", "'classification'?"],
    "finetune toy.csv --method lora --random-weights": ["'lora'", "--random-weights"],
    "finetune toy.csv --method lora --adapter-size 3": ["adapter_size", "houlsby"],
    "finetune toy.csv --method ful": ["no method 'ful'", "'full'?"],
    "finetune toy.csv --learning-rate abc": ["'learning_rate' is 'abc'", "a number"],
    "finetune toy.csv --learning-rate nan": ["'learning_rate' is 'nan'", "a finite number"],
    "finetune toy.csv --warmup-steps inf": ["'warmup_steps' is 'inf'", "a finite number"],
    "finetune toy.csv --learning-rate 0": ["'learning_rate' is '0'", "greater than 0."],
    "finetune toy.csv --seed 1.5": ["'seed' is '1.5'", "a whole number"],
    "finetune toy.csv --seed -1": ["'seed' is '-1'", "at least 0."],
    "finetune toy.csv --seed 4294967296": ["'seed' is", "at most 4294967295."],
    "finetune toy.csv --dropout 1": ["'dropout' is '1'", "less than 1."],
    "finetune toy.csv --max-steps 0": ["'max_steps' is '0'", "at least 1."],
    "finetune toy.csv --precision fp16": ["'precision' is 'fp16'", "'fp32' or 'bf16'"],
    "finetune toy.csv --mlm-probability 0.2": ["'mlm_probability'", "masked_lm"],
    # run.toml
    "finetune missing.toml": ["no file missing.toml"],
    "finetune unknown_key.toml": ["unknown_key.toml: There is no setting 'lerning_rate'", "'learning_rate'?"],
    "finetune broken.toml": ["broken.toml", "line 1, column 16"],
    "finetune no_data.toml": ["no_data.toml", 'data = "file.csv"'],
    "finetune bad_value.toml": ["bad_value.toml: Setting 'max_steps' is 'many'", "a whole number"],
    "finetune bad_task.toml": ["'task' is {'name': 'classification'}"],
    "finetune bad_threads.toml": ["bad_threads.toml: threads is 'two'"],
    "finetune toy.csv --max-length 100000": ["--max-length 100000", "512 tokens"],
    "finetune toy.csv --test=": ["'test' is ''", "not empty"],
    "finetune no_file.toml": ["'missing.csv'"],
    # models
    "finetune toy.csv --model no_config": ["no_config", "config.json is missing", "afina/bert-mini-es-en"],
    "finetune toy.csv --model broken_config": ["broken_config/config.json"],
    "finetune toy.csv --model odd_config": ["odd_config/config.json"],
    "finetune toy.csv --model unknown_kind": ["unknown_kind", "nosuch"],
    "finetune toy.csv --model own_code": ["own_code needs code of its own", "never"],
    "finetune toy.csv --model pickled": [
        "pickled has no weights in safetensors",
        "run any code",
        "python -c",
    ],
    "finetune toy.csv --model truncated": ["truncated/model.safetensors", "copy the file again"],
    "finetune toy.csv --model empty_weights": ["empty_weights/model.safetensors"],
    "finetune toy.csv --model no_tokenizer": ["no_tokenizer holds no tokenizer", "tokenizer.json"],
    "finetune toy.csv --model broken_tokenizer": ["tokenizer in broken_tokenizer cannot be read"],
    "finetune toy.csv --model other_tokenizer": ["other_tokenizer", "100", "belong together"],
    "finetune toy.csv --model other_shape": ["other_shape", "do not fit its config.json"],
    "finetune toy.csv --model other_weights": ["other_weights", "do not fit its config.json"],
    "finetune toy.csv --model afina/bert-mini": ["'afina/bert-mini'", "'afina/bert-mini-es-en'?"],
    "finetune toy.csv --model toy.csv": ["toy.csv is no folder with a model"],
    "finetune toy.csv --model nosuch/model --offline": [
        "'nosuch/model'",
        "--offline",
        "afina/bert-mini-es-en",
    ],
    # the run's folder
    "finetune done.csv": ["runs/done holds a run", "--resume", "--overwrite", "--output-dir"],
    "finetune toy.csv --output-dir toy.csv": ["toy.csv is a file"],
    "finetune toy.csv --output-dir toy.csv/run": ["toy.csv is a file"],
    "finetune toy.csv --output-dir things --overwrite": ["things holds other things"],
    "finetune toy.csv --output-dir best_of_mine": ["best_of_mine holds other things"],
    "finetune toy.csv --output-dir new --resume": ["new holds no run to resume"],
    "finetune done.csv --resume --max-steps 3": ["--max-steps 2, not 3"],
    "finetune done.csv --resume --dropout 0.5": ["--dropout None, not 0.5"],
    "finetune three.csv --output-dir runs/done --resume": ["done.csv", "not three.csv"],
    # the other verbs
    "evaluate things toy.csv": ["things is no folder of a run"],
    "evaluate runs/done": ["DATA is missing"],
    "evaluate runs/done missing.csv": ["'missing.csv'"],
    "evaluate runs/done no_label.csv": ["no_label.csv", "--label"],
    "evaluate runs/done toy.csv --label lable": ["no column 'lable'", "'label'?"],
    "evaluate runs/done blank.csv": ["blank.csv has no row"],
    "predict nowhere hola": ["nowhere is no folder of a run"],
    "predict runs/done": ["Name a text, a file"],
    "predict runs/done missing.csv": ["'missing.csv'"],
    "predict runs/done toy.csv hola": ["toy.csv is a file"],
    "predict runs/done toy.csv --text texto": ["no column 'texto'"],
    "predict runs/done toy.csv --output nowhere/out.csv": ["nowhere/out.csv cannot be written"],
    "predict runs/done toy.csv --output things": ["things cannot be written"],
    "models lst": ["afina models list", "afina models save NAME FOLDER"],
    "models save afina/bert-mini x": ["'afina/bert-mini'", "'afina/bert-mini-es-en'?"],
    "models save afina/bert-mini-es-en toy.csv": ["toy.csv is a file"],
    "models save afina/bert-mini-es-en things --overwrite": ["things is not empty"],
    "models save afina/bert-mini-es-en tiny": ["tiny holds a model", "--overwrite"],
    "pretrain missing.txt": ["missing.txt does not exist"],
    "pretrain toy.csv --tokenizer things --output-dir new": ["tokenizer in things"],
    "pretrain toy.csv --shape huge": ["'shape' is 'huge'", "'tiny'"],
}


@pytest.mark.parametrize("words", CASES)
def test_one_sentence_and_nothing_written(words: str, prepared: Path, afina_: Command) -> None:
    before = toy.content(prepared)
    said = afina_(*words.split())
    assert said.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    for part in CASES[words]:
        assert part in said.err
    assert toy.content(prepared) == before


def test_the_real_command_exits_with_2(prepared: Path) -> None:
    command = Path(sys.executable).with_name("afina")
    told = subprocess.run([command, "finetune", "toi.csv"], cwd=prepared, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == "There is no file or folder 'toi.csv'. Did you mean 'toy.csv'?\n"


def test_spanish(afina_: Command) -> None:
    assert afina_("finetune", "missing.csv", "--lang", "es").code == 2
    assert afina_("finetune", "toy.csv", "--sed", "1", "--lang=es").code == 2


def test_from_python_it_is_an_input_error(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)
    for settings in ({"learning_rat": 1}, {"task": 3}, {"method": object()}, {"max_steps": [1]}):
        with pytest.raises(InputError):
            afina.finetune("toy.csv", output_dir="python", **settings)
    with pytest.raises(InputError, match="no setting"):
        models("list", overwite=True)
    assert not Path("python").exists()


def test_a_folder_that_may_not_be_written(afina_: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: mode != os.W_OK)
    said = afina_("finetune", "toy.csv", "--output-dir", "things/run")
    assert said.code == 2
    assert "Cannot write" in said.err and os.strerror(errno.EACCES) in said.err


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No network, and what was looked for in it; the Hugging Face libraries do not know of `HF_HUB_OFFLINE`."""
    from huggingface_hub import constants

    asked: list[str] = []

    def getaddrinfo(host: str, *_rest: object, **_more: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return asked


def test_without_network_the_embedded_models_are_named(afina_: Command, unreachable: list[str]) -> None:
    said = afina_("finetune", "toy.csv", "--model", "nosuch/model", "--output-dir", "new")
    assert unreachable
    assert said.code == 2
    assert "'nosuch/model'" in said.err and "cannot be reached" in said.err
    assert "afina/bert-mini-es-en" in said.err
    assert not Path("new").exists()


def test_offline_looks_nothing_up(afina_: Command, unreachable: list[str]) -> None:
    said = afina_("finetune", "toy.csv", "--model", "nosuch/model", "--output-dir", "new", "--offline")
    assert said.code == 2
    said = afina_("finetune", "nosuch/data", "--output-dir", "new", "--offline")
    assert said.code == 2
    said = afina_("finetune", "toy.csv", "--model", "tiny", "--output-dir", "new", "--offline", "--dry-run")
    assert said.code == 0
    assert unreachable == []


@pytest.mark.parametrize("kilobytes", [100, 300])
def test_a_full_disk_leaves_nothing_half_written(
    kilobytes: int, afina_: Command, tmp_path: Path, prepared: Path
) -> None:
    """At 100 KB the weights do not fit, at 300 KB the tokenizer's file does not."""
    small, run = toy.model(tmp_path / "small", width=4), tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, before[1]))
    try:
        said = afina_(
            "finetune", "toy.csv", "--model", small, "--output-dir", run, "--max-steps", "1", "--quiet"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said.code == 2
    assert said.err.startswith(f"Cannot write {run / 'best'}: ")
    assert "Free some space" in said.err
    assert said.err.count("\n") == 1
    assert sorted(file.name for file in run.iterdir()) == ["run.toml", "steps.jsonl"]
    assert afina_("finetune", "toy.csv", "--output-dir", run, "--resume", "--quiet").code == 0
    assert (run / "report.html").is_file()


def test_a_disk_full_in_mid_run_keeps_the_last_checkpoint(
    afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from afina.train import checkpoint

    words = ("finetune", "toy.csv", "--model", "tiny", "--max-steps", "6", "--save-steps", "2", "--quiet")
    assert afina_(*words, "--output-dir", tmp_path / "straight").code == 0
    save, run, calls = checkpoint.save_file, tmp_path / "run", []

    def fails(*given: object) -> None:
        calls.append(given)
        if len(calls) == 4:  # the optimizer's state of the second checkpoint
            Path(str(given[1])).write_bytes(b"half")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save(*given)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", fails)
        said = afina_(*words, "--output-dir", run)
    assert said.code == 2
    assert "Cannot write" in said.err and "No space left" in said.err
    assert checkpoint.progress(run / "last")["step"] == 2  # type: ignore[index]
    assert not list(run.glob("*.new"))
    assert afina_(*words, "--output-dir", run, "--resume").code == 0
    assert toy.weights(run) == toy.weights(tmp_path / "straight")
    assert toy.steps(run) == toy.steps(tmp_path / "straight")


def test_overwriting_a_run_spares_what_is_not_of_the_run(afina_: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("finetune", "toy.csv", "--model", "tiny", "--max-steps", "1", "--quiet", "--output-dir", run)
    assert afina_(*words).code == 0
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    (run / "predictions.csv").write_text("old", encoding="utf-8")
    assert afina_(*words, "--overwrite").code == 0
    assert (run / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (run / "predictions.csv").read_text(encoding="utf-8") != "old"


def test_an_unfinished_run_says_how_to_go_on(afina_: Command, prepared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(prepared / "runs" / "done" / "run.toml", run)
    for words in (("predict", run, "hola"), ("evaluate", run, "toy.csv")):
        said = afina_(*words)
        assert said.code == 2
        assert "--resume" in said.err and str(run) in said.err


def test_a_run_whose_model_is_damaged(afina_: Command, prepared: Path, tmp_path: Path) -> None:
    for broken in ("afina.json", "config.json", "model.safetensors", "tokenizer.json"):
        run = tmp_path / broken
        shutil.copytree(prepared / "runs" / "done", run)
        (run / "best" / broken).write_text("{", encoding="utf-8")
        said = afina_("predict", run, "hola")
        assert said.code == 2
        assert said.err.count("\n") == 1
        assert str(run / "best") in said.err


def test_a_model_with_another_head_is_taken_without_it(afina_: Command, tmp_path: Path) -> None:
    """The run's model knows two labels; three are learnt from it."""
    words = ("finetune", "three.csv", "--model", "runs/done", "--max-steps", "1", "--json", "--quiet")
    said = afina_(*words, "--output-dir", tmp_path / "run")
    assert said.code == 0
    config = json.loads((tmp_path / "run" / "best" / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "bien", "1": "mal", "2": "regular"}


QUESTIONS = "".join(
    json.dumps({"title": str(i % 2), "context": f"b {i}", "question": "c", "answers": {"text": ["b"]}}) + "\n"
    for i in range(20)
)


@pytest.mark.parametrize(
    ("name", "content", "code", "task"),
    [
        ("news.conll", "Ana B-PER\nduerme O\n\nHola O\n", 2, "token_labels"),
        ("chat.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n', 2, "chat"),
        ("questions.jsonl", QUESTIONS, 0, "extractive_qa"),
    ],
)
def test_data_of_another_task_are_called_so(
    name: str, content: str, code: int, task: str, afina_: Command, tmp_path: Path, prepared: Path
) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    columns = ("--text", "context") if not code else ()
    said = afina_("finetune", file, "--model", "tiny", "--dry-run", *columns)
    assert said.code == code, said.err
    assert f"{file} has the form of data for another task: --task {task}." in said.err
    if not code:  # who names both columns knows what is wanted
        said = afina_("finetune", file, "--model", "tiny", "--dry-run", *columns, "--label", "title")
        assert "another task" not in said.err
