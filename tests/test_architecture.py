"""The shape of the code: floors, plug-ins, and what may be imported where."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ponder
from ponder.core.plugins import KINDS, plugin_names

PACKAGE = Path(ponder.__file__).parent
FLOORS = {
    "core": 0,
    "pocket": 0,
    "page": 0,
    "runs": 1,
    "models": 2,
    "measure": 2,
    "sandbox": 2,
    "tasks": 3,
    "verifiers": 3,
    "rewards": 3,
    "engines": 3,
    "objectives": 3,
    "exporters": 3,
    "learn": 4,
    "backends": 5,
    "stages": 6,
    "audits": 6,
    "serve": 6,
    "report": 6,
}
"""Folders; modules directly in the package are on the top floor."""
TOP = 7
PLUGINS = {name for name, floor in FLOORS.items() if floor == 3}
MAY_IMPORT_LATE = {"cli.py", "_commands_serve.py", "_commands_traces.py", "_commands_truth.py"}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 50
TORCH_FREE = (
    *("core", "runs", "tasks", "verifiers", "rewards", "report", "audits"),
    *("sandbox", "measure.stats", "measure.horizon", "measure.power", "engines.gguf", "engines.browser"),
)
TORCH_FREE_TOP = (
    *("cli", "_options", "_commands_serve", "_commands_traces", "_commands_truth", "recipe", "runner"),
    *("_cli_run", "_cli_tasks", "_cli_traces", "_cli_compare", "_cli_audit"),
)

SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "templates" not in path.parts)


@cache
def parsed(path: Path) -> ast.Module:
    """Syntax of a source file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST, module: str, root: Path = PACKAGE) -> Iterator[str]:
    """Dotted names of the `ponder` modules that a module imports, in every spelling."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "ponder")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, base] if base else parents)
            if base.split(".")[0] != "ponder":
                continue
            for alias in node.names:
                place = root.joinpath(*base.split(".")[1:], alias.name)
                is_module = place.is_dir() or place.with_suffix(".py").exists()
                yield f"{base}.{alias.name}" if is_module else base


def module_name(path: Path, root: Path = PACKAGE) -> str:
    """Dotted name of a source file; a package's front is `PACKAGE.__init__`."""
    return ".".join(["ponder", *path.relative_to(root).with_suffix("").parts])


def floor(module: str) -> int:
    folder = module.split(".")[1] if module.count(".") else ""
    return FLOORS.get(folder, 0 if folder in ("", "__init__") else TOP)


def violations(module: str, tree: ast.AST, root: Path = PACKAGE) -> list[str]:
    """Imports that go up, or from one plug-in folder into another."""
    found = []
    folder = module.split(".")[1]
    for target in imported(tree, module, root):
        other = target.split(".")[1] if "." in target else ""
        if floor(target) > floor(module) or (folder in PLUGINS and other in PLUGINS and other != folder):
            found.append(f"{module} imports {target}")
    return found


def test_every_folder_has_a_floor() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= FLOORS.keys(), folders - FLOORS.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    assert not violations(module_name(path), parsed(path))


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("ponder.core.types", "import ponder.runs.store"),
        ("ponder.core.types", "from ponder.runs import store"),
        ("ponder.core.types", "from ponder.runs.store import Run"),
        ("ponder.core.types", "from ponder import runs"),
        ("ponder.core.types", "from ..runs.store import Run"),
        ("ponder.core.types", "def late():\n    from ponder.runs.store import Run"),
        ("ponder.learn.fit", "from ponder.stages._stage import Stage"),
        ("ponder.stages.distill", "from ponder import recipe"),
        ("ponder.tasks.jsonl", "from ponder.verifiers import exact"),
        ("ponder.objectives.grpo", "import ponder.rewards.correct as correct"),
        ("ponder.report.page", "from ponder.cli import main"),
    ],
)
def test_the_check_of_imports_sees_every_spelling(module: str, statement: str) -> None:
    assert violations(module, ast.parse(statement))


def test_the_check_of_imports_allows_what_is_right() -> None:
    allowed = "import ponder.core.types\nfrom ponder.core import errors\nfrom ponder import __version__"
    assert not violations("ponder.tasks.jsonl", ast.parse(allowed + "\nfrom ponder.tasks._words import HELD_OUT"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_small_and_import_at_the_top(path: Path) -> None:
    tree = parsed(path)
    assert path.stem not in ("util", "utils", "helpers", "misc")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert node.end_lineno is not None
        assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{node.name} is too long"
        late = [inner for inner in ast.walk(node) if isinstance(inner, ast.Import | ast.ImportFrom)]
        assert not late or path.name in MAY_IMPORT_LATE, f"{node.name} imports inside"


FRONT = [
    "from ponder.core import offline",
    f"__version__ = '{ponder.__version__}'",
    "offline.go_offline_if_told()",  # here, so that it holds in every process that imports anything of Ponder's
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_exports_what_it_defines(path: Path) -> None:
    """No `__all__`, no star, and a package's front is its docstring: a thing is imported from one place."""
    tree = parsed(path)
    assert ast.get_docstring(tree), "no docstring"
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names))
        assert not (isinstance(node, ast.Name) and node.id == "__all__")
    if path.name == "__init__.py":
        names = [ast.unparse(node) for node in tree.body[1:]]
        front = ["from ponder.core import offline", f"__version__ = '{ponder.__version__}'"]
        assert names == ([*front, "offline.go_offline_if_told()"] if path.parent == PACKAGE else [])


PLUGIN_FILES = [path for kind in (*KINDS, "stages") for path in sorted((PACKAGE / kind).glob("[!_]*.py"))]


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_plug_in_ends_with_its_line(path: Path) -> None:
    last = parsed(path).body[-1]
    targets = last.targets if isinstance(last, ast.Assign) else [getattr(last, "target", None)]
    assert [getattr(target, "id", None) for target in targets] == ["plugin"]


@pytest.mark.parametrize("path", sorted(set(SOURCES) - set(PLUGIN_FILES)), ids=lambda path: path.name)
def test_only_plug_ins_have_the_line(path: Path) -> None:
    body = parsed(path).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    assert "plugin" not in {getattr(target, "id", None) for target in targets}


def test_the_kinds_of_plug_ins_are_found() -> None:
    assert {"generate", "distill", "reinforce", "evaluate", "report", "pretrain"} <= set(plugin_names("stages"))
    assert all(not name.startswith("_") for kind in KINDS if (PACKAGE / kind).is_dir() for name in plugin_names(kind))


def modules_of(name: str) -> list[str]:
    place = PACKAGE.joinpath(*name.split("."))
    if not place.is_dir():
        return [f"ponder.{name}"]
    return [module_name(path).removesuffix(".__init__") for path in sorted(place.rglob("*.py"))]


def test_lower_floors_and_the_ways_in_never_import_torch() -> None:
    names = [module for name in (*TORCH_FREE, *TORCH_FREE_TOP) for module in modules_of(name)]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "    assert not heavy, (name, heavy)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *names],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def test_core_types_and_help_need_little() -> None:
    code = "import sys, ponder.core.types\nassert not {'torch', 'rich', 'pyarrow'} & set(sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr
