"""Lists and objects that a program has written into one cell of a table."""

import ast
import json
import re
from typing import Any

# A text in quotes or the end of an object, and whether another begins after it: arrays of NumPy have no commas.
ENTRY = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\})(\s+(?=['"{]))?""", re.DOTALL)


def structure(cell: str) -> list[Any] | dict[str, Any] | None:
    """Return the list or object that a cell holds as JSON, Python, NumPy or pandas write it, None where it is a text."""
    text = cell.strip()
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return None
    for read in (json.loads, _literal):
        try:
            found = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue  # the last two: brackets within brackets without end
        if isinstance(found, list | dict):
            return found
    return None


def _literal(text: str) -> Any:
    apart = ENTRY.sub(lambda entry: entry[1] + (", " if entry[2] else ""), text)
    return ast.literal_eval(_OfNumPy().visit(ast.parse(apart, mode="eval")))


class _OfNumPy(ast.NodeTransformer):
    """Put what they hold in the place of `array([…], dtype=…)` and `np.int64(…)`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func)
        known = node.args and (name == "array" or name.startswith("np."))
        return self.visit(node.args[0]) if known else node
