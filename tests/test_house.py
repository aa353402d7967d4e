"""What keeps the code readable in an evening: short modules and functions, and no private name across modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(p for room in ("gptloop", "benchmarks", "tests") for p in (ROOT / room).rglob("*.py"))
MODULE_LINES, FUNCTION_LINES = 250, 40
REASON = re.compile(r"#\s*long:\s*\S")  # on a longer function's first line: why


def functions(module: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """A module's functions, each with its first line."""
    text = module.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, lines[node.lineno - 1]


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From the def on, without the docstring."""
    documented = ast.get_docstring(function, clean=False) is not None
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short(module):
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
    long = [f.name for f, line in functions(module) if lines_of_code(f) > FUNCTION_LINES and not REASON.search(line)]
    assert not long, f"split them, or say why in a comment `# long: ...` on the line of the def: {long}"


def test_no_module_imports_a_private_name():
    private = [
        f"{module.relative_to(ROOT)}: {name.name}"
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for name in node.names
        if name.name.startswith("_") and not name.name.endswith("__")
    ]
    assert not private


NAMED = re.compile(r"(?<![\w.])(?:gptloop|benchmarks)(?:\.[a-z]\w*)+")


def is_there(dotted: str) -> bool:
    """A package or module, or what the text of its last one has."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module.exists():
            return end == len(parts) or re.search(rf"\b{parts[end]}\b", module.read_text(encoding="utf-8")) is not None
    return False


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_module_names_of_others_is_there(module):
    """In docstrings and comments as well, which no import tells of."""
    assert [name for name in NAMED.findall(module.read_text(encoding="utf-8")) if not is_there(name)] == []
