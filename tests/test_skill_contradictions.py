"""Contradictions: a solver that knows nothing of chains proves the answers, and corrupted steps are found."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from ponder.core.types import Outcome, Problem
from ponder.tasks._contradictions_scene import Scene, draw_scene
from ponder.tasks._contradictions_wording import RENAMED_WORDING, SEEN_WORDING
from ponder.tasks._procedural import SPLITS, worked_response
from ponder.tasks._words import HELD_OUT, SEEN
from ponder.tasks.contradictions import Contradictions

SKILL = Contradictions()
VERIFIER = SKILL.verifier
WIDE = Contradictions(max_steps=16)
SAMPLE = {split: list(SKILL.problems(split, 300, seed=3)) for split in SPLITS}
SAMPLE |= {f"wide {split}": list(WIDE.problems(split, 160, seed=4)) for split in SPLITS if split != "longer"}

MORE = {"taller", "older", "faster", "stronger", "before", "tall", "old", "fast", "strong"}
LESS = {"shorter", "younger", "slower", "weaker", "after", "young"}
ORDER = re.compile(r"(\w+) (?:is not as (?P<low>\w+) as|is (?P<than>\w+) than|came (?P<came>\w+)) (\w+)$")
PLACE = re.compile(r"[tT]he (\w+) is in (the \w+)$")
SAME = re.compile(r"[tT]he (\w+) (?:is with|is where|is in the same place as|is beside|and) the (\w+)")
NUMBER = re.compile(r"(?:(?<=\n)|(?<= )|^)(?:\[\d+\] |#\d+ |\d+\. |\d+\) )")
NUMBERED_BEHIND = re.compile(r"([^.?\n]+) \(\d+\)\.(?=\s|$)")


def read(problem: Problem) -> list[tuple[str, str, str]]:
    """What each numbered statement says, read from the text alone: (kind, one, other)."""
    about_places = problem.meta["scene"]["topic"] == ""
    texts = NUMBERED_BEHIND.findall(problem.prompt) or NUMBER.split(problem.prompt)[1:]
    return [_said(re.split(r"[.?]", text)[0].strip(), about_places) for text in texts]


def _said(text: str, about_places: bool) -> tuple[str, str, str]:
    if about_places:
        text = re.sub(r"^.*?([tT]he \w+ (?:is|and))", r"\1", text)
        if match := PLACE.search(text):
            return "place", match[1], match[2]
        if match := SAME.match(text):
            return "same", match[1], match[2]
        return "aside", text, ""
    match = ORDER.search(text)
    if match is None:
        return "aside", text, ""
    word = match["low"] or match["than"] or match["came"]
    assert (word in MORE) != (word in LESS)
    turned = (word in LESS) != (match["low"] is not None)
    first, second = match[1], match[5]
    return ("order", second, first) if turned else ("order", first, second)


def consistent(said: list[tuple[str, str, str]]) -> bool:
    """Whether there is a world in which all of it is true."""
    pairs = {(one, other) for kind, one, other in said if kind == "order"}
    while pairs:  # take away whoever nobody precedes, until nobody is left
        heads = {one for one, _ in pairs} - {other for _, other in pairs}
        if not heads:
            return False
        pairs = {pair for pair in pairs if pair[0] not in heads}
    where = {one: {one} for kind, *ends in said if kind != "aside" for one in ends}
    for kind, one, other in said:
        if kind in ("same", "place"):
            merged = where[one] | where[other]
            for noun in merged:
                where[noun] = merged
    return all(sum(noun.startswith("the ") for noun in group) < 2 for group in where.values())


@pytest.mark.parametrize("split", SAMPLE)
def test_text_has_exactly_the_clash_of_the_answer(split: str) -> None:
    for problem in SAMPLE[split]:
        check_answer(problem)


def check_answer(problem: Problem) -> None:
    said = read(problem)
    assert len(said) == len(problem.meta["scene"]["statements"])
    assert len({*said}) == len(said)
    if problem.answer == "consistent":
        assert consistent(said)
        return
    # A statement is critical if the rest is consistent without it. The critical ones clash on their own exactly
    # if there is one smallest clashing set, and they are that set.
    assert not consistent(said)
    critical = [n for n in range(1, len(said) + 1) if consistent(said[: n - 1] + said[n:])]
    assert critical == problem.answer
    assert not consistent([said[n - 1] for n in critical])
    assert len(critical) == problem.meta["steps"] + 1


@pytest.mark.parametrize("split", SPLITS)
def test_worked_solutions_are_right_and_have_one_line_a_step(split: str) -> None:
    for problem in SKILL.problems(split, 200, seed=5):
        solution = problem.meta["solution"]
        assert VERIFIER(problem, solution).outcome == Outcome.CORRECT
        verdicts = VERIFIER.steps(problem, solution)
        assert {verdict.outcome for verdict in verdicts} == {Outcome.CORRECT}, (problem, verdicts)
        assert len(verdicts) - 1 - (problem.answer == "consistent") == problem.meta["steps"]


RELATIONS = ("taller", "shorter", "older", "younger", "before", "after")


def corrupted(line: str, split: str) -> list[str]:
    """The line with one number, name, thing, place, relation or verdict changed."""
    words = HELD_OUT if split == "renamed" else SEEN
    places = tuple(place.removeprefix("the ") for place in words.places)
    changed = []
    for match in re.finditer(r"[A-Za-z]+|\d+", line):
        word = match.group()
        pools = (words.names, words.goods, places, RELATIONS, ("clashes", "agrees"))
        others = [other for pool in pools if word in pool for other in pool if other != word][:5]
        others += [str(int(word) + 1), str(int(word) - 1), "99"] if word.isdigit() else []
        changed += [line[: match.start()] + other + line[match.end() :] for other in others]
    if "(" in line and "This " not in line:
        changed += [f"{line} This clashes.", f"{line} This agrees."]
    return changed


@pytest.mark.parametrize("split", SPLITS)
def test_the_first_corrupted_line_is_found(split: str) -> None:
    for problem in SKILL.problems(split, 12, seed=6):
        lines = [verdict.text for verdict in VERIFIER.steps(problem, problem.meta["solution"])]
        for index, line in enumerate(lines):
            for bad in corrupted(line, split):
                response = worked_response([*lines[:index], bad, *lines[index + 1 :]], "")
                verdicts = VERIFIER.steps(problem, response)
                wrong = [verdict.index for verdict in verdicts if verdict.outcome == Outcome.WRONG]
                assert wrong[:1] == [index], (bad, problem.prompt)


def test_no_clash_is_wrong_where_there_is_one_or_before_all_is_read() -> None:
    for problem in SKILL.problems("test", 100, seed=6):
        lines = [verdict.text for verdict in VERIFIER.steps(problem, problem.meta["solution"])][:1]
        verdicts = VERIFIER.steps(problem, worked_response([*lines, "No clash."], ""))
        assert [verdict.outcome for verdict in verdicts] == [Outcome.CORRECT, Outcome.WRONG]


def order_problem(*pairs: str, answer: object = (1, 2)) -> Problem:
    statements = [{"kind": "order", "first": pair[0], "second": pair[1]} for pair in pairs]
    scene = {"topic": "is taller than", "hero": pairs[0][0], "statements": statements}
    gold = list(answer) if isinstance(answer, tuple) else answer
    return Problem(id="1", task="contradictions", prompt="", answer=gold, meta={"scene": scene})


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("The answer is 1 and 2.", "equal"),
        ("The answer is 2, 1.", "equal"),
        ("Statements 1 and 2 clash.", "equal"),
        ("The answer is statement 2 and statement 1.", "equal"),
        ("\\boxed{1, 2}", "equal"),
        ("#### (1), (2)", "equal"),
        ("", "no answer"),
        ("<think>1 and 2", "truncated"),
        ("The answer is 1, 2 and 3.", "different"),
        ("The answer is 1.", "different"),
        ("The answer is consistent.", "different"),
        ("The answer is 1 or 2.", "hedged"),
        ("The answer is consistent, 1 and 2.", "hedged"),
        ("The answer is inconsistent.", "neither numbers of statements nor `consistent`"),
    ],
)
def test_answers_as_people_write_them(response: str, reason: str) -> None:
    assert VERIFIER(order_problem("AB", "BA", "CA"), response).reason == reason


@pytest.mark.parametrize("response", ["consistent", "They are all consistent.", "The answer is no clash.", "None."])
def test_consistent_as_people_write_it(response: str) -> None:
    assert VERIFIER(order_problem("AB", "BC", answer="consistent"), response).outcome == Outcome.CORRECT


def test_other_sound_reasoning_is_accepted() -> None:
    problem = order_problem("AB", "BC", "CA", answer=(1, 2, 3))
    lines = [
        "2: B is taller than C.",
        "1: B is shorter than A, so C is shorter than A.",
        "Let me see.",
        "Statement 3: C is taller than A, but this clashes.",
    ]
    outcomes = [verdict.outcome for verdict in VERIFIER.steps(problem, worked_response(lines, ""))]
    assert outcomes == [Outcome.CORRECT, Outcome.CORRECT, Outcome.UNKNOWN, Outcome.CORRECT]


@pytest.mark.parametrize(
    "line", ["B is taller than C (2).", "B is taller than C [statement 2]", "(2) B is taller than C"]
)
def test_a_number_may_stand_before_or_behind_what_its_statement_says(line: str) -> None:
    problem = order_problem("AB", "BC", "CA", answer=(1, 2, 3))
    for text, outcome in ((line, Outcome.CORRECT), (line.replace("2", "3"), Outcome.WRONG)):
        assert [verdict.outcome for verdict in VERIFIER.steps(problem, worked_response([text], ""))] == [outcome]


def test_ungradable_gold_is_unknown() -> None:
    for answer in (None, 3, (1, 3), "consistent"):
        problem = order_problem("AB", "BA", "CA", answer=answer)
        assert VERIFIER(problem, "1 and 2").outcome == Outcome.UNKNOWN
        assert VERIFIER.steps(problem, "<think>a</think>b")[0].outcome == Outcome.UNKNOWN


def test_never_raises_and_refuses_garbage() -> None:
    problem = SAMPLE["train"][0]
    for text in ("\x00", "1: , so", "1 " * 5000, "<think>" * 3, "the answer is", "²", "1: x, so a" * 4000):
        assert VERIFIER(problem, text).outcome == Outcome.WRONG
        VERIFIER.steps(problem, f"<think>{text}</think>x")


def test_consistent_is_rare_and_no_constant_answer_pays() -> None:
    for problems in SAMPLE.values():
        answers = Counter(str(problem.answer) for problem in problems)
        assert answers.most_common(1)[0][1] < 0.25 * len(problems)
    for steps in range(1, 17):
        drawn = [draw_scene(Random(seed), steps, SEEN) for seed in range(800)]
        assert sum(scene.clash is None for scene in drawn) < 0.25 * len(drawn)


def test_splits_are_disjoint_and_wording_is_held_out() -> None:
    train = {problem.meta["canonical"] for problem in SKILL.problems("train", 800, seed=8)}
    test = {problem.meta["canonical"] for problem in SKILL.problems("test", 800, seed=8)}
    assert not train & test
    for field in ("frames", "together", "questions", "places", "asides", "layouts"):
        assert not {*getattr(SEEN_WORDING, field)} & {*getattr(RENAMED_WORDING, field)}
    renamed = " ".join(problem.prompt for problem in SKILL.problems("renamed", 200, seed=8))
    assert not set(re.findall(r"[A-Za-z]+", renamed)) & {*SEEN.names, *SEEN.goods}


def test_an_order_told_from_its_other_end_is_the_same_problem() -> None:
    problems = SKILL.problems("train", 100, seed=1)
    problem = next(one for one in problems if one.meta["scene"]["topic"] == "is taller than")
    scene = problem.meta["scene"]
    turned = [one | {"first": one["second"], "second": one["first"]} for one in scene["statements"]]
    from_below = Scene.model_validate(scene | {"topic": "is shorter than", "statements": turned})
    assert from_below.canonical == problem.meta["canonical"]


def test_small_vocabulary_and_short_prompts() -> None:
    prompts = list(SKILL.problems("train", 1800, seed=9))
    text = " ".join(one.prompt + one.meta["solution"] for one in prompts)
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", text)}
    assert len(words) < 180
    longest = [len(one.prompt.split()) for one in prompts if one.meta["steps"] == 6]
    assert sum(longest) / len(longest) <= 100
