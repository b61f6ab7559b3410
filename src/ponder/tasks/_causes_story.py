"""Causal stories: a structural causal model over events, told causes first, and what follows from it."""

from __future__ import annotations

from random import Random
from typing import Self

from pydantic import model_validator

from ponder.core.types import Record

State = tuple[int, bool]
"""An event by its position in `Story.events`, and whether it happens."""


class Mechanism(Record):
    """One structural equation: the effect happens exactly if every cause is in the state named."""

    effect: int
    causes: tuple[State, ...]


class Story(Record):
    """A deterministic structural causal model with its facts, and perhaps an intervention."""

    events: tuple[tuple[str, str], ...]
    """(happens, does not happen) per event."""
    given: tuple[State, ...]
    """States of the events that nothing in the story causes."""
    mechanisms: tuple[Mechanism, ...]
    """Every cause is given or is the effect of an earlier mechanism."""
    forced: State | None = None
    """The intervention: this event is put into this state, which cuts its own mechanism."""

    @model_validator(mode="after")
    def _told_in_order(self) -> Self:
        known = {event for event, _ in self.given}
        for mechanism in self.mechanisms:
            if not known.issuperset(event for event, _ in mechanism.causes) or mechanism.effect in known:
                raise ValueError("a mechanism must come after its causes, and an event has one mechanism")
            known.add(mechanism.effect)
        if not known <= set(range(len(self.events))) or (self.forced and self.forced[0] not in known):
            raise ValueError("a state names an event that is not in the story")
        return self

    def text(self, state: State) -> str:
        """A state in words."""
        event, happens = state
        return self.events[event][0 if happens else 1]

    def outcome(self) -> dict[int, bool]:
        """Whether each event happens.

        Source:
            Pearl 2009 (Causality, 2nd ed.), definition 7.1.2: in the submodel of do(X = x) the equation of X
            is replaced by X = x, and all others stay.
        """
        states = dict(self.given)
        for mechanism in self.mechanisms:
            states[mechanism.effect] = all(states[event] == needed for event, needed in mechanism.causes)
            if self.forced and mechanism.effect == self.forced[0]:
                states[mechanism.effect] = self.forced[1]
        return states

    @property
    def applied(self) -> tuple[Mechanism, ...]:
        """The mechanisms that the intervention leaves in place."""
        return tuple(mechanism for mechanism in self.mechanisms if not self._is_cut(mechanism))

    def _is_cut(self, mechanism: Mechanism) -> bool:
        return self.forced is not None and mechanism.effect == self.forced[0]

    @property
    def canonical(self) -> str:
        """What the story says, whatever the order of telling."""
        given = sorted(map(self.text, self.given))
        rules = sorted(
            f"{'+'.join(sorted(map(self.text, rule.causes)))}>{self.text((rule.effect, True))}"
            for rule in self.mechanisms
        )
        forced = self.text(self.forced) if self.forced else ""
        return f"causes|{';'.join(given)}|{';'.join(rules)}|do {forced}"


INTERVENTION_SHARE = 0.6
RECENT_SHARE = 0.55
"""How often a cause is the event told last, which makes chains; otherwise the graph forks."""
BOTH_SHARE = 0.2
"""How often an effect needs two causes."""
MET_SHARE = 0.55
"""How often a single cause is in the state that its effect needs."""


def draw_story(rng: Random, steps: int, bank: tuple[tuple[str, str], ...]) -> Story:
    """A story in which exactly `steps` mechanisms are left in place."""
    roots = 1 + (rng.random() < 0.6) + (steps > 3 and rng.random() < 0.4)
    intervenes = rng.random() < INTERVENTION_SHARE
    total = steps + intervenes
    # The forced event must have an effect, so the last mechanism is never the one that is cut.
    cut = roots + rng.randrange(total - 1) if intervenes else -1
    states = {root: rng.random() < 0.7 for root in range(roots)}
    given = tuple(states.items())
    mechanisms: list[Mechanism] = []
    for effect in range(roots, roots + total):
        causes = _draw_causes(rng, states, cut if effect == cut + 1 else None)
        mechanisms.append(Mechanism(effect=effect, causes=causes))
        happens = all(states[event] == needed for event, needed in causes)
        states[effect] = happens != (effect == cut)  # an intervention turns the natural outcome around
    return Story(
        events=tuple(rng.sample(bank, roots + total)),
        given=given,
        mechanisms=tuple(mechanisms),
        forced=(cut, states[cut]) if intervenes else None,
    )


def _draw_causes(rng: Random, states: dict[int, bool], required: int | None) -> tuple[State, ...]:
    """One or two causes; `required`, when given, is one of them."""
    newest = len(states) - 1
    if required is not None:
        first = required
    else:
        first = newest if rng.random() < RECENT_SHARE else rng.randrange(len(states))
    chosen = [first]
    if newest > 0 and rng.random() < BOTH_SHARE:
        other = rng.randrange(newest)
        chosen.append(other + (other >= first))
    met = MET_SHARE ** (1 / len(chosen))
    return tuple((event, states[event] == (rng.random() < met)) for event in chosen)
