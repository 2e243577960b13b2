"""Imports in lib/dnc go downward only, and what an action must not pay for is not imported on its path."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lib" / "dnc"
# A layer may import those below it, and itself. Actions never import each other's families.
FLOORS = {"": 0, "tools": 1, "host": 2, "farm": 3, "opennebula": 4, "tm": 5, "vmm": 5, "datastore": 5, "im": 5,
          "hooks": 5}
GROUND_MAY_START_PROCESSES = {"command.py"}


def layer_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else ""


def imported_layers(path: Path):
    """(line, layer) of each import of the package in a module."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level == 0:
                if (node.module or "").startswith("dnc"):
                    yield node.lineno, "absolute"
                continue
            above = depth - node.level
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                first = (name or "").split(".")[0]
                if above == 0:
                    yield node.lineno, first if (PACKAGE / first).is_dir() else ""
                else:
                    yield node.lineno, layer_of(path)


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path):
    mine = layer_of(path)
    for line, other in imported_layers(path):
        assert other != "absolute", f"{path}:{line}: imports within the package are relative"
        allowed = FLOORS[other] < FLOORS[mine] or other == mine
        assert allowed, f"{path}:{line}: {mine or 'ground floor'} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_command_starts_processes(path):
    if path.name in GROUND_MAY_START_PROCESSES and layer_of(path) == "":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("os.system")), node.lineno
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert not called.startswith(("subprocess.", "os.exec", "os.spawn", "os.popen", "os.fork")), (
                f"{path}:{node.lineno}: {called} outside command.py"
            )


def test_pyone_is_used_at_one_place():
    users = [path for path in MODULES if "import pyone" in path.read_text()]
    assert [str(path.relative_to(PACKAGE)) for path in users] == ["opennebula/api.py"]


def actions():
    for family in ("tm", "vmm", "datastore", "im"):
        for path in sorted((PACKAGE / family).glob("*.py")):
            if path.name != "__init__.py" and "ARGUMENTS" in path.read_text():
                yield f"dnc.{family}.{path.stem}"


@pytest.mark.parametrize("module", list(actions()))
def test_an_action_imports_only_what_it_needs(module):
    heavy = ["pyone", "paramiko", "click", "rich", "requests", "asyncio", "concurrent.futures", "logging"]
    code = f"import sys, {module}; print([n for n in {heavy!r} if n in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
