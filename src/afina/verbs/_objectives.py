"""What masked and causal pre-training do not share: tokenizer, shape, rows, and the figures of held-out text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from afina.core import Row, Score
from afina.sample import spread
from afina.tasks.causal_lm import CausalLm
from afina.tasks.masked_lm import MaskedLm


class Masked:
    """BERT: hidden words and next sentences (Devlin et al. 2019)."""

    task = MaskedLm
    special = 3  # [CLS] A [SEP] B [SEP]
    needs = ("cls_token", "sep_token", "mask_token", "pad_token")
    losses = ("mlm", "nsp")

    def tokenizer(self, texts: Any, vocab_size: int) -> Any:
        from afina.models.wordpiece import train_wordpiece

        return train_wordpiece(texts, vocab_size)

    def build(self, chosen: Any, tokenizer: Any, text: Any | None) -> Any:
        """Return a new model, at its best before the first step; without a text as noise, for weights to come."""
        from afina.models.build import bert

        model = bert(chosen.shape, len(tokenizer), max(512, chosen.max_length or 0), chosen.dropout or 0.0)
        if chosen.initialisation == "informed" and text is not None:
            inform(model, counted(text))
        return model

    def rows(self, windows: Any, tokenizer: Any) -> Any:
        """Return the windows of a corpus as encoded rows of the task."""
        return windows

    def scores(self, answers: Sequence[Any], task: Any) -> dict[str, Score]:
        """Return the figures of held-out text, the main one first."""
        found = task.score(answers, []).values
        return {
            name: found[name] for name in ("mlm", *(name for name in found if name not in ("mlm", "loss")))
        }


class Causal:
    """GPT: what comes next (Radford et al. 2018)."""

    task = CausalLm
    special = 2  # one token begins a row, and one ends a document
    needs = ("eos_token", "pad_token")
    losses = ("clm",)

    def tokenizer(self, texts: Any, vocab_size: int) -> Any:
        from afina.models.byte_bpe import train_byte_bpe

        return train_byte_bpe(texts, vocab_size)

    def build(self, chosen: Any, tokenizer: Any, text: Any | None) -> Any:
        """Return a new model, its word vectors counted where `initialisation` says so and there is a text."""
        from afina.models.build import gpt

        ends, pads = tokenizer.eos_token_id, tokenizer.pad_token_id
        model = gpt(chosen.shape, len(tokenizer), max(1024, chosen.max_length or 0), ends=ends, pads=pads)
        if chosen.initialisation == "informed" and text is not None:
            count(model.get_input_embeddings().weight, counted(text))  # type: ignore[operator]
        return model

    def rows(self, windows: Any, tokenizer: Any) -> Any:
        """Return the windows of a corpus as encoded rows of the task."""
        begins, ends = tokenizer.bos_token_id, tokenizer.eos_token_id
        return Stretches(windows, ends if begins is None else begins, ends)

    def scores(self, answers: Sequence[Any], task: Any) -> dict[str, Score]:
        """Return the figures of held-out text, the main one first."""
        import numpy as np

        from afina.scoring.language import perplexity, ratio

        loss = ratio(*(np.array([each[name] for each in answers], float) for name in ("loss", "tokens")))
        return {"clm": loss, "perplexity": perplexity(loss)}


OBJECTIVES: dict[str, Masked | Causal] = {"mlm": Masked(), "clm": Causal()}


class Stretches:
    """Windows of a corpus with a token that begins each, and one that ends those with which a document ends."""

    def __init__(self, windows: Any, begins: int, ends: int):
        self.windows, self.begins, self.ends = windows, begins, ends

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Row:
        tokens, final = self.windows.stretch(index)
        ids = [self.begins, *tokens.tolist(), *([self.ends] if final else [])]
        return {"windows": [(ids, [*ids[1:], -100])], "prompt": None}


def inform(model: Any, tokens: Any) -> None:
    """Give a fresh BERT counted word vectors, log frequencies and local attention."""
    import torch

    from afina.models.cooccurrence import log_frequencies
    from afina.models.start import mimetic

    bias = model.cls.predictions.bias
    count(model.bert.embeddings.word_embeddings.weight, tokens)
    with torch.no_grad():
        bias.copy_(torch.from_numpy(log_frequencies(tokens, len(bias))))
    mimetic(model)


COUNTED = 16_000_000  # tokens that counted word vectors are made from
PIECE = 4000  # tokens that are read at one place of a text that has more


def counted(text: Any) -> Any:
    """Return the tokens of the documents of a corpus that are learnt from; of more than COUNTED, pieces from all over."""
    import numpy as np

    corpus, chosen = text
    chosen = np.ones(len(corpus), dtype=bool) if chosen is None else chosen
    borders = np.flatnonzero(np.diff(chosen, prepend=False, append=False))  # of runs of chosen documents
    runs = corpus.sentences[corpus.documents[borders]].reshape(-1, 2)
    ends = np.cumsum(runs[:, 1] - runs[:, 0])  # of the runs, as if nothing lay between them
    total = int(ends[-1])
    if total <= COUNTED:
        return np.concatenate([corpus.tokens[start:end] for start, end in runs])
    pieces = []
    for place in spread(total // PIECE, COUNTED // PIECE):
        start, stop = place * PIECE, (place + 1) * PIECE
        for run in range(np.searchsorted(ends, start, "right"), np.searchsorted(ends, stop, "left") + 1):
            skipped = runs[run, 1] - ends[run]
            pieces.append(
                corpus.tokens[max(start + skipped, runs[run, 0]) : min(stop + skipped, runs[run, 1])]
            )
    return np.concatenate(pieces)


def count(weight: Any, tokens: Any) -> None:
    """Put counted word vectors in the place of random ones, as long as these."""
    import torch

    from afina.models.cooccurrence import embeddings

    vectors = torch.from_numpy(embeddings(tokens, *weight.shape))
    seen = vectors.norm(dim=1) > 0
    with torch.no_grad():
        weight[seen] = vectors[seen].to(weight.dtype) * weight.std() * weight.shape[1] ** 0.5
