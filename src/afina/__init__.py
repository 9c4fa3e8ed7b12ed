"""afina: take a language model and your own text all the way, and measure every step.

`run = afina.finetune("opinions.csv", task="classification")`, `run.scores`, `run.bundle.predict([...])`.
"""

import os
from importlib import import_module
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # nothing leaves the machine unasked

# `afina.models` and `afina.data` are folders of the house; their verbs are called from `afina.verbs`.
_WHERE = {
    "finetune": "afina.verbs.finetune",
    "compare": "afina.verbs.compare",
    "evaluate": "afina.verbs.evaluate",
    "predict": "afina.verbs.predict",
    "chat": "afina.verbs.chat",
    "pretrain": "afina.verbs.pretrain",
    "adapt": "afina.verbs.adapt",
    "Run": "afina.train.run",
    "Bundle": "afina.train.bundle",
    "together": "afina.train.together",
    "AfinaError": "afina.errors",
    "InputError": "afina.errors",
    "Interrupted": "afina.errors",
}
__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import afina` alone loads nothing heavy."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("afina")
    raise AttributeError(f"module 'afina' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE, "__version__"])
