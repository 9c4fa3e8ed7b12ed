"""What does adaptation to clinical text bring a clinical task, what is forgotten for it, and does replay save that?

`python benchmarks/adaptation.py` writes `results/adaptation.json`: `afina compare` of the embedded encoder and of two
chains that adapt it first, one of them with a tenth of general text, three seeds each, on the entities of CANTEMIST.
Every run adapts the model anew, so what is forgotten is known of every seed too. The general text is a sample of that
which the encoder was made from (`benchmarks/pretrain_text.py text` writes it).
"""

import json
import random
from pathlib import Path
from typing import Any

import record
import tasks
from versions import NEW

from afina.train.rehearsal import WEIGHT

WORK = record.ROOT / ".work" / "adaptation"
PRETRAINED_ON = record.ROOT / ".work" / "pretrain" / "train.txt"
DOMAIN = tasks.DATA / "domain"
SET, SEEDS, STEPS = "cantemist", 3, 240
TOKENS, REPLAY = 1_500_000, 0.1
GENERAL, LONGEST = 6_000_000, 40_000  # characters, of all and of a document
CHAIN = """model = "{model}"

[[stage]]
verb = "adapt"
texts = ["{text}"]
validation = "{validation}"
max_tokens = {tokens}
eval_steps = {tokens}
precision = "bf16"
{replay}"""


def general(file: Path, characters: int) -> Path:
    """Write a sample of the documents that the encoder was made from, so many characters of them."""
    found = PRETRAINED_ON.read_text(encoding="utf-8").split("\n\n")
    random.Random(0).shuffle(found)
    kept, size = [], 0
    for document in found:
        if size > characters:
            break
        kept.append(document if len(document) <= LONGEST else document[:LONGEST].rpartition("\n")[0])
        size += len(kept[-1])
    file.write_text("\n\n".join(kept) + "\n", encoding="utf-8")
    return file


def chain(name: str, replay: str = "") -> Path:
    """Write the stage before the task of the comparison: the text of the field."""
    file = WORK / f"{name}.toml"
    about = {"text": DOMAIN / "medical_es.txt.xz", "validation": DOMAIN / "medical_es.valid.txt"}
    file.write_text(CHAIN.format(model=NEW, tokens=TOKENS, replay=replay, **about), encoding="utf-8")
    return file


def adapted(place: Path, name: str) -> list[dict[str, Any]]:
    """Return what each run's adaptation reached and forgot."""
    files = sorted(place.glob(f"runs/*{name}.toml-full-*/stages/1-adapt/scores.json"))
    told = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [{key: each[key] for key in ("tokens_seen", "losses", "forgetting", "seconds")} for each in told]


def main() -> None:
    """Run the comparison, or go on with it, and write its record."""
    WORK.mkdir(parents=True, exist_ok=True)
    mixed = f'replay = {REPLAY}\nreplay_text = "{general(WORK / "general.txt", GENERAL)}"\n'
    chains = {"adapted": chain("adapted"), "replayed": chain("replayed", mixed)}
    about, place = tasks.SETS[SET], WORK / SET
    result = tasks.compare(SET, about, place, seeds=SEEDS, steps=STEPS, models=[NEW, *chains.values()])
    kept = {key: result[key] for key in tasks.KEPT}
    stages = {name: adapted(place, name) for name in chains}
    settings = {"tokens": TOKENS, "replay": REPLAY, "weight_of_replay": WEIGHT, "steps": STEPS}
    plain = json.dumps(
        record.about("python benchmarks/adaptation.py")
        | {"set": about, "settings": settings}
        | kept
        | {"stages": stages}
    )
    for name, file in chains.items():
        plain = plain.replace(str(file), name)
    print(record.save("adaptation", json.loads(plain)))


if __name__ == "__main__":
    main()
