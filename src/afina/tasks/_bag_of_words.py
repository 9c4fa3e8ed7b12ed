"""Which words a row holds, guessed from what speaks for the whole of it (Ma et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afina.tasks._masks import IGNORED

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


def bags(ids: np.ndarray, labels: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Return the tokens of rows [rows, tokens] as they were before some were hidden, IGNORED for special ones."""
    import numpy as np

    special = [
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
        tokenizer.pad_token_id,
        tokenizer.mask_token_id,
    ]
    whole = np.where(labels == IGNORED, ids, labels)
    return np.where(np.isin(whole, special), IGNORED, whole)


def bag_loss(model: nn.Module, hidden: Tensor, bag: Tensor) -> Tensor:
    """Return, summed over rows, how far the guess is from each different token of the row equally likely (KL)."""
    import torch
    from torch.nn.functional import kl_div

    from afina.models.heads import pooled, vocabulary

    logits = vocabulary(model, pooled(model, hidden)).float()
    # One column more takes what does not count (padding, special tokens) and is cut off.
    wanted = torch.zeros(len(bag), logits.shape[1] + 1, device=logits.device)
    wanted = wanted.scatter(1, bag.where(bag != IGNORED, logits.shape[1]), 1.0)[:, :-1]
    share = wanted / wanted.sum(1, keepdim=True).clamp_min(1)
    return kl_div(logits.log_softmax(1), share, reduction="sum")


def drawn_bags(model: nn.Module, hidden: Tensor, bag: Tensor) -> Tensor:
    """Return bags [rows, 1] drawn from what the model thinks: of one word, for the loss is the mean over a bag's."""
    from afina.models.heads import drawn, guessed, pooled

    return guessed(model, pooled(model, hidden), bag, drawn)[:, None]
