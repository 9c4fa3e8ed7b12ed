"""What the methods share whose layers are PEFT's: its layers inside the model, its folder on disk."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.errors import InputError
from afina.messages import _
from afina.methods._adapter import WEIGHTS, Adapter

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

PREFIX = "base_model.model."  # what PEFT writes in front of every name
NAME = "default"  # of the one adapter in a model
LENGTHS = "lora_magnitude_vector"  # DoRA's; PEFT's files name them without the ".weight" of its layers
# The classes whose PEFT wrappers do nothing wrong; another head goes with PEFT's general wrapper.
TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}


class Peft(Adapter):
    """A method whose layers are PEFT's, inside transformers' own model; the folder is one that plain `peft` loads."""

    @abstractmethod
    def config(self, model: nn.Module) -> Any:
        """Return PEFT's configuration of the method for this model."""

    def inserts(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> None:
        inject(model, self.config(model))

    def trains(self, model: nn.Module) -> Collection[str]:
        from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

        own = PEFT_TYPE_TO_PREFIX_MAPPING[settled(model).peft_type]
        return {name for name, _weight in model.named_parameters() if own in name}

    def switches(self, model: nn.Module, on: bool) -> None:
        for _name, layer in layers(model):
            layer.enable_adapters(on)

    def merge(self, model: nn.Module) -> nn.Module:
        for name, layer in layers(model):
            layer.merge(safe_merge=True)
            parent, _dot, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.get_base_layer())
        del model.peft_config
        return model

    def save(self, model: nn.Module, folder: Path, base: str | None) -> None:
        """Write what plain `peft` would: `adapter_config.json`, `adapter_model.safetensors`; and the label map."""
        from copy import copy

        from safetensors.torch import save_file

        from afina.models.parts import inside

        config = copy(settled(model))
        config.base_model_name_or_path, config.inference_mode = base, True
        kind = type(model).__name__
        config.task_type = next((each for end, each in TASK_TYPES.items() if kind.endswith(end)), None)
        weights = self.saved(model)
        whole = {
            name.rpartition(".")[0] if inside(model, name) else name.partition(".")[0]
            for name in weights.keys() - self.trains(model)
            if name in self.trained(model) or not _by_the_way(config, name)
        }
        config.modules_to_save = sorted(whole) or None
        save_file({_filed(name): weight.contiguous() for name, weight in weights.items()}, folder / WEIGHTS)
        config.save_pretrained(folder)
        model.config.save_pretrained(folder)  # type: ignore[operator,union-attr]

    def load(self, folder: Path, head: str, config: Mapping[str, Any], base: Path | None) -> nn.Module:
        """Return the model of a folder that `save` or plain `peft` wrote; the folder's own knobs count.

        InputError where the folder changes what this model cannot have changed: single tokens, one end of a tie.
        """
        from peft import PeftConfig, set_peft_model_state_dict

        from afina.models.load import load
        from afina.models.parts import drawn

        assert base is not None
        knobs = PeftConfig.from_pretrained(str(folder))
        if getattr(knobs, "trainable_token_indices", None):
            raise InputError(
                _(
                    "The adapter in {folder} trains single tokens (trainable_token_indices), which is not read here; "
                    "merge it into its base model with peft, and begin with that."
                ).format(folder=folder)
            )
        weights = _read(folder / WEIGHTS)
        model = load(base, head, config)
        inject(model, knobs)
        for name, weight in _tied(model):
            found = weights.get(_filed(name), weight)
            if not found.to(weight.dtype).equal(weight):
                raise InputError(
                    _(
                        "The adapter in {folder} changes {name} alone, which in this model is one with another weight; "
                        "its answers would not be those that it was trained to give."
                    ).format(folder=folder, name=name)
                )
        own = dict(model.named_parameters())
        model.originals = {  # type: ignore[assignment]
            name: own[name].detach().clone()
            for name in (each.removeprefix(PREFIX) for each in weights)
            if name in own
        }
        result: Any = set_peft_model_state_dict(model, weights)
        present = {name for name in own if _filed(name) in weights}
        lacking = {*self.trains(model), *drawn(model)} - present
        if result.unexpected_keys or lacking:
            raise InputError(
                _("The weights in {file} do not belong to this model and method.").format(
                    file=folder / WEIGHTS
                )
            )
        return model


def inject(model: nn.Module, config: Any) -> None:
    """Put PEFT's layers into the model, which stays transformers' own; the head stays as it is."""
    from copy import copy

    from peft import inject_adapter_in_model

    config = copy(config)
    config.modules_to_save = None  # PEFT would keep a second head beside the first
    config.inference_mode = False
    inject_adapter_in_model(config, model, NAME)


def _filed(name: str) -> str:
    """Return what PEFT's file calls the weight of that name."""
    return PREFIX + name.replace(f".{NAME}", "").replace(f"{LENGTHS}.weight", LENGTHS)


def _read(file: Path) -> dict[str, Tensor]:
    """Return the weights in PEFT's file, without those that `bias="all"` writes a second time."""
    from safetensors.torch import load_file

    again = re.compile(r"\.(modules_to_save|original_module)\.")
    return {
        name.replace(f"{LENGTHS}.weight", LENGTHS): weight
        for name, weight in load_file(file).items()
        if not again.search(name)
    }


def _tied(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the weights that have more than one name, under each of them."""
    every = list(model.named_parameters(remove_duplicate=False))
    names = Counter(id(weight) for _name, weight in every)
    return [(name, weight) for name, weight in every if names[id(weight)] > 1]


def _by_the_way(config: Any, name: str) -> bool:
    """Whether PEFT's file holds the weight of that name without its module being one of `modules_to_save`."""
    return ".base_layer." in name or (name.endswith(".bias") and getattr(config, "bias", "none") != "none")


def settled(model: nn.Module) -> Any:
    """Return PEFT's configuration of the layers that are in the model."""
    configs: Any = model.peft_config
    return configs[NAME]


def layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Return PEFT's layers in the model with their paths."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
