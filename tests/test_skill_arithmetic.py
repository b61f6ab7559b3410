from __future__ import annotations

import re
from functools import cache

import pytest

from ponder.core.types import Outcome, Problem
from ponder.tasks._procedural import worked_response
from ponder.tasks.arithmetic import Arithmetic

VERIFIER = Arithmetic().verifier
ALL_STEPS = {"min_steps": 1, "max_steps": 16}
SIGNS = {
    "+": "finds buys gets wins earns collects receives",
    "-": "loses sells gives hands donates mails returns",
}
SIGN_OF = {verb: sign for sign, verbs in SIGNS.items() for verb in verbs.split()}


@cache
def drawn(split: str = "test", limit: int = 240, seed: int = 11, **settings: int) -> list[Problem]:
    return list(Arithmetic(**settings).problems(split, limit, seed))


def read(prompt: str) -> int:
    """Solve a problem from its text alone: an independent reader that knows nothing of the generator."""
    asked = re.search(
        r"[Hh]ow many (\w+) (?:does|are left for) (\w+)|number of (\w+) that (\w+) has|"
        r"Count the (\w+) that (\w+) owns",
        prompt,
    )
    assert asked is not None
    things, person = [group for group in asked.groups() if group]
    text = prompt.replace(asked.group(), "")
    thing = rf"(?:{things}|{things.removesuffix('s')})"
    start = re.search(
        rf"\b{person} (?:has|had|starts with|owns|owned|with) (\d+) {thing}\b"
        rf"|We see {person} with (\d+) {thing}\b",
        text,
    )
    assert start is not None
    count = int(start.group(1) or start.group(2))
    for clause in re.split(r"[.\n?] ?|and then ", text.replace(start.group(), "")):
        count = happen(clause, count, person, thing)
    return count


def happen(clause: str, count: int, person: str, thing: str) -> int:
    """The count after one clause; clauses about other people or things leave it as it is."""
    subject = re.match(r"[-* ]*(?:(?:Then|Later|After that,|Next,|Soon|[\w ]+:) )*([A-Z]\w+) ", clause)
    if subject is not None and subject.group(1) != person:
        return count
    group = re.search(rf"(\d+) (?:bags|boxes|jars|sacks) with (\d+) {thing} each", clause)
    if group:
        return count + int(group.group(1)) * int(group.group(2))
    simple = re.search(rf"(\w+) (\d+) {thing}\b", clause)
    if simple and simple.group(1) in SIGN_OF:
        return count + (1 if SIGN_OF[simple.group(1)] == "+" else -1) * int(simple.group(2))
    if re.search(rf"twice as many {thing}|doubles the number of {thing}", clause):
        return count * 2
    if re.search(rf"three times as many {thing}|triples the number of {thing}", clause):
        return count * 3
    if re.search(rf"half of the {thing}|shares the {thing}", clause):
        assert count % 2 == 0
        return count // 2
    return count


@pytest.mark.parametrize("split", ["train", "test", "renamed", "distracted"])
def test_a_reader_of_the_text_alone_finds_the_gold_count(split: str) -> None:
    for problem in drawn(split, **ALL_STEPS):
        assert read(str(problem.prompt)) == problem.answer, problem.prompt


def test_a_reader_of_the_text_alone_finds_the_gold_count_of_longer_problems() -> None:
    for problem in drawn("longer", 150):
        assert read(str(problem.prompt)) == problem.answer


def test_calculations_stay_small_and_are_as_many_as_the_steps() -> None:
    for problem in drawn("train", **ALL_STEPS):
        found = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)\.", str(problem.meta["solution"]))
        assert len(found) == problem.meta["steps"]
        assert all(int(a) <= 99 and int(b) <= 12 and 0 <= int(c) <= 99 for a, _, b, c in found)
        labels = [line.partition(":")[0] for line in lines_of(problem)[1:]]
        assert len(set(labels)) == len(labels)


def lines_of(problem: Problem) -> list[str]:
    return str(problem.meta["solution"]).partition("</think>")[0].removeprefix("<think>").strip().splitlines()


def first_fault(problem: Problem, lines: list[str]) -> tuple[int, Outcome] | None:
    judged = VERIFIER.steps(problem, worked_response(lines, "The answer is 0."))
    return next(((s.index, s.outcome) for s in judged if s.outcome is not Outcome.CORRECT), None)


@pytest.mark.parametrize("change", [1, -1, 10])
def test_every_corrupted_number_is_the_first_wrong_step(change: int) -> None:
    corrupted = 0
    for problem in drawn("train", 40) + drawn("renamed", 20) + drawn("longer", 10):
        lines = lines_of(problem)
        for index, line in enumerate(lines):
            for number in re.finditer(r"\d+", line):
                value = max(int(number.group()) + change, 0)
                if value == int(number.group()):
                    continue
                broken = [*lines]
                broken[index] = f"{line[: number.start()]}{value}{line[number.end() :]}"
                assert first_fault(problem, broken) == (index, Outcome.WRONG), broken[index]
                corrupted += 1
    assert corrupted > 500


def test_a_wrong_name_thing_or_kind_of_event_is_the_first_wrong_step() -> None:
    for problem in drawn("train", 60):
        lines = lines_of(problem)
        person, _, number, thing = lines[0].rstrip(".").split()
        for opening in (f"Zed has {number} {thing}.", f"{person} has {number} spoons."):
            assert first_fault(problem, [opening, *lines[1:]]) == (0, Outcome.WRONG)
        for index, line in enumerate(lines[1:], start=1):
            verb = line.split()[0]
            opposite = {"+": "loses", "-": "finds"}.get(SIGN_OF.get(verb, ""))
            if opposite:
                broken = [*lines[:index], line.replace(verb, opposite, 1), *lines[index + 1 :]]
                assert first_fault(problem, broken) == (index, Outcome.WRONG)


def story(*events: dict[str, object], start: int = 12, answer: int = 0) -> Problem:
    facts = {"person": "Mia", "things": ["coin", "coins"], "start": start, "events": list(events)}
    return Problem(id="x", task="arithmetic", prompt="?", answer=answer, meta={"facts": facts})  # type: ignore[dict-item]


def event(kind: str, verb: str, amount: int, groups: int = 1) -> dict[str, object]:
    return {"kind": kind, "verb": verb, "amount": amount, "groups": groups}


TRADE = story(event("gain", "finds", 7), event("loss", "gives", 3), event("twice", "", 2), event("gain", "buys", 4))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("finds 7: 12 + 7 = 19.|gives 3: 19 - 3 = 16.|twice: 16 * 2 = 32.|buys 4: 32 + 4 = 36.", "cccc"),
        ("12 + 7 = 19|So 19 − 3 = 16|16 × 2 = 32|Mia now has 32 coins.|4 + 32 = 36", "ccccc"),
        ("gives 3: 12 - 3 = 9.|finds 7: 9 + 7 = 16.|twice: 16 * 2 = 32.", "ccc"),  # additions commute
        ("finds 7: 12 + 7 = 19. gives 3: 19 - 3 = 16.|twice: 16 * 2 = 32.", "cc"),
        ("twice: 12 * 2 = 24.", "w"),  # not before the additions
        ("finds 7: 12 + 7 = 19.|buys 4: 19 + 4 = 23.", "cw"),  # not before the doubling
        ("finds 5: 12 + 5 = 17.", "w"),  # true, but nothing of the kind happens
        ("finds 7: 12 + 7 = 19.|finds 7: 19 + 7 = 26.", "cw"),  # counted twice
        ("gives 7: 12 + 7 = 19.", "w"),
        ("finds 3: 12 + 7 = 19.", "w"),
        ("finds 7: 12 + 7 = 18.|gives 3: 18 - 3 = 15.", "wc"),
        ("Mia has 13 coins.", "w"),
        ("Ben has 12 coins.", "w"),
        ("Mia has 12 cups.", "w"),
        ("I wonder.|12 + 7 = 19 - 3 = 16", "uu"),
    ],
)
def test_steps_are_judged_against_the_facts_and_the_count_so_far(lines: str, expected: str) -> None:
    judged = VERIFIER.steps(TRADE, worked_response(lines.split("|"), "The answer is 36."))
    assert "".join(step.outcome.value[0] for step in judged) == expected


def test_a_group_is_multiplied_and_then_added() -> None:
    problem = story(event("group", "buys", 4, 2), answer=20)
    assert first_fault(problem, ["2 with 4 each: 2 * 4 = 8.", "buys 8: 12 + 8 = 20."]) is None
    assert first_fault(problem, ["4 with 4 each: 2 * 4 = 8."]) == (0, Outcome.WRONG)
    assert first_fault(problem, ["2 with 4 each: 2 * 4 = 8.", "buys 4: 12 + 4 = 16."]) == (1, Outcome.WRONG)


@pytest.mark.parametrize(
    "response",
    [
        "The answer is 19.",
        "19",
        "19 coins",
        "19.0",
        "$19$",
        "\\boxed{19}",
        "**19**",
        "Mia has 19 coins.",
        "#### 19",
        "She now has 19 coins left",
        "12 + 7 = 19",
        "<think>\n18\n</think>\n\nThe answer is 19.",
        "19 coins in total",
    ],
)
def test_forms_of_the_right_count_are_accepted(response: str) -> None:
    assert VERIFIER(story(answer=19), response).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("The answer is 18.", "different"),
        ("The answer is -19.", "different"),
        ("1.9", "not a count"),
        ("19.5", "not a count"),
        ("190", "different"),
        ("19 or 20", "hedged"),
        ("19, 20", "hedged"),
        ("not 19", "not a count"),
        ("19 cups", "about something else"),
        ("Ben has 19 coins", "about something else"),
        ("$19", "not a count"),
        ("19%", "not a count"),
        ("1,9", "not a count"),
        ("1 9", "hedged"),
        ("nineteen", "not a count"),
        ("9" * 5000, "not a count"),
        ("<think>\nThe answer is 19.", "truncated"),
        ("<think>\nThe answer is 19.\n</think>", "no answer"),
        ("", "no answer"),
    ],
)
def test_anything_else_is_wrong_with_its_reason(response: str, reason: str) -> None:
    verdict = VERIFIER(story(answer=19), response)
    assert (verdict.outcome, verdict.reason) == (Outcome.WRONG, reason)


def test_wording_stays_within_a_small_vocabulary_and_length() -> None:
    problems = drawn("train", 600, seed=5)
    texts = (f"{problem.prompt} {problem.meta['solution']}".lower() for problem in problems)
    used = {word for text in texts for word in re.findall(r"[a-z]+", text)}
    assert len(used) < 150
    lengths = {s: [len(str(p.prompt).split()) for p in problems if p.meta["steps"] == s] for s in (1, 6)}
    assert sum(lengths[1]) / len(lengths[1]) < 27 and sum(lengths[6]) / len(lengths[6]) < 75
