"""Say again what goes with what: the look-up that every longer deduction is made of.

A small model spends most of its pretraining before it can find one statement among several alike. Here nearly every
token of a worked answer is such a find, so that it learns to within minutes (docs/results.md); the six skills then
build on it. It is a lesson, not a test of reasoning, and `skills` does not contain it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import ClassVar

from pydantic import ValidationError

from ponder.core.answers import split_thinking
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Verifier
from ponder.core.types import Outcome, Problem, Record, StepVerdict, Verdict
from ponder.tasks._chains_wording import RELATIONS
from ponder.tasks._procedural import Draft, Skill, Style
from ponder.tasks._telling import HELD_OUT_LAYOUTS, SEEN_LAYOUTS, capitalised, tell
from ponder.tasks._words import HELD_OUT, WordBank

EXTRA_PAIRS = 3
"""At most so many pairs are told and not asked for."""
CHAINED_SHARE = 0.5
"""Share of problems whose pairs are the links of a chain, told as `chains` tells them."""
_STATEMENTS = ("{a}: {b}.", "{a} has {b}.", "{a} goes with {b}.", "{b} belongs to {a}.")
_RENAMED_STATEMENTS = ("{a} owns {b}.", "{a} is matched with {b}.", "{b} was handed to {a}.")
_LINE = "{a}: {b}"
_QUESTIONS = ("Go through {asked}.", "Tell about {asked}.", "What about {asked}?")
_RENAMED_QUESTIONS = ("Report on {asked}.", "Which ones for {asked}?")


class RecallFacts(Record):
    """What a problem of `recall` says."""

    pairs: list[tuple[str, str]]
    asked: list[str]
    """First members of pairs, in the order in which they are asked for."""
    line: str
    """Template of a line that states a pair."""


class Recall(Skill):
    """Finding each of several pairs again, in another order."""

    name: ClassVar[str] = "recall"

    @property
    def verifier(self) -> Verifier:
        """Compares the last pair's second member, and reads every line."""
        return RecallVerifier()

    def draw(self, rng: Random, steps: int, style: Style) -> Draft:
        """Pairs told in one order, and that many of them asked for in another."""
        told = steps + rng.randint(0, EXTRA_PAIRS) + style.distractors
        draw = _chained if rng.random() < CHAINED_SHARE else _paired
        pairs, statements, line = draw(rng, told, style.words)
        rng.shuffle(pairs)
        renamed = style.words is HELD_OUT
        sentences = [capitalised(rng.choice(statements).format(a=a, b=b)) for a, b in pairs]
        chosen = rng.sample(pairs, steps)
        asked = [a for a, _ in chosen]
        question = rng.choice(_RENAMED_QUESTIONS if renamed else _QUESTIONS).format(asked=", ".join(asked))
        return Draft(
            prompt=tell(rng, HELD_OUT_LAYOUTS if renamed else SEEN_LAYOUTS, sentences, question),
            answer=chosen[-1][1],
            steps=[f"{capitalised(line.format(a=a, b=b))}." for a, b in chosen],
            final=f"The answer is {chosen[-1][1]}.",
            canonical=f"{line} {sorted(pairs)} {asked}",
            extra={"facts": RecallFacts(pairs=pairs, asked=asked, line=line).model_dump(mode="json")},
        )


def _chained(rng: Random, count: int, words: WordBank) -> tuple[list[tuple[str, str]], tuple[str, ...], str]:
    """Links of one chain: every thing but the ends is a first member once and a second member once."""
    banks = {"names": words.names, "places": words.places, "goods": tuple(f"the {good}" for good in words.goods)}
    fitting = [relation for relation in RELATIONS.values() if len(banks[relation.bank]) > count]
    relation = rng.choice(fitting)
    entities = rng.sample(banks[relation.bank], count + 1)
    wording = relation.renamed if words is HELD_OUT else relation.seen
    return list(pairwise(entities)), wording.statements, relation.line


def _paired(rng: Random, count: int, words: WordBank) -> tuple[list[tuple[str, str]], tuple[str, ...], str]:
    """Words of one kind, each with a word of the same or another kind."""
    banks = [bank for bank in (words.names, words.goods, words.traits) if len(bank) >= count]
    firsts = rng.sample(rng.choice(banks), count)
    kinds = [[word for word in bank if word not in firsts] for bank in banks]
    seconds = rng.choice([kind for kind in kinds if len(kind) >= count])
    statements = _RENAMED_STATEMENTS if words is HELD_OUT else _STATEMENTS
    return list(zip(firsts, rng.sample(seconds, count), strict=True)), (rng.choice(statements),), _LINE


@dataclass(frozen=True, slots=True)
class RecallVerifier:
    """Right when the response ends with what goes with the last word that was asked for."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Compare normalised text."""
        if not isinstance(problem.answer, str):
            return Verdict.unknown("the gold answer is not a word")
        return load_plugin("verifiers", "exact")(problem, response)

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        """A verdict per line of the thinking: each must state the next pair that was asked for."""
        lines = [line.strip() for line in split_thinking(response).thinking.splitlines() if line.strip()]
        expected = _expected(problem)
        verdicts: list[StepVerdict] = []
        for index, line in enumerate(lines):
            if expected is None:
                outcome, reason = Outcome.UNKNOWN, "the problem states no pairs"
            elif index < len(expected) and line.lower().rstrip(".") == expected[index]:
                outcome, reason = Outcome.CORRECT, ""
            else:
                outcome, reason = Outcome.WRONG, "this is not the next pair"
            verdicts.append(StepVerdict(index=index, text=line, outcome=outcome, reason=reason))
        return verdicts


def _expected(problem: Problem) -> list[str] | None:
    """The lines of a right response, in lower case."""
    try:
        facts = RecallFacts.model_validate(problem.meta.get("facts"))
    except ValidationError:
        return None
    partner = dict(facts.pairs)
    return [facts.line.format(a=a, b=partner.get(a, "")).lower() for a in facts.asked]


plugin: type[Skill] = Recall
