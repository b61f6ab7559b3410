"""Plans: problems are read from their text and solved by search; exactly the valid plans are right."""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass
from itertools import product
from random import Random

import pytest

from ponder.core.seeds import python_rng
from ponder.core.types import Outcome, Problem
from ponder.tasks._plans_wording import RENAMED, WORDING
from ponder.tasks._plans_world import World
from ponder.tasks._procedural import MAX_STEPS, SPLITS, Style, is_held_out
from ponder.tasks._words import HELD_OUT, SEEN
from ponder.tasks.plans import Plans

TASK = Plans()
VERIFIER = TASK.verifier
STYLES = {"seen": Style(SEEN), "held out": Style(HELD_OUT), "distracted": Style(SEEN, distractors=3)}

WHO, THINGS = r"(?P<who>[A-Z]\w+)", r"an? \w+(?:(?:, | and )an? \w+)*"
GIVES, TAKES = r"(?P<gives>an? \w+)", rf"(?P<takes>{THINGS})"
OFFERS = [
    rf"{WHO} (?:gives|hands over) {GIVES} for {TAKES}",
    rf"(?i:{GIVES}) from {WHO} costs {TAKES}",
    rf"You get {GIVES} from {WHO} for {TAKES}",
    rf"To get {GIVES}, bring {WHO} {TAKES}",
    rf"(?i:{GIVES}) is sold by {WHO} for {TAKES}",
    rf"For {GIVES} {WHO} wants {TAKES}",
    rf"Give {WHO} {TAKES} and get {GIVES}",
    rf"(?i:{TAKES}) can buy {GIVES} from {WHO}",
]
STOCK = rf"(?:has|had|owns|start(?:s|ed) with|can give away|there was|In the bag of \w+:) (?P<takes>{THINGS})"
GOAL = rf"(?:wants|would like|needs|must get|should have|The goal of \w+ is) {GIVES}"
DONE = r"traded with (?P<first>\w+)(?: and then (?P<second>\w+))?"
LIMIT = r"(?:at most|[Nn]o more than|within) (?P<most>\d+) trades?"


@dataclass
class Read:
    """A problem as its words tell it."""

    offers: dict[str, tuple[str, Counter[str]]]
    owned: Counter[str]
    goal: str
    limit: int | None

    def after(self, owned: Counter[str], person: str) -> Counter[str] | None:
        if person not in self.offers:
            return None
        gives, takes = self.offers[person]
        return owned - takes + Counter([gives]) if takes <= owned else None

    def reaches(self, plan: tuple[str, ...]) -> bool:
        owned: Counter[str] | None = self.owned
        for person in plan:
            owned = self.after(owned, person)
            if owned is None:
                return False
        return owned[self.goal] > 0 and (self.limit is None or len(plan) <= self.limit)

    def shortest(self) -> int:
        """Length of the shortest plan, by breadth-first search."""
        queue = deque([(self.owned, 0)])
        seen = {frozenset(self.owned.items())}
        while queue:
            owned, length = queue.popleft()
            if owned[self.goal]:
                return length
            for after in filter(None, (self.after(owned, person) for person in self.offers)):
                if (key := frozenset(after.items())) not in seen:
                    seen.add(key)
                    queue.append((after, length + 1))
        raise AssertionError("there is no plan")


def read_prompt(prompt: str) -> Read:
    offers: dict[str, tuple[str, Counter[str]]] = {}
    owned: Counter[str] = Counter()
    goal, done, limit = "", [], None
    for sentence in re.split(r"[.?]\s*|\n[-*]? ?", prompt):
        sentence = sentence.removeprefix("- ").removeprefix("* ")
        if match := next(filter(None, (re.fullmatch(pattern, sentence) for pattern in OFFERS)), None):
            assert match["who"] not in offers
            offers[match["who"]] = (bare(match["gives"])[0], Counter(bare(match["takes"])))
        elif match := re.search(STOCK + "$", sentence):
            assert not owned
            owned = Counter(bare(match["takes"]))
        elif match := re.search(GOAL + "$", sentence):
            assert not goal
            (goal,) = bare(match["gives"])
        elif match := re.search(DONE, sentence):
            done = [name for name in match.groups() if name]
        elif match := re.search(LIMIT, sentence):
            limit = int(match["most"])
    read = Read(offers, owned, goal, limit)
    for person in done:
        after = read.after(read.owned, person)
        assert after is not None, "a trade already made cannot be made"
        read.owned = after
    return read


def bare(things: str) -> list[str]:
    return [re.sub(r"^an? ", "", thing.lower()) for thing in re.split(r", | and ", things)]


def draws(steps: int, count: int, style: Style = STYLES["seen"]) -> list[Problem]:
    rngs = [python_rng("plans", steps, index) for index in range(count)]
    return [TASK._problem("test", 0, i, TASK.draw(rng, steps, style), steps) for i, rng in enumerate(rngs)]


def all_splits(count: int) -> list[Problem]:
    return [problem for split in SPLITS for problem in TASK.problems(split, count, seed=11)]


def answer(plan: tuple[str, ...]) -> str:
    return f"The answer is: {', '.join(f'trade with {person}' for person in plan)}."


def gold_plan(problem: Problem) -> tuple[str, ...]:
    assert isinstance(problem.answer, dict)
    plan = problem.answer["plan"]
    assert isinstance(plan, list)
    return tuple(map(str, plan))


@pytest.mark.parametrize("steps", range(1, MAX_STEPS + 1))
@pytest.mark.parametrize("style", STYLES)
def test_search_over_the_words_of_the_problem_finds_no_shorter_plan(steps: int, style: str) -> None:
    for problem in draws(steps, 20, STYLES[style]):
        read = read_prompt(str(problem.prompt))
        plan = gold_plan(problem)
        assert read.reaches(plan), problem.prompt
        assert len(plan) == steps == read.shortest(), problem.prompt


def accepted(problem: Problem, plan: tuple[str, ...]) -> bool:
    return VERIFIER(problem, answer(plan)).outcome is Outcome.CORRECT


def test_of_all_short_sequences_exactly_the_valid_ones_are_right() -> None:
    several = longer = 0
    for problem in (problem for steps in (1, 2, 3) for problem in draws(steps, 18 // steps)):
        read = read_prompt(str(problem.prompt))
        right: list[int] = []
        for length in range(1, min(len(gold_plan(problem)) + 1, 3) + 1):
            for plan in product(read.offers, repeat=length):
                valid = read.reaches(plan)
                assert accepted(problem, plan) == valid, (problem.prompt, plan)
                right += [length] * valid
        several += right.count(min(right)) > 1
        longer += max(right) > min(right)
    assert several and longer


def valid_plans(read: Read, most: int) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def extend(plan: tuple[str, ...], owned: Counter[str]) -> None:
        if owned[read.goal]:
            found.append(plan)
        for person in read.offers if len(plan) < most else ():
            if after := read.after(owned, person):
                extend((*plan, person), after)

    extend((), read.owned)
    return found


def test_every_valid_plan_is_right_and_every_broken_one_is_not() -> None:
    rng = Random(4)
    broken = 0
    for problem in (problem for steps in range(2, 7) for problem in draws(steps, 20)):
        read = read_prompt(str(problem.prompt))
        for plan in valid_plans(read, len(gold_plan(problem)) + 1):
            assert accepted(problem, plan) == (read.limit is None or len(plan) <= read.limit)
        for _ in range(30):
            plan = list(gold_plan(problem))
            spot = rng.randrange(len(plan))
            change = rng.choice(("swap", "drop", "repeat", "replace"))
            if change == "swap":
                other = rng.randrange(len(plan))
                plan[spot], plan[other] = plan[other], plan[spot]
            elif change == "replace":
                plan[spot] = rng.choice([*read.offers, "Nobody"])
            else:
                plan[spot : spot + 1] = [] if change == "drop" else [plan[spot]] * 2
            valid = read.reaches(tuple(plan))
            assert accepted(problem, tuple(plan)) == valid
            broken += not valid
    assert broken > 1500


def test_every_split_grades_its_own_solutions_and_steps() -> None:
    for problem in all_splits(60):
        solution = str(problem.meta["solution"])
        assert VERIFIER(problem, solution).outcome is Outcome.CORRECT
        steps = VERIFIER.steps(problem, solution)
        assert len(steps) == int(str(problem.meta["steps"])) + 1, "an opening line, then one line a step"
        assert {step.outcome for step in steps} == {Outcome.CORRECT}
        assert all(len(step.text.split()) <= 12 for step in steps[1:])


def worked_lines(problem: Problem) -> list[str]:
    return str(problem.meta["solution"]).split("\n</think>")[0].splitlines()[1:]


def first_wrong(problem: Problem, lines: list[str]) -> int | None:
    text = "\n".join(lines)
    verdicts = VERIFIER.steps(problem, f"<think>\n{text}\n</think>\n\nThe answer is: nothing.")
    return next((verdict.index for verdict in verdicts if verdict.outcome is Outcome.WRONG), None)


def test_any_corrupted_name_thing_or_claim_is_the_first_wrong_step() -> None:
    rng = Random(5)
    tried = 0
    for problem in all_splits(24):
        lines = worked_lines(problem)
        world = World.model_validate(problem.meta["world"])
        names = [offer.person for offer in world.offers]
        goods = sorted({thing for offer in world.offers for thing in (offer.gives, *offer.takes)})
        word = re.compile(rf"\b(?:{'|'.join([*names, *goods, 'need', 'have'])})\b")
        for index, line in enumerate(lines):
            for match in word.finditer(line):
                old = match[0]
                pool = names if old in names else goods if old in goods else ["need", "have"]
                new = rng.choice([other for other in pool if other != old] or ["Nobody"])
                if f"from {old}" in line and world.offer(new) and gives_the_same(world, old, new):
                    continue
                corrupted = line[: match.start()] + new + line[match.end() :]
                assert first_wrong(problem, [*lines[:index], corrupted, *lines[index + 1 :]]) == index, corrupted
                tried += 1
    assert tried > 2000


def gives_the_same(world: World, old: str, new: str) -> bool:
    first, second = world.offer(old), world.offer(new)
    return first is not None and second is not None and (first.gives, first.takes) == (second.gives, second.takes)


def test_a_true_offer_that_nothing_needs_is_a_wrong_step() -> None:
    for problem in draws(4, 30):
        world = World.model_validate(problem.meta["world"])
        owned = world.owned()
        used = {offer.gives for offer in world.offers if offer.person in gold_plan(problem)}
        for offer in world.offers:
            if offer.gives not in used:
                parts = ", ".join(f"{'have' if owned[thing] else 'need'} a {thing}" for thing in offer.takes)
                line = f"A {offer.gives} from {offer.person}: {parts}."
                assert first_wrong(problem, [worked_lines(problem)[0], line]) == 1


def test_a_skipped_step_is_missed_where_its_needs_are_met() -> None:
    for problem in draws(6, 30):
        lines = worked_lines(problem)
        for index in range(1, len(lines)):
            rest = lines[:index] + lines[index + 1 :]
            assert first_wrong(problem, rest) == (index if "need" in lines[index] else None), rest


def forward_greedy(problem: Problem, rng: Random) -> tuple[str, ...]:
    """Trade with anybody one can trade with until the goal is there or nothing is left to do."""
    read = read_prompt(str(problem.prompt))
    owned, plan = read.owned, []
    while not owned[read.goal] and len(plan) < 20:
        possible = [(person, after) for person in read.offers if (after := read.after(owned, person))]
        if not possible:
            break
        person, owned = rng.choice(possible)
        plan.append(person)
    return tuple(plan)


def test_guessing_without_reasoning_seldom_works() -> None:
    rng = Random(9)
    problems = list(TASK.problems("test", 600, seed=2))
    common = Counter(str(problem.answer) for problem in problems).most_common(1)[0][1]
    assert common < 0.05 * len(problems)
    last_only = sum(
        accepted(p, tuple(o.person for o in world.offers if o.gives == world.goal))
        for p in problems
        if (world := World.model_validate(p.meta["world"]))
    )
    assert last_only < 0.25 * len(problems)
    hard = [problem for problem in problems if int(str(problem.meta["steps"])) >= 3]
    told_order = sum(accepted(p, tuple(o.person for o in World.model_validate(p.meta["world"]).offers)) for p in hard)
    assert told_order < 0.05 * len(hard)
    assert sum(accepted(p, forward_greedy(p, rng)) for p in hard) < 0.6 * len(hard)


def test_the_splits_are_what_they_say() -> None:
    by_split = {split: list(TASK.problems(split, 120, seed=4)) for split in SPLITS}
    canonical = {split: {str(p.meta["canonical"]) for p in rows} for split, rows in by_split.items()}
    assert all(is_held_out(text) == (split != "train") for split, texts in canonical.items() for text in texts)
    assert not canonical["train"] & canonical["test"]
    assert {int(str(p.meta["steps"])) for p in by_split["longer"]} == set(range(7, 17))
    assert by_split["train"] == list(TASK.problems("train", 120, seed=4))
    assert by_split["train"] != list(TASK.problems("train", 120, seed=5))
    seen = re.compile(rf"\b(?:{'|'.join([*SEEN.names, *SEEN.goods])})\b")
    assert not any(seen.search(str(p.prompt)) for p in by_split["renamed"])
    for field in WORDING.__slots__:
        assert not set(getattr(WORDING, field)) & set(getattr(RENAMED, field))
    started = [p for p in by_split["train"] if World.model_validate(p.meta["world"]).done]
    assert 10 < len(started) < 60


def test_problems_are_short_and_plain() -> None:
    problems = list(TASK.problems("train", 1200, seed=8))
    six = [len(str(p.prompt).split()) for p in problems if p.meta["steps"] == 6]
    words = {w for p in problems for w in re.findall(r"[a-z]+", f"{p.prompt} {p.meta['solution']}".lower())}
    assert sum(six) / len(six) < 110
    assert len(words) < 130
