"""What the methods share that train every weight: the saved folder is a whole model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Method
from afina.errors import InputError
from afina.messages import N_, _

if TYPE_CHECKING:
    from torch import nn


class Whole(Method):
    """A method that trains the model's own weights, all of them."""

    change: ClassVar[str] = N_("all weights")

    def off(self, model: nn.Module) -> AbstractContextManager[None]:
        raise InputError(
            _("A model of which every weight was trained keeps no base model to go back to; load that one.")
        )

    def save(self, model: nn.Module, folder: Path, base: str | None) -> None:
        """Write `config.json` and `model.safetensors`."""
        model.save_pretrained(folder)  # type: ignore[operator]

    def load(self, folder: Path, head: str, config: Mapping[str, Any], base: Path | None) -> nn.Module:
        """Return the model that `folder` holds."""
        from afina.models.load import load

        return load(folder, head, config)
