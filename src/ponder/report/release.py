"""What a release gate found, side by side: for a terminal, for the page, and as the card of what is shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

import ponder
from ponder.core.errors import ResourceError
from ponder.core.types import Json
from ponder.measure.release import Finding, Judged, Release
from ponder.report.card import Facts, Form, Score, model_card
from ponder.report.evaluations import read_object
from ponder.report.provenance import IDENTITY, base_terms, facts_of
from ponder.report.table import align, percent, plain, quantity, significant

RELEASE = "release.json"
HEAD = (
    "form", "gate", "accuracy", "difference", "95 % interval", "nats", "same token", "size", "memory", "tokens/s",
    "batched", "first token",
)  # fmt: skip
FAILURES = 10
"""Worst answers that a terminal is shown."""
EXCERPT = 70


def release_of(stage_folder: Path) -> Release | None:
    """The record of a stage that went through the gate.

    Raises:
        ResourceError: If it is damaged.
    """
    found = read_object(stage_folder / RELEASE)
    if found is None:
        return None
    try:
        return Release.model_validate(found)
    except ValidationError as error:
        raise ResourceError("this is not the record of a release", where=str(stage_folder / RELEASE)) from error


def release_cells(release: Release) -> list[tuple[str, ...]]:
    """A row for the trained model and for each artefact; see `HEAD`."""
    model = release.model
    first = ("trained", "", percent(model.accuracy), "", "", "", "", quantity(model.bytes, "B"), *_speed(model.speed))
    return [first, *(_cells(artefact) for artefact in release.artefacts)]


def release_lines(release: Release) -> list[str]:
    """The table for a terminal, and what was not to be seen."""
    lines = align([HEAD, *release_cells(release)], left=(0, 1))
    for artefact in release.artefacts:
        lines += [f"{artefact.form}: {_said(finding)}" for finding in artefact.findings if finding.passed is None]
    return lines


def failed_lines(release: Release, worst: Mapping[str, Sequence[Json]]) -> list[str]:
    """Why artefacts were refused, and the answers that went wrong.

    Args:
        release: The record.
        worst: Rows of the worst answers by form.
    """
    lines: list[str] = []
    for artefact in release.artefacts:
        lines += [f"{artefact.form} refused: {_said(finding)}" for finding in artefact.broken]
        if artefact.broken:
            lines += [_excerpt(row) for row in worst.get(artefact.form, ())[:FAILURES]]
    return lines


def unclear_terms(stage_folder: Path, model: str) -> list[str]:
    """Why a model may not be passed on without a person's word: a sentence for each licence that is unknown or forbids.

    Args:
        stage_folder: Of the release.
        model: As its settings name it.
    """
    facts = _origin(stage_folder, model)
    found = []
    if facts.base_terms.training == "unknown":
        licence = facts.base_terms.licence
        said = "no licence that could be found" if licence is None else f"the licence {licence!r}, unknown here"
        found.append(f"the base model {facts.base} has {said}")
    for label, terms in facts.teachers.items():
        if terms.training == "unknown":
            found.append(f"nothing says whether the answers of the teacher {label} may be learnt from")
        elif terms.training == "forbidden":
            found.append(f"the teacher {label}: {terms.note or 'its answers must not be learnt from'}")
    return found


def release_card(stage_folder: Path, release: Release) -> str:
    """The model card of what is shipped: where the model comes from, its scores, and what each form lost."""
    return model_card(_facts(stage_folder, release))


def _facts(stage_folder: Path, release: Release) -> Facts:
    settings = (read_object(stage_folder / IDENTITY) or {}).get("settings", {})
    facts = _origin(stage_folder, str(settings.get("model", release.model.name)))
    own = [] if any(score.own for score in facts.scores) else [_score(release)]
    forms = [_form(artefact) for artefact in release.artefacts if artefact.passed]
    return replace(facts, name=release.model.name, scores=[*facts.scores, *own], forms=forms)


def _origin(stage_folder: Path, model: str) -> Facts:
    """Where a model comes from: an earlier stage, a folder that a stage wrote, or a base model."""
    places = (stage_folder.resolve().parent / model, Path(model).expanduser().resolve().parent)
    maker = next((place for place in places if (place / IDENTITY).is_file()), None)
    if maker is not None:
        return facts_of(maker)
    return Facts(name=model, base=model, base_terms=base_terms(model), version=ponder.__version__)


def _score(release: Release) -> Score:
    model, asked = release.model, release.asked
    where = f"release: {', '.join(map(str, asked.get('tasks', ())))}, {', '.join(asked.get('splits', ()))}"
    return Score("trained", True, where, model.n, model.accuracy, model.low, model.high, model.truncated)


def _form(artefact: Judged) -> Form:
    return Form(
        name=artefact.file,
        bytes=artefact.bytes,
        n=int(artefact.fact("accuracy", "n") or 0),
        accuracy=artefact.fact("accuracy", "accuracy"),
        difference=artefact.fact("accuracy", "difference"),
        low=artefact.fact("accuracy", "difference_low"),
        high=artefact.fact("accuracy", "difference_high"),
        nats=artefact.fact("divergence", "mean_nats"),
        agreement=artefact.fact("divergence", "agreement"),
        joules=artefact.joules_per_answer,
        memory_bytes=artefact.speed.get("memory_bytes"),
    )


def _cells(artefact: Judged) -> tuple[str, ...]:
    difference = artefact.fact("accuracy", "difference")
    low, high = (artefact.fact("accuracy", f"difference_{side}") for side in ("low", "high"))
    return (
        artefact.form,
        "passed" if artefact.passed else ", ".join(dict.fromkeys(finding.name for finding in artefact.broken)),
        percent(artefact.fact("accuracy", "accuracy")),
        "" if difference is None else f"{100 * difference:+.1f}",
        "" if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f}",
        significant(artefact.fact("divergence", "mean_nats")),
        percent(artefact.fact("divergence", "agreement")),
        quantity(artefact.bytes, "B"),
        *_speed(artefact.speed),
    )


def _speed(speed: Json) -> tuple[str, str, str, str]:
    first = speed.get("first_token_seconds")
    return (
        quantity(speed.get("memory_bytes"), "B"),
        quantity(speed.get("tokens_per_second")),
        quantity(speed.get("tokens_per_second_batched")),
        "" if first is None else f"{1000 * first:.1f} ms",
    )


def _said(finding: Finding) -> str:
    return f"{finding.name}: {plain(finding.text, 300)}"


def _excerpt(row: Json) -> str:
    lost = "lost" if row.get("lost") else "loops" if row.get("loop") else "differs"
    before, after = (plain(str(row.get(side, ""))[-EXCERPT:], EXCERPT) for side in ("trained", "artefact"))
    return f"  {lost} {plain(row.get('id', ''))}: trained ...{before!r}, artefact ...{after!r}"
