from __future__ import annotations

import re
from functools import cache

import pytest

from ponder.core.types import Outcome, Problem
from ponder.tasks._procedural import worked_response
from ponder.tasks.chains import Chains

VERIFIER = Chains().verifier
ALL_STEPS = {"min_steps": 1, "max_steps": 16}
X, Y = r"((?:[Tt]he )?\w+)", r"((?:the )?\w+)"
FORWARD = [
    f"{X} passes notes to {Y}",
    f"{X} gives every note to {Y}",
    f"{X} hands notes on to {Y}",
    f"Notes go from {X} to {Y}",
    f"Any message that {X} receives is forwarded to {Y}",
    f"{X} forwards messages to {Y}",
    f"Behind {X} is {Y}",
    f"{X} is followed by {Y}",
    f"{X} is just ahead of {Y}",
    f"Next after {X} comes {Y}",
    f"{X} was served directly before {Y}",
    f"The turn of {X} precedes that of {Y}",
    f"{X} leads to {Y}",
    f"From {X} you come to {Y}",
    f"The way out of {X} goes to {Y}",
    f"After {X} you reach {Y}",
    f"A traveler that leaves {X} arrives at {Y}",
    f"The exit of {X} is the entrance of {Y}",
    f"Right of {X} is {Y}",
    f"{X} is just left of {Y}",
    f"To the right of {X} you see {Y}",
    f"{X} has {Y} on its right",
    f"The right neighbor of {X} is {Y}",
    f"{X} touches the left edge of {Y}",
]
BACKWARD = [
    f"{X} gets notes from {Y}",
    f"Messages reach {X} through {Y}",
    f"{X} is right behind {Y}",
    f"{X} was served directly after {Y}",
    f"You get to {X} from {Y}",
    f"One enters {X} through {Y}",
    f"{X} is just right of {Y}",
    f"{X} touches the right edge of {Y}",
]


@cache
def drawn(split: str = "test", limit: int = 240, seed: int = 11, **settings: int) -> list[Problem]:
    return list(Chains(**settings).problems(split, limit, seed))


def link(sentence: str) -> tuple[str, str] | None:
    for patterns, turned in ((FORWARD, False), (BACKWARD, True)):
        for pattern in patterns:
            match = re.fullmatch(pattern, sentence)
            if match:
                a, b = (name.replace("The ", "the ") for name in match.groups())
                return (b, a) if turned else (a, b)
    return None


def read(prompt: str) -> set[str]:
    """Every answer that the text allows: an independent reader that knows nothing of the generator."""
    sentences = [part.strip("-* ") for part in re.split(r"[.?:\n]\"?(?: |$|\n)|\n", prompt)]
    links = [found for found in map(link, sentences) if found]
    remark = re.compile(r"(?:Today |Some say that )?(?:[Tt]he )?\w+ is \w+")
    rest = " ".join(sentence for sentence in sentences if not link(sentence) and not remark.fullmatch(sentence))
    entities = {name for pair in links for name in pair}
    starts = {name for name in entities if re.search(rf"\b{name}\b", rest, re.IGNORECASE)}
    assert len(starts) == 1, (prompt, starts)
    count = re.search(r"\d+", rest)
    reached, steps = starts, 0
    while count is None or steps < int(count.group()):
        following = {b for a, b in links if a in reached}
        if count is None and not following:
            break
        reached, steps = following, steps + 1
        assert steps <= len(links)
    return reached


@pytest.mark.parametrize("split", ["train", "test", "renamed", "distracted"])
def test_a_reader_of_the_text_alone_reaches_the_gold_answer_and_no_other(split: str) -> None:
    for problem in drawn(split, **ALL_STEPS):
        assert read(str(problem.prompt)) == {str(problem.answer)}, problem.prompt


def test_a_reader_of_the_text_alone_solves_longer_problems() -> None:
    for problem in drawn("longer", 120):
        assert read(str(problem.prompt)) == {str(problem.answer)}


def test_no_short_cut_finds_the_answer() -> None:
    problems = drawn("train", 600, seed=5)
    lucky = first = last = 0.0
    for problem in problems:
        links = links_of(problem)
        ends = {b for _, b in links} - {a for a, _ in links}
        lucky += (problem.answer in ends) / len(ends)
        first += links[0][1] == problem.answer
        last += links[-1][1] == problem.answer
    assert lucky / len(problems) < 0.25
    assert first / len(problems) < 0.25
    assert last / len(problems) < 0.25


def test_there_is_always_a_chain_that_does_not_touch_the_asked_one() -> None:
    for problem in drawn("train", 200):
        on_chain = {name for line in lines_of(problem)[1:] for name in names_in(line, problem)}
        assert any(not {a, b} & on_chain for a, b in links_of(problem))


def links_of(problem: Problem) -> list[tuple[str, str]]:
    facts = problem.meta["facts"]
    assert isinstance(facts, dict) and isinstance(facts["links"], list)
    return [(str(a), str(b)) for a, b in facts["links"]]  # type: ignore[misc, str-unpack]


def lines_of(problem: Problem) -> list[str]:
    return str(problem.meta["solution"]).partition("</think>")[0].removeprefix("<think>").strip().splitlines()


def names_in(line: str, problem: Problem) -> list[str]:
    return [name for pair in links_of(problem) for name in pair if re.search(rf"\b{name}\b", line)]


def first_fault(problem: Problem, lines: list[str]) -> tuple[int, Outcome] | None:
    judged = VERIFIER.steps(problem, worked_response(lines, "The answer is nobody."))
    return next(((s.index, s.outcome) for s in judged if s.outcome is not Outcome.CORRECT), None)


def test_every_corrupted_name_or_number_is_the_first_wrong_step() -> None:
    corrupted = 0
    for problem in drawn("train", 30) + drawn("renamed", 18) + drawn("longer", 5):
        lines = lines_of(problem)
        others = [*sorted({name for pair in links_of(problem) for name in pair}), "the moon", "Zed"]
        for index, line in enumerate(lines):
            broken = [re.sub(rf"\b{name}\b", other, line) for name in names_in(line, problem) for other in others]
            broken += [
                re.sub(r"\d+", str(int(number) + change), line, count=1)
                for number in re.findall(r"\d+", line)
                for change in (1, -1)
            ]
            broken += [line.replace("to the end", "3")] if index == 0 else []
            for mutant in set(broken) - {line}:
                assert first_fault(problem, [*lines[:index], mutant, *lines[index + 1 :]]) == (
                    index,
                    Outcome.WRONG,
                )
                corrupted += 1
    assert corrupted > 1000


def told(count: int | None, relation: str = "notes", answer: str = "Dan") -> Problem:
    links = [["Ann", "Bob"], ["Bob", "Cy"], ["Cy", "Dan"], ["Eve", "Flo"]]
    facts = {"relation": relation, "links": links, "start": "Ann", "count": count}
    return Problem(id="x", task="chains", prompt="?", answer=answer, meta={"facts": facts})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("Start with Ann, go 2.|1: Ann passes to Bob.|2: Bob passes to Cy.", "ccc"),
        ("Starting from Ann|Bob gets notes from Ann.|Bob -> Cy", "ccc"),
        ("Ann passes notes to Bob|2. Bob to Cy|3: Cy passes to Dan.", "ccw"),  # further than asked
        ("Start with Ann, go 3.", "w"),
        ("Start with Ann, go to the end.", "w"),
        ("Start with Bob, go 2.", "w"),
        ("1: Ann passes to Cy.", "w"),
        ("1: Bob passes to Ann.", "w"),  # the wrong way round
        ("1: Eve passes to Flo.", "w"),  # true, but not on the way
        ("1: Ann passes to Bob.|1: Bob passes to Cy.", "cw"),
        ("1: Ann passes to Cy.|2: Cy passes to Dan.", "wc"),
        ("Let me think.|behind Ann is Bob", "uu"),
    ],
)
def test_steps_are_judged_against_the_links_and_the_place_so_far(lines: str, expected: str) -> None:
    judged = VERIFIER.steps(told(2), worked_response(lines.split("|"), "The answer is Cy."))
    assert "".join(step.outcome.value[0] for step in judged) == expected


def test_a_relation_of_somebody_else_can_be_followed_with_arrows() -> None:
    assert first_fault(told(None, "roads"), ["Ann -> Bob", "Bob -> Cy", "Cy -> Dan"]) is None
    assert first_fault(told(None, "roads"), ["Ann -> Bob", "Bob -> Dan"]) == (1, Outcome.WRONG)


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("Dan", "The answer is Dan."),
        ("Dan", "dan"),
        ("Dan", "Dan has it then."),
        ("Dan", "\\boxed{Dan}"),
        ("the hall", "The answer is the hall."),
        ("the hall", "hall"),
        ("the hall", "You are in the hall."),
        ("the hall", "**The hall**"),
        ("Dan", "<think>\nCy\n</think>\n\nDan"),
    ],
)
def test_forms_of_the_right_name_are_accepted(gold: str, response: str) -> None:
    assert VERIFIER(told(3, answer=gold), response).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("The answer is Cy.", "different"),
        ("Dan or Cy", "hedged"),
        ("Cy, Dan", "hedged"),
        ("not Dan", "different"),
        ("Dana", "different"),
        ("nobody", "different"),
        ("Dan's brother", "different"),
        ("", "no answer"),
        ("<think>\nThe answer is Dan.", "truncated"),
        ("<think>\nDan\n</think>", "no answer"),
    ],
)
def test_anything_else_is_wrong_with_its_reason(response: str, reason: str) -> None:
    verdict = VERIFIER(told(3), response)
    assert (verdict.outcome, verdict.reason) == (Outcome.WRONG, reason)


def test_wording_stays_within_a_small_vocabulary_and_length() -> None:
    problems = drawn("train", 600, seed=5)
    texts = (f"{problem.prompt} {problem.meta['solution']}".lower() for problem in problems)
    used = {word for text in texts for word in re.findall(r"[a-z]+", text)}
    assert len(used) < 160
    lengths = {s: [len(str(p.prompt).split()) for p in problems if p.meta["steps"] == s] for s in (1, 6)}
    assert sum(lengths[1]) / len(lengths[1]) < 37 and sum(lengths[6]) / len(lengths[6]) < 85
