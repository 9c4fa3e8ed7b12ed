"""What the tests of the commands share: tables of forty rows, a model that trains in a second, the command."""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from afina import cli
from afina.messages import use_language
from afina.models.find import EMBEDDED
from afina.names import ENCODER
from afina.tasks.classification import Classification

ROWS = [(row["text"], row["label"]) for row in Classification.toy()]


class Said(NamedTuple):
    """What one command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one line of standard output, as JSON."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Return what runs one command in this process, as the shell would, and tells what came of it."""

    def run(*words: str | Path) -> Said:
        capfd.readouterr()
        code = cli.run([str(word) for word in words])
        # What `--lang` chose is meant for one process, which a test shares with others.
        os.environ["LANGUAGE"] = use_language("en")
        return Said(code, *capfd.readouterr())

    return run


def one_thread() -> Iterator[None]:
    """Compute on one thread: for so small a model two only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def table(
    file: Path, rows: Sequence[Sequence[str]] = ROWS, header: Sequence[str] = ("text", "label")
) -> Path:
    """Write a CSV."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


def model(folder: Path, width: int = 16) -> Path:
    """Write a two-layer BERT with random weights and the embedded model's tokenizer."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    source = EMBEDDED / ENCODER.removeprefix("afina/")
    tokens = json.loads((source / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    torch.manual_seed(0)
    BertForPreTraining(
        BertConfig(
            vocab_size=tokens,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    ).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)
    return folder


def content(folder: Path) -> dict[str, str]:
    """Return every file and folder below `folder` with the hash of its bytes."""
    return {
        str(place.relative_to(folder)): hashlib.sha256(place.read_bytes()).hexdigest()
        if place.is_file()
        else ""
        for place in sorted(folder.rglob("*"))
    }


def steps(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `steps.jsonl` without the seconds, which differ from run to run."""
    lines = [json.loads(line) for line in (run / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def weights(run: Path) -> str:
    """Return the hash of a run's best weights."""
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()
