"""`--overwrite`: the old run stays until the new one has taken a step, whatever ends it before."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import toy
from afina.errors import InputError, Interrupted
from afina.train import aside, fit, folder
from afina.train.aside import until_stepped
from afina.verbs import _phases
from test_pretrain import corpus

Command = Callable[..., toy.Said]
SHORT = ("--tokens-per-step", "500", "--short-length", "32", "--quiet")
one_thread = pytest.fixture(scope="module")(toy.one_thread)


@pytest.fixture
def afina_(
    tmp_path: Path, one_thread: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The command, in a folder with texts, rows, a model and a run."""
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "text.txt")
    corpus(tmp_path / "three.txt", 3)
    toy.table(tmp_path / "toy.csv")
    toy.model(tmp_path / "tiny")
    (tmp_path / "chain.toml").write_text(
        'data = "toy.csv"\nmodel = "tiny"\n[[stage]]\nverb = "adapt"\ntexts = ["three.txt"]\n'
        "max_tokens = 1000\ntokens_per_step = 500\nshort_length = 32\n",
        encoding="utf-8",
    )
    old_run(tmp_path / "run")
    return toy.command(capfd)


def old_run(run: Path) -> Path:
    """Make a folder with what runs of all verbs leave, and with a file of the person's."""
    for name in aside.FOLDERS:
        (run / name).mkdir(parents=True)
        (run / name / "of the old run").write_text(name)
    for name in (*aside.FILES, "last.old", "mine.txt"):
        (run / name).write_text(name)
    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pretrain three.txt --tokenizer tiny --max-tokens 2000", "too few to hold some out"),
        ("pretrain text.txt --tokenizer tiny --max-tokens 1000 --tokens-per-step 9000", "too few for one step"),
        pytest.param(
            "pretrain text.txt --tokenizer tiny --hours 0.00001", "is too short", marks=pytest.mark.slow
        ),
        ("adapt three.txt --model tiny --max-tokens 2000", "too few to hold some out"),
        ("adapt text.txt --model tiny --tokens-per-step 900000", "too little to adapt"),
        ("finetune chain.toml", "Stage 1 (adapt): Different documents in the text"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_the_old_run(
    words: str, message: str, afina_: Command, tmp_path: Path
) -> None:
    verb, source, *rest = words.split()
    short = () if verb == "finetune" else SHORT
    how = (*short, *rest, "--quiet")
    before = toy.content(tmp_path)
    said = afina_(verb, source, *how, "--output-dir", "run", "--overwrite")
    assert (said.code, said.err.count("\n")) == (2, 1), said.err
    assert message in said.err
    assert toy.content(tmp_path) == before
    # Where there was none, there is none: with other settings it can begin.
    (tmp_path / "empty").mkdir()
    for place in ("new", "empty"):
        assert afina_(verb, source, *how, "--output-dir", place).code == 2
        assert not folder.is_run(tmp_path / place)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("folds", [(), ("--folds", "2")])
def test_so_does_a_first_step_that_fails(
    folds: tuple[str, ...], afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(*_given: Any, **_how: Any) -> Iterator[Any]:
        raise InputError("There is too little memory.")

    words = ("finetune", "toy.csv", "--model", "tiny", "--max-steps", "2", "--quiet", "--output-dir", "run")
    before = toy.content(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "steps", steps)
        said = afina_(*words, *folds, "--overwrite")
        assert said.code == 2 and "too little memory" in said.err
        assert toy.content(tmp_path) == before
        (tmp_path / "empty").mkdir()
        assert afina_(*words[:-1], "empty", *folds).code == 2
        assert not folder.is_run(tmp_path / "empty")
    assert afina_(*words, *folds, "--overwrite").code == 0
    assert (tmp_path / "run" / "mine.txt").exists()
    left = [str(place) for place in (tmp_path / "run").rglob("*")]
    assert not any("of the old run" in place or aside.ASIDE in place for place in left)
    assert not (tmp_path / "run" / "last.old").exists()


def test_ctrl_c_before_the_first_step_leaves_the_old_run(
    afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_given: Any, **_how: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(_phases, "phases", pressed)
    words = ("adapt", "text.txt", "--model", "tiny", "--max-tokens", "2000", *SHORT, "--output-dir")
    before = toy.content(tmp_path)
    said = afina_(*words, "run", "--overwrite")
    assert said.code == 130 and "run holds what it held before" in said.err
    assert toy.content(tmp_path) == before
    # Where there was none, what has been read is there to go on with.
    assert afina_(*words, "new").code == 130
    assert (tmp_path / "new" / "corpus").is_dir() and folder.is_run(tmp_path / "new")


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("at", range(42))
def test_a_kill_at_any_moment_leaves_one_whole_run(
    at: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one until the new one has taken a step, from then on the new one."""
    run = old_run(tmp_path / "run")
    before, done = toy.content(run), 0
    rename, rmtree = Path.rename, shutil.rmtree

    class Killed(BaseException):
        pass

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def acts(*given: Any, **how: Any) -> Any:
            nonlocal done
            done += 1
            if done > at:
                raise Killed
            return act(*given, **how)

        return acts

    def written() -> None:
        (run / "corpus").mkdir()
        (run / "corpus" / "new").write_text("new")
        (run / "run.toml").write_text("new")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", counted(rename))
        patch.setattr(shutil, "rmtree", counted(rmtree))
        try:
            folder.claim(run, resume=False, overwrite=True)
            written()
            if refused:
                aside.put_back(run)
            else:
                aside.stepped()
        except Killed:
            pass
    aside._begun.clear()  # as in another process
    taken = not aside.holds(run) and (run / "run.toml").read_text() == "new"
    folder.check(run, resume=True, overwrite=False)
    folder.claim(run, resume=False, overwrite=True)
    aside.put_back(run)
    aside._begun.clear()
    if taken:
        assert sorted(toy.content(run)) == ["corpus", "corpus/new", "mine.txt", "run.toml"]
        assert (run / "run.toml").read_text() == "new"
    else:
        assert toy.content(run) == before
    folder.claim(run, resume=False, overwrite=True)
    aside.stepped()
    assert sorted(each.name for each in run.iterdir()) == ["mine.txt"]


def test_a_killed_run_can_be_gone_on_with_and_what_it_replaces_waits(tmp_path: Path) -> None:
    run = old_run(tmp_path / "run")
    folder.claim(run, resume=False, overwrite=True)
    (run / "run.toml").write_text("new")
    aside._begun.clear()  # as in another process
    with pytest.raises(InputError, match="holds a run already"):
        folder.check(run, resume=False, overwrite=False)
    folder.check(run, resume=True, overwrite=False)
    folder.claim(run, resume=True, overwrite=False)
    assert (run / "run.toml").read_text() == "new" and aside.holds(run)
    aside.stepped()
    assert sorted(each.name for each in run.iterdir()) == ["mine.txt", "run.toml"]
    assert (run / "run.toml").read_text() == "new"


def test_a_folder_of_ones_own_is_no_old_run(tmp_path: Path) -> None:
    for name in ("corpus", "replaced", "replaced.tmp", "replaced.old", "spent"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text(name)
    before = toy.content(tmp_path)
    folder.check(tmp_path, resume=False, overwrite=False)
    assert toy.content(tmp_path) == before


def test_what_can_be_gone_on_with_is_put_back_too_and_says_so(tmp_path: Path) -> None:
    """Also of a verb within another: the outer one's run is the one that there was."""
    run = old_run(tmp_path / "run")
    before = toy.content(run)

    @until_stepped()
    def verb(place: Path) -> None:
        folder.claim(place, resume=False, overwrite=place == run)
        if place == run:
            verb(run / "stages" / "1-adapt")
        raise Interrupted("Go on with --resume.")

    with pytest.raises(Interrupted, match="holds what it held before"):
        verb(run)
    assert toy.content(run) == before and not aside._begun


def test_a_folder_that_is_no_run_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "runs" / "other").mkdir(parents=True)
    (tmp_path / "runs" / "other" / "run.toml").write_text("")
    before = toy.content(tmp_path)

    @until_stepped()
    def verb() -> None:
        folder.claim(tmp_path, resume=False, overwrite=False)
        raise InputError("refused")

    with pytest.raises(InputError):
        verb()
    assert toy.content(tmp_path) == before
    assert os.listdir(tmp_path) == ["runs"]
