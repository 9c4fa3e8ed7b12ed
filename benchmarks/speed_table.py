"""Fill the tables of `docs/*/speed.md` from the record of `speed.py`, and draw its plot: no figure in them is typed.

`python benchmarks/speed_table.py`; a test says when a table is older than the record.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "speed.json"
PLOT = ROOT / "benchmarks" / "results" / "speed.svg"
PLACE = re.compile(r"(?<=<!-- records:speed -->\n).*?(?=<!-- /records -->)", re.DOTALL)
PAGES = {"docs/en/speed.md": False, "docs/es/speed.md": True}
HEADS = {
    False: (
        *("job", "beside", "afina, rows/s", "peer, rows/s", "times as fast", "goal", "whole job", "share of the peak"),
        *("score, points", "memory"),
    ),
    True: (
        *("trabajo", "frente a", "afina, filas/s", "el otro, filas/s", "veces más rápido", "meta", "trabajo entero"),
        *("parte del máximo", "puntos de diferencia", "memoria"),
    ),
}  # fmt: skip
JOBS = {
    "full-tweets": ("all weights, Spanish tweets", "todos los pesos, tuits en español"),
    "full-tweets-bf16": ("all weights, Spanish tweets, bf16", "todos los pesos, tuits en español, bf16"),
    "full-sst2": ("all weights, SST-2", "todos los pesos, SST-2"),
    "full-sst2-bf16": ("all weights, SST-2, bf16", "todos los pesos, SST-2, bf16"),
    "full-banking77": ("all weights, Banking77", "todos los pesos, Banking77"),
    "full-banking77-bf16": ("all weights, Banking77, bf16", "todos los pesos, Banking77, bf16"),
    "full-small": ("all weights of a BERT-small, tweets", "todos los pesos de un BERT-small, tuits"),
    "full-imdb": ("all weights, IMDb at 512 tokens", "todos los pesos, IMDb a 512 tokens"),
    "full-imdb-bf16": ("all weights, IMDb at 512 tokens, bf16", "todos los pesos, IMDb a 512 tokens, bf16"),
    "partial": ("top quarter, 5 epochs, tweets", "cuarto superior, 5 épocas, tuits"),
    "head": ("head, 10 epochs, tweets", "cabeza, 10 épocas, tuits"),
    "adapters": ("LoRA, tweets", "LoRA, tuits"),
    "adapters-houlsby": ("Houlsby adapters, tweets", "adaptadores de Houlsby, tuits"),
    "pretraining": ("pre-training from noise", "preentrenamiento desde cero"),
    "pretraining-bf16": ("pre-training from noise, bf16", "preentrenamiento desde cero, bf16"),
    "predict-tweets": ("answers to tweets", "respuestas a tuits"),
    "predict-imdb": ("answers to IMDb reviews", "respuestas a reseñas de IMDb"),
}
PEERS = {
    "trainer": ("Trainer, its defaults", "Trainer, con sus valores por defecto"),
    "tuned": ("Trainer, tuned (batch of {batch})", "Trainer, ajustado (lote de {batch})"),
    "guide": ("the guides' script", "el guion de las guías"),
    "simpletransformers": ("simpletransformers", "simpletransformers"),
    "lora": ("peft under Trainer", "peft con Trainer"),
    "mlm": ("Trainer, stock collator", "Trainer, con su propio collator"),
    "pipeline": ("pipeline, batches of 32", "pipeline, lotes de 32"),
    "afina-full": ("afina, all weights", "afina, todos los pesos"),
}


def ratios() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return name, ratio and systems of each job that the record holds, in the order of JOBS; none without a record."""
    if not RECORD.is_file():
        return []
    told = json.loads(RECORD.read_text(encoding="utf-8"))["summary"]
    found = [
        (f"{name}{ratio['a'].removeprefix('afina')}", ratio, about["systems"])
        for name, about in told.items()
        for ratio in about["ratios"]
    ]
    return [each for name in JOBS for each in found if each[0] == name]


def table(spanish: bool) -> str:
    """Return the table in one language: a head, and a row a ratio; without a record a sentence."""
    if not ratios():
        return "Aún no hay registro.\n" if spanish else "There is no record yet.\n"
    lines = [list(HEADS[spanish]), ["---", "---", *["---:"] * (len(HEADS[spanish]) - 2)]]
    lines += [_row(name, ratio, systems, spanish) for name, ratio, systems in ratios()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def filled(page: str) -> str:
    """Return the page's text with its table as the record has it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not PLACE.search(text):
        raise SystemExit(f"{page} has no <!-- records:speed --> … <!-- /records -->")
    return PLACE.sub(lambda _old: table(PAGES[page]), text)


def _row(name: str, ratio: dict[str, Any], systems: dict[str, Any], spanish: bool) -> list[str]:
    def told(value: float | None, digits: int = 1, sign: str = "") -> str:
        if value is None:
            return ""
        text = f"{value:{sign}.{digits}f}".replace("-", "−")
        return text.replace(".", ",") if spanish else text

    def spread(of: dict[str, float]) -> str:
        between = "a" if spanish else "to"
        return f"{told(of['value'], 2)} ({told(of['low'], 2)} {between} {told(of['high'], 2)})"

    mine, peer = systems[ratio["a"]], systems[ratio["b"]]
    share, points = mine.get("share_of_peak"), ratio["points"]
    counts = points is None or abs(points) <= 1
    return [
        JOBS[name][spanish],
        PEERS[ratio["peer"]][spanish].format(batch=ratio["b"].rpartition("-")[2]),
        told(mine["rows_per_s"]),
        told(peer["rows_per_s"]),
        spread(ratio["rate"]),
        told(ratio["goal"], 2),
        spread(ratio["whole_job"]),
        "" if share is None else f"{told(100 * share, 0)}\u00a0%",
        told(points, 1, "+") + ("" if counts else " †"),
        told(ratio["memory"]["value"], 2),
    ]


def draw(file: Path) -> None:
    """Draw how many times as fast afina trains, a bar a ratio, with its range and its goal."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "afina"  # the same file for the same record
    found = ratios()[::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.3 * len(found)), layout="constrained")
    values = [ratio["rate"]["value"] for _name, ratio, _systems in found]
    ends = [
        [abs(ratio["rate"][end] - ratio["rate"]["value"]) for _name, ratio, _systems in found]
        for end in ("low", "high")
    ]
    axes.barh(range(len(found)), values, xerr=ends, height=0.6, color="#4c72b0", ecolor="#222222", capsize=2)
    goals = [(place, ratio["goal"]) for place, (_name, ratio, _systems) in enumerate(found) if ratio["goal"]]
    axes.plot(
        [goal for _place, goal in goals],
        [place for place, _goal in goals],
        "|",
        color="#c44e52",
        ms=14,
        mew=2,
    )
    names = [
        f"{JOBS[name][0]} / {PEERS[ratio['peer']][0].partition(' (')[0]}" for name, ratio, _systems in found
    ]
    axes.set_yticks(range(len(found)), names, fontsize=8)
    axes.set_xscale("log")
    ticks = [each for each in (0.5, 1, 2, 4, 8, 16, 32, 64) if each <= 2 * max([1, *values])]
    axes.set_xticks(ticks, [f"{each:g}×" for each in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="#222222", lw=0.8)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Fill both pages in and draw the plot."""
    for page in PAGES:
        (ROOT / page).write_text(filled(page), encoding="utf-8")
    if ratios():
        draw(PLOT)
    print(f"{len(ratios())} ratios" if ratios() else "no record yet: the tables are empty")


if __name__ == "__main__":
    main()
