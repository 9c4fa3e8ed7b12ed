"""What a person sees while it trains, and what is kept of it: a bar on standard error, a line a step on disk."""

import json
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from afina.core import Step
from afina.messages import _
from afina.messages.numbers import number
from afina.train.atomic import cannot_write, write_text

STATUS = Path("/proc/self/status")


def peak_memory_mb() -> float:
    """Return the peak resident size of this process so far; it only ever grows.

    Of Linux's two counts `VmHWM` is taken: the other begins at the peak of the process that started this one.
    """
    if STATUS.is_file() and (found := re.search(r"VmHWM:\s*(\d+)", STATUS.read_text(encoding="ascii"))):
        return round(int(found[1]) / 2**10, 1)
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(size / (2**20 if sys.platform == "darwin" else 2**10), 1)


class Log:
    """`steps.jsonl`: one JSON object a line, a step or an evaluation; a resumed run goes on where it stood."""

    def __init__(self, file: Path, resume_at: int | None = None):
        self.file = file
        kept = [line for line in read(file) if line["step"] <= resume_at] if resume_at is not None else []
        write_text(file, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, line: dict[str, Any]) -> None:
        """Append one line; InputError where the disk is full."""
        try:
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise cannot_write(self.file, error) from None


def read(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a `steps.jsonl`; a last line cut off by a crash is passed over."""
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


class Bar:
    """The progress bar of one training: step, loss, tokens a second, time left, memory."""

    def __init__(self, steps: int, quiet: bool, done: int = 0):
        self.tokens = self.seconds = 0.0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=Console(stderr=True), disable=quiet, refresh_per_second=2)
        self.line = self.progress.add_task(_("Training"), total=steps, completed=done, words="")

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.progress.stop()

    def step(self, step: Step) -> None:
        """Show one step."""
        self.tokens += step.tokens
        self.seconds += step.seconds
        words = _("loss {loss}  {speed} tokens/s  {memory} MB").format(
            loss=number(step.loss, 3),
            speed=number(self.tokens / max(self.seconds, 1e-9)),
            memory=number(peak_memory_mb()),
        )
        self.progress.update(self.line, completed=step.index, words=words)

    def read(self, share: float) -> None:
        """Show which share of what frozen blocks are to read has been read."""
        words = _("frozen blocks read: {share}").format(share=f"{number(100 * share)}\u00a0%")
        self.progress.update(self.line, words=words)

    def took(self, seconds: float) -> None:
        """Count seconds that are part of no step."""
        self.seconds += seconds

    def say(self, sentence: str) -> None:
        """Print a line above the bar, unless nothing is to be said."""
        if not self.progress.disable:
            self.progress.console.print(sentence, highlight=False, markup=False)


def say(sentence: str, quiet: bool = False) -> None:
    """Tell the person something on standard error, where no result is printed; of several processes the first does."""
    if not quiet and os.environ.get("RANK", "0") == "0":
        Console(stderr=True, soft_wrap=True).print(sentence, highlight=False, markup=False)
