"""What `speed.py` measures beside afina: one job in a process of its own, written as the peer's users write it.

`python benchmarks/speed_peers.py SYSTEM JOB.json OUT.json`. Every Trainer reads the same rows in the same epochs at the
same learning rate; what a user of that system would not have set is left at its default. Nothing goes to a network.
"""

import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything of Hugging Face is imported

Job = dict[str, Any]
CHUNK = 128  # tokens of a row of pre-training


def rows(file: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def peak(job: Job) -> dict[str, Any]:
    """Return the FLOP a second of a plain matrix product in fp32: the best of one second of many."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 4096 if device == "cuda" else 1024
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    best, end = 0.0, time.perf_counter() + 1
    while time.perf_counter() < end:
        began = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return {"flop_per_s": best}


def prepare(job: Job) -> dict[str, Any]:
    """Write the BERT-small shape with random weights beside the embedded model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(job["tokenizer"])
    torch.manual_seed(0)
    config: Any = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        intermediate_size=2048,
        attention_probs_dropout_prob=0.0,  # as the embedded one has it, so that both sides may take fused attention
    )
    BertModel(config).save_pretrained(job["small"])
    tokenizer.save_pretrained(job["small"])
    return {}


def count(job: Job) -> dict[str, Any]:
    """Return how many tokens, special ones counted, the rows of each file have, and the sum of their squares."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    found = {}
    for part in ("train", "test"):
        texts = [row["text"] for row in rows(job[part])]
        lengths = [
            len(ids) for ids in tokenizer(texts, truncation=True, max_length=job["max_length"])["input_ids"]
        ]
        found[part] = {
            "rows": len(lengths),
            "tokens": sum(lengths),
            "squares": sum(n * n for n in lengths),
            "longest": max(lengths),
        }
    return found


def trainer(job: Job) -> dict[str, Any]:
    """`transformers.Trainer` at its defaults: batches of 8 in random order, each padded to its longest row."""
    return _classify(job)


def tuned(job: Job) -> dict[str, Any]:
    """Trainer as one sets it who knows it: rows of like length together, larger batches, fused AdamW."""
    return _classify(
        job,
        per_device_train_batch_size=job["batch"],
        per_device_eval_batch_size=64,
        train_sampling_strategy="group_by_length",
        optim="adamw_torch_fused",
        save_strategy="no",
    )


def guide(job: Job) -> dict[str, Any]:
    """The script that guides pass on: every row padded to 128, scored and saved in every epoch, on the test rows."""
    return _classify(
        job,
        pad_to=128,
        evaluated=True,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=64,
        warmup_steps=500,
        weight_decay=0.01,
        logging_steps=10,
        eval_strategy="epoch",
        save_strategy="epoch",
    )


def lora(job: Job) -> dict[str, Any]:
    """Plain peft on the same layers, trained by Trainer in batches of the same size."""
    return _classify(job, change=_with_lora, per_device_train_batch_size=job["batch"])


def mlm(job: Job) -> dict[str, Any]:
    """Pre-training as in `run_mlm.py`: text in rows of 128 tokens, DataCollatorForLanguageModeling, Trainer."""
    from datasets import Dataset
    from transformers import (
        AutoTokenizer,
        BertConfig,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    parts = {}
    for part in ("train", "validation"):
        texts = Path(job[part]).read_text(encoding="utf-8").split("\n\n")
        ids = [i for each in tokenizer(texts)["input_ids"] for i in each]
        chunks = [ids[i : i + CHUNK] for i in range(0, len(ids) - CHUNK, CHUNK)]
        parts[part] = Dataset.from_dict({"input_ids": chunks})
    shape: Any = BertConfig(
        vocab_size=len(tokenizer), hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=1024, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    batch = job["step"] // CHUNK
    steps = max(1, job["tokens"] // job["step"])
    ours = _clocked(Trainer)(
        model=BertForMaskedLM(shape),
        args=TrainingArguments(
            output_dir=job["output_dir"], max_steps=steps, learning_rate=job["learning_rate"],
            per_device_train_batch_size=batch, report_to="none", seed=job["seed"],
        ),
        train_dataset=parts["train"],
        eval_dataset=parts["validation"].select(range(min(64, len(parts["validation"])))),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
    )  # fmt: skip
    seconds = ours.clock(ours.train)
    loss = ours.evaluate()["eval_loss"]
    ours.save_model(job["output_dir"])
    return {"train_seconds": seconds, "rows": steps * batch, "tokens": steps * batch * CHUNK, "loss": loss}


def pipeline(job: Job) -> dict[str, Any]:
    """`transformers.pipeline` in batches of 32, in the order in which the texts come."""
    from transformers import pipeline as make

    ask = make("text-classification", model=job["trained"], truncation=True, max_length=job["max_length"])
    texts = [row["text"] for row in rows(job["test"])]
    began = time.perf_counter()
    told = [each["label"] for each in ask(texts, batch_size=32)]
    return {"train_seconds": time.perf_counter() - began, "rows": len(texts), "told": told}


def predict(job: Job) -> dict[str, Any]:
    """The same by afina, from Python, as in its read-me."""
    from afina import Bundle

    bundle = Bundle.load(Path(job["trained"]))
    texts = [row["text"] for row in rows(job["test"])]
    began = time.perf_counter()
    told = [each["prediction"] for each in bundle.predict(texts)]
    return {"train_seconds": time.perf_counter() - began, "rows": len(texts), "told": told}


def simpletransformers(job: Job) -> dict[str, Any]:
    """Its ClassificationModel at its defaults: batches of 8, every row padded to 128. Saving counts as training."""
    import pandas as pd
    import torch
    from simpletransformers.classification import ClassificationArgs, ClassificationModel

    parts, labels = _parts(job)
    settings: Any = ClassificationArgs(
        num_train_epochs=job["epochs"], learning_rate=job["learning_rate"], manual_seed=job["seed"],
        output_dir=job["output_dir"], cache_dir=job["output_dir"] + "-cache", overwrite_output_dir=True,
        use_multiprocessing=False, use_multiprocessing_for_evaluation=False, no_cache=True, silent=True,
    )  # fmt: skip
    model: Any = ClassificationModel(
        "bert", job["model"], num_labels=len(labels), args=settings, use_cuda=torch.cuda.is_available()
    )
    own, spent = model.train, []

    def train(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        found = own(*given, **named)
        spent.append(time.perf_counter() - began)
        return found

    model.train = train
    frame = pd.DataFrame({part: [row[part] for row in parts["train"]] for part in ("text", "label")})
    model.train_model(frame.rename(columns={"label": "labels"}))
    told, _raw = model.predict([row["text"] for row in parts["test"]])
    return {
        "train_seconds": sum(spent),
        "rows": round(len(parts["train"]) * job["epochs"]),
        "told": [labels[each] for each in told],
    }


def _parts(job: Job) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Return the rows of training and test with labels as numbers, and the labels' names."""
    found = {part: rows(job[part]) for part in ("train", "test")}
    labels = sorted({row["label"] for row in found["train"]})
    known = {label: number for number, label in enumerate(labels)}
    return {
        part: [{"text": row["text"], "label": known[row["label"]]} for row in some]
        for part, some in found.items()
    }, labels


def _classify(
    job: Job,
    *,
    pad_to: int | None = None,
    evaluated: bool = False,
    change: Callable[[Any], Any] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Train a classifier with Trainer, answer the test rows once at the end (or `evaluated` in every epoch), save."""
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(job["seed"])
    parts, labels = _parts(job)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    cut: dict[str, Any] = {"truncation": True, "max_length": pad_to or job["max_length"]}
    if pad_to:
        cut["padding"] = "max_length"
    sets = {
        part: Dataset.from_list(some).map(lambda batch: tokenizer(batch["text"], **cut), batched=True)
        for part, some in parts.items()
    }
    model = AutoModelForSequenceClassification.from_pretrained(
        job["model"], num_labels=len(labels), dtype="float32"
    )
    if job.get("trains"):
        for name, weight in model.named_parameters():
            weight.requires_grad_(name.startswith(tuple(job["trains"])))
    if change:
        model = change(model)
    told: list[int] = []

    def answers(logits: Any) -> None:
        told[:] = logits.argmax(-1).tolist()

    def metrics(predicted: Any) -> dict[str, float]:
        answers(predicted.predictions)
        return {"accuracy": float((predicted.predictions.argmax(-1) == predicted.label_ids).mean())}

    ours = _clocked(Trainer)(
        model=model,
        args=TrainingArguments(
            output_dir=job["output_dir"],
            num_train_epochs=job["epochs"],
            learning_rate=job["learning_rate"],
            seed=job["seed"],
            report_to="none",
            **arguments,
        ),
        train_dataset=sets["train"],
        eval_dataset=sets["test"],
        processing_class=tokenizer,
        compute_metrics=metrics if evaluated else None,
    )
    seconds = ours.clock(ours.train)
    if not evaluated:
        ours.args.train_sampling_strategy = "random"  # grouping by length would reorder the answers too
        predicted = ours.predict(sets["test"])
        if predicted.label_ids.tolist() != sets["test"]["label"]:
            raise SystemExit("Trainer's answers are not in the order of the rows.")
        answers(predicted.predictions)
    ours.save_model(job["output_dir"])
    return {
        "train_seconds": seconds,
        "rows": round(len(sets["train"]) * job["epochs"]),
        "told": [labels[each] for each in told],
        "trained_weights": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
    }


def _with_lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    layers = ["query", "key", "value", "dense"]
    return get_peft_model(
        model, LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, lora_dropout=0.0, target_modules=layers)
    )


def _clocked(trainer: type) -> type:
    """Return a Trainer that knows how long its training took without evaluating and saving."""

    class Clocked(trainer):
        beside = 0.0

        def clock(self, train: Callable[[], Any]) -> float:
            began = time.perf_counter()
            train()
            return time.perf_counter() - began - self.beside

        def evaluate(self, *given: Any, **named: Any) -> Any:
            with self._beside():
                return super().evaluate(*given, **named)

        def _save_checkpoint(self, *given: Any, **named: Any) -> Any:
            with self._beside():
                return super()._save_checkpoint(*given, **named)

        @contextmanager
        def _beside(self) -> Iterator[None]:
            began = time.perf_counter()
            yield
            self.beside += time.perf_counter() - began

    return Clocked


SYSTEMS = (
    peak, prepare, count, trainer, tuned, guide, lora, mlm, pipeline, predict, simpletransformers,
)  # fmt: skip


def main(name: str, job: str, out: str) -> None:
    """Do one job and write what came of it."""
    system = next(each for each in SYSTEMS if each.__name__ == name)
    found = system(json.loads(Path(job).read_text(encoding="utf-8")))
    Path(out).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
