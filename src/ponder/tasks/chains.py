"""Follow a chain of links among confounding ones: who, where or what is reached."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import ClassVar

from ponder.tasks._chains_verifier import ChainFacts, ChainVerifier
from ponder.tasks._chains_wording import RELATIONS, Relation, Wording
from ponder.tasks._procedural import Draft, Skill, Style
from ponder.tasks._telling import HELD_OUT_LAYOUTS, SEEN_LAYOUTS, capitalised, mix_in, tell
from ponder.tasks._words import HELD_OUT, WordBank

COUNTED_SHARE = 0.65
"""Share of problems that say how many links to follow; the others go to the end of the chain."""

_DISTRACTIONS = ("{x} is {y}.", "Today {x} is {y}.", "Some say that {x} is {y}.")
_QUALITIES = {
    "names": ("quiet", "lucky", "tidy", "calm", "strong", "quick", "young"),
    "places": ("quiet", "clean", "tidy", "calm", "small", "new"),
    "goods": ("clean", "small", "new", "red", "old"),
}


@dataclass(frozen=True, slots=True)
class _Shape:
    """How many links go where."""

    lead: int
    """Links that lead to the start of the question."""
    tail: int
    """Links that go on behind the answer."""
    others: tuple[int, ...]
    """Lengths of chains that do not touch the asked one."""

    def entities(self, steps: int) -> int:
        """Different things that such a problem names."""
        return self.lead + steps + self.tail + 1 + sum(length + 1 for length in self.others)


class Chains(Skill):
    """Following people who pass notes on, rooms that lead to rooms, lines of people and rows of things."""

    name: ClassVar[str] = "chains"

    @property
    def verifier(self) -> ChainVerifier:
        """Compares names, and follows links."""
        return ChainVerifier()

    def draw(self, rng: Random, steps: int, style: Style) -> Draft:
        """Shuffled links, of which that many lead from the start to the answer."""
        counted = rng.random() < COUNTED_SHARE
        shape = _draw_shape(rng, steps, counted)
        needed = shape.entities(steps)
        fitting = [name for name in RELATIONS if len(_bank(RELATIONS[name], style.words)) >= needed]
        name = rng.choice(fitting)
        relation = RELATIONS[name]
        entities = rng.sample(_bank(relation, style.words), needed)
        links, walk = _lay_out(entities, shape, steps)
        rng.shuffle(links)
        count = steps if counted else None
        facts = ChainFacts(relation=name, links=links, start=walk[0], count=count)
        return Draft(
            prompt=_prompt(rng, relation, links, walk[0], count, style),
            answer=walk[-1],
            steps=_solve(relation, walk, count),
            final=f"The answer is {walk[-1]}.",
            canonical=f"{name} {sorted(links)} {walk[0]} {count}",
            extra={"facts": facts.model_dump(mode="json")},
        )


def _bank(relation: Relation, words: WordBank) -> tuple[str, ...]:
    if relation.bank == "goods":
        return tuple(f"the {good}" for good in words.goods)
    return words.names if relation.bank == "names" else words.places


def _draw_shape(rng: Random, steps: int, counted: bool) -> _Shape:
    spare = 2 if steps == 1 else rng.randint(3, 4)
    lead = int(spare > 2 and rng.random() < 0.4)
    tail = rng.randint(0, spare - lead - 1) if counted else 0
    rest = spare - lead - tail
    if rest < 2 or (counted and rng.random() < 0.5):
        return _Shape(lead, tail, (rest,))
    first = rng.randint(1, rest - 1)
    return _Shape(lead, tail, (first, rest - first))


def _lay_out(entities: list[str], shape: _Shape, steps: int) -> tuple[list[tuple[str, str]], list[str]]:
    """All links, and the walk from the start to the answer."""
    links: list[tuple[str, str]] = []
    position = 0
    for length in (shape.lead + steps + shape.tail, *shape.others):
        chain = entities[position : position + length + 1]
        links += pairwise(chain)
        position += length + 1
    return links, entities[shape.lead : shape.lead + steps + 1]


def _prompt(
    rng: Random, relation: Relation, links: list[tuple[str, str]], start: str, count: int | None, style: Style
) -> str:
    renamed = style.words is HELD_OUT
    wording: Wording = relation.renamed if renamed else relation.seen
    told = [rng.choice(wording.statements).format(a=a, b=b) for a, b in links]
    extras = _distractions(rng, relation, links, style.distractors)
    if count is None:
        question = rng.choice(wording.ended).format(a=start)
    else:
        question = rng.choice(wording.counted).format(a=start, n=count, s="" if count == 1 else "s")
    sentences = [capitalised(sentence) for sentence in mix_in(rng, told, extras)]
    return tell(rng, HELD_OUT_LAYOUTS if renamed else SEEN_LAYOUTS, sentences, capitalised(question))


def _distractions(rng: Random, relation: Relation, links: list[tuple[str, str]], count: int) -> list[str]:
    """Statements about the same entities that link none of them."""
    qualities = _QUALITIES[relation.bank]
    entities = sorted({entity for link in links for entity in link})
    subjects = rng.sample(entities, min(count, len(entities)))
    return [rng.choice(_DISTRACTIONS).format(x=subject, y=rng.choice(qualities)) for subject in subjects]


def _solve(relation: Relation, walk: list[str], count: int | None) -> list[str]:
    goal = "to the end" if count is None else f"{count}"
    lines = [f"Start with {walk[0]}, go {goal}."]
    for index, (a, b) in enumerate(pairwise(walk), start=1):
        lines.append(f"{index}: {relation.line.format(a=a, b=b)}.")
    return lines


plugin: type[Skill] = Chains
