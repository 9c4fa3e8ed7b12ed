"""Text that is larger than memory: what a pre-training holds of it does not grow with it."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from afina.models.find import EMBEDDED
from afina.names import ENCODER

LINUX = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="asks Linux what a process holds")
MB = 10**6
TOKENIZER = EMBEDDED / ENCODER.removeprefix("afina/")


def sentences(count: int) -> list[str]:
    """Return sentences of made-up words, the frequent ones short, as in a language."""
    draw = random.Random(0)
    syllables = [
        first + second for first in "bcdfglmnprstv" for second in ("a", "e", "i", "o", "u", "ás", "én")
    ]
    words = ["".join(draw.choices(syllables, k=1 + place // 2000)) for place in range(8000)]
    ranks = [1 / (place + 2) for place in range(len(words))]
    lengths = [draw.randint(4, 16) for _sentence in range(count)]
    stream = iter(draw.choices(words, ranks, k=sum(lengths)))
    return [" ".join(next(stream) for _word in range(length)).capitalize() + "." for length in lengths]


def text(file: Path, size: int) -> Path:
    """Write about `size` bytes: documents of eight of the sentences, shuffled anew again and again."""
    draw, known, written = random.Random(1), sentences(20_000), 0
    with file.open("w", encoding="utf-8") as stream:
        while written < size:
            draw.shuffle(known)
            for place in range(0, len(known), 8):
                written += stream.write(" ".join(known[place : place + 8]) + "\n\n")
                if written >= size:
                    break
    return file


def anonymous(process: int) -> int:
    """Return the bytes that a process and its children hold and that are no file's (RssAnon)."""
    held = 0
    for each in family(process):
        try:
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
        except OSError:  # it has ended meanwhile
            continue
        held += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
    return held


def family(process: int) -> Iterator[int]:
    yield process
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def peak(file: Path, run: Path, *words: str, read_only: bool = False) -> int:
    """Return the most bytes that `afina pretrain` ever held while it read the text and trained a few steps on it.

    With `read_only` it is stopped where training begins, of which the memory goes up and down by itself.
    """
    command = (
        *(sys.executable, "-m", "afina", "pretrain", str(file), "--shape", "tiny", "--max-tokens", "40000"),
        *("--tokens-per-step", "4096", "--output-dir", str(run), "--quiet", *words),
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    most = 0
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if read_only and (run / "steps.jsonl").exists():
                process.kill()
                return most
            most = max(most, anonymous(process.pid))
            time.sleep(0.05)
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()
    return most


@LINUX
@pytest.mark.slow
def test_what_is_held_does_not_grow_with_the_text(tmp_path):
    """Of 20 MB more of text, held as characters or as numbers of Python, all would be seen."""
    words = ("--tokenizer", str(TOKENIZER), "--initialisation", "random")
    held = [
        peak(text(tmp_path / f"{size}.txt", size * MB), tmp_path / f"run{size}", *words, read_only=True)
        for size in (5, 25)
    ]
    print([round(each / MB, 1) for each in held])
    assert held[1] - held[0] < 14 * MB


@LINUX
@pytest.mark.prove
def test_two_gigabytes_of_text_are_read_and_trained_on_within_two_of_memory(tmp_path):
    """AFINA_TEXT_MB names another size of the text, for a machine that is slow."""
    size = int(os.environ.get("AFINA_TEXT_MB", "2000"))
    most = peak(text(tmp_path / "text.txt", size * MB), tmp_path / "run")
    print(f"{size} MB of text: {most / MB:.0f} MB held")
    assert most < 2 * 2**30
