"""Fill the comparison of methods in `docs/*/results.md` from the records of `methods.py`: no figure in it is typed.

`python benchmarks/methods_table.py`; a test says when the pages are older than the records.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLACE = re.compile(r"(?<=<!-- records:methods -->\n).*?(?=<!-- /records -->)", re.DOTALL)
PAGES = {"docs/en/results.md": False, "docs/es/results.md": True}
SETS = {
    "conll2002": ("CoNLL-2002 (entities, Spanish)", "CoNLL-2002 (entidades, español)"),
    "longer-conll2002": (
        "CoNLL-2002 with three times the steps (720), three methods, two seeds",
        "CoNLL-2002 con el triple de pasos (720), tres métodos, dos semillas",
    ),
    "ewt_pos": ("UD English EWT (parts of speech)", "UD English EWT (categorías gramaticales)"),
    "tweets_es": ("Spanish tweets (three labels)", "Tuits en español (tres etiquetas)"),
    "banking77": ("Banking77 (77 labels, English)", "Banking77 (77 etiquetas, inglés)"),
    "mrpc": ("MRPC (paraphrases, English)", "MRPC (paráfrasis, inglés)"),
}
HEADS = {
    False: (
        *("method", "figure (95 % interval)", "over seeds", "weights trained", "saved, MB", "memory, MB", "training, s"),
        *("on rows learnt / others", "forgetting, es", "forgetting, en"),
    ),
    True: (
        *("método", "cifra (intervalo del 95 %)", "entre semillas", "pesos entrenados", "guardado, MB", "memoria, MB"),
        *("entrenamiento, s", "en filas aprendidas / otras", "olvido, es", "olvido, en"),
    ),
}  # fmt: skip
TOLD = {
    False: "{pairs} of {every} pairs of methods are told apart{agreement}. Foretold before training: memory within 15 % "
    "in {memory} of {runs} runs, time within 25 % in {seconds}.",
    True: "Se distinguen {pairs} de {every} pares de métodos{agreement}. Previsto antes de entrenar: la memoria, con un "
    "error de hasta el 15 %, en {memory} de {runs} ejecuciones; el tiempo, de hasta el 25 %, en {seconds}.",
}
AGREEMENT = {
    False: {
        True: "; with three other seeds their order agrees with a Kendall's tau-b of {tau} ({all} over all pairs)",
        False: ", fewer than half, so no order can be confirmed: with three other seeds tau-b over all pairs is {all}",
    },
    True: {
        True: "; con otras tres semillas su orden concuerda con una tau-b de Kendall de {tau} ({all} sobre todos los pares)",
        False: ", menos de la mitad, así que ningún orden puede confirmarse: con otras tres semillas la tau-b sobre todos "
        "los pares es {all}",
    },
}  # fmt: skip


def records() -> dict[str, dict[str, Any]]:
    """Return the records by the set's name, in the order of SETS."""
    files = {name: RESULTS / f"methods-{name}.json" for name in SETS}
    return {
        name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()
    }


def section(name: str, record: dict[str, Any], spanish: bool) -> str:
    """Return what one set says: its name, a row a system, the best first, and what the tests and a repetition show."""
    metric = next(iter(record["fitting"].values()))["metric"]
    less = -1 if metric == "loss" else 1
    rows = sorted(
        (row for row in record["rows"] if row["scores"]),
        key=lambda row: -less * row["scores"][metric]["value"],
    )
    heads = HEADS[spanish]
    lines = [
        heads,
        ["---", *["---:"] * (len(heads) - 1)],
        *(_row(row, record, metric, spanish) for row in rows),
    ]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return f"**{SETS[name][spanish]}**, `{metric}`:\n\n{table}\n{_told(record, spanish)}\n"


def filled(page: str) -> str:
    """Return the page's text with its tables as the records have them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not PLACE.search(text):
        raise SystemExit(f"{page} has no <!-- records:methods --> … <!-- /records -->")
    made = "\n".join(section(name, record, PAGES[page]) for name, record in records().items())
    return PLACE.sub(lambda _old: made, text)


def _number(value: float | None, digits: int, spanish: bool, sign: bool = False) -> str:
    if value is None:
        return ""
    text = (f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}").replace("-", "−")
    return text.replace(".", ",") if spanish else text


def _row(row: dict[str, Any], record: dict[str, Any], metric: str, spanish: bool) -> list[str]:
    score, learnt = row["scores"][metric], record["fitting"].get(row["method"])
    between = "a" if spanish else "to"
    limits = "" if score["low"] is None else f" {between} ".join(
        _number(score[end], 3, spanish) for end in ("low", "high")
    )  # fmt: skip
    lost = row["forgetting"] or {}
    moved = [
        _number(lost[one]["after"] - lost[one]["before"], 2, spanish, sign=True) if one in lost else ""
        for one in ("es", "en")
    ]
    parts = [learnt[part] for part in ("train", "validation")] if learnt else []
    return [
        f"`{row['method']}`",
        _number(score["value"], 3, spanish) + (f" ({limits})" if limits else ""),
        _number(score["spread"], 3, spanish),
        "" if row["trained_weights"] is None else str(row["trained_weights"]),
        _number(row["saved_mb"], 1, spanish),
        _number(row["peak_memory_mb"], 0, spanish),
        _number(row["train_seconds"], 0, spanish),
        " / ".join(_number(part, 3, spanish) for part in parts),
        *moved,
    ]


def _told(record: dict[str, Any], spanish: bool) -> str:
    methods = record["fitting"].keys()
    tests = [test for test in record["tests"] if {test["a"], test["b"]} <= methods]
    shown = sum(test["decision"] != "no difference shown" for test in tests)
    agreement = ""
    if again := record.get("again"):
        found = again["agreement"]
        agreement = AGREEMENT[spanish][found["decidable"]].format(
            tau=_number(found["tau_b_of_resolved"], 2, spanish),
            all=_number(found["tau_b_of_all"], 2, spanish),
        )
    runs = record["forecast"]["runs"]
    close = {
        key: sum(abs(run["ratios"][key] - 1) <= most for run in runs)
        for key, most in (("memory_mb", 0.15), ("seconds", 0.25))
    }
    return TOLD[spanish].format(
        pairs=shown,
        every=len(tests),
        agreement=agreement,
        memory=close["memory_mb"],
        seconds=close["seconds"],
        runs=len(runs),
    )


def main() -> None:
    """Fill both pages in."""
    for page in PAGES:
        (ROOT / page).write_text(filled(page), encoding="utf-8")
    print(", ".join(records()) or "no record yet: nothing is told")


if __name__ == "__main__":
    main()
