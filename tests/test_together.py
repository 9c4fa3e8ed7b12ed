"""Several trained models on one base: each answers as it does alone, and what they share is in memory once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import afina
import toy
import toys
from afina.names import known
from afina.train.bundle import Bundle
from afina.train.together import share

one_thread = pytest.fixture(scope="module")(toy.one_thread)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


def trained(case: toys.Case, seed: int) -> Bundle:
    """Return the case's model with what its method trains disturbed, as another training would leave it."""
    model = case.model().eval()
    torch.manual_seed(seed)
    names = {name for stage in case.method.stages(model) for name in stage.trainable or ()}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in names:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    return case.bundle(model)


def bytes_of(*models: nn.Module) -> int:
    storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for model in models for weight in model.parameters()}  # fmt: skip
    return sum(storages.values())


@pytest.mark.parametrize("method", [name for name in known("methods") if name not in ("full", "gradual")])
def test_each_answers_as_it_does_alone(method: str, folder: Path) -> None:
    cases = [toys.case(f"classification-{name}", folder) for name in (method, method, "lora")]
    bundles = [trained(case, seed) for seed, case in enumerate(cases)]
    rows = list(cases[0].task.toy())
    rows = [row for row in map(cases[0].task.clean, rows) if row][:6]
    alone = [bundle.answers(rows) for bundle in bundles]
    held: dict[Any, Any] = {}
    one = bytes_of(cases[0].model())
    for bundle in bundles:
        share(bundle.model, held)
    assert [bundle.answers(rows) for bundle in bundles] == alone
    assert alone[0] != alone[1] != alone[2]
    assert bytes_of(*(bundle.model for bundle in bundles)) < 2 * one


def test_runs_are_read_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(tmp_path)
    toy.table(tmp_path / "rows.csv", toy.ROWS)
    for method in ("lora", "head"):
        afina.finetune(
            "rows.csv", method=method, model=str(folder), max_steps=2, output_dir=method, quiet=True
        )
    found = afina.together("lora", "head")
    texts = ["muy bueno", "very bad"]
    for name, bundle in found.items():
        assert bundle.predict(texts) == afina.predict(name, texts)
    body = [next(weight for path, weight in bundle.model.named_parameters() if "word_embeddings" in path) for bundle in found.values()]  # fmt: skip
    assert body[0].data_ptr() == body[1].data_ptr()
    with pytest.raises(afina.InputError):
        afina.together("lora", "nothing")
