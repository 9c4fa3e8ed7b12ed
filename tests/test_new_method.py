"""A new method is one file: put into the folder, it is a flag, trains, is saved, switched off and compared."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import afina
import toy
import toys
from afina import methods
from afina.models.load import load
from afina.names import find, known

one_thread = pytest.fixture(scope="module")(toy.one_thread)
pytestmark = pytest.mark.usefixtures("one_thread")

FILE = '''"""Train the normalisations alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from afina.methods._adapter import Adapter
from afina.settings import setting

if TYPE_CHECKING:
    from torch import nn


class NormTuning(Adapter):
    """Only the normalisations and the head learn."""

    change: ClassVar[str] = "normalisations"

    norm_rate: float = setting(1e-2, "Learning rate of the normalisations.", gt=0)

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": self.norm_rate}

    def trains(self, model: nn.Module) -> Collection[str]:
        from afina.models.parts import norms

        return norms(model)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a model, rows, and one more method, which this process and those that it starts find."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "norm_tuning.py").write_text(FILE, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "more")])
    begins = f"import afina.methods\nafina.methods.__path__.append({str(tmp_path / 'more')!r})\n"
    (tmp_path / "sitecustomize.py").write_text(begins, encoding="utf-8")
    paths = [str(tmp_path), str(Path(afina.__file__).parents[1])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.chdir(tmp_path)
    toys.build(tmp_path / "model")
    toy.table(tmp_path / "rows.csv", toy.ROWS)
    yield tmp_path
    sys.modules.pop("afina.methods.norm_tuning", None)


def test_a_file_is_a_method(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run: Callable[..., toy.Said] = toy.command(capfd)
    assert "norm_tuning" in known("methods")
    assert "--norm-rate" in run("finetune", "--help").out
    asked = ("--model", "model", "--max-steps", "4", "--json", "--output-dir", "run")
    said = run("finetune", "rows.csv", "--method", "norm_tuning", "--norm-rate", "0.05", *asked)
    assert said.code == 0, said.err
    assert said.json["method"] == "norm_tuning" and 0 < said.json["trained_weights"] < 1000
    settings = (folder / "run" / "run.toml").read_text(encoding="utf-8")
    assert "norm_rate = 0.05" in settings and "learning_rate = 0.05" in settings
    assert run("predict", "run", "muy bueno", "--json").code == 0

    bundle = afina.Run("run").bundle
    base = load(folder / "model", bundle.task.head, bundle.task.config())
    before, after = toys.weights(base), toys.weights(bundle.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("LayerNorm" in name or "classifier" in name for name in moved)
    with bundle.method.off(bundle.model):
        off = toys.weights(bundle.model)
    assert all(torch.equal(off[name], before[name]) for name in off if "classifier" not in name)


def test_a_file_is_a_row_of_a_comparison(folder: Path) -> None:
    command = "compare rows.csv --models model --methods norm_tuning --seeds 1 --max-steps 3 --json"
    done = subprocess.run(
        [sys.executable, "-m", "afina", *command.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["norm_tuning"]["change"] == "normalisations" and not rows["norm_tuning"]["error"]
    assert rows["norm_tuning"]["scores"]


def test_its_name_is_that_of_the_file(folder: Path) -> None:
    assert find("methods", "norm_tuning").__name__ == "NormTuning"
