"""Is what a fine-tuning says of its time and memory before it trains what it then takes?

`python benchmarks/forecast.py` fine-tunes by each of eight methods on each of three sets, one run after another and
nothing beside them, and writes `results/forecast.json`: by run what was said and what its own process then measured. A
campaign that was cut off goes on. Where two runs share a processor, as in a comparison with `--workers 2`, what a few
steps take says less of the others: that is not measured here.
"""

import subprocess
import sys
from typing import Any

import methods
import record
import tasks

from afina.errors import InputError

WORK = record.ROOT / ".work" / "forecast"
SETS, STEPS, SCORINGS = ("tweets_es", "conll2002", "mrpc"), 120, 2


def run(name: str, method: str) -> dict[str, Any]:
    """Return what one run has said of itself and what it then took, trained now where it is not yet."""
    about, place = methods.SETS[name], WORK / name / method
    if not (place / "scores.json").is_file():
        files = {
            part: tasks.write(part, name, about, number)
            for part, number in tasks.ROWS.items()
            if part in about
        }
        command = [
            sys.executable, "-m", "afina", "finetune", str(files["train"]), "--task", about["task"],
            *(word for part in ("validation", "test") if part in files for word in (f"--{part}", str(files[part]))),
            *(tasks.TAGS if "columns" in about else []), "--method", method, "--max-steps", str(STEPS),
            "--eval-steps", str(STEPS // SCORINGS), "--output-dir", str(place), "--overwrite", "--quiet", "--lang", "en",
        ]  # fmt: skip
        if code := subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            raise InputError(f"{name}, {method}: the run ended with {code}")
    return {"set": name, "method": method} | methods.foretold_of(place)


def main() -> None:
    """Make the runs that are missing, and the record."""
    runs = []
    for name in SETS:
        for method in methods.METHODS:
            runs.append(run(name, method))
            print(
                name, method, *(f"{key} {ratio:.2f}" for key, ratio in runs[-1]["ratios"].items()), flush=True
            )
    close = {
        key: sum(abs(each["ratios"][key] - 1) <= most for each in runs) for key, most in methods.CLOSE.items()
    }
    print(
        record.save(
            "forecast",
            record.about("python benchmarks/forecast.py")
            | {"steps": STEPS, "within": methods.CLOSE, "close": close, "of": len(runs), "runs": runs},
        )
    )


if __name__ == "__main__":
    main()
