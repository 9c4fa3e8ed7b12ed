"""From a model's name to a folder: an embedded one, a folder of the person's, or one of the Hugging Face Hub."""

import filecmp
import json
import os
from pathlib import Path
from typing import Any

from afina.errors import InputError
from afina.messages import _
from afina.names import unknown

EMBEDDED = Path(__file__).parent / "embedded"
ADAPTER = "adapter_model.safetensors"  # PEFT's name for weights that are no whole model
KNOBS = "adapter_config.json"  # what PEFT writes of how an adapter was made
TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]
NOTES = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}  # of a config.json
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]  # never a pickle, never code


def embedded() -> list[str]:
    """Return the names of the models that ship with afina."""
    folders = EMBEDDED.iterdir() if EMBEDDED.is_dir() else ()
    return sorted(f"afina/{folder.name}" for folder in folders if (folder / "config.json").is_file())


def find(name: str, *, offline: bool = False) -> Path:
    """Return the folder that holds the model `name`, fetched from the Hub where it must be.

    Raises InputError where there is no such model, where its weights are pickled, or where the Hub cannot be
    reached.
    """
    if name.startswith("afina/"):
        if name not in embedded():
            raise InputError(unknown(name, embedded(), "models"))
        return EMBEDDED / name.removeprefix("afina/")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(_("{name} is no folder with a model.").format(name=name) + " " + _choices())
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", "")
    return _checked(_from_hub(name, offline=offline), name)


def adapts(folder: Path) -> bool:
    """Whether the folder holds an adapter, which is no model without its base (or pickled weights of one)."""
    pickled = (folder / KNOBS).is_file() and not any(folder.glob("*.safetensors"))
    return (folder / ADAPTER).is_file() or pickled


def shape(folder: Path) -> dict[str, Any]:
    """Return the model's `config.json`; InputError where it cannot be read."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            _("{folder}/config.json cannot be read: {reason}.").format(folder=folder, reason=error)
        ) from None
    if not isinstance(found, dict):
        raise InputError(_("{folder}/config.json is no configuration of a model.").format(folder=folder))
    return found


def alike(one: Path, other: Path) -> bool:
    """Whether two models differ in nothing but their weights, so that with random ones they are the same."""
    pairs = [(one / name, other / name) for name in TOKENIZER]
    first, second = (
        {name: value for name, value in shape(each).items() if name not in NOTES} for each in (one, other)
    )
    return first == second and all(
        a.is_file() and b.is_file() and filecmp.cmp(a, b, shallow=False) for a, b in pairs
    )


def writes(folder: Path) -> bool:
    """Whether the checkpoint is a decoder that writes on, with the head for it."""
    kinds = shape(folder).get("architectures") or []
    return any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds)


def pairs(folder: Path) -> bool:
    """Whether the checkpoint brings BERT's head for next sentences."""
    from safetensors import safe_open

    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as weights:
            if "cls.seq_relationship.weight" in weights.keys():  # noqa: SIM118 - no mapping
                return True
    return False


def _checked(folder: Path, name: str = "") -> Path:
    """Return `folder` (of the Hub's model `name`) where it holds weights that can be opened and are no pickle."""
    if adapts(folder):
        raise InputError(
            _(
                "{folder} holds an adapter, no whole model. Write it out with its base model first: "
                "afina models save {folder} FOLDER."
            ).format(folder=folder)
        )
    if not (folder / "config.json").is_file():
        if (folder / "best" / "config.json").is_file():
            return _checked(folder / "best")
        raise InputError(
            _("{folder} holds no model: config.json is missing.").format(folder=folder) + " " + _choices()
        )
    shape(folder)
    weights = sorted(folder.glob("*.safetensors"))
    for file in weights:
        readable(file)
    if weights:
        return folder
    raise InputError(
        _(
            "{name} has no weights in safetensors. Pickled ones (*.bin, *.pt) can run any code when they are read, so "
            "afina does not open them. If you trust their source, convert them once and name the new folder: "
            'python -c "from transformers import AutoModel, AutoTokenizer; '
            "[kind.from_pretrained('{name}').save_pretrained('converted') for kind in (AutoModel, AutoTokenizer)]\""
        ).format(name=name or folder)
    )


def readable(file: Path) -> None:
    """Read the head of a weights' file, which also says how long it must be; InputError where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(
            _("The weights in {file} cannot be read ({reason}). Fetch or copy the file again.").format(
                file=file, reason=error
            )
        ) from None


def _from_hub(name: str, *, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=WANTED, local_files_only=offline))
    except HFValidationError:
        raise InputError(_("'{name}' is no name of a model.").format(name=name) + " " + _choices()) from None
    except (LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            reason = _("The Hub has no model '{name}' that you may read ({code}).").format(
                name=name, code=error.response.status_code
            )
        elif offline:
            reason = _(
                "The model '{name}' is not on this machine, and nothing is fetched with --offline or HF_HUB_OFFLINE."
            ).format(name=name)
        else:
            reason = _(
                "The model '{name}' is not on this machine and the Hugging Face Hub cannot be reached."
            ).format(name=name)
        raise InputError(reason + " " + _choices()) from None


def _choices() -> str:
    return _("Name a folder, a model of the Hub, or one that ships with afina: {all}.").format(
        all=", ".join(embedded())
    )
