"""Where a trained model comes from, read from its run folder, and the card that is written beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import ponder
from ponder.core.errors import ResourceError
from ponder.core.types import Json
from ponder.measure.scores import model_rows
from ponder.measure.terms import UNKNOWN, Terms, terms_of_folder
from ponder.report.card import Facts, Score, Step, model_card
from ponder.report.evaluations import find_evaluations, read_object
from ponder.runs.files import write_atomic
from ponder.runs.pack import packed_terms

CARD = "README.md"
IDENTITY, SUMMARY, TERMS, MANIFEST = "stage.json", "summary.json", "terms.json", "manifest.json"
MAX_STAGES = 100


def write_card(stage_folder: Path, summary: Json | None = None) -> Path:
    """Write the card of the model that a stage trained, as `model/README.md` in its folder; returns its path.

    Args:
        stage_folder: Of a training stage in a run.
        summary: What the stage is about to return, when it calls this itself; None reads what it stored.

    Raises:
        ResourceError: If there is no model, or a file of the run is damaged.
    """
    model = stage_folder / "model"
    if not model.is_dir():
        raise ResourceError("there is no trained model here", where=str(stage_folder), fix="name a stage that trains")
    path = model / CARD
    write_atomic(path, model_card(facts_of(stage_folder, summary)).encode())
    return path


def facts_of(stage_folder: Path, summary: Json | None = None) -> Facts:
    """Everything a card says, from the summaries of a run.

    Raises:
        ResourceError: If the folder holds no stage.
    """
    run, name = stage_folder.resolve().parent, stage_folder.resolve().name
    identity = read_object(stage_folder / IDENTITY)
    if identity is None:
        raise ResourceError("this is not the folder of a stage", where=str(stage_folder), fix="name one of a run")
    own = summary if summary is not None else read_object(stage_folder / SUMMARY) or {}
    line = list(_line(run, name))
    first = _settings(run, line[0]).get("model", "unknown") if line else "unknown"
    steps: dict[str, Step] = {}
    teachers: dict[str, Terms] = {}
    for stage in line:
        for source in _sources(run, stage):
            steps.setdefault(source, _step(run, source))
        for source in _named(run, stage):  # a stage that chose among traces carries the terms of what it kept
            is_stage = (run / source / IDENTITY).is_file()
            teachers |= _terms(run / source) if is_stage else _terms_of_file(Path(source).expanduser())
        steps[stage] = _step(run, stage, own if stage == name else None)
    return Facts(
        name=name,
        base=str(first),
        base_terms=base_terms(str(first)),
        parameters=own.get("parameters") if isinstance(own.get("parameters"), int) else None,
        seed=(read_object(run / MANIFEST) or {}).get("seed"),
        steps=list(steps.values()),
        line=line,
        teachers=teachers,
        scores=list(_scores(run, name, [str(first), *line])),
        version=ponder.__version__,
    )


def _line(run: Path, name: str) -> Iterator[str]:
    """The stages from the base model to this one, by the models that they start from."""
    found = [name]
    while len(found) < MAX_STAGES:
        before = _settings(run, found[-1]).get("model")
        if not isinstance(before, str) or before in found or not (run / before / IDENTITY).is_file():
            break
        found.append(before)
    yield from reversed(found)


def _sources(run: Path, stage: str) -> list[str]:
    """Stages whose traces a stage learns from, the first made first."""
    found: list[str] = []
    pending = [name for name in _named(run, stage) if (run / name / IDENTITY).is_file()]
    while pending and len(found) < MAX_STAGES:
        name = pending.pop()
        if name not in found:
            found.append(name)
            pending += [other for other in _named(run, name) if (run / other / IDENTITY).is_file()]
    return found[::-1]


def _named(run: Path, stage: str) -> list[str]:
    traces = _settings(run, stage).get("traces")
    return [traces] if isinstance(traces, str) else [str(name) for name in traces] if isinstance(traces, list) else []


def _settings(run: Path, stage: str) -> Json:
    settings = (read_object(run / stage / IDENTITY) or {}).get("settings")
    return settings if isinstance(settings, dict) else {}


def _step(run: Path, stage: str, summary: Json | None = None) -> Step:
    found: Json = summary if summary is not None else read_object(run / stage / SUMMARY) or {}
    identity = read_object(run / stage / IDENTITY) or {}
    traces = found.get("traces")
    counts = traces if isinstance(traces, dict) else found.get("verdicts", {})
    if not isinstance(counts, dict) or not counts:
        counts = {"optimiser steps": found["steps"]} if isinstance(found.get("steps"), int) else {}
    contamination = found.get("contamination")
    return Step(
        name=stage,
        use=str(identity.get("use", stage)),
        counts={str(key): value for key, value in counts.items() if isinstance(value, int)},
        tasks=list(_task_names(_settings(run, stage).get("tasks", []))),
        contamination=contamination if isinstance(contamination, dict) else None,
    )


def _task_names(tasks: Any) -> Iterator[str]:
    for task in tasks if isinstance(tasks, list) else ():
        if isinstance(task, Mapping):
            verifier = task.get("verifier")
            yield f"{task.get('use', '')}{f' ({verifier})' if isinstance(verifier, str) else ''}"
        else:
            yield str(task)


def _terms(stage_folder: Path) -> dict[str, Terms]:
    """The terms that a stage stored, of those teachers whose traces it kept."""
    terms = _read_terms(stage_folder / TERMS)
    samplers = (read_object(stage_folder / SUMMARY) or {}).get("samplers")
    if isinstance(samplers, dict):
        left = {label for label, row in samplers.items() if isinstance(row, dict) and not row.get("kept")}
        terms = {label: value for label, value in terms.items() if label not in left}
    return terms or {stage_folder.name: Terms(note="traces of a stage that stored no terms")}


def _terms_of_file(path: Path) -> dict[str, Terms]:
    place = path / TERMS if path.is_dir() else path.with_suffix(f".{TERMS}")
    if path.is_file() and not place.is_file():
        place = path.parent / TERMS
    if path.suffix == ".parquet" and path.is_file() and (packed := packed_terms(path)):
        return {label: Terms.model_validate(terms) for label, terms in packed.items()}
    return _read_terms(place) or {path.name: Terms(note="traces from a file that came without terms")}


def _read_terms(path: Path) -> dict[str, Terms]:
    found = read_object(path) or {}
    try:
        return {str(label): Terms.model_validate(value) for label, value in found.items()}
    except ValidationError as error:
        raise ResourceError("these are not the terms of teachers", where=str(path)) from error


def base_terms(base: str) -> Terms:
    """Terms of a model folder or a shipped model; a model of the hub is not looked up."""
    shipped = Path(ponder.__file__).parent / "pocket" / base
    for folder in (shipped, Path(base).expanduser()):
        if base not in ("", ".") and folder.is_dir():
            return terms_of_folder(folder)
    return UNKNOWN


def _scores(run: Path, stage: str, line: Iterable[str]) -> Iterator[Score]:
    """Whole results of every evaluation that this model takes part in."""
    known = set(line)
    for evaluation in find_evaluations(run):
        if not any(_is_of(evaluation.model_name(label), run, stage) for label in evaluation.labels):
            continue
        for row in model_rows(evaluation.answers()):
            name = evaluation.model_name(row["model"])
            own = _is_of(name, run, stage)
            beside = any(_is_of(name, run, other) for other in known)
            if row["skill"] is not None or row["steps"] is not None or row["task"] is not None or not (own or beside):
                continue
            where = f"{evaluation.stage}: {', '.join(_task_names(evaluation.plan.get('tasks', [])))}, {row['split']}"
            rate = None if row["withheld"] else row["accuracy"]
            shares = (row["low"], row["high"], row["truncated"], row["unknown"])
            yield Score(row["model"], own, where, row["n"], rate, *shares)


def _is_of(model: str, run: Path, stage: str) -> bool:
    """Whether a model is that of a stage: by its name in the run, or by its folder."""
    return model == stage or Path(model).parts[-3:] == (run.name, stage, "model")
