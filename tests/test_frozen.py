"""What frozen blocks give is kept: alike in every family, alike to the plain way in what is learnt, and given up safely."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import families
import toy
import toys
from afina.core import Batch, Stage, Step
from afina.errors import InputError, Interrupted
from afina.methods.gradual import Gradual
from afina.methods.head import Head
from afina.methods.partial import Partial
from afina.models.heads import hidden_states, outputs
from afina.models.load import load, load_tokenizer
from afina.models.parts import blocks, config
from afina.tasks.classification import Classification
from afina.train import frozen, machine, store
from afina.train.bundle import in_batches
from afina.train.fit import unfreeze
from afina.train.frozen import Readings, frozen_blocks, kept
from afina.train.work import Work

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
    return Readings(lambda: (batch for _places, batch in in_batches(*asked)), tokens, len(case.rows))


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

    def asked() -> torch.Tensor:  # under `head` what is kept of a row may be one token
        with torch.no_grad():
            if isinstance(method, Head):
                return outputs(model, Batch(tensors, {}, 0), "logits")[0]
            return hidden_states(model, tensors)[seen]

    plain = asked()
    ran: list[int] = []
    for path in frozen_blocks(model, only(model, method)):
        inner = next(module for module in model.get_submodule(path).modules() if isinstance(module, torch.nn.LayerNorm | torch.nn.Linear))  # fmt: skip
        inner.register_forward_hook(lambda *_given: ran.append(1))
    given = Readings(batches, 1000, len(encoded))
    with kept(model, only(model, method), given, tmp_path) as found:
        ran.clear()
        again = asked()
        computed = len(ran)
    assert torch.allclose(plain, again, atol=1e-5)
    assert found.rows and not computed
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
    plain = [outputs(model, batch, "logits")[0] for batch in batches]
    given = Readings(lambda: batches[1:], 1000, len(case.rows))
    with kept(model, only(model, case.method), given, tmp_path) as found:
        again = [outputs(model, batch, "logits")[0] for batch in batches]
    assert 0 < found.rows < len(case.rows)
    for before, after in zip(plain, again, strict=True):
        assert torch.allclose(before, after, atol=1e-5)


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
        given = Readings(lambda: [batch], 100, 1)
    elif fault == "too large":
        given = given._replace(rows=10**12)
    elif fault == "the disk is full":
        monkeypatch.setattr(store.os, "pwrite", raises(OSError(28, "No space left on device")))
    elif fault == "half a row fits":
        monkeypatch.setattr(store.os, "pwrite", lambda _file, data, _place: len(data) // 2)
    elif fault == "memory runs out":
        monkeypatch.setattr(store.Store, "read", raises(RuntimeError("could not create a primitive")))
    elif fault == "rows are padded":  # by the body itself, as Longformer does
        own = store.Store._keep
        monkeypatch.setattr(
            store.Store, "_keep", lambda self, out: own(self, torch.cat([out, out[:, :1]], 1))
        )
    elif fault == "another answer":
        monkeypatch.setattr(store.Store, "same", lambda *_given: False)
    passes = 1.0 if fault == "read once" else 3.0
    with frozen.keeping(accelerator, model, only(model, case.method), given, passes, tmp_path) as found:
        assert found.rows == 0
    assert bool(found.why) == (fault in ("too large", "the disk is full", "half a row fits"))
    assert all("forward" not in vars(model.get_submodule(path)) for path in blocks(model))
    assert not list(tmp_path.iterdir())


def test_another_fault_of_reading_is_no_lack_of_memory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = toys.case("classification-head", folder)
    model = case.model().eval()
    unfreeze(model, only(model, case.method))
    monkeypatch.setattr(store.Store, "read", raises(RuntimeError("shapes differ")))
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
    with kept(model, stage, readings(case), tmp_path) as found:
        assert found.rows == 0


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
    tokens = 7 * length
    step = Step(1, 0.0, {}, 0.0, 0.0, tokens=tokens, rows=7, seconds=1.0)
    tensors = {"input_ids": torch.ones(3, 5, dtype=torch.long)}

    def work() -> Work:
        found = Work(model)
        model(**tensors)
        return found

    assert work()(step) == tokens * (6 * (low + high) + 3 * 2 * attention) + 7 * 6 * rest
    stage = only(model, Partial(top_blocks=1))
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in (stage.trainable or ()))
    above = tokens * (6 * high + 3 * attention) + 7 * 6 * rest
    below = tokens * (2 * low + attention)
    assert work()(step) == above + below
    assert work()(step, 1.0) == above and work()(step, 0.5) == above + below / 2
    assert work().reading(tokens, 7) == below


@pytest.mark.parametrize(
    ("name", "family", "alone"),
    [
        ("classification-head", "encoder", True),
        ("classification-head", "decoder", True),
        ("classification-partial", "encoder", False),
        ("token_labels-head", "encoder", False),
    ],
)
def test_one_token_a_row_is_kept_where_no_other_is_read(
    name: str, family: str, alone: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = toys.case(name, folder)
    if family == "decoder":
        place = folder / "decoder"
        tokenizer = load_tokenizer(place)
        rows = case.task.encode(case.cleaned, tokenizer, toys.LENGTH)
        case = case._replace(folder=place, tokenizer=tokenizer, rows=rows)
    model, given = case.model(), readings(case)
    stage = Partial(top_blocks=1).stages(model)[0] if "partial" in name else only(model, case.method)
    unfreeze(model, stage)
    stores: list[Any] = []
    own = frozen._fill
    monkeypatch.setattr(frozen, "_fill", lambda store, *more: stores.append(store) or own(store, *more))
    with kept(model, stage, given, tmp_path) as found:
        tokens = [count for _start, count in stores[0].places.values()]
    assert found.rows and stores[0].end == 4 * sum(tokens) * config(model).hidden_size
    assert (set(tokens) == {1}) == alone
    if not alone:
        assert sum(tokens) > 2 * found.rows


def test_a_head_that_says_nothing_yet_tells_nothing(folder: Path, tmp_path: Path) -> None:
    case = toys.case("classification-head", folder)
    model, given = case.model(), readings(case)
    stage = only(model, case.method)
    unfreeze(model, stage)
    with torch.no_grad():
        for name in stage.trainable or ():
            model.get_parameter(name).zero_()
    seen: list[int] = []
    with kept(model, stage, given, tmp_path, between=lambda _tokens: seen.append(1)) as found:
        batch = next(iter(given.batches())).tensors
        mask = batch["attention_mask"].bool()
        assert hidden_states(model, batch)[mask].abs().amax(-1).gt(0).all()
    assert found.rows and seen


def test_the_size_and_the_room_are_said(folder: Path, tmp_path: Path) -> None:
    case = toys.case("classification-partial", folder)
    model, given = case.model(), readings(case)
    stage = only(model, Partial(top_blocks=1))
    unfreeze(model, stage)
    width = config(model).hidden_size
    with kept(model, stage, given._replace(tokens=100 * 2**18), tmp_path, 3 * 2**20) as found:
        assert not found.rows
    assert f"{100 * width:,} MB" in found.why and "3 MB, half of what is free" in found.why
    with kept(model, stage, given._replace(tokens=10**12), tmp_path, frozen.MOST) as found:
        assert not found.rows
    assert "at most 4,096 MB" in found.why
    with kept(model, stage, given._replace(tokens=1), tmp_path, 4 * width) as found:
        assert not found.rows and found.why, "windows may be more than what was counted"


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert 0 < frozen.room(tmp_path / "run" / "again") <= frozen.MOST


def test_a_stop_while_frozen_blocks_are_read_loses_nothing(
    folder: Path, accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(frozen, "AGAIN", 0.0)
    case = toys.case("token_labels-gradual", folder)
    given: dict[str, Any] = {"readings": readings(case)}
    straight, _progress = toys.run(case, accelerator, tmp_path / "straight", **given)
    for reading in (0, 1):  # of the first stage, and of the second
        run, begun = tmp_path / f"stopped {reading}", []

        def stopping(begun: list[int] = begun, reading: int = reading) -> Iterator[Batch]:
            begun.append(1)
            for place, batch in enumerate(given["readings"].batches()):
                if place == 1 and len(begun) == reading + 1:
                    signal.raise_signal(signal.SIGTERM)
                yield batch

        with pytest.raises(Interrupted, match="Stopped after step"):
            toys.run(case, accelerator, run, readings=given["readings"]._replace(batches=stopping))
        assert (run / "last").is_dir()
        again, _progress = toys.run(case, accelerator, run, resume=True, **given)
        assert all(torch.equal(straight[weight], again[weight]) for weight in straight)


def test_work_is_counted_by_what_was_computed(
    folder: Path, accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are not found cost what they cost, and each stage has its own price."""
    monkeypatch.setattr(frozen, "AGAIN", 0.0)
    case = toys.case("classification-head", folder)
    _weights, slow = toys.run(case, accelerator, tmp_path / "slow")
    _weights, fast = toys.run(case, accelerator, tmp_path / "fast", readings=readings(case))
    first = next(iter(readings(case).batches()))
    few = Readings(lambda: [first], first.tokens, len(first.tensors["input_ids"]))
    _weights, other = toys.run(case, accelerator, tmp_path / "other", readings=few)
    assert fast.kept and fast.flop < 0.7 * slow.flop
    assert other.kept and fast.flop < other.flop
    gradual = toys.case("classification-gradual", folder)
    full = toys.case("classification-full", folder)
    costs = [toys.run(each, accelerator, tmp_path / str(i))[1].flop for i, each in enumerate((gradual, full))]
    assert 0.3 < costs[0] / costs[1] < 0.95
