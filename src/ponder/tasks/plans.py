"""Plans: a sequence of trades that ends with the thing somebody wants.

People offer things for other things, and what is handed over is gone, so a tempting trade can spoil the plan.
Any plan that the world allows is right: the verifier makes the trades. The worked solution goes backwards
from the goal, one offer a line with what it takes, needed or owned; read upwards, those lines are the plan.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from ponder.core.answers import split_thinking
from ponder.core.types import Outcome, Problem, StepVerdict, Verdict
from ponder.tasks._english import capital, indefinite
from ponder.tasks._listed import listed, phrase, read_list
from ponder.tasks._plans_wording import tell
from ponder.tasks._plans_world import Offer, World, draw_world
from ponder.tasks._procedural import Draft, Skill, Style


class Plans(Skill):
    """Which trades, in which order, lead to the goal."""

    name: ClassVar[str] = "plans"

    def draw(self, rng: Random, steps: int, style: Style) -> Draft:
        """A world whose shortest plan has exactly that many trades."""
        world = draw_world(rng, steps, style.words)
        lines, plan = worked_steps(world)
        return Draft(
            prompt=tell(rng, world, style),
            answer={"goal": world.goal, "plan": list(plan)},
            steps=lines,
            final=f"The answer is: {', '.join(f'trade with {person}' for person in plan)}.",
            canonical=world.canonical,
            extra={"world": world.model_dump(mode="json")},
        )

    @property
    def verifier(self) -> PlansVerifier:
        """Makes the trades of the answer."""
        return PlansVerifier()


def worked_steps(world: World) -> tuple[list[str], list[str]]:
    """An opening line with what is owned and wanted, then a line per trade from the goal back; and the plan.

    The thing named last among those still needed comes next, from the first person told of who gives it.
    """
    owned = world.owned()
    lines = [f"Have: {', '.join(map(indefinite, owned.elements()))}. Want: {indefinite(world.goal)}."]
    givers = {offer.gives: offer for offer in reversed(world.offers)}
    needs = [world.goal]
    plan: list[str] = []
    while needs:
        offer = givers[needs.pop()]
        parts = [f"{'have' if owned[thing] else 'need'} {indefinite(thing)}" for thing in offer.takes]
        lines.append(f"{capital(indefinite(offer.gives))} from {offer.person}: {', '.join(parts)}.")
        needs += [thing for thing in offer.takes if not owned[thing]]
        plan.insert(0, offer.person)
    return lines, plan


@dataclass(frozen=True, slots=True)
class PlansVerifier:
    """Makes the trades of an answer, and checks worked lines against the offers."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Accept exactly the plans that reach the goal within the stated limit."""
        world = _world_of(problem)
        if world is None:
            return Verdict.unknown("ungradable gold")
        read = read_list(response)
        if isinstance(read, Verdict):
            return read
        parts, text = read
        plan: list[str] = []
        for part in parts:
            offer = _offer_in(part, world)
            if offer is None:
                return Verdict.wrong(text, "names a trade that is not in the problem")
            plan.append(offer.person)
        fault = world.fault_in(plan) if plan else "no plan"
        return Verdict.wrong(text, fault) if fault else Verdict.correct(text, "reaches the goal")

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        """One verdict per line of the thinking."""
        world = _world_of(problem)
        reader = _Reader(world) if world else None
        verdicts: list[StepVerdict] = []
        for line in filter(str.strip, split_thinking(response).thinking.splitlines()):
            outcome, reason = reader.judge(line) if reader else (Outcome.UNKNOWN, "ungradable gold")
            verdicts.append(StepVerdict(index=len(verdicts), text=line, outcome=outcome, reason=reason))
        return verdicts


_THING = r"(?:an? |the )?(?P<thing>\S+)"
_ACTION = re.compile(
    r"^(?:(?P<hero>\S+) )?(?:(?:trades?|deals?|swaps?)(?: with)? (?P<person>\S+)"
    rf"|(?:gets?|takes?) {_THING} from (?P<giver>\S+))$"
)
_OPENING = re.compile(r"^have: (?P<owned>[^:]*)\. want: (?:an? |the )?(?P<goal>\S+)$")
_NEED = re.compile(rf"^(?:get )?{_THING} from (?P<person>\S+): (?P<takes>.+)$")
_TAKEN = re.compile(rf"^(?P<how>need|have) {_THING}$")
_TRADE = re.compile(r"^(?P<action>[^:]+): now (?:have )?(?P<owned>[^:]+)$")


@dataclass(slots=True)
class _Reader:
    """Reads worked lines in order: backwards from the goal, or forwards with the resulting state."""

    world: World
    owned: Counter[str] = field(init=False)
    """Before the plan."""
    now: Counter[str] = field(init=False)
    """After the trades of the forward lines read so far."""
    needs: list[str] = field(init=False)
    """The goal, and what the backward lines need, until somebody is named who gives it."""

    def __post_init__(self) -> None:
        self.owned = self.world.owned()
        self.now = self.world.owned()
        self.needs = [self.world.goal]

    def judge(self, line: str) -> tuple[Outcome, str]:
        """Verdict and reason for the next line."""
        text = phrase(line)
        for pattern, judge in ((_OPENING, self._opening), (_NEED, self._need), (_TRADE, self._trade)):
            if match := pattern.match(text):
                fault = judge(match)
                return (Outcome.WRONG, fault) if fault else (Outcome.CORRECT, "follows")
        return Outcome.UNKNOWN, "not understood"

    def _opening(self, match: re.Match[str]) -> str:
        if Counter(map(_bare, listed(match["owned"]))) != +self.owned:
            return "this is not what is owned"
        return "" if match["goal"] == self.world.goal else "this is not the goal"

    def _need(self, match: re.Match[str]) -> str:
        thing, offer = match["thing"], self.world.offer(match["person"])
        if offer is None or offer.gives != thing:
            return f"nobody of that name gives {indefinite(thing)}"
        taken = [_TAKEN.match(part) for part in listed(match["takes"])]
        if Counter(part["thing"] for part in taken if part) != Counter(offer.takes) or None in taken:
            return f"{offer.person} asks for something else"
        if any((part["how"] == "have") != (self.owned[part["thing"]] > 0) for part in taken if part):
            return "mistakes what is owned"
        if thing not in self.needs:
            return "this is not needed"
        self.needs.remove(thing)
        self.needs += [part["thing"] for part in taken if part and part["how"] == "need"]
        return ""

    def _trade(self, match: re.Match[str]) -> str:
        offer = _offer_in(match["action"], self.world)
        if offer is None:
            return "this trade is not in the problem"
        after = self.now.copy()
        if fault := self.world.trade(after, offer.person):
            return fault
        if Counter(map(_bare, listed(match["owned"]))) != +after:
            return "this is not what is owned then"
        self.now = after
        return ""


def _offer_in(action: str, world: World) -> Offer | None:
    """The offer that an action like `trade with Ben`, `get a lamp from Ben` or `Ben` takes up."""
    match = _ACTION.match(phrase(action))
    if match is None:
        return world.offer(phrase(action))
    if match["hero"] not in (None, world.hero.lower()):
        return None
    offer = world.offer(match["person"] or match["giver"])
    return offer if offer and match["thing"] in (None, offer.gives) else None


def _bare(thing: str) -> str:
    """A thing without its article."""
    return re.sub(r"^(?:an?|the) ", "", thing)


def _world_of(problem: Problem) -> World | None:
    """The world of a gradable problem: its gold answer must be a plan that works."""
    try:
        world = World.model_validate(problem.meta.get("world"))
        gold = problem.answer
        plan = gold.get("plan") if isinstance(gold, dict) else None
        works = isinstance(plan, list) and not world.fault_in([str(person) for person in plan])
    except ValueError:
        return None
    return world if works else None


plugin: type[Skill] = Plans
