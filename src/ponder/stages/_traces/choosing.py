"""Choosing among traces, a pure step at a time: what each step leaves out is counted under its reason.

Every function takes traces in order and gives back those that stay, in the same order.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from pydantic import Field

from ponder.core.seeds import derive_seed
from ponder.core.types import Finish, Outcome, Problem, Record, Trace
from ponder.measure.duplicates import LEAST, most_different, repeats
from ponder.measure.mixture import quotas

Policy = Literal["all", "shortest", "diverse"]
PASS_RATE, LOSS, RANK = "pass_rate", "student_loss", "rank"
"""Names in `Trace.parts`: the student's share of right answers to the problem, its mean loss on this trace (nats per
token), and the place in the order of a curriculum, from 0."""


class Mix(Record):
    """Which traces a student of its size can learn from, and in which proportions.

    Small students gain less from long reasoning and from the strongest teachers than from short reasoning and teachers
    nearer to their size; a fifth of the difficult kind beside four fifths of the easy kind did better than either.

    Source:
        Li et al. 2025, "Small Models Struggle to Learn from Strong Reasoners" (arXiv:2502.12143), sections 3 and 4.
    """

    long_share: float | None = Field(default=None, ge=0.0, le=1.0)
    """Share of long responses; the paper's is 0.2. None mixes no lengths."""
    long_words: int | None = Field(default=None, ge=1)
    """A response with more words is long; None takes the median."""
    teachers: dict[str, float] = Field(default={})
    """Share of every teacher by the label on its traces, such as {large: 0.2, medium: 0.8}; others are left out."""
    drop_hardest: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the traces that is left out because the student finds them least likely (highest mean loss)."""
    max_student_loss: float | None = Field(default=None, gt=0.0)
    """Leave out traces above this mean loss, in nats per token."""


class Dropped:
    """What was left out, by reason and by teacher."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.reasons: Counter[str] = Counter()
        self.samplers: dict[str, Counter[str]] = defaultdict(Counter)

    def because(self, reason: str, traces: Iterable[Trace]) -> None:
        """Count traces under a reason."""
        for trace in traces:
            self.reasons[reason] += 1
            self.samplers[trace.sampler][reason] += 1

    def split(self, traces: Sequence[Trace], reason_of: Callable[[Trace], str | None]) -> list[Trace]:
        """The traces without a reason to leave them out."""
        kept: list[Trace] = []
        for trace in traces:
            reason = reason_of(trace)
            if reason is None:
                kept.append(trace)
            else:
                self.because(reason, (trace,))
        return kept

    @property
    def table(self) -> str:
        """The reasons with their counts, the most frequent first."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())


def refusal(trace: Trace) -> str | None:
    """Why a trace teaches nothing by itself, or None."""
    finish = trace.completion.finish
    if finish is not Finish.STOP:
        return {Finish.LENGTH: "truncated", Finish.REFUSED: "refused"}.get(finish, "error")
    if not trace.completion.text.strip():
        return "empty"
    return None if trace.verdict.outcome is Outcome.CORRECT else trace.verdict.outcome.value


def words_of(trace: Trace) -> int:
    """Words of a response, thinking included."""
    return len(trace.completion.text.split())


def question_of(problem: Problem) -> str:
    """A question as it is compared: all turns, without case and spacing."""
    return "\x1f".join(" ".join(f"{m.role} {m.content}".casefold().split()) for m in problem.messages)


def pooled(traces: Sequence[Trace], dropped: Dropped, near: float | None = None) -> list[Trace]:
    """Traces of one question share one problem, whatever file they came from.

    Questions that stand with two different gold answers are left out (`other_gold`): one of them is wrong. Questions
    that are nearly an earlier one are left out (`near_problem`). Two questions of one id get different ids.
    """
    questions: dict[str, list[Problem]] = defaultdict(list)
    keys = [question_of(trace.problem) for trace in traces]
    for key, trace in zip(keys, traces, strict=True):
        if all(trace.problem != other for other in questions[key]):
            questions[key].append(trace.problem)
    chosen: dict[str, Problem | str] = {}
    taken: dict[tuple[str, str], str] = {}
    for key, problems in questions.items():
        golds = {json.dumps(p.answer, sort_keys=True) for p in problems if p.answer is not None}
        chosen[key] = "other_gold" if len(golds) > 1 else _named(next(iter(_graded(problems))), key, taken)
    if near is not None:
        staying = [key for key, problem in chosen.items() if isinstance(problem, Problem)]
        for key, first in zip(staying, repeats(staying, near), strict=True):
            if first is not None:
                chosen[key] = "near_problem"
    kept: list[Trace] = []
    for key, trace in zip(keys, traces, strict=True):
        problem = chosen[key]
        if isinstance(problem, str):
            dropped.because(problem, (trace,))
        else:
            kept.append(trace if problem == trace.problem else trace.model_copy(update={"problem": problem}))
    return kept


def without_repeats(traces: Sequence[Trace], dropped: Dropped, near: float | None = LEAST) -> list[Trace]:
    """Of responses to one problem that say the same, the first."""
    kept: set[int] = set()
    for places in grouped(traces).values():
        texts = [traces[place].completion.text for place in places]
        for place, first in zip(places, repeats(texts, near), strict=True):
            if first is None:
                kept.add(place)
            else:
                same = texts[first] == traces[place].completion.text
                dropped.because("same_response" if same else "near_response", (traces[place],))
    return [trace for place, trace in enumerate(traces) if place in kept]


def grouped(traces: Sequence[Trace]) -> dict[tuple[str, str], list[int]]:
    """Places of the traces of every problem."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, trace in enumerate(traces):
        groups[trace.problem.task, trace.problem.id].append(place)
    return groups


def chosen_by(policy: Policy, keep: int | None, traces: Sequence[Trace], dropped: Dropped) -> list[Trace]:
    """At most `keep` traces of each problem: the shortest, or those that differ most, the shortest among them."""
    if policy == "all" and keep is None:
        return list(traces)
    kept: set[int] = set()
    for places in grouped(traces).values():
        ranked = sorted(places, key=lambda place: (len(traces[place].completion.text), place))
        if policy == "diverse":
            texts = [traces[place].completion.text for place in ranked]
            kept.update(ranked[number] for number in most_different(texts, keep or len(ranked)))
        else:
            kept.update((ranked if policy == "shortest" else places)[:keep])
    dropped.because("surplus", (trace for place, trace in enumerate(traces) if place not in kept))
    return [trace for place, trace in enumerate(traces) if place in kept]


def within_reach(traces: Sequence[Trace], low: float, high: float, dropped: Dropped) -> list[Trace]:
    """Traces of problems that the student solves neither too seldom nor too often; ungraded ones are left out."""

    def reason_of(trace: Trace) -> str | None:
        rate = trace.parts.get(PASS_RATE)
        if rate is None:
            return "ungraded"
        return "too_difficult" if rate < low else "too_easy" if rate > high else None

    return dropped.split(traces, reason_of)


def learnable(traces: Sequence[Trace], mix: Mix, dropped: Dropped) -> list[Trace]:
    """Traces that the student does not find too unlikely."""
    if mix.max_student_loss is None and not mix.drop_hardest:
        return list(traces)
    losses = sorted(trace.parts[LOSS] for trace in traces if LOSS in trace.parts)
    limit = mix.max_student_loss if mix.max_student_loss is not None else float("inf")
    if losses and mix.drop_hardest:
        limit = min(limit, losses[max(0, round(len(losses) * (1 - mix.drop_hardest)) - 1)])

    def reason_of(trace: Trace) -> str | None:
        loss = trace.parts.get(LOSS)
        return "ungraded" if loss is None else "unlearnable" if loss > limit else None

    return dropped.split(traces, reason_of)


def mixed(traces: Sequence[Trace], mix: Mix, seed: int, dropped: Dropped) -> list[Trace]:
    """The largest mixture of lengths and teachers with the given shares; every problem gives one trace before two."""
    shares = _shares(mix)
    if not shares or not traces:
        return list(traces)
    median = sorted(map(words_of, traces))[(len(traces) - 1) // 2]
    limit = mix.long_words if mix.long_words is not None else median
    cells: dict[tuple[str, str], list[int]] = defaultdict(list)
    turn: Counter[tuple[str, str, str, str]] = Counter()
    order: dict[int, tuple[int, int]] = {}
    for place, trace in enumerate(traces):
        length = ("long" if words_of(trace) > limit else "short") if mix.long_share is not None else ""
        cell = (length, trace.sampler if mix.teachers else "")
        problem = (*cell, trace.problem.task, trace.problem.id)
        order[place] = (turn[problem], derive_seed(seed, "mix", place))
        turn[problem] += 1
        cells[cell].append(place)
    kept: set[int] = set()
    for cell, count in quotas({cell: len(places) for cell, places in cells.items()}, shares).items():
        kept.update(sorted(cells.get(cell, ()), key=order.__getitem__)[:count])
    dropped.because("mix", (trace for place, trace in enumerate(traces) if place not in kept))
    return [trace for place, trace in enumerate(traces) if place in kept]


def curriculum(traces: Sequence[Trace]) -> list[Trace]:
    """Easy to difficult: by the student's pass rate, then by length; `rank` says the place."""
    ordered = sorted(
        range(len(traces)), key=lambda place: (-traces[place].parts.get(PASS_RATE, 0.0), words_of(traces[place]), place)
    )
    return [
        traces[place].model_copy(update={"parts": {**traces[place].parts, RANK: float(rank)}})
        for rank, place in enumerate(ordered)
    ]


def by_rank(traces: Sequence[Trace]) -> list[Trace]:
    """Traces in the order of their curriculum, for a trainer that follows it; those without a rank come last."""
    return sorted(traces, key=lambda trace: trace.parts.get(RANK, float("inf")))


def mistakes(wrong: Sequence[Trace], kept: Sequence[Trace], per_problem: int) -> list[tuple[Trace, Trace]]:
    """(wrong, right) pairs of one problem: different finished wrong answers, each with the shortest right trace."""
    right = {key: min((kept[p] for p in places), key=lambda t: len(t.completion.text))
             for key, places in grouped(kept).items()}  # fmt: skip
    pairs: list[tuple[Trace, Trace]] = []
    for key, places in grouped(wrong).items():
        if key not in right:
            continue
        texts = [wrong[place].completion.text for place in places]
        different = [place for place, first in zip(places, repeats(texts), strict=True) if first is None]
        pairs += [(wrong[place], right[key]) for place in different[:per_problem]]
    return pairs


def _shares(mix: Mix) -> dict[tuple[str, str], float]:
    lengths = {"": 1.0} if mix.long_share is None else {"long": mix.long_share, "short": 1 - mix.long_share}
    teachers = mix.teachers or {"": 1.0}
    if mix.long_share is None and not mix.teachers:
        return {}
    return {(length, name): a * b for length, a in lengths.items() for name, b in teachers.items()}


def _graded(problems: Sequence[Problem]) -> list[Problem]:
    """Those with a gold answer first."""
    return sorted(problems, key=lambda problem: problem.answer is None)


def _named(problem: Problem, key: str, taken: dict[tuple[str, str], str]) -> Problem:
    """The problem under an id that no other question has."""
    if taken.setdefault((problem.task, problem.id), key) == key:
        return problem
    mark = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return problem.model_copy(update={"id": f"{problem.id}~{mark}"})
