"""Files and folders that are written whole or not at all: a full disk or a kill leaves the old ones."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from afina.errors import InputError
from afina.messages import _


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into, and put it in `folder`'s place when all of it has been written.

    A full disk or a kill leaves the old folder whole. Raises InputError where writing fails.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        with _system_errors():
            yield new
        readable = 0o666 & ~_umask()
        for file in new.rglob("*"):
            if file.is_file():
                file.chmod(readable)  # safetensors leaves its files to their owner alone
            _flush(file)
        if folder.exists():  # else the old one is all there is until the new one is in place
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise cannot_write(folder, error) from None


def write_text(file: Path, text: str) -> None:
    """Write a file so that it is either the old one or the new one, never half; InputError where that fails."""
    new = file.with_name(file.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        _flush(new)
        new.replace(file)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise cannot_write(file, error) from None


def cannot_write(place: Path, error: OSError) -> InputError:
    """Say that `place` could not be written and why."""
    return InputError(
        _(
            "Cannot write {place}: {reason}. Free some space or choose another folder with --output-dir."
        ).format(place=place, reason=error.strerror or error)
    )


@contextmanager
def _system_errors() -> Iterator[None]:
    """Raise what libraries in Rust say of a full disk as the OSError that it is."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(None, str(error)) from None
    except Exception as error:
        if type(error) is not Exception:  # all that tokenizers has for it
            raise
        raise OSError(None, str(error)) from None


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _flush(file: Path) -> None:
    if file.is_file():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
