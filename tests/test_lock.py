"""One process at a time in a run's folder, and a run that ends with the comparison that it is of."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import pytest

import toy
from afina.errors import InputError
from afina.train import folder, lock
from afina.train.lock import take, until_done

Command = Callable[..., toy.Said]
HOLD = """
import sys, time
from pathlib import Path
from afina.train.lock import take
take(Path(sys.argv[1]))
print("in", flush=True)
time.sleep(60)
"""


def holder(place: Path) -> "subprocess.Popen[str]":
    """Return a process that is at work in the folder."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "in\n"
    return child


def test_only_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT", 0.3)
    (tmp_path / "run.toml").touch()
    with holder(tmp_path) as other:
        with pytest.raises(InputError, match="Another process is at work"):
            folder.claim(tmp_path, resume=False, overwrite=True)
        assert (tmp_path / "run.toml").exists()
        with pytest.raises(InputError, match="Another process is at work"):
            folder.claim(tmp_path, resume=True, overwrite=False)
        other.kill()
    with until_done():  # the system has let go of it with the process
        folder.claim(tmp_path, resume=True, overwrite=False)


def test_who_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    with holder(tmp_path) as other, until_done():
        began = time.monotonic()
        Timer(0.5, other.kill).start()
        take(tmp_path)
        assert 0.3 < time.monotonic() - began < 10


def test_a_folder_is_held_until_its_verb_is_done(tmp_path: Path) -> None:
    """Also where one verb is part of another, and where it fails."""
    (tmp_path / "inner").mkdir()

    @until_done()
    def verb(place: Path) -> None:
        take(place)
        take(place)
        if place == tmp_path:
            verb(place / "inner")
            assert held() == [tmp_path]
            raise InputError("as it happens")
        assert held() == [tmp_path, place]

    def held() -> list[Path]:
        return sorted(lock._held)

    with pytest.raises(InputError, match="as it happens"):
        verb(tmp_path)
    assert not held()


def test_a_run_ends_with_its_comparison_and_goes_on_with_the_next(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, a comparison cannot end its runs: the next one would write into the same folders beside them."""
    monkeypatch.chdir(tmp_path)
    toy.table(Path("toy.csv"))
    toy.model(Path("tiny"))
    words = [
        "compare",
        "toy.csv",
        "--methods",
        "full",
        "--models",
        "tiny",
        "--seeds",
        "1",
        "--max-steps",
        "400",
    ]
    words += ["--early-stopping-patience", "1000", "--eval-steps", "200", "--save-steps", "20", "--quiet"]
    first = subprocess.Popen([sys.executable, "-m", "afina", *words], stderr=subprocess.DEVNULL)
    run = Path("runs/toy-compare/runs/full-0")
    until = time.monotonic() + 120
    while not (run / "last").is_dir():
        assert time.monotonic() < until and first.poll() is None
        time.sleep(0.05)
    threads = Path(f"/proc/{first.pid}/task").glob("*/children")
    (child,) = [int(pid) for thread in threads for pid in thread.read_text().split()]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    said = toy.command(capfd)(*words, "--resume", "--json")
    assert said.code == 0
    assert [line["error"] for line in said.json["rows"]] == [None] * 4
    assert not Path(f"/proc/{child}").exists()
    steps = [step["step"] for step in toy.steps(run) if "grad_norm" in step]
    assert steps == list(range(1, 401))
