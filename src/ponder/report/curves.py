"""Training curves of a run, thinned to what a chart can show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ponder.report.evaluations import stage_folders
from ponder.runs.store import read_rows

MAX_POINTS = 160
LARGEST = 1e150
"""Of the values that are drawn."""
MAX_CURVES = 9
"""Panels of one stage."""
FIRST = (
    "loss",
    "reward",
    "correct",
    "reasons",
    "truncated",
    "completion_tokens",
    "entropy",
    "grad_norm",
    "lr",
)
"""Metrics that are shown before any other."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric of one stage: the mean of each stretch of steps with its extremes."""

    metric: str
    points: list[tuple[float, float, float, float]]
    """(step, mean, lowest, highest)."""
    left_out: int
    """Values that were not finite numbers."""


def training_curves(run_folder: Path) -> dict[str, list[Curve]]:
    """Curves by stage; a stage without a usable metric is left out."""
    found = {folder.name: _curves(folder / "metrics.jsonl") for folder in stage_folders(run_folder)}
    return {stage: curves for stage, curves in found.items() if curves}


def _curves(journal: Path) -> list[Curve]:
    if not journal.is_file():
        return []
    values: dict[str, list[tuple[float, float]]] = {}
    left_out: dict[str, int] = {}
    for index, row in enumerate(read_rows(journal)):
        step = row.get("step", index)
        x = float(step if _is_number(step) else index)
        for name, value in row.items():
            if name == "step" or isinstance(value, str | bool | list | dict):
                continue
            if _is_number(value):
                values.setdefault(name, []).append((x, float(value)))
            else:
                left_out[name] = left_out.get(name, 0) + 1
    order = sorted(values, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    telling = [name for name in order if name in FIRST or len({value for _, value in values[name]}) > 1]
    return [Curve(name, _thin(values[name]), left_out.get(name, 0)) for name in telling[:MAX_CURVES]]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    width = math.ceil(len(points) / MAX_POINTS)
    parts = [points[start : start + width] for start in range(0, len(points), width)]
    thinned: list[tuple[float, float, float, float]] = []
    for part in parts:
        ys = [y for _, y in part]
        thinned.append((part[len(part) // 2][0], math.fsum(y / len(ys) for y in ys), min(ys), max(ys)))
    return thinned


def _is_number(value: object) -> bool:
    """Whether a value can be drawn: near the limits of a float even the height of the axis overflows."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
