"""What `ponder ledger` prints: what a run used up, by stage or by answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ponder.core.types import Json
from ponder.measure.costs.prices import price_sheet
from ponder.report import foreseen
from ponder.report.foreseen import foreseen_rows
from ponder.report.ledgers import answer_line, answer_rows, stage_rows, whole_run
from ponder.report.table import align, plain, printable, quantity, significant
from ponder.runs.log import duration

HEAD = ("stage", "attempts", "time", "CPU time", "memory", "prompt", "sampled", "trained", "energy", "money")


def show_ledger(run: Path, prices: Path | None, *, answers: bool, as_json: bool) -> None:
    """Print what each stage used up over all its attempts, or what each answer did."""
    sheet = price_sheet(prices)
    if answers:
        for row in answer_rows(run, sheet):
            print(answer_line(row))
        return
    rows = stage_rows(run, sheet)
    planned = foreseen_rows(run, rows)
    if as_json:
        found = {"run": run.resolve().name, "stages": rows, "total": whole_run(rows), "foreseen": planned}
        print(json.dumps(found, allow_nan=False))
        return
    if not rows:
        print("no stage of this run has a ledger")
        return
    shown = [*rows, whole_run(rows)] if len(rows) > 1 else rows
    print(printable("\n".join([*align([HEAD, *map(_cells, shown)]), "", *_notes(rows)])))
    if planned:
        lines = align([foreseen.HEAD, *(tuple(map(plain, foreseen.cells(row))) for row in planned)])
        print(printable("\n".join(["", *lines, "", foreseen.note(planned)])))


def _cells(row: Json) -> tuple[str, ...]:
    tokens = row["tokens"]
    net = row["joules"] if row["net_joules"] is None else row["net_joules"]
    mark = {"measured": "", None: ""}.get(row["energy_origin"], " *")
    return (
        plain(row["stage"]),
        str(row["attempts"]),
        duration(row["seconds"]),
        duration(row["cpu_seconds"]),
        quantity(row["peak_memory_bytes"], "B"),
        *(f"{tokens[name]:,}" for name in ("prompt", "sampled", "trained")),
        "unknown" if net is None else f"{significant(net)} J{mark}",
        "unknown" if row["money"] is None else f"{row['currency']} {significant(row['money'])}",
    )


def _notes(rows: Sequence[Json]) -> list[str]:
    entries = [entry for row in rows for entry in row["energy"]]
    said = {f"{e['source']} ({e['covers']}), {e['origin']}: {e['assumption']}": None for e in entries}
    notes = [f"energy: {words}" for words in said]
    if any(row["energy_origin"] in ("estimated", "mixed") for row in rows):
        notes.append("* estimated, in whole or in part")
    if any(row["net_joules"] is not None for row in rows):
        notes.append("idle power is taken off where it is known")
    covers = sorted({part for row in rows for part in row["money_covers"]})
    if covers:
        notes.append(f"money: {', '.join(covers)}; {rows[0]['money_origin']}")
    else:
        notes.append("money: unknown; a price sheet with a row for `machine` gives it (--prices)")
    return notes
