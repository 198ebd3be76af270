"""Imports go down only, and files stay small: the plan of the house, held by the source itself."""

import ast
from pathlib import Path

import pytest

import onnxopt

PACKAGE = Path(onnxopt.__file__).parent
FLOORS = {
    "errors": 0, "config": 0, "prune_config": 0, "chain_config": 0, "report": 0, "text": 0,
    "arrays": 0,
    "graph": 1,
    "rewrite": 2, "channels": 2,
    "rules": 3, "runtime": 3, "testing": 3,
    "passes": 4, "sweep": 4, "judging": 4, "quantizing": 4, "pruning": 4,
    "benchmarking": 4, "profiling": 4,
    "pipeline": 5, "accept": 5, "prove": 5,
    "costs": 5, "given": 5, "preparing": 5, "conversion": 5, "inspection": 5,
    "task": 5, "quantization": 5, "prune_task": 5, "chain": 5, "optimization": 5,
    "api": 6, "render": 6,
    "cli": 7, "__main__": 7,
    "__init__": 6,
}  # fmt: skip
BANNED = {"utils", "util", "core", "common", "helpers", "helper", "base", "misc"}
ONLY_DOOR_TO_ONNX_IR = Path("graph/_onnx_ir.py")
FILE_LINES = 400
FUNCTION_LINES = 60

FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imported(tree: ast.AST, path: Path) -> list[tuple[int, str]]:
    """List (line, absolute name) of every import; `from a import b` counts as `a.b`."""
    package = ("onnxopt", *path.parts[:-1])
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *filter(None, [node.module])))
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def climbs(source: str, path: Path) -> list[str]:
    """Name every import that goes up a floor."""
    own = FLOORS[unit(path)]
    wrong = []
    for line, name in imported(ast.parse(source), path):
        parts = name.split(".")
        if parts[0] != "onnxopt" or len(parts) == 1:
            continue
        floor = FLOORS.get(parts[1], FLOORS["api"] if parts[1] in onnxopt.__all__ else 0)
        if floor > own:
            wrong.append(f"{path}:{line}: floor {own} imports {name} of floor {floor}")
    return wrong


def opens_onnx_ir(source: str) -> list[int]:
    """List the lines that import onnx_ir when they run; annotations may name it."""
    tree = ast.parse(source)
    spared = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            spared |= {id(inner) for inner in ast.walk(node)}
    return [
        line
        for node in ast.walk(tree)
        if id(node) not in spared and isinstance(node, ast.Import | ast.ImportFrom)
        for line, name in imported(ast.Module([node], []), Path("x.py"))
        if name.split(".")[0] == "onnx_ir"
    ]


def long_functions(source: str) -> list[str]:
    return [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_file_keeps_to_the_plan(path):
    source = (PACKAGE / path).read_text(encoding="utf-8")
    assert unit(path) in FLOORS, f"{path} stands on no floor: DESIGN knows no {unit(path)}"
    assert climbs(source, path) == []
    if path != ONLY_DOOR_TO_ONNX_IR:
        assert opens_onnx_ir(source) == [], "import ir from onnxopt.graph._onnx_ir"
    assert not BANNED & {part.removesuffix(".py").strip("_") for part in path.parts}
    assert len(source.splitlines()) <= FILE_LINES
    assert long_functions(source) == []


def test_climbing_imports_are_found_in_every_form():
    path = Path("graph/editor.py")
    for source in (
        "from onnxopt.rules import table",
        "import onnxopt.cli.main",
        "from onnxopt import api",
        "from onnxopt import optimize",
        "from ..passes import fold",
        "def f():\n    from onnxopt.rewrite import rule",
    ):
        assert len(climbs(source, path)) == 1, source
    for source in ("from onnxopt.errors import X", "from . import facts", "import numpy"):
        assert climbs(source, path) == [], source


def test_onnx_ir_is_found_but_not_in_annotations():
    assert opens_onnx_ir("def f():\n    import onnx_ir as ir") == [2]
    assert opens_onnx_ir("from onnx_ir.passes import common") == [1]
    assert opens_onnx_ir("if TYPE_CHECKING:\n    import onnx_ir") == []
    assert opens_onnx_ir("from onnxopt.graph._onnx_ir import ir") == []


def test_long_functions_are_found():
    assert long_functions("def f():\n" + "    pass\n" * FUNCTION_LINES)
    assert not long_functions("def f():\n" + "    pass\n" * (FUNCTION_LINES - 1))
