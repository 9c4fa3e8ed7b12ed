"""The command line: fast, explained, one JSON line, quiet when asked, and stopped without loss."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import afina
import toy
from afina import cli
from afina.names import known

AFINA = Path(sys.executable).with_name("afina")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
SETTINGS = ("--max-steps", "80", "--eval-steps", "20", "--save-steps", "5", "--dropout", "0.2", "--quiet")
HEAVY = {
    "torch",
    "transformers",
    "sklearn",
    "scipy",
    "pandas",
    "datasets",
    "accelerate",
    "peft",
    "matplotlib",
}

one_thread = pytest.fixture(scope="module")(toy.one_thread)
Command = Callable[..., toy.Said]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, tiny: Path, one_thread: None) -> Path:
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("straight")
    words = [
        "finetune",
        toy.table(folder / "toy.csv"),
        "--model",
        tiny,
        "--output-dir",
        folder / "run",
        *SETTINGS,
    ]
    assert cli.run([str(word) for word in words]) == 0
    return folder / "run"


@pytest.fixture
def afina_(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, in a folder that holds `toy.csv` and nothing else."""
    monkeypatch.chdir(tmp_path)
    toy.table(tmp_path / "toy.csv")
    return toy.command(capfd)


def in_a_fresh_process(code: str) -> Any:
    """Return what the code leaves in `found`, the CPU seconds of the process and the modules it loaded."""
    code += (
        "\nimport json, resource, sys\nused = resource.getrusage(resource.RUSAGE_SELF)"
        "\nprint(json.dumps([found, used.ru_utime + used.ru_stime, sorted(sys.modules)]))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(told.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    ["import afina; found = dir(afina)", "from afina.cli import run; found = run(['--help'])"],
    ids=["import", "help"],
)
def test_quick_and_without_torch(code: str) -> None:
    runs = [in_a_fresh_process(code) for _attempt in range(3)]
    assert min(seconds for _found, seconds, _modules in runs) < 0.3
    assert not HEAVY.intersection(runs[0][2])


def test_a_verb_s_help_loads_no_torch() -> None:
    found, _seconds, modules = in_a_fresh_process(
        "from afina.cli import run; found = run(['finetune', '--help'])"
    )
    assert found == 0
    assert not HEAVY.intersection(modules)


def test_help_names_every_verb(afina_: Command) -> None:
    said = afina_("--help")
    assert (said.code, said.err) == (0, "")
    assert all(f"\n  {verb} " in said.out for verb in cli.VERBS)
    assert set(cli.VERBS) <= set(known("verbs"))
    assert afina_().out == said.out
    assert afina_("--version").out.strip() == afina.__version__


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_flag_has_a_sentence(verb: str, afina_: Command) -> None:
    group = cli.Verbs("afina")
    made = group.get_command(click.Context(group), verb)
    assert made is not None
    options = [param for param in made.params if isinstance(param, click.Option)]
    names = [name for option in options for name in option.opts]
    assert len(names) == len(set(names))
    for option in options:
        sentence = (option.help or "").partition(" [default: ")[0]
        assert sentence[-1:] in (".", "?"), option.name
    assert {"--offline", "--quiet", "--lang", "--json"} <= set(names)
    said = afina_(verb, "--help")
    assert said.code == 0
    assert all(name in said.out for name in names)


def test_what_interface_promises_of_finetune_s_flags(afina_: Command) -> None:
    told = afina_("finetune", "--help").out
    for name in (
        *("validation", "test", "text", "label", "task", "method", "model", "random-weights", "output-dir"),
        *("seed", "learning-rate", "num-train-epochs", "max-steps", "max-length", "weight-decay", "dropout"),
        *("resume", "dry-run", "offline", "quiet", "json", "lang"),
    ):
        assert f"--{name} " in told


def test_dry_run_writes_nothing_and_says_what_would_be_done(
    afina_: Command, tiny: Path, tmp_path: Path
) -> None:
    before = toy.content(tmp_path)
    said = afina_("finetune", "toy.csv", "--model", tiny, "--dry-run", "--max-steps", "7")
    assert (said.code, said.out) == (0, "")
    for part in ("28 rows to train on", "7 steps", "--dry-run", "runs/toy"):
        assert part in said.err
    assert toy.content(tmp_path) == before


def test_quiet_says_nothing(afina_: Command, tiny: Path) -> None:
    said = afina_("finetune", "toy.csv", "--model", tiny, "--max-steps", "2", "--quiet", "--json")
    assert (said.code, said.err) == (0, "")
    assert said.json["run"] == "runs/toy"
    assert afina_("predict", "runs/toy", "hola", "--quiet").err == ""


def test_for_a_person(afina_: Command, tiny: Path) -> None:
    said = afina_("finetune", "toy.csv", "--model", tiny, "--max-steps", "2")
    assert said.code == 0
    for part in ("macro-F1", "Majority", "TF-IDF", "runs/toy/best", "runs/toy/report.html"):
        assert part in said.out
    value = json.loads(Path("runs/toy/scores.json").read_text(encoding="utf-8"))["scores"]["test"][
        "macro_f1"
    ]["value"]
    assert f"{value:.3f}" in said.out
    assert "'label' is taken as the label" in said.err
    assert all(len(line) < 81 for line in said.out.splitlines() if "│" in line)


def test_a_reader_that_leaves_is_no_fault() -> None:
    ends = os.pipe()
    os.close(ends[0])
    told = subprocess.run([AFINA, "--help"], stdout=ends[1], stderr=subprocess.PIPE, text=True)
    os.close(ends[1])
    assert (told.returncode, told.stderr) == (0, "")


def begun(words: tuple[Any, ...], folder: Path) -> subprocess.Popen[str]:
    command = [AFINA, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=ONE_THREAD)


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if (run / "steps.jsonl").is_file() and f'"step": {step},' in (run / "steps.jsonl").read_text(
            encoding="utf-8"
        ):
            return
        time.sleep(0.005)
    process.kill()
    pytest.fail(f"step {step} never came: {process.communicate()}")


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_stopped_and_resumed_is_bit_equal_to_the_straight_run(
    by: signal.Signals, afina_: Command, tiny: Path, straight: Path, tmp_path: Path
) -> None:
    words = ("finetune", "toy.csv", "--model", tiny, "--output-dir", "run", *SETTINGS)
    process = begun(words, tmp_path)
    wait_for_step(process, tmp_path / "run", 7)
    process.send_signal(by)
    out, err = process.communicate(timeout=60)
    steps = len(toy.steps(tmp_path / "run"))
    assert 7 <= steps < 80
    if by == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        with (tmp_path / "run" / "steps.jsonl").open("a", encoding="utf-8") as stream:
            stream.write('{"step": 81, "lo')  # what a crash may leave of a line
    else:
        assert (process.returncode, out) == (130, "")
        assert err.count("\n") == 1
        assert "--resume" in err and "Stopped after step" in err
    assert not (tmp_path / "run" / "scores.json").exists()
    said = afina_(*words, "--resume", "--json")
    assert said.code == 0
    assert toy.weights(tmp_path / "run") == toy.weights(straight)
    assert toy.steps(tmp_path / "run") == toy.steps(straight)
    assert said.json["scores"] == json.loads((straight / "scores.json").read_text(encoding="utf-8"))["scores"]


def test_ctrl_c_while_the_data_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow.csv")
    process = begun(("finetune", "slow.csv"), tmp_path)
    with (tmp_path / "slow.csv").open(
        "w", encoding="utf-8"
    ):  # returns when the command has opened it to read
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.strip().startswith("Interrupted.")
    assert "Traceback" not in err
    assert [file.name for file in tmp_path.iterdir()] == ["slow.csv"]


def test_only_verbs_that_can_go_on_say_so(afina_: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("afina.cli._call", interrupted)
    said = {
        verb: afina_(verb, "run", "a text").err.strip()
        for verb in ("finetune", "pretrain", "predict", "evaluate")
    }
    assert said["predict"] == said["evaluate"] == "Interrupted."
    assert "--resume" in said["finetune"] and "--resume" in said["pretrain"]


def test_ctrl_c_while_it_is_measured(afina_: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_given: object) -> None:
        raise KeyboardInterrupt

    words = ("finetune", "toy.csv", "--model", tiny, "--max-steps", "2", "--quiet", "--json")
    with monkeypatch.context() as patch:
        patch.setattr("afina.verbs.finetune.measure", interrupted)
        said = afina_(*words)
    assert (said.code, said.out) == (130, "")
    assert "--resume" in said.err
    before = toy.weights(Path("runs/toy"))
    said = afina_(*words, "--resume")
    assert said.code == 0
    assert said.json["scores"]["test"]["macro_f1"]["n"] == 6
    assert toy.weights(Path("runs/toy")) == before


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05])
def test_ctrl_c_in_the_first_moments(seconds: float, tmp_path: Path) -> None:
    """As soon as afina's own code runs, Ctrl-C ends it without a traceback."""
    code = "import sys, afina.__main__ as a; print('here', flush=True); a.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "models", "list"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode in (0, 130)
