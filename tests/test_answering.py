"""How a model is asked for many answers: nothing twice, nothing in vain, in batches that suit the device."""

from pathlib import Path
from typing import Any

import pytest
import torch

import toys
from afina.models import heads
from afina.tasks.extractive_qa import ExtractiveQa
from afina.train import bundle as bundles
from afina.train.bundle import Bundle, glances_and_loss, in_batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


@pytest.mark.parametrize("at_once", [8, 10**6])
def test_glances_and_loss_read_a_batch_once(
    at_once: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "AT_ONCE", at_once)  # 8: a batch goes through the model in parts
    case = toys.case("classification-full", folder)
    model: Any = case.model()
    read: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _words, given: read.append(len(given[0])))
    found, loss = glances_and_loss(model, case.task, case.tokenizer, case.rows, 64)
    assert sum(read) == len(case.rows)
    assert loss == pytest.approx(bundles.mean_loss(model, case.task, case.tokenizer, case.rows, 64))
    assert found == bundles.by_row(model, case.task, case.tokenizer, case.rows, 64, case.task.glance)


def test_once_is_for_the_same_numbers_only() -> None:
    class Doubles(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    model = Doubles()
    with torch.inference_mode(), heads.asked_once(model):
        for value in range(50):  # each takes the memory of the one before it, if that was let go of
            assert model(x=torch.full((3,), float(value))).tolist() == [2.0 * value] * 3
    assert "forward" not in vars(model)


@pytest.mark.parametrize("task, most", [("classification", bundles.CACHED), ("chat", 8 * bundles.CACHED)])
def test_a_processor_answers_in_small_batches_unless_it_writes(task: str, most: int, folder: Path) -> None:
    case = toys.case(f"{task}-full", folder)
    rows = case.rows * (1 + 16 * bundles.CACHED // sum(map(case.task.length, case.rows)))
    sizes = [
        max(case.task.length(rows[each]) for each in places) * len(places)
        for places, _batch in in_batches(case.task, case.tokenizer, rows, 8 * bundles.CACHED, case.model())
    ]
    assert most / 2 < max(sizes) <= most


@pytest.mark.parametrize("knobs, asked", [({}, False), ({"unanswerable": True}, True)])
def test_answers_are_asked_for_tuning_only_where_there_is_something_to_tune(knobs: Any, asked: bool) -> None:
    assert ExtractiveQa(**knobs).tunes is asked


def test_labels_are_not_tuned(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = toys.case("classification-full", folder)
    one = Bundle(case.model(), case.tokenizer, case.task, case.method, 32)
    monkeypatch.setattr(Bundle, "answers", lambda *_given: pytest.fail("nothing is to be asked"))
    assert one.tune([], tmp_path) is one
    assert toys.case("multi_label-full", folder).task.tunes
