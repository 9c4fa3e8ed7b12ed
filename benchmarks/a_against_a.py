"""Is a winner declared where there is none? The same method with three seeds against itself with three others.

`python benchmarks/a_against_a.py [FOLDER…]` writes `results/a-against-a.json` from finished campaigns of `methods.py` (by
default those of this checkout): every folder FOLDER/SET has two comparisons, `from-0` and `from-3`, on the same test
rows. Each method of the one is compared with itself in the other as `afina compare` compares the rows of one table, the
variance over seeds pooled over all of them; but a winner is who lies outside the 95 % interval, without Holm's correction
for many comparisons. Where a set has no validation file, those rows were drawn anew as well. At most 7 % may have one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import methods
import record

from afina.names import find
from afina.scoring.over_seeds import System, compare, system

PARTS = ("from-0", "from-3")


def systems(place: Path, rows: list[Any], task: Any) -> dict[str, System]:
    """Return what was trained in a comparison, by method."""
    runs: dict[str, list[Any]] = {}
    for file in sorted(place.glob("runs/*-[0-9]/measured.json")):
        runs.setdefault(file.parent.name.rpartition("-")[0], []).append(
            json.loads(file.read_text(encoding="utf-8"))
        )
    return {
        name: system([task.of(run["task_settings"]).watch for run in told], [run["answers"] for run in told], rows)
        for name, told in runs.items()
    }  # fmt: skip


def measure(campaign: Path) -> list[dict[str, Any]]:
    """Return one comparison a method of a set, the method against itself."""
    found = [json.loads((campaign / part / "scores.json").read_text(encoding="utf-8")) for part in PARTS]
    rows, again = (
        json.loads((campaign / part / "runs" / "rows.json").read_text(encoding="utf-8"))[0] for part in PARTS
    )
    assert rows == again, f"{campaign}: the two comparisons have other test rows"
    task = find("tasks", found[0]["task"])
    one, other = (systems(campaign / part, rows, task) for part in PARTS)
    metric = next(iter(found[0]["rows"][0]["scores"]))
    both = {
        f"{name} {part}": each
        for part, some in zip(PARTS, (one, other), strict=True)
        for name, each in some.items()
    }
    gaps = {(pair.a, pair.b): pair.difference for pair in compare(both, metric, found[0]["direction"])}
    made = []
    for name in one:
        gap = gaps[f"{name} from-0", f"{name} from-3"]
        told = {"set": campaign.name, "method": name, "metric": metric}
        limits = {"difference": gap.value, "low": gap.low, "high": gap.high}
        made.append(told | limits | {"winner": gap.low > 0 or gap.high < 0})
    return made


if __name__ == "__main__":
    places = [Path(name) for name in sys.argv[1:]] or [methods.WORK]
    campaigns = [
        campaign
        for place in places
        for campaign in sorted(place.iterdir())
        if all((campaign / part / "scores.json").is_file() for part in PARTS)
    ]
    made = [each for campaign in campaigns for each in measure(campaign)]
    winners = sum(each["winner"] for each in made)
    print(f"{winners} of {len(made)} comparisons of a method with itself have a winner")
    print(
        record.save(
            "a-against-a",
            record.about("python benchmarks/a_against_a.py FOLDER…")
            | {"comparisons": len(made), "winners": winners, "pairs": made},
        )
    )
