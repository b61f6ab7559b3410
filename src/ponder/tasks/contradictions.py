"""Contradictions: can these statements all be true, and if not, which of them clash?

The statements order people (a circle is a clash) or put things in places (two are a clash). At most one
set of them clashes: its statements form a chain that is followed from the one that the question names. One
reasoning step joins one more statement to the chain.
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
from ponder.tasks._contradictions_scene import ORDERS, Scene, Statement, draw_scene
from ponder.tasks._contradictions_wording import clause, tell, with_asides
from ponder.tasks._listed import phrase, read_list
from ponder.tasks._procedural import Draft, Skill, Style
from ponder.tasks._telling import capitalised

CONSISTENT = "consistent"


class Contradictions(Skill):
    """Which statements clash."""

    name: ClassVar[str] = "contradictions"

    def draw(self, rng: Random, steps: int, style: Style) -> Draft:
        """A scene with exactly that many statements to join to the first."""
        scene = with_asides(rng, draw_scene(rng, steps, style.words), style)
        clash = scene.clash
        return Draft(
            prompt=tell(rng, scene, style),
            answer=list(clash) if clash else CONSISTENT,
            steps=worked_steps(scene),
            final=f"The answer is {_joined(clash) if clash else CONSISTENT}.",
            canonical=scene.canonical,
            extra={"scene": scene.model_dump(mode="json")},
        )

    @property
    def verifier(self) -> Verifier:
        """Reads numbers of statements in any order, or `consistent`."""
        return ContradictionsVerifier()


def worked_steps(scene: Scene) -> list[str]:
    """An opening line with the first statement of the chain, then one line per statement joined to it.

    A statement's number stands behind what it says, so that each word of a line takes one look-up, and none two.
    """
    start, *rest = scene.chain()
    opening = scene.statements[start]
    lines = [f"{capitalised(clause(scene.topic, opening))} ({start + 1})."]
    at = opening.second if scene.topic else opening.first
    for position in rest:
        statement = scene.statements[position]
        line = f"{capitalised(clause(scene.topic, statement, at))} ({position + 1})"
        at = statement.other_end(at)
        if at and at != scene.hero:
            ends = (scene.hero, at) if scene.topic else (at, opening.second)
            concluded = Statement(kind=opening.kind, first=ends[0], second=ends[1])
            lines.append(f"{line}, so {clause(scene.topic, concluded)}.")
        else:
            lines.append(f"{line}. This {'clashes' if scene.clash else 'agrees'}.")
    return lines if scene.clash else [*lines, "No clash."]


def _joined(numbers: list[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


_CONSISTENT = re.compile(
    r"^(?:(?:it|they|this|that|all|everything|statements?|set|all of (?:it|them)) (?:is|are) (?:all )?)?"
    r"consistent$"
    r"|^(?:there is )?no clash$|^none(?: of them)?(?: clash(?:es)?)?$"
)
_NUMBER = re.compile(r"^(?:statements?|numbers?)? ?[#(\[]*(\d{1,3})[)\]]*(?: clash| are in conflict)?$")


@dataclass(frozen=True, slots=True)
class ContradictionsVerifier:
    """Compares sets of statements, and follows the chain line by line."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Accept exactly the smallest set that clashes, or `consistent` when there is none."""
        scene = _scene_of(problem)
        if scene is None:
            return Verdict.unknown("ungradable gold")
        read = read_list(response)
        if isinstance(read, Verdict):
            return read
        parts, text = read
        denials = [part for part in parts if _CONSISTENT.match(part)]
        numbers = [match for part in parts if (match := _NUMBER.match(part))]
        if denials and len(parts) > 1:
            return Verdict.wrong(text, "hedged")
        if not parts or len(denials) + len(numbers) < len(parts):
            return Verdict.wrong(text, "neither numbers of statements nor `consistent`")
        said = sorted({int(match[1]) for match in numbers}) or None
        return Verdict.correct(text) if said == scene.clash else Verdict.wrong(text)

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        """One verdict per line of the thinking."""
        scene = _scene_of(problem)
        reader = _Reader(scene) if scene else None
        verdicts: list[StepVerdict] = []
        for line in filter(str.strip, split_thinking(response).thinking.splitlines()):
            outcome, reason = reader.judge(line) if reader else (Outcome.UNKNOWN, "ungradable gold")
            verdicts.append(StepVerdict(index=len(verdicts), text=line, outcome=outcome, reason=reason))
        return verdicts


_TAIL = (
    r"(?:,? (?:so|therefore|thus|hence) (?P<concluded>[^.]+))?"
    r"(?:[.,;]? (?:but )?(?:this|that|which|it) (?P<verdict>clashes|agrees)(?: with [^.]*)?)?$"
)
_LINES = (
    re.compile(r"^(?P<cited>[^(\[]+) [(\[](?:statement )?#?(?P<number>\d{1,3})[)\]]?" + _TAIL),
    re.compile(r"^(?:statement )?[#(\[]*(?P<number>\d{1,3})[)\]]*[:.]? (?:says )?(?:that )?(?P<cited>.+?)" + _TAIL),
)
"""A statement's number behind what it says, or in front of it."""
LONGEST_LINE = 300
"""Longer lines are not understood: the patterns take quadratic time at worst."""
_PLACE = re.compile(r"^(?:the )?(?P<first>\S+) is in (?P<second>.+)$")
_SAME = re.compile(r"^(?:the )?(?P<first>\S+) is (?:with|where) (?:the )?(?P<second>\S+)(?: is)?$")
_BOTH = re.compile(r"^(?:the )?(?P<first>\S+) and (?:the )?(?P<second>\S+) are together$")


@dataclass(slots=True)
class _Reader:
    """Reads worked lines in order and remembers what they have established."""

    scene: Scene
    known: set[tuple[str, str]] = field(default_factory=set)
    """(earlier, later) of an order, or (thing, place), lower case."""
    cited: set[int] = field(default_factory=set)

    def judge(self, line: str) -> tuple[Outcome, str]:
        """Verdict and reason for the next line."""
        text = phrase(line)
        if _CONSISTENT.match(text):
            return _verdict(self._fault_in_closing())
        matches = (pattern.match(text) for pattern in _LINES if len(text) <= LONGEST_LINE)
        match = next(filter(None, matches), None)
        if match is None:
            return Outcome.UNKNOWN, "not understood"
        position = int(match["number"]) - 1
        if not 0 <= position < len(self.scene.statements):
            return Outcome.WRONG, "there is no such statement"
        statement = _lowered(self.scene.statements[position])
        if not self._quotes(match["cited"], statement):
            return Outcome.WRONG, "this is not what the statement says"
        self.cited.add(position)
        return _verdict(self._fault_in_step(statement, match["concluded"], match["verdict"]))

    def _quotes(self, text: str, statement: Statement) -> bool:
        said = self._read(text)
        if said is None:
            return phrase(text) == phrase(statement.first) and statement.kind == "aside"
        turned = Statement(kind="same", first=said.second, second=said.first)
        return said == statement or (said.kind == "same" and turned == statement)

    def _read(self, text: str) -> Statement | None:
        """The statement that a clause makes."""
        text = text.strip(" .,:;")
        if self.scene.topic:
            reverse, adjective = ORDERS[self.scene.topic]
            for link in (self.scene.topic, reverse, f"is not as {adjective} as"):
                first, found, second = text.partition(f" {link} ")
                if found:
                    ends = (first, second) if link == self.scene.topic else (second, first)
                    return Statement(kind="order", first=ends[0], second=ends[1])
            return None
        if match := _PLACE.match(text):
            return Statement(kind="place", first=match["first"], second=match["second"])
        if match := _SAME.match(text) or _BOTH.match(text):
            return Statement(kind="same", first=match["first"], second=match["second"])
        return None

    def _fault_in_step(self, statement: Statement, concluded: str | None, verdict: str | None) -> str:
        """What is wrong with what a line makes of its statement; empty when nothing is."""
        pair = statement.first, statement.second
        if verdict and (verdict == "clashes") != self._clashes(statement):
            return f"this does not {'clash' if verdict == 'clashes' else 'agree'}"
        if verdict == "agrees" and pair not in self.known:
            return "there is nothing yet to agree with"
        if concluded is None:
            if statement.kind in ("order", "place"):
                self.known.add(pair)
            return ""
        said = self._read(concluded)
        if said is None or said.kind == "same" or not self._follows((said.first, said.second), statement):
            return "this does not follow"
        self.known.add((said.first, said.second))
        return ""

    def _clashes(self, statement: Statement) -> bool:
        if statement.kind == "order":
            return (statement.second, statement.first) in self.known
        others = {place for thing, place in self.known if thing == statement.first}
        return statement.kind == "place" and bool(others - {statement.second})

    def _follows(self, concluded: tuple[str, str], statement: Statement) -> bool:
        """Whether the statement joined to something known gives the conclusion."""
        first, second = statement.first, statement.second
        start, end = concluded
        if statement.kind == "order":
            appended = end == second and (start, first) in self.known
            return appended or (start == first and (second, end) in self.known)
        if statement.kind == "same" and start in (first, second):
            return (statement.other_end(start), end) in self.known
        return False

    def _fault_in_closing(self) -> str:
        if self.scene.clash:
            return "there is a clash"
        return "" if self.cited.issuperset(self.scene.chain()) else "more is said than was looked at"


def _verdict(fault: str) -> tuple[Outcome, str]:
    return (Outcome.WRONG, fault) if fault else (Outcome.CORRECT, "follows")


def _lowered(statement: Statement) -> Statement:
    return Statement(kind=statement.kind, first=statement.first.lower(), second=statement.second.lower())


def _scene_of(problem: Problem) -> Scene | None:
    """The scene of a gradable problem: the gold answer is what the scene itself says."""
    try:
        scene = Scene.model_validate(problem.meta.get("scene"))
    except ValidationError:
        return None
    if scene.topic and scene.topic not in ORDERS:
        return None
    return scene if problem.answer == (scene.clash or CONSISTENT) else None


plugin: type[Skill] = Contradictions
