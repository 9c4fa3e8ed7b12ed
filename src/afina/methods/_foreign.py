"""An adapter that plain `peft` wrote, on its base model: what afina's own folders say in `afina.json` is found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.core import Method
from afina.errors import InputError
from afina.messages import _
from afina.methods._adapter import WEIGHTS
from afina.methods._peft import PREFIX
from afina.models.find import KNOBS, TOKENIZER, find, readable, shape
from afina.names import find as find_class

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

METHODS = {"LORA": "lora", "IA3": "ia3"}
HEADS = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "FEATURE_EXTRACTION": "AutoModel",
}
LABELLED = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")  # whose head is as wide as there are labels


def load(folder: Path, *, offline: bool = False) -> tuple[nn.Module, PreTrainedTokenizerBase, Method]:
    """Return the model of an adapter's `folder` that `peft` wrote, its tokenizer, and the method that can merge it.

    The tokenizer is the folder's, else that of the base model. Raises InputError where the adapter is of no kind that is
    known here, does not say its head, has no weights in safetensors, or where its base model is not found.
    """
    from afina.models.load import load_tokenizer

    knobs = _knobs(folder)
    kind = knobs.get("peft_type")
    if kind not in METHODS:
        raise InputError(
            _(
                "The adapter in {folder} is of the kind '{kind}'; only {known} are read here. Merge it into its base "
                "model with peft (merge_and_unload) and begin with the result; learnt prompts and prefixes cannot be "
                "merged, so use them with peft itself."
            ).format(folder=folder, kind=kind, known=", ".join(METHODS))
        )
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            _(
                "The adapter in {folder} has no weights in safetensors. Pickled ones (*.bin) can run any code when they "
                "are read, so afina does not open them. If you trust their source, load them with peft and save them "
                "again: save_pretrained writes safetensors."
            ).format(folder=folder)
        )
    readable(folder / WEIGHTS)
    head = _head(knobs, folder)
    base = _base(knobs, folder, offline=offline)
    own = any((folder / name).is_file() for name in TOKENIZER)
    tokenizer = load_tokenizer(folder if own else base, base)
    method = find_class("methods", METHODS[kind])()
    model: Any = method.load(folder, head, _labels(head, folder, base), base)
    if head == HEADS["SEQ_CLS"]:
        model.config.pad_token_id = tokenizer.pad_token_id  # by which a decoder's head finds a row's end
    return model.eval(), tokenizer, method


def _knobs(folder: Path) -> dict[str, Any]:
    """Return what PEFT wrote of the adapter."""
    try:
        found = json.loads((folder / KNOBS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            _("{file} cannot be read: {error}").format(file=folder / KNOBS, error=error)
        ) from None
    return found if isinstance(found, dict) else {}


def _head(knobs: dict[str, Any], folder: Path) -> str:
    """Return the `AutoModelFor…` that the adapter was trained in."""
    import transformers

    from afina.models.load import auto_class

    kind, model = knobs.get("task_type"), knobs.get("auto_mapping") or {}
    head = HEADS.get(kind or "")
    if kind is None and str(model.get("parent_library")).startswith("transformers."):
        head = auto_class(str(model.get("base_model_class")))
    if head is None or not hasattr(transformers, head):
        raise InputError(
            _(
                "{file} does not say which head the adapter goes with (task_type is {kind}). Write one of these there: "
                "{known}."
            ).format(file=folder / KNOBS, kind=json.dumps(kind), known=", ".join(HEADS))
        )
    return head


def _base(knobs: dict[str, Any], folder: Path, *, offline: bool) -> Path:
    """Return the folder of the adapter's base model."""
    name = knobs.get("base_model_name_or_path")
    if not name:
        raise InputError(
            _(
                "{file} does not say which base model the adapter belongs to. Write its name or folder there "
                "(base_model_name_or_path)."
            ).format(file=folder / KNOBS)
        )
    try:
        return find(str(name), offline=offline)
    except InputError as error:
        raise InputError(
            _(
                "The adapter in {folder} needs its base model {model}: {reason} Put it back, or write its new place "
                "into {file} (base_model_name_or_path)."
            ).format(folder=folder, model=name, reason=error, file=folder / KNOBS)
        ) from None


def _labels(head: str, folder: Path, base: Path) -> dict[str, Any]:
    """Return how many labels there are, by the head that the adapter brings, and their names where a file says them."""
    import torch
    from safetensors import safe_open

    from afina.models.load import load
    from afina.models.parts import inside, is_linear

    if head not in [HEADS[kind] for kind in LABELLED]:
        return {}
    with torch.device("meta"):
        bare = load(base, head, random_weights=True)
    last = [name for name, module in bare.named_modules() if is_linear(module) and not inside(bare, name)][-1]
    with safe_open(folder / WEIGHTS, framework="numpy") as weights:
        if f"{PREFIX}{last}.weight" not in weights.keys():  # noqa: SIM118 - no mapping
            return {}
        count = weights.get_slice(f"{PREFIX}{last}.weight").get_shape()[0]
    said = shape(folder) if (folder / "config.json").is_file() else {}
    names = said.get("id2label")
    if not isinstance(names, dict) or len(names) != count:
        return {"num_labels": count}
    kept = {name: said[name] for name in ("label2id", "problem_type") if said.get(name)}
    return kept | {"id2label": {int(number): name for number, name in names.items()}}
