"""What every task must keep under every method: the cases come from the folders, nobody writes them.

Each test runs a two-layer model on the task's toy rows. A new file in `tasks/` or `methods/` is tested at once.
"""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import toys
from afina.batching.plan import generator
from afina.core import Batch
from afina.errors import Interrupted
from afina.methods.full import Full
from afina.names import find, known
from afina.train import fit as train
from afina.train import machine
from afina.train.bundle import FILE, Bundle, by_row, glances_and_loss, mean_loss
from afina.train.fit import Budget, fit
from afina.train.track import read

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def accelerator() -> Any:
    return machine.accelerator("fp32")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


@pytest.fixture(params=toys.NAMES)
def case(request: pytest.FixtureRequest, folder: Path) -> toys.Case:
    return toys.case(request.param, folder)


def test_every_task_and_method_has_a_case() -> None:
    named = {tuple(name.split("-")[:2]) for name in toys.NAMES}
    assert named == {(task, method) for task in known("tasks") for method in known("methods")}


def some(case: toys.Case, rows: range | list[int]) -> Batch:
    """Return the batch of these rows, with the masks of their first epoch."""
    return case.task.collate([(case.rows[row], generator(0, 0, row)) for row in rows], case.tokenizer)


def test_a_split_batch_adds_up(case: toys.Case) -> None:
    model = case.model().eval()
    whole, parts = some(case, range(8)), [some(case, [i, i + 1]) for i in range(0, 8, 2)]
    with torch.no_grad():
        terms, split = case.task.loss(model, whole), [case.task.loss(model, part) for part in parts]
    assert terms.keys() == whole.counts.keys()
    assert whole.tokens == sum(part.tokens for part in parts)
    for name, term in terms.items():
        assert term.sum.ndim == 0 and (float(term.sum) > 0) == (whole.counts[name] > 0)
        assert whole.counts[name] == pytest.approx(sum(part.counts[name] for part in parts), rel=1e-12)
        assert float(term.sum) == pytest.approx(sum(float(each[name].sum) for each in split), rel=1e-5)
        assert {each[name].weight for each in split} == {term.weight}


@pytest.mark.parametrize("variant", ["classification-full", "classification-full-balanced"])
def test_the_counts_of_classification_make_the_mean_of_torch(variant: str, folder: Path) -> None:
    """Rare labels weigh more in the sum and in the count, and a label that the model cannot give in neither."""
    case = toys.case(variant, folder)
    model = case.model().eval()
    batch = some(case, range(12, 32))
    assert len(set(batch.tensors["labels"].tolist())) == 2
    weight = torch.tensor(case.task.weights) if case.task.weights else None
    assert (weight is None) == (variant == "classification-full")
    with torch.no_grad():
        logits = model(batch.tensors["input_ids"], batch.tensors["attention_mask"]).logits
        plain = torch.nn.functional.cross_entropy(logits, batch.tensors["labels"], weight)
        mean = case.task.loss(model, batch)["loss"].sum / batch.counts["loss"]
    assert float(mean) == pytest.approx(float(plain), rel=1e-6)

    unknown = case.task.encode([{"text": "muy raro", "label": "nunca"}], case.tokenizer, toys.LENGTH)
    ignored = case.task.collate([(unknown[0], None)], case.tokenizer)
    with torch.no_grad():
        assert float(case.task.loss(model, ignored)["loss"].sum) == ignored.counts["loss"] == 0


def test_the_neighbours_of_a_row_change_no_answer(case: toys.Case) -> None:
    model = case.model().eval()
    length = [case.task.length(row) for row in case.rows]
    shortest, longest = (choose(range(len(length)), key=length.__getitem__) for choose in (min, max))
    assert length[shortest] < length[longest], "the toy rows must be of unlike length"
    with torch.no_grad():
        alone = case.task.answer(model, some(case, [shortest]))
        beside = case.task.answer(model, some(case, [longest, shortest]))
    assert toys.alike(alone[0], beside[1], 1e-5)


@pytest.mark.parametrize("name", known("tasks"))
def test_what_baselines_answer_can_be_read_back(name: str, folder: Path) -> None:
    """The runs of a comparison read it from a file."""
    case = toys.case(f"{name}-full", folder)
    learnt, asked = case.cleaned[::2], case.cleaned[1::2]
    answers = case.task.baselines(learnt, asked, case.tokenizer, toys.LENGTH)
    for rival, told in json.loads(json.dumps(answers)).items():
        assert len(told) == len(asked)
        assert case.task.score(told, asked) == case.task.score(answers[rival], asked)


@pytest.mark.parametrize(
    "asked", ["causal_lm windows", "causal_lm truncate", "chat windows", "chat truncate", "seq2seq truncate"]
)
def test_counted_trigrams_guess_the_tokens_that_the_model_guesses(asked: str, folder: Path) -> None:
    """Else their losses, summed over a row, are of two texts."""
    name, long = asked.split()
    case = toys.case(f"{name}-full", folder)
    task, model = case.task.replace(long=long), case.model()
    for length in (8, 16, 64):
        encoded = task.encode(case.cleaned, case.tokenizer, length)
        ours = by_row(model, task, case.tokenizer, encoded, 512, task.glance)
        told = task.baselines(case.cleaned[::2], case.cleaned, case.tokenizer, length)["ngram"]
        assert [each["tokens"] for each in told] == [each["tokens"] for each in ours]


def test_one_reading_gives_the_glances_and_the_loss_of_two(case: toys.Case) -> None:
    model, read = case.model(), []
    model.get_input_embeddings().register_forward_hook(lambda *_given: read.append(1))
    asked = model, case.task, case.tokenizer, case.rows[:6], 64
    glances, loss = by_row(*asked, case.task.glance), mean_loss(*asked)
    twice = len(read)
    read.clear()
    assert glances_and_loss(*asked) == (glances, loss)
    if case.task.direction > 0:  # else nobody asks for both
        assert len(read) == twice / 2
    assert "forward" not in vars(model)


def test_how_a_step_is_cut_changes_nothing(case: toys.Case, accelerator: Any) -> None:
    plan = case.plan(8)
    longest = max(plan.lengths[row] for row in plan.rows(0))
    pieces = {micro: len(case.plan(8, micro).micro_batches(0)) for micro in (toys.WHOLE, 2 * longest, 1)}
    assert pieces[toys.WHOLE] == 1 and 1 < pieces[2 * longest] <= 4 and pieces[1] in (7, 8)
    found = [toys.train(case, accelerator, 1, micro) for micro in pieces]
    before, one = toys.weights(case.model()), found[0][0]
    step = toys.distance(before, one)
    assert step > 0
    for after, taken in found[1:]:
        assert toys.apart(one, after) < 1e-6 and toys.distance(one, after) < 1e-2 * step
        assert taken[0].loss == pytest.approx(found[0][1][0].loss, rel=1e-6)
        assert taken[0].grad_norm == pytest.approx(found[0][1][0].grad_norm, rel=1e-4)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether all weights are equal, bit by bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lines(run: Path) -> list[dict[str, Any]]:
    """Return the lines of `steps.jsonl` but for the time."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read(run / "steps.jsonl")]


class Killed(Exception):
    """Stands for a power cut: nothing is saved on the way out."""


def killed(step: int) -> None:
    if step == 8:
        raise Killed


def interrupted(step: int) -> None:
    if step == 5:
        os.kill(os.getpid(), signal.SIGINT)


def test_a_stopped_and_resumed_run_is_the_straight_run(
    case: toys.Case, accelerator: Any, tmp_path: Path
) -> None:
    assert 5 % case.plan(6).steps_per_epoch, "the stop must fall into the middle of an epoch"
    straight, progress = toys.run(case, accelerator, tmp_path / "straight")
    assert progress.step == 12
    assert not same(straight, toys.weights(case.model()))

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="after step 5"):
        toys.run(case, accelerator, tmp_path / "asked", halt=interrupted, save_steps=0)
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(Killed):  # in step 8, after the checkpoint of step 5
        toys.run(case, accelerator, tmp_path / "killed", halt=killed)

    for stopped in ("asked", "killed"):
        resumed, after = toys.run(case, accelerator, tmp_path / stopped, resume=True)
        assert same(straight, resumed), stopped
        assert (after.best, after.best_step, after.tokens) == (
            progress.best, progress.best_step, progress.tokens,
        )  # fmt: skip
        assert lines(tmp_path / stopped) == lines(tmp_path / "straight")


@pytest.fixture(scope="module")
def two_processes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all cases in one launch of two processes; return the folder of what they wrote."""
    out = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = Path(__file__).with_name("_two_processes.py")
    done = subprocess.run(
        [*launch, str(script), str(folder), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    # What counts are the files: the exit code of gloo says little.
    assert (out / "resumed.0.safetensors").is_file() and (out / "resumed.1.safetensors").is_file(), (
        done.stderr
    )
    return out


def test_two_processes_are_one(
    request: pytest.FixtureRequest, case: toys.Case, accelerator: Any, two_processes: Path
) -> None:
    name = request.node.callspec.params["case"]
    one, taken = toys.train(case, accelerator, 3)
    ranks = [load_file(two_processes / f"{name}.{rank}.safetensors") for rank in (0, 1)]
    assert same(*ranks)
    assert toys.apart(one, ranks[0]) < 1e-6
    for rank in (0, 1):
        told = json.loads((two_processes / f"{name}.{rank}.json").read_text())
        for (loss, grad_norm, tokens, rows), step in zip(told, taken, strict=True):
            assert (tokens, rows) == (step.tokens, step.rows)
            assert loss == pytest.approx(step.loss, rel=1e-5)
            assert grad_norm == pytest.approx(step.grad_norm, rel=1e-3)


def test_two_processes_see_one_curvature(two_processes: Path, folder: Path, accelerator: Any) -> None:
    one = toys.curvature(toys.case("masked_lm-full-pairs", folder), accelerator)
    ranks = [load_file(two_processes / f"curvature.{rank}.safetensors") for rank in (0, 1)]
    assert same(*ranks)
    assert toys.apart(one, ranks[0]) < 1e-5
    for kind in ("gnb", "hutchinson"):
        assert same(*(load_file(two_processes / f"{kind}.{rank}.safetensors") for rank in (0, 1)))


def test_two_processes_agree_in_every_stage_and_stop_together(two_processes: Path) -> None:
    """A stage that only flips `requires_grad` leaves ranks with unlike weights; Ctrl-C reaches one rank first."""
    found = {
        name: [load_file(two_processes / f"{name}.{rank}.safetensors") for rank in (0, 1)]
        for name in ("straight", "resumed")
    }
    assert same(*found["straight"])
    assert all("after step 8" in (two_processes / f"stopped.{rank}.txt").read_text() for rank in (0, 1))
    for rank in (0, 1):
        assert same(found["straight"][rank], found["resumed"][rank])
    assert lines(two_processes / "stopped") == lines(two_processes / "straight")


def stirred(case: toys.Case) -> torch.nn.Module:
    """Return the model with noise on every weight that the method trains: a fresh adapter changes nothing yet."""
    model = case.model(dropout=None)
    stages = case.method.stages(model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(stage.trainable is None or name in stage.trainable for stage in stages):
                weight += 0.05 * torch.randn_like(weight)
    return model.eval()


def test_saved_and_loaded_it_gives_the_same_answers(case: toys.Case, tmp_path: Path) -> None:
    before = case.bundle(stirred(case))
    before.save(tmp_path)
    after = Bundle.load(tmp_path)
    batch = some(case, range(8))
    with torch.no_grad():
        told, again = case.task.answer(before.model, batch), after.task.answer(after.model, batch)
    assert told == again
    assert told != case.task.answer(case.model().eval(), batch), "the noise must show"
    assert (after.task, after.method, after.max_length) == (case.task, case.method, toys.LENGTH)
    assert case.tokenizer("¿Qué tal, niño?") == after.tokenizer("¿Qué tal, niño?")
    assert {weight.dtype for weight in after.model.parameters()} == {torch.float32}


def test_the_json_of_a_task_and_a_method_tells_all(case: toys.Case, tmp_path: Path) -> None:
    for thing in (case.task, case.method):
        assert type(thing).of(json.loads(json.dumps(thing.model_dump(mode="json")))) == thing
    case.bundle(case.model()).save(tmp_path)
    about = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    assert find("tasks", about["task"]).of(about["task_settings"]) == case.task
    assert find("methods", about["method"]).of(about["method_settings"]) == case.method


def test_plain_transformers_gives_the_same_logits(case: toys.Case, tmp_path: Path) -> None:
    if type(case.method) is not Full:
        pytest.skip("an adapter's folder is for peft")
    model = stirred(case)
    case.bundle(model).save(tmp_path)
    plain = getattr(transformers, case.task.head).from_pretrained(tmp_path).eval()
    asked = dict(zip(case.task.inputs, ("muy bueno, my phone", "un gato duerme"), strict=False))
    text = transformers.AutoTokenizer.from_pretrained(tmp_path)(*asked.values(), return_tensors="pt")
    if case.task.head in toys.FOLDERS:
        text["use_cache"] = False
    if plain.config.is_encoder_decoder:
        text["decoder_input_ids"] = text["input_ids"].flip(1)
    # Copied: the last bit of a small matrix product depends on where in the file a weight began.
    plain, model = deepcopy(plain), deepcopy(model)
    with torch.no_grad():
        for told, again in zip(plain(**text).to_tuple(), model(**text).to_tuple(), strict=True):
            assert torch.equal(told, again)
    if case.task.head == "AutoModelForSequenceClassification":
        names = case.task.config().get("id2label", {0: "LABEL_0"})
        assert plain.config.id2label == names
        (answer,) = Bundle.load(tmp_path).answers([asked])
        (again,) = case.task.form.answer(plain(**text).logits)
        assert again == pytest.approx(answer, abs=1e-6)
        if case.task.config().get("id2label") and "problem_type" not in case.task.config():
            assert plain(**text).logits[0].softmax(-1).tolist() == pytest.approx(answer, abs=1e-6)


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("telling"), initializer_range=0.3)


def test_eight_rows_can_be_learnt(
    case: toys.Case, telling: Path, accelerator: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A body that stays frozen must have something to tell; `full` learns from any."""
    method = request.node.callspec.params["case"].split("-")[1]
    if method != "full":
        case = case._replace(folder=telling / toys.FOLDERS.get(case.task.head, ""))
    model = case.model()
    batch = some(case, list(range(0, len(case.rows), len(case.rows) // 8))[:8])

    def loss() -> float:
        model.eval()
        with torch.no_grad():
            terms = case.task.loss(model, batch)
        means = {
            name: float(term.sum) / batch.counts[name] for name, term in terms.items() if batch.counts[name]
        }
        return sum(means.values())

    before = loss()
    # A text that stands alone cannot be told from the seven others before it has begun.
    alone = request.node.callspec.params["case"].startswith("causal_lm") and method not in toys.LEFT
    least = math.log(8) * 8 / batch.counts["loss"] if alone else 0
    fit(
        accelerator,
        model,
        case.method,
        case.task.loss,
        lambda start, stop, _most: repeat([batch], stop - start),
        Budget(steps=320 if method == "full" else 160, learning_rate=5e-3 if method == "full" else 1e-2),
        tmp_path,
        steps_per_epoch=1,
        quiet=True,
    )
    assert loss() < least + (before * toys.LEFT[method] if method in toys.LEFT else min(0.05, before / 20))


@pytest.fixture
def staged(folder: Path) -> toys.Case:
    return toys.case("classification-full", folder)._replace(method=toys.Halves())


def test_frozen_weights_stay_as_they_are(staged: toys.Case, accelerator: Any, tmp_path: Path) -> None:
    before = toys.weights(staged.model())
    after, _progress = toys.run(staged, accelerator, tmp_path, weight_decay=0.1)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = set().union(*(stage.trainable or () for stage in staged.method.stages(staged.model())))
    assert changed == trained and trained < before.keys()


def test_each_stage_trains_its_own_weights_at_its_own_rate(
    staged: toys.Case, accelerator: Any, tmp_path: Path
) -> None:
    head, last = (stage.trainable or frozenset() for stage in staged.method.stages(staged.model()))
    before = toys.weights(staged.model())
    with pytest.raises(Killed):  # in step 8, after the checkpoint of step 6, where the second stage begins
        toys.run(staged, accelerator, tmp_path, halt=killed, save_steps=6)
    saved = load_file(tmp_path / "last" / "weights.safetensors")
    assert saved.keys() == head | last
    assert {name for name in saved if not torch.equal(saved[name], before[name])} == head
    toys.run(staged, accelerator, tmp_path, resume=True)
    rates = [line["learning_rate"] for line in lines(tmp_path) if "learning_rate" in line]
    assert [max(rates[:6]), max(rates[6:])] == pytest.approx([2e-3, 1e-3])


@pytest.mark.parametrize("stop", [3, 6, 9])
def test_a_run_of_stages_can_be_resumed_anywhere(
    stop: int, staged: toys.Case, accelerator: Any, tmp_path: Path
) -> None:
    """In a stage, at its border, and in the next: what an earlier stage learnt must come back too."""

    def halt(step: int) -> None:
        if step == stop + 1:
            raise Killed

    straight, _progress = toys.run(staged, accelerator, tmp_path / "straight")
    with pytest.raises(Killed):
        toys.run(staged, accelerator, tmp_path / "run", halt=halt, save_steps=3)
    resumed, _progress = toys.run(staged, accelerator, tmp_path / "run", resume=True, save_steps=3)
    assert same(straight, resumed)


def test_a_finished_run_that_is_resumed_keeps_its_weights(
    folder: Path, accelerator: Any, tmp_path: Path
) -> None:
    case = toys.case("classification-full", folder)
    trained, _progress = toys.run(case, accelerator, tmp_path)
    again, progress = toys.run(case, accelerator, tmp_path, resume=True)
    assert same(trained, again) and progress.step == 12


def worse_and_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every scoring of a run find a higher loss than the one before."""
    losses = iter(range(100))
    monkeypatch.setattr(toys, "mean_loss", lambda *_given: float(next(losses)))


def test_patience_begins_with_the_last_stage(
    staged: toys.Case, accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two stages begins after step 6: until then most weights are frozen."""
    worse_and_worse(monkeypatch)
    straight, progress = toys.run(staged, accelerator, tmp_path / "straight", patience=3, eval_steps=1)
    assert (progress.step, progress.best_step, progress.stopped) == (9, 1, True)
    for stop in (4, 8):
        worse_and_worse(monkeypatch)

        def halt(step: int, stop: int = stop) -> None:
            if step == stop:
                raise Killed

        kept, run = {"patience": 3, "eval_steps": 1, "save_steps": 1}, tmp_path / str(stop)
        with pytest.raises(Killed):
            toys.run(staged, accelerator, run, halt=halt, **kept)
        resumed, progress = toys.run(staged, accelerator, run, resume=True, **kept)
        assert progress.step == 9 and same(straight, resumed)


def test_the_peak_of_memory_is_that_of_all_processes_of_a_run(
    folder: Path, accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = toys.case("classification-full", folder)
    for first, other in ((900.0, 400.0), (400.0, 900.0)):
        run = tmp_path / str(first)
        monkeypatch.setattr(train, "peak_memory_mb", lambda peak=first: peak)
        with pytest.raises(Killed):  # in step 8, after the checkpoint of step 5
            toys.run(case, accelerator, run, halt=killed)
        monkeypatch.setattr(train, "peak_memory_mb", lambda peak=other: peak)
        _weights, progress = toys.run(case, accelerator, run, resume=True)
        assert progress.peak_memory_mb == 900.0
