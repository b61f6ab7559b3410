"""Plans: hand-made answers and worked lines, each with the verdict and the reason that it must get."""

from __future__ import annotations

from random import Random

import pytest

from ponder.core.types import Outcome, Problem
from ponder.tasks._plans_world import World
from ponder.tasks.plans import PlansVerifier

VERIFIER = PlansVerifier()


def answer(plan: tuple[str, ...]) -> str:
    return f"The answer is: {', '.join(f'trade with {person}' for person in plan)}."


def accepted(problem: Problem, plan: tuple[str, ...]) -> bool:
    return VERIFIER(problem, answer(plan)).outcome is Outcome.CORRECT


@pytest.fixture(scope="module")
def sample() -> Problem:
    """Mia turns a coin and a pen into a lamp; Eva would take the coin for nothing useful."""
    world = {
        "hero": "Mia",
        "goal": "lamp",
        "stock": ["coin", "pen", "cup"],
        "offers": [
            {"person": "Ben", "gives": "lamp", "takes": ["book", "pen"]},
            {"person": "Anna", "gives": "book", "takes": ["coin"]},
            {"person": "Eva", "gives": "hat", "takes": ["coin"]},
            {"person": "Leo", "gives": "fan", "takes": ["cup"]},
        ],
    }
    gold = {"goal": "lamp", "plan": ["Anna", "Ben"]}
    return Problem(id="x", task="plans", prompt="", answer=gold, meta={"world": world})


@pytest.mark.parametrize(
    ("response", "outcome", "reason"),
    [
        ("The answer is: trade with Anna, trade with Ben.", Outcome.CORRECT, ""),
        ("The answer is: first trade with Anna and then with Ben", Outcome.WRONG, "not in the problem"),
        ("The answer is: first trade with Anna and then trade with Ben.", Outcome.CORRECT, ""),
        ("The answer is: Anna -> Ben", Outcome.CORRECT, ""),
        ("The answer is: get a book from Anna; Mia trades with Ben", Outcome.CORRECT, ""),
        ("The answer is: trade with Leo, trade with Anna, trade with Ben.", Outcome.CORRECT, ""),
        ("The answer is: get a hat from Anna, trade with Ben.", Outcome.WRONG, "not in the problem"),
        ("The answer is: trade with Anna, Eva trades with Ben.", Outcome.WRONG, "not in the problem"),
        ("The answer is: trade with Ben, trade with Anna.", Outcome.WRONG, "no book"),
        ("The answer is: trade with Eva, trade with Anna, trade with Ben.", Outcome.WRONG, "no coin"),
        ("The answer is: trade with Anna.", Outcome.WRONG, "goal"),
        ("The answer is: trade with Zed, trade with Ben.", Outcome.WRONG, "not in the problem"),
        ("The answer is: trade with Anna, trade with Ben or Leo.", Outcome.WRONG, "hedged"),
        ("<think>\nThe answer is: trade with Anna, trade with Ben.", Outcome.WRONG, "truncated"),
        ("", Outcome.WRONG, "no answer"),
        ("The answer is: , ; and", Outcome.WRONG, "no plan"),
    ],
)
def test_answers(sample: Problem, response: str, outcome: Outcome, reason: str) -> None:
    verdict = VERIFIER(sample, response)
    assert verdict.outcome is outcome and reason in verdict.reason, verdict


def test_a_stated_limit_is_enforced(sample: Problem) -> None:
    limited = sample.model_copy(update={"meta": {"world": {**dict(sample.meta["world"]), "limit": 2}}})  # type: ignore
    assert accepted(limited, ("Anna", "Ben"))
    assert "more than 2" in VERIFIER(limited, answer(("Leo", "Anna", "Ben"))).reason


@pytest.mark.parametrize(
    ("lines", "outcome", "reason"),
    [
        (["Get the lamp from Ben: need a book and have a pen"], Outcome.CORRECT, ""),
        (["Trade with Anna: now a pen, a cup, a book."], Outcome.CORRECT, ""),
        (
            ["Trade with Anna: now have a pen, a cup and a book.", "Ben: now a cup, a lamp."],
            Outcome.CORRECT,
            "",
        ),
        (["Trade with Anna: now a coin, a pen, a cup, a book."], Outcome.WRONG, "not what is owned then"),
        (["Trade with Ben: now a lamp."], Outcome.WRONG, "no book"),
        (["Have: a coin, a pen. Want: a lamp."], Outcome.WRONG, "not what is owned"),
        (["Have: a coin, a pen, a cup. Want: a hat."], Outcome.WRONG, "not the goal"),
        (["A lamp from Anna: have a coin."], Outcome.WRONG, "nobody"),
        (["A lamp from Ben: need a book, have a cup."], Outcome.WRONG, "something else"),
        (["A lamp from Ben: need a book."], Outcome.WRONG, "something else"),
        (["A lamp from Ben: have a book, have a pen."], Outcome.WRONG, "mistakes"),
        (["A lamp from Ben: need a book, need a pen."], Outcome.WRONG, "mistakes"),
        (["A fan from Leo: have a cup."], Outcome.WRONG, "not needed"),
        (["Hm, Ben looks nice."], Outcome.UNKNOWN, "not understood"),
    ],
)
def test_lines(sample: Problem, lines: list[str], outcome: Outcome, reason: str) -> None:
    text = "\n".join(lines)
    last = VERIFIER.steps(sample, f"<think>\n{text}\n</think>\n\nThe answer is: Ben.")[-1]
    assert last.outcome is outcome and reason in last.reason, last


def test_no_string_breaks_the_verifier(sample: Problem) -> None:
    rng = Random(3)
    pieces = [
        "<think>",
        "</think>",
        "the answer is",
        ":",
        "trade with Ben",
        " from ",
        "A lamp",
        "\\boxed{",
        "\n",
    ]
    pieces += ["now a", "(", "é", "\x00", "have: ", ". want:", ",", "need a "]
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=rng.randrange(30)))
        assert VERIFIER(sample, text) == VERIFIER(sample, text)
        VERIFIER.steps(sample, text)
    assert VERIFIER(sample, "trade with Anna, " * 50_000).outcome is Outcome.WRONG
    assert len(VERIFIER.steps(sample, "<think>" + "a lamp from Ben: " * 20_000)) == 1


@pytest.mark.parametrize("gold", [None, 3, "Ben", [], {}, {"plan": []}, {"plan": ["Ben"]}, {"plan": None}])
def test_an_ungradable_gold_is_unknown(sample: Problem, gold: object) -> None:
    problem = Problem.model_validate({**sample.model_dump(), "answer": gold})
    assert VERIFIER(problem, answer(("Anna", "Ben"))).outcome is Outcome.UNKNOWN


def test_without_its_world_a_problem_is_unknown(sample: Problem) -> None:
    problem = sample.model_copy(update={"meta": {}})
    assert VERIFIER(problem, answer(("Anna", "Ben"))).outcome is Outcome.UNKNOWN
    assert VERIFIER.steps(problem, "<think>\na\n</think>")[0].outcome is Outcome.UNKNOWN


def test_the_same_world_told_in_another_order_has_the_same_canonical_form(sample: Problem) -> None:
    world = World.model_validate(sample.meta["world"])
    assert (
        world.model_copy(update={"offers": world.offers[::-1], "stock": world.stock[::-1]}).canonical == world.canonical
    )
    assert world.model_copy(update={"goal": "hat"}).canonical != world.canonical
