"""What every procedural skill must do; a new skill is covered by existing."""

from __future__ import annotations

import re
from functools import cache

import pytest

from ponder.core.answers import split_thinking
from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin, plugin_names
from ponder.core.types import Outcome, Problem
from ponder.tasks._procedural import MAX_STEPS, SPLITS, Skill, is_held_out
from ponder.tasks._words import HELD_OUT, SEEN

SKILLS = [
    name
    for name in plugin_names("tasks")
    if isinstance(load_plugin("tasks", name), type) and issubclass(load_plugin("tasks", name), Skill)
]
each_skill = pytest.mark.parametrize("name", SKILLS)


@cache
def drawn(name: str, split: str, limit: int = 120, seed: int = 7, **settings: int) -> list[Problem]:
    return fresh(name, split, limit, seed, **settings)


def fresh(name: str, split: str, limit: int, seed: int, **settings: int) -> list[Problem]:
    return list(load_plugin("tasks", name)(**settings).problems(split, limit, seed))


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def test_there_are_skills() -> None:
    assert {"arithmetic", "chains"} <= set(SKILLS)


@each_skill
def test_train_and_every_other_split_never_overlap(name: str) -> None:
    trained = {str(problem.meta["canonical"]) for seed in (7, 8) for problem in drawn(name, "train", 120, seed)}
    assert not any(is_held_out(str(canonical)) for canonical in trained)
    for split in SPLITS[1:]:
        held_out = {str(problem.meta["canonical"]) for problem in drawn(name, split)}
        assert held_out and not held_out & trained
        assert all(is_held_out(str(canonical)) for canonical in held_out)


@each_skill
def test_the_same_seed_draws_the_same_problems_and_a_longer_list_begins_alike(name: str) -> None:
    first = drawn(name, "train")
    assert first == fresh(name, "train", 120, 7)
    assert first[:20] == fresh(name, "train", 20, 7)
    assert first[:20] != fresh(name, "train", 20, 8)
    assert len({problem.id for problem in first}) == 120


@each_skill
@pytest.mark.parametrize("split", SPLITS)
def test_every_problem_carries_a_proof_that_its_own_verifier_accepts(name: str, split: str) -> None:
    verifier = load_plugin("tasks", name)().verifier
    for problem in drawn(name, split):
        solution = str(problem.meta["solution"])
        assert verifier(problem, solution).outcome is Outcome.CORRECT
        judged = verifier.steps(problem, solution)
        assert [step for step in judged if step.outcome is not Outcome.CORRECT] == []
        assert len(judged) == len(split_thinking(solution).thinking.splitlines())
        assert 0 <= len(judged) - int(str(problem.meta["steps"])) <= 2  # an opening and a closing line


@each_skill
def test_every_number_of_steps_is_equally_frequent(name: str) -> None:
    lengths = [problem.meta["steps"] for problem in fresh(name, "train", 40, 1, min_steps=2, max_steps=5)]
    assert [lengths.count(steps) for steps in range(1, 7)] == [0, 10, 10, 10, 10, 0]


@each_skill
def test_longer_problems_have_more_steps_than_trained_on(name: str) -> None:
    assert {int(str(problem.meta["steps"])) for problem in drawn(name, "longer")} == set(range(7, MAX_STEPS + 1))


@each_skill
def test_renamed_problems_use_only_held_out_names(name: str) -> None:
    seen, held_out = words(" ".join(SEEN.names)), words(" ".join(HELD_OUT.names))
    for problem in drawn(name, "renamed"):
        assert not words(str(problem.prompt)) & seen
    for problem in drawn(name, "train"):
        assert not words(str(problem.prompt)) & held_out


@each_skill
def test_distracted_problems_say_more_and_ask_the_same(name: str) -> None:
    plain = [len(str(problem.prompt)) for problem in drawn(name, "test")]
    distracted = [len(str(problem.prompt)) for problem in drawn(name, "distracted")]
    assert sum(distracted) > 1.1 * sum(plain)


@each_skill
def test_no_constant_answer_is_right_often(name: str) -> None:
    problems = drawn(name, "train", 400, 1)
    golds = [str(problem.answer) for problem in problems]
    assert max(golds.count(gold) for gold in set(golds)) < 0.25 * len(golds)


@each_skill
def test_a_verifier_never_raises_and_refuses_garbage(name: str) -> None:
    task = load_plugin("tasks", name)()
    problem = drawn(name, "test")[5]
    nonsense = [
        "",
        " ",
        "<think>",
        "</think>",
        "<think>\nx\n</think>",
        "\x00\ufffd²٣",
        "The answer is",
        "-" * 50_000,
        "1 " * 50_000,
        "a b " * 50_000,
        "<think>" + "1: " * 50_000 + "</think>\n\nThe answer is nothing.",
        "<think>\n12 + = x\n3 / 0 = 0\n</think>\n\nThe answer is .",
    ]
    for response in nonsense:
        assert task.verifier(problem, response).outcome is Outcome.WRONG
        assert all(step.outcome for step in task.verifier.steps(problem, response))
    cut = str(problem.meta["solution"]).partition("</think>")[0]
    assert task.verifier(problem, cut).reason == "truncated"
    assert task.verifier(problem, "").reason == "no answer"


@each_skill
@pytest.mark.parametrize("gold", [None, {"a": 1.5}, 1.5, True])
def test_an_ungradable_gold_answer_is_unknown(name: str, gold: object) -> None:
    problem = drawn(name, "test")[0]
    broken = problem.model_copy(update={"answer": gold})
    verdict = load_plugin("tasks", name)().verifier(broken, str(problem.meta["solution"]))
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reward is None


@each_skill
def test_problems_that_state_no_facts_have_steps_that_nobody_can_judge(name: str) -> None:
    verifier = load_plugin("tasks", name)().verifier
    problem = drawn(name, "test")[0]
    bare = Problem(id="x", task=name, prompt="?", answer=problem.answer)
    judged = verifier.steps(bare, str(problem.meta["solution"]))
    assert {step.outcome for step in judged} == {Outcome.UNKNOWN}


@each_skill
def test_an_unknown_split_is_an_error_before_anything_is_drawn(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no split 'dev'") as caught:
        load_plugin("tasks", name)().problems("dev", 1, 0)
    assert "distracted" in caught.value.fix


@each_skill
def test_an_empty_range_of_steps_is_an_error(name: str) -> None:
    task = load_plugin("tasks", name)
    with pytest.raises(ConfigurationError, match="no problems of 5 to 3 steps"):
        task(min_steps=5, max_steps=3).problems("train", 1, 0)
    with pytest.raises(ConfigurationError, match="no problems of 17 to 16 steps"):
        task(max_steps=MAX_STEPS).problems("longer", 1, 0)


def test_a_skill_that_runs_out_of_problems_stops() -> None:
    class Single(load_plugin("tasks", "arithmetic")):
        name = "single"

        def draw(self, rng, steps, style):  # type: ignore[no-untyped-def]
            return super().draw(type(rng)(0), steps, style)

    assert len(list(Single(min_steps=3, max_steps=3).problems("train", 5, 0))) <= 1


def test_banks_are_disjoint() -> None:
    for bank in ("names", "things", "places", "traits", "events", "goods"):
        seen, held_out = getattr(SEEN, bank), getattr(HELD_OUT, bank)
        assert len(set(seen)) == len(seen) and len(set(held_out)) == len(held_out)
        assert not set(seen) & set(held_out)


def test_the_whole_vocabulary_is_small() -> None:
    used: set[str] = set()
    for name in SKILLS:
        for problem in drawn(name, "train", 400, 1):
            used |= words(f"{problem.prompt} {problem.meta['solution']}")
    assert len(used) <= 700
