"""The words around the code say what the code does: settings, commands, links, files, tables, translations."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

import afina
from afina.cli import VERBS, Verbs

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    file
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md", "benchmarks/*.md", "src/afina/**/*.md")
    for file in ROOT.glob(pattern)
)
TWINS = [(ROOT / "README.md", ROOT / "README.es.md")]
TWINS += [(page, ROOT / "docs" / "es" / page.name) for page in sorted((ROOT / "docs" / "en").glob("*.md"))]
FOR_USERS = [page for pair in TWINS for page in pair]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
OF_CLICK = {"--help", "--version"}


def name(file: Path) -> str:
    """Return a page's path below the repository."""
    return file.relative_to(ROOT).as_posix()


def load(file: str) -> ModuleType:
    """Return a script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, ROOT / file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str((ROOT / file).parent))  # as Python does for a script
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def flags(verb: str) -> set[str]:
    """Return the flags of one command."""
    command = Verbs("afina").get_command(click.Context(click.Group()), verb)
    assert command
    return {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)} | OF_CLICK


def anchors(file: Path) -> set[str]:
    """Return what a link into the page may end with: its headings as GitHub spells them."""
    text = FENCE.sub("", file.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_settings_page_is_that_of_the_code(language: str) -> None:
    made = load("docs/make_settings.py").page(language)
    kept = (ROOT / "docs" / language / "settings.md").read_text(encoding="utf-8")
    assert kept == made, "run: python docs/make_settings.py"


@pytest.mark.parametrize("readme", ["README.md", "README.es.md"])
def test_the_tables_are_those_of_the_records(readme: str) -> None:
    made = load("benchmarks/readme_table.py").filled(readme)
    kept = (ROOT / readme).read_text(encoding="utf-8")
    assert kept == made, "run: python benchmarks/readme_table.py"


@pytest.mark.parametrize("table", ["tasks", "methods", "forecast"])
@pytest.mark.parametrize("page", ["docs/en/results.md", "docs/es/results.md"])
def test_the_results_are_those_of_the_records(page: str, table: str) -> None:
    made = load(f"benchmarks/{table}_table.py").filled(page)
    kept = (ROOT / page).read_text(encoding="utf-8")
    assert kept == made, f"run: python benchmarks/{table}_table.py"


@pytest.mark.parametrize("page", ["docs/en/speed.md", "docs/es/speed.md"])
def test_the_speeds_are_those_of_the_record(page: str) -> None:
    made = load("benchmarks/speed_table.py").filled(page)
    kept = (ROOT / page).read_text(encoding="utf-8")
    assert kept == made, "run: python benchmarks/speed_table.py"


def test_a_row_of_the_speeds() -> None:
    spread = {"value": 2.5, "low": 2.25, "high": 3.0}
    ratio = {"a": "afina", "b": "tuned-16", "peer": "tuned", "goal": 1.4, "rate": spread, "whole_job": spread}
    systems = {"afina": {"rows_per_s": 250.0, "share_of_peak": 0.7}, "tuned-16": {"rows_per_s": 100.0}}
    row = load("benchmarks/speed_table.py")._row
    assert row("full-imdb", ratio | {"memory": spread, "points": -0.5}, systems, False)[1:] == [
        "Trainer, tuned (batch of 16)", "250.0", "100.0", "2.50 (2.25 to 3.00)", "1.40", "2.50 (2.25 to 3.00)",
        "70\u00a0%", "−0.5", "2.50",
    ]  # fmt: skip
    assert row("full-imdb", ratio | {"memory": spread, "points": 1.25}, systems, True)[-2:] == [
        "+1,2 †",
        "2,50",
    ]


def test_a_row_of_the_table() -> None:
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    record = {
        "rows": {"train": 12345, "test": 1234},
        "seeds": [0, 1],
        "scores": {
            "embedded": [score, score | {"value": 0.7}],
            "random": [score],
            "tfidf": [score],
            "majority": [score],
        },
        "embedded_minus_random": {"value": 0.1, "low": -0.0125, "high": 0.2},
        "weights": {"bert-mini-es-en": "others"},
    }
    row = load("benchmarks/readme_table.py")._row
    assert row("mine", record, True)[0] == "mine †"
    assert row("sst2", record, False)[1:] == [
        "12,345 / 1,234", "2", "0.600", "0.500", "0.500", "0.500", "+0.100 (−0.013 to +0.200)",
    ]  # fmt: skip
    assert row("mine", record, True)[1:] == [
        "12\u202f345 / 1234", "2", "0,600", "0,500", "0,500", "0,500", "+0,100 (−0,013 a +0,200)",
    ]  # fmt: skip


@pytest.mark.parametrize("page", FOR_USERS, ids=name)
def test_commands_are_real(page: Path) -> None:
    blocks = [body for _language, body in FENCE.findall(page.read_text(encoding="utf-8"))]
    lines = [line for body in blocks for line in body.splitlines() if line.startswith("afina ")]
    for line in lines:
        _afina, verb, *words = shlex.split(line, comments=True)
        assert verb in VERBS, line
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= flags(verb), line


@pytest.mark.parametrize("page", FOR_USERS, ids=name)
def test_flags_in_the_text_are_real(page: Path) -> None:
    every = set().union(*map(flags, VERBS))
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for code in re.findall(r"`([^`\n]+)`", text):
        for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", code):
            assert flag in every, code


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if "://" in link:
            continue
        path, _hash, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_is_python_and_its_names_are_public(page: Path) -> None:
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            compile(body, str(page), "exec")
            for public in re.findall(r"\bafina\.(\w+)", body):
                assert public in afina.__all__, public


def test_make_targets_are_real() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"(?:`|^)make (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert target in targets, f"{name(page)}: make {target}"


def test_every_page_is_there_in_both_languages() -> None:
    english, spanish = ({file.name for file in (ROOT / "docs" / code).iterdir()} for code in ("en", "es"))
    assert english == spanish


@pytest.mark.parametrize(("english", "spanish"), TWINS, ids=[name(english) for english, _spanish in TWINS])
def test_twins_have_one_shape(english: Path, spanish: Path) -> None:
    """Headings, list items, rows of tables and blocks come in the same order: nothing is said in one only."""
    shapes = [
        [
            line.split(" ")[0][:2]
            for line in page.read_text(encoding="utf-8").splitlines()
            if line[:1] in "#-|`<"
        ]
        for page in (english, spanish)
    ]
    assert shapes[0] == shapes[1]


def test_the_code_in_an_hour_names_every_file() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    reading = text[text.index("## The code in an hour") : text.index("## Layers")]
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", reading))
    source = ROOT / "src" / "afina"
    files = {file.relative_to(source).as_posix() for file in source.rglob("*.py")}
    only_a_sentence = {
        file for file in files if file.endswith("/__init__.py") and file not in ("messages/__init__.py",)
    }
    assert named == files - only_a_sentence


def test_decisions_are_numbered_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(file.name for file in folder.glob("[0-9]*.md"))
    assert [int(page[:4]) for page in pages] == list(range(1, len(pages) + 1))
    listed = LINK.findall((folder / "README.md").read_text(encoding="utf-8"))
    assert listed == pages
    for page in pages:
        text = (folder / page).read_text(encoding="utf-8")
        assert text.startswith(f"# {int(page[:4])}. ")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
