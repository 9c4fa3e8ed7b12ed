"""Where the runs of a comparison are carried out: on this machine, or on a Ray cluster that is there already.

Both start the same process (`_trial.py`) with the same threads, so the results are the same. Ray only says on which
machine and when: no file travels through it, a run reads and writes a disk that all machines share.
"""

import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from afina.errors import InputError
from afina.messages import N_, _, language, use_language
from afina.train.interrupt import Stop
from afina.verbs._trial import ASKED

LATE = N_("not begun: the budget was used up")
CARRIED = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")  # promises that hold on every machine


class Run(Protocol):
    """Carries out in `folder` what is `asked` and returns what went wrong, None where nothing did.

    LATE where its turn came after `until` (on the clock of `time.time`, which the machines of a cluster share).
    """

    def __call__(
        self, folder: Path, asked: dict[str, Any], until: float | None, stop: Stop, /
    ) -> str | None: ...


class Runner(NamedTuple):
    """What carries out one run, and for how many there is room at the same time."""

    run: Run
    at_once: int


def local(workers: int, _place: Path) -> Runner:
    """Return the runner of this machine: `workers` processes that share its threads."""
    env = _env(_threads(workers))

    def run(folder: Path, asked: dict[str, Any], until: float | None, stop: Stop) -> str | None:
        return process(Path(), folder, asked, env, until)  # which Ctrl-C reaches by itself

    return Runner(run, workers)


def on_ray(workers: int, place: Path) -> Runner:
    """Return the runner of the Ray cluster that is there; a run takes there what it would take here.

    Raises InputError where Ray is not installed, no cluster answers, none of its machines has room for a run, or one
    of them does not see the disk that the comparison in `place` is written to.
    """
    import torch

    ray = _connected()
    threads = _threads(workers)
    gpu = torch.cuda.is_available()
    machines = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    room = {}
    for name, node in machines.items():
        has = node["Resources"]
        room[name] = int(has.get("CPU", 0) // threads)
        if gpu:
            room[name] = min(room[name], int(has.get("GPU", 0)) * workers)
    if not any(room.values()):
        raise InputError(
            _(
                "A run takes {threads} threads, and a GPU where this machine has one, but no machine of the "
                "Ray cluster offers that. Divide them among more --workers, or set OMP_NUM_THREADS to fewer threads."
            ).format(threads=threads)
        )
    _check_disk(ray, {name: machines[name]["NodeManagerHostname"] for name in room if room[name]}, place)
    away = ray.remote(num_cpus=threads, num_gpus=1 / workers if gpu else 0, max_retries=0)(process)
    env = _env(threads) | {name: os.environ[name] for name in CARRIED if name in os.environ}
    if not gpu:  # Ray hides no GPU from a run that has asked for none
        env["CUDA_VISIBLE_DEVICES"] = ""

    def run(folder: Path, asked: dict[str, Any], until: float | None, stop: Stop) -> str | None:
        task = away.remote(Path.cwd(), folder, asked, env, until)
        while not (stop.asked or ray.wait([task], timeout=1)[0]):
            pass
        if stop.asked:
            ray.cancel(task)
        try:
            error: str | None = ray.get(task)
        except ray.exceptions.TaskCancelledError:
            return _("stopped")
        except ray.exceptions.RayError as failure:  # its machine or its worker is gone
            return _last_line(str(failure))
        return error

    return Runner(run, sum(room.values()))


RUNNERS = {"local": local, "ray": on_ray}


def process(
    start: Path, folder: Path, asked: dict[str, Any], env: dict[str, str], until: float | None
) -> str | None:
    """Carry out one run in a process of its own that begins in the folder `start`; see `Run`.

    A KeyboardInterrupt, which is how Ray cancels, lets the process keep its state before it ends.
    """
    from afina.train.folder import write_json

    use_language(env["LANGUAGE"])
    if until is not None and time.time() > until:
        return LATE
    (start / folder).mkdir(exist_ok=True)
    write_json(start / folder / ASKED, asked)
    child = subprocess.Popen(
        [sys.executable, "-m", "afina.verbs._trial", str(folder), str(os.getpid())],
        cwd=start,
        env=os.environ | env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said: str | None = None
    while said is None:
        try:
            _nothing, said = child.communicate(timeout=1)  # between two waits Ray may interrupt
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:
            child.terminate()  # not SIGINT, which Ray has blocked in all that it starts
    if child.returncode == 0:
        return None
    return _last_line(said) or _("ended with code {code}").format(code=child.returncode)


def _env(threads: int) -> dict[str, str]:
    return {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(threads), "LANGUAGE": language()}


def _threads(workers: int) -> int:
    """Return how many threads a run has: two with all threads of a machine each would wait for one another."""
    import torch

    return max(1, torch.get_num_threads() // workers)


def _connected() -> Any:
    """Return the library Ray, connected to the cluster that is there; none is ever started."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported
    try:
        import ray
    except ImportError:
        raise InputError(
            _('--runner ray needs Ray, which is not installed. Install it with pip install "afina[ray]".')
        ) from None
    if ray.is_initialized():
        return ray
    try:
        _knock(os.environ.get("RAY_ADDRESS", ""))
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(
            _(
                "No Ray cluster can be reached ({reason}). Start the command on a machine of a running cluster, name it "
                "with RAY_ADDRESS=host:port if there are several, or leave out --runner."
            ).format(reason=str(error).strip().splitlines()[0].rstrip("."))
        ) from None
    return ray


def _knock(address: str) -> None:
    """Raise OSError where RAY_ADDRESS would have Ray start a cluster, or try for many minutes where nobody listens."""
    if address == "local":
        raise ConnectionError("RAY_ADDRESS=local")
    if found := re.fullmatch(r"\[?([^/\]]+)\]?:(\d+)", address):
        socket.create_connection((found[1], int(found[2])), timeout=10).close()


def _check_disk(ray: Any, machines: dict[str, str], place: Path) -> None:
    """Raise InputError where one of the machines (id → name) does not see what is written beside `place`."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    base = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    look = ray.remote(num_cpus=0)(unseen)
    with tempfile.NamedTemporaryFile(dir=base, prefix=".afina-") as mark:
        looks = {
            name: look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(machine, soft=False)
            ).remote([Path(mark.name), Path.cwd()])
            for machine, name in machines.items()
        }
        for name, task in looks.items():
            try:
                missing = ray.get(task)
            except ray.exceptions.RayError as error:
                raise InputError(
                    _(
                        "The machine {machine} of the Ray cluster cannot run afina ({reason}). Install the same "
                        "version of it there."
                    ).format(machine=name, reason=_last_line(str(error)))
                ) from None
            if missing:
                lacks = base if Path(mark.name) in missing else missing[0]
                raise InputError(
                    _(
                        "The machine {machine} of the Ray cluster does not see the folder {folder} of this one. Start "
                        "the comparison in a folder, and name an --output-dir, on a disk that all of them share."
                    ).format(machine=name, folder=lacks)
                )


def unseen(paths: list[Path]) -> list[Path]:
    """Return those of the files and folders that are not there, seen from the machine that runs this."""
    return [path for path in paths if not path.exists()]


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else ""
