"""Fill the table of what was foretold in `docs/*/results.md` from the record of `forecast.py`: no figure in it is typed.

`python benchmarks/forecast_table.py`; a test says when the pages are older than the record.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "forecast.json"
PLACE = re.compile(r"(?<=<!-- records:forecast -->\n).*?(?=<!-- /records -->)", re.DOTALL)
PAGES = {"docs/en/results.md": False, "docs/es/results.md": True}
SETS = {
    "tweets_es": ("Spanish tweets", "tuits en español"),
    "conll2002": ("CoNLL-2002", "CoNLL-2002"),
    "mrpc": ("MRPC", "MRPC"),
}
HEADS = {
    False: ("method", "{set}: memory, MB", "training, s"),
    True: ("método", "{set}: memoria, MB", "entrenamiento, s"),
}
TOLD = {
    False: "Foretold and measured, with nothing beside the run: memory within 15 % in {memory_mb} of {of} runs, time "
    "within 25 % in {seconds}.",
    True: "Previsto y medido, sin nada más en la máquina: la memoria, con un error de hasta el 15 %, en {memory_mb} de "
    "{of} ejecuciones; el tiempo, de hasta el 25 %, en {seconds}.",
}


def table(spanish: bool) -> str:
    """Return a sentence and a table in one language, a row a method: what was foretold and what was measured."""
    if not RECORD.is_file():
        return "Aún no hay registro.\n" if spanish else "There is no record yet.\n"
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    runs = {(run["set"], run["method"]): run for run in found["runs"]}
    first, *others = HEADS[spanish]
    heads = [first, *(head.format(set=names[spanish]) for names in SETS.values() for head in others)]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for method in dict.fromkeys(run["method"] for run in found["runs"]):
        cells = [
            f"{runs[name, method]['said'][key]:.0f} / {runs[name, method]['took'][key]:.0f}"
            for name in SETS
            for key in ("memory_mb", "seconds")
        ]
        lines.append([f"`{method}`", *cells])
    said = TOLD[spanish].format(of=found["of"], **found["close"])
    return said + "\n\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)


def filled(page: str) -> str:
    """Return the page's text with its table as the record has it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not PLACE.search(text):
        raise SystemExit(f"{page} has no <!-- records:forecast --> … <!-- /records -->")
    return PLACE.sub(lambda _old: table(PAGES[page]), text)


def main() -> None:
    """Fill both pages in."""
    for page in PAGES:
        (ROOT / page).write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    main()
