"""A run is a folder; `Run` reads it."""

import json
import os
import tomllib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from afina.errors import InputError
from afina.messages import _
from afina.settings import FILES, knobs
from afina.train.atomic import write_text
from afina.train.bundle import FILE, Bundle
from afina.train.language_model import language_model


class Run:
    """The thin reader of a run's folder: `path`, `settings`, `recorded`, `scores`, and the trained `bundle`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "run.toml").is_file():
            raise InputError(_("{path} is no folder of a run: run.toml is missing.").format(path=self.path))

    @cached_property
    def _file(self) -> dict[str, Any]:
        return read_settings(self.path / "run.toml")

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting of the run, resolved."""
        return {name: value for name, value in self._file.items() if name != "recorded"}

    @property
    def recorded(self) -> dict[str, Any]:
        """What was found: versions, fingerprints, probed choices."""
        return self._file.get("recorded", {})

    @cached_property
    def result(self) -> dict[str, Any]:
        """The run's `scores.json`; InputError where the run was not finished."""
        try:
            return json.loads((self.path / "scores.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(
                _("The run in {path} is not finished. Go on with --resume.").format(path=self.path)
            ) from None

    @property
    def scores(self) -> dict[str, Any]:
        """The figures by part: `run.scores["test"]["macro_f1"]["value"]`."""
        return self.result["scores"]

    @cached_property
    def bundle(self) -> Bundle:
        """The trained model, loaded when it is first asked for; InputError where there is none yet."""
        if self.settings.get("folds") and "fold" not in self.settings:
            raise InputError(
                _(
                    "The run in {path} measured folds and has no model of its own. Train one: "
                    "afina finetune {path}/run.toml --folds 0"
                ).format(path=self.path)
            )
        if not (self.path / "best").is_dir():
            raise InputError(
                _("The run in {path} has no trained model yet. Go on with it by --resume.").format(
                    path=self.path
                )
            )
        if (
            "objective" in self.settings and not (self.path / "best" / FILE).is_file()
        ):  # of `pretrain` and `adapt`
            found = language_model(self.path / "best")
            own = {name: self.settings[name] for name in knobs(type(found.task)) if name in self.settings}
            if not getattr(found.task, "nsp", True):
                own["nsp"] = False  # whatever was asked for, the model has no head for it
            return replace(found, task=found.task.replace(**own))
        return Bundle.load(self.path / "best")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def read_settings(file: Path) -> dict[str, Any]:
    """Return what a `run.toml` holds; InputError with line and column where it is no TOML.

    Files that are not found from here are named as they are found from where one stood when the run began.
    """
    try:
        held = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(_("There is no file {file}.").format(file=file)) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            _("{file} cannot be read as TOML: {reason}.").format(file=file, reason=error)
        ) from None
    recorded = held.get("recorded")
    folder = recorded.get("folder") if isinstance(recorded, dict) else None
    return _found(held, os.path.join(file.parent, folder)) if isinstance(folder, str) else held


def _found(held: dict[str, Any], began: str) -> dict[str, Any]:
    """Return the settings of a run, its stages among them, with the files as they are found from here."""

    def here(value: Any) -> Any:
        if isinstance(value, list):
            return [here(each) for each in value]
        there = os.path.normpath(os.path.join(began, value)) if isinstance(value, str) else ""
        return there if there and not os.path.exists(value) and os.path.exists(there) else value

    found = held | {name: here(held[name]) for name in FILES if name in held}
    if isinstance(stages := held.get("stage"), list):
        found["stage"] = [_found(stage, began) if isinstance(stage, dict) else stage for stage in stages]
    return found


def write_settings(file: Path, settings: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Write a `run.toml`: settings flat, what was found under `[recorded]`; None has no form in TOML and is left out.

    `folder` is where one stood when files were named, as seen from the run: both may move together.
    """
    flat = {name: value for name, value in settings.items() if value is not None}
    here = {"folder": os.path.relpath(Path.cwd(), file.parent)}
    write_text(file, tomli_w.dumps(flat | {"recorded": here | recorded}))
