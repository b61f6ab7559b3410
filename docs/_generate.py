"""Writes the parts of the documents that must not go stale: the annotated tree, the results, the models' scores.

`python docs/_generate.py` rewrites README.md, docs/results.md, docs/performance.md, docs/shipping.md and the cards
of the pocket models between their markers.
The test suite fails when that would change them. Results are counted again from the traces stored in `docs/results/`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "docs")]

import _benchmark_tables  # noqa: E402
import _releases  # noqa: E402
import _study  # noqa: E402

from ponder.report.numbers import numbers  # noqa: E402
from ponder.report.table import table  # noqa: E402

FOLDERS = (
    "core", "runs", "models", "models/native", "measure", "measure/costs", "measure/contamination", "sandbox", "tasks",
    "verifiers", "verifiers/_math", "rewards", "engines", "engines/_openai", "engines/_gguf", "engines/_onnx",
    "engines/_executorch", "objectives", "exporters", "exporters/_gguf", "exporters/_web", "exporters/_edge", "learn",
    "backends", "stages", "stages/_estimates", "stages/_release", "stages/_traces", "audits", "page", "serve", "report",
    "pocket",
)  # fmt: skip
BESIDE = {
    "recipes/": "the demo, the study, and how the pocket models are rebuilt",
    "docs/": "tutorial, how to choose, how to extend, architecture, results",
    "benchmarks/": "speed beside the peers and the machine's limits, each a command",
    "examples/": "policy optimisation in one file, without Ponder's abstractions",
    "tests/": "what must hold; `make test`",
}


def tree() -> str:
    """The annotated tree, from the first sentence of every module's docstring."""
    package = ROOT / "src" / "ponder"
    lines = ["src/ponder/"]
    for folder in FOLDERS:
        lines.append(f"  {folder + '/':<22}{_summary(package / folder / '__init__.py')}")
        lines += [f"    {p.name:<20}{_summary(p)}" for p in _modules(package / folder)]
    lines += [f"  {p.name:<22}{_summary(p)}" for p in _modules(package)]
    lines += [f"{name:<24}{what}" for name, what in BESIDE.items()]
    return _fenced("\n".join(lines))


def results(name: str) -> str:
    """The result table of a stored run."""
    return _fenced(table(numbers(ROOT / "docs" / "results" / name)))


def scores(of: str) -> str:
    """A card's table: one model's accuracy over all, by skill and by number of steps; `RUN/STAGE:MODEL`."""
    name, _, model = of.partition(":")
    rows = [row for row in numbers(ROOT / "docs" / "results" / name)["models"] if row["model"] == model]
    lines = ["| what | n | accuracy | interval |", "|---|--:|--:|--:|"]
    for row in rows:
        if row["skill"] is not None and row["steps"] is not None:
            continue
        what = "all six skills"
        if row["skill"] is not None:
            what = row["skill"]
        elif row["steps"] is not None:
            what = "1 step" if row["steps"] == 1 else f"{row['steps']} steps"
        accuracy, low, high = (100 * row[key] for key in ("accuracy", "low", "high"))
        lines.append(f"| {what} | {row['n']:,} | {accuracy:.1f} % | {low:.1f} to {high:.1f} % |")
    return "\n".join(lines)


GENERATORS: dict[str, Callable[..., str]] = {
    "tree": tree,
    "results": results,
    "scores": scores,
    "study": _study.study_table,
    "differences": _study.differences,
    "release": _releases.release_table,
    **{name: getattr(_benchmark_tables, name) for name in ("ratios", "against", "load", "limits", "growth", "waiting")},
}
MARKED = re.compile(r"(<!-- (\w+)(?: ([\w/:.-]+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """A document with everything between its markers made afresh."""

    def fill(match: re.Match[str]) -> str:
        begin, kind, argument, end = match.groups()
        made = GENERATORS[kind](argument) if argument else GENERATORS[kind]()
        return f"{begin}{made}\n{end}"

    return MARKED.sub(fill, text)


def documents() -> list[Path]:
    """Documents that have generated parts."""
    cards = sorted((ROOT / "src" / "ponder" / "pocket").glob("*/README.md"))
    names = ("results.md", "performance.md", "serving.md", "distillation.md", "shipping.md")
    return [ROOT / "README.md", *(ROOT / "docs" / name for name in names), *cards]


def _summary(path: Path) -> str:
    if path.suffix in (".c", ".h"):
        first = path.read_text(encoding="utf-8").split("\n")[0]
        return first.removeprefix("/* ").removesuffix("*/").strip().rstrip(".,:;")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0].rstrip(".")


def _modules(folder: Path) -> list[Path]:
    code = (path for path in folder.iterdir() if path.suffix in (".py", ".c", ".h"))
    return sorted(path for path in code if not path.name.startswith("_"))


def _fenced(text: str) -> str:
    return f"```\n{text}\n```"


if __name__ == "__main__":
    for document in documents():
        document.write_text(rewritten(document.read_text(encoding="utf-8")), encoding="utf-8")
