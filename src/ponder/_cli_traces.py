"""What `ponder traces export` and `ponder traces import` do."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ponder._cli_tasks import printable
from ponder._recipe_yaml import parse_yaml
from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Task
from ponder.core.types import Json, Trace
from ponder.measure.terms import terms_of_licence
from ponder.runs.files import write_atomic
from ponder.stages._tasks import open_tasks, single_turn
from ponder.stages._traces.choosing import refusal
from ponder.stages._traces.files import (
    check_suffix,
    read_traces,
    row_of,
    stored_terms,
    terms_file,
    traces_file,
    write_rows,
)
from ponder.stages._traces.forms import EXPORTS, checked_form
from ponder.stages._traces.importing import NO_GOLD, TRUSTED, Layout, imported, layout_of
from ponder.stages._traces.writing import check_reasoning, exported, write_export

POLICIES = {"stop": "error", "skip": "skip"}


class Import(NamedTuple):
    """What the user says about a foreign file."""

    task: str
    form: str = "auto"
    answer: str | None = None
    sampler: str = ""
    licence: str | None = None
    on_bad: str = "stop"
    trust: bool = False
    sets: Sequence[str] = ()
    """Settings of the task, KEY=VALUE."""


def export_traces(
    source: Path, form: str, kind: str | None, out: Path, reasoning: Any, *, everything: bool, as_json: bool
) -> None:
    """Write traces in the form of another tool.

    Raises:
        PonderError: If nothing is left to write.
        ConfigurationError: If a flag makes no sense.
    """
    checked_form(form, EXPORTS, "--to")
    check_reasoning(form, reasoning)
    _check_kind(kind, out)
    path = traces_file(source)
    if out.exists() and out.samefile(path):
        raise ConfigurationError("this would overwrite the traces themselves", where=str(out), fix="name another file")
    left_out: Counter[str] = Counter()
    rows = (exported(trace, form, reasoning) for trace in _wanted(read_traces(path), left_out, everything=everything))
    first = next(rows, None)
    table = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
    if first is None:
        raise PonderError(
            f"0 traces are exported: {table or 'the file is empty'}",
            where=str(path),
            fix="" if everything else "add --all to export the others too",
        )
    count = write_export(out, _chained(first, rows), form, reasoning)
    if terms := stored_terms(path):
        write_atomic(terms_file(out), json.dumps(terms, indent=2).encode() + b"\n")
    if as_json:
        print(json.dumps({"out": str(out), "form": form, "traces": count, "left_out": dict(left_out)}))
        return
    table = ", ".join(f"{number:,} {reason}" for reason, number in left_out.most_common())
    print(printable(f"{count:,} traces written to {out} as {form}; left out: {table or 'none'}"))
    for label, each in terms.items():
        if each.get("training") != "allowed":
            print(printable(f"terms of {label}: {each.get('training', 'unknown')}. {each.get('note', '')}".rstrip()))


def import_traces(path: Path, out: Path, given: Import, *, as_json: bool) -> None:
    """Read the traces of another tool, judge them again, and write them.

    Raises:
        DataError: If the form or the gold's column is not clear, or at a bad row when told to stop there.
        PonderError: If no row can be used; shows the table.
    """
    check_suffix(out)
    if out.exists() and out.samefile(path):
        raise ConfigurationError("this would overwrite what is imported", where=str(out), fix="name another file")
    if given.on_bad not in POLICIES:
        raise ConfigurationError(f"there is no {given.on_bad!r}", where="--on-bad", fix="choose stop or skip")
    tasks = _tasks(given, path)
    layout = layout_of(path, given.form, given.answer)
    print(printable(f"{path}: read as {_described(layout)}"), file=sys.stderr)
    policy: Any = POLICIES[given.on_bad]
    report, traces = imported(path, layout, tasks, policy, sampler=given.sampler, trust=given.trust)
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    first = next(traces, None)
    if first is None:
        raise PonderError(f"0 of {report.rows:,} rows can be used\n{report.table}".rstrip(), where=str(path))
    rows = (row_of(_counted(trace, counts, reasons)) for trace in _chained(first, traces))
    written = write_rows(out, rows)
    if given.licence is not None:
        terms = {given.sampler: terms_of_licence(given.licence, "settings").model_dump()}
        write_atomic(terms_file(out), json.dumps(terms, indent=2).encode() + b"\n")
    skipped = sum(report.reasons.values())
    if as_json:
        found = {"form": layout.form, "gold": layout.gold, "rows": report.rows, "skipped": dict(report.reasons)}
        print(json.dumps({"out": str(out), **found, "traces": written, "verdicts": dict(counts)}))
        return
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
    print(printable(f"{written:,} traces of {report.rows:,} rows written to {out}: {shown}"))
    if skipped:
        print(printable(f"skipped {skipped:,} rows:\n{report.table}"))
    if reasons[NO_GOLD]:
        print(f"{reasons[NO_GOLD]:,} have no gold answer: they are UNKNOWN and will not be learnt from")
    if reasons[TRUSTED]:
        print(f"{reasons[TRUSTED]:,} count as right because --trust says so; nobody verified them")


def _described(layout: Layout) -> str:
    gold = f"the gold answer in {layout.gold!r}" if layout.gold is not None else "without gold answers"
    return f"{layout.form}, {gold} (--from and --answer say otherwise)"


def _counted(trace: Trace, counts: Counter[str], reasons: Counter[str]) -> Trace:
    counts[trace.verdict.outcome.value] += 1
    reasons[trace.verdict.reason] += trace.verdict.reason in (NO_GOLD, TRUSTED)
    return trace


def _wanted(traces: Iterable[Trace], left_out: Counter[str], *, everything: bool) -> Iterator[Trace]:
    for trace in traces:
        reason = refusal(trace)
        if reason is None or (everything and trace.completion.text.strip()):
            yield trace
        else:
            left_out[reason] += 1


def _chained(first: Any, rest: Iterable[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _check_kind(kind: str | None, out: Path) -> None:
    if kind not in (None, "jsonl", "parquet"):
        raise ConfigurationError(f"there is no format {kind!r}", where="--format", fix="choose jsonl or parquet")
    check_suffix(out, (f".{kind}",) if kind is not None else (".jsonl", ".parquet"))


def _tasks(given: Import, path: Path) -> dict[str, Task]:
    """The named task with its settings; one that needs a file gets the imported one, of which it reads nothing."""
    config: Json = {"use": given.task}
    for item in given.sets:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {item!r} is not KEY=VALUE")
        config[key], _ = parse_yaml(text.encode(), f"--set {key}", mapping=False)
    if given.task != "skills":
        fields = getattr(load_plugin("tasks", given.task), "model_fields", {})
        if "path" in fields and fields["path"].is_required():
            config.setdefault("path", str(path))
    return single_turn(open_tasks([config]))
