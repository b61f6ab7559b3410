"""Foreign responses become traces: judged again by the verifier of the task that is named, and never assumed right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ponder.core.errors import DataError, PonderError
from ponder.core.protocols import Task
from ponder.core.types import Outcome, Trace, Verdict
from ponder.learn.rollout import judge
from ponder.stages._tasks import verifiers_of
from ponder.stages._traces.forms import FORMS, checked_form, detected, gold_column
from ponder.stages._traces.reading import Response, responses
from ponder.tasks._rows import BadRow, BadRowPolicy, Row, RowReport, made
from ponder.tasks._sources import file_source

PROBED_ROWS = 100
"""Rows whose columns decide the form."""
NO_GOLD = "no gold answer"
TRUSTED = "trusted, not verified"
DENIED = "wrong according to the set, not verified"
CLAIMED = "claimed_correct"
"""In `Trace.parts`: 1 when the set says that the response is right, 0 when it says that it is wrong."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is read."""

    form: str
    gold: str | None
    """Column of the gold answer."""


def layout_of(path: Path, form: str, gold: str | None) -> Layout:
    """The layout of a file: as named, or `auto` as its columns say.

    Raises:
        DataError: If the columns fit no form or several, or the gold could be in several.
        PonderError: If no row can be read.
        ResourceError: If the file cannot be read.
    """
    source = file_source(path, "skip")
    columns = dict.fromkeys(key for row in islice(source.rows, PROBED_ROWS) for key in row.data)
    if not columns:
        nothing = source.report.nothing_left()
        raise PonderError(nothing.what, where=nothing.where, fix=nothing.fix)
    chosen = detected(columns, str(path)) if form == "auto" else checked_form(form, FORMS, "--from")
    return Layout(chosen, gold_column(chosen, columns, gold, str(path)))


def imported(
    path: Path,
    layout: Layout,
    tasks: Mapping[str, Task],
    policy: BadRowPolicy,
    *,
    sampler: str = "",
    trust: bool = False,
) -> tuple[RowReport, Iterator[Trace]]:
    """The traces of a file, streamed, and the report that counts its bad rows as they are met.

    Args:
        path: A local file: JSONL, JSON, CSV or Parquet.
        layout: How it is read.
        tasks: Opened; rows that do not name one belong to the only one.
        policy: Stop at a bad row, or skip and count it.
        sampler: Who wrote the responses of rows that do not say.
        trust: Responses that cannot be judged count as right, and say that nobody verified them.

    Raises:
        DataError: While streaming, at a bad row under the policy `error`.
    """
    verifiers = verifiers_of(tasks)
    only = next(iter(tasks)) if len(tasks) == 1 else ""
    source = file_source(path, policy)

    def make(row: Row) -> list[Trace]:
        found = responses(row.data, layout.form, layout.gold, only, row.line)
        for response in found:
            if response.problem.task not in verifiers:
                raise BadRow("its task is not the one that was named" if response.problem.task else "it names no task")
        return [_judged(response, verifiers[response.problem.task], sampler, trust=trust) for response in found]

    def traces() -> Iterator[Trace]:
        try:
            for _, several in made(source.report, source.rows, make):
                yield from several
        except DataError as error:
            fix = "mend the row, or add --on-bad skip" if "on_bad_row" in error.fix else error.fix
            raise DataError(error.what, where=error.where, fix=fix) from error

    return source.report, traces()


def _judged(response: Response, verifier: object, sampler: str, *, trust: bool) -> Trace:
    problem, completion = response.problem, response.completion
    if problem.answer is None and not response.ours:
        trace = Trace(problem=problem, completion=completion, verdict=Verdict.unknown(NO_GOLD))
    else:
        trace = judge(problem, completion, verifier, {})  # type: ignore[arg-type]  # a verifier, by its task
    verdict = trace.verdict
    if trust and verdict.outcome is Outcome.UNKNOWN:
        verdict = Verdict.correct(verdict.answer, TRUSTED)
        if response.claimed is False:
            verdict = Verdict.wrong(verdict.answer, DENIED)
    parts = dict(response.parts)
    if response.claimed is not None:
        parts[CLAIMED] = float(response.claimed)
    return trace.model_copy(update={"verdict": verdict, "parts": parts, "sampler": response.sampler or sampler})
