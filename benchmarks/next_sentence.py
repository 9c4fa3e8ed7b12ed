"""Does the next sentence help questions and pairs (Devlin et al. 2019), and does [CLS] say more than the mean of the tokens?

`python benchmarks/next_sentence.py` makes two encoders of the embedded one's shape and tokenizer from nothing, on the
same text with as many tokens, one with pairs to tell apart and one without; then `afina compare` fine-tunes both on
similarity (STS-B), paraphrases (MRPC) and questions (SQuAD in Spanish), three seeds each, and `probe.py` reads their layers. It writes
`results/next-sentence.json`. The two losses weigh the same, as in the paper. The [CLS] of neither is taught anything else (`--bow-weight 0`).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import probe
import record
import tasks
from adaptation import PRETRAINED_ON
from versions import NEW

from afina.errors import InputError

WORK = record.ROOT / ".work" / "next_sentence"
TOKENS, SEEDS, STEPS = 4_000_000, 3, 120
WAYS = {"without": ["--no-nsp"], "with": ["--nsp"]}
SETS = ("stsb", "mrpc", "squad_es")


def pretrained(name: str) -> Path:
    """Return the folder of one of the two encoders, trained or gone on with where it is not there."""
    run = WORK / name
    if not (run / "scores.json").is_file():
        command = [
            sys.executable, "-m", "afina", "pretrain", str(PRETRAINED_ON), "--tokenizer", str(record.EMBEDDED / NEW.split("/")[1]),
            "--validation", str(PRETRAINED_ON.with_name("valid.txt")), "--shape", "mini", "--max-tokens", str(TOKENS),
            "--tokens-per-step", "8192", "--learning-rate", "1.5e-3", "--precision", "bf16", "--eval-steps", "10000",
            "--bow-weight", "0", *WAYS[name], "--output-dir", str(run), "--resume" if run.is_dir() else "--overwrite",
        ]  # fmt: skip
        if code := subprocess.run(command, check=False).returncode:
            raise InputError(f"{name}: the pre-training ended with {code}")
    return run / "best"


def measured(name: str, models: dict[str, Path]) -> dict[str, Any]:
    """Return what the comparison of the encoders on one set says."""
    about = tasks.SETS[name]
    place = WORK / f"compare-{name}"
    steps = about.get("steps", STEPS)
    result = tasks.compare(name, about, place, seeds=SEEDS, steps=steps, models=list(models.values()))
    plain = json.dumps({"set": about, "steps": steps} | {key: result[key] for key in tasks.KEPT})
    for each, folder in models.items():
        plain = plain.replace(str(folder), each)
    return json.loads(plain)


def main() -> None:
    """Make what is not there yet, and write the record."""
    models = {name: pretrained(name) for name in WAYS}
    losses = {
        name: json.loads((WORK / name / "scores.json").read_text(encoding="utf-8"))["losses"]["validation"]
        for name in WAYS
    }
    found = {name: measured(name, models) for name in SETS}
    read = {name: probe.probed(folder) for name, folder in models.items()}
    settings = {"tokens": TOKENS, "ways": WAYS}
    print(
        record.save(
            "next-sentence",
            record.about("python benchmarks/next_sentence.py")
            | {"settings": settings, "losses": losses, "sets": found, "probes": read},
        )
    )


if __name__ == "__main__":
    main()
