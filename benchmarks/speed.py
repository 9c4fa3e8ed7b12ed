"""How fast afina is beside the peers, and beside what the machine's matrix product allows: `python benchmarks/speed.py`.

Every measurement is a process of its own with the same threads, on the same rows and epochs; the systems of a job take
turns, and a repetition is a seed. What is told are medians, and ratios within a repetition. `--jobs a,b` picks some,
`--quick` only shows that all of it runs. A campaign that was cut off goes on with what is missing. The record of a whole
campaign is `results/speed.json`; `speed_table.py` makes page and plot of it.
"""

import argparse
import csv
import hashlib
import io
import json
import lzma
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import record

DATA = record.ROOT.parent / "shared" / "data"
WORK = record.ROOT / ".work" / "speed"
PEERS = Path(__file__).with_name("speed_peers.py")
MINI = "afina/bert-mini-es-en"
SHAPES = {"mini": (4, 256), "small": (4, 512)}  # layers, width
VOCABULARY, HIDDEN = 16384, 0.15  # of pre-training: tokens, and the share of them that is guessed
QUICK = 64  # rows of each part
VALIDATION = 100  # rows that afina alone looks at; the peers train without
SETS: dict[str, dict[str, Any]] = {
    "tweets": {"train": "tweet_sentiment_es/train.csv", "test": "tweet_sentiment_es/test.csv"},
    "sst2": {"train": "sst2/train.csv.xz", "test": "sst2/dev.csv"},
    "banking77": {"train": "banking77/train.csv", "test": "banking77/test.csv", "per_class": 10},
    "imdb": {"train": "imdb/train.csv.xz", "test": "imdb/test.csv.xz"},
}
ALL = {
    "trainer": {},
    "tuned-16": {"batch": 16},
    "tuned-32": {"batch": 32},
    "guide": {},
    "simpletransformers": {},
}
# At its defaults, and with what a processor that has it makes of bf16; the peers compute in fp32.
BOTH = {"afina": [], "afina-bf16": ["--precision", "bf16"]}
TOP = ("bert.encoder.layer.3.", "bert.pooler.", "classifier.")
# Rows to train and to test on, epochs and learning rate are those of every system of the job. A system is named with
# what it is told beyond them; of afina those are flags.
JOBS: dict[str, dict[str, Any]] = {
    "full-tweets": {"set": "tweets", "rows": 800, "epochs": 3, "rate": 5e-4, "afina": BOTH, "peers": ALL},
    "full-sst2": {"set": "sst2", "rows": 1200, "epochs": 2, "rate": 5e-4, "afina": BOTH, "peers": ALL},
    "full-banking77": {"set": "banking77", "rows": 770, "epochs": 4, "rate": 5e-4, "afina": BOTH, "peers": ALL},
    "full-small": {
        "set": "tweets", "rows": 128, "test": 128, "epochs": 3, "rate": 1e-4, "model": "small",
        "afina": {"afina": []}, "peers": ALL,
    },
    "full-imdb": {
        "set": "imdb", "rows": 300, "test": 200, "epochs": 1, "rate": 5e-4, "afina": BOTH,
        "peers": {"trainer": {}, "tuned-16": {"batch": 16}},
    },
    "partial": {
        "set": "tweets", "rows": 1200, "epochs": 5, "rate": 5e-4,
        "afina": {"afina": ["--method", "partial", "--top-blocks", "1"]}, "peers": {"trainer": {"trains": TOP}},
    },
    "head": {
        "set": "tweets", "rows": 1200, "epochs": 10, "rate": 3e-2,
        "afina": {"afina": ["--method", "head"]}, "peers": {"trainer": {"trains": ("classifier.",)}},
    },
    "adapters": {
        "set": "tweets", "rows": 800, "epochs": 2, "rate": 2e-3,
        "afina": {"afina": ["--method", "lora"], "afina-houlsby": ["--method", "houlsby"], "afina-full": []},
        "peers": {"lora": {"batch": 16}},
    },
    "pretraining": {"rate": 1e-3, "tokens": 81920, "step": 4096, "afina": BOTH, "peers": {"mlm": {}}},
    "predict-tweets": {"set": "tweets", "rows": 400, "afina": {"afina": []}, "peers": {"pipeline": {}}},
    "predict-imdb": {"set": "imdb", "rows": 400, "test": 200, "afina": {"afina": []}, "peers": {"pipeline": {}}},
}  # fmt: skip
# Job, whose ratio of speed, to whose, and what it is to be.
GOALS: list[tuple[str, str, str, float | None]] = [
    *(
        (f"full-{name}", mine, peer, goal)
        for name in ("tweets", "sst2", "banking77", "small")
        for mine in BOTH
        for peer, goal in (("guide", 8.0), ("trainer", 2.5), ("tuned", 1.4), ("simpletransformers", None))
    ),
    *(("full-imdb", mine, peer, goal) for mine in BOTH for peer, goal in (("trainer", 1.3), ("tuned", None))),
    ("partial", "afina", "trainer", 2.5),
    ("head", "afina", "trainer", 12.0),
    ("adapters", "afina", "afina-full", 1.15),
    ("adapters", "afina", "lora", 1.5),
    ("adapters", "afina-houlsby", "afina-full", 1.3),
    *(("pretraining", mine, "mlm", 2.5) for mine in BOTH),
    ("predict-tweets", "afina", "pipeline", 2.5),
    ("predict-imdb", "afina", "pipeline", 2.5),
]
# Peers of the field that are named and not measured here.
OTHERS = {
    "setfit": "learns from pairs of rows by contrast, then fits a linear model: its epochs are not those of this job",
    "sentence-transformers": "trains embeddings and scores of pairs, no classifier of single texts",
}


def rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, packed or not."""
    data = file.read_bytes()
    text = lzma.decompress(data) if file.suffix == ".xz" else data
    return list(csv.DictReader(io.StringIO(text.decode("utf-8"))))


def sample(job: dict[str, Any], quick: bool) -> dict[str, list[dict[str, str]]]:
    """Return a fixed, seeded sample of a set by part, no text twice in any of them, all labels among the training rows."""
    about, draw, seen = SETS[job["set"]], random.Random(0), set[str]()

    def fresh(part: str) -> list[dict[str, str]]:
        found = rows(DATA / about[part])
        kept = []
        for row in draw.sample(found, len(found)):
            key = " ".join(row["text"].casefold().split())
            if key and key not in seen:
                seen.add(key)
                kept.append({"text": row["text"], "label": row["label"]})
        return kept

    most = QUICK if quick else 10**6
    test = fresh("test")[: min(job.get("test", 1000), most)]
    train = fresh("train")
    if each := about.get("per_class"):
        each, taken, first = 1 if quick else each, dict[str, int](), []
        for row in train:
            taken[row["label"]] = taken.get(row["label"], 0) + 1
            if taken[row["label"]] <= each:
                first.append(row)
    else:
        first = train[: min(job["rows"], most)]
    chosen = {id(row) for row in first}
    rest = [row for row in train if id(row) not in chosen]
    return {"train": first, "validation": rest[: min(VALIDATION, most)], "test": test}


def text(part: str, characters: int) -> str:
    """Return the first documents of the pre-training text of today's Spanish, or of its held-out part."""
    file = DATA / "pretrain" / {"train": "es_modern.txt.xz", "validation": "es_modern.valid.txt"}[part]
    with (
        lzma.open(file, "rt", encoding="utf-8")
        if file.suffix == ".xz"
        else file.open(encoding="utf-8") as stream
    ):
        found = stream.read(characters)
    return found[: found.rfind("\n\n")] + "\n"


def files(name: str, job: dict[str, Any], place: Path, quick: bool) -> dict[str, str]:
    """Write what a job reads and return the paths by part."""
    folder = place / name
    folder.mkdir(parents=True, exist_ok=True)
    if "set" not in job:
        sizes = {"train": 8 * tokens(job, quick) + 50_000, "validation": 120_000}
        found = {part: folder / f"{part}.txt" for part in sizes}
        for part, file in found.items():
            file.write_text(text(part, sizes[part]), encoding="utf-8")
        return {part: str(file) for part, file in found.items()}
    found = {}
    for part, some in sample(job, quick).items():
        found[part] = folder / f"{part}.csv"
        with found[part].open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["text", "label"])
            writer.writeheader()
            writer.writerows(some)
    return {part: str(file) for part, file in found.items()}


def tokens(job: dict[str, Any], quick: bool) -> int:
    """Return how many tokens a pre-training takes."""
    return 2 * job["step"] if quick else job["tokens"]


def run(command: list[str], log: Path, threads: int) -> dict[str, float]:
    """Run a process to its end; return its seconds by the clock and of the processor, and its peak memory.

    The peak of a child is never below that of its parent when it began: so nothing heavy is imported here.
    """
    said = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "HF_HUB_OFFLINE": 1,
        "HF_HUB_DISABLE_TELEMETRY": 1,
    }
    began = time.perf_counter()
    with log.open("wb") as stream:
        child = subprocess.Popen(
            command,
            stdout=stream,
            stderr=stream,
            env=os.environ | {name: str(value) for name, value in said.items()},
        )
        _pid, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {child.returncode}: see {log}\n{log.read_text()[-2000:]}"
        )
    return {
        "wall": time.perf_counter() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "memory_mb": used.ru_maxrss / 2**10,
    }


class Campaign:
    """All measurements of one command: where they lie, what each job reads, and what is measured already."""

    def __init__(self, names: list[str], *, repeat: int, quick: bool, threads: int):
        self.names, self.repeat, self.quick, self.threads = names, repeat, quick, threads
        made_of = [record.about("")["commit"], record.weights(), quick, threads]
        self.place = WORK / hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:8]
        self.place.mkdir(parents=True, exist_ok=True)
        self.absent = {
            name: reason if find_spec(name.replace("-", "_")) else f"not installed; {reason}" for name, reason in OTHERS.items()
        }  # fmt: skip
        if not find_spec("simpletransformers"):
            self.absent["simpletransformers"] = "not installed"

    def measure(self) -> dict[str, Any]:
        """Measure what is missing, and return all of it by job."""
        models = self.models()
        reads = {name: files(name, JOBS[name], self.place, self.quick) for name in self.names}
        given = {name: self._given(name, reads[name], models) for name in self.names}
        found: dict[str, Any] = {
            name: {"job": JOBS[name], "size": self.size(name, given[name]), "runs": []} for name in self.names
        }
        for seed in range(self.repeat):
            for name in self.names:
                systems = [
                    *JOBS[name]["afina"],
                    *(each for each in JOBS[name]["peers"] if each not in self.absent),
                ]
                turn = seed % len(systems)
                for system in ["peak", *systems[turn:], *systems[:turn]]:
                    said = f"{name}, {system}, seed {seed}"
                    kept = self.place / name / f"{system}-{seed}.json"
                    if not kept.is_file():
                        got = self.one(name, system, given[name] | {"seed": seed})
                        kept.write_text(json.dumps(got, ensure_ascii=False), encoding="utf-8")
                    one = json.loads(kept.read_text(encoding="utf-8"))
                    found[name]["runs"].append({"system": system, "seed": seed} | one)
                    print(
                        said,
                        *(f"{key} {one[key]:.4g}" for key in ("rows_per_s", "wall", "score") if key in one),
                        flush=True,
                    )
        return found

    def models(self) -> dict[str, str]:
        """Write the embedded model and the BERT-small shape as ordinary folders."""
        found = {name: self.place / f"bert-{name}" for name in SHAPES}
        if not found["mini"].is_dir():
            command = [sys.executable, "-m", "afina", "models", "save", MINI, str(found["mini"])]
            run(command, self.place / "models.log", self.threads)
        if not found["small"].is_dir():
            self.ask(
                "prepare",
                {"tokenizer": str(found["mini"]), "small": str(found["small"])},
                self.place / "small",
            )
        return {name: str(folder) for name, folder in found.items()}

    def _given(self, name: str, read: dict[str, str], models: dict[str, str]) -> dict[str, Any]:
        job = JOBS[name]
        given = read | {
            "model": models[job.get("model", "mini")],
            "max_length": 512,
            "epochs": job.get("epochs"),
            "learning_rate": job.get("rate"),
            "trained": str(self.place / name / "trained" / "best"),
        }
        if "step" in job:
            given |= {"step": job["step"], "tokens": tokens(job, self.quick)}
        if name.startswith("predict") and not Path(given["trained"]).is_dir():
            self.finetune(
                given | {"epochs": 1, "learning_rate": 5e-4, "seed": 0}, [], self.place / name / "trained"
            )
        return given

    def size(self, name: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """Return rows and tokens of the parts that a job trains on and answers."""
        if "test" not in given:
            return None
        kept = self.place / name / "size.json"
        if not kept.is_file():
            self.ask("count", given, self.place / name / "size")
        return json.loads(kept.read_text(encoding="utf-8"))

    def one(self, name: str, system: str, given: dict[str, Any]) -> dict[str, Any]:
        """Measure one system on one job once."""
        job, place = JOBS[name], self.place / name / f"{system}-{given['seed']}"
        given = given | {"output_dir": str(place / "run")}
        if system == "peak":
            return self.ask("peak", given, self.place / name / "peak")
        place.mkdir(exist_ok=True)
        if system not in job["afina"]:
            got = self.ask(system.partition("-")[0], given | job["peers"][system], place / "peer")
        elif "step" in job:
            got = self.pretrain(given, job["afina"][system], Path(given["output_dir"]))
        elif "epochs" in job:
            got = self.finetune(given, job["afina"][system], Path(given["output_dir"]))
        else:
            got = self.ask("predict", given, place / "afina")
        got["rows_per_s"] = got["rows"] / got["train_seconds"]
        if told := got.pop("told", None):
            got["score"] = _macro_f1([row["label"] for row in rows(Path(given["test"]))], told)
        shutil.rmtree(place)  # models and checkpoints: gigabytes in all
        return got

    def ask(self, system: str, given: dict[str, Any], out: Path) -> dict[str, Any]:
        """Let a peer do a job in a process of its own."""
        asked = out.with_suffix(".asked")
        asked.write_text(json.dumps(given), encoding="utf-8")
        answer = out.with_suffix(".json")
        command = [sys.executable, str(PEERS), system, str(asked), str(answer)]
        cost = run(command, out.with_suffix(".log"), self.threads)
        return json.loads(answer.read_text(encoding="utf-8")) | cost

    def finetune(self, given: dict[str, Any], flags: list[str], place: Path) -> dict[str, Any]:
        """Let afina fine-tune at its defaults: by its command, from the file of rows to the report."""
        place.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "afina", "finetune", given["train"], "--task", "classification",
            "--validation", given["validation"], "--test", given["test"], "--model", given["model"],
            "--num-train-epochs", str(given["epochs"]), "--learning-rate", str(given["learning_rate"]),
            "--early-stopping-patience", "1000", "--seed", str(given["seed"]), *flags,
            "--output-dir", str(place), "--overwrite", "--offline", "--quiet", "--lang", "en",
        ]  # fmt: skip
        cost = run(command, place.with_suffix(".log"), self.threads)
        got = json.loads((place / "scores.json").read_text(encoding="utf-8"))
        asked = len(rows(Path(given["train"])))
        if got["details"]["data"]["rows"]["train"] != asked:
            raise SystemExit(
                f"{place}: afina trained on other rows than the peers: {got['details']['data']['notes']}"
            )
        return {
            "train_seconds": got["seconds"]["train"],
            "rows": round(asked * given["epochs"]),
            "told": [row["prediction"] for row in rows(place / "predictions.csv")],
            "trained_weights": got["trained_weights"],
            "seconds": got["seconds"],
        } | cost

    def pretrain(self, given: dict[str, Any], flags: list[str], place: Path) -> dict[str, Any]:
        """Let afina pre-train on hidden words alone, from noise, in rows of 128, as the peer does."""
        command = [
            sys.executable, "-m", "afina", "pretrain", given["train"], "--validation", given["validation"],
            "--tokenizer", given["model"], "--initialisation", "random", "--no-nsp", "--short-share", "1",
            "--tokens-per-step", str(given["step"]), "--max-tokens", str(given["tokens"]),
            "--learning-rate", str(given["learning_rate"]), "--seed", str(given["seed"]), *flags,
            "--output-dir", str(place), "--overwrite", "--offline", "--quiet", "--lang", "en",
        ]  # fmt: skip
        cost = run(command, place.with_suffix(".log"), self.threads)
        got = json.loads((place / "scores.json").read_text(encoding="utf-8"))
        seconds = got["tokens_seen"] / got["tokens_per_s"]
        return {
            "train_seconds": seconds,
            "rows": got["tokens_seen"] / 128,
            "tokens": got["tokens_seen"],
            "loss": got["losses"]["validation"]["mlm"],
        } | cost


def _macro_f1(gold: list[str], told: list[str]) -> float:
    """Return macro-F1 over the labels of the gold, as afina counts it."""
    found = []
    for label in set(gold):
        right = sum(a == b == label for a, b in zip(gold, told, strict=True))
        found.append(2 * right / (gold.count(label) + told.count(label)))
    return sum(found) / len(found)


def useful_flop(name: str, job: dict[str, Any], part: dict[str, float], factor: float) -> float:
    """Return the FLOP of a pass over rows: 2 a weight in the blocks' matrices and token, and attention's products.

    `factor` is 1 for an answer and 3 where every weight trains. Padding, embeddings and dropout are not useful;
    in pre-training the vocabulary is, where a token was hidden.
    """
    layers, width = SHAPES[job.get("model", "mini")]
    blocks = 24 * layers * width**2 * part["tokens"] + 4 * layers * width * part["squares"]
    words = 2 * HIDDEN * part["tokens"] * (width**2 + VOCABULARY * width) if "step" in job else 0.0
    return factor * (blocks + words)


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Return by job the medians of every system, and the ratios that have a goal."""
    told = {}
    for name, about in found.items():
        job, systems = about["job"], {}
        peaks = {one["seed"]: one["flop_per_s"] for one in about["runs"] if one["system"] == "peak"}
        for system in dict.fromkeys(one["system"] for one in about["runs"] if one["system"] != "peak"):
            runs = [one for one in about["runs"] if one["system"] == system]
            systems[system] = _medians(name, job, about["size"], runs, peaks)
        told[name] = {
            "matrix_peak_gflop_per_s": round(statistics.median(peaks.values()) / 1e9, 1),
            "systems": systems,
            "ratios": list(_ratios(name, about["runs"], systems)),
        }
    return told


def _medians(
    name: str, job: dict[str, Any], size: Any, runs: list[dict[str, Any]], peaks: dict[int, float]
) -> dict[str, Any]:
    keys = ("rows_per_s", "train_seconds", "wall", "cpu", "memory_mb")
    medians = {key: round(statistics.median(one[key] for one in runs), 3) for key in keys}
    scores = {key: [round(one[key], 4) for one in runs] for key in ("score", "loss") if key in runs[0]}
    if size is None:
        part = {"rows": 1, "tokens": 128, "squares": 128**2}
    else:
        part = size["train" if "epochs" in job else "test"]
    medians["tokens_per_s"] = round(medians["rows_per_s"] * part["tokens"] / part["rows"], 1)
    whole = "epochs" not in job or name.startswith("full") or runs[0]["system"] == "afina-full"
    if whole:  # where much is frozen, the least work that would do depends on the system
        factor = 1 if name.startswith("predict") else 3
        row = useful_flop(name, job, part, factor) / part["rows"]
        shares = [one["rows_per_s"] * row / peaks[one["seed"]] for one in runs]
        medians["share_of_peak"] = round(statistics.median(shares), 4)
    return medians | scores | {"trained_weights": runs[0].get("trained_weights")}


def _ratios(name: str, runs: list[dict[str, Any]], systems: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the ratios of a job: those of each repetition, their median, least and most."""
    for _name, mine, peer, goal in (each for each in GOALS if each[0] == name):
        rivals = [
            system
            for system in systems
            if system == peer or (peer == "tuned" and system.startswith("tuned-"))
        ]
        if not rivals or mine not in systems:
            continue
        best = max(rivals, key=lambda system: systems[system]["rows_per_s"])  # the best batch
        pairs = [
            (one, other)
            for one in runs
            for other in runs
            if (one["system"], other["system"]) == (mine, best) and one["seed"] == other["seed"]
        ]
        yield {
            "a": mine,
            "b": best,
            "peer": peer,
            "goal": goal,
            "rate": _spread([a["rows_per_s"] / b["rows_per_s"] for a, b in pairs]),
            "whole_job": _spread([b["wall"] / a["wall"] for a, b in pairs]),
            "processor": _spread([b["cpu"] / a["cpu"] for a, b in pairs]),
            "memory": _spread([a["memory_mb"] / b["memory_mb"] for a, b in pairs]),
            "points": round(100 * statistics.mean(a["score"] - b["score"] for a, b in pairs), 2)
            if "score" in pairs[0][0] and not peer.startswith("afina")  # another method is another job
            else None,
            "loss": round(statistics.mean(a["loss"] - b["loss"] for a, b in pairs), 4)
            if "loss" in pairs[0][0]
            else None,
        }


def _spread(values: list[float]) -> dict[str, float]:
    found = {"value": statistics.median(values), "low": min(values), "high": max(values)}
    return {key: round(value, 3) for key, value in found.items()}


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", default=",".join(JOBS), help="with commas and no blanks")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, each with a seed of its own")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every process")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK} rows, one repetition: does all of it run?"
    )
    given = parser.parse_args()
    names = given.jobs.split(",")
    if unknown := [name for name in names if name not in JOBS]:
        raise SystemExit(f"There is no job {unknown[0]}. There are: {', '.join(JOBS)}.")
    repeat = 1 if given.quick else given.repeat
    campaign = Campaign(names, repeat=repeat, quick=given.quick, threads=given.threads)
    found = campaign.measure()
    made = record.about(" ".join(["python benchmarks/speed.py", *sys.argv[1:]])) | {
        "peers": {
            name: version(name)
            for name in ("accelerate", "datasets", "peft", "simpletransformers")
            if find_spec(name)
        },
        "repeat": repeat,
        "threads": given.threads,
        "minutes": round(sum(one["wall"] for about in found.values() for one in about["runs"]) / 60, 1),
        "absent": campaign.absent,
        "summary": summary(found),
        "jobs": found,
    }
    if given.quick or len(names) < len(JOBS):
        file = campaign.place / "speed.json"
        file.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        file = record.save("speed", made)
    print(file)


if __name__ == "__main__":
    main()
