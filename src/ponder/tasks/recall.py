"""Say again what goes with what: the look-up that every longer deduction is made of.

A small model spends most of its pretraining before it can find one statement among several alike. Here nearly every
token of a worked answer is such a find, so that it learns to within minutes (docs/results.md); the six skills then
build on it. It is a lesson, not a test of reasoning, and `skills` does not contain it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal

from pydantic import Field, ValidationError

from ponder.core.answers import split_thinking
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Verifier
from ponder.core.types import Outcome, Problem, Record, StepVerdict, Verdict
from ponder.tasks._procedural import Draft, Skill, Style
from ponder.tasks._recall_lessons import LESSONS
from ponder.tasks._telling import HELD_OUT_LAYOUTS, SEEN_LAYOUTS, tell
from ponder.tasks._words import HELD_OUT

EXTRA_ENTRIES = 3
"""At most so many statements are told and not asked for; none where the words do not suffice."""
_QUESTIONS = ("Go through {asked}.", "Tell about {asked}.", "What about {asked}?")
_RENAMED_QUESTIONS = ("Report on {asked}.", "Which ones for {asked}?")
_NUMBERED = ("{s} ({n}).", "{s} ({n}).", "{s} ({n}).", "{s} ({n}).", "{n}. {s}.")
"""Ways to write a statement {s} without its full stop."""


class RecallFacts(Record):
    """What a problem of `recall` says."""

    lines: list[str]
    """Of a right answer, in the order in which they are asked for."""


class Recall(Skill):
    """Finding each of several statements again, in another order."""

    name: ClassVar[str] = "recall"

    lessons: tuple[Literal["pairs", "numbers", "links", "orders", "offers"], ...] = Field(
        default=("pairs", "numbers", "links", "orders", "offers"), min_length=1
    )
    """Kinds of statements, each equally frequent."""

    @property
    def verifier(self) -> Verifier:
        """Compares what the last line finds, and reads every line."""
        return RecallVerifier()

    def draw(self, rng: Random, steps: int, style: Style) -> Draft:
        """Statements told in one order, and that many of them asked for in another."""
        needed = steps + style.distractors
        lesson = rng.choice(self.lessons)
        told = needed + rng.randint(0, EXTRA_ENTRIES)
        entries = LESSONS[lesson](rng, told, style.words) or LESSONS[lesson](rng, needed, style.words)
        rng.shuffle(entries)
        numbered = rng.choice(_NUMBERED) if "{n}" in entries[0].line else "{s}."
        sentences = [numbered.format(n=n, s=entry.told.rstrip(".")) for n, entry in enumerate(entries, 1)]
        lines = {entry.asked: entry.line.format(n=n) for n, entry in enumerate(entries, 1)}
        chosen = rng.sample(entries, steps)
        renamed = style.words is HELD_OUT
        asked = ", ".join(entry.asked for entry in chosen)
        question = rng.choice(_RENAMED_QUESTIONS if renamed else _QUESTIONS).format(asked=asked)
        expected = [lines[entry.asked] for entry in chosen]
        found = chosen[-1].found.format(n=entries.index(chosen[-1]) + 1)
        return Draft(
            prompt=tell(rng, HELD_OUT_LAYOUTS if renamed else SEEN_LAYOUTS, sentences, question),
            answer=found,
            steps=[f"{line}." for line in expected],
            final=f"The answer is {found}.",
            canonical=f"{lesson} {sorted(entry.line for entry in entries)} {asked}",
            extra={"facts": RecallFacts(lines=expected).model_dump(mode="json")},
        )


@dataclass(frozen=True, slots=True)
class RecallVerifier:
    """Right when the response ends with what the last line had to find."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Compare normalised text."""
        if not isinstance(problem.answer, str):
            return Verdict.unknown("the gold answer is not a word")
        return load_plugin("verifiers", "exact")(problem, response)

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        """A verdict per line of the thinking: each must state the next thing that was asked for."""
        lines = [line.strip() for line in split_thinking(response).thinking.splitlines() if line.strip()]
        expected = _expected(problem)
        verdicts: list[StepVerdict] = []
        for index, line in enumerate(lines):
            if expected is None:
                outcome, reason = Outcome.UNKNOWN, "the problem states no facts"
            elif index < len(expected) and line.lower().rstrip(".") == expected[index]:
                outcome, reason = Outcome.CORRECT, ""
            else:
                outcome, reason = Outcome.WRONG, "this is not what was asked for next"
            verdicts.append(StepVerdict(index=index, text=line, outcome=outcome, reason=reason))
        return verdicts


def _expected(problem: Problem) -> list[str] | None:
    """The lines of a right response, in lower case."""
    try:
        return [line.lower() for line in RecallFacts.model_validate(problem.meta.get("facts")).lines]
    except ValidationError:
        return None


plugin: type[Skill] = Recall
