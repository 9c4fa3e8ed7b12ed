"""One run of a comparison in a process of its own: `python -m afina.verbs._trial FOLDER`.

Peak memory can only be measured so, for within a process it never falls again; and a crash stays one row.
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.core import Row
from afina.errors import AfinaError

if TYPE_CHECKING:
    from afina.train.bundle import Bundle

ASKED, ROWS, MEASURED = "trial.json", "rows.json", "measured.json"
TIMED = 20  # answers, one row at a time, whose median time is the latency


def main(folder: Path) -> int:
    """Train and measure what `trial.json` asks for; the exit code is that of the command line."""
    from afina.train.folder import is_run, write_json
    from afina.verbs.finetune import finetune

    asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    by_fold = json.loads((folder.parent / ROWS).read_text(encoding="utf-8"))
    rows = by_fold[asked["settings"].get("fold", 0)]
    try:
        run = finetune(asked["data"], **asked["settings"], output_dir=folder, resume=is_run(folder))
    except AfinaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    assert run is not None
    files = (file for file in (folder / "best").rglob("*") if file.is_file())
    write_json(
        folder / MEASURED,
        {
            "saved_mb": round(sum(file.stat().st_size for file in files) / 1e6, 2),
            "latency_ms": latency_ms(run.bundle, rows),
            "answers": run.bundle.answers(rows),
            "task_settings": run.bundle.task.model_dump(mode="json"),
        },
    )
    return 0


def latency_ms(bundle: "Bundle", rows: Sequence[Row]) -> float:
    """Return the median time of one answer, tokenising included, after three that are not counted."""
    some = [rows[i * len(rows) // TIMED] for i in range(TIMED)]
    times: list[Any] = []
    for row in some[:3] + some:
        began = time.perf_counter()
        bundle.answers([row])
        times.append(time.perf_counter() - began)
    return round(1000 * statistics.median(times[3:]), 2)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
