"""Cause and effect: what happens in a small causal story, or would happen if somebody stepped in.

A story is a structural causal model over events that happen or do not. An intervention is Pearl's do(): it
fixes one event and cuts that event's own mechanism, so its causes stay as they were and its effects follow.
The answer is the list of all that happens; one reasoning step is one mechanism applied to the known states.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from pydantic import ValidationError

from ponder.core.answers import split_thinking
from ponder.core.types import Outcome, Problem, StepVerdict, Verdict
from ponder.tasks._causes_story import State, Story, draw_story
from ponder.tasks._causes_wording import tell
from ponder.tasks._english import capital
from ponder.tasks._listed import listed, phrase, read_list
from ponder.tasks._procedural import Draft, Skill, Style


class Causes(Skill):
    """What happens, given mechanisms, facts and perhaps an intervention."""

    name: ClassVar[str] = "causes"

    def draw(self, rng: Random, steps: int, style: Style) -> Draft:
        """A story with exactly that many mechanisms to apply."""
        story = draw_story(rng, steps, style.words.events)
        states = story.outcome()
        happening = [story.text(state) for state in states.items() if state[1]]
        if not happening:  # the answer must name something
            return self.draw(rng, steps, style)
        return Draft(
            prompt=tell(rng, story, style),
            answer=list(happening),
            steps=worked_steps(story),
            final=f"The answer is: {', '.join(happening)}.",
            canonical=story.canonical,
            extra={"story": story.model_dump(mode="json")},
        )

    @property
    def verifier(self) -> CausesVerifier:
        """Accepts the list of what happens, in any order."""
        return CausesVerifier()


def worked_steps(story: Story) -> list[str]:
    """An opening line with the given states, then a line per mechanism: causes as they are, so the effect."""
    states = story.outcome()
    opening = f"Given: {' and '.join(map(story.text, story.given))}."
    if story.forced:
        opening += f" By hand: {story.text(story.forced)}."
    lines = [opening]
    for rule in story.applied:
        causes = " and ".join(story.text((event, states[event])) for event, _ in rule.causes)
        lines.append(capital(f"{causes}, so {story.text((rule.effect, states[rule.effect]))}."))
    return lines


@dataclass(frozen=True, slots=True)
class CausesVerifier:
    """Compares lists of events, and follows the mechanisms line by line.

    What the problem gives or forces may be left out of the answer: a reader can take "what happens" either
    way. Saying truly that something does not happen is no error.
    """

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Judge the list of what happens."""
        story = _story_of(problem)
        gold = problem.answer
        if story is None or not isinstance(gold, list) or not gold:
            return Verdict.unknown("ungradable gold")
        read = read_list(response)
        if isinstance(read, Verdict):
            return read
        parts, text = read
        names = _states_by_phrase(story)
        said = {names[part] for part in parts if part in names}
        if any((event, not happens) in said for event, happens in said):
            return Verdict.wrong(text, "hedged")
        happening = {names.get(phrase(str(part))) for part in gold}
        free = {*story.given, *([story.forced] if story.forced else [])}
        if any(part not in names for part in parts if part != "nothing"):
            return Verdict.wrong(text, "names something that is not in the problem")
        if not parts or ("nothing" in parts and len(parts) > 1):
            return Verdict.wrong(text, "no list of events")
        if any(((event, True) in happening) != happens for event, happens in said):
            return Verdict.wrong(text, "names an event in the wrong state")
        if happening - free - said:
            return Verdict.wrong(text, "leaves out an event")
        return Verdict.correct(text)

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        """One verdict per line of the thinking."""
        story = _story_of(problem)
        lines = [line for line in split_thinking(response).thinking.splitlines() if line.strip()]
        if story is None:
            return [
                StepVerdict(index=index, text=line, outcome=Outcome.UNKNOWN, reason="ungradable gold")
                for index, line in enumerate(lines)
            ]
        reader = _Reader(story)
        verdicts: list[StepVerdict] = []
        for index, line in enumerate(lines):
            outcome, reason = reader.judge(line)
            verdicts.append(StepVerdict(index=index, text=line, outcome=outcome, reason=reason))
        return verdicts


_OPENING = re.compile(r"(given|by hand)\s*:\s*([^.:]*)\.?\s*", re.IGNORECASE)
_SO = re.compile(r"^(?:since |because |as )?(?P<causes>.+?),? (?:so|therefore|thus|hence) (?P<effect>.+)$")
_BECAUSE = re.compile(r"^(?P<effect>.+?),? (?:because|since) (?P<causes>.+)$")


@dataclass(slots=True)
class _Reader:
    """Reads worked lines in order and remembers which states they have established."""

    story: Story
    states: dict[int, bool] = field(init=False)
    names: dict[str, State] = field(init=False)
    known: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.states = self.story.outcome()
        self.names = _states_by_phrase(self.story)
        self.known = {event for event, _ in self.story.given}
        if self.story.forced:
            self.known.add(self.story.forced[0])

    def judge(self, line: str) -> tuple[Outcome, str]:
        """Verdict and reason for the next line."""
        text = line.strip()
        openings = _OPENING.findall(text)
        if openings and not _OPENING.sub("", text).strip():
            return _verdict(next(filter(None, (self._fault_in_opening(*part) for part in openings)), ""))
        match = _SO.match(phrase(text)) or _BECAUSE.match(phrase(text))
        if match is None:
            return Outcome.UNKNOWN, "not understood"
        causes = [self.names.get(part) for part in listed(match["causes"])]
        effect = self.names.get(phrase(match["effect"]))
        if effect is None or None in causes or not causes:
            return Outcome.WRONG, "names something that is not in the problem"
        return _verdict(self._fault_in_step([cause for cause in causes if cause], effect))

    def _fault_in_opening(self, kind: str, content: str) -> str:
        said = {self.names.get(part) for part in listed(content)}
        if kind.lower() == "given":
            return "" if said == set(self.story.given) else "these are not the facts given"
        return "" if said == {self.story.forced} else "this is not what was done by hand"

    def _fault_in_step(self, causes: list[State], effect: State) -> str:
        """What is wrong with concluding the effect from the causes; empty when nothing is."""
        event, happens = effect
        rule = next((rule for rule in self.story.applied if rule.effect == event), None)
        if rule is None:
            return "nothing in the problem causes this"
        if any(cause not in self.known for cause, _ in causes):
            return "uses a state that is not known yet"
        if any(self.states[cause] != state for cause, state in causes):
            return "contradicts a known state"
        if not {cause for cause, _ in causes} <= {cause for cause, _ in rule.causes}:
            return "uses something that is no cause of this"
        if happens != self.states[event]:
            return "the mechanism gives the opposite"
        needed = set(rule.causes)
        stated = set(causes)
        if (happens and stated != needed) or (not happens and stated <= needed):
            return "the causes named do not settle this"
        self.known.add(event)
        return ""


def _verdict(fault: str) -> tuple[Outcome, str]:
    return (Outcome.WRONG, fault) if fault else (Outcome.CORRECT, "follows")


def _states_by_phrase(story: Story) -> dict[str, State]:
    return {
        phrase(text): (event, happens)
        for event, pair in enumerate(story.events)
        for text, happens in zip(pair, (True, False), strict=True)
    }


def _story_of(problem: Problem) -> Story | None:
    try:
        return Story.model_validate(problem.meta.get("story"))
    except ValidationError:
        return None


plugin: type[Skill] = Causes
