"""Rules about people's traits, what follows from them, and how such theories are drawn."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Literal

from ponder.core.types import Record
from ponder.tasks._words import WordBank

NOT = "not "


def negated(quality: str) -> str:
    """`not calm` of `calm`, and back."""
    return quality.removeprefix(NOT) if quality.startswith(NOT) else NOT + quality


class Theory(Record):
    """Facts about people, rules that hold for everybody, and a question about one person.

    A quality is a trait, or a trait after `not`.
    """

    hero: str
    """Whom the question is about."""
    facts: tuple[tuple[str, str], ...]
    """(person, quality)."""
    rules: tuple[tuple[str, str], ...]
    """(premise, conclusion): whoever has the first quality has the second."""
    asked: Literal["follows", "fails", "last"]
    """Which option follows, which does not, or what is concluded last."""
    options: tuple[str, ...] = ()
    """Qualities to choose from; none when the question is open."""

    def given(self, person: str) -> list[str]:
        """What the facts say about a person."""
        return [quality for name, quality in self.facts if name == person]

    def allows(self, premise: str, conclusion: str) -> bool:
        """Whether one rule, forwards or by its contrapositive, leads from a premise to a conclusion."""
        rules = ((premise, conclusion), (negated(conclusion), negated(premise)))
        return any(rule in self.rules for rule in rules)

    def concluded(self, person: str) -> list[str]:
        """Everything that follows about a person and is not given, in the order of deduction.

        Complete for rules with one premise: an entailed quality is reached from the facts by rules and their
        contrapositives, unless the rules alone settle a trait for everybody, which `draw_theory` never makes.
        """
        known = self.given(person)
        number_given = len(known)
        for quality in known:  # grows while it is read
            for premise, conclusion in self.rules:
                for start, end in ((premise, conclusion), (negated(conclusion), negated(premise))):
                    if start == quality and end not in known:
                        known.append(end)
        return known[number_given:]

    @property
    def answer(self) -> str | None:
        """The one right answer; None when there is none or more than one."""
        concluded = self.concluded(self.hero)
        if self.asked == "last":
            return concluded[-1] if concluded else None
        right = [option for option in self.options if (option in concluded) == (self.asked == "follows")]
        return right[0] if len(right) == 1 else None

    @property
    def canonical(self) -> str:
        """What the theory says, whatever the order of telling."""
        facts = ";".join(sorted(f"{person} {quality}" for person, quality in self.facts))
        rules = ";".join(sorted(f"{premise}>{conclusion}" for premise, conclusion in self.rules))
        return f"implications|{facts}|{rules}|{self.asked} {self.hero}|{','.join(sorted(self.options))}"


NEGATIVE_SHARE = 0.2
"""How often a trait appears after `not` wherever it is concluded."""
OPTIONS = 4


def draw_theory(rng: Random, steps: int, words: WordBank) -> Theory:
    """A theory in which the hero's conclusions are one chain of exactly `steps` rules.

    Every trait is concluded in one polarity only, so the theory is consistent. No idle rule has a premise
    from the chain, and none concludes the opposite of the chain, so none leads anywhere from the hero, not
    even backwards.
    """
    hero, other = rng.sample(words.names, 2)
    number_idle = min(1 + steps // 2, 6)
    traits = rng.sample(words.traits, min(steps + 1 + number_idle + 2, len(words.traits)))
    qualities = [NOT + trait if rng.random() < NEGATIVE_SHARE else trait for trait in traits]
    chain = [traits[0], *qualities[1 : steps + 1]]
    idle = qualities[steps + 1 :]
    rules = _idle_rules(rng, chain, idle, number_idle)
    mentioned = sorted({quality for rule in rules for quality in rule} & set(idle))
    facts = [(hero, chain[0])]
    tempting = rng.random()
    if tempting < 0.4:  # the same rules lead somewhere for somebody else
        facts.append((other, idle[0]))
    elif tempting < 0.65:  # denying the premise of a rule does not deny its conclusion
        facts.append((hero, negated(idle[0])))
        mentioned.append(negated(idle[1]))
    rules += pairwise(chain)
    rng.shuffle(rules)
    rng.shuffle(facts)
    asked, options = _draw_question(rng, chain, mentioned, idle)
    return Theory(hero=hero, facts=tuple(facts), rules=tuple(rules), asked=asked, options=options)


def _idle_rules(rng: Random, chain: list[str], idle: list[str], number: int) -> list[tuple[str, str]]:
    """Rules that never fire for somebody who has the qualities of the chain and none of the idle ones.

    Nothing concludes the first idle quality, so a fact may state or deny it.
    """
    rules = [(idle[0], idle[1])]
    while len(rules) < number:
        kind = rng.random()
        if kind < 0.5:  # beside the chain
            rule = tuple(idle[index] for index in sorted(rng.sample(range(len(idle)), 2)))
        elif kind < 0.8:  # into the chain: reading it backwards would be the converse error
            rule = rng.choice(idle), rng.choice(chain[1:])
        else:  # about those who lack a quality of the chain
            rule = negated(rng.choice(chain)), rng.choice(idle[1:])
        if rule not in rules:
            rules.append((rule[0], rule[1]))
    return rules


def _draw_question(
    rng: Random, chain: list[str], tempting: list[str], idle: list[str]
) -> tuple[Literal["follows", "fails", "last"], tuple[str, ...]]:
    """What is asked, and the options to choose from."""
    kind = rng.random()
    if kind < 0.35:
        return "last", ()
    if kind < 0.55 and len(chain) >= OPTIONS:
        options = [*rng.sample(chain[1:], OPTIONS - 1), rng.choice(tempting)]
        rng.shuffle(options)
        return "fails", tuple(options)
    wrong = rng.sample(tempting, min(OPTIONS - 1, len(tempting)))
    wrong += [quality for quality in idle[1:] if quality not in wrong][: OPTIONS - 1 - len(wrong)]
    options = [chain[-1], *wrong]
    rng.shuffle(options)
    return "follows", tuple(options)
