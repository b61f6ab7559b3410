"""The tables of docs/shipping.md, written from the records of releases that are stored in docs/results/releases."""

from __future__ import annotations

import json
from pathlib import Path

from ponder.measure.release import Judged, Origin, Release

ROOT = Path(__file__).resolve().parent / "results" / "releases"
HEAD = (
    "form", "size", "right", "against the trained model (points)", "nats", "same token", "memory", "tokens/s",
    "batched", "first token",
)  # fmt: skip


def release_table(name: str) -> str:
    """A release as a Markdown table, the trained model first."""
    release = Release.model_validate_json((ROOT / f"{name}.json").read_bytes())
    rows = [_trained(release.model), *_transformers(ROOT / f"{name}.transformers.json")]
    rows += map(_artefact, release.artefacts)
    lines = ["| " + " | ".join(HEAD) + " |", "|---|" + "--:|" * (len(HEAD) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _trained(model: Origin) -> tuple[str, ...]:
    right = "-" if model.accuracy is None else f"{100 * model.accuracy:.1f} % of {model.n}"
    return ("trained, Ponder's engine", _megabytes(model.bytes), right, "", "", "", *_speed(model.speed))


def _transformers(path: Path) -> list[tuple[str, ...]]:
    """The same model in transformers, as `python -m benchmarks.shipping` measured it."""
    if not path.is_file():
        return []
    return [("trained, transformers", "", "", "", "", "", *_speed(json.loads(path.read_bytes())))]


def _artefact(one: Judged) -> tuple[str, ...]:
    right, difference = one.fact("accuracy", "accuracy"), one.fact("accuracy", "difference")
    low, high = one.fact("accuracy", "difference_low"), one.fact("accuracy", "difference_high")
    nats, same = one.fact("divergence", "mean_nats"), one.fact("divergence", "agreement")
    gate = "" if one.passed else " (refused: " + ", ".join(finding.name for finding in one.broken) + ")"
    return (
        one.form + gate,
        _megabytes(one.bytes),
        "-" if right is None else f"{100 * right:.1f} %",
        "-" if None in (difference, low, high) else f"{100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
        "-" if nats is None else f"{nats:.1e}",
        "-" if same is None else f"{100 * same:.1f} %",
        *_speed(one.speed),
    )


def _speed(speed: dict[str, float]) -> tuple[str, str, str, str]:
    if not speed:
        return ("-", "-", "-", "-")
    return (
        _megabytes(speed["memory_bytes"]),
        f"{speed['tokens_per_second']:,.0f}",
        f"{speed['tokens_per_second_batched']:,.0f}",
        f"{1000 * speed['first_token_seconds']:.0f} ms",
    )


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e8 else f"{count / 1e6:,.0f} MB"
