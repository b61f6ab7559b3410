"""Numbered statements about an order or about places, and the one chain of them that may clash."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Literal

from ponder.core.types import Record
from ponder.tasks._words import WordBank

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


class Statement(Record):
    """What one numbered sentence says."""

    kind: Literal["order", "same", "place", "aside"]
    """The first precedes the second, both are in one place, the first is in the second; or an aside."""
    first: str
    """A person, a thing, or the words of an aside."""
    second: str = ""

    def leads_from(self, noun: str) -> bool:
        """Whether it says something new of a noun about which something is known."""
        return self.kind != "aside" and (noun == self.first or (self.kind == "same" and noun == self.second))

    def other_end(self, noun: str) -> str:
        """The noun that it leads to; empty when it says where a thing is."""
        if self.kind == "same":
            return self.second if noun == self.first else self.first
        return self.second if self.kind == "order" else ""

    def canonical(self, turned: bool) -> str:
        """What it says, whatever the wording; `turned` if the order is to be read from its other end."""
        ends = [self.first, self.second]
        if self.kind == "same":
            ends.sort()
        elif self.kind == "order" and turned:
            ends.reverse()
        return " ".join((self.kind, *ends))


class Scene(Record):
    """Statements that clash in one way at most, and whom or what to check."""

    topic: str
    """Which order the statements are about (`is taller than`); empty when they are about places."""
    hero: str
    statements: tuple[Statement, ...]
    """Statement 1 comes first."""

    def chain(self) -> list[int]:
        """Positions of the statements that lead on from the hero, until one closes the chain or none is left.

        A drawn scene has one statement at most that leads on.
        """
        opening = "order" if self.topic else "place"
        heads = (one.first if one.kind == opening else "" for one in self.statements)
        used = [position for position, head in enumerate(heads) if head == self.hero][:1]
        at = self.statements[used[0]].second if used and self.topic else self.hero
        while used and (link := self._link_from(at, used)) is not None:
            used.append(link)
            at = self.statements[link].other_end(at)
            if at == self.hero:
                break
        return used

    def _link_from(self, at: str, used: Sequence[int]) -> int | None:
        links = (p for p, one in enumerate(self.statements) if p not in used and one.leads_from(at))
        return next(links, None)

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
        """What the statements say, whatever their order and wording, and whichever end they are told from."""
        topic = min(self.topic, ORDERS[self.topic][0]) if self.topic else ""
        said = ";".join(sorted(one.canonical(turned=topic != self.topic) for one in self.statements))
        return f"contradictions|{topic}|{self.hero}|{said}"


CONSISTENT_SHARE = 0.2
ORDER_SHARE = 0.6


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
