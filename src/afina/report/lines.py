"""The lines of a comparison: what its tests call them, what a person reads, and what the tests say of one."""

from collections.abc import Mapping, Sequence
from typing import Any

from afina.core import About
from afina.report.words import short

UNDECIDED = "no difference shown"
TURNED = {"better": "worse", "worse": "better", UNDECIDED: UNDECIDED}  # as the other line of a test sees it


def of_several(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a line must say which model it is of; those without a result count, for they are named too."""
    return len({line["model"] for line in lines if line["model"]}) > 1


def key(line: Mapping[str, Any], *, several: bool) -> str:
    """Return what tests call a line."""
    return f"{line['method']}@{line['model']}" if several and line["model"] else str(line["method"])


def called(line: Mapping[str, Any], about: About, *, several: bool) -> str:
    """Return what a line is called before a person."""
    return short(about, line["method"]) + (f" ({line['model']})" if several and line["model"] else "")


def decisions(name: str, tests: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the tests say of the line `name` beside each other one."""
    found = {test["b"]: test["decision"] for test in tests if test["a"] == name}
    return found | {test["a"]: TURNED[test["decision"]] for test in tests if test["b"] == name}
