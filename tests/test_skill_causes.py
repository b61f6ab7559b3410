"""Causal stories: the text proves the gold answer, the answer is unique, and wrong steps are found."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from random import Random

import pytest

from ponder.core.seeds import python_rng
from ponder.core.types import Outcome, Problem
from ponder.tasks._causes_story import Story
from ponder.tasks._causes_wording import RENAMED, WORDING
from ponder.tasks._procedural import MAX_STEPS, SPLITS, Style, is_held_out
from ponder.tasks._words import HELD_OUT, SEEN
from ponder.tasks.causes import Causes

TASK = Causes()
VERIFIER = TASK.verifier
OPPOSITE = {pair[i]: pair[1 - i] for bank in (SEEN, HELD_OUT) for pair in bank.events for i in (0, 1)}
HAPPENS = {pair[0] for bank in (SEEN, HELD_OUT) for pair in bank.events}
EVENT = re.compile("|".join(OPPOSITE))
CONDITION = re.compile(r"\b(if|when|whenever|each time|every time|as soon as)\b")
STEPPING_IN = re.compile(r"\b(suppose|somebody|imagine)\b")


def draws(steps: int, count: int, style: Style | None = None) -> list[Problem]:
    style = style or Style(SEEN)
    split = "renamed" if style.words is HELD_OUT else "test"
    rngs = [python_rng("causes", steps, index) for index in range(count)]
    return [TASK._problem(split, 0, i, TASK.draw(rng, steps, style), steps) for i, rng in enumerate(rngs)]


def all_splits(count: int) -> list[Problem]:
    return [problem for split in SPLITS for problem in TASK.problems(split, count, seed=11)]


def answer(*events: str) -> str:
    return f"<think>\nhm\n</think>\n\nThe answer is: {', '.join(events)}."


def story_of(problem: Problem) -> Story:
    return Story.model_validate(problem.meta["story"])


def read_prompt(prompt: str) -> tuple[dict[str, bool], list[tuple[str, list[str]]], str | None]:
    """Facts, rules (effect, conditions) and intervention, from the words alone."""
    facts: dict[str, bool] = {}
    rules: list[tuple[str, list[str]]] = []
    forced = None
    for sentence in re.split(r"[.?\n](?:\s|$)", prompt.lower()):
        events = EVENT.findall(sentence)
        if not events:
            continue
        if STEPPING_IN.search(sentence):
            (forced,) = events
        elif condition := CONDITION.search(sentence):
            first = condition.start() > sentence.index(events[0])  # the effect is told before its condition
            effect = events[0] if first else events[-1]
            rules.append((effect, events[1:] if first else events[:-1]))
        else:
            facts |= dict.fromkeys(events, True)
    return facts, rules, forced


def solve_text(prompt: str) -> set[str]:
    """What happens, by recursion over the sentences of the prompt."""
    facts, rules, forced = read_prompt(prompt)
    causes = dict(rules)
    assert len(causes) == len(rules), "an event has two mechanisms"

    def holds(phrase: str) -> bool:
        if phrase not in HAPPENS:
            return not holds(OPPOSITE[phrase])
        if forced in (phrase, OPPOSITE[phrase]):
            return forced == phrase
        if phrase in causes:
            return all(map(holds, causes[phrase]))
        assert phrase in facts or OPPOSITE[phrase] in facts, f"nothing is said about {phrase}"
        return phrase in facts

    told = {*facts, *causes, *(condition for _, conditions in rules for condition in conditions)}
    named = {phrase if phrase in HAPPENS else OPPOSITE[phrase] for phrase in told}
    return {phrase for phrase in named if holds(phrase)}


@pytest.mark.parametrize("steps", range(1, MAX_STEPS + 1))
@pytest.mark.parametrize(
    "style",
    [Style(SEEN), Style(HELD_OUT), Style(SEEN, distractors=3)],
    ids=["seen", "held out", "distracted"],
)
def test_the_words_of_the_problem_prove_the_gold_answer(steps: int, style: Style) -> None:
    for problem in draws(steps, 25, style):
        assert isinstance(problem.prompt, str) and isinstance(problem.answer, list)
        assert solve_text(problem.prompt) == set(problem.answer)
        assert len(story_of(problem).applied) == steps


def test_the_mechanisms_have_exactly_one_solution() -> None:
    for problem in (problem for steps in range(1, 7) for problem in draws(steps, 15)):
        story = story_of(problem)
        fixed = dict(story.given) | (dict([story.forced]) if story.forced else {})
        free = [event for event in range(len(story.events)) if event not in fixed]
        solutions: list[dict[int, bool]] = []
        for values in product((False, True), repeat=len(free)):
            world = fixed | dict(zip(free, values, strict=True))
            if all(world[r.effect] == all(world[e] == need for e, need in r.causes) for r in story.applied):
                solutions.append(world)
        assert solutions == [story.outcome()]


def test_every_split_grades_its_own_solutions_and_steps() -> None:
    for problem in all_splits(60):
        solution = str(problem.meta["solution"])
        assert VERIFIER(problem, solution).outcome is Outcome.CORRECT
        steps = VERIFIER.steps(problem, solution)
        assert len(steps) == int(str(problem.meta["steps"])) + 1, "an opening line, then one line a step"
        assert {step.outcome for step in steps} == {Outcome.CORRECT}
        assert all(len(step.text.split()) <= 14 for step in steps[1:])


def with_intervention(count: int) -> list[Problem]:
    problems = [problem for steps in range(1, 7) for problem in draws(steps, count)]
    problems = [problem for problem in problems if story_of(problem).forced]
    assert len(problems) > 2 * count
    return problems


def test_ignoring_the_intervention_gives_another_answer() -> None:
    problems = with_intervention(80)
    fooled = 0
    for problem in problems:
        story = story_of(problem)
        natural = story.model_copy(update={"forced": None})
        happening = [story.events[event][0] for event, happens in natural.outcome().items() if happens]
        fooled += VERIFIER(problem, answer(*happening or ["nothing"])).outcome is Outcome.WRONG
    assert fooled > 0.9 * len(problems)


def conditioned(story: Story) -> list[str] | None:
    """What happens if the forced state is evidence: with the nearest facts that explain it."""
    assert story.forced
    natural = story.model_copy(update={"forced": None})
    worlds = []
    for values in product((False, True), repeat=len(story.given)):
        given = tuple((event, value) for (event, _), value in zip(story.given, values, strict=True))
        states = natural.model_copy(update={"given": given}).outcome()
        if states[story.forced[0]] == story.forced[1]:
            changed = sum(states[event] != value for event, value in story.given)
            worlds.append((changed, values, [story.events[e][0] for e, happens in states.items() if happens]))
    return min(worlds)[2] if worlds else None


def test_conditioning_instead_of_cutting_gives_another_answer() -> None:
    problems = with_intervention(80)
    worlds = [(problem, conditioned(story_of(problem))) for problem in problems]
    explained = [(problem, happening) for problem, happening in worlds if happening is not None]
    assert len(explained) > 0.5 * len(problems)
    wrong = sum(VERIFIER(p, answer(*h or ["nothing"])).outcome is Outcome.WRONG for p, h in explained)
    assert wrong > 0.6 * len(explained)


def test_an_intervention_leaves_the_causes_alone_and_carries_to_the_effects() -> None:
    story = Story(
        events=(("a", "no a"), ("b", "no b"), ("c", "no c"), ("d", "no d")),
        given=((0, True),),
        mechanisms=(
            {"effect": 1, "causes": ((0, True),)},  # pyright: ignore[reportArgumentType]
            {"effect": 2, "causes": ((0, True),)},  # pyright: ignore[reportArgumentType]
            {"effect": 3, "causes": ((1, False), (2, True))},  # pyright: ignore[reportArgumentType]
        ),
        forced=(1, False),
    )
    assert story.outcome() == {0: True, 1: False, 2: True, 3: True}
    assert story.model_copy(update={"forced": None}).outcome() == {0: True, 1: True, 2: True, 3: False}


@pytest.fixture(scope="module")
def sample() -> Problem:
    """Steps from `the bell rings` to a dead end, with the fan forced."""
    story = Story.model_validate(
        {
            "events": [SEEN.events[i] for i in (0, 3, 6, 10, 13)],  # bell, lamp, gate, fan, pump
            "given": [(0, True)],
            "mechanisms": [
                {"effect": 1, "causes": [(0, True)]},
                {"effect": 2, "causes": [(1, False)]},
                {"effect": 3, "causes": [(1, True)]},
                {"effect": 4, "causes": [(2, False), (3, False)]},
            ],
            "forced": (3, False),
        }
    )
    return Problem(
        id="x",
        task="causes",
        prompt="",
        answer=["the bell rings", "the lamp glows", "the pump starts"],
        meta={"story": story.model_dump(mode="json")},
    )


@pytest.mark.parametrize(
    ("response", "outcome", "reason"),
    [
        ("The answer is: the pump starts, the lamp glows, the bell rings.", Outcome.CORRECT, ""),
        ("The answer is the lamp glows and the pump starts.", Outcome.CORRECT, ""),
        ("The Lamp glows; the bell rings; pump starts", Outcome.CORRECT, ""),
        ("The answer is: lamp glows, pump starts, gate stays shut.", Outcome.CORRECT, ""),
        ("The answer is: the lamp glows.", Outcome.WRONG, "leaves out"),
        ("The answer is: the lamp glows, the pump starts, the fan spins.", Outcome.WRONG, "wrong state"),
        ("The answer is: lamp glows, pump starts, bell stays silent.", Outcome.WRONG, "wrong state"),
        (
            "The answer is: the lamp glows, the pump starts, the dog wakes.",
            Outcome.WRONG,
            "not in the problem",
        ),
        ("The answer is: the lamp glows, the pump starts or the gate opens.", Outcome.WRONG, "hedged"),
        ("The answer is: the lamp glows, the pump starts, the pump stays off.", Outcome.WRONG, "hedged"),
        ("The answer is: nothing.", Outcome.WRONG, "leaves out"),
        ("The answer is: nothing, the lamp glows, the pump starts.", Outcome.WRONG, "no list"),
        ("<think>\nThe answer is: the lamp glows, the pump starts.", Outcome.WRONG, "truncated"),
        ("", Outcome.WRONG, "no answer"),
        ("The answer is:", Outcome.WRONG, "no answer"),
        ("The answer is: , ; and", Outcome.WRONG, "no list"),
    ],
)
def test_answers(sample: Problem, response: str, outcome: Outcome, reason: str) -> None:
    verdict = VERIFIER(sample, response)
    assert verdict.outcome is outcome and reason in verdict.reason, verdict


@pytest.mark.parametrize(
    ("line", "outcome", "reason"),
    [
        ("Since the bell rings, therefore the lamp glows.", Outcome.CORRECT, ""),
        ("- the lamp glows because the bell rings", Outcome.CORRECT, ""),
        ("By hand: the fan stays still.", Outcome.CORRECT, ""),
        ("By hand: the fan spins.", Outcome.WRONG, "by hand"),
        ("Given: the bell rings and the pump starts.", Outcome.WRONG, "facts given"),
        ("The bell rings, so the lamp stays dark.", Outcome.WRONG, "opposite"),
        ("The bell rings, so the gate stays shut.", Outcome.WRONG, "no cause"),
        ("The lamp glows, so the gate stays shut.", Outcome.WRONG, "not known yet"),
        ("The bell stays silent, so the lamp stays dark.", Outcome.WRONG, "contradicts"),
        ("The lamp glows, so the fan spins.", Outcome.WRONG, "nothing in the problem causes"),
        ("The fan stays still, so the pump starts.", Outcome.WRONG, "do not settle"),
        ("The bell rings, so the dog wakes.", Outcome.WRONG, "not in the problem"),
        ("Let me think about it.", Outcome.UNKNOWN, "not understood"),
    ],
)
def test_lines(sample: Problem, line: str, outcome: Outcome, reason: str) -> None:
    (verdict,) = VERIFIER.steps(sample, f"<think>\n{line}\n</think>\n\nThe answer is: nothing.")
    assert verdict.outcome is outcome and reason in verdict.reason, verdict


def worked_lines(problem: Problem) -> list[str]:
    return str(problem.meta["solution"]).split("\n</think>")[0].splitlines()[1:]


def first_wrong(problem: Problem, lines: list[str]) -> int | None:
    text = "\n".join(lines)
    verdicts = VERIFIER.steps(problem, f"<think>\n{text}\n</think>\n\nThe answer is: nothing.")
    return next((verdict.index for verdict in verdicts if verdict.outcome is Outcome.WRONG), None)


def test_any_corrupted_state_or_name_is_the_first_wrong_step() -> None:
    rng = Random(5)
    tried = 0
    for problem in all_splits(24):
        lines = worked_lines(problem)
        story = story_of(problem)
        inside = {text for pair in story.events for text in pair}
        outside = sorted(OPPOSITE.keys() - inside)
        phrases = re.compile("|".join(map(re.escape, inside)), re.IGNORECASE)
        for index, line in enumerate(lines):
            for match in phrases.finditer(line):
                old = match[0].lower()
                for new in (OPPOSITE[old], rng.choice(outside)):
                    corrupted = line[: match.start()] + new + line[match.end() :]
                    broken = [*lines[:index], corrupted, *lines[index + 1 :]]
                    assert first_wrong(problem, broken) == index, broken
                    tried += 1
    assert tried > 1000


def test_a_true_fact_that_is_no_cause_is_a_wrong_step() -> None:
    rng = Random(6)
    for problem in all_splits(24):
        lines = worked_lines(problem)
        story = story_of(problem)
        states = story.outcome()
        truths = {story.text(state) for state in states.items()}
        for index, line in enumerate(lines[1:], start=1):
            causes, effect = f"{line[0].lower()}{line[1:-1]}".split(", so ")
            others = sorted(truths - {effect, *causes.split(" and ")})
            rule = story.applied[index - 1]
            if others and (states[rule.effect] or len(rule.causes) == 1):  # every cause named is needed
                for old in causes.split(" and "):
                    corrupted = f"{causes.replace(old, rng.choice(others))}, so {effect}."
                    broken = [*lines[:index], corrupted, *lines[index + 1 :]]
                    assert first_wrong(problem, broken) == index, broken


def test_a_skipped_step_is_missed_where_its_result_is_used() -> None:
    for problem in draws(6, 30):
        lines = worked_lines(problem)
        for index in range(1, len(lines)):
            concluded = lines[index][:-1].split(", so ")[1]
            rest = lines[:index] + lines[index + 1 :]
            uses = [i for i, line in enumerate(rest) if concluded in line.lower().split(", so ")[0]]
            assert first_wrong(problem, rest) == (uses[0] if uses else None)


def test_no_string_breaks_the_verifier(sample: Problem) -> None:
    rng = Random(3)
    pieces = [
        "<think>",
        "</think>",
        "the answer is",
        ":",
        "the bell rings",
        ", so ",
        "\\boxed{",
        "\n",
        "given:",
    ]
    pieces += ["(", "é", "\x00", "by hand:", ",", "because", "nothing"]
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=rng.randrange(30)))
        assert VERIFIER(sample, text) == VERIFIER(sample, text)
        VERIFIER.steps(sample, text)
    assert VERIFIER(sample, "so " * 50_000).outcome is Outcome.WRONG
    assert len(VERIFIER.steps(sample, "<think>" + "a, so b " * 20_000)) == 1


@pytest.mark.parametrize("gold", [None, 3, "the bell rings", [], {}])
def test_an_ungradable_gold_is_unknown(sample: Problem, gold: object) -> None:
    problem = Problem.model_validate({**sample.model_dump(), "answer": gold})
    assert VERIFIER(problem, answer("the bell rings")).outcome is Outcome.UNKNOWN


def test_without_its_story_a_problem_is_unknown(sample: Problem) -> None:
    problem = sample.model_copy(update={"meta": {}})
    assert VERIFIER(problem, answer("the bell rings")).outcome is Outcome.UNKNOWN
    assert VERIFIER.steps(problem, "<think>\na\n</think>")[0].outcome is Outcome.UNKNOWN


def test_guessing_without_reasoning_seldom_works() -> None:
    problems = list(TASK.problems("test", 900, seed=2))
    common = Counter(str(problem.answer) for problem in problems).most_common(1)[0][1]
    everything = 0
    for problem in problems:
        story = story_of(problem)
        known = (*story.given, story.forced)
        possible = [pair[0] for event, pair in enumerate(story.events) if (event, False) not in known]
        everything += VERIFIER(problem, answer(*possible)).outcome == "correct"
    nothing = sum(VERIFIER(problem, answer("nothing")).outcome == "correct" for problem in problems)
    assert max(common, everything, nothing) < 0.25 * len(problems)


def test_the_splits_are_what_they_say() -> None:
    by_split = {split: list(TASK.problems(split, 120, seed=4)) for split in SPLITS}
    canonical = {split: {str(p.meta["canonical"]) for p in rows} for split, rows in by_split.items()}
    assert all(is_held_out(text) == (split != "train") for split, texts in canonical.items() for text in texts)
    assert not canonical["train"] & canonical["test"]
    assert {int(str(p.meta["steps"])) for p in by_split["longer"]} == set(range(7, 17))
    assert by_split["train"] == list(TASK.problems("train", 120, seed=4))
    assert by_split["train"] != list(TASK.problems("train", 120, seed=5))
    seen = {phrase for pair in SEEN.events for phrase in pair}
    assert not any(phrase in str(p.prompt).lower() for p in by_split["renamed"] for phrase in seen)
    for field in WORDING.__slots__:
        assert not set(getattr(WORDING, field)) & set(getattr(RENAMED, field))


def test_problems_are_short_and_plain() -> None:
    problems = list(TASK.problems("train", 1200, seed=8))
    six = [len(str(p.prompt).split()) for p in problems if p.meta["steps"] == 6]
    words = {w for p in problems for w in re.findall(r"[a-z]+", f"{p.prompt} {p.meta['solution']}".lower())}
    assert sum(six) / len(six) < 95
    assert len(words) < 130


def test_the_same_story_told_in_another_way_has_the_same_canonical_form(sample: Problem) -> None:
    story = story_of(sample)
    first, second, third, fourth = story.mechanisms
    told = story.model_copy(update={"mechanisms": (first, third, second, fourth)})
    assert told.canonical == story.canonical
    assert story.model_copy(update={"forced": None}).canonical != story.canonical
