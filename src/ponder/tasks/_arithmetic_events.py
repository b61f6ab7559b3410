"""What happens in an arithmetic word problem, and the calculations it takes."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from ponder.tasks._arithmetic_wording import Wording

LARGEST = 99
"""No count in a problem exceeds it."""
LARGEST_OPERAND = 12


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changes the count."""

    kind: str
    """`gain`, `loss`, `group`, `twice`, `three times` or `half`."""
    verb: str
    """As the problem says it; empty for events that scale."""
    amount: int
    """How many things; of a group, how many in each."""
    groups: int = 1

    @property
    def length(self) -> int:
        """Reasoning steps it takes."""
        return 2 if self.kind == "group" else 1


_SCALES = {"twice": ("*", 2), "three times": ("*", 3), "half": ("/", 2)}


@dataclass(frozen=True, slots=True)
class Move:
    """One calculation: a line of the worked solution."""

    label: str
    operator: str
    operand: int
    left: int | None = None
    """Left operand when it is not the count so far."""

    @property
    def scales(self) -> bool:
        """Whether it multiplies or divides the count, so that its place among the others matters."""
        return self.operator in "*/" and self.left is None

    def apply(self, count: int) -> int:
        """The result, with `count` things so far."""
        left = count if self.left is None else self.left
        return {
            "+": left + self.operand,
            "-": left - self.operand,
            "*": left * self.operand,
            "/": left // self.operand,
        }[self.operator]

    def line(self, count: int) -> str:
        """The calculation written out."""
        left = count if self.left is None else self.left
        return f"{self.label}: {left} {self.operator} {self.operand} = {self.apply(count)}."


def moves_of(event: Event) -> list[Move]:
    """The calculations that an event needs."""
    if event.kind in _SCALES:
        return [Move(event.kind, *_SCALES[event.kind])]
    if event.kind == "group":
        total = event.groups * event.amount
        product = Move(f"{event.groups} with {event.amount} each", "*", event.amount, left=event.groups)
        return [product, Move(f"{event.verb} {total}", "+", total)]
    return [Move(f"{event.verb} {event.amount}", "+" if event.kind == "gain" else "-", event.amount)]


_WEIGHTS = {"gain": 8, "loss": 8, "group": 2, "twice": 3, "three times": 2, "half": 3}


def draw_events(rng: Random, steps: int, start: int, wording: Wording) -> list[Event]:
    """Events of that many steps in all, the count staying within 0..99.

    No two calculations have the same label, so that a line of the solution shows which event comes next.
    """
    events: list[Event] = []
    labels: set[str] = set()
    count = start
    while steps:
        kinds = [kind for kind in _WEIGHTS if kind not in labels and _fits(kind, count, steps)]
        kind = rng.choices(kinds, [_WEIGHTS[kind] for kind in kinds])[0]
        event = _draw_event(rng, kind, count, wording)
        moves = moves_of(event)
        if not labels.isdisjoint(move.label for move in moves):
            continue
        events.append(event)
        for move in moves:
            labels.add(move.label)
            if move.left is None:
                count = move.apply(count)
        steps -= event.length
    return events


def _fits(kind: str, count: int, steps: int) -> bool:
    if kind in _SCALES:
        operator, operand = _SCALES[kind]
        possible = count % operand == 0 if operator == "/" else count * operand <= LARGEST
        return possible and count > 0
    if kind == "loss":
        return count > 0
    return count + LARGEST_OPERAND <= LARGEST and (kind == "gain" or steps >= 2)


def _draw_event(rng: Random, kind: str, count: int, wording: Wording) -> Event:
    if kind in _SCALES:
        return Event(kind, "", _SCALES[kind][1])
    if kind == "group":
        groups = rng.randint(2, 4)
        each = rng.randint(2, LARGEST_OPERAND // groups)
        return Event(kind, rng.choice(wording.gains)[0], each, groups)
    if kind == "gain":
        return Event(kind, rng.choice(wording.gains)[0], rng.randint(1, LARGEST_OPERAND))
    return Event(kind, rng.choice(wording.losses)[0], rng.randint(1, min(count, LARGEST_OPERAND)))
