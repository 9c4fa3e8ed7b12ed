"""A pre-training that the system kills at any moment goes on as if nothing had been.

Real processes get a real SIGKILL, by the clock. Each is forked off a server that holds nothing but imported modules, so
that a moment falls into the work and not into the ten seconds of importing; what is said to the command is what a
person would type. `make test` kills once for each objective, `make prove` twenty times.
"""

import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import toy

KILLS = 20
OUTPUT = ("--output-dir", "run")
# Checkpoints and scores every few steps: half of the time goes into what is not a step.
WORDS = (
    *("pretrain", "text.txt", "--shape", "tiny", "--vocab-size", "1200", "--tokens-per-step", "512"),
    *("--short-length", "32", "--max-length", "64", "--max-tokens", "12000", "--eval-steps", "4"),
    *("--save-steps", "3", *OUTPUT),
)
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        *(
            "afina.cli",
            "afina.verbs.pretrain",
            "afina.train.fit",
            "afina.models.load",
            "afina.models.cooccurrence",
        ),
        *("transformers.models.bert.modeling_bert", "transformers.models.gpt2.modeling_gpt2"),
        *("sklearn.utils.extmath", "torch._dynamo"),
    ]
)


class Ended(NamedTuple):
    """How a process ended: its code (-9: it was killed), what it said, and its seconds."""

    code: int
    said: str
    seconds: float


def command(words: tuple[str, ...], place: Path) -> None:
    """Be the command `afina` in the folder `place`; what it says goes into a file there."""
    import torch

    from afina import cli

    os.chdir(place)
    with open("said", "w", encoding="utf-8") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    torch.set_num_threads(1)
    sys.exit(cli.run([*words]))


def afina(place: Path, *words: str, kill_after: float | None = None) -> Ended:
    """Run the command in a process of its own, killed after so many seconds where they are given."""
    place.mkdir(exist_ok=True)
    process = SERVER.Process(target=command, args=(words, place))
    process.start()
    began = time.perf_counter()
    process.join(kill_after)
    process.kill()  # SIGKILL
    process.join()
    seconds = time.perf_counter() - began
    assert process.exitcode is not None
    said = place / "said"
    return Ended(process.exitcode, said.read_text(encoding="utf-8") if said.exists() else "", seconds)


def text(place: Path) -> None:
    """Write a text of 240 documents."""
    draw = random.Random(0)
    syllables = [first + second for first in "bcdlmnprst" for second in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _word in range(400)]

    def sentence() -> str:
        return " ".join(draw.choices(words, k=draw.randint(4, 14))).capitalize() + "."

    documents = (" ".join(sentence() for _sentence in range(6)) for _document in range(240))
    place.mkdir(exist_ok=True)
    (place / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")


def left(run: Path) -> dict[str, Any]:
    """Return what must not differ by a bit: the weights of best/ and last/, the tokenizer, the text, the figures."""
    kept = {name: toy.content(run / name) for name in ("best", "last", "tokenizer", "corpus")}
    for name in ("best", "last"):
        assert any(file.endswith(".safetensors") for file in kept[name])
    for told in (run / "last" / "progress.json", run / "scores.json"):
        found = json.loads(told.read_text(encoding="utf-8"))
        kept[told.name] = {
            name: value for name, value in found.items()
            if name not in ("seconds", "total", "peak_memory_mb", "tokens_per_s", "share_of_peak")
        }  # fmt: skip
    del kept["last"]["progress.json"]  # its seconds are those of the clock
    return kept | {"steps": toy.steps(run)}


@pytest.fixture(scope="module", params=["mlm", "clm"])
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, ...], dict[str, Any], float]:
    """The words of a command, what its run leaves, and the seconds that it takes."""
    place = tmp_path_factory.mktemp("undisturbed")
    text(place)
    words = (*WORDS, "--objective", request.param)
    afina(place, "pretrain", "--help")  # starts the server
    ended = afina(place, *words)
    assert ended.code == 0, ended.said
    return words, left(place / "run"), ended.seconds


def killed_and_gone_on_with(place: Path, words: tuple[str, ...], seconds: float) -> Ended:
    """Kill a run after so many seconds, do what a person would do, and return how the run had ended."""
    text(place)
    first = afina(place, *words, kill_after=seconds)
    assert first.code in (0, -9), first.said
    again = afina(place, "pretrain", "--resume", *OUTPUT)
    if again.code != 0:  # it had not begun
        assert "holds no run to resume. Start it without --resume." in " ".join(again.said.split())
        again = afina(place, *words)
    assert again.code == 0, again.said
    return first


def campaign(
    place: Path, undisturbed: tuple[tuple[str, ...], dict[str, Any], float], moments: list[float]
) -> None:
    words, whole, seconds = undisturbed
    for number, moment in enumerate(moments):
        for attempt in range(5):
            there = place / f"{number}-{attempt}"
            first = killed_and_gone_on_with(there, words, moment * seconds)
            assert left(there / "run") == whole, f"killed after {moment:.3f} of the run"
            if first.code == -9:
                break
            seconds = first.seconds  # the machine has more time now: a run ends earlier
        else:
            pytest.fail("the runs ended before they were killed")


def moments(kills: int, seed: str) -> list[float]:
    """Return shares of a run's time, drawn one in each of as many parts: so none of its phases is left out."""
    draw = random.Random(seed)
    return [(part + draw.random()) / kills for part in range(kills)]


@pytest.mark.slow
def test_a_killed_run_ends_as_if_nothing_had_been(undisturbed, tmp_path):
    drawn = moments(KILLS, undisturbed[0][-1])
    campaign(tmp_path, undisturbed, [random.Random(undisturbed[0][-1]).choice(drawn[: KILLS * 3 // 4])])


@pytest.mark.prove
def test_twenty_killed_runs_end_as_if_nothing_had_been(undisturbed, tmp_path):
    campaign(tmp_path, undisturbed, moments(KILLS, undisturbed[0][-1]))
