"""`compare --runner ray`: what it asks of a cluster, what it says where there is none, and the same results."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import toy
from afina.errors import InputError, Interrupted
from afina.train.interrupt import Stop
from afina.verbs import _runners, _trials
from afina.verbs._runners import LATE, Runner, local, on_ray, process

Command = Callable[..., toy.Said]
FLAGS = ("--methods", "full", "--models", "tiny", "--max-steps", "3", "--json")
ASKED = {"data": "toy.csv", "settings": {}}
COSTS = {"run", "seconds", "rows_per_s", "tokens_per_s", "share_of_peak", "peak_memory_mb", "latency_ms"}


class Away:
    """A function that is carried out elsewhere: here at once, after a journey as bytes."""

    def __init__(self, ray: "StandIn", function: Callable[..., Any], needs: dict[str, Any]) -> None:
        self.ray, self.function, self.needs = ray, function, needs

    def options(self, **_where: Any) -> "Away":
        return self

    def remote(self, *given: Any) -> Any:
        self.ray.begun.append((self.function.__name__, self.needs))
        function, given = pickle.loads(pickle.dumps((self.function, given)))
        try:
            return function(*given)
        except OSError as error:
            return self.ray.exceptions.RayError(f"Traceback …\n\n{error}\n")


class StandIn(ModuleType):
    """As much of Ray as afina uses, on machines that are made up."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.machines: tuple[dict[str, float], ...] = ({"CPU": 2.0},)
        self.begun: list[tuple[str, dict[str, Any]]] = []
        self.refuse: Exception | None = None
        self.connected = False
        lost = type("RayError", (Exception,), {})
        cancelled = type("TaskCancelledError", (lost,), {})
        self.exceptions = SimpleNamespace(RayError=lost, TaskCancelledError=cancelled)

    def is_initialized(self) -> bool:
        return self.connected

    def init(self, address: str, **_quietly: Any) -> None:
        assert address == "auto"
        if self.refuse:
            raise self.refuse
        self.connected = True

    def nodes(self) -> list[dict[str, Any]]:
        names = ("NodeID", "NodeManagerHostname", "Alive", "Resources")
        dead = ("dead", "gone", False, {"CPU": 64.0})
        alive = [(str(i), f"machine-{i}", True, has) for i, has in enumerate(self.machines)]
        return [dict(zip(names, node, strict=True)) for node in (dead, *alive)]

    def remote(self, **needs: Any) -> Callable[[Callable[..., Any]], Away]:
        return lambda function: Away(self, function, needs)

    def wait(self, tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return tasks, []

    def get(self, task: Any) -> Any:
        if isinstance(task, Exception):
            raise task
        return task


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """The stand-in, in a folder with `toy.csv`, and two threads to share out."""
    stand_in, scheduling = StandIn(), ModuleType("ray.util.scheduling_strategies")
    scheduling.NodeAffinitySchedulingStrategy = lambda machine, soft: machine  # type: ignore[attr-defined]
    for name, module in {
        "ray": stand_in,
        "ray.util": ModuleType("ray.util"),
        scheduling.__name__: scheduling,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    toy.table(tmp_path / "toy.csv")
    return stand_in


def one_run(runner: Runner, folder: Path, until: float | None = None) -> str | None:
    return runner.run(folder, ASKED, until, Stop())


def test_without_ray_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(InputError, match=r'pip install "afina\[ray\]"'):
        on_ray(1, tmp_path)


@pytest.mark.parametrize(
    "refuse",
    [ConnectionError("Could not find any.\nMore"), RuntimeError("Version mismatch"), ValueError("x")],
)
def test_without_a_cluster_nothing_is_started(ray: StandIn, refuse: Exception, capfd: Any) -> None:
    ray.refuse = refuse
    before = toy.content(Path())
    said = toy.command(capfd)("compare", "toy.csv", "--methods", "full", "--runner", "ray")
    assert said.code == 2 and "No Ray cluster can be reached" in said.err and "RAY_ADDRESS" in said.err
    assert str(refuse).splitlines()[0].rstrip(".") in said.err and "More" not in said.err
    assert toy.content(Path()) == before and ray.begun == []


def test_an_address_with_which_ray_would_start_a_cluster_is_refused(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(InputError, match="RAY_ADDRESS=local"):
        on_ray(1, Path())
    assert not ray.connected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_where_nobody_listens_is_said_at_once(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listened at
        monkeypatch.setenv("RAY_ADDRESS", f"{host}:{nobody.getsockname()[1]}")
        with pytest.raises(InputError, match="refused"):
            on_ray(1, Path())
    monkeypatch.setenv("RAY_ADDRESS", f"{host}:99999")
    with pytest.raises(InputError, match="No Ray cluster can be reached"):
        on_ray(1, Path())
    assert not ray.connected


def test_nothing_is_reported_to_the_makers_of_ray(ray: StandIn) -> None:
    on_ray(1, Path("new"))
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_run_that_no_machine_has_room_for_is_refused(ray: StandIn) -> None:
    ray.machines = ({"CPU": 1.0}, {"memory": 1e9}, {"CPU": 1.0})
    with pytest.raises(InputError, match="2 threads"):
        on_ray(1, Path("new"))
    assert on_ray(2, Path("new")).at_once == 2


def answering(monkeypatch: pytest.MonkeyPatch, unseen: Callable[[list[Path]], list[Path]]) -> None:
    """Let other machines answer so when they are asked what they do not see."""
    unseen.__module__, unseen.__name__, unseen.__qualname__ = _runners.__name__, "unseen", "unseen"
    monkeypatch.setattr(_runners, "unseen", unseen)


def test_a_machine_that_does_not_see_the_disk_is_named(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.machines = ({"CPU": 2.0}, {"CPU": 2.0})
    told = iter(([], [Path("/one")]))
    answering(monkeypatch, lambda _paths: next(told))
    with pytest.raises(InputError, match=r"machine-1 .*does not see the folder /one "):
        on_ray(1, Path("runs/new"))
    asked: list[Path] = []
    answering(monkeypatch, lambda paths: asked.extend(paths) or [path for path in paths if path.is_file()])
    with pytest.raises(InputError, match=f"machine-0 .* folder {Path.cwd()} "):
        on_ray(1, Path("runs/new"))
    assert asked[1] == Path.cwd() and asked[0].parent == Path.cwd() and not asked[0].exists()


def test_a_machine_without_afina_is_named(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_paths: list[Path]) -> list[Path]:
        raise OSError("ModuleNotFoundError: No module named 'afina'")

    answering(monkeypatch, fails)
    with pytest.raises(InputError, match=r"machine-0 .*No module named 'afina'\)"):
        on_ray(1, Path("new"))


@pytest.mark.parametrize(("workers", "threads", "at_once"), [(1, 2, 5), (2, 1, 11)])
def test_each_run_is_one_task_with_its_threads(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch, workers: int, threads: int, at_once: int
) -> None:
    ray.machines = ({"CPU": 8.0}, {"CPU": 3.0}, {"GPU": 1.0})
    runner = on_ray(workers, Path("new"))
    assert runner.at_once == at_once
    monkeypatch.setattr(subprocess, "Popen", Ended)
    Path("runs").mkdir()
    assert [one_run(runner, Path("runs") / name) for name in ("a", "b")] == [None, None]
    needs = {"num_cpus": threads, "num_gpus": 0, "max_retries": 0}
    assert [task for task in ray.begun if task[0] == "process"] == [("process", needs)] * 2
    assert [task for task in ray.begun if task[0] == "unseen"] == [("unseen", {"num_cpus": 0})] * 2
    assert Ended.env["OMP_NUM_THREADS"] == str(threads) and Ended.env["CUDA_VISIBLE_DEVICES"] == ""
    assert Ended.env["HF_HUB_OFFLINE"] == "1" and Ended.env["LANGUAGE"] == "en"
    assert Ended.words[-2:] == ["runs/b", str(os.getpid())] and Ended.start == Path.cwd()
    assert json.loads(Path("runs/b/trial.json").read_text(encoding="utf-8")) == ASKED


def test_where_this_machine_has_a_gpu_so_has_a_run(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ray.machines = ({"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0})
    runner = on_ray(2, Path("new"))
    assert runner.at_once == 4
    monkeypatch.setattr(subprocess, "Popen", Ended)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert one_run(runner, Path("a")) is None
    assert ray.begun[-1] == ("process", {"num_cpus": 1, "num_gpus": 0.5, "max_retries": 0})
    assert "CUDA_VISIBLE_DEVICES" not in Ended.env


class Ended:
    """A process that has ended well as soon as it has begun; it keeps what it was begun with."""

    env: dict[str, str]
    words: list[str]
    start: Path
    returncode = 0

    def __init__(self, words: list[str], **how: Any) -> None:
        Ended.words, Ended.env, Ended.start = words, how["env"], how["cwd"]

    def communicate(self, timeout: float) -> tuple[None, str]:
        return None, ""


def test_a_task_that_is_lost_is_a_row_that_says_so(ray: StandIn) -> None:
    trials = [_trials.trial("full", "tiny", 0, {})]
    runner = on_ray(1, Path("runs"))
    (done,) = _trials.carry_out(
        trials, "toy.csv", {}, Path("nowhere"), runner=runner, until=None, tell=lambda _line: None
    )  # fmt: skip
    assert (
        done.result is None and done.error and done.error.startswith("[Errno 2]") and "full-0" in done.error
    )
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("where", [local, on_ray])
def test_no_run_begins_after_its_time(ray: StandIn, where: Callable[[int, Path], Runner]) -> None:
    assert one_run(where(1, Path()), Path("late"), until=time.time() - 1) == LATE
    assert not Path("late").exists()


def test_ctrl_c_cancels_what_runs_and_begins_nothing_more(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[Any] = []
    waited: list[Any] = []

    def wait(tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        waited.append(timeout)
        if len(waited) == 3:  # once: a second one, before the first is noted, would end the test process
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return [], tasks

    monkeypatch.setattr(ray, "wait", wait, raising=False)
    monkeypatch.setattr(ray, "cancel", cancelled.append, raising=False)
    monkeypatch.setattr(ray, "get", lambda task: _raise(ray.exceptions.TaskCancelledError()), raising=False)
    monkeypatch.setattr(_runners, "_check_disk", lambda *_where: None)
    monkeypatch.setattr(subprocess, "Popen", Ended)
    told: list[str] = []
    trials = [_trials.trial("full", "tiny", seed, {}) for seed in (0, 1, 2)]
    with pytest.raises(Interrupted, match="--resume"):
        _trials.carry_out(
            trials, "toy.csv", {}, Path(), runner=on_ray(1, Path()), until=None, tell=told.append
        )  # fmt: skip
    assert len(cancelled) == 1 and len(told) == 1 and told[0].endswith(": stopped")
    assert not Path("full-1").exists()


def _raise(error: Exception) -> None:
    raise error


def test_a_cancelled_run_keeps_its_state_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, kept = tmp_path / "ready", tmp_path / "kept"
    code = f"""
import pathlib, signal, sys, time
def keep(*_): time.sleep(1); pathlib.Path({str(kept)!r}).touch(); sys.exit("Stopped.")
signal.signal(signal.SIGTERM, keep)
pathlib.Path({str(ready)!r}).touch()
time.sleep(60)
"""
    real = subprocess.Popen

    def popen(_words: list[str], **how: Any) -> Any:
        return real([sys.executable, "-c", code], **how)

    monkeypatch.setattr(subprocess, "Popen", popen)

    def interrupt() -> None:
        while not ready.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)  # Ray raises the same in the task

    with ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt)
        env = {"LANGUAGE": "en"}
        assert process(tmp_path, Path("run"), ASKED, env, None) == "Stopped."
    assert kept.exists()


def figures(place: Path) -> dict[str, Any]:
    """Return what the runs of a comparison have found, without what depends on the clock."""
    found: dict[str, Any] = {}
    for file in sorted(place.glob("runs/*/*.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        found[f"{file.parent.name}/{file.name}"] = {k: v for k, v in told.items() if k not in COSTS}
    for run in sorted(place.glob("runs/*/best/model.safetensors")):
        found[run.parents[1].name] = toy.weights(run.parents[1])
    assert len(found) == 8, [*found]
    return found


@pytest.mark.slow
def test_results_are_those_of_the_local_runner(
    ray: StandIn, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    toy.model(Path("tiny"))
    here = toy.command(capfd)("compare", "toy.csv", *FLAGS, "--seeds", "1", "--output-dir", "here")
    away = toy.command(capfd)(
        "compare", "toy.csv", *FLAGS, "--seeds", "1", "--output-dir", "away", "--runner", "ray"
    )
    assert (here.code, away.code) == (0, 0), here.err + away.err
    assert [name for name, _needs in ray.begun] == ["unseen", "process", "process"]
    assert figures(Path("away")) == figures(Path("here"))
    assert [line["scores"] for line in away.json["rows"]] == [line["scores"] for line in here.json["rows"]]
    assert {file.name for file in Path("away").iterdir()} == {file.name for file in Path("here").iterdir()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of this machine alone, with two processors."""
    if find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'afina[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as place:  # whose path must be short
        port = address.rpartition(":")[2]
        head = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
                *("--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={place}"),
                "--include-dashboard=false",
            ],
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield address
        finally:
            head.terminate()
            head.wait(60)


def compare_on(cluster: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "afina", "compare", "toy.csv", *FLAGS, "--runner", "ray", *words],
        env=os.environ | {"RAY_ADDRESS": cluster, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_on_a_cluster_results_are_those_of_the_local_runner(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    toy.table(tmp_path / "toy.csv")
    toy.model(tmp_path / "tiny")
    out, err = (away := compare_on(cluster, "--seeds", "1", "--output-dir", "away")).communicate()
    assert away.returncode == 0, err
    assert [line["error"] for line in json.loads(out)["rows"]] == [None] * 4
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    here = toy.command(capfd)("compare", "toy.csv", *FLAGS, "--seeds", "1", "--output-dir", "here")
    assert here.code == 0, here.err
    assert figures(Path("away")) == figures(Path("here"))


@pytest.mark.slow
def test_on_a_cluster_ctrl_c_keeps_what_runs_and_the_local_runner_goes_on(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    toy.table(tmp_path / "toy.csv")
    toy.model(tmp_path / "tiny")
    flags = ("--seeds", "1", "--max-steps", "300", "--eval-steps", "300")
    away = compare_on(cluster, *flags)
    steps = Path("runs/toy-compare/runs/full-0/steps.jsonl")
    while away.poll() is None and not (steps.exists() and steps.read_text(encoding="utf-8").count("\n") > 5):
        time.sleep(0.1)
    away.send_signal(signal.SIGINT)
    _out, err = away.communicate()
    assert away.returncode == 130, err
    assert (steps.parent / "last").is_dir() and not (steps.parent / "scores.json").exists()
    began = len(toy.steps(steps.parent))
    on = toy.command(capfd)("compare", "toy.csv", *FLAGS, *flags, "--resume", "--runner", "local")
    assert on.code == 0 and [line["error"] for line in on.json["rows"]] == [None] * 4, on.err
    numbers = [line["step"] for line in toy.steps(steps.parent)]
    assert began > 5 and numbers[began] == began + 1 and numbers[-1] == 300
