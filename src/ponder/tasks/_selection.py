"""Chooses problems from a file that may be larger than memory: the same ones for the same seed, none twice.

Every question has a key, the hash of its text without case and spacing. The key decides the split, so that
the halves are disjoint whatever the order of the rows and however many are added. The seed and the key give
a rank, and the lowest ranks are chosen: one pass, memory for the chosen only, and 10 problems are the first
10 of 100.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pydantic import JsonValue

from ponder.core.answers import worked_solution
from ponder.core.errors import DataError
from ponder.core.seeds import derive_seed
from ponder.core.types import Json, Message, Problem
from ponder.tasks._procedural import worked_response
from ponder.tasks._rows import RowReport

_log = logging.getLogger("ponder.tasks")
MISSING_GOLD = "no gold answer: kept, but every response to it is UNKNOWN"


class Draft(NamedTuple):
    """A row as a problem, before it is chosen."""

    line: int
    prompt: str | tuple[Message, ...]
    answer: JsonValue
    given_id: str | None
    meta: Json

    @property
    def key(self) -> int:
        """The same for questions that differ in case and spacing only."""
        turns = [self.prompt] if isinstance(self.prompt, str) else [f"{m.role}:{m.content}" for m in self.prompt]
        text = "\x1f".join(" ".join(turn.casefold().split()) for turn in turns)
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def in_test(key: int, share: float) -> bool:
    """Whether a question belongs to the test split, when that is a share of the file."""
    return derive_seed("split", key) < share * 2**63


def choose(
    report: RowReport, drafts: Iterator[Draft], belongs: Callable[[int], bool], limit: int, seed: int
) -> list[Draft]:
    """At most `limit` drafts that belong to a split, in the order of their ranks.

    Raises:
        DataError: If no row can be used, if two chosen questions have one id, or, under `error`, if a chosen
            question stands again with another answer.
    """
    kept: dict[int, Draft] = {}
    heap: list[int] = []
    usable = graded = 0
    for draft in drafts:
        usable += 1
        graded += draft.answer is not None
        key = draft.key
        rank = derive_seed(seed, "row", key)
        if not belongs(key) or limit < 1:
            continue
        if rank in kept:
            _count_repeat(report, kept[rank], draft)
        elif len(heap) < limit or rank < -heap[0]:
            kept[rank] = draft
            if len(heap) < limit:
                heapq.heappush(heap, -rank)
            else:
                del kept[-heapq.heapreplace(heap, -rank)]
    _refuse_nothing(report, usable, graded)
    chosen = [kept[rank] for rank in sorted(kept)]
    for draft in chosen:
        if draft.answer is None:
            report.count(draft.line, MISSING_GOLD)
    _refuse_equal_ids(report, chosen)
    if report.reasons:
        _log.warning("%s: of %s rows\n%s", report.path, f"{report.rows:,}", report.table)
    return chosen


def problem_of(draft: Draft, task: str, split: str) -> Problem:
    """A chosen draft as a problem; without an id of its own it is named by its question."""
    return Problem(
        id=draft.given_id or f"{task}-{draft.key:016x}",
        task=task,
        prompt=draft.prompt,
        answer=draft.answer,
        meta={"skill": task, "steps": None, **draft.meta, "split": split},
    )


def solved(text: str, *, verbatim: bool = False) -> tuple[str | None, str | None]:
    """(final answer, worked response) of a solution; either may be missing.

    A response that already reasons between tags, or that marks no answer, stays as it is; any other is brought
    into the form in which Ponder's own tasks answer.

    Args:
        text: An answer cell or an assistant's turn.
        verbatim: Keep a bare answer as a response too: it is somebody's demonstration.
    """
    reasoning, answer = worked_solution(text)
    if answer.text is None:
        return None, None
    if not reasoning:
        return answer.text, text.strip() if verbatim else None
    if answer.reason == "last line" or "</think>" in text:
        return answer.text, text.strip()
    return answer.text, worked_response([reasoning], f"The answer is {answer.text}.")


def _count_repeat(report: RowReport, first: Draft, draft: Draft) -> None:
    if first.answer == draft.answer:
        report.count(draft.line, "a question that stood before, left out")
    else:
        report.refuse(draft.line, "a question that stood before, with another answer")


def _refuse_nothing(report: RowReport, usable: int, graded: int) -> None:
    if not usable:
        raise report.nothing_left()
    if not graded:
        raise DataError(
            f"none of the {usable:,} rows has a gold answer",
            where=str(report.path),
            fix="name the column that holds it: answer: COLUMN",
        )


def _refuse_equal_ids(report: RowReport, chosen: list[Draft]) -> None:
    lines: dict[str, int] = {}
    for draft in sorted(chosen, key=lambda draft: draft.line):
        if draft.given_id is None:
            continue
        if draft.given_id in lines:
            raise DataError(
                f"two questions have one id (the other is on line {lines[draft.given_id]})",
                where=f"{report.path}:{draft.line}",
                fix="make the ids unique, or leave out the id column: questions are then named by their text",
            )
        lines[draft.given_id] = draft.line
