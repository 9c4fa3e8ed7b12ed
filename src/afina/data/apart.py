"""How sentences are encoded one by one, in batches, so that their tokens are those of the whole text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Two sentences of a line and one of the next: every vocabulary has them.
FIRST, SECOND, THIRD = "a.", "a.", "a"


class Apart(NamedTuple):
    """A tokenizer for sentences, what goes before a document's first, and whether the signs between them are kept."""

    backend: Tokenizer
    lead: str
    signs: bool


def apart(backend: Tokenizer) -> Apart:
    """Return how this tokenizer has sentences given: as they are where it marks no blanks or adds them itself.

    Else with the blank before and the line end behind, where a whole text has them in its tokens too; one that puts a
    blank before every text (Llama's) must not put it into a line, and gets that of the first sentence with it.
    """
    whole = _ids(backend, f"{FIRST} {SECOND}\n{THIRD}")
    if _ids(backend, FIRST, SECOND, THIRD) == whole:
        return Apart(backend, "", signs=False)
    bare = _without_blank(backend)
    if _ids(bare, f" {FIRST}", f" {SECOND}\n", THIRD) == whole:
        return Apart(bare, " ", signs=True)
    return Apart(backend, "", signs=True)


def _ids(backend: Tokenizer, *texts: str) -> list[int]:
    encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return [token for encoding in encodings for token in encoding.ids]


def _without_blank(backend: Tokenizer) -> Tokenizer:
    """Return a copy that puts no blank before a text."""
    from tokenizers import Tokenizer

    form = json.loads(backend.to_str())
    for part in ("normalizer", "pre_tokenizer"):
        form[part] = _bare(form[part])
    bare = Tokenizer.from_str(json.dumps(form))
    bare.encode_special_tokens = backend.encode_special_tokens
    return bare


def _bare(step: Any) -> Any:
    """Return a step of a tokenizer, or a list of steps, without what puts a blank before a text."""
    if isinstance(step, list):
        return [bare for each in step if (bare := _bare(each)) is not None]
    if not isinstance(step, dict):
        return step
    if step.get("type") == "Prepend":
        return None
    never = {"prepend_scheme": "never", "add_prefix_space": False}
    return {name: never.get(name, _bare(inner)) for name, inner in step.items()}
