"""What frozen blocks give is kept: alike in every family, alike to the plain way in what is learnt, and given up safely."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import families
import toy
import toys
from afina.core import Batch, Stage
from afina.errors import InputError, Interrupted
from afina.methods.gradual import Gradual
from afina.methods.head import Head
from afina.methods.partial import Partial
from afina.models.heads import hidden_states
from afina.models.load import load, load_tokenizer
from afina.models.parts import blocks, config
from afina.tasks.classification import Classification
from afina.train import frozen, machine
from afina.train.bundle import in_batches
from afina.train.fit import unfreeze
from afina.train.frozen import Readings, frozen_blocks, kept

one_thread = pytest.fixture(scope="module")(toy.one_thread)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def accelerator() -> Any:
    return machine.accelerator("fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


def readings(case: toys.Case) -> Readings:
    model = case.model()
    asked = case.task, case.tokenizer, case.rows, 64, model
    tokens = sum(case.task.length(row) for row in case.rows)
    return Readings(lambda: (batch for _places, batch in in_batches(*asked)), tokens)


def only(model: torch.nn.Module, method: Any) -> Stage:
    return method.stages(model)[0]


@pytest.mark.parametrize("name", families.FAMILIES)
@pytest.mark.parametrize("method", [Head(), Partial(top_blocks=1)])
def test_every_family_answers_alike(
    name: str, method: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    if families.FAMILIES[name].head == families.BOTH:
        pytest.skip("an encoder-decoder keeps nothing")
    place = families.build(name, tmp_path_factory.mktemp("family"))
    task = Classification(text="text", label="label")
    rows = [row for row in map(task.clean, Classification.toy()) if row]
    task = task.learn(rows)
    tokenizer = load_tokenizer(place)
    try:
        model = method.modify(load(place, task.head, task.config()), tokenizer).eval()
    except InputError:
        pytest.skip("the family has no such head")
    encoded = task.encode(rows, tokenizer, 32)
    unfreeze(model, only(model, method))

    def batches() -> Iterator[Batch]:
        return (batch for _places, batch in in_batches(task, tokenizer, encoded, 64, model))

    tensors = next(batches()).tensors
    seen = tensors["attention_mask"].bool()
    plain = hidden_states(model, tensors)
    ran: list[int] = []
    for path in frozen_blocks(model, only(model, method)):
        inner = next(module for module in model.get_submodule(path).modules() if isinstance(module, torch.nn.LayerNorm | torch.nn.Linear))  # fmt: skip
        inner.register_forward_hook(lambda *_given: ran.append(1))
    with kept(model, only(model, method), Readings(batches, 1000), tmp_path) as rows_kept:
        ran.clear()
        again = hidden_states(model, tensors)
        computed = len(ran)
    assert torch.allclose(plain[seen], again[seen], atol=1e-5)
    assert rows_kept and not computed
    assert all("forward" not in vars(model.get_submodule(path)) for path in blocks(model))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", [name for name in toys.NAMES if name.split("-")[1] in ("head", "partial", "gradual")]
)
def test_what_is_learnt_is_what_the_plain_way_learns(
    name: str, folder: Path, accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "AGAIN", 0.0)
    case = toys.case(name, folder)
    fast, kept_so = toys.run(case, accelerator, tmp_path / "fast", readings=readings(case))
    slow, plain = toys.run(case, accelerator, tmp_path / "slow")
    assert kept_so.best == pytest.approx(plain.best, rel=1e-5)
    if not name.startswith(
        "extractive_qa"
    ):  # AdamW blows up the rounding of a bias that softmax takes no notice of
        for weight, value in slow.items():
            assert torch.allclose(fast[weight], value, rtol=1e-3, atol=1e-5), weight


@pytest.mark.parametrize("name", ["classification-head", "token_labels-gradual"])
def test_a_stopped_and_resumed_run_is_the_straight_run(
    name: str, folder: Path, accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = toys.case(name, folder)

    def halt(step: int) -> None:
        if step == 8:
            raise Interrupted("")

    monkeypatch.setattr(frozen, "AGAIN", 0.0)
    given: dict[str, Any] = {"readings": readings(case)}
    straight, progress = toys.run(case, accelerator, tmp_path / "straight", **given)
    with pytest.raises(Interrupted):
        toys.run(case, accelerator, tmp_path / "halted", halt=halt, **given)
    again, _progress = toys.run(case, accelerator, tmp_path / "halted", resume=True, **given)
    assert all(torch.equal(straight[weight], again[weight]) for weight in straight)
    assert (progress.kept > 0) == (name == "classification-head")  # the last stage of `gradual` trains all


def test_a_run_that_is_resumed_near_its_end_goes_the_same_way(
    folder: Path, accelerator: Any, tmp_path: Path
) -> None:
    case = toys.case("classification-head", folder)
    given: dict[str, Any] = {"readings": readings(case)}
    straight, progress = toys.run(case, accelerator, tmp_path / "straight", **given)
    assert progress.kept

    def halt(step: int) -> None:
        if step == 12:
            raise Interrupted("")

    with pytest.raises(Interrupted):
        toys.run(case, accelerator, tmp_path / "halted", halt=halt, save_steps=11, **given)
    again, progress = toys.run(case, accelerator, tmp_path / "halted", resume=True, save_steps=11, **given)
    assert progress.kept
    assert all(torch.equal(straight[weight], again[weight]) for weight in straight)


def test_a_row_that_is_not_known_goes_through_the_blocks(folder: Path, tmp_path: Path) -> None:
    case = toys.case("classification-head", folder)
    model = case.model().eval()
    unfreeze(model, only(model, case.method))
    batches = list(readings(case).batches())
    plain = [hidden_states(model, batch.tensors) for batch in batches]
    with kept(model, only(model, case.method), Readings(lambda: batches[1:], 1000), tmp_path) as rows:
        again = [hidden_states(model, batch.tensors) for batch in batches]
    assert 0 < rows < len(case.rows)
    for before, after, batch in zip(plain, again, batches, strict=True):
        seen = batch.tensors["attention_mask"].bool()
        assert torch.allclose(before[seen], after[seen], atol=1e-5)


@pytest.mark.parametrize(
    "fault",
    [
        "packed",
        "too large",
        "the disk is full",
        "half a row fits",
        "memory runs out",
        "rows are padded",
        "another answer",
        "read once",
    ],
)
def test_it_is_given_up_without_a_trace(
    fault: str, folder: Path, accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = toys.case("classification-head", folder)
    model, given = case.model().eval(), readings(case)
    unfreeze(model, only(model, case.method))
    if fault == "packed":
        batch = next(iter(given.batches()))
        batch.tensors["position_ids"] = torch.zeros_like(batch.tensors["input_ids"])
        given = Readings(lambda: [batch], 100)
    elif fault == "too large":
        given = given._replace(tokens=10**12)
    elif fault == "the disk is full":
        monkeypatch.setattr(frozen.os, "pwrite", raises(OSError(28, "No space left on device")))
    elif fault == "half a row fits":
        monkeypatch.setattr(frozen.os, "pwrite", lambda _file, data, _place: len(data) // 2)
    elif fault == "memory runs out":
        monkeypatch.setattr(frozen._Store, "read", raises(RuntimeError("could not create a primitive")))
    elif fault == "rows are padded":  # by the body itself, as Longformer does
        own = frozen._Store._keep
        monkeypatch.setattr(
            frozen._Store, "_keep", lambda self, out: own(self, torch.cat([out, out[:, :1]], 1))
        )
    elif fault == "another answer":
        monkeypatch.setattr(frozen._Store, "same", lambda *_given: False)
    passes = 1.0 if fault == "read once" else 3.0
    with frozen.keeping(accelerator, model, only(model, case.method), given, passes, tmp_path) as rows:
        assert rows == 0
    assert all("forward" not in vars(model.get_submodule(path)) for path in blocks(model))
    assert not list(tmp_path.iterdir())


def test_another_fault_of_reading_is_no_lack_of_memory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = toys.case("classification-head", folder)
    model = case.model().eval()
    unfreeze(model, only(model, case.method))
    monkeypatch.setattr(frozen._Store, "read", raises(RuntimeError("shapes differ")))
    with (
        pytest.raises(RuntimeError, match="shapes"),
        kept(model, only(model, case.method), readings(case), tmp_path),
    ):
        pass


def raises(error: Exception) -> Any:
    def fail(*_given: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("method", ["full", "lora", "prompt", "prefix", "bitfit", "houlsby"])
def test_nothing_is_kept_where_something_trains_below(method: str, folder: Path, tmp_path: Path) -> None:
    case = toys.case(f"classification-{method}", folder)
    model = case.model()
    stage = only(model, case.method)
    unfreeze(model, stage)
    with kept(model, stage, readings(case), tmp_path) as rows:
        assert rows == 0


def test_the_stages_of_gradual_keep_less_and_less(folder: Path) -> None:
    model = toys.case("classification-gradual", folder).model()
    found = [len(frozen_blocks(model, stage)) for stage in Gradual().stages(model)]
    assert found == sorted(found, reverse=True) and found[0] == len(blocks(model)) and found[-1] == 0


def test_work_that_is_saved_is_no_useful_work(folder: Path) -> None:
    model = toys.case("classification-full", folder).model()
    length, width = 10, config(model).hidden_size
    sizes = {name: weight.numel() for name, weight in model.named_parameters() if weight.ndim == 2}
    low, high = (sum(size for name, size in sizes.items() if f".layer.{i}." in name) for i in (0, 1))
    rest = sum(size for name, size in sizes.items() if "classifier" in name or "pooler" in name)
    attention = 4 * width * length
    assert machine.flop_per_token(model, length) == 6 * (low + high + rest) + 3 * 2 * attention
    stage = only(model, Partial(top_blocks=1))
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in (stage.trainable or ()))
    above = 6 * (high + rest) + 3 * attention
    assert machine.flop_per_token(model, length) == above + 2 * low + attention
    assert machine.flop_per_token(model, length, kept=True) == above
