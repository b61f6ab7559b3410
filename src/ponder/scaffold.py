"""Writes a task of one's own that runs as it is: `ponder init DIR`."""

from __future__ import annotations

import importlib.util
import json
import keyword
from importlib.resources import files
from pathlib import Path

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Task

NUM_ROWS = 56
TEMPLATES = {
    "recipe.yaml": "recipe.yaml",
    "README.md": "README.md",
    "verifier.py": "{name}/verifier.py",
    "audit.jsonl": "{name}/audit.jsonl",
}
"""Template and where it goes; `NAME` in a template stands for the name of the task."""


def scaffold(folder: Path, name: str = "sums", *, force: bool = False) -> list[Path]:
    """Write data, a recipe, a verifier and a README into a folder.

    Args:
        folder: Made when it is missing.
        name: Names the run, and the package that holds the verifier: `NAME.verifier`.
        force: Write into a folder that holds something already; its files are never overwritten.

    Returns:
        The files that were written.

    Raises:
        ConfigurationError: If the folder holds something, a file would be overwritten, or the name is taken.
        ResourceError: If the folder cannot be written.
    """
    _check_name(name)
    contents = {"data.jsonl": _rows()} | {
        place.format(name=name): _template(template).replace("NAME", name) for template, place in TEMPLATES.items()
    }
    paths = {folder / place: text for place, text in contents.items()}
    try:
        if folder.exists() and not folder.is_dir():
            raise ConfigurationError("this is a file, not a folder", where=str(folder))
        if folder.is_dir() and any(folder.iterdir()) and not force:
            raise ConfigurationError("this folder is not empty", where=str(folder), fix="name a new folder")
        if taken := next((path for path in paths if path.exists()), None):
            raise ConfigurationError("this file is there already, and is not overwritten", where=str(taken))
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
    except OSError as error:
        raise ResourceError(f"the folder cannot be written: {error.strerror}", where=str(folder)) from error
    return list(paths)


def _check_name(name: str) -> None:
    """The name becomes a package that must shadow nothing and be shadowed by nothing."""
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        raise ConfigurationError(
            f"{name!r} cannot name a task", fix="use letters, digits and '_', beginning with a letter"
        )
    if importlib.util.find_spec(name) is not None:
        raise ConfigurationError(f"there is a Python package {name!r} already", fix="choose another name")


def _rows() -> str:
    """Word sums with worked solutions, in the form in which people keep them."""
    task: Task = load_plugin("tasks", "arithmetic")(min_steps=1, max_steps=3)
    lines = []
    for number, problem in enumerate(task.problems("train", NUM_ROWS, seed=0), 1):
        steps = str(problem.meta["solution"]).removeprefix("<think>\n").partition("\n</think>")[0]
        answer = f"{steps}\n#### {problem.answer}"
        lines.append(json.dumps({"id": f"sum-{number}", "question": problem.prompt, "answer": answer}))
    return "\n".join(lines) + "\n"


def _template(name: str) -> str:
    return files("ponder").joinpath("templates", "task", name).read_text(encoding="utf-8")
