"""Which of several measured models to deploy: the most accurate within the limits, and of equals the cheapest.

Two models that the problems do not tell apart are equals, whatever their accuracies say; then the cheaper one is worth
more. When nothing fits, the one that misses by least is named, with what it misses and by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ponder.core.types import Json
from ponder.report.limits import Limits
from ponder.report.table import money, percent, plain, quantity, significant

FIGURES = {
    "memory": "peak_memory_bytes",
    "seconds": "seconds_per_answer",
    "joules": "joules_per_answer",
    "money": "money_per_answer",
}
"""Column of the cost table for each limit."""
CHEAPNESS = ("money", "joules", "seconds", "memory")
"""By what equals are told apart: the first of these that is known of all."""
CLEARLY = 0.9
"""A model is cheaper when it takes at most this share: less is the noise of a clock."""

ToldApart = Callable[[str, Sequence[str]], Mapping[str, Json]]
"""Compares one model with others, paired by problem: a row per other model, with `shown`, `p_holm` and the rest."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A measured model."""

    label: str
    row: Json
    """Accuracy, interval and n."""
    cost: Json

    def figure(self, limit: str) -> float | None:
        """What it takes of something that may be limited."""
        value = self.cost.get(FIGURES[limit])
        return None if value is None else float(value)


def deploy_rows(
    rows: Sequence[Json], costs: Sequence[Json], limits: Limits, told_apart: Callable[[str], ToldApart]
) -> list[Json]:
    """A recommendation per split.

    Args:
        rows: Of `model_rows`; those over all tasks count.
        costs: Of `cost_rows`.
        limits: Without any there are no rows.
        told_apart: Gives, for a split, what compares its models.

    Returns:
        `split`, `deploy` (label, or None), `why` (in words), `fits`, `equals` (of the most accurate), and `misses`: by
        model, each limit that it breaks with its figure, the limit and their ratio (None: not known).
    """
    if not limits.given:
        return []
    by_model = {row["model"]: row for row in costs}
    overall = [row for row in rows if row["task"] is None and row["steps"] is None]
    found: list[Json] = []
    for split in dict.fromkeys(row["split"] for row in overall):
        here = [row for row in overall if row["split"] == split]
        candidates = [Candidate(row["model"], row, by_model.get(row["model"], {})) for row in here]
        found.append({"split": split, **choose(candidates, limits, told_apart(split))})
    return found


def choose(candidates: Sequence[Candidate], limits: Limits, told_apart: ToldApart) -> Json:
    """The recommendation among models that were measured on the same problems."""
    counted = [each for each in candidates if each.row["accuracy"] is not None and not each.row["withheld"]]
    misses = {each.label: _misses(each, limits) for each in counted}
    fitting = [each for each in counted if not misses[each.label]]
    result: Json = {
        "deploy": None,
        "fits": [each.label for each in fitting],
        "equals": [],
        "misses": {label: missed for label, missed in misses.items() if missed},
        "left_out": [each.label for each in candidates if each not in counted],
    }
    if not fitting:
        return result | {"why": _nothing_fits(counted, misses)}
    best = max(fitting, key=lambda each: each.row["accuracy"])
    others = [each for each in fitting if each is not best]
    compared = told_apart(best.label, [each.label for each in others]) if others else {}
    equals = [each for each in others if each.label in compared and not compared[each.label]["shown"]]
    measure = _measure([best, *equals])
    chosen = _cheapest(best, equals, measure)
    result |= {"deploy": chosen.label, "equals": [each.label for each in equals]}
    return result | {"why": _why(chosen, best, equals, others, measure, limits)}


def _misses(candidate: Candidate, limits: Limits) -> list[Json]:
    """Every limit that a model breaks, or of which it is not known whether it does."""
    found: list[Json] = []
    for name, limit in limits.bounds.items():
        figure = candidate.figure(name)
        if figure is None or figure > limit:
            ratio = None if figure is None else figure / limit
            found.append({"limit": name, "allowed": limit, "figure": figure, "ratio": ratio})
    return found


def _measure(equals: Sequence[Candidate]) -> str | None:
    """By what models can be compared in price; two currencies cannot be."""
    for name in CHEAPNESS:
        currencies = {each.cost.get("currency") for each in equals} if name == "money" else {None}
        if len(currencies) == 1 and all(each.figure(name) is not None for each in equals):
            return name
    return None


def _cheapest(best: Candidate, equals: Sequence[Candidate], measure: str | None) -> Candidate:
    """The cheapest of the equals when it is clearly cheaper than the most accurate; otherwise that one."""
    if measure is None or not equals:
        return best

    def price(candidate: Candidate) -> float:
        return candidate.figure(measure) or 0.0

    cheapest = min(equals, key=price)
    return cheapest if price(cheapest) <= CLEARLY * price(best) else best


def _why(
    chosen: Candidate,
    best: Candidate,
    equals: Sequence[Candidate],
    others: Sequence[Candidate],
    measure: str | None,
    limits: Limits,
) -> str:
    text = f"{plain(chosen.label)}: {_accuracy(chosen)}, {_taken(chosen, limits)}"
    if chosen is not best:
        assert measure is not None
        share = (chosen.figure(measure) or 0.0) / (best.figure(measure) or 1.0)
        return (
            f"{text}. {plain(best.label)} has {_accuracy(best)}, which {best.row['n']:,} problems do not tell apart, "
            f"and takes {_shown(measure, best)} where {plain(chosen.label)} takes {_shown(measure, chosen)} "
            f"({share:.0%} of it)"
        )
    if equals:
        names = ", ".join(plain(each.label) for each in equals)
        return f"{text}; not told apart from {names}, which {'is' if len(equals) == 1 else 'are'} not clearly cheaper"
    if others:
        return f"{text}; the most accurate of {len(others) + 1} that fit"
    return f"{text}; the only one that fits"


def _nothing_fits(counted: Sequence[Candidate], misses: Mapping[str, list[Json]]) -> str:
    """The model that misses by least, and what it misses."""
    if not counted:
        return "nothing fits: no model has an accuracy that can be relied on"
    known = [each for each in counted if all(miss["ratio"] is not None for miss in misses[each.label])]
    if not known:
        unknown = sorted({miss["limit"] for each in counted for miss in misses[each.label] if miss["ratio"] is None})
        return f"nothing is known to fit: {', '.join(unknown)} of an answer was not measured or has no price"
    nearest = min(known, key=lambda each: max(miss["ratio"] for miss in misses[each.label]))
    said = "; ".join(
        f"{_shown(miss['limit'], nearest)} where {_amount(miss['limit'], miss['allowed'], nearest)} "
        f"{'is' if miss['limit'] != 'joules' else 'are'} allowed ({miss['ratio']:.2f} times)"
        for miss in misses[nearest.label]
    )
    return f"nothing fits. Nearest: {plain(nearest.label)} ({_accuracy(nearest)}), which takes {said}"


def _accuracy(candidate: Candidate) -> str:
    row = candidate.row
    if row["low"] is None:
        return percent(row["accuracy"])
    return f"{percent(row['accuracy'])} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def _taken(candidate: Candidate, limits: Limits) -> str:
    """What it takes of everything that is limited."""
    bounds = limits.bounds.items()
    return ", ".join(f"{_shown(name, candidate)} of {_amount(name, limit, candidate)}" for name, limit in bounds)


def _shown(limit: str, candidate: Candidate) -> str:
    return _amount(limit, candidate.figure(limit), candidate)


def _amount(limit: str, value: float | None, candidate: Candidate) -> str:
    if limit == "memory":
        return quantity(value, "B")
    if limit == "money":
        return money(value, candidate.cost.get("currency"))
    return f"{significant(value)} {'s' if limit == 'seconds' else 'J'}"
