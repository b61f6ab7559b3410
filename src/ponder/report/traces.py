"""The trace browser's data: a bounded choice of problems, with every model's answer to each.

The choice is stratified by skill and by which models were right, so that what is rare (a skill, a
disagreement) is there to be read, and it is the same for the same traces.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.seeds import derive_seed
from ponder.core.types import Finish, Json, Problem, Trace
from ponder.measure.costs.prices import PriceSheet
from ponder.measure.scores import Answer, ProblemKey
from ponder.measure.stored import stored_trace
from ponder.report.evaluations import Evaluation
from ponder.report.games import readable
from ponder.report.ledgers import answers_with_costs

PROBLEMS_PER_SPLIT = 60
MAX_PROBLEMS = 600
MAX_MODELS = 16
TEXT_BUDGET = 4_000_000
"""Characters of all responses together."""
MAX_TEXT = 6000
"""Characters of one response or prompt."""

_TAG = re.compile(f"({re.escape(THINK_OPEN)}|{re.escape(THINK_CLOSE)})")


def browser_data(evaluations: Sequence[tuple[Evaluation, Sequence[Answer]]], sheet: PriceSheet) -> Json:
    """Models and problems for the page; a problem holds each model's first answer by the model's position."""
    models = list(dict.fromkeys(label for evaluation, _ in evaluations for label in evaluation.labels))[:MAX_MODELS]
    problems: list[Json] = []
    for evaluation, answers in evaluations:
        chosen = choose_problems([answer for answer in answers if answer.model in models])
        chosen = chosen[: MAX_PROBLEMS - len(problems)]
        longest = min(MAX_TEXT, TEXT_BUDGET // max(1, MAX_PROBLEMS * len(models)) * 4)
        problems += _problems(evaluation, chosen, models, longest, sheet)
    return {"models": models, "problems": problems, "of": sum(len(answers) for _, answers in evaluations)}


def choose_problems(answers: Iterable[Answer]) -> list[ProblemKey]:
    """At most `PROBLEMS_PER_SPLIT` problems of each split, taken from the strata in turn."""
    outcomes: dict[ProblemKey, dict[str, str]] = defaultdict(dict)
    skills: dict[ProblemKey, str] = {}
    for answer in answers:
        outcomes[answer.key].setdefault(answer.model, "truncated" if answer.truncated else answer.outcome.value)
        skills[answer.key] = answer.skill or answer.task
    strata: dict[str, dict[tuple[str, ...], list[ProblemKey]]] = defaultdict(lambda: defaultdict(list))
    for key in sorted(outcomes, key=lambda key: derive_seed(*key)):
        pattern = tuple(f"{model}:{outcome}" for model, outcome in sorted(outcomes[key].items()))
        strata[key[0]][skills[key], *pattern].append(key)
    chosen: list[ProblemKey] = []
    for parts in strata.values():
        columns = [parts[stratum] for stratum in sorted(parts, key=lambda s: derive_seed(*s))]
        turns = [key for turn in zip_longest(*columns) for key in turn if key is not None]
        chosen += turns[:PROBLEMS_PER_SPLIT]
    return chosen


def embedded(data: Json) -> str:
    """JSON that can stand inside a script element: no `<`, `>` or `&`, and nothing outside ASCII."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def segments(text: str, wrong: tuple[int, int] | None, longest: int) -> list[tuple[str, str]]:
    """A response cut into (kind, text): `t` thought, `a` answer, with `w` added inside the first wrong step.

    Example:
        >>> segments("<think>2+2=5</think>5", (7, 12), 100)
        [('tw', '2+2=5'), ('a', '5')]
    """
    parts: list[tuple[str, str]] = []
    kind, position = "a", 0
    for piece in _TAG.split(text[:longest]):
        if piece in (THINK_OPEN, THINK_CLOSE):
            kind = "t" if piece == THINK_OPEN else "a"
        else:
            parts += _marked(piece, kind, position, wrong)
        position += len(piece)
    if THINK_CLOSE in text and THINK_OPEN not in text.partition(THINK_CLOSE)[0]:
        parts = _opened_by_the_prompt(parts, text.index(THINK_CLOSE))
    if len(text) > longest:
        parts.append(("c", f"… {len(text) - longest:,} characters more"))
    return parts


def _marked(piece: str, kind: str, start: int, wrong: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    first, last = wrong or (0, 0)
    low, high = (min(max(bound - start, 0), len(piece)) for bound in (first, last))
    for part, name in ((piece[:low], kind), (piece[low:high], f"{kind}w"), (piece[high:], kind)):
        if part:
            yield name, part


def _opened_by_the_prompt(parts: list[tuple[str, str]], thought_length: int) -> list[tuple[str, str]]:
    """Some templates open the thought in the prompt: what stands before the closing tag is thought."""
    seen, fixed = 0, list[tuple[str, str]]()
    for kind, text in parts:
        fixed.append((kind.replace("a", "t") if seen < thought_length else kind, text))
        seen += len(text)
    return fixed


def _problems(
    evaluation: Evaluation, chosen: Sequence[ProblemKey], models: Sequence[str], longest: int, sheet: PriceSheet
) -> list[Json]:
    found: dict[ProblemKey, Json] = {}
    wanted = set(chosen)
    for label, row, cost in answers_with_costs(evaluation, sheet):
        problem = row["problem"]
        key = (str(problem["meta"].get("split", "")), problem["task"], problem["id"])
        if row["sample"] or key not in wanted or label not in models:
            continue
        trace = stored_trace(row)
        entry = found.setdefault(key, {**_problem(trace.problem), "stage": evaluation.stage, "answers": {}})
        entry["answers"].setdefault(models.index(label), _answer(trace, row["first_wrong"], longest, cost))
    return [found[key] for key in chosen if key in found]


def _problem(problem: Problem) -> Json:
    meta = problem.meta
    prompt = "\n\n".join(message.content for message in problem.messages)
    gold = problem.answer if isinstance(problem.answer, str) else json.dumps(problem.answer, ensure_ascii=False)
    return {
        "id": problem.id,
        "task": problem.task,
        "split": meta.get("split"),
        "skill": meta.get("skill") or problem.task,
        "steps": meta.get("steps"),
        "prompt": prompt[:MAX_TEXT],
        "gold": gold[:500],
    }


def _answer(trace: Trace, wrong: Json | None, longest: int, cost: Json) -> Json:
    response = trace.completion.text
    if trace.problem.meta.get("dialogue") is True:
        response = readable(response)
    place = None if wrong is None else (wrong["start"], wrong["end"])
    return {
        "outcome": trace.verdict.outcome.value,
        "truncated": trace.completion.finish is Finish.LENGTH or trace.verdict.reason == "truncated",
        "read": (trace.verdict.answer or "")[:500],
        "reason": trace.verdict.reason[:300],
        "tokens": trace.completion.usage.completion_tokens,
        "cost": {key: _brief(value) for key, value in cost.items()},
        "step": None if wrong is None else wrong["step"],
        "why": "" if wrong is None else str(wrong["reason"])[:300],
        "text": segments(response, place, longest),
    }


def _brief(value: object) -> object:
    """A number to three digits."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
