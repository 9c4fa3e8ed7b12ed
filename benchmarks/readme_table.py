"""Fill the tables of both READMEs from the records of `classification.py`: no figure in them is typed.

`python benchmarks/readme_table.py`; a test says when a table is older than the records.
"""

import json
import re
from pathlib import Path
from typing import Any

import record as records_of

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLACE = re.compile(r"(?<=<!-- records:classification -->\n).*?(?=<!-- /records -->)", re.DOTALL)
SYSTEMS = ("embedded", "random", "tfidf", "majority")
OLDER = " †"  # recorded with earlier weights

HEADS = {
    "README.md": (
        *("data", "rows to train / test", "seeds", "embedded model", "random weights", "TF-IDF"),
        *("majority", "embedded − random (95 % interval)"),
    ),
    "README.es.md": (
        *("datos", "filas de entrenamiento / prueba", "semillas", "modelo incluido", "pesos aleatorios"),
        *("TF-IDF", "clase mayoritaria", "incluido − aleatorios (intervalo del 95 %)"),
    ),
}
# What each set is, in both languages.
SETS = {
    "sst2": ("SST-2 (sentences of film reviews, English)", "SST-2 (frases de críticas de cine, inglés)"),
    "tweets_es": ("InterTASS 2017 (tweets, Spanish)", "InterTASS 2017 (tuits, español)"),
    "banking77": ("Banking77 (questions to a bank, English)", "Banking77 (consultas a un banco, inglés)"),
    "imdb": ("IMDb (film reviews, English)", "IMDb (críticas de cine, inglés)"),
}


def records() -> dict[str, dict[str, Any]]:
    """Return the records of classification by the set's name, in the order of SETS and then by name."""
    found = {
        file.stem.removeprefix("classification-"): json.loads(file.read_text(encoding="utf-8"))
        for file in RESULTS.glob("classification-*.json")
    }
    order = [*SETS, *sorted(found.keys() - SETS.keys())]
    return {name: found[name] for name in order if name in found}


def table(readme: str) -> str:
    """Return the table of one README: a head, and a row a record; scores are means over the seeds."""
    head = HEADS[readme]
    spanish = readme == "README.es.md"
    rows = [_row(name, record, spanish) for name, record in records().items()]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def filled(readme: str) -> str:
    """Return the README's text with its table as the records have it."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    if not PLACE.search(text):
        raise SystemExit(f"{readme} has no <!-- records:classification --> … <!-- /records -->")
    return PLACE.sub(lambda _old: table(readme), text)


def _row(name: str, record: dict[str, Any], spanish: bool) -> list[str]:
    english, other = SETS.get(name, (name, name))
    means = {
        system: sum(score["value"] for score in record["scores"][system]) / len(record["scores"][system])
        for system in SYSTEMS
    }
    gap = record["embedded_minus_random"]
    low, high = (_number(gap[end], spanish, sign=True) for end in ("low", "high"))
    between = "a" if spanish else "to"
    return [
        (other if spanish else english) + (OLDER if records_of.older(record, "bert-mini-es-en") else ""),
        f"{_count(record['rows']['train'], spanish)} / {_count(record['rows']['test'], spanish)}",
        str(len(record["seeds"])),
        *(_number(means[system], spanish) for system in SYSTEMS),
        f"{_number(gap['value'], spanish, sign=True)} ({low} {between} {high})",
    ]


def _number(value: float, spanish: bool, *, sign: bool = False) -> str:
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    text = text.replace("-", "−")
    return text.replace(".", ",") if spanish else text


def _count(value: int, spanish: bool) -> str:
    if spanish:  # four digits are not grouped, more are, by a narrow space
        return str(value) if value < 10_000 else f"{value:,}".replace(",", "\u202f")
    return f"{value:,}"


def main() -> None:
    """Fill both READMEs in."""
    for readme in HEADS:
        (ROOT / readme).write_text(filled(readme), encoding="utf-8")
    print(", ".join(records()) or "no record yet: the tables are empty")


if __name__ == "__main__":
    main()
