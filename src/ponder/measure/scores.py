"""From judged traces to the rows of a result table: one definition of every rate, for stages and reports.

A rate counts the problems that could be graded. An UNKNOWN verdict is in no rate; when more than one in a
hundred answers is unknown, the rate is withheld (null, with the reason), because what was left out could have
changed it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ponder.core.answers import split_thinking
from ponder.core.types import Finish, Json, Outcome, Trace
from ponder.measure.comparison import Pair, bounds, comparison_rows
from ponder.measure.macro import macro_fields
from ponder.measure.noise import NoiseFloor, noise_floor, noise_of_means
from ponder.measure.rating import rated
from ponder.measure.repeats import maj_at_k, pass_at_k, pass_hat_k
from ponder.measure.stats import clustered_rate, paired_difference

MAX_UNKNOWN = 0.01
"""Largest share of UNKNOWN verdicts under which a rate is believed."""

ProblemKey = tuple[str, str, str]
"""Split, task, problem id."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the table needs to know of one trace."""

    model: str
    key: ProblemKey
    skill: str | None
    steps: int | None
    """Reasoning steps that the problem needs."""
    outcome: Outcome
    answer: str | None
    truncated: bool
    reasons: bool
    """Whether it reasoned aloud."""
    answer_tokens: int
    thinking_tokens: int
    steps_found: int | None
    """Steps that the step verifier read; None where the task has none."""
    wrong_step: int | None
    """Number of the first wrong step, from 1."""
    difficulty: float | None = None
    """Difficulty rating of the problem, where it is known."""
    is_rated: bool = False
    """Whether its task rates whoever solves its problems."""
    tests: str = ""
    """What the verdict on a program rests on, where the task says it."""

    @property
    def split(self) -> str:
        """Split of the problem."""
        return self.key[0]

    @property
    def task(self) -> str:
        """Task of the problem."""
        return self.key[1]


def answer_of(trace: Trace, *, steps_found: int | None = None, wrong_step: int | None = None) -> Answer:
    """Reads a trace that was made by `evaluate`."""
    meta, usage = trace.problem.meta, trace.completion.usage
    skill, steps = meta.get("skill"), meta.get("steps")
    thought = split_thinking(trace.completion.text)
    return Answer(
        model=trace.sampler,
        key=(str(meta.get("split", "")), trace.problem.task, trace.problem.id),
        skill=skill if isinstance(skill, str) else None,
        steps=steps if isinstance(steps, int) and not isinstance(steps, bool) else None,
        outcome=trace.verdict.outcome,
        answer=trace.verdict.answer,
        truncated=trace.completion.finish is Finish.LENGTH or not thought.closed,
        reasons=bool(thought.thinking) or (meta.get("dialogue") is True and usage.thinking_tokens > 0),
        answer_tokens=max(0, usage.completion_tokens - usage.thinking_tokens),
        thinking_tokens=usage.thinking_tokens,
        steps_found=steps_found,
        wrong_step=wrong_step,
        difficulty=float(hard) if isinstance(hard := meta.get("rating"), int | float) else None,
        is_rated="rating" in meta,
        tests=tests if isinstance(tests := meta.get("tests"), str) else "",
    )


def model_rows(answers: Iterable[Answer]) -> list[Json]:
    """One row per model and split over all tasks, then by task, by skill and by number of steps.

    A null `task`, `skill` or `steps` means all of them together. A task whose problems all have one skill has
    its row under that skill only.
    """
    cells: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        cells[answer.model, answer.split].append(answer)
    rows: list[Json] = []
    for (model, split), cell in cells.items():
        for (task, skill, steps), part in _parts(cell).items():
            place = {"model": model, "task": task, "split": split, "skill": skill, "steps": steps}
            macro = _macro(part) if task is not None and skill is None and steps is None else {}
            whole = task is not None and steps is None and skill in (None, task)
            rows.append({**place, **summarise(part), **macro, **(_programs(part) if whole else {})})
    return rows


def summarise(answers: Sequence[Answer]) -> Json:
    """Rates with their intervals, shares and token counts of any set of answers.

    `n` counts the problems with at least one graded answer; accuracy and its bounds are null without any, and
    when they are withheld.
    """
    correct, graded = _counts(answers)
    total, seen = len(answers), sum(graded)
    unknown = (total - seen) / total if total else 0.0
    reason = withheld_because(unknown)
    row: Json = {"n": sum(count > 0 for count in graded), "answers": total}
    row |= bounds(clustered_rate(*(([], []) if reason else (correct, graded))), "accuracy")
    row |= {
        "unknown": unknown,
        "withheld": reason is not None,
        "withheld_because": reason,
        "truncated": _share(answer.truncated for answer in answers),
        "reasons": _share(answer.reasons for answer in answers),
        **_spread("answer_tokens", [answer.answer_tokens for answer in answers]),
        **_spread("thinking_tokens", [answer.thinking_tokens for answer in answers]),
    }
    return row | ({} if reason else _repeats(answers)) | _wrong_steps(answers)


def withheld_because(unknown: float) -> str | None:
    """Why a score may not be shown at that share of UNKNOWN verdicts; None when it may.

    Example:
        >>> withheld_because(0.01), withheld_because(0.05)
        (None, 'withheld: 5.0 % of the answers could not be judged, more than 1 %')
    """
    if unknown <= MAX_UNKNOWN:
        return None
    share, most = 100 * unknown, 100 * MAX_UNKNOWN
    return f"withheld: {share:.1f} % of the answers could not be judged, more than {most:g} %"


def pair_rows(answers: Iterable[Answer], pairs: Sequence[tuple[str, str]]) -> list[Json]:
    """Differences `b - a` over the problems that both answered, per split over all tasks.

    The p-values are corrected for all of the comparisons that are returned.
    """
    cells: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        cells[answer.model, answer.split].append(answer)
    found = [
        paired(a, b, cells[a, split], cells.get((b, split), []), {"task": None, "split": split})
        for a, b in pairs
        for split in dict.fromkeys(split for model, split in cells if model == a)
    ]
    return comparison_rows(found)


def paired(a: str, b: str, left: Sequence[Answer], right: Sequence[Answer], place: Json) -> Pair:
    """Two models' answers matched by problem, those whose verdict is UNKNOWN left out."""
    scores_a, scores_b = problem_scores(left), problem_scores(right)
    shared = [key for key in scores_a if key in scores_b]
    difference = paired_difference([scores_a[key] for key in shared], [scores_b[key] for key in shared])
    reasons = ((name, withheld_because(_unknown(part))) for name, part in ((a, left), (b, right)))
    withheld = next((f"{reason} of {name}" for name, reason in reasons if reason is not None), None)
    floors = (_noise(left), _noise(right))
    noise = noise_of_means(floors[0], floors[1]) if floors[0] and floors[1] else None
    return Pair(a, b, place, difference, withheld, noise)


def default_pairs(models: Sequence[str]) -> list[tuple[str, str]]:
    """Each model against the one before it, and against the first.

    Example:
        >>> default_pairs(["base", "distilled", "reinforced"])
        [('base', 'distilled'), ('distilled', 'reinforced'), ('base', 'reinforced')]
    """
    steps = list(pairwise(models))
    return list(dict.fromkeys([*steps, *((models[0], other) for other in models[1:])]))


def cost_rows(chunks: Iterable[Mapping[str, object]]) -> list[Json]:
    """Time and size per model from what was measured of each chunk.

    Args:
        chunks: Rows with `model`, `answers`, `tokens`, `seconds`, `peak_memory_bytes`, `parameters`,
        `disk_bytes`.
    """
    by_model: dict[str, list[Json]] = defaultdict(list)
    for chunk in chunks:
        by_model[str(chunk["model"])].append(dict(chunk))
    return [{"model": model, **_cost(rows)} for model, rows in by_model.items()]


def _cost(rows: Sequence[Json]) -> Json:
    seconds, answers, tokens = (sum(row[name] or 0 for row in rows) for name in ("seconds", "answers", "tokens"))
    return {
        "answers": answers,
        "seconds_per_answer": seconds / answers if answers else None,
        "tokens_per_second": tokens / seconds if seconds > 0 else None,
        "peak_memory_bytes": max(row["peak_memory_bytes"] for row in rows),
        "parameters": rows[-1]["parameters"],
        "disk_bytes": rows[-1]["disk_bytes"],
    }


def _macro(answers: Sequence[Answer]) -> Json:
    """The mean over the skills of a task that has several: `macro`, its bounds, and how many skills it is of."""
    scores: dict[str, dict[ProblemKey, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        if answer.outcome is not Outcome.UNKNOWN:
            scores[answer.skill or ""][answer.key].append(answer.outcome is Outcome.CORRECT)
    parts = {skill: [sum(flags) / len(flags) for flags in group.values()] for skill, group in scores.items()}
    unknown = _share(answer.outcome is Outcome.UNKNOWN for answer in answers)
    return macro_fields(parts, withheld=unknown > MAX_UNKNOWN)


def _programs(answers: Sequence[Answer]) -> Json:
    """What verdicts on programs rest on, and the rating of whoever solves as much; empty for other tasks."""
    row: Json = {"tests": sorted({answer.tests for answer in answers if answer.tests})}
    if any(answer.is_rated for answer in answers):
        flags: dict[ProblemKey, list[bool]] = defaultdict(list)
        hard = {answer.key: answer.difficulty for answer in answers}
        for answer in answers:
            if answer.outcome is not Outcome.UNKNOWN:
                flags[answer.key].append(answer.outcome is Outcome.CORRECT)
        unknown = _share(answer.outcome is Outcome.UNKNOWN for answer in answers)
        known = [(hard[key], sum(solved) / len(solved)) for key, solved in flags.items()]
        row["rating"] = rated([]) | {"kind": "withheld"} if unknown > MAX_UNKNOWN else rated(known)
    return {key: value for key, value in row.items() if value}


def _parts(cell: Sequence[Answer]) -> dict[tuple[str | None, str | None, int | None], list[Answer]]:
    """The answers of one model and split by (task, skill, steps), the whole first."""
    skills: dict[str, set[str | None]] = defaultdict(set)
    for answer in cell:
        skills[answer.task].add(answer.skill)
    groups: dict[tuple[str | None, str | None, int | None], list[Answer]] = defaultdict(list)
    for answer in cell:
        groups[None, None, None].append(answer)
        places = [(answer.task, answer.skill)]
        if len(skills[answer.task]) > 1 and answer.skill is not None:
            places.append((answer.task, None))
        for place in places:
            groups[*place, None].append(answer)
        if answer.steps is not None:
            groups[None, None, answer.steps].append(answer)
            groups[answer.task, answer.skill, answer.steps].append(answer)
    return {key: groups[key] for key in sorted(groups, key=_order)}


def _order(key: tuple[str | None, str | None, int | None]) -> tuple[bool, str, str, int]:
    task, skill, steps = key
    return steps is not None, task or "", skill or "", steps or 0


def _counts(answers: Sequence[Answer]) -> tuple[list[int], list[int]]:
    """Right and graded answers of each problem."""
    correct: dict[ProblemKey, int] = defaultdict(int)
    graded: dict[ProblemKey, int] = defaultdict(int)
    for answer in answers:
        correct[answer.key] += answer.outcome is Outcome.CORRECT
        graded[answer.key] += answer.outcome is not Outcome.UNKNOWN
    return list(correct.values()), list(graded.values())


def problem_scores(answers: Iterable[Answer]) -> dict[ProblemKey, float]:
    """Share of right answers of each graded problem, of one model."""
    problems: dict[ProblemKey, list[bool]] = defaultdict(list)
    for answer in answers:
        if answer.outcome is not Outcome.UNKNOWN:
            problems[answer.key].append(answer.outcome is Outcome.CORRECT)
    return {key: sum(flags) / len(flags) for key, flags in problems.items()}


def _repeats(answers: Sequence[Answer]) -> Json:
    """pass@k, pass^k and maj@k for powers of two and for all samples, and the noise between samples.

    Empty when every problem was sampled once. Problems with fewer than k graded answers are left out of that k.
    """
    problems: dict[ProblemKey, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.outcome is not Outcome.UNKNOWN:
            problems[answer.key].append(answer)
    most = max((len(group) for group in problems.values()), default=0)
    if most < 2:
        return {}
    row: Json = {"pass_at_k": {}, "pass_hat_k": {}, "maj_at_k": {}}
    for k in sorted({2**i for i in range(most.bit_length())} | {most}):
        enough = [group for group in problems.values() if len(group) >= k]
        flags = [[answer.outcome is Outcome.CORRECT for answer in group] for group in enough]
        right, counts = [sum(group) for group in flags], [len(group) for group in flags]
        votes: list[Sequence[Hashable | None]] = [[answer.answer for answer in group] for group in enough]
        majority = [maj_at_k(group, good, k) for group, good in zip(votes, flags, strict=True)]
        values = (pass_at_k(right, counts, k), pass_hat_k(right, counts, k), np.array(majority))
        for name, value in zip(row, values, strict=True):
            rate = clustered_rate(np.clip(value, 0, 1) * most, np.full(len(value), most))
            row[name][str(k)] = {"n": len(value), **bounds(rate, "value")}
    floor = _noise(answers)
    if floor is None:
        return row
    noise = {"seeds": floor.seeds, **bounds(floor.spread, "spread"), "difference": floor.difference}
    return row | {"noise": noise}


def _noise(answers: Iterable[Answer]) -> NoiseFloor | None:
    """What one sample of every problem would have scored, sample by sample: how far the seed alone moves it."""
    seen: dict[ProblemKey, int] = defaultdict(int)
    seeds: dict[int, list[bool]] = defaultdict(list)
    for answer in answers:
        if answer.outcome is not Outcome.UNKNOWN:
            seeds[seen[answer.key]].append(answer.outcome is Outcome.CORRECT)
        seen[answer.key] += 1
    if len(seeds) < 2:
        return None
    return noise_floor([sum(flags) / len(flags) for flags in seeds.values()])


def _unknown(answers: Sequence[Answer]) -> float:
    return _share(answer.outcome is Outcome.UNKNOWN for answer in answers)


def _wrong_steps(answers: Sequence[Answer]) -> Json:
    """Where reasoning first went wrong, and how often a right answer rests on a wrong step."""
    checked = [answer for answer in answers if answer.steps_found]
    if not checked:
        return {}
    first: dict[str, int] = defaultdict(int)
    for number in sorted(answer.wrong_step for answer in checked if answer.wrong_step is not None):
        first[str(number)] += 1
    right = [answer.wrong_step is not None for answer in checked if answer.outcome is Outcome.CORRECT]
    return {"first_wrong_steps": dict(first), "flawed": _share(right) if right else None}


def _spread(name: str, counts: Sequence[int]) -> Json:
    if not counts:
        return {name: None, f"{name}_p50": None, f"{name}_p95": None}
    middle, high = np.percentile(counts, (50, 95))
    return {name: float(np.mean(counts)), f"{name}_p50": float(middle), f"{name}_p95": float(high)}


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values) if values else 0.0
