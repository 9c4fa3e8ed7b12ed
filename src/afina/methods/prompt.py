"""Learnt vectors in front of the text."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from afina.errors import InputError
from afina.messages import N_, _
from afina.methods._adapter import Adapter
from afina.settings import setting

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


class Prompt(Adapter):
    """The model reads learnt vectors before every text (Lester et al. 2021), an encoder-decoder in its encoder.

    They begin as words of the vocabulary or of a text of one's own. The text keeps its positions and its length, and
    the head sees the text alone, so [CLS] stays [CLS]. It learns little on a small model.
    """

    packs: ClassVar[bool] = False
    change: ClassVar[str] = N_("added vectors")

    prompt_length: int = setting(20, N_("How many learnt vectors stand before the text."), ge=1)
    prompt_init: Literal["vocabulary", "text", "random"] = setting(
        "vocabulary",
        N_("What they begin as: words drawn from the vocabulary, those of --prompt-text, or random."),
    )
    prompt_text: str | None = setting(
        None, N_("The text they begin as, repeated or cut to the length; with --prompt-init text.")
    )

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 2e-2 if hidden_size <= 256 else 3e-3}

    def inserts(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> None:
        from afina.methods._prompt import SoftPrompt, attach
        from afina.models.parts import first_position, stack

        reader = stack(model)
        words = reader.get_input_embeddings().weight.detach()  # type: ignore[operator]
        attach(reader, SoftPrompt(self._begin(words, tokenizer), first_position(reader)))

    def trains(self, model: nn.Module) -> Collection[str]:
        return {name for name, _weight in model.named_parameters() if ".soft_prompt." in name}

    def switches(self, model: nn.Module, on: bool) -> None:
        from afina.models.parts import stack

        stack(model).get_submodule("soft_prompt").on = on  # type: ignore[assignment]

    def merge(self, model: nn.Module) -> nn.Module:
        raise InputError(_("A prompt is read before the text, so it cannot be merged into the weights."))

    def _begin(self, words: Tensor, tokenizer: PreTrainedTokenizerBase | None) -> Tensor:
        """Return the vectors [length, width] before training, out of the embeddings [vocabulary, width]."""
        import torch

        if (self.prompt_init == "text") != bool(self.prompt_text):
            raise InputError(_("--prompt-init text and --prompt-text belong together: give both or neither."))
        if tokenizer is None:
            return torch.zeros(self.prompt_length, words.shape[1])
        if self.prompt_init == "random":
            return torch.randn(self.prompt_length, words.shape[1]) * words.std()
        if self.prompt_init == "text":
            ids = tokenizer(self.prompt_text, add_special_tokens=False)["input_ids"]
            if not ids:
                raise InputError(_("--prompt-text holds no word."))
            chosen = torch.tensor(ids).repeat(-(-self.prompt_length // len(ids)))[: self.prompt_length]
        else:
            special = set(tokenizer.all_special_ids)
            ordinary = torch.tensor([i for i in range(len(tokenizer)) if i not in special])
            chosen = ordinary[torch.randint(len(ordinary), (self.prompt_length,))]
        return words[chosen].clone()
