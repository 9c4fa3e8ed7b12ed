"""Every error that afina raises on purpose.

AfinaError            anything below; exit code 1
├── InputError        the data, a setting or a folder is wrong: what, where, what to do; exit code 2
│   ├── RowError      a row cannot be encoded
│   └── Unfinished    something outside has failed in the middle of long work, which can be gone on with
└── Interrupted       stopped by the person (Ctrl-C) or the system (SIGTERM); the run can be resumed; exit code 130
"""

from typing import Any


class AfinaError(Exception):
    """Base of all errors that afina raises on purpose."""

    exit_code = 1


class InputError(AfinaError):
    """The person's data or a setting is wrong; the message says what, where and what to do about it."""

    exit_code = 2


class RowError(InputError):
    """A row that was read well cannot be encoded, for the `reason`; who knows the files can say where `row` stands."""

    def __init__(self, message: str, row: dict[str, Any], reason: str) -> None:
        super().__init__(message)
        self.row = row
        self.reason = reason


class Unfinished(InputError):
    """A disk is full or a network gone in the middle of work that is kept: it goes on when that is mended."""


class Interrupted(AfinaError):
    """The work was stopped from outside after its state had been saved."""

    exit_code = 130
