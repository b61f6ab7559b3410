"""What `recall` tells, each lesson worded as the skill that will need it words it.

`pairs` and `numbers` ask for one word a line, so that nearly every token of an answer is a look-up: from them a model
learns to find at all. `links`, `orders` and `offers` ask for the lines that the skills will write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from ponder.tasks import _contradictions_wording as contradictions
from ponder.tasks import _plans_wording as plans
from ponder.tasks._chains_wording import RELATIONS
from ponder.tasks._contradictions_scene import ORDERS, Statement
from ponder.tasks._english import capital, indefinite, joined
from ponder.tasks._telling import capitalised
from ponder.tasks._words import HELD_OUT, WordBank


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement, and how it is asked for and found again."""

    asked: str
    """What names it in the question."""
    told: str
    """The statement as a sentence."""
    line: str
    """What a worked answer says of it; `{n}` becomes its number."""
    found: str
    """What the line finds; `{n}` becomes the statement's number here too."""


Lesson = Callable[[Random, int, WordBank], list[Entry]]
"""Draws that many entries, or none when the words do not suffice; they do for the most steps a problem has."""

BARE_NAMES = 0.5
"""Share of the statements of `numbers` that are a name and nothing else: the others are learnt from them."""
_PAIRED = ("{a}: {b}.", "{a} has {b}.", "{a} goes with {b}.", "{b} belongs to {a}.")
_RENAMED_PAIRED = ("{a} owns {b}.", "{a} is matched with {b}.", "{b} was handed to {a}.")


def pairs(rng: Random, count: int, words: WordBank) -> list[Entry]:
    """Words of one kind, each with a word of the same or another kind."""
    banks = [bank for bank in (words.names, words.goods, words.traits) if len(bank) >= count]
    if not banks:
        return []
    firsts = rng.sample(rng.choice(banks), count)
    kinds = [[word for word in bank if word not in firsts] for bank in banks]
    fitting = [kind for kind in kinds if len(kind) >= count]
    if not fitting:
        return []
    seconds = rng.sample(rng.choice(fitting), count)
    template = rng.choice(_RENAMED_PAIRED if words is HELD_OUT else _PAIRED)
    return [
        Entry(a, capitalised(template.format(a=a, b=b)), f"{capitalised(a)}: {b}", b)
        for a, b in zip(firsts, seconds, strict=True)
    ]


def links(rng: Random, count: int, words: WordBank) -> list[Entry]:
    """Links of one chain, as `chains` tells them: all but its ends are first and second once each."""
    banks = {"names": words.names, "places": words.places, "goods": tuple(f"the {good}" for good in words.goods)}
    fitting = [relation for relation in RELATIONS.values() if len(banks[relation.bank]) > count]
    if not fitting:
        return []
    relation = rng.choice(fitting)
    statements = (relation.renamed if words is HELD_OUT else relation.seen).statements
    return [
        Entry(
            a,
            capitalised(rng.choice(statements).format(a=a, b=b)),
            capitalised(relation.line.format(a=a, b=b)),
            b,
        )
        for a, b in pairwise(rng.sample(banks[relation.bank], count + 1))
    ]


def orders(rng: Random, count: int, words: WordBank) -> list[Entry]:
    """Numbered statements of one order, as `contradictions` tells them, some from their other end."""
    if len(words.names) <= count:
        return []
    topic = rng.choice(list(ORDERS))
    wording = contradictions.RENAMED_WORDING if words is HELD_OUT else contradictions.SEEN_WORDING
    entries: list[Entry] = []
    for first, second in pairwise(rng.sample(words.names, count + 1)):
        statement = Statement(kind="order", first=first, second=second)
        told = contradictions.told(rng, topic, statement, wording)
        entries.append(Entry(first, told, f"{contradictions.clause(topic, statement)} ({{n}})", second))
    return entries


def numbers(rng: Random, count: int, words: WordBank) -> list[Entry]:
    """Numbered statements, each of which ends with a name of its own or is that name; the number is asked for."""
    if len(words.names) <= count:
        return []
    topic = rng.choice(list(ORDERS))
    names = rng.sample(words.names, len(words.names))
    others = names[count:]
    entries: list[Entry] = []
    for place, name in enumerate(names[:count]):
        statement = Statement(kind="order", first=others[place % len(others)], second=name)
        told = f"{name}." if rng.random() < BARE_NAMES else f"{contradictions.clause(topic, statement)}."
        entries.append(Entry(name, told, f"{name} ({{n}})", "{n}"))
    return entries


def offers(rng: Random, count: int, words: WordBank) -> list[Entry]:
    """Who gives what for what, as `plans` tells it."""
    if min(len(words.names), len(words.goods) - 2) < count:
        return []
    wording = plans.RENAMED if words is HELD_OUT else plans.WORDING
    people = rng.sample(words.names, count)
    entries: list[Entry] = []
    for person, gives in zip(people, rng.sample(words.goods, count), strict=True):
        takes = rng.sample([good for good in words.goods if good != gives], rng.choice((1, 1, 2)))
        sentence = rng.choice(wording.offers).format(
            person=person, gives=indefinite(gives), takes=joined(map(indefinite, takes))
        )
        needs = ", ".join(f"need {indefinite(good)}" for good in takes)
        entries.append(
            Entry(indefinite(gives), capital(sentence), f"{capital(indefinite(gives))} from {person}: {needs}", person)
        )
    return entries


LESSONS: dict[str, Lesson] = {"pairs": pairs, "numbers": numbers, "links": links, "orders": orders, "offers": offers}
