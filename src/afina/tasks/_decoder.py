"""What the tasks of a decoder share: texts in windows, padded or packed, and writing on from a prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Batch, Loss, Row
from afina.errors import InputError, RowError
from afina.messages import N_, _
from afina.names import DECODER
from afina.settings import setting
from afina.tasks._distilled import distilled_tokens
from afina.tasks._windows import Long, shared, when_long
from afina.tasks._written import IGNORED, Written
from afina.tasks._written_rivals import trigrams

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

Tokens = tuple[list[int], list[bool]]  # a text's tokens, and which of them are learnt


class Decoder(Written):
    """Guess the next token. A long text is read in windows, each token guessed once, from what its window holds before.

    An encoded row holds `windows`, pairs of tokens and of what is to be guessed after each, and a `prompt`.
    """

    head: ClassVar[str] = "AutoModelForCausalLM"
    embedded: ClassVar[str | None] = DECODER
    pace: ClassVar[float] = 0.5

    long: Long = when_long("windows")
    doc_stride: int = shared()
    packing: bool = setting(
        False,
        N_("Put short texts one after another into one row instead of padding, each blind to the others."),
    )

    @abstractmethod
    def tokens(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Tokens:
        """Return a cleaned row as tokens, special ones included, and which of them are learnt."""

    @abstractmethod
    def prompt_ids(self, row: Row, tokenizer: PreTrainedTokenizerBase, most: int) -> list[int]:
        """Return the tokens that the model is to write on from; of more than `most` the last ones are read."""

    def begins(self, row: Row) -> str:
        """Return the first words of a cleaned row, by which a person finds it: rows are shuffled by now."""
        text = str(row["text"] if "text" in row else row["messages"][0]["content"])
        return text[:60]

    def stops(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the tokens that end what the model writes."""
        return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        """Return rows with `windows` [(ids, next ids or IGNORED)], `prompt` (None: not answered in words) and its `room`."""
        encoded, room = list[Row](), min(self.max_new_tokens, max_length // 2)
        for number, row in enumerate(rows):
            asked = "asked" in row
            prompt = None
            try:
                ids, learnt = ([], []) if asked else self.tokens(row, tokenizer)
                if asked or self.asks(number, rows):  # what is written must fit behind it
                    prompt = self.prompt_ids(row, tokenizer, max_length - room)[room - max_length :]
            except InputError as error:
                sentence = _("The row that begins with “{begins}”: {error}")
                told = sentence.format(begins=self.begins(row), error=error)
                raise RowError(told, row, str(error)) from None
            windows = self._windows(ids, learnt, max_length)
            encoded.append({"windows": windows, "prompt": prompt, "room": room})
        return encoded

    def length(self, row: Row) -> int:
        return max(1, sum(len(ids) for ids, _next in row["windows"]) or len(row["prompt"] or ()))

    def unseen(self, row: Row, whole: int) -> int:
        asked = not row["windows"]  # of a prompt the beginning is not read, whatever is done with long texts
        return max(0, whole - self.length(row)) if asked or self.long == "truncate" else 0

    def pieces(self, row: Row) -> list[Row]:
        return [{"windows": [window], "prompt": None} for window in row["windows"]]

    def learnt(self, row: Row) -> list[list[tuple[int, bool]]]:
        """Return the tokens of each window, and the one that is guessed behind its last."""
        windows = []
        for ids, following in row["windows"]:
            behind = [token for token in following[-1:] if token != IGNORED]
            known = [False, *(token != IGNORED for token in following[: len(ids) - 1 + len(behind)])]
            windows.append(list(zip([*ids, *behind], known, strict=True)))
        return windows

    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        import torch

        from afina.batching.pack import pack

        rows = [row for row, _rng in items]
        windows = [(*window, i) for i, row in enumerate(rows) for window in row["windows"]]
        lengths = [len(ids) for ids, _next, _row in windows] or [1]
        if self.packing:
            packed = pack(lengths)
            places, shape = packed.places, packed.position_ids.shape
        else:
            places, shape = [(i, 0) for i in range(len(lengths))], torch.Size([len(lengths), max(lengths)])
        tensors = {
            "input_ids": torch.full(shape, int(tokenizer.pad_token_id)),
            "labels": torch.full(shape, IGNORED),
            "owner": torch.zeros(shape, dtype=torch.long),
        }
        if self.packing:
            tensors["position_ids"] = packed.position_ids
        else:
            tensors["attention_mask"] = torch.zeros(shape, dtype=torch.long)
        for (row, start), (ids, following, owner) in zip(places, windows, strict=False):
            here = slice(start, start + len(ids))
            tensors["input_ids"][row, here] = torch.tensor(ids)
            tensors["labels"][row, here] = torch.tensor(following)
            tensors["owner"][row, here] = owner
            if not self.packing:
                tensors["attention_mask"][row, here] = 1
        learnt = float((tensors["labels"] != IGNORED).sum())
        return Batch(tensors, {"loss": learnt}, sum(len(ids) for ids, *_rest in windows), rows, tokenizer)

    def states(self, model: nn.Module, batch: Batch) -> Tensor:
        from afina.models.heads import hidden_states

        return hidden_states(model, batch.tensors)

    def distilled(self, model: nn.Module, teacher: nn.Module, batch: Batch) -> Loss:
        """Return by term how far what the model thinks of the batch is from what `teacher` does."""
        return distilled_tokens(self, model, teacher, batch)

    def drawn(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with next tokens drawn from what the model thinks; what is read stays as it is."""
        from afina.models.heads import drawn, guessed

        labels = batch.tensors["labels"].clone()
        learnt = labels != IGNORED
        labels[learnt] = guessed(model, self.states(model, batch)[learnt], labels[learnt], drawn)
        return replace(batch, tensors={**batch.tensors, "labels": labels})

    def write(
        self, model: nn.Module, rows: Sequence[Row], tokenizer: Any, options: dict[str, Any]
    ) -> list[str]:
        import torch

        width = max(len(row["prompt"]) for row in rows)
        pad = tokenizer.pad_token_id
        # On the left, so that all are written on at the same place.
        ids = torch.tensor([[pad] * (width - len(row["prompt"])) + row["prompt"] for row in rows])
        seen = torch.tensor([[0] * (width - len(row["prompt"])) + [1] * len(row["prompt"]) for row in rows])
        device = next(model.parameters()).device
        written: Any = model.generate(  # type: ignore[operator]
            input_ids=ids.to(device),
            attention_mask=seen.to(device),
            pad_token_id=pad,
            eos_token_id=self.stops(tokenizer) or None,
            **options | {"max_new_tokens": rows[0]["room"]},
        )
        return [text.strip() for text in tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)]

    def baselines(
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> dict[str, list[Any]]:
        """Return the losses of counted trigrams over the same tokens."""
        known, asked = ([self._guessed(row, tokenizer, max_length) for row in part] for part in (train, rows))
        return {"ngram": trigrams(known, asked, len(tokenizer))}

    def _guessed(self, row: Row, tokenizer: PreTrainedTokenizerBase, most: int) -> Tokens:
        """Return the tokens of a row that its windows hold, and which of them are guessed there: never the first."""
        ids, learnt = self.tokens(row, tokenizer)
        read = most if self.long == "truncate" else len(ids)
        return ids[:read], [False, *learnt[1:read]][: len(ids)]

    def _windows(self, ids: list[int], learnt: list[bool], most: int) -> list[tuple[list[int], list[int]]]:
        """Cut a text into windows of at most `most` tokens; of those that two share, the later one guesses none."""
        following = [
            token if known else IGNORED for token, known in zip(ids[1:], learnt[1:], strict=True)
        ] + [IGNORED] * bool(ids)
        if len(ids) <= most or self.long == "truncate":
            ids, following = ids[:most], following[: most - 1] + [IGNORED] * (len(ids) >= most)
            return [(ids, following)] if ids else []
        shared = max(1, min(self.doc_stride, most // 2))
        windows, done = [], 0
        while done < len(ids) - 1:
            start = max(0, done - (shared if done else 0))
            end = min(start + most, len(ids))
            old = done - start
            windows.append((ids[start:end], [IGNORED] * old + following[done:end]))
            done = end
        return windows
