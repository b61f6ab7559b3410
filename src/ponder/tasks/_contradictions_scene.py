"""Numbered statements about an order or about places, and the one chain of them that may clash."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Literal

from ponder.core.types import Record
from ponder.tasks._words import WordBank


class Statement(Record):
    """What one numbered sentence says."""

    kind: Literal["order", "same", "place", "aside"]
    """The first precedes the second, both are in one place, the first is in the second, or nothing of interest."""
    first: str
    second: str = ""


class Scene(Record):
    """Statements that clash in one way at most, and whom or what to check."""

    topic: str
    """Which order the statements are about, by its phrase (`is taller than`); empty when they are about places."""
    hero: str
    statements: tuple[Statement, ...]
    """Statement 1 comes first."""

    def chain(self) -> list[int]:
        """The statements that lead on from the hero, as positions, until one says no more or closes the circle.

        Every link is the only one possible, because a scene has one statement at most that leads on.
        """
        kind = "order" if self.topic else "place"
        used = [
            position
            for position, statement in enumerate(self.statements)
            if statement.kind == kind and statement.first == self.hero
        ][:1]
        at = self.statements[used[0]].second if self.topic and used else self.hero
        while used:
            link = self._link_from(at, used)
            if link is None:
                break
            used.append(link)
            statement = self.statements[link]
            if statement.kind == "place" or (statement.kind == "order" and statement.second == self.hero):
                break
            at = statement.second if statement.first == at else statement.first
        return used

    def _link_from(self, at: str, used: Sequence[int]) -> int | None:
        for position, statement in enumerate(self.statements):
            ends = (statement.first,) if statement.kind in ("order", "place") else (statement.first, statement.second)
            if position not in used and statement.kind != "aside" and at in ends:
                return position
        return None

    @property
    def clash(self) -> list[int] | None:
        """Numbers of the statements that cannot all be true, ascending; None when there is no clash."""
        used = self.chain()
        if len(used) < 2:
            return None
        start, end = self.statements[used[0]], self.statements[used[-1]]
        closes = end.second == self.hero if self.topic else end.kind == "place" and end.second != start.second
        return sorted(position + 1 for position in used) if closes else None

    @property
    def canonical(self) -> str:
        """What the statements say, whatever their order and wording."""
        said = ";".join(sorted(
            f"{one.kind} {' '.join(sorted((one.first, one.second)) if one.kind == 'same' else (one.first, one.second))}"
            for one in self.statements
        ))
        return f"contradictions|{self.topic}|{self.hero}|{said}"


CONSISTENT_SHARE = 0.2
ORDER_SHARE = 0.6
ORDERS = {
    "is taller than": ("is shorter than", "tall"),
    "is older than": ("is younger than", "old"),
    "is faster than": ("is slower than", "fast"),
    "is stronger than": ("is weaker than", "strong"),
    "came before": ("came after", ""),
    "is shorter than": ("is taller than", ""),
    "is younger than": ("is older than", "young"),
    "is slower than": ("is faster than", ""),
}
"""Phrase of an order to its reverse and the adjective that compares, if `not as ... as` says the reverse."""


def draw_scene(rng: Random, steps: int, words: WordBank) -> Scene:
    """A scene whose chain has `steps` links after its first statement."""
    clashes = rng.random() >= CONSISTENT_SHARE
    number_idle = min(1 + (steps + 1) // 3, 4)
    draw = _draw_order if rng.random() < ORDER_SHARE else _draw_places
    return draw(rng, steps, number_idle, clashes, words)


def _draw_order(rng: Random, steps: int, number_idle: int, clashes: bool, words: WordBank) -> Scene:
    number = steps + 1 if clashes else steps + 2
    names = rng.sample(words.names, min(number + number_idle + 1, len(words.names)))
    chain, idle = names[:number], names[number:]
    pairs = [*pairwise(chain), *([(chain[-1], chain[0])] if clashes else [])]
    beside: list[tuple[str, str]] = []
    while len(beside) < number_idle:
        # Nobody of the chain precedes anybody outside, so no other circle can arise.
        pair = _beside(rng, chain, idle)
        if pair not in beside:
            beside.append(pair)
    statements = [Statement(kind="order", first=first, second=second) for first, second in pairs + beside]
    rng.shuffle(statements)
    return Scene(topic=rng.choice(tuple(ORDERS)), hero=chain[0], statements=tuple(statements))


def _beside(rng: Random, chain: list[str], idle: list[str]) -> tuple[str, str]:
    """Somebody outside the chain precedes somebody of it, often its head, or somebody outside it."""
    kind = rng.random()
    if kind < 0.6:
        first, second = sorted(rng.sample(range(len(idle)), 2))
        return idle[first], idle[second]
    return rng.choice(idle), chain[0] if kind < 0.8 else rng.choice(chain)


def _draw_places(rng: Random, steps: int, number_idle: int, clashes: bool, words: WordBank) -> Scene:
    agrees = not clashes and steps > 1 and rng.random() < 0.5
    number = steps if clashes or agrees else steps + 1
    things = rng.sample(words.goods, number + number_idle)
    chain, idle = things[:number], things[number:]
    here, there, elsewhere = rng.sample(words.places, 3)
    statements = [Statement(kind="place", first=chain[0], second=here)]
    statements += [_together(rng, *pair) for pair in pairwise(chain)]
    if clashes or agrees:
        statements.append(Statement(kind="place", first=chain[-1], second=there if clashes else here))
    statements += [_together(rng, *pair) for pair in pairwise(idle[:number_idle])]
    statements.append(Statement(kind="place", first=idle[0], second=rng.choice((here, there, elsewhere))))
    rng.shuffle(statements)
    return Scene(topic="", hero=chain[0], statements=tuple(statements))


def _together(rng: Random, one: str, other: str) -> Statement:
    first, second = (one, other) if rng.random() < 0.5 else (other, one)
    return Statement(kind="same", first=first, second=second)
