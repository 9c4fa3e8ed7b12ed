"""Records: one JSON file a measurement, with everything that is needed to repeat and to doubt it.

`python benchmarks/record.py` lists the records whose code or weights have changed since they were made.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
EMBEDDED = ROOT / "src" / "afina" / "models" / "embedded"
LIBRARIES = ("torch", "transformers", "tokenizers", "scikit-learn", "numpy", "scipy")


def about(command: str) -> dict[str, Any]:
    """Return what every record holds besides its figures."""
    return {
        "command": command,
        "commit": _git("rev-parse", "--short", "HEAD"),
        "date": date.today().isoformat(),
        "machine": {
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in LIBRARIES},
        },
        "weights": weights(),
    }


def weights() -> dict[str, str]:
    """Return the sha256 of each embedded model's weights."""
    files = sorted(EMBEDDED.glob("*/model.safetensors"))
    return {file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def older(record: dict[str, Any], model: str) -> bool:
    """Whether a record was made with other weights of an embedded model than those that ship now."""
    return record["weights"].get(model) != weights().get(model)


def save(name: str, record: dict[str, Any]) -> Path:
    """Write one record and return where it lies."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def stale() -> list[str]:
    """Return a line for each record that was made with other weights, or before the code under src/ changed."""
    lines = []
    for file in sorted(RESULTS.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if not record.get("weights", {}).items() <= weights().items():
            lines.append(f"{file.name}: the embedded weights have changed")
        commit = record.get("commit")
        if commit and not _git("cat-file", "-t", commit):
            lines.append(f"{file.name}: made at {commit}, which is not in the history")
        elif commit and _git("diff", "--name-only", commit, "--", "src/afina/**/*.py"):
            lines.append(f"{file.name}: code has changed since {commit}")
    return lines


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()


if __name__ == "__main__":
    print("\n".join(stale()) or "every record is fresh", file=sys.stdout)
