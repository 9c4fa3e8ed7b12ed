"""A text out of a text: translate, summarise, correct, answer, or name a label (Sutskever et al. 2014; Raffel et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from afina.core import About, Batch, Row, Table
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._targets import cut, end_token, ended
from afina.tasks._windows import WHOLE
from afina.tasks._written import IGNORED, Written
from afina.tasks._written_rivals import TARGET_RIVALS, looked_up, trigrams

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


class Seq2Seq(Written):
    """Write the target of each row from its source, with an encoder-decoder; a label's name is a target like any.

    An encoded row holds the source's `input_ids`, the target's `target`, how many tokens of both were `cut`, and
    as `prompt` the source again where it is to be answered in words. The longer of the two counts as a row's length.
    """

    head: ClassVar[str] = "AutoModelForSeq2SeqLM"
    embedded: ClassVar[str | None] = None
    pace: ClassVar[float] = 0.5
    inputs: ClassVar[tuple[str, ...]] = ("source",)
    gold: ClassVar[tuple[str, ...]] = ("target",)

    source: str | None = setting(
        None, N_("Column that holds the text to write from (default: guessed and said).")
    )
    target: str | None = setting(
        None, N_("Column that holds the text to be written (default: guessed and said).")
    )
    long: Literal["truncate"] = setting(
        "truncate",
        N_("What becomes of a source or target longer than --max-length tokens: its end is cut off."),
    )
    source_prefix: str | None = setting(
        None,
        N_('What is put before every source, as T5 is asked: "translate English to Spanish: ".'),
    )

    def choose_columns(self, table: Table) -> Seq2Seq:
        from afina.data.columns import guess

        task = self.choose_inputs(table, taken=[self.target] if self.target else [])
        target = guess(table, "target", self.target, taken=[task.source or ""])
        if target == task.source:
            raise InputError(
                _(
                    "Column '{column}' cannot be both source and target. Name two with --source and --target."
                ).format(column=target)
            )
        return task.replace(target=target)

    def choose_inputs(self, table: Table, taken: Sequence[str] = ()) -> Seq2Seq:
        from afina.data.columns import guess

        return self.replace(source=guess(table, "source", self.source, taken))

    def about(self) -> About:
        return About(
            N_("A model that writes a text from a text, fine-tuned with afina."),
            N_("What it writes is likely, not true: it can leave out, repeat and invent."),
            rivals=TARGET_RIVALS,
            pipeline="text2text-generation",
        )

    def clean(self, row: Row) -> Row | None:
        from afina.data.value import label_text, text_of

        source = text_of(row.get(self.source or "source")) or ""
        target = row.get(self.target or "target")
        # A label may be a number or true; of a text only the blanks around it go.
        target = (text_of(target) if isinstance(target, str) else label_text(target)) or ""
        if not source.strip() or not target.strip():
            return None
        return {"source": source, "target": target.strip()}

    def key(self, row: Row) -> Any:
        return row["source"]

    def reference(self, row: Row) -> str | None:
        return row["target"]

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        end = end_token(tokenizer)
        sources = tokenizer(
            [f"{self.source_prefix or ''}{row['source']}" for row in rows], truncation=True, max_length=WHOLE
        )["input_ids"]
        encoded = []
        for number, (row, whole) in enumerate(zip(rows, sources, strict=True)):
            ids = cut(whole, max_length, tokenizer.all_special_ids)
            target = [] if row.get("target") is None else ended(tokenizer, row["target"], end)
            asked = not target or self.asks(number, rows)
            encoded.append(
                {
                    "input_ids": ids,
                    "target": cut(target, max_length, [end]),
                    "cut": len(whole) - len(ids) + max(0, len(target) - max_length),
                    "prompt": ids if asked else None,
                }
            )
        return encoded

    def length(self, row: Row) -> int:
        return max(len(row["input_ids"]), len(row["target"]))

    def unseen(self, row: Row, whole: int) -> int:
        return row["cut"]

    def pieces(self, row: Row) -> list[Row]:
        return [row | {"prompt": None}]

    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        import torch

        from afina.batching.pad import inputs, pad

        rows = [row for row, _rng in items]
        labels = pad([row["target"] or [IGNORED] for row in rows], IGNORED)
        owner = torch.arange(len(rows))[:, None].expand(labels.shape)
        # A T5 knows no segments, and pads on the right whatever the tokenizer prefers.
        tensors = inputs(rows, int(tokenizer.pad_token_id)) | {"labels": labels, "owner": owner}
        tokens = sum(len(row["input_ids"]) + len(row["target"]) for row in rows)
        return Batch(tensors, {"loss": float((labels != IGNORED).sum())}, tokens, rows, tokenizer)

    def states(self, model: nn.Module, batch: Batch) -> Tensor:
        from afina.models.heads import decoder_states

        return decoder_states(model, batch.tensors)

    def write(
        self, model: nn.Module, rows: Sequence[Row], tokenizer: Any, options: dict[str, Any]
    ) -> list[str]:
        from afina.batching.pad import inputs
        from afina.models.parts import positions

        most = positions(model)
        if most:
            options = options | {"max_new_tokens": min(options["max_new_tokens"], most - 1)}
        device = next(model.parameters()).device
        read = inputs([{"input_ids": row["prompt"]} for row in rows], tokenizer.pad_token_id)
        config: Any = model.config
        written: Any = model.generate(  # type: ignore[operator]
            **{name: tensor.to(device) for name, tensor in read.items()},
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=end_token(tokenizer),
            decoder_start_token_id=config.decoder_start_token_id,
            **options,
        )
        return [text.strip() for text in tokenizer.batch_decode(written[:, 1:], skip_special_tokens=True)]

    def before(self, row: Row) -> dict[str, Any]:
        return {"source": row["source"]}

    def baselines(
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> dict[str, list[Any]]:
        """Return the losses of counted trigrams, and the texts of who copies, repeats or looks up; these have no loss."""
        end = end_token(tokenizer)
        targets = (
            [cut(ended(tokenizer, row["target"], end), max_length, [end]) for row in part]
            for part in (train, rows)
        )
        known, asked = ([(ids, [True] * len(ids)) for ids in part] for part in targets)
        return {"ngram": trigrams(known, asked, len(tokenizer)), **looked_up(train, rows)}

    @classmethod
    def toy(cls) -> list[Row]:
        words = {"el gato": "the cat", "la casa": "the house", "mi tía": "my aunt", "el niño": "the boy"}
        verbs = {
            "duerme": "sleeps",
            "canta": "sings",
            "está lejos de aquí": "is far away",
            "vuelve": "is back",
        }
        ends = {"hoy": "today", "siempre": "always", "": ""}
        return [
            {"source": f"{noun} {verb} {end}".strip(), "target": f"{thing} {does} {when}".strip()}
            for noun, thing in words.items()
            for verb, does in verbs.items()
            for end, when in ends.items()
        ]
