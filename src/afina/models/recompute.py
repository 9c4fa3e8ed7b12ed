"""Activation checkpointing: of a block that trains only what enters it is kept (Chen et al. 2016)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from torch import nn

from afina.errors import InputError
from afina.messages import _
from afina.models.load import load_config


def check(folder: Path) -> None:
    """Raise InputError where transformers cannot compute the blocks of the model in `folder` a second time."""
    config = load_config(folder)
    kind = transformers.AutoModel._model_mapping.get(type(config), None)
    if not getattr(kind, "supports_gradient_checkpointing", False):
        raise InputError(
            _(
                "A model of the kind '{kind}' cannot compute its blocks a second time. Leave out "
                "--activation-checkpointing."
            ).format(kind=config.model_type)
        )


def recompute(model: nn.Module) -> None:
    """Let the blocks of a transformers model compute in training, on the way back, what lies within them once more."""
    own: Any = model
    own.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    # transformers lets a gradient reach the embeddings, for another kind of checkpoints: below what trains it has no use.
    own.disable_input_require_grads()


@contextmanager
def kept_whole(model: nn.Module) -> Iterator[None]:
    """Let the blocks of a model that recomputes keep, in the context, all that the way back needs."""
    own: Any = model
    own.activation_checkpointing_disable()
    try:
        yield
    finally:
        recompute(model)
