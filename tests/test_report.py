"""The report and the model card of a fine-tuning run, on invented run folders."""

import csv
import json
import math
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from afina import messages
from afina.errors import InputError
from afina.report import card, charts, console, finetune, numbers, words
from afina.report.record import Record
from afina.report.record import task as record_of
from afina.train.fitting import judge

VOID = {"meta", "br", "hr", "img", "input", "link"}
WORDS = {
    "es": "el pedido no llegó y nadie contesta al teléfono desde ayer gracias por la rapidez",
    "en": "the order never came and nobody answers the phone since monday thanks for the help",
}


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    before = messages.language()
    messages.use_language("en")
    yield
    messages.use_language(before)


def invent(
    run: Path,
    labels: list[str],
    *,
    texts: str = "en",
    test: bool = True,
    decision: str = "better",
    n: int = 300,
    verdict: str = "fits",
) -> Path:
    """Write the folder of a run that never was: figures agree with each other, texts are word salad."""
    draw = random.Random(len(labels))
    part = "test" if test else "validation"
    answers = []
    for i in range(n):
        label = labels[min(int(draw.expovariate(1.2 / len(labels))), len(labels) - 1)]
        right = draw.random() < 0.8
        said = label if right else draw.choice(labels)
        p = min(0.999, max(1 / len(labels), draw.gauss(0.9 if right else 0.65, 0.12)))
        text = " ".join(
            draw.choices(WORDS[texts].split(), k=draw.randint(3, 90 if i % 9 == 0 else 25))
        ).capitalize()
        answers.append((text, label, said, p, p if said == label else (1 - p) / 2))
    counts = [[sum(a[1] == t and a[2] == q for a in answers) for q in labels] for t in labels]

    def figure(value: float) -> dict[str, Any]:
        width = 0.045 if value else 0.0
        return {"value": value, "low": max(value - width, -1), "high": min(value + width, 1), "n": n}

    def figures(f1: float) -> dict[str, Any]:
        accuracy = f1 + (1 - f1) * 0.2
        found = {"macro_f1": f1, "accuracy": accuracy, "weighted_f1": accuracy - 0.01}
        found |= {"macro_precision": f1 + 0.01, "macro_recall": f1 - 0.01, "mcc": max(0.0, 1.6 * f1 - 0.6)}
        if len(labels) == 2:
            found |= {"positive_precision": f1, "positive_recall": f1 + 0.02, "positive_f1": f1 + 0.01}
        return {name: figure(value) for name, value in found.items()}

    per_class = {}
    for i, label in enumerate(labels):
        said, true = sum(row[i] for row in counts), sum(counts[i])
        precision, recall = counts[i][i] / max(said, 1), counts[i][i] / max(true, 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        per_class[label] = {"precision": precision, "recall": recall, "f1": f1, "n": true}
    low = {"better": 0.021, "no difference shown": -0.012, "worse": -0.09}[decision]
    model = {"better": 0.82, "no difference shown": 0.77, "worse": 0.71}[decision]
    split = {"train": 8 * n, "validation": n, "test": n if test else 0}
    of_label = {label: max(1, per_class[label]["n"]) for label in labels}
    scores = {
        "run": "runs/mensajes",
        "model": "afina/bert-mini-es-en",
        "task": "classification",
        "method": "full",
        "scores": {"validation": figures(model + 0.01), "test": figures(model) if test else None},
        "baselines": {
            "majority": {part: figures(0.31)},
            "tfidf": {part: figures(0.76)},
        },
        "details": {
            part: {
                "per_class": per_class,
                "confusion": {"labels": labels, "counts": counts},
                "positive": labels[1] if len(labels) == 2 else None,
            },
            "differences": {
                part: [
                    _difference("tfidf", low + 0.041, low, decision, 0.21 if "no" in decision else 0.004),
                    _difference("majority", 0.47, 0.42, "better", 0.0001),
                ]
            },
            "data": {
                "rows": split,
                "labels": {
                    "train": {label: 8 * c for label, c in of_label.items()},
                    "validation": of_label,
                    "test": of_label if test else {},
                },
                "columns": {"text": "texto", "label": "etiqueta"},
                "notes": ["12 exact duplicates were dropped.", "Read as cp1252."],
                "length": {
                    "median": 17, "p95": 61, "max": 301,
                    "max_length": 128, "rows_cut": 14, "tokens_cut": 1210,
                },
            },
            "fitting": {
                "steps": 600,
                "best_step": 360,
                "best_epoch": 6.0,
                "train": 0.91,
                "validation": 0.74,
                "stopped": "early",
                "verdict": verdict,
                "words": [
                    "Validation macro-F1 was best at step 360 (epoch 6) and fell by 0.02 afterwards.",
                    "Try fewer epochs, more dropout or more rows.",
                ],
            },
        },
        "rows_per_s": 212.4,
        "tokens_per_s": 5510.0,
        "share_of_peak": 0.52,
        "seconds": {"prepare": 3.2, "train": 141.0, "evaluate": 12.5, "total": 160.3},
        "trained_weights": 11_171_074,
        "peak_memory_mb": 1432.0,
    }  # fmt: skip
    settings = {
        "data": "mensajes.csv",
        "task": "classification",
        "method": "full",
        "model": "afina/bert-mini-es-en",
        "seed": 0,
        "learning_rate": 5e-5,
        "num_train_epochs": 10.0,
        "max_length": 128,
        "recorded": {"threads": 2, "versions": {"torch": "2.13.0"}, "data_fingerprint": "3f2a91"},
    }
    run.mkdir(parents=True, exist_ok=True)
    (run / "best").mkdir(exist_ok=True)
    (run / "run.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    (run / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    with (run / "steps.jsonl").open("w", encoding="utf-8") as stream:
        for step in range(1, 601):
            loss = 0.12 + 0.9 * math.log(len(labels)) * math.exp(-step / 130) + draw.gauss(0, 0.06)
            line = {
                "step": step,
                "epoch": step / 60,
                "loss": abs(loss),
                "parts": {},
                "tokens": 600,
                "rows": 32,
            }
            stream.write(json.dumps(line) + "\n")
            if step % 60 == 0:
                seen = 0.07 + 0.9 * math.log(len(labels)) * math.exp(-step / 120)
                gap = 0.12 + 0.00000045 * step**2
                line = {
                    "step": step,
                    "epoch": step / 60,
                    "validation": {"loss": seen + gap, "macro_f1": model - 0.5 * math.exp(-step / 90)},
                    "train": {"loss": seen, "macro_f1": 0.98 - 0.6 * math.exp(-step / 110)},
                    "best": step <= 360,
                }
                stream.write(json.dumps(line) + "\n")
    with (run / "predictions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "prediction", "probability", "probability_of_label"])
        writer.writerows(answers)
    return run


def _difference(rival: str, value: float, low: float, decision: str, p: float) -> dict[str, Any]:
    ends = {"difference": value, "low": low, "high": 2 * value - low, "p": p}
    return {"a": "model", "b": rival, "metric": "macro_f1", "decision": decision} | ends


def change(folder: Path, **values: Any) -> None:
    """Replace top-level values of `scores.json`."""
    file = folder / "scores.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), "utf-8")


class Page(HTMLParser):
    """A page read as a browser would: its elements, its visible text, and whether every element is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def written(run: Path) -> Page:
    return Page(finetune.write(run).read_text(encoding="utf-8"))


MANY = [f"intent_{i:02d}_about_some_thing" for i in range(77)]


@pytest.mark.parametrize("labels", [["negative", "positive"], ["a", "b", "c", "d"], MANY], ids=len)
@pytest.mark.parametrize("test", [True, False])
def test_page_stands_alone_and_is_well_formed(tmp_path: Path, labels: list[str], test: bool) -> None:
    run = invent(tmp_path / "mensajes", labels, test=test)
    page = written(run)
    source = (run / "report.html").read_text("utf-8")
    assert not re.search(r"https?://|//\w+\.\w+/|url\(|@import", source)
    assert {tag for tag, _attributes in page.elements}.isdisjoint(
        {"script", "link", "img", "iframe", "object"}
    )
    targets = {attributes.get("id") for _tag, attributes in page.elements}
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert len(links) >= 6 and all(link and link[0] == "#" and link[1:] in targets for link in links)
    ids = [attributes["id"] for _tag, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert ("There is no test part" in page.text) is not test
    assert not list(run.glob("*.tmp"))


@pytest.mark.parametrize(
    ("decision", "tone", "first"),
    [
        ("better", "good", "The model is better than every baseline"),
        ("no difference shown", "even", "No difference shown between the model and TF-IDF"),
        ("worse", "bad", "A baseline wins: TF-IDF"),
    ],
)
def test_verdict_comes_first(tmp_path: Path, decision: str, tone: str, first: str) -> None:
    run = invent(tmp_path / "r", ["a", "b", "c"], decision=decision)
    assert words.verdict(Record.of(run)).tone == tone
    text = written(run).text
    assert first in text and text.index(first) < text.index("Scores on the test rows")


def test_an_interval_without_zero_that_shows_nothing_is_explained() -> None:
    gap = {
        "a": "model",
        "b": "tfidf",
        "metric": "macro_f1",
        "difference": -0.14,
        "low": -0.28,
        "high": -0.003,
    }
    gap |= {"p": 0.125, "decision": "no difference shown"}
    assert "leaves zero out" in words.undecided(gap) and "0.125" in words.undecided(gap)
    assert words.undecided(gap | {"high": 0.01}) == words.undecided(gap | {"low": None, "high": None}) == ""
    assert words.undecided(gap | {"decision": "worse"}) == ""
    assert "leaves zero out" in console.difference(record_of("classification", {}).about(), gap)


def test_verdict_without_a_paired_test_looks_at_the_figures(tmp_path: Path) -> None:
    run = invent(tmp_path / "r", ["a", "b"], decision="worse")
    details = json.loads((run / "scores.json").read_text("utf-8"))["details"]
    change(run, details=details | {"differences": None})
    assert words.verdict(Record.of(run)).tone == "bad"
    change(run, baselines={})
    assert words.verdict(Record.of(run)).title == "No baseline was run."


def test_difference_told_from_the_other_side_is_turned(tmp_path: Path) -> None:
    run = invent(tmp_path / "r", ["a", "b"])
    details = json.loads((run / "scores.json").read_text("utf-8"))["details"]
    turned = {"a": "tfidf", "b": "model", "metric": "macro_f1", "difference": 0.05, "low": 0.02, "high": 0.08}
    change(
        run,
        details=details | {"differences": {"test": [turned | {"p": 0.01, "decision": "better"}]}},
    )
    found = words.verdict(Record.of(run))
    assert found.tone == "bad" and "−0.050" in found.text and "−0.080 to −0.020" in found.text


def test_texts_and_labels_can_not_become_markup(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    run = invent(tmp_path / "r", [evil, "b"])
    with (run / "predictions.csv").open("a", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerow([f"{evil} seguro", "b", evil, 1.0, 0.0])
    change(run, model=evil, run=f"runs/{evil}")
    page = written(run)
    assert {tag for tag, _attributes in page.elements}.isdisjoint({"script", "img"})
    assert f"{evil} seguro" in page.text
    for _tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
    card.write(run, run / "best")
    assert "<script" not in (run / "best" / "README.md").read_text("utf-8").replace("\\<", "")


@pytest.mark.parametrize(("language", "shown"), [("en", "0.820"), ("es", "0,820")])
def test_numbers_follow_the_language(tmp_path: Path, language: str, shown: str) -> None:
    messages.use_language(language)
    run = invent(tmp_path / "r", ["a", "b"], texts=language)
    page = written(run)
    assert dict(page.elements)["html"] == {"lang": language}
    assert shown in page.text
    card.write(run, run / "best")
    assert shown in (run / "best" / "README.md").read_text("utf-8")


def test_numbers_in_both_languages() -> None:
    assert numbers.number(-1234567.891, 2) == "−1,234,567.89"
    assert numbers.number(-0.0001, 2) == "0.00"
    assert numbers.number(0.04, 2, sign=True) == "+0.04"
    assert numbers.duration(3725) == "1 h 2 min" and numbers.duration(59.96) == "60.0 s"
    assert numbers.p_value(0.00001) == "p\u00a0<\u00a00.001" and numbers.share(None) == "–"
    messages.use_language("es")
    assert numbers.number(1234) == "1234"
    assert numbers.number(-1234567.891, 2) == "−1\u202f234\u202f567,89"


def test_the_speed_of_several_processes_is_told_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = invent(tmp_path / "r", ["a", "b"])
    said = {"tokens_seen": 10**6, "losses": {"validation": {}}, "run": "r", "share_of_peak": 0.5}
    for processes in (1, 2):
        change(run, processes=processes, tokens_per_s=5000.0)
        console.pretrain(said | {"processes": processes, "tokens_per_s": 5000.0})
        told = capsys.readouterr().out
        assert ("2 processes, 2,500 tokens/s in each." in told) == (processes == 2)
        assert ("2 processes, 2,500 tokens a second in each" in written(run).text) == (processes == 2)


def test_a_share_above_the_peak_is_no_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = invent(tmp_path / "r", ["a", "b"])
    said = {
        "tokens_seen": 10**6,
        "tokens_per_s": 5000.0,
        "losses": {"validation": {}},
        "run": "r",
        "processes": 1,
    }
    for share, known in ((0.52, True), (4.22, False)):
        change(run, share_of_peak=share)
        console.pretrain(said | {"share_of_peak": share})
        for told in (capsys.readouterr().out, written(run).text):
            assert ("the machine had less time" in told) != known
            assert "422" not in told


def test_same_folder_same_page(tmp_path: Path) -> None:
    run = invent(tmp_path / "r", MANY)
    first = finetune.write(run).read_bytes()
    assert finetune.write(run).read_bytes() == first
    card.write(run, run / "best")
    first = (run / "best" / "README.md").read_bytes()
    card.write(run, run / "best")
    assert (run / "best" / "README.md").read_bytes() == first


def test_missing_pieces_are_left_out(tmp_path: Path) -> None:
    for missing in ("run.toml", "scores.json", "steps.jsonl", "predictions.csv"):
        run = invent(tmp_path / missing, ["a", "b"])
        (run / missing).unlink()
        written(run)
        card.write(run, run / "best")
    run = invent(tmp_path / "nulls", ["a", "b"])
    results = json.loads((run / "scores.json").read_text("utf-8"))
    for key in results:
        (run / "scores.json").write_text(json.dumps(results | {key: None}), "utf-8")
        written(run)
        card.write(run, run / "best")
        if isinstance(results[key], dict):
            for inner in results[key]:
                without = results | {key: results[key] | {inner: None}}
                (run / "scores.json").write_text(json.dumps(without), "utf-8")
                written(run)
                card.write(run, run / "best")


def test_figures_without_interval(tmp_path: Path) -> None:
    run = invent(tmp_path / "r", ["a", "b"])
    text = re.sub(r'"(low|high)": [-\d.]+', r'"\1": null', (run / "scores.json").read_text("utf-8"))
    (run / "scores.json").write_text(text, "utf-8")
    assert "too few for an interval" in written(run).text


def test_folder_without_a_run_and_broken_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        finetune.write(tmp_path)
    (tmp_path / "scores.json").write_text("{", "utf-8")
    with pytest.raises(InputError, match=r"scores\.json cannot be read"):
        finetune.write(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_worst_mistakes_are_the_surest_wrong_answers(tmp_path: Path) -> None:
    run = invent(tmp_path / "r", ["a", "b"])
    rows = [("meh", "a", "b", 0.6, 0.4), ("sure", "a", "b", 0.99, 0.01), ("fine", "b", "b", 0.7, 0.7)]
    with (run / "predictions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "prediction", "probability", "probability_of_label"])
        writer.writerows([*rows, ("long " * 400, "a", "b", 0.5, 0.5)])
    text = written(run).text
    wrong, right = finetune._examples(Record.of(run))
    assert [row["text"][:4] for row in wrong] == ["sure", "meh", "long"]
    assert [row["text"] for row in right] == ["fine"]
    assert "show all" in text


def test_axis_has_round_ticks_that_hold_all_values() -> None:
    axis = charts.Axis.over([0.13, 0.87], 0, 100)
    assert axis.low <= 0.13 and axis.high >= 0.87
    assert [text for _place, text in axis.ticks()] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    flat = charts.Axis.over([2.0, 2.0], 0, 100)
    assert 0 <= flat.at(2.0) <= 100


def test_confusion_pairs_and_shares(tmp_path: Path) -> None:
    run = invent(tmp_path / "r", ["a", "b", "c"])
    details = json.loads((run / "scores.json").read_text("utf-8"))["details"]
    details["test"]["confusion"]["counts"] = [[8, 2, 0], [5, 5, 0], [0, 0, 0]]
    change(run, details=details)
    found = charts.confusion(Record.of(run))
    assert found and [(cell.true, cell.predicted, cell.count) for cell in found.pairs] == [
        ("b", "a", 5),
        ("a", "b", 2),
    ]
    assert found.rows[0][0].share == 0.8 and found.rows[2][2].share == 0


def test_card_is_what_the_hub_reads(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    run = invent(tmp_path / "mensajes", ["neg|ative", "*positive*"])
    card.write(run, run / "best")
    read = ModelCard.load(run / "best" / "README.md")
    data = read.data.to_dict()
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "text-classification"
    assert data["base_model"] == "afina/bert-mini-es-en" and data["language"] == ["es", "en"]
    assert "afina" in data["tags"] and data["license"] == "unknown"
    metrics = {result.metric_type: result.metric_value for result in read.data.eval_results or []}
    assert metrics["macro_f1"] == 0.82
    tables = [line for line in read.text.splitlines() if line.startswith("|")]
    assert (
        len({line.replace("\\|", "").count("|") for line in tables}) == 2
    )  # two tables, none torn by a label
    assert "neg\\|ative" in read.text


def test_card_names_no_folder_of_this_machine_as_base(tmp_path: Path) -> None:
    run = invent(tmp_path / "r", ["a", "b"])
    change(run, model=str(tmp_path))
    card.write(run, run / "best")
    text = (run / "best" / "README.md").read_text("utf-8")
    assert "base_model" not in text and str(tmp_path) not in text


@pytest.mark.parametrize(("language", "range_"), [("en", "0.710 to 0.890"), ("es", "0,710 a 0,890")])
def test_a_narrow_terminal_cuts_no_heading_and_no_figure(
    language: str, range_: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """80 signs are enough; beside long names of models the least important figures fall away."""
    monkeypatch.setenv("COLUMNS", "80")
    messages.use_language(language)
    score = {"value": 0.81234, "low": 0.71, "high": 0.89, "n": 100}
    loss = {"before": 3.2, "after": 5.1, "off": None}
    costs = {
        "trained_weights": 11_234_567,
        "saved_mb": 45.1,
        "peak_memory_mb": 987.0,
        "train_seconds": 1234.5,
    }
    line = {"scores": {"macro_f1": score}, "forgetting": {"es": loss, "en": loss}, "ece": 0.123} | costs
    line |= {"change": "bottleneck adapters after each sublayer", "notes": [], "error": None}
    models = {"full": "afina/bert-mini-es-en", "houlsby": "dccuchile/bert-base-spanish-wwm-cased"}
    told = {"task_settings": {}, "direction": 1, "part": "test", "run": "r", "recommendation": {"why": "."}}

    shown = []
    for several in (False, True):
        rows = [
            line | {"method": method, "model": model if several else None} for method, model in models.items()
        ]
        console.compare(told | {"task": "classification", "rows": rows})
        shown.append(capsys.readouterr().out)
    scores = dict.fromkeys(("rouge_l", "chrf", "exact_match", "loss", "perplexity"), score)
    rivals = {rival: {"test": scores} for rival in ("majority", "copy", "ngram")}
    written = {"scores": {"test": scores}, "baselines": rivals, "details": {"differences": {}}}
    console.evaluate(written | {"run": None, "task": "seq2seq"})
    shown.append(capsys.readouterr().out)
    for out in shown:
        assert "…" not in out and max(map(len, out.splitlines())) <= 80
        assert out.count(range_) in (2, 5)
    assert "987" in shown[0] and "987" not in shown[1]


@pytest.mark.parametrize(("steps", "stopped"), [(40, "end"), (60, "early")])
def test_a_training_that_made_every_step_was_not_stopped_early(steps: int, stopped: str) -> None:
    """Also where patience ran out with the very last scoring."""
    scored = [
        {"step": step, "epoch": step / 20, "best": step == 20, "train": {"f1": 0.8}, "validation": {"f1": f1}}
        for step, f1 in ((20, 0.8), (40, 0.79))
    ]
    found = judge(scored, "f1", steps)
    assert found["stopped"] == stopped
    assert any("stopped early" in sentence for sentence in found["words"]) == (stopped == "early")
