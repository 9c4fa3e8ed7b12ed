"""What the methods share whose layers are PEFT's: its layers inside the model, its folder on disk."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
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
# Ways to begin that change the weights of the base model.
REWRITING = ("pissa", "olora", "corda", "lora_ga", "loftq")
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

        InputError where the folder changes what this model cannot have changed (single tokens, one end of a tie, the
        base model's own weights), or where neither it nor the base model brings a weight.
        """
        from peft import PeftConfig, set_peft_model_state_dict

        from afina.models.load import load
        from afina.models.parts import drawn

        assert base is not None
        knobs = PeftConfig.from_pretrained(str(folder))
        _apart(knobs, folder)
        weights = _read(folder / WEIGHTS)
        model = load(base, head, config)
        new = drawn(model)  # by the names that they have before PEFT puts its layers around them
        strange = InputError(
            _("The weights in {file} do not belong to this model and method.").format(file=folder / WEIGHTS)
        )
        try:
            inject(model, knobs)
        except ValueError:  # it finds none of its places
            raise strange from None
        own = dict(model.named_parameters())
        for name, place in own.items():
            theirs = weights.get(_filed(name), place).shape
            if theirs != place.shape:
                raise InputError(
                    _(
                        "The adapter in {folder} does not fit its base model: {name} has {theirs} numbers there, and "
                        "{ours} here."
                    ).format(folder=folder, name=name, theirs=_size(theirs), ours=_size(place.shape))
                )
        for name, weight in _tied(model):
            found = weights.get(_filed(name), weight)
            if not found.to(weight.dtype).equal(weight):
                raise InputError(
                    _(
                        "The adapter in {folder} changes {name} alone, which in this model is one with another weight; "
                        "its answers would not be those that it was trained to give."
                    ).format(folder=folder, name=name)
                )
        model.originals = {  # type: ignore[assignment]
            name: own[name].detach().clone()
            for name in (each.removeprefix(PREFIX) for each in weights)
            if name in own
        }
        result: Any = set_peft_model_state_dict(model, weights)
        present = {name for name in own if _filed(name) in weights}
        if result.unexpected_keys or {*self.trains(model)} - present:
            raise strange
        nowhere = {
            name for each in own.keys() - present if (name := each.replace(".base_layer.", ".")) in new
        }
        if nowhere:
            raise InputError(
                _(
                    "Neither the adapter in {folder} nor its base model brings the weights of {names}, so they would "
                    "be drawn at random. Name a base model that has them, or train the adapter with them among its "
                    "modules_to_save."
                ).format(
                    folder=folder, names=", ".join(sorted({name.rpartition(".")[0] for name in nowhere}))
                )
            )
        return model


def _apart(knobs: Any, folder: Path) -> None:
    """Raise InputError where the adapter, by its knobs, does not leave the base model as it is beside it."""
    if getattr(knobs, "trainable_token_indices", None):
        raise InputError(
            _(
                "The adapter in {folder} trains single tokens (trainable_token_indices), which is not read here; "
                "merge it into its base model with peft, and begin with that."
            ).format(folder=folder)
        )
    begun = str(getattr(knobs, "init_lora_weights", True))
    if begun.lower().startswith(REWRITING):
        raise InputError(
            _(
                "The adapter in {folder} has rewritten the weights of its base model (init_lora_weights={value}), which "
                "is not read here; merge it into that with peft (merge_and_unload) and begin with the result, or, where it "
                "has no head of its own, let peft save it as an ordinary one (save_pretrained with "
                "path_initial_model_for_weight_conversion)."
            ).format(folder=folder, value=begun)
        )
    for knob in ("layer_replication", "alora_invocation_tokens"):
        if getattr(knobs, knob, None):
            raise InputError(
                _(
                    "The adapter in {folder} was made with {knob}, so that it cannot be merged into its base model; "
                    "train one without that in peft."
                ).format(folder=folder, knob=knob)
            )


def inject(model: nn.Module, config: Any) -> None:
    """Put PEFT's layers into the model, which stays transformers' own; the head stays as it is."""
    from copy import copy

    from peft import inject_adapter_in_model

    config = copy(config)
    config.exclude_modules = _kept_out(model, config)
    config.modules_to_save = None  # PEFT would keep a second head beside the first
    config.inference_mode = False
    inject_adapter_in_model(config, model, NAME)


def _kept_out(model: nn.Module, config: Any) -> Any:
    """Return PEFT's `exclude_modules` with the modules that are saved whole, which get no layers of PEFT's either."""
    given = config.exclude_modules or []
    whole = [rf"(.*\.)?{name}(\..*)?" for name in config.modules_to_save or ()]
    if not any(re.fullmatch("|".join(whole), name) for name, _module in model.named_modules() if name):
        return config.exclude_modules  # PEFT warns of a name that none of the modules has
    also = [given] if isinstance(given, str) else [rf"(.*\.)?{re.escape(name)}" for name in sorted(given)]
    return "|".join([*whole, *also])


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


def _size(shape: Iterable[int]) -> str:
    return " × ".join(map(str, shape))


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
