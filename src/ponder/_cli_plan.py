"""What `ponder plan` prints: every stage's rows, tokens, memory, disk, time and money, and what would stop the run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ponder._cli_tasks import printable
from ponder.core.types import Json
from ponder.report.table import align, significant
from ponder.runner import Planned
from ponder.runs.files import megabytes
from ponder.runs.log import duration
from ponder.stages._outlook import Refusal
from ponder.stages._stage import Estimate

HEAD = ("stage", "state", "rows", "tokens", "memory", "disk", "time", "from", "to", "money")
WIDTH = 118


def plan_json(planned: Sequence[Planned], folder: Path) -> Json:
    """The plan for machines; what is not known is null."""
    return {
        "run": str(folder),
        "stages": [_row(item) for item in planned],
        "total": _total(planned),
        "refusals": [
            {"stage": name, "what": r.what, "where": r.where, "fix": r.fix, "exit_code": r.exit_code}
            for name, r in refusals_of(planned)
        ],
    }


def plan_text(planned: Sequence[Planned], folder: Path) -> str:
    """The plan for people."""
    lines = [HEAD, *map(_cells, planned)]
    total = _total(planned)
    disk = megabytes(total["disk_bytes"])
    times = [duration(total[name]) for name in ("seconds", "low_seconds", "high_seconds")]
    cells = (f"{total['rows']:,}", f"{total['tokens']:,}", megabytes(total["memory_bytes"]), disk, *times)
    lines.append(("total", "", *cells, _money(total["money"], total["currency"])))
    parts = ["\n".join(align(lines, left=(0, 1)))]
    parts += ["\n".join(notes)] if (notes := _notes(planned)) else []
    parts += ["\n".join(_refusal_lines(name, each)) for name, each in refusals_of(planned)]
    return printable("\n\n".join([*parts, f"run folder: {folder}"]))


def refusals_of(planned: Sequence[Planned]) -> list[tuple[str, Refusal]]:
    """(stage, refusal) of everything that the run would stop for."""
    return [(item.name, each) for item in planned if item.estimate for each in item.estimate.refusals]


def plan_code(planned: Sequence[Planned]) -> int:
    """Exit code: that of the first refusal, 0 when there is none."""
    return next((each.exit_code for _, each in refusals_of(planned)), 0)


def _row(item: Planned) -> dict[str, Any]:
    row: dict[str, Any] = {"stage": item.name, "use": item.use, "state": item.state}
    if (cost := item.estimate) is None:
        return row
    low, high = _range(cost)
    return row | {
        "rows": cost.rows,
        "tokens": cost.tokens,
        "prompt_tokens": cost.prompt_tokens,
        "sampled_tokens": cost.sampled_tokens,
        "trained_tokens": cost.trained_tokens,
        "memory_bytes": cost.memory_bytes,
        "disk_bytes": cost.disk_bytes,
        "left_bytes": cost.left_bytes,
        "seconds": round(cost.seconds, 1),
        "low_seconds": round(low, 1),
        "high_seconds": round(high, 1),
        "joules": cost.joules,
        "money": None
        if cost.money is None
        else {
            **{name: getattr(cost.money, name) for name in ("low", "expected", "high")},
            "currency": cost.currency,
            "covers": cost.money_covers,
        },
        "probed": cost.probed,
        "note": cost.note,
    }


def _range(cost: Estimate) -> tuple[float, float]:
    low = cost.seconds if cost.low_seconds is None else cost.low_seconds
    return low, cost.seconds if cost.high_seconds is None else cost.high_seconds


def _total(planned: Sequence[Planned]) -> dict[str, Any]:
    """Stages run one after the other: time, disk and money add, of memory the most counts."""
    costs = [item.estimate for item in planned if item.estimate is not None and item.state != "done"]
    currencies = {cost.currency for cost in costs if cost.money is not None}
    known = bool(costs) and all(cost.money is not None for cost in costs) and len(currencies) == 1
    return {
        "rows": sum(cost.rows for cost in costs),
        "tokens": sum(cost.tokens for cost in costs),
        "memory_bytes": max((cost.memory_bytes for cost in costs), default=0),
        "disk_bytes": sum(cost.left_bytes for cost in costs)
        + max((cost.disk_bytes - cost.left_bytes for cost in costs), default=0),
        "seconds": round(sum(cost.seconds for cost in costs), 1),
        "low_seconds": round(sum(_range(cost)[0] for cost in costs), 1),
        "high_seconds": round(sum(_range(cost)[1] for cost in costs), 1),
        "money": sum(cost.money.expected for cost in costs if cost.money is not None) if known else None,
        "currency": next(iter(currencies)) if known else None,
    }


def _cells(item: Planned) -> tuple[str, ...]:
    cost = item.estimate
    if cost is None or item.state == "done":
        return (item.name, item.state, *("-" for _ in HEAD[2:]))
    low, high = _range(cost)
    money = None if cost.money is None else cost.money.expected
    return (
        item.name,
        item.state,
        f"{cost.rows:,}",
        f"{cost.tokens:,}",
        megabytes(cost.memory_bytes),
        megabytes(cost.disk_bytes),
        *(duration(seconds) for seconds in (cost.seconds, low, high)),
        _money(money, cost.currency),
    )


def _money(amount: float | None, currency: str | None) -> str:
    return "unknown" if amount is None else f"{currency} {significant(amount)}"


def _notes(planned: Sequence[Planned]) -> list[str]:
    """What each stage's figures rest on, and the range of its money."""
    lines: list[str] = []
    for item in planned:
        if (cost := item.estimate) is None or item.state == "done":
            continue
        note = cost.note
        if cost.money is not None and cost.money.high > cost.money.low:
            low, high = significant(cost.money.low), significant(cost.money.high)
            note += f"; {cost.currency} {low} to {high} for {cost.money_covers}"
        if note:
            lines += textwrap.wrap(f"{item.name}: {note}", WIDTH, subsequent_indent="    ")
    return lines


def _refusal_lines(stage: str, refusal: Refusal) -> list[str]:
    lines = [f"would be refused, {stage}: {refusal.what}"]
    lines += [f"  where: {refusal.where}"] if refusal.where else []
    return lines + ([f"  fix:   {refusal.fix}"] if refusal.fix else [])
