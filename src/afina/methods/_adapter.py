"""What the methods share that save only what they train: a base model, and a small file of weights beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Method, Stage
from afina.errors import InputError
from afina.messages import _
from afina.models.find import ADAPTER as WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


class Adapter(Method):
    """A method that trains little and saves only that. `inserts` and `trains` are all that one must say.

    With a vocabulary head the base model brings its own head, which stays as it is; any other head is trained.
    """

    whole: ClassVar[bool] = False

    def inserts(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """Put the method's own modules into `model`; without a tokenizer their weights come from a file next."""

    def trains(self, model: nn.Module) -> Collection[str]:
        """Return the names of the weights of the body that the method trains."""
        return ()

    def switches(self, model: nn.Module, on: bool) -> None:
        """Turn the method's own modules on or off."""

    def modify(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> nn.Module:
        own = {id(weight) for weight in model.parameters()}
        self.inserts(model, tokenizer)
        trained = self.trained(model)
        if not trained:
            raise InputError(_("This method finds nothing in this model that it could train."))
        model.originals = {  # type: ignore[assignment]
            name: weight.detach().clone()
            for name, weight in model.named_parameters()
            if name in trained and id(weight) in own
        }
        return model

    def trained(self, model: nn.Module) -> frozenset[str]:
        """Return the names of all weights that are trained and saved: the method's, the head's, and drawn ones."""
        from afina.models.parts import answers_in_words, drawn, head

        heads = frozenset() if answers_in_words(model) else head(model)
        return frozenset(self.trains(model)) | heads | drawn(model)

    def stages(self, model: nn.Module) -> list[Stage]:
        return [Stage("all", self.trained(model))]

    @contextmanager
    def off(self, model: nn.Module) -> Iterator[None]:
        originals: Any = model.originals
        asked = {name: weight.requires_grad for name, weight in model.named_parameters()}
        trained = _exchange(model, originals)
        self.switches(model, False)
        try:
            yield
        finally:
            self.switches(model, True)
            _exchange(model, trained)
            for name, weight in model.named_parameters():
                weight.requires_grad_(asked[name])

    def save(self, model: nn.Module, folder: Path, base: str | None) -> None:
        """Write `adapter_model.safetensors` and the model's `config.json` with the label map."""
        from safetensors.torch import save_file

        save_file({name: weight.contiguous() for name, weight in self.saved(model).items()}, folder / WEIGHTS)
        model.config.save_pretrained(folder)  # type: ignore[operator,union-attr]

    def load(self, folder: Path, head: str, config: Mapping[str, Any], base: Path | None) -> nn.Module:
        from safetensors.torch import load_file

        from afina.models.load import load

        assert base is not None
        model = self.modify(load(base, head, config), None)
        weights = load_file(folder / WEIGHTS)
        self.restores(model, weights, folder)
        return model

    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the weights to save, by name: the trained ones, and others of the base that a file has replaced."""
        originals: Any = model.originals
        kept = self.trained(model) | originals.keys()
        return {name: weight.detach() for name, weight in model.named_parameters() if name in kept}

    def restores(self, model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Put the saved weights back; InputError where they are not those that the method has in this model."""
        wanted = {name: tuple(weight.shape) for name, weight in self.saved(model).items()}
        if wanted != {name: tuple(weight.shape) for name, weight in weights.items()}:
            raise InputError(
                _("The weights in {file} do not belong to this model and method.").format(
                    file=folder / WEIGHTS
                )
            )
        _exchange(model, weights)


def _exchange(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put `weights` into the model and return those that were there."""
    import torch

    own, before = dict(model.named_parameters()), {}
    with torch.no_grad():
        for name, weight in weights.items():
            before[name] = own[name].detach().clone()
            own[name].copy_(weight)
    return before
