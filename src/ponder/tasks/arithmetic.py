"""Multi-step word problems: how many things somebody has after a series of events."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from ponder.tasks._arithmetic_events import LARGEST_OPERAND, Event, draw_events, moves_of
from ponder.tasks._arithmetic_verifier import ArithmeticFacts, CountVerifier
from ponder.tasks._arithmetic_wording import RENAMED_WORDING, SEEN_WORDING, Wording
from ponder.tasks._procedural import Draft, Skill, Style
from ponder.tasks._telling import capitalised, mix_in, tell
from ponder.tasks._words import HELD_OUT


class Arithmetic(Skill):
    """How many things somebody has after gains, losses, doublings and halvings, told in order of time."""

    name: ClassVar[str] = "arithmetic"

    @property
    def verifier(self) -> CountVerifier:
        """Compares counts, and follows calculations."""
        return CountVerifier()

    def draw(self, rng: Random, steps: int, style: Style) -> Draft:
        """A story of that many calculations."""
        wording = RENAMED_WORDING if style.words is HELD_OUT else SEEN_WORDING
        person, *others = rng.sample(style.words.names, 4)
        thing, *spare = rng.sample(style.words.things, 3)
        start = rng.randint(2, LARGEST_OPERAND)
        events = draw_events(rng, steps, start, wording)
        teller = _Teller(rng, wording, person, others, thing, spare, style.words.places)
        facts = ArithmeticFacts(person=person, things=thing, start=start, events=tuple(events))
        lines, count = _solve(person, thing, start, events)
        return Draft(
            prompt=teller.story(start, events, style.distractors),
            answer=count,
            steps=lines,
            final=f"The answer is {count}.",
            canonical=f"{person} {thing[1]} {start} "
            + " ".join(f"{event.kind}:{event.groups}x{event.amount}" for event in events),
            extra={"facts": facts.model_dump(mode="json")},
        )


def _solve(person: str, thing: tuple[str, str], start: int, events: list[Event]) -> tuple[list[str], int]:
    """The worked solution and the final count."""
    lines = [f"{person} has {_counted(start, thing)}."]
    count = start
    for event in events:
        for move in moves_of(event):
            lines.append(move.line(count))
            if move.left is None:
                count = move.apply(count)
    return lines, count


def _counted(number: int, thing: tuple[str, str]) -> str:
    return f"{number} {thing[number != 1]}"


class _Teller:
    """Puts one story into words."""

    def __init__(
        self,
        rng: Random,
        wording: Wording,
        person: str,
        others: list[str],
        thing: tuple[str, str],
        spare: list[tuple[str, str]],
        places: tuple[str, ...],
    ) -> None:
        self.rng, self.wording, self.person, self.others = rng, wording, person, others
        self.thing, self.spare, self.places = thing, spare, places

    def story(self, start: int, events: list[Event], distractors: int) -> str:
        """The prompt."""
        rng, wording = self.rng, self.wording
        told = self._sentences([self._predicate(event) for event in events])
        told = mix_in(rng, told, [self._fill(rng.choice(wording.distractions)) for _ in range(distractors)])
        if rng.random() < 0.2:
            told = [*told, self._fill(rng.choice(wording.late_starts), start)]
        else:
            told = [self._fill(rng.choice(wording.starts), start), *told]
        return tell(rng, wording.layouts, told, self._fill(rng.choice(wording.questions)))

    def _sentences(self, predicates: list[str]) -> list[str]:
        """One or two events a sentence, in order of time."""
        told: list[str] = []
        while predicates:
            pair = len(predicates) > 1 and self.rng.random() < 0.3
            taken, predicates = predicates[: 1 + pair], predicates[1 + pair :]
            connective = self.rng.choice(self.wording.connectives) if told else ""
            told.append(capitalised(f"{connective}{self.person} {' and then '.join(taken)}."))
        return told

    def _predicate(self, event: Event) -> str:
        rng, wording = self.rng, self.wording
        if event.kind in wording.scales:
            return self._fill(rng.choice(wording.scales[event.kind]))
        if event.kind == "group":
            each = _counted(event.amount, self.thing)
            return f"{event.verb} {event.groups} {rng.choice(wording.bags)} with {each} each"
        templates = wording.losses if event.kind == "loss" else wording.gains
        template = rng.choice([text for verb, text in templates if verb == event.verb])
        return self._fill(template, event.amount)

    def _fill(self, template: str, number: int | None = None) -> str:
        rng = self.rng
        return template.format(
            p=self.person,
            o=rng.choice(self.others),
            t=self.thing[1],
            c=_counted(number or rng.randint(1, LARGEST_OPERAND), self.thing),
            d=_counted(rng.randint(1, LARGEST_OPERAND), rng.choice(self.spare)),
            l=rng.choice(self.places),
        )


plugin: type[Skill] = Arithmetic
