"""The models on this machine: listed, and written out as ordinary Hugging Face folders."""

import json
from pathlib import Path
from typing import Any, Literal

from afina.errors import InputError
from afina.messages import N_, _
from afina.models.find import EMBEDDED, KNOBS, adapts, embedded
from afina.models.find import find as find_model
from afina.settings import Common, Settings, divide, setting
from afina.verbs._settings import begin


class Models(Settings):
    """Settings of `afina models`."""

    overwrite: bool = setting(False, N_("Replace what the folder holds."))


def models(
    action: Literal["list", "save"] = "list",
    name: str | None = None,
    folder: str | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """List the models on this machine, or `save` one in float32 into a folder that plain transformers loads."""
    begin(settings)
    common, own = divide(settings, Common, Models)
    common, own = Common.of(common), Models.of(own)
    if action == "list" and name is None:
        return _embedded() + _cached()
    if action != "save" or not name or not folder:
        raise InputError(_("Write: afina models list, or afina models save NAME FOLDER."))
    return [save(name, Path(folder), overwrite=own.overwrite, offline=common.offline)]


def save(name: str, folder: Path, *, overwrite: bool = False, offline: bool = False) -> dict[str, Any]:
    """Write the model `name` with tokenizer into `folder`, all weights in float32; an adapter is merged into its base.

    `name` may also be a run, or an adapter's folder that plain `peft` wrote. Raises InputError where what was trained
    cannot be merged.
    """
    if folder.is_file():
        raise InputError(_("{folder} is a file; name a folder.").format(folder=folder))
    is_model = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    if is_model and not overwrite:
        raise InputError(
            _("{folder} holds a model. Add --overwrite to replace it, or name another folder.").format(
                folder=folder
            )
        )
    if folder.exists() and any(folder.iterdir()) and not is_model:
        raise InputError(_("{folder} is not empty. Name another folder.").format(folder=folder))
    adapter = next((place for place in (Path(name) / "best", Path(name)) if adapts(place)), None)
    source = adapter or find_model(name, offline=offline)
    from transformers.utils.logging import disable_progress_bar

    from afina.methods._foreign import load as load_foreign
    from afina.models.load import auto_class, load, load_config, load_tokenizer
    from afina.train.atomic import replaced
    from afina.train.bundle import FILE, Bundle

    disable_progress_bar()
    foreign = adapter and (adapter / KNOBS).is_file() and not (adapter / FILE).is_file()
    if adapter and foreign:
        adapted, tokenizer, method = load_foreign(adapter, offline=offline)
        model = method.merge(adapted)
    elif adapter:
        bundle = Bundle.load(adapter)
        model, tokenizer = bundle.method.merge(bundle.model), bundle.tokenizer
    else:
        kinds = load_config(source).architectures or ["AutoModel"]
        model = load(source, kinds[0] if kinds[0].startswith("Auto") else auto_class(kinds[0]))
        tokenizer = load_tokenizer(source)
    with replaced(folder) as new:
        model.save_pretrained(new)  # type: ignore[operator]
        tokenizer.save_pretrained(new)
        card = source / "README.md"
        if card.is_file() and not foreign:  # which says how to load an adapter
            (new / "README.md").write_text(card.read_text(encoding="utf-8"), encoding="utf-8")
    return {"name": name, "folder": str(folder), "mb": _size(folder)}


def _embedded() -> list[dict[str, Any]]:
    found = []
    for name in embedded():
        folder = EMBEDDED / name.removeprefix("afina/")
        about = (
            json.loads((folder / "about.json").read_text(encoding="utf-8"))
            if (folder / "about.json").is_file()
            else {}
        )
        found.append(
            {
                "name": name,
                "where": "embedded",
                "mb": _size(folder),
                "languages": about.get("languages"),
                "license": about.get("license"),
            }
        )
    return found


def _cached() -> list[dict[str, Any]]:
    """Return the models in the Hugging Face cache; what it does not record (language, licence) is None."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    kept = [repository for repository in repositories if repository.repo_type == "model"]
    return [
        {
            "name": repository.repo_id,
            "where": "cache",
            "mb": round(repository.size_on_disk / 2**20, 1),
            "languages": None,
            "license": None,
        }
        for repository in sorted(kept, key=lambda each: each.repo_id)
    ]


def _size(folder: Path) -> float:
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20, 1)
