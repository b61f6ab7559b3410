"""What several teachers made of the same problems: how often each is right, by skill, and how far they agree.

A rate is counted over the samples that every problem was asked for. Where sampling stops early at problems that are
solved, these are the first samples of each problem, because the later ones are asked of the difficult problems only.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ponder.core.types import Finish, Json, Outcome, Trace
from ponder.measure.stats import Interval, clustered_rate, wilson

UNDECIDED = ("unknown", "error")
"""Kinds that are in no rate."""


class Reply(NamedTuple):
    """What is counted of one trace."""

    skill: str
    kind: str
    """`correct`, `wrong`, `unknown`, `truncated`, `refused` or `error`."""
    answer: str | None
    tokens: int


Replies = Mapping[str, Mapping[str, Sequence[Reply]]]
"""By teacher, then by problem, in the order of the samples."""


def skill_of(trace: Trace) -> str:
    """The skill that a problem names, or its task."""
    return str(trace.problem.meta.get("skill", trace.problem.task))


def kind_of(trace: Trace) -> str:
    """How a trace is counted."""
    kinds = {Finish.LENGTH: "truncated", Finish.REFUSED: "refused", Finish.ERROR: "error"}
    return kinds.get(trace.completion.finish, trace.verdict.outcome.value)


def replies_of(traces: Iterable[Trace], labels: Iterable[str]) -> dict[str, dict[str, list[Reply]]]:
    """The traces of every teacher, by problem."""
    found: dict[str, dict[str, list[Reply]]] = {label: defaultdict(list) for label in labels}
    for trace in traces:
        reply = Reply(skill_of(trace), kind_of(trace), trace.verdict.answer, trace.completion.usage.completion_tokens)
        found.setdefault(trace.sampler, defaultdict(list))[f"{trace.problem.task}\x1f{trace.problem.id}"].append(reply)
    return found


def teacher_rows(replies: Replies, first: int | None = None) -> dict[str, Json]:
    """Counts, tokens and rates of every teacher.

    Args:
        replies: Of all teachers.
        first: Only so many samples of each problem are in a rate; None takes all.
    """
    rows: dict[str, Json] = {}
    for label, problems in replies.items():
        counts = Counter(reply.kind for group in problems.values() for reply in group)
        skills: dict[str, list[Sequence[Reply]]] = defaultdict(list)
        for group in problems.values():
            skills[group[0].skill].append(group[:first])
        rows[label] = {
            "traces": sum(counts.values()),
            "verdicts": dict(sorted(counts.items())),
            "tokens": sum(reply.tokens for group in problems.values() for reply in group),
            "rate": _rate([group for groups in skills.values() for group in groups]),
            "skills": {skill: _rate(groups) for skill, groups in sorted(skills.items())},
        }
    return rows


def agreement(replies: Replies, first: int | None = None) -> Json | None:
    """How far teachers agree, problem by problem; None for fewer than two.

    Returns:
        `pairs`: for each pair the share of equal answers (n is the problems that both answered), and `solved`: how many
        problems all, some or none of the teachers solved with the same number of tries.
    """
    if len(replies) < 2:
        return None
    return {
        "pairs": [{"a": a, "b": b, **_agree(replies[a], replies[b], first)} for a, b in combinations(replies, 2)],
        "solved": _solved(replies, first),
    }


def _rate(groups: Sequence[Sequence[Reply]]) -> Json:
    """Share of right answers with its interval; what could not be judged is in no rate."""
    each = ([reply.kind == "correct" for reply in group if reply.kind not in UNDECIDED] for group in groups)
    judged = [group for group in each if group]
    right, n = [sum(group) for group in judged], [len(group) for group in judged]
    total = sum(n)
    interval = wilson(sum(right), total) if max(n, default=0) <= 1 else clustered_rate(np.array(right), np.array(n))
    return {"n": total, "problems": len(n), **_bounds(interval)}


def _bounds(interval: Interval) -> Json:
    if math.isnan(interval.estimate):
        return {"rate": None, "low": None, "high": None}
    return {
        "rate": round(interval.estimate, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)
    }  # fmt: skip


def _agree(one: Mapping[str, Sequence[Reply]], other: Mapping[str, Sequence[Reply]], first: int | None) -> Json:
    """Over problems, the mean chance that an answer of one equals an answer of the other."""
    shares: list[float] = []
    for problem in one.keys() & other.keys():
        pairs = [
            _same(a, b)
            for a in one[problem][:first]
            for b in other[problem][:first]
            if a.kind not in UNDECIDED and b.kind not in UNDECIDED
        ]
        if pairs:
            shares.append(sum(pairs) / len(pairs))
    return {"n": len(shares), "agree": round(math.fsum(shares) / len(shares), 4) if shares else None}


def _same(a: Reply, b: Reply) -> bool:
    """Equal answers: both right, however they are spelt, or both wrong in the same words; no answer equals none."""
    if "correct" in (a.kind, b.kind):
        return a.kind == b.kind
    if a.answer is None or b.answer is None:
        return False
    return a.answer.casefold().split() == b.answer.casefold().split()


def _solved(replies: Replies, first: int | None) -> Json:
    common = set.intersection(*(set(problems) for problems in replies.values()))
    counts: Counter[str] = Counter(all=0, some=0, none=0)
    for problem in common:
        solvers = sum(
            any(reply.kind == Outcome.CORRECT for reply in problems[problem][:first]) for problems in replies.values()
        )
        counts["all" if solvers == len(replies) else "some" if solvers else "none"] += 1
    return {"n": len(common), **counts}
