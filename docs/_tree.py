"""Writes the annotated tree of the README from the module docstrings, so that it cannot go stale.

`python docs/_tree.py` rewrites README.md between its markers; the test suite fails when that would change it.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- tree: written by docs/_tree.py -->", "<!-- end of tree -->"
FOLDERS = (
    "core", "runs", "models", "measure", "tasks", "verifiers", "rewards", "engines", "objectives", "learn",
    "backends", "stages", "report", "pocket",
)  # fmt: skip
BESIDE = {
    "recipes/": "the demo, the study, and how the pocket models are rebuilt",
    "docs/": "tutorial, how to choose, how to extend, architecture, results",
    "benchmarks/": "what is measured against what, each file a command",
    "examples/": "group-relative policy optimisation in one file, without Ponder's abstractions",
    "tests/": "what must hold; `make test`",
}


def first_sentence(path: Path) -> str:
    """The summary line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0].rstrip(".")


def tree() -> str:
    """The tree as a Markdown code block."""
    package = ROOT / "src" / "ponder"
    lines = ["```", "src/ponder/"]
    for folder in FOLDERS:
        title = first_sentence(package / folder / "__init__.py")
        lines.append(f"  {folder + '/':<22}{title}")
        modules = sorted(p for p in (package / folder).glob("*.py") if not p.name.startswith("_"))
        lines += [f"    {p.name:<20}{first_sentence(p)}" for p in modules]
    modules = sorted(p for p in package.glob("*.py") if not p.name.startswith("_"))
    lines += [f"  {p.name:<22}{first_sentence(p)}" for p in modules]
    lines += [f"{name:<24}{what}" for name, what in BESIDE.items()]
    return "\n".join([*lines, "```"])


def rewritten(readme: str) -> str:
    """The README with a fresh tree between its markers."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tree()}\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
