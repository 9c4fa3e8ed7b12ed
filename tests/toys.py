"""What the contract tests share: a two-layer BERT on disk, and every task and method on the task's toy rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForPreTraining,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from afina.batching.plan import Plan, batches
from afina.batching.windows import Windows
from afina.core import Batch, Method, Row, Stage, Step, Table, Task
from afina.data.corpus import Corpus
from afina.methods.full import Full
from afina.models.byte_bpe import train_byte_bpe
from afina.models.load import load, load_tokenizer
from afina.models.wordpiece import train_wordpiece
from afina.names import find, known
from afina.train.bundle import Base, Bundle, mean_loss
from afina.train.curvature import hutchinson
from afina.train.fit import Budget, Progress, fit
from afina.train.frozen import Readings
from afina.train.loop import Objective, steps
from afina.train.work import Work

WHOLE = 10**6  # micro-batch tokens that hold any step in one piece
LENGTH = 32  # positions of the model
SHORT = 8  # tokens that a variant called "windows" reads at once
# Where `build` writes the model for tasks that an encoder is not made for, by their head.
FOLDERS = {"AutoModelForCausalLM": "decoder", "AutoModelForSeq2SeqLM": "encoder_decoder"}

# Beside every task with its own defaults: knobs that change what its loss sums over, which is nothing to a method,
# so that one method will do. A corpus brings pairs.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "classification": {
        "balanced": {"class_weight": "balanced"},
        "windows": {"long": "windows", "doc_stride": 1},
    },
    "token_labels": {"balanced": {"class_weight": "balanced"}, "words": {"tags": "words"}, "windows": {}},
    "regression": {"bounded": {"bounds": "0,6"}},
    "sentence_pair": {
        "score": {"target": "score"},
        "balanced": {"class_weight": "balanced"},
        "windows": {"long": "windows"},
    },
    "masked_lm": {"pairs": {"nsp": True, "nsp_weight": 0.5}, "bag of words": {"bow_weight": 0.5}},
}
NAMES = [
    "-".join(filter(None, (task, method, variant)))
    for task in known("tasks")
    for method in known("methods")
    for variant in ("", *(VARIANTS.get(task, ()) if method == "full" else ()))
]


class Case(NamedTuple):
    """One task under one method, with the encoded toy rows."""

    task: Task
    method: Method
    tokenizer: PreTrainedTokenizerBase
    rows: Sequence[Row]
    folder: Path
    cleaned: Sequence[Row]

    def model(self, dropout: float | None = 0.0) -> nn.Module:
        """Return a fresh model, the same every time; `dropout` of None leaves the model's own 0.1."""
        torch.manual_seed(0)
        model = self.method.modify(
            load(self.folder, self.task.head, self.task.config(), dropout=dropout), self.tokenizer
        )
        self.method.quicken(model)
        return model

    def bundle(self, model: nn.Module) -> Bundle:
        """Return the model with all that is saved with it."""
        base = Base.of(str(self.folder), self.folder)
        return Bundle(model, self.tokenizer, self.task, self.method, LENGTH, base=base)

    def plan(self, batch_size: int, micro_tokens: int = WHOLE, world: int = 1, rank: int = 0) -> Plan:
        return Plan([self.task.length(row) for row in self.rows], batch_size, micro_tokens, 0, world, rank)

    def batches(self, plan: Plan) -> Callable[..., Iterable[list[Batch]]]:
        return partial(batches, plan, self.rows, partial(self.task.collate, tokenizer=self.tokenizer))


class Halves(Full):
    """First the head alone, then the last layer alone: for tests of stages. The rest never trains."""

    def stages(self, model: nn.Module) -> list[Stage]:
        names = [name for name, _weight in model.named_parameters()]
        head = frozenset(name for name in names if name.startswith("classifier"))
        last = frozenset(name for name in names if ".layer.1." in name)
        return [Stage("head", head, 0.5, 2.0), Stage("last layer", last, 0.5)]


# What is left, at most, of the loss on eight rows after 160 steps: `full` knows them by heart, and so must any method
# that is not named here. The others learn around a frozen body, which bounds them most where its vocabulary does.
LEFT = {
    "partial": 1 / 20,
    "houlsby": 1 / 5,
    "hybrid": 1 / 5,
    "lora": 1 / 5,
    "head": 3 / 5,
    "prefix": 1 / 3,
    "bitfit": 3 / 4,
    "ia3": 3 / 4,
    "prompt": 4 / 5,
}


def build(folder: Path, initializer_range: float = 0.02) -> Path:
    """Write a two-layer BERT and a tokenizer trained on the toy rows of all tasks, as a Hugging Face folder.

    A decoder and an encoder-decoder lie in folders within. With a wide `initializer_range` the features of the untrained body tell rows apart, as those of a trained one do.
    """
    texts = [
        " ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name in known("tasks")
        for row in find("tasks", name).toy()
        for value in row.values()
    ]
    tokenizer = train_wordpiece(iter(texts), 1000)
    tokenizer.model_max_length = LENGTH
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        initializer_range=initializer_range,
    )
    BertForPreTraining(config).save_pretrained(folder)
    text = folder / "documents.txt"
    text.write_text("\n\n".join("\n".join(texts[i : i + 4]) for i in range(0, len(texts), 4)), "utf-8")
    Corpus.build([text], tokenizer, folder / "corpus")
    tokenizer = train_byte_bpe(iter(texts), 600)
    tokenizer.model_max_length = LENGTH
    ends: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    decoder = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            initializer_range=initializer_range,
            attention_bias=True,  # for `bitfit`
            mlp_bias=True,
            bos_token_id=tokenizer.bos_token_id,
            **ends,
        )
    )
    # A BART, since transformers ties the vocabulary of every T5 to its embeddings, which leaves it no head to train.
    both = BartForConditionalGeneration(
        BartConfig(
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=LENGTH,
            init_std=initializer_range,
            bos_token_id=tokenizer.bos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
            forced_eos_token_id=None,
            **ends,
        )
    )
    for model, name in ((decoder, "decoder"), (both, "encoder_decoder")):
        tokenizer.save_pretrained(folder / name)
        model.save_pretrained(folder / name)
    return folder


def case(name: str, folder: Path) -> Case:
    """Return the case of that name (see NAMES) with the model that `build` wrote."""
    task_name, method_name, *variant = name.split("-")
    knobs = VARIANTS[task_name][variant[0]] if variant else {}
    kind = find("tasks", task_name)
    folder = folder / FOLDERS.get(kind.head, "")
    tokenizer = load_tokenizer(folder)
    table = Table(kind.toy(), tuple(kind.toy()[0]), "toy")
    task = kind.of(knobs).choose_columns(table)
    cleaned = [row for row in map(task.clean, table.rows) if row is not None]
    cleaned = cleaned[
        : 4 * len(cleaned) // 5
    ]  # labels come unevenly, and a step's rows do not divide the epoch
    task = task.learn(cleaned)
    rows: Sequence[Row] = task.encode(cleaned, tokenizer, SHORT if variant == ["windows"] else LENGTH)
    if variant == ["pairs"]:
        windows = Windows(Corpus.open(folder / "corpus"), LENGTH - 3)
        rows = [windows[i] for i in range(len(windows))]
    return Case(task, find("methods", method_name)(), tokenizer, rows, folder, cleaned)


def train(
    case: Case, accelerator: Any, count: int, micro_tokens: int = WHOLE
) -> tuple[dict[str, Tensor], list[Step]]:
    """Take `count` plain SGD steps of eight rows; return the weights and what happened.

    Plain SGD shows the gradient as it is; Adam divides its length away and blows rounding errors up.
    """
    model = case.model().to(accelerator.device)
    first = case.method.stages(model)[0].trainable
    for name, weight in model.named_parameters():
        weight.requires_grad_(first is None or name in first)
    plan = case.plan(8, micro_tokens, accelerator.num_processes, accelerator.process_index)
    plain = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.5)
    objective, optimizer = accelerator.prepare(Objective(model, case.task.loss), plain)
    taken = list(
        steps(accelerator, objective, optimizer, lambda _step: 1.0, case.batches(plan)(0, count), max_grad_norm=1e9)
    )  # fmt: skip
    accelerator.free_memory()
    return weights(model), taken


def curvature(case: Case, accelerator: Any) -> dict[str, Tensor]:
    """Return by weight an estimate of the Hessian's diagonal on eight rows, those of all processes."""
    plan = case.plan(8, WHOLE, accelerator.num_processes, accelerator.process_index)
    micro = next(iter(case.batches(plan)(0, 1)))
    objective = Objective(case.model().to(accelerator.device), case.task.loss).eval()
    counts = {}
    for name in sorted(micro[0].counts):
        own = torch.tensor(sum(batch.counts[name] for batch in micro))
        counts[name] = float(accelerator.reduce(own, "sum"))
    named = dict(objective.model.named_parameters())
    found = hutchinson(
        accelerator, objective, list(named.values()), micro, counts, 7, accelerator.process_index
    )
    return dict(zip(named, found, strict=True))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every weight."""
    return {name: weight.detach().cpu().clone() for name, weight in model.named_parameters()}


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Return the length of the difference over the length of `a`, all weights taken as one vector."""
    return distance(a, b) / distance(a, {name: torch.zeros_like(weight) for name, weight in a.items()})


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Return the length of the difference, all weights taken as one vector."""
    assert a.keys() == b.keys()
    return sum(float((a[name].double() - b[name].double()).square().sum()) for name in a) ** 0.5


def run(
    case: Case,
    accelerator: Any,
    folder: Path,
    *,
    halt: Callable[[int], None] = lambda _step: None,
    resume: bool = False,
    readings: Readings | None = None,
    **budget: Any,
) -> tuple[dict[str, Tensor], Progress]:
    """Train twelve steps of six rows through `fit`, dropout and masks on; return the weights and the progress.

    `halt` is called with each step (from 1) before its batch is made, and may stop the run there.
    """
    folder.mkdir(exist_ok=True)
    model = case.model(dropout=None)
    plan = case.plan(6, 24, accelerator.num_processes, accelerator.process_index)

    def halting(start: int, stop: int, most: int | None = None) -> Iterator[list[Batch]]:
        for step, batch in enumerate(case.batches(plan)(start, stop, most), start + 1):
            halt(step)
            yield batch

    def evaluate(model: nn.Module) -> tuple[list[float], dict[str, Any]]:
        loss = mean_loss(model, case.task, case.tokenizer, case.rows[:8], WHOLE)
        return [-loss], {"validation": {"loss": loss}}

    progress = fit(
        accelerator,
        model,
        case.method,
        case.task.loss,
        halting,
        Budget(**{"steps": 12, "learning_rate": 1e-3, "eval_steps": 4, "save_steps": 5} | budget),
        folder,
        steps_per_epoch=plan.steps_per_epoch,
        evaluate=evaluate,
        readings=readings,
        work=Work,
        resume=resume,
        quiet=True,
        drawn=getattr(case.task, "drawn", None),
    )
    return weights(model), progress


def alike(a: Any, b: Any, tolerance: float) -> bool:
    """Whether two answers say the same, their numbers to an absolute and relative tolerance."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key], tolerance) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(alike(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return abs(a - b) <= tolerance * max(1.0, abs(a))
    return bool(a == b)
