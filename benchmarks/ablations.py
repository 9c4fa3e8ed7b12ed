"""Does each choice that the embedded encoder was made with pay? One changed at a time, at equal compute.

`python benchmarks/ablations.py` makes small encoders of the embedded one's shape from nothing, each with as many tokens of
the same text, and writes `results/ablations.json`: held-out loss, and what a linear model reads from each of them on rows
that are held out of the sets' training parts (`probe.py`): for choices, test rows are not looked at. A campaign that was
cut off goes on. One seed, and a twenty-fifth of the tokens that the embedded encoder has read: small differences are none.
"""

import json
import subprocess
import sys
from pathlib import Path

import probe
import record
from adaptation import general
from versions import NEW

from afina.errors import InputError

WORK = record.ROOT / ".work" / "ablations"
TOKENS, CHARACTERS = 2_000_000, 16_000_000
TOKENIZER = ["--tokenizer", str(record.EMBEDDED / NEW.split("/")[1])]
SETTINGS = {
    "--mlm-probability": "0.15", "--nsp-weight": "0.1", "--bow-weight": "1", "--learning-rate": "1.5e-3",
    "--short-share": "0.9", "--tokens-per-step": "4096", "--max-tokens": str(TOKENS),
}  # fmt: skip
WAYS: dict[str, dict[str, str | None]] = {
    "as embedded": {},
    "30 % of the tokens hidden": {"--mlm-probability": "0.3"},
    "whole words hidden": {"--whole-word-masking": None},
    "no next sentences": {"--no-nsp": None},
    "no bag of words": {"--bow-weight": "0"},
    "rows of 128 alone": {"--short-share": "1"},
    "rows of 512 alone": {"--short-share": "0"},
    "rate 5e-4": {"--learning-rate": "5e-4"},
    "rate 3e-3": {"--learning-rate": "3e-3"},
    "8,192 tokens": {"--vocab-size": "8192"},
}


def pretrained(name: str, text: Path) -> Path:
    """Return the run of one encoder, trained or gone on with where it is not there."""
    own = WAYS[name]
    run = WORK / "".join(sign if sign.isalnum() else "_" for sign in name)
    if not (run / "scores.json").is_file():
        told = SETTINGS | own
        flags = [word for pair in told.items() for word in pair if word is not None]
        command = [
            sys.executable, "-m", "afina", "pretrain", str(text), *([] if "--vocab-size" in own else TOKENIZER),
            "--validation", str(text.with_name("valid.txt")), "--shape", "mini", "--precision", "bf16", "--eval-steps", "10000",
            *flags, "--quiet", "--output-dir", str(run), "--resume" if run.is_dir() else "--overwrite",
        ]  # fmt: skip
        if code := subprocess.run(command, check=False).returncode:
            raise InputError(f"{name}: the pre-training ended with {code}")
    return run


def main() -> None:
    """Make what is not there yet, and write the record."""
    WORK.mkdir(parents=True, exist_ok=True)
    text, held = WORK / "train.txt", record.ROOT / ".work" / "pretrain" / "valid.txt"
    if not text.is_file():
        (WORK / "valid.txt").write_bytes(held.read_bytes())
        general(text, CHARACTERS)
    found = {}
    for name in WAYS:
        run = pretrained(name, text)
        kept = run / "probes.json"
        if not kept.is_file():
            kept.write_text(json.dumps(probe.probed(run / "best")), encoding="utf-8")
        result = json.loads((run / "scores.json").read_text(encoding="utf-8"))
        found[name] = {
            "settings": WAYS[name],
            "tokens_seen": result["tokens_seen"],
            "scores": result["scores"]["validation"],
            "probes": json.loads(kept.read_text(encoding="utf-8")),
        }
        read = {name: each["pooled"] for name, each in found[name]["probes"].items()}
        print(name, result["losses"]["validation"], read, flush=True)
    about = record.about("python benchmarks/ablations.py")
    print(record.save("ablations", about | {"tokens": TOKENS, "settings": SETTINGS, "ways": found}))


if __name__ == "__main__":
    main()
