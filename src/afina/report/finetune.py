"""The report of a fine-tuning run: one HTML page that needs nothing but itself."""

import heapq
import shlex
from pathlib import Path
from typing import Any

from afina.report import charts, page, terms, words
from afina.report.record import Record
from afina.sample import spread

EXAMPLES = 10
SHORT = 240
LONG = 5000
MANY_CLASSES = 20
NOTHING = "–"


def write(run: Path) -> Path:
    """Write `report.html` into the run's folder, in the current language, and return its path.

    Reads nothing but the folder; the same folder always gives the same page. Raises InputError where it
    holds no run.
    """
    record = Record.of(run)
    wrong, right = _examples(record)
    written = [row for row in record.predictions() if row.get("asked") == "True"]
    text = (
        page.environment(html=True)
        .get_template("finetune.html.j2")
        .render(
            record=record,
            verdict=words.verdict(record),
            dots=charts.dots(record),
            curves=[(curve, charts.describe(curve)) for curve in charts.curves(record)],
            confusion=charts.confusion(record),
            scatter=charts.scatter(record),
            names={system: terms.short(record.about, system) for system in record.systems},
            wrong=wrong,
            right=right,
            samples=[written[place] for place in spread(len(written), EXAMPLES)],
            written=len(written),
            rows=sum(1 for _row in record.predictions()),
            address=record.address,
            shell=shlex.quote,
            css=(page.TEMPLATES / "report.css").read_text(encoding="utf-8"),
            many=len(record.labels) > MANY_CLASSES,
            short=SHORT,
            long=LONG,
        )
    )
    page.save(run / "report.html", text)
    return run / "report.html"


def _examples(record: Record) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the wrong and the right answers that the model was surest of, the surest first.

    Of numbers, the answers that are furthest off, and the closest.
    """
    rows = list(record.predictions())
    off = [row for row in rows if row["error"] is not None]
    if off:
        far = heapq.nlargest(EXAMPLES, off, key=lambda row: (row["error"], -row["row"]))
        return far, heapq.nsmallest(EXAMPLES, off, key=lambda row: (row["error"], row["row"]))
    rows = [row for row in rows if row["probability"] is not None]
    found = []
    # A row without any entity, rightly left alone, shows nothing.
    rows = [row for row in rows if not row["label"] == row["prediction"] == NOTHING]
    for is_right in (False, True):
        chosen = (row for row in rows if row["right"] is is_right)
        found.append(heapq.nlargest(EXAMPLES, chosen, key=lambda row: (row["probability"], -row["row"])))
    return found[0], found[1]
