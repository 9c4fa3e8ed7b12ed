"""The order of the layers, read from the source: imports go down, and heavy libraries keep their place."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "afina"
FILES = sorted(SOURCE.rglob("*.py"))

# Layer 0 is one folder, afina's own; `afina` itself, the lazy public face, stands above the verbs it names.
LAYERS: list[set[str]] = [
    {"core", "settings", "errors", "names", "sample", "messages"},
    {"data", "models", "scoring"},
    {"batching"},
    {"tasks", "methods", "objectives"},
    {"train"},
    {"explain", "deploy", "report"},
    {"verbs"},
    {"ui"},
    {"cli", "__init__"},
    {"__main__"},
]
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
CORNERS = {
    "peft": "methods/",
    "accelerate": "train/",
    "optuna": "verbs/search.py",
    "onnxruntime": "deploy/",
    "ray": "verbs/_runners.py",
}
HEAVY = {"torch", "transformers", "peft", "sklearn", "scipy", "pandas", "datasets", "matplotlib"}
# The command line reads its flags from these, so they are imported before anything is known to be needed.
LIGHT = LAYERS[0] | {"data", "tasks", "methods", "verbs", "cli", "__init__", "__main__"}


def place(file: Path) -> str:
    """Return a file's path below `afina`, such as `tasks/classification.py`."""
    return file.relative_to(SOURCE).as_posix()


def part(file: Path) -> str:
    """Return the folder or file directly below `afina` that a file belongs to."""
    return place(file).split("/")[0].removesuffix(".py")


def imports(nodes: Iterator[ast.AST], file: Path) -> Iterator[tuple[str, str]]:
    """Yield (where, dotted name) of what is imported; `from a import b` gives `a.b`."""
    for node in nodes:
        where = f"{place(file)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from ((where, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: write imports from afina in full, without leading dots"
            yield from ((where, f"{node.module}.{alias.name}") for alias in node.names)


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from run_at_import(child)


def everywhere(file: Path) -> list[tuple[str, str]]:
    return list(imports(ast.walk(ast.parse(file.read_text("utf-8"))), file))


def third_party(file: Path) -> Iterator[tuple[str, str]]:
    for where, name in everywhere(file):
        library = name.split(".")[0]
        if library != "afina" and library not in sys.stdlib_module_names:
            yield where, library


def target(name: str) -> str | None:
    """Return the part of afina that an import reaches; None for other libraries and `__version__`."""
    words = name.split(".")
    if words[0] != "afina" or words[1:2] == ["__version__"]:
        return None
    return words[1] if len(words) > 1 and words[1] in LAYER else "__init__"


def wrong_way(file: Path) -> Iterator[str]:
    """Yield the imports of a file that do not go to a lower layer or stay in the file's own folder."""
    own = part(file)
    for where, name in everywhere(file):
        other = target(name)
        if other is None:
            continue
        same_folder = other == own or LAYER[own] == LAYER[other] == 0
        if LAYER[other] >= LAYER[own] and not same_folder:
            yield f"{where} imports {name} (layer {LAYER[own]} may not reach layer {LAYER[other]})"
        elif own == other == "tasks" and not name.startswith("afina.tasks._"):
            yield f"{where} imports {name}: a task imports no task"


def test_every_part_has_a_layer() -> None:
    assert sorted({part(file) for file in FILES} - LAYER.keys()) == []


def test_imports_go_down() -> None:
    assert [fault for file in FILES for fault in wrong_way(file)] == []


def test_libraries_stay_in_their_corners() -> None:
    faults = [
        f"{where} imports {library}, which belongs in {CORNERS[library]}"
        for file in FILES
        for where, library in third_party(file)
        if library in CORNERS and not place(file).startswith(CORNERS[library])
    ]
    assert faults == []


def test_declarations_import_nothing_heavy() -> None:
    faults = [
        f"{where} imports {name} at the top of the module"
        for file in FILES
        if part(file) in LIGHT and (file.name[0] != "_" or file.name in ("__init__.py", "__main__.py"))
        for where, name in imports(run_at_import(ast.parse(file.read_text("utf-8"))), file)
        if name.split(".")[0] in HEAVY
    ]
    assert faults == []


def test_nothing_is_called_utils() -> None:
    assert [place(path) for path in SOURCE.rglob("*") if path.stem.strip("_") in ("util", "utils")] == []


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {line.split(">")[0].split("[")[0] for lines in asked for line in lines}
    installed = packages_distributions()
    faults = [
        f"{where} imports {library}, which pyproject.toml does not name"
        for file in FILES
        for where, library in third_party(file)
        if not declared & {name.lower().replace("_", "-") for name in installed.get(library, [library])}
    ]
    assert faults == []


def heavy_after(code: str) -> set[str]:
    """Run `code` in a new process and return the heavy libraries that it has imported."""
    code = f"import sys\n{code}\nprint('loaded:', *({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


HELP = """
from afina.cli import main
sys.argv = ["afina", *{arguments}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
DECLARATIONS = """
from importlib import import_module
from afina.names import known
for folder in ("tasks", "methods"):
    for name in known(folder):
        import_module(f"afina.{folder}.{name}")
"""


def test_import_is_light() -> None:
    assert heavy_after("import afina") == set()


def test_tasks_and_methods_are_light() -> None:
    assert heavy_after(DECLARATIONS) == set()


@pytest.mark.skipif(not any(part(file) == "cli" for file in FILES), reason="there is no command line yet")
@pytest.mark.parametrize("arguments", [["--help"], ["finetune", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    assert heavy_after(HELP.format(arguments=arguments)) == set()
