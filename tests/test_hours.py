"""`pretrain --hours`: a plan out of what was measured, kept when the run goes on, refused where it is too short."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import toy
from afina.errors import InputError
from afina.train.run import read_settings
from afina.verbs import _hours
from afina.verbs._hours import Costs, fitted, shared

Command = Callable[..., toy.Said]
MOST = [9_000_000, 250_000]
one_thread = pytest.fixture(scope="module", autouse=True)(toy.one_thread)
WORDS = (
    "pretrain", "text.txt", "--shape", "tiny", "--tokenizer", "tiny", "--tokens-per-step", "500", "--short-length",
    "32", "--max-length", "64", "--short-share", "0.5", "--initialisation", "random", "--quiet", "--json", "--output-dir",
    "run",
)  # fmt: skip


def asked(**settings: Any) -> Any:
    return SimpleNamespace(**{"hours": 1.0, "eval_steps": None, "save_steps": None} | settings)


@pytest.mark.parametrize("knobs", [{}, {"eval_steps": 50, "save_steps": 7}, {"eval_steps": 10**6}])
@pytest.mark.parametrize(("evaluation", "checkpoint", "left"), [(0.5, 0.1, 3500), (20, 2, 7100), (0, 0, 40)])
def test_the_plan_fills_the_time_and_no_more(
    knobs: dict[str, Any], evaluation: float, checkpoint: float, left: float
) -> None:
    costs, chosen = Costs((0.7, 3.1), evaluation, checkpoint, left), asked(**knobs)
    steps = shared(MOST, fitted(costs, MOST, chosen))
    assert costs.of(steps, chosen) <= left + 4  # one step of each is rounded up
    more = [round(1.1 * n) + 1 for n in steps]
    assert costs.of(more, chosen) > 0.95 * left
    if sum(steps) > 200:
        assert steps[0] / steps[1] == pytest.approx(MOST[0] / MOST[1], rel=0.2), (
            "the curriculum keeps its shares"
        )


def test_what_a_run_costs_is_counted_as_it_is_run() -> None:
    costs = Costs((1.0, 2.0), 10.0, 100.0, 0.0)
    # 40 and 10 steps, evaluated every 2nd of them and at the end, saved at every one.
    assert costs.of([40, 10], asked()) == 60 + 26 * 10 + 50 * 100
    assert costs.of([40, 10], asked(eval_steps=20, save_steps=30)) == 60 + 4 * 10 + 2 * 100


def test_a_time_too_short_for_one_checkpoint_is_said_with_what_would_do() -> None:
    with pytest.raises(
        InputError, match=r"--hours 0.01 is too short.* 6 seconds .*about 22\.7.*at least 0\.0176"
    ):
        fitted(Costs((0.7, 3.1), 10.0, 2.0, 6.0), MOST, asked(hours=0.01))


@pytest.fixture
def afina_(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    lines = [f"El perro número {i} duerme en la casa. Mañana viene el gato {i}." for i in range(60)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines), encoding="utf-8")
    toy.model(tmp_path / "tiny")
    return toy.command(capfd)


def test_a_run_in_hours_ends_on_time_and_goes_on_as_it_was_planned(
    afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = 8.0
    began = time.perf_counter()
    first = afina_(*WORDS, "--hours", str(wanted / 3600))
    assert first.code == 0, first.err
    assert time.perf_counter() - began < 2 * wanted, "no tenth here, where others want the machine too"
    planned = read_settings(tmp_path / "run" / "run.toml")
    steps = planned["recorded"]["planned_steps"]
    assert len(steps) == 2 and min(steps) > 0 and "max_tokens" not in planned
    lines = [json.loads(line) for line in (tmp_path / "run" / "steps.jsonl").read_text("utf-8").splitlines()]
    assert sum("loss" in line for line in lines) == sum(steps)
    assert lines[-1]["step"] == sum(steps)
    rates = [line["learning_rate"] for line in lines if "loss" in line]
    assert rates[-1] == min(rates[len(rates) // 5 :]), "the schedule is at its end when the time is"
    assert not (tmp_path / "run" / "trial").exists()

    def again(*_given: Any) -> None:
        raise AssertionError("what is planned is not measured again")

    monkeypatch.setattr(_hours, "measured", again)
    before = toy.weights(tmp_path / "run")
    resumed = afina_("pretrain", "--resume", "--output-dir", "run", "--quiet", "--json")
    assert resumed.code == 0 and resumed.json["losses"] == first.json["losses"]
    assert toy.weights(tmp_path / "run") == before
    assert read_settings(tmp_path / "run" / "run.toml")["recorded"]["planned_steps"] == steps


def test_a_time_too_short_leaves_nothing(afina_: Command, tmp_path: Path) -> None:
    before = toy.content(tmp_path)
    said = afina_(*WORDS, "--hours", "0.00001")
    assert said.code == 2 and "--hours 1e-05 is too short" in said.err
    assert toy.content(tmp_path) == before


def test_hours_or_tokens_but_not_both(afina_: Command) -> None:
    said = afina_(*WORDS, "--hours", "1", "--max-tokens", "5000")
    assert said.code == 2 and "give one of them" in said.err
    said = afina_(*WORDS[:-3], "--hours", "1.5", "--dry-run")
    assert said.code == 2 or said.code == 0
