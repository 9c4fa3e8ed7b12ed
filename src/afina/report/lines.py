"""The lines of a comparison: what its tests call them, what a person reads, and what the tests say of one."""

from collections.abc import Mapping, Sequence
from typing import Any

from afina.core import About
from afina.messages import N_
from afina.report.terms import short

UNLIKE = N_(
    "The models part text into unlike tokens, so their losses a token cannot be compared: there is no test, order or "
    "recommendation between them, only among the methods of models with the same tokens."
)
UNDECIDED = "no difference shown"
TURNED = {"better": "worse", "worse": "better", UNDECIDED: UNDECIDED}  # as the other line of a test sees it


def of_several(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a line must say which model it is of; those without a result count, for they are named too."""
    return len({line["model"] for line in lines if line["model"]}) > 1


def key(line: Mapping[str, Any], *, several: bool) -> str:
    """Return what tests call a line."""
    return f"{line['method']}@{line['model']}" if several and line["model"] else str(line["method"])


def staged(line: Mapping[str, Any]) -> bool:
    """Whether the model of a line is what the stages in a file leave."""
    return str(line["model"]).endswith(".toml")


def called(line: Mapping[str, Any], about: About, *, several: bool) -> str:
    """Return what a line is called before a person."""
    return short(about, line["method"]) + (f" ({line['model']})" if several and line["model"] else "")


def decisions(name: str, tests: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the tests say of the line `name` beside each other one."""
    found = {test["b"]: test["decision"] for test in tests if test["a"] == name}
    return found | {test["a"]: TURNED[test["decision"]] for test in tests if test["b"] == name}


def groups(lines: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return the lines with a score, those together that can be compared: losses of unlike tokens cannot."""
    found: dict[str | None, list[Any]] = {}
    for line in lines:
        if line["scores"]:
            found.setdefault(line.get("tokens"), []).append(line)
    return list(found.values())


def best_first(lines: Sequence[Mapping[str, Any]], direction: int) -> list[Any]:
    """Return the lines with a score in order of the main one, one group after the other."""

    def good(line: Mapping[str, Any]) -> float:
        return float(direction * next(iter(line["scores"].values()))["value"])

    return [line for group in groups(lines) for line in sorted(group, key=good, reverse=True)]
