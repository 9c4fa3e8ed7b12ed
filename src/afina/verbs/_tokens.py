"""Which models part text into the same tokens: only then can a loss a token of one be held against that of another."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from afina.errors import InputError


def shared(models: Mapping[str, Path], own: Collection[str], *, template: bool) -> dict[str | None, str]:
    """Return for each model the first one that has its tokens; one that cannot be loaded is left out.

    Those in `own` make tokens of their own. Under None stand the tokens of the first model as it lies in its folder,
    which the baselines have. With `template` the signs around turns are tokens too.
    """
    firsts: list[tuple[str, dict[str, Any]]] = []
    found: dict[str | None, str] = {}
    baselines: dict[str, Any] | None = None
    for name, source in models.items():
        try:
            form = _form(source, template=template)
        except InputError:
            continue
        baselines = baselines or form
        form = form | ({"own": name} if name in own else {})
        found[name] = next((first for first, known in firsts if known == form), name)
        firsts.append((name, form))
    return found | {None: next((first for first, known in firsts if known == baselines), "")}


def _form(source: Path, *, template: bool) -> dict[str, Any]:
    """Return how the tokenizer of a model parts text; how much of it, and what fills a batch, is said elsewhere."""
    from afina.models.load import load_tokenizer

    tokenizer: Any = load_tokenizer(source)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    form = json.loads(backend.to_str()) if backend else {"vocabulary": tokenizer.get_vocab()}
    return form | {
        "truncation": None,
        "padding": None,
        "kind": None if backend else type(tokenizer).__name__,
        "template": tokenizer.chat_template if template else None,
    }
