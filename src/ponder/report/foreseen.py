"""What a run was expected to take, beside what it took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ponder.core.types import Json
from ponder.report.table import quantity, significant
from ponder.runs.log import duration
from ponder.runs.plan import PlanEntry, read_plan

HEAD = ("stage", "time", "memory", "prompt", "sampled", "trained", "disk", "money")
FIGURES = ("seconds", "peak_memory_bytes", "prompt", "sampled", "trained", "disk_bytes", "money")
TOKENS = ("prompt", "sampled", "trained")


def foreseen_rows(run_folder: Path, spent: Sequence[Json]) -> list[Json]:
    """A row per stage that was planned and has been at work.

    Args:
        run_folder: With `plan.json`; without one there are no rows.
        spent: What the stages used up, as `stage_rows` has it.

    Returns:
        `stage`, `state` (of its last attempt), `probed`, and per figure `predicted`, `measured` and `error`: how much
        more was predicted than measured, as a share of the measured; None where either is not known. `seconds` has
        `low` and `high` too, and `inside`: whether the duration was between them.
    """
    used = {row["stage"]: row for row in spent}
    return [
        _row(entry, used[entry.stage], run_folder / entry.stage)
        for entry in read_plan(run_folder)
        if entry.stage in used
    ]


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def cells(row: Json) -> tuple[str, ...]:
    """A row for people: predicted / measured (error)."""
    figures = row["figures"]
    shown = [_cell(figures["seconds"], duration), _cell(figures["peak_memory_bytes"], _bytes)]
    shown += [_cell(figures[name], lambda count: f"{count:,.0f}") for name in TOKENS]
    shown += [_cell(figures["disk_bytes"], _bytes)]
    money = figures["money"]
    shown.append(_cell(money, lambda amount: f"{money['currency']} {significant(amount)}"))
    return (row["stage"], *shown)


def note(rows: Sequence[Json]) -> str:
    """How often the range held, in a line."""
    done = [row for row in rows if row["state"] == "done" and row["figures"]["seconds"]["inside"] is not None]
    held = sum(row["figures"]["seconds"]["inside"] for row in done)
    tried = sum(row["probed"] for row in rows)
    text = f"predicted / measured (error); {tried} of {len(rows)} stages were tried out before"
    return f"{text}; the time was in its range in {held} of {len(done)}" if done else text


def _row(entry: PlanEntry, spent: Json, folder: Path) -> Json:
    measured = {
        "seconds": spent["seconds"],
        "peak_memory_bytes": spent["peak_memory_bytes"],
        **{name: spent["tokens"].get(name) for name in TOKENS},
        "disk_bytes": folder_bytes(folder) if folder.is_dir() else None,
        "money": spent["money"] if spent["currency"] == entry.currency else None,
    }
    predicted = {
        **{name: getattr(entry, name) for name in ("seconds", "peak_memory_bytes", "disk_bytes", "money")},
        **{name: entry.tokens.get(name) for name in TOKENS},
    }
    figures: Json = {
        name: {
            "predicted": predicted[name],
            "measured": measured[name],
            "error": error(predicted[name], measured[name]),
        }
        for name in FIGURES
    }
    low, high = entry.low_seconds, entry.high_seconds
    inside = None if low is None or high is None else low <= spent["seconds"] <= high
    figures["seconds"] |= {"low": low, "high": high, "inside": inside}
    figures["money"] |= {"currency": entry.currency}
    return {"stage": entry.stage, "state": spent["state"], "probed": entry.probed, "figures": figures}


def error(predicted: float | None, measured: float | None) -> float | None:
    """How much more was predicted, as a share of what was measured.

    Example:
        >>> error(8, 10), error(None, 10), error(0, 0), error(5, 0)
        (-0.2, None, 0.0, None)
    """
    if predicted is None or measured is None:
        return None
    if measured == 0:
        return 0.0 if predicted == 0 else None
    return predicted / measured - 1


def _cell(figure: Json, shown: object) -> str:
    predicted, measured, share = figure["predicted"], figure["measured"], figure["error"]
    if not predicted and not measured:
        return "-"
    assert callable(shown)
    text = f"{'?' if predicted is None else shown(predicted)} / {'?' if measured is None else shown(measured)}"
    return text if share is None else f"{text} ({100 * share:+.0f} %)"


def _bytes(count: float) -> str:
    return quantity(count, "B")
