"""Finds the evaluations of a run and reads their stored traces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ponder.core.errors import ResourceError
from ponder.core.types import Json
from ponder.measure.games import PlayedGame, played_games
from ponder.measure.rating import HISTOGRAM
from ponder.measure.scores import Answer
from ponder.measure.stored import latest_chunks, stored_answers
from ponder.runs.store import read_rows

PLAN = "evaluation.json"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation stage, finished or not."""

    folder: Path
    plan: Json
    """What was to be measured, and how."""

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.folder.name

    @property
    def labels(self) -> list[str]:
        """Models in the order in which they were named."""
        return [str(model["label"]) for model in self.plan["models"]]

    def rows(self, label: str | None = None) -> Iterator[tuple[str, Json]]:
        """(label, row) of every stored trace, model by model, or of one model."""
        for model in self.plan["models"]:
            if label not in (None, model["label"]):
                continue
            for row in _rows(self.folder, model["traces"]):
                yield model["label"], row

    def model_name(self, label: str) -> str:
        """The name or folder that a model was opened by."""
        return next((str(model["name"]) for model in self.plan["models"] if model["label"] == label), label)

    def rows_of(self, label: str) -> Iterator[Json]:
        """Every stored trace of one model."""
        for model in self.plan["models"]:
            if model["label"] == label:
                yield from _rows(self.folder, model["traces"])

    def answers(self) -> list[Answer]:
        """Every stored trace as the table counts it."""
        return [answer for m in self.plan["models"] for answer in stored_answers(_rows(self.folder, m["traces"]))]

    def games(self) -> list[PlayedGame]:
        """Every stored game."""
        return played_games(row for _, row in self.rows())

    def chunks(self) -> list[Json]:
        """What was timed; a model that is no longer part of the evaluation is left out."""
        return [row for row in latest_chunks(_rows(self.folder, "timing")) if row["model"] in self.labels]

    def histogram(self) -> list[tuple[float, float]] | None:
        """(rating, users) of a task's contestants, where the evaluation was given any."""
        path = self.folder / f"{HISTOGRAM}.json"
        return [(rating, users) for rating, users in json.loads(path.read_bytes())] if path.is_file() else None

    def machine(self) -> Json | None:
        """The computer that answered, once the evaluation is finished."""
        timing = read_object(self.folder / "timing.json")
        return timing.get("machine") if timing else None


def find_evaluations(run_folder: Path) -> list[Evaluation]:
    """Evaluations directly in a run folder, in order; the folder may itself be one.

    Raises:
        ResourceError: If there is no such folder.
    """
    if not run_folder.is_dir():
        raise ResourceError("there is no such run folder", where=str(run_folder), fix="name the folder of a run")
    folders = [run_folder, *stage_folders(run_folder)]
    plans = [(folder, read_object(folder / PLAN)) for folder in folders]
    return [Evaluation(folder, plan) for folder, plan in plans if plan is not None]


def stage_folders(run_folder: Path) -> list[Path]:
    """Folders of the stages in the order of the recipe; those it does not know come last."""
    manifest = read_object(run_folder / MANIFEST) or {}
    order = {name: index for index, name in enumerate(manifest.get("keys", ()))}
    folders = [path for path in run_folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(folders, key=lambda path: (order.get(path.name, len(order)), path.name))


def read_object(path: Path) -> Json | None:
    """A JSON object, or None when the file is missing.

    Raises:
        ResourceError: If it is there and not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResourceError(f"this file cannot be read: {error}", where=str(path)) from error
    if not isinstance(value, dict):
        raise ResourceError("this file does not hold a JSON object", where=str(path))
    return value


def _rows(folder: Path, name: str) -> Iterator[Json]:
    """Rows of a journal, or of its sealed form; none while it is not begun."""
    for path in (folder / f"{name}.jsonl", folder / f"{name}.parquet"):
        if path.is_file():
            return read_rows(path)
    return iter(())
