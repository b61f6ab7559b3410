"""Implications: a truth-table style solver proves the answers, and corrupted steps are found."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from ponder.core.types import Outcome, Problem
from ponder.tasks._implications_wording import RENAMED_WORDING, SEEN_WORDING
from ponder.tasks._procedural import SPLITS, worked_response
from ponder.tasks._words import HELD_OUT, SEEN
from ponder.tasks.implications import Implications

SKILL = Implications()
VERIFIER = SKILL.verifier
NAMES = {*SEEN.names, *HELD_OUT.names}
WIDE = Implications(max_steps=16)
SAMPLE = {split: list(SKILL.problems(split, 300, seed=3)) for split in SPLITS}
SAMPLE |= {f"wide {split}": list(WIDE.problems(split, 160, seed=4)) for split in SPLITS if split != "longer"}


def refuted(clauses: set[frozenset[str]], assumed: set[str]) -> bool:
    """Whether unit propagation from the assumptions meets a contradiction.

    With two literals a clause this decides satisfiability, if the clauses alone are satisfiable: those that
    propagation leaves untouched are some of them.
    """
    true, queue = set(assumed), list(assumed)
    while queue:
        false = opposite(queue.pop())
        new = {one for clause in clauses if false in clause for one in clause - {false}} - true
        true |= new
        queue += new
    return any(opposite(one) in true for one in true)


def opposite(quality: str) -> str:
    return quality[4:] if quality.startswith("not ") else "not " + quality


def read(problem: Problem) -> tuple[dict[str, set[str]], set[tuple[str, str]]]:
    """Facts by person and rules, read from the text of the prompt alone."""
    wording = RENAMED_WORDING if problem.meta["split"] == "renamed" else SEEN_WORDING
    facts: dict[str, set[str]] = {}
    rules: set[tuple[str, str]] = set()
    for sentence in re.split(r"(?<=[.?])[\"\s]+|\n", problem.prompt):
        for template in wording.facts:
            if match := matched(template, sentence):
                facts.setdefault(match["p"], set()).add(match["a"])
        for template in wording.rules + wording.plain_rules + wording.exclusions:
            if match := matched(template, sentence):
                denied = opposite(match["b"]) if template in wording.exclusions else match["b"]
                rules.add((match["a"].lower(), denied))
    return facts, rules


def matched(template: str, sentence: str) -> re.Match[str] | None:
    pattern = re.escape(template).replace(r"\{p\}", "(?P<p>[A-Z][a-z]+)")
    for slot in "ab":
        pattern = pattern.replace(rf"\{{{slot}\}}", rf"(?P<{slot}>(?:[Nn]ot )?[A-Za-z]+)")
    match = re.fullmatch(rf"(?:[-*] )?(?:This is all you are told: )?{pattern}", sentence)
    return match if match is None or "p" not in match.groupdict() or match["p"] in NAMES else None


@pytest.mark.parametrize("split", SAMPLE)
def test_text_entails_exactly_the_answer(split: str) -> None:
    for problem in SAMPLE[split]:
        check_answer(problem)


def check_answer(problem: Problem) -> None:
    theory = problem.meta["theory"]
    facts, rules = read(problem)
    assert rules == {tuple(rule) for rule in theory["rules"]}
    assert all(said in facts[person] for person, said in theory["facts"])
    # All conclusions can be true at once, so the rules alone are satisfiable.
    assert not {conclusion for _, conclusion in rules} & {opposite(conclusion) for _, conclusion in rules}
    clauses = {frozenset({opposite(premise), conclusion}) for premise, conclusion in rules}
    assert not any(refuted(clauses, said) for said in facts.values())
    hero = facts[theory["hero"]]
    qualities = {one for pair in rules for quality in pair for one in (quality, opposite(quality))}
    entailed = {one for one in qualities if refuted(clauses, hero | {opposite(one)})} - hero
    assert len(entailed) == problem.meta["steps"]
    if theory["asked"] == "follows":
        assert [one for one in theory["options"] if one in entailed] == [problem.answer]
    elif theory["asked"] == "fails":
        assert [one for one in theory["options"] if one not in entailed] == [problem.answer]
    else:  # nothing is concluded from the last conclusion
        assert problem.answer in entailed
        assert not [rule for rule in rules if rule[0] == problem.answer]
        assert all(any(rule[0] == one for rule in rules) for one in entailed - {problem.answer})
    assert len(theory["options"]) in (0, 4) and len(set(theory["options"])) == len(theory["options"])


@pytest.mark.parametrize("split", SPLITS)
def test_worked_solutions_are_right_and_have_one_line_a_step(split: str) -> None:
    for problem in SKILL.problems(split, 200, seed=5):
        solution = problem.meta["solution"]
        assert VERIFIER(problem, solution).outcome == Outcome.CORRECT
        verdicts = VERIFIER.steps(problem, solution)
        assert {verdict.outcome for verdict in verdicts} == {Outcome.CORRECT}
        assert len(verdicts) - (problem.meta["theory"]["asked"] == "fails") == problem.meta["steps"]


def corrupted(line: str, bank: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """The line with one name, one trait or one polarity changed."""
    changed = []
    for match in re.finditer(r"[A-Za-z]+", line):
        word = match.group()
        pool = names if word in names else bank if word.lower() in bank else ()
        others = [other for other in pool if other.lower() != word.lower()][:4]
        changed += [line[: match.start()] + other + line[match.end() :] for other in others]
        if word.lower() in bank and "follows" not in line:
            before = line[: match.start()]
            turned = before[:-4] if before.endswith("not ") else before + "not "
            changed.append(turned + line[match.start() :])
    changed += [re.sub("(follows|does not)", _turn, line, count=1)] if "follows" in line else []
    return changed


def _turn(match: re.Match[str]) -> str:
    return "does not" if match.group() == "follows" else "follows"


@pytest.mark.parametrize("split", SPLITS)
def test_the_first_corrupted_line_is_found(split: str) -> None:
    words = HELD_OUT if split == "renamed" else SEEN
    for problem in SKILL.problems(split, 12, seed=6):
        lines = [verdict.text for verdict in VERIFIER.steps(problem, problem.meta["solution"])]
        for index, line in enumerate(lines):
            for bad in corrupted(line, words.traits, words.names):
                response = worked_response([*lines[:index], bad, *lines[index + 1 :]], "")
                verdicts = VERIFIER.steps(problem, response)
                wrong = [verdict.index for verdict in verdicts if verdict.outcome == Outcome.WRONG]
                assert wrong[:1] == [index], (bad, problem.prompt)


def theory_problem(**changes: object) -> Problem:
    theory = {
        "hero": "Mia",
        "facts": [["Mia", "calm"]],
        "rules": [["calm", "tidy"], ["tidy", "not shy"]],
        "asked": "last",
        "options": [],
    } | changes
    return Problem(id="1", task="implications", prompt="", answer="not shy", meta={"theory": theory})


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("not shy", "equal"),
        ("The answer is Mia is not shy.", "equal"),
        ("**Not shy**", "equal"),
        ("<think>x</think>\n\nThe answer is she is not shy.", "equal"),
        ("", "no answer"),
        ("<think>Mia is not shy", "truncated"),
        ("The answer is shy.", "different"),
        ("The answer is not shy or tidy.", "hedged"),
        ("The answer is tidy and not shy.", "hedged"),
        ("The answer is Ben is not shy.", "names no quality of the person asked about"),
    ],
)
def test_answers_as_people_write_them(response: str, reason: str) -> None:
    assert VERIFIER(theory_problem(), response).reason == reason


def test_other_sound_reasoning_is_accepted() -> None:
    problem = theory_problem(
        facts=[["Mia", "calm"], ["Mia", "not wise"]], rules=[["proud", "wise"], ["calm", "tidy"], ["tidy", "not shy"]]
    )
    lines = [
        "Since Mia is calm, therefore Mia is tidy.",
        "Mia is not wise, so she is not proud.",
        "Mia is not shy because Mia is tidy.",
        "Let me see.",
    ]
    outcomes = [verdict.outcome for verdict in VERIFIER.steps(problem, worked_response(lines, ""))]
    assert outcomes == [Outcome.CORRECT, Outcome.CORRECT, Outcome.CORRECT, Outcome.UNKNOWN]


def test_ungradable_gold_is_unknown() -> None:
    for answer in (None, 3, ["not shy"], "tidy"):
        problem = theory_problem().model_copy(update={"answer": answer})
        assert VERIFIER(problem, "not shy").outcome == Outcome.UNKNOWN
        assert VERIFIER.steps(problem, "<think>a</think>b")[0].outcome == Outcome.UNKNOWN


def test_never_raises_and_refuses_garbage() -> None:
    problem = SAMPLE["train"][0]
    for text in ("\x00", "so so so", "is " * 5000, "<think>" * 3, "the answer is", "ß ẞ İ", "a, so b" * 4000):
        assert VERIFIER(problem, text).outcome == Outcome.WRONG
        VERIFIER.steps(problem, f"<think>{text}</think>x")


def test_no_constant_answer_pays() -> None:
    for problems in SAMPLE.values():
        answers = Counter(problem.answer for problem in problems)
        assert answers.most_common(1)[0][1] < 0.25 * len(problems)
        options = [(problem.meta["theory"]["options"], problem.answer) for problem in problems]
        places = Counter(choice.index(answer) for choice, answer in options if choice)
        assert max(places.values()) < 0.25 * len(problems)


def test_splits_are_disjoint_and_wording_is_held_out() -> None:
    train = {problem.meta["canonical"] for problem in SKILL.problems("train", 800, seed=8)}
    test = {problem.meta["canonical"] for problem in SKILL.problems("test", 800, seed=8)}
    assert not train & test
    for field in ("facts", "rules", "plain_rules", "exclusions", "asides", "layouts"):
        assert not {*getattr(SEEN_WORDING, field)} & {*getattr(RENAMED_WORDING, field)}
    renamed = " ".join(problem.prompt for problem in SKILL.problems("renamed", 200, seed=8))
    assert not set(re.findall(r"[A-Za-z]+", renamed)) & {*SEEN.names, *SEEN.traits}


def test_small_vocabulary_and_short_prompts() -> None:
    prompts = list(SKILL.problems("train", 1800, seed=9))
    text = " ".join(one.prompt + one.meta["solution"] for one in prompts)
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", text)}
    assert len(words) < 160
    longest = [len(one.prompt.split()) for one in prompts if one.meta["steps"] == 6]
    assert sum(longest) / len(longest) <= 95
    assert max(len(line.split()) for one in prompts for line in one.meta["solution"].splitlines()) <= 16
