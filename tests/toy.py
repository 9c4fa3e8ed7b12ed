"""What tests share: tables of forty rows, a model that trains in a second, the command, texts of any signs."""

import csv
import hashlib
import json
import os
import random
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

SIGNS = (
    [*"abcd NÁñüß 0123 ,.;:¿?¡!()«»-_#\"'", "[SEP]", "##a"],
    ["12,5", "3.500", "e\u0301", "n\u0303o\u0308", "casa", "El", "ﬁ", "İ", "漢字", "각", "ไทย", "\U0001d54f"],
    ["😀", "👩‍👧", "👨‍👩‍👧", "🇪🇸", "👍🏽", "❤\ufe0f", "1\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e007f"],
    [*map(chr, (*range(0x300, 0x370), 0x591, 0x64B, 0x93F, 0x20DD, 0x3099))],
    ["שלום", "مرحبا", *map(chr, (0x5D0, 0x627, 0x200E, 0x200F, 0x202B, 0x202C, 0x202E, 0x2067, 0x2069))],
    [*map(chr, (*range(0x20), *range(0x7F, 0xA0), 0xAD))],
    ["\ufeff"],
    [*" \n\t\r", "\r\n", *map(chr, (0xA0, 0x2003, 0x2028, 0x2029, 0x200B, 0x200D, 0x2060, 0x3000))],
    ["\ufffd", "\uffff", "\ue000", "\U0010ffff"],
)  # fmt: skip
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


def text(draw: random.Random, most: int) -> str:
    """Return up to `most` signs of all kinds and scripts: emoji, accents, right to left, control signs, BOM, any."""
    found = []
    for _sign in range(draw.randint(0, most)):
        sign = draw.choice(draw.choice(SIGNS)) if draw.random() < 0.9 else chr(draw.randrange(0x110000))
        # Half a character is no Unicode text.
        found.append("\ufffd" if "\ud800" <= sign <= "\udfff" else sign)
    return "".join(found)


def steps(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `steps.jsonl` without the seconds, which differ from run to run."""
    lines = [json.loads(line) for line in (run / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def weights(run: Path) -> str:
    """Return the hash of a run's best weights."""
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()
