"""Fill the tables of `docs/*/results.md` from the records of `tasks.py`: no figure in them is typed.

`python benchmarks/tasks_table.py`; a test says when a table is older than the records.
"""

import json
import re
from pathlib import Path
from typing import Any

import record as records_of

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLACE = re.compile(r"(?<=<!-- records:tasks -->\n).*?(?=<!-- /records -->)", re.DOTALL)
PAGES = {"docs/en/results.md": False, "docs/es/results.md": True}
MODEL, RANDOM = "full", "random_weights"
DECODERS = ("chat", "causal_lm")
OLDER = " †"  # recorded with earlier weights
HEADS = {
    False: (
        *("data", "rows to train / test", "figure", "embedded model (95 % interval)", "random weights"),
        *("best baseline", "embedded − baseline", "on rows learnt / others"),
    ),
    True: (
        *("datos", "filas de entrenamiento / prueba", "medida", "modelo incluido (intervalo del 95 %)"),
        *("pesos aleatorios", "mejor línea base", "incluido − línea base", "en filas aprendidas / otras"),
    ),
}
# What each set is, in both languages.
SETS = {
    "mrpc": ("MRPC (paraphrases, English)", "MRPC (paráfrasis, inglés)"),
    "rte": ("RTE (entailment, English)", "RTE (implicación, inglés)"),
    "stsb": ("STS-B (likeness of two sentences, English)", "STS-B (parecido de dos frases, inglés)"),
    "xnli_es": ("XNLI (entailment, Spanish)", "XNLI (implicación, español)"),
    "goemotions": ("GoEmotions (28 emotions, English)", "GoEmotions (28 emociones, inglés)"),
    "conll2002": ("CoNLL-2002 (entities, Spanish)", "CoNLL-2002 (entidades, español)"),
    "conll2002_pos": ("CoNLL-2002 (parts of speech, Spanish)", "CoNLL-2002 (categorías, español)"),
    "wnut17": ("WNUT-17 (rare entities, English)", "WNUT-17 (entidades raras, inglés)"),
    "cantemist": ("CANTEMIST (tumours, Spanish)", "CANTEMIST (tumores, español)"),
    "ewt_pos": ("UD English EWT (parts of speech)", "UD English EWT (categorías, inglés)"),
    "squad_en": ("SQuAD 1.1 (answers in a text, English)", "SQuAD 1.1 (respuestas en un texto, inglés)"),
    "squad_es": ("SQuAD 1.1 in Spanish", "SQuAD 1.1 en español"),
    "squad_es_v2": ("SQuAD 2.0 in Spanish", "SQuAD 2.0 en español"),
    "alpaca": ("Alpaca (instructions, English)", "Alpaca (instrucciones, inglés)"),
    "chatterbot": ("ChatterBot (dialogues)", "ChatterBot (diálogos)"),
}


def records() -> dict[str, dict[str, Any]]:
    """Return the records by the set's name, in the order of SETS."""
    found = {
        file.stem.removeprefix("task-"): json.loads(file.read_text(encoding="utf-8"))
        for file in RESULTS.glob("task-*.json")
    }
    return {name: found[name] for name in SETS if name in found}


def table(spanish: bool) -> str:
    """Return the table in one language: a head, and a row a record."""
    lines = [HEADS[spanish], ["---", *["---:"] * (len(HEADS[spanish]) - 1)]]
    rows = [_row(name, record, spanish) for name, record in records().items()]
    return "".join("| " + " | ".join(line) + " |\n" for line in [*lines, *rows])


def filled(page: str) -> str:
    """Return the page's text with its table as the records have it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not PLACE.search(text):
        raise SystemExit(f"{page} has no <!-- records:tasks --> … <!-- /records -->")
    return PLACE.sub(lambda _old: table(PAGES[page]), text)


def _row(name: str, record: dict[str, Any], spanish: bool) -> list[str]:
    metric = record["fitting"][MODEL]["metric"]
    systems = {row["method"]: row["scores"][metric] for row in record["rows"] if row["scores"]}
    less = -1 if metric == "loss" else 1
    rivals = [each for each in systems if each not in (MODEL, RANDOM)]
    best = max(rivals, key=lambda each: less * systems[each]["value"])
    test = next(test for test in record["tests"] if {test["a"], test["b"]} == {MODEL, best})
    turn = 1 if test["a"] == MODEL else -1
    ends = sorted(turn * test[end] for end in ("low", "high")) if test["low"] is not None else None

    def told(value: float, sign: bool = False) -> str:
        text = (f"{value:+.3f}" if sign else f"{value:.3f}").replace("-", "−")
        return text.replace(".", ",") if spanish else text

    between = "a" if spanish else "to"
    mine, learnt, sizes = systems[MODEL], record["fitting"][MODEL], record["sizes"]
    limits = f" ({told(mine['low'])} {between} {told(mine['high'])})" if mine["low"] is not None else ""
    gap = f" ({told(ends[0], True)} {between} {told(ends[1], True)})" if ends else ""
    model = "gpt-mini-es-en" if record["task"] in DECODERS else "bert-mini-es-en"
    return [
        SETS[name][spanish] + (OLDER if records_of.older(record, model) else ""),
        f"{sizes['train']} / {sizes[record['part']]}",
        f"`{metric}`",
        told(mine["value"]) + limits,
        told(systems[RANDOM]["value"]),
        f"{told(systems[best]['value'])} (`{best}`)",
        told(turn * test["difference"], True) + gap,
        f"{told(learnt['train'])} / {told(learnt['validation'])}",
    ]


def main() -> None:
    """Fill both pages in."""
    for page in PAGES:
        (ROOT / page).write_text(filled(page), encoding="utf-8")
    print(", ".join(records()) or "no record yet: the tables are empty")


if __name__ == "__main__":
    main()
