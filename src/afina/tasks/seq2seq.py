"""A text out of a text: translate, summarise, correct, answer, or name a label (Sutskever et al. 2014; Raffel et al. 2020)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from afina.core import About, Batch, Rival, Row, Splits, Table
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._windows import WHOLE
from afina.tasks._written import IGNORED, Written

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

RIVALS = {
    "ngram": Rival(
        N_("Trigrams"),
        N_("counting trigrams"),
        N_(
            "Counted trigrams guess a token of the answer from how often it stood after the two before it in the "
            "training answers: what one gets without reading the source. They write nothing."
        ),
        only_measured=True,
    ),
    "majority": Rival(
        N_("Most frequent"),
        N_("the most frequent answer"),
        N_("The most frequent answer of the training rows, whatever the source is."),
    ),
    "copy": Rival(
        N_("Copy"),
        N_("the source as it is"),
        N_("The source, copied as it is: hard to beat where little of it is to be changed."),
    ),
    "nearest": Rival(
        N_("Nearest"),
        N_("the answer of the most similar source"),
        N_(
            "The answer of the training row whose source is most alike, by TF-IDF of words and pieces of words."
        ),
    ),
}


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
            rivals=RIVALS,
            pipeline="text2text-generation",
        )

    def clean(self, row: Row) -> Row | None:
        from afina.data.columns import label_text, text_of

        source = text_of(row.get(self.source or "source")) or ""
        target = row.get(self.target or "target")
        # A label may be a number or true; of a text only the blanks around it go.
        target = (text_of(target) if isinstance(target, str) else label_text(target)) or ""
        if not source.strip() or not target.strip():
            return None
        return {"source": source, "target": target.strip()}

    def check(self, splits: Splits) -> None:
        if not splits.train:
            raise InputError(_("There is no text to learn from."))

    def key(self, row: Row) -> Any:
        return row["source"]

    def reference(self, row: Row) -> str | None:
        return row["target"]

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        end = _end(tokenizer)
        sources = tokenizer(
            [f"{self.source_prefix or ''}{row['source']}" for row in rows], truncation=True, max_length=WHOLE
        )["input_ids"]
        encoded = []
        for number, (row, whole) in enumerate(zip(rows, sources, strict=True)):
            ids = _cut(whole, max_length, tokenizer.all_special_ids)
            target = [] if row.get("target") is None else _ended(tokenizer, row["target"], end)
            asked = not target or self.asks(number, rows)
            encoded.append(
                {
                    "input_ids": ids,
                    "target": _cut(target, max_length, [end]),
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
            eos_token_id=_end(tokenizer),
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
        from afina.scoring.baselines import nearest
        from afina.scoring.ngram import Trigram

        end = _end(tokenizer)
        known, asked = (
            [_cut(_ended(tokenizer, row["target"], end), max_length, [end]) for row in part]
            for part in (train, rows)
        )
        counted = Trigram([(ids, [True] * len(ids)) for ids in known], len(tokenizer))
        losses = [counted.loss(ids, [True] * len(ids)) for ids in asked]
        usual = Counter(row["target"] for row in train).most_common(1)[0][0]
        alike = nearest([row["source"] for row in train], [row["source"] for row in rows])
        texts = {
            "majority": [usual] * len(rows),
            "copy": [row["source"].strip() for row in rows],
            "nearest": [usual if i is None else train[i]["target"] for i in alike],
        }
        return {
            "ngram": [{"loss": loss, "tokens": tokens, "text": None} for loss, tokens in losses],
            **{
                name: [{"loss": None, "tokens": 0, "text": text} for text in told]
                for name, told in texts.items()
            },
        }

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


def _end(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that ends a written text; InputError where the tokenizer has none."""
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    if end is None:
        raise InputError(
            _("This model's tokenizer has no token for the end of a text. Choose another model.")
        )
    return int(end)


def _ended(tokenizer: PreTrainedTokenizerBase, text: str, end: int) -> list[int]:
    """Return a target as tokens with `end` at their end, and there alone: a GPT's tokenizer begins with it."""
    ids = list(tokenizer(text_target=text, truncation=True, max_length=WHOLE)["input_ids"])
    if ids[:1] == [end]:
        ids = ids[1:]
    return ids if ids[-1:] == [end] else [*ids, end]


def _cut(ids: Sequence[int], most: int, ends: Sequence[int]) -> list[int]:
    """Return at most so many tokens; where the last one is one of those that end a text, it stays."""
    if len(ids) > most and ids[-1] in ends:
        return [*ids[: most - 1], ids[-1]]
    return list(ids[:most])
