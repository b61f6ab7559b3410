"""Worlds of barter: who gives what for what, what one owns, and what one wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from ponder.core.types import Record
from ponder.tasks._words import WordBank


class Offer(Record):
    """One person gives one thing to whoever hands over all the things taken."""

    person: str
    gives: str
    takes: tuple[str, ...]


class World(Record):
    """A planning problem: trade until the goal is owned. What is handed over is gone."""

    hero: str
    goal: str
    stock: tuple[str, ...]
    """What the hero owns at the very start."""
    offers: tuple[Offer, ...]
    """At most one per person, in the order of telling; a person may be visited again."""
    done: tuple[str, ...] = ()
    """Trades that have been made already, by person."""
    limit: int | None = None
    """Most trades that may follow, when the problem states it."""

    def offer(self, person: str) -> Offer | None:
        """What a person offers; the case of the name does not matter."""
        return next((offer for offer in self.offers if offer.person.lower() == person.lower()), None)

    def owned(self) -> Counter[str]:
        """What the hero owns now, after the trades already made.

        Raises:
            ValueError: If those trades cannot be made.
        """
        owned = Counter(self.stock)
        for person in self.done:
            if fault := self.trade(owned, person):
                raise ValueError(fault)
        return owned

    def trade(self, owned: Counter[str], person: str) -> str:
        """Make one trade in place; what hinders it, or nothing."""
        offer = self.offer(person)
        if offer is None:
            return f"{person} offers nothing"
        missing = Counter(offer.takes) - owned
        if missing:
            return f"no {next(iter(missing))} to give"
        owned.subtract(offer.takes)
        owned[offer.gives] += 1
        return ""

    def fault_in(self, plan: Sequence[str]) -> str:
        """Why a plan fails; empty when it reaches the goal."""
        if self.limit is not None and len(plan) > self.limit:
            return f"more than {self.limit} trades"
        owned = self.owned()
        for person in plan:
            if fault := self.trade(owned, person):
                return fault
        return "" if owned[self.goal] > 0 else "does not reach the goal"

    @property
    def canonical(self) -> str:
        """What the world says, whatever the order of telling."""
        offers = sorted(f"{offer.person}:{'+'.join(sorted(offer.takes))}>{offer.gives}" for offer in self.offers)
        stock = "+".join(sorted(self.stock))
        return f"plans|{self.hero}|{stock}|{';'.join(offers)}|{'>'.join(self.done)}|{self.goal}|{self.limit}"


CHAIN_SHARE = 0.75
"""How often a trade serves the one drawn last, which makes chains; otherwise needs branch."""
EXTRA_SHARE = 0.3
"""How often a trade also takes something owned from the start."""
STARTED_SHARE = 0.3
"""How often some trades have been made already."""
LIMIT_SHARE = 0.3
TWIN_SHARE = 0.3
"""How often a second person offers a needed thing for something owned: then two plans are equally short."""
FOR_NEEDS = 12
"""Words for things that stay free while needs are drawn: 8 things owned for 16 trades, 4 for temptations."""
FOR_TEMPTATIONS = 4


@dataclass(slots=True)
class _Builder:
    """Draws a tree of needs from the goal down: each node is a trade, its children make what it takes."""

    rng: Random
    people: list[str]
    goods: list[str]
    stock: list[str] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)

    def tree(self, trades: int) -> None:
        """The needed offers, every one before those that serve it."""
        children: list[list[int]] = [[] for _ in range(trades)]
        for node in range(1, trades):
            open_nodes = [other for other in range(node) if len(children[other]) < 2]
            chained = len(children[node - 1]) < 2 and self.rng.random() < CHAIN_SHARE
            children[node - 1 if chained else self.rng.choice(open_nodes)].append(node)
        makes = [self.goods.pop() for _ in range(trades)]
        for node in range(trades):
            takes = [makes[child] for child in children[node]]
            extra = len(self.goods) > FOR_NEEDS and self.rng.random() < EXTRA_SHARE
            if not takes or (len(takes) == 1 and extra):
                takes.append(self._owned())
            self.rng.shuffle(takes)
            self.offers.append(Offer(person=self.people.pop(), gives=makes[node], takes=tuple(takes)))

    def twin(self) -> None:
        """A second way to something that is needed and made from what is owned."""
        simple = [offer for offer in self.offers if set(offer.takes) <= set(self.stock)]
        twin = self.rng.choice(simple)
        self.offers.append(Offer(person=self.people.pop(), gives=twin.gives, takes=(self._owned(),)))

    def temptation(self) -> None:
        """An offer that leads nowhere, often one that would use up something needed."""
        useful = [offer.gives for offer in self.offers[1:]] + self.stock
        fresh = self.goods.pop()
        hopeless = len(self.goods) > FOR_TEMPTATIONS and self.rng.random() < 0.25
        takes = self.goods.pop() if hopeless else self.rng.choice(useful)
        self.offers.append(Offer(person=self.people.pop(), gives=fresh, takes=(takes,)))

    def _owned(self) -> str:
        thing = self.goods.pop()
        self.stock.append(thing)
        return thing


def draw_world(rng: Random, steps: int, words: WordBank) -> World:
    """A world whose shortest plan has exactly `steps` trades."""
    started = rng.choice((1, 1, 2)) if steps <= 12 and rng.random() < STARTED_SHARE else 0
    people = rng.sample(words.names, len(words.names))
    hero = people.pop()
    builder = _Builder(rng, people, rng.sample(words.goods, len(words.goods)))
    builder.tree(steps + started)
    goal = builder.offers[0].gives
    # Reversed, every trade comes after those that serve it; the first ones may have been made already.
    done = tuple(offer.person for offer in reversed(builder.offers))[:started]
    twin = not started and steps <= 12 and rng.random() < TWIN_SHARE
    if twin:
        builder.twin()
    for _ in range(min(2 + steps // 6, len(people))):
        builder.temptation()
    return World(
        hero=hero,
        goal=goal,
        stock=tuple(rng.sample(builder.stock, len(builder.stock))),
        offers=tuple(rng.sample(builder.offers, len(builder.offers))),
        done=done,
        limit=steps if not started and rng.random() < LIMIT_SHARE else None,
    )
