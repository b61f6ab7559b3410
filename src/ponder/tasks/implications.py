"""Implications: what follows about a person from facts and general rules, and what does not.

Rules about other qualities, rules whose conclusion is known but whose premise is not (the converse error),
rules whose premise is denied (the inverse error) and rules that help only somebody else lie among those that
apply. The question asks for the option that follows, for the one that does not, or for the last conclusion;
one reasoning step is one rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from pydantic import ValidationError

from ponder.core.answers import split_thinking
from ponder.core.protocols import Verifier
from ponder.core.types import Outcome, Problem, StepVerdict, Verdict
from ponder.tasks._implications_theory import Theory, draw_theory
from ponder.tasks._implications_wording import tell
from ponder.tasks._listed import listed, phrase, read_list
from ponder.tasks._procedural import Draft, Skill, Style
from ponder.tasks._telling import capitalised


class Implications(Skill):
    """What follows from rules, and what does not."""

    name: ClassVar[str] = "implications"

    def draw(self, rng: Random, steps: int, style: Style) -> Draft:
        """A theory with exactly that many rules to apply."""
        theory = draw_theory(rng, steps, style.words)
        return Draft(
            prompt=tell(rng, theory, style),
            answer=theory.answer,
            steps=worked_steps(theory),
            final=f"The answer is {theory.answer}.",
            canonical=theory.canonical,
            extra={"theory": theory.model_dump(mode="json")},
        )

    @property
    def verifier(self) -> Verifier:
        """Reads one quality."""
        return ImplicationsVerifier()


def worked_steps(theory: Theory) -> list[str]:
    """One line per rule; a closing line judges every option if the one that fails is asked for."""
    hero = theory.hero
    conclusions = theory.concluded(hero)
    known = {*theory.given(hero), *conclusions}
    reasons = {quality: premise for premise, quality in theory.rules if premise in known}
    lines = [f"{hero} is {reasons[quality]}, so {hero} is {quality}." for quality in conclusions]
    if theory.asked == "fails":
        judged = (f"{one} {'follows' if one in conclusions else 'does not'}" for one in theory.options)
        lines.append(capitalised(", ".join(judged)) + ".")
    return lines


@dataclass(frozen=True, slots=True)
class ImplicationsVerifier:
    """Compares qualities, and follows the rules line by line."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Accept the one quality that answers the question, alone or said of the person asked about."""
        theory = _theory_of(problem)
        if theory is None:
            return Verdict.unknown("ungradable gold")
        read = read_list(response)
        if isinstance(read, Verdict):
            return read
        parts, text = read
        said = {_said_of(part, theory.hero) for part in parts}
        if len(said) > 1:
            return Verdict.wrong(text, "hedged")
        quality = next(iter(said), None)
        if quality is None:
            return Verdict.wrong(text, "names no quality of the person asked about")
        return Verdict.correct(quality) if quality == theory.answer else Verdict.wrong(quality)

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        """One verdict per line of the thinking."""
        theory = _theory_of(problem)
        reader = _Reader(theory) if theory else None
        verdicts: list[StepVerdict] = []
        for line in filter(str.strip, split_thinking(response).thinking.splitlines()):
            outcome, reason = reader.judge(line) if reader else (Outcome.UNKNOWN, "ungradable gold")
            verdicts.append(StepVerdict(index=len(verdicts), text=line, outcome=outcome, reason=reason))
        return verdicts


_QUALITY = r"(?:also )?(?P<quality>(?:not )?[a-z-]+)"
_SAID = re.compile(rf"^(?:that )?(?:(?P<who>[a-z]+) (?:is|must be) )?{_QUALITY}$")
_SO = re.compile(r"^(?:since |because |as )?(?P<premise>.+?),? (?:so|therefore|thus|hence) (?P<conclusion>.+)$")
_BECAUSE = re.compile(r"^(?P<conclusion>.+?),? (?:because|since|as) (?P<premise>.+)$")
_JUDGED = re.compile(rf"^{_QUALITY} (?P<how>follows|does not(?: follow)?)$")
_PRONOUNS = frozenset({"he", "she", "they", "it"})


def _said_of(text: str, hero: str) -> str | None:
    """The quality that a phrase like `calm` or `Mia is calm` gives the hero."""
    match = _SAID.match(phrase(text))
    if match is None or (match["who"] or hero.lower()) not in _PRONOUNS | {hero.lower()}:
        return None
    return match["quality"]


@dataclass(slots=True)
class _Reader:
    """Reads worked lines in order and remembers what they have established, by person."""

    theory: Theory
    known: dict[str, set[str]] = field(init=False)
    """Lower-case person to qualities."""
    people: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.people = {person.lower(): person for person, _ in self.theory.facts}
        self.known = {name: set(self.theory.given(person)) for name, person in self.people.items()}

    def judge(self, line: str) -> tuple[Outcome, str]:
        """Verdict and reason for the next line."""
        text = phrase(line)
        judged = [_JUDGED.match(part) for part in listed(text)]
        if judged and all(judged):
            return _verdict(self._fault_in_judgement([match for match in judged if match]))
        match = _SO.match(text) or _BECAUSE.match(text)
        if match is None:
            return self._restated(text)
        premise, conclusion = _SAID.match(match["premise"]), _SAID.match(match["conclusion"])
        if premise is None or conclusion is None or premise["who"] is None:
            return Outcome.UNKNOWN, "not understood"
        return _verdict(self._fault_in_step(premise, conclusion))

    def _restated(self, text: str) -> tuple[Outcome, str]:
        """A line that only says what somebody is."""
        match = _SAID.match(text)
        if match is None or match["who"] is None:
            return Outcome.UNKNOWN, "not understood"
        known = match["quality"] in self.known.get(match["who"], ())
        return (Outcome.CORRECT, "known") if known else (Outcome.WRONG, "not known, and no reason is given")

    def _fault_in_step(self, premise: re.Match[str], conclusion: re.Match[str]) -> str:
        """What is wrong with a conclusion; empty when nothing is, and then it is known from here on."""
        who = premise["who"]
        if who not in self.known:
            return "names somebody of whom nothing is known"
        if (conclusion["who"] or who) not in _PRONOUNS | {who}:
            return "the conclusion is about somebody else"
        if premise["quality"] not in self.known[who]:
            return "the premise is not known"
        if not self.theory.allows(premise["quality"], conclusion["quality"]):
            return "no rule says so"
        self.known[who].add(conclusion["quality"])
        return ""

    def _fault_in_judgement(self, judged: list[re.Match[str]]) -> str:
        known, follows = self.known.get(self.theory.hero.lower(), ()), self.theory.concluded(self.theory.hero)
        if sorted(match["quality"] for match in judged) != sorted(self.theory.options):
            return "these are not the options"
        for match in judged:
            quality = match["quality"]
            if (match["how"] == "follows") != (quality in follows):
                return f"{quality} {'does' if quality in follows else 'does not'} follow"
            if quality in follows and quality not in known:
                return f"{quality} has not been shown"
        return ""


def _verdict(fault: str) -> tuple[Outcome, str]:
    return (Outcome.WRONG, fault) if fault else (Outcome.CORRECT, "follows")


def _theory_of(problem: Problem) -> Theory | None:
    """The theory of a gradable problem: the gold answer is what the theory itself answers."""
    try:
        theory = Theory.model_validate(problem.meta.get("theory"))
    except ValidationError:
        return None
    return theory if isinstance(problem.answer, str) and problem.answer == theory.answer else None


plugin: type[Skill] = Implications
