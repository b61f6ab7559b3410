"""Choosing traces: every reason to drop one, the mixtures, the order, and the file that distil reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.core.errors import ConfigurationError, DataError, PonderError, ResourceError
from ponder.core.seeds import python_rng
from ponder.core.types import Completion, Finish, Message, Problem, Trace, Verdict
from ponder.measure.duplicates import most_different, repeats, shingles, similarity
from ponder.measure.mixture import quotas
from ponder.recipe import build_recipe
from ponder.runner import run_recipe
from ponder.runs.journal import encode
from ponder.runs.log import Log
from ponder.runs.store import read_rows
from ponder.stages._traces.choosing import (
    Dropped,
    Mix,
    by_rank,
    chosen_by,
    curriculum,
    learnable,
    mistakes,
    mixed,
    pooled,
    within_reach,
    without_repeats,
)
from ponder.stages._traces.files import row_of, write_rows


def trace(
    problem: str = "1", text: str = "The answer is 1.", *, right: bool | None = True, sampler: str = "a",
    question: str | None = None, answer: Any = 1, finish: Finish = Finish.STOP, **parts: float,
) -> Trace:  # fmt: skip
    verdict = Verdict.unknown("no gold") if right is None else Verdict.correct("1") if right else Verdict.wrong("2")
    return Trace(
        problem=Problem(id=problem, task="t", prompt=question or f"What is question {problem}?", answer=answer),
        completion=Completion(text=text, finish=finish),
        verdict=verdict,
        parts=parts,
        sampler=sampler,
    )


def select(folder: Path, traces: list[Trace], **settings: Any) -> tuple[dict[str, Any], list[Trace]]:
    """Summary of the stage, and what it kept."""
    folder.mkdir(exist_ok=True)
    (folder / "in.jsonl").write_bytes(b"".join(encode(row_of(each)) for each in traces))
    stage = {"traces": str(folder / "in.jsonl")} | settings
    recipe = build_recipe({"name": "chosen", "seed": 1, "stage": {"select": stage}})
    summary = run_recipe(recipe, folder / "run", Log.silent())["select"]
    rows = read_rows(folder / "run" / "select" / "traces.parquet")
    return summary, [Trace.model_validate(row) for row in rows]


# -- texts that are alike --


def test_repeats_are_found_word_for_word_and_nearly() -> None:
    base = "we add the first two numbers and then we take away the third one to get the sum"
    texts = [base, base.upper() + "  ", base + " now", "something else entirely is said here"]
    assert repeats(texts) == [None, 0, None, None]
    assert repeats(texts, 0.9) == [None, 0, 0, None]
    assert repeats(["", "!", "?", ""], 0.9) == [None, None, None, 0], "nothing is near to a text without words"


@given(st.lists(st.text("ab ", max_size=12), max_size=12), st.floats(0.6, 1.0))
def test_repeats_point_to_texts_that_stay(texts: list[str], least: float) -> None:
    found = repeats(texts, least)
    assert all(first is None or (first < place and found[first] is None) for place, first in enumerate(found))
    sets = shingles(texts)
    staying = [place for place, first in enumerate(found) if first is None]
    assert all(similarity(sets[a], sets[b]) < 1 for a in staying for b in staying if a < b and sets[a])


def test_the_most_different_texts_are_chosen() -> None:
    texts = ["add two and two first", "add two and two first please", "divide by nine", "add two and two first now"]
    assert most_different(texts, 2) == [0, 2]
    assert most_different(texts, 9) == [0, 1, 2, 3] and most_different([], 2) == []


# -- mixtures --


def test_quotas_keep_the_shares_and_use_all_they_can() -> None:
    assert quotas({"s": 10, "l": 10}, {"s": 0.8, "l": 0.2}) == {"s": 10, "l": 3}
    assert quotas({"s": 10}, {"s": 0.8, "l": 0.2}) == {"s": 0, "l": 0}
    assert quotas({"s": 10, "x": 5}, {"s": 1, "x": 0}) == {"s": 10, "x": 0}
    with pytest.raises(ValueError):
        quotas({}, {"s": 0})


@given(st.dictionaries(st.sampled_from("abc"), st.integers(1, 200), min_size=3), st.tuples(*[st.floats(0.05, 1)] * 3))
def test_quotas_are_within_half_a_trace_of_their_shares(there: dict[str, int], weights: tuple[float, ...]) -> None:
    shares = dict(zip("abc", weights, strict=True))
    taken = quotas(there, shares)
    whole = sum(weights)
    assert all(taken[kind] <= there[kind] for kind in taken)
    most = min(there[kind] / (shares[kind] / whole) for kind in taken)
    assert all(abs(taken[kind] - shares[kind] / whole * most) <= 0.5 + 1e-6 for kind in taken)


def test_long_and_short_traces_and_teachers_are_mixed() -> None:
    long, short = "word " * 30, "word " * 5
    traces = [
        trace(str(n), (long if n % 2 else short) + str(n), sampler="large" if n % 4 < 2 else "medium")
        for n in range(80)
    ]
    dropped = Dropped()
    kept = mixed(traces, Mix(long_share=0.2, long_words=10, teachers={"large": 0.2, "medium": 0.8}), 0, dropped)
    counts = {
        (len(t.completion.text) > 100, t.sampler): sum(
            (len(u.completion.text) > 100, u.sampler) == (len(t.completion.text) > 100, t.sampler) for u in kept
        )
        for t in kept
    }
    assert counts == {(False, "medium"): 20, (True, "medium"): 5, (False, "large"): 5, (True, "large"): 1}
    assert dropped.reasons["mix"] == 80 - len(kept)
    assert mixed(traces, Mix(), 0, Dropped()) == traces


def test_a_mixture_takes_one_trace_of_every_problem_before_two() -> None:
    traces = [trace(str(n % 10), f"{n} " * (30 if n < 10 else 3)) for n in range(30)]
    kept = mixed(traces, Mix(long_share=0.5, long_words=10), 0, Dropped())
    short = [t.problem.id for t in kept if len(t.completion.text.split()) == 3]
    assert len(short) == 10 and len(set(short)) == 10


def test_the_least_learnable_traces_are_left_out() -> None:
    traces = [trace(str(n), student_loss=float(n)) for n in range(10)] + [trace("x")]
    dropped = Dropped()
    kept = learnable(traces, Mix(drop_hardest=0.2), dropped)
    assert [t.parts["student_loss"] for t in kept] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert dropped.reasons == {"unlearnable": 2, "ungraded": 1}
    assert len(learnable(traces, Mix(max_student_loss=3.0), Dropped())) == 4


# -- one step at a time --


def test_equal_questions_are_one_problem_and_two_golds_are_none() -> None:
    dropped = Dropped()
    traces = [
        trace("1", question="How many?", answer=None),
        trace("9", question="how  MANY?", answer=3),
        trace("2", question="And now?", answer=1),
        trace("2b", question="And now?", answer=2),
        trace("1", question="Something else?"),
    ]
    kept = pooled(traces, dropped)
    assert [t.problem.id for t in kept][:2] == ["9", "9"] and {t.problem.answer for t in kept[:2]} == {3}
    assert dropped.reasons == {"other_gold": 2}
    assert kept[2].problem.prompt == "Something else?" and len({t.problem.id for t in kept}) == 2


def test_one_id_for_two_questions_becomes_two() -> None:
    kept = pooled([trace("1", question="A?"), trace("1", question="B?"), trace("1", question="A?")], Dropped())
    assert kept[0].problem.id == kept[2].problem.id == "1" and kept[1].problem.id.startswith("1~")


def test_a_conversation_is_not_the_same_question_as_its_last_turn() -> None:
    turns = (Message(role="system", content="Be brief."), Message(role="user", content="How many?"))
    talk = trace("1").model_copy(update={"problem": Problem(id="1", task="t", prompt=turns, answer=5)})
    assert len({t.problem.id for t in pooled([talk, trace("2", question="How many?", answer=6)], Dropped())}) == 2


def test_near_questions_go_only_when_asked() -> None:
    text = "Ida has four red apples in her basket and gives some of them away. How many are left? ({})"
    traces = [trace(str(n), question=text.format(n)) for n in range(3)]
    assert len(pooled(traces, Dropped())) == 3
    dropped = Dropped()
    assert len(pooled(traces, dropped, 0.8)) == 1 and dropped.reasons == {"near_problem": 2}


def test_responses_that_say_the_same_count_once_per_problem() -> None:
    long = "first we add the two and the three and that gives us five so that is what we say"
    traces = [trace("1", long), trace("1", long), trace("1", long + " now"), trace("2", long)]
    dropped = Dropped()
    kept = without_repeats(traces, dropped, 0.9)
    assert [t.problem.id for t in kept] == ["1", "2"]
    assert dropped.reasons == {"same_response": 1, "near_response": 1}
    assert len(without_repeats(traces, Dropped(), None)) == 3


def test_policies_choose_among_the_traces_of_a_problem() -> None:
    texts = ["add three and four and five", "add three and four and five too", "nine", "count on fingers until twelve"]
    traces = [trace("1", text) for text in texts] + [trace("2", "x")]
    dropped = Dropped()
    assert [t.completion.text for t in chosen_by("shortest", 2, traces, dropped)] == [texts[0], "nine", "x"]
    assert dropped.reasons == {"surplus": 2}
    assert [t.completion.text for t in chosen_by("diverse", 3, traces, Dropped())] == [texts[0], *texts[2:], "x"]
    assert chosen_by("all", None, traces, Dropped()) == traces
    assert len(chosen_by("all", 1, traces, Dropped())) == 2


def test_problems_out_of_reach_are_left_out() -> None:
    traces = [trace("a", pass_rate=0.0), trace("b", pass_rate=0.5), trace("c", pass_rate=1.0), trace("d")]
    dropped = Dropped()
    assert [t.problem.id for t in within_reach(traces, 0.1, 0.9, dropped)] == ["b"]
    assert dropped.reasons == {"too_difficult": 1, "too_easy": 1, "ungraded": 1}


def test_a_curriculum_goes_from_easy_to_difficult() -> None:
    traces = [trace("a", "long long", pass_rate=0.5), trace("b", "x", pass_rate=0.0), trace("c", "x", pass_rate=0.5)]
    kept = curriculum([*traces, trace("d", "x", pass_rate=1.0)])
    assert [t.problem.id for t in kept] == ["d", "c", "a", "b"] and [t.parts["rank"] for t in kept] == [0, 1, 2, 3]
    assert by_rank([*kept[::-1], trace("e")]) == [*kept, trace("e")]


def test_mistakes_stand_beside_the_shortest_right_trace_of_their_problem() -> None:
    kept = [trace("1", "right, at length"), trace("1", "right")]
    wrong = [trace("1", "no", right=False), trace("1", "NO", right=False), trace("2", "no", right=False)]
    wrong.append(trace("1", "also no", right=False))
    pairs = mistakes(wrong, kept, 5)
    assert [(a.completion.text, b.completion.text) for a, b in pairs] == [("no", "right"), ("also no", "right")]
    assert len(mistakes(wrong, kept, 1)) == 1


# -- the stage --


def test_every_dropped_trace_is_counted_under_its_reason(tmp_path: Path) -> None:
    traces = [
        trace("1", "The answer is one indeed."),
        trace("1", "The answer is one indeed."),
        trace("1", "The answer is two.", right=False),
        trace("2", "cut", right=False, finish=Finish.LENGTH),
        trace("3", "?", right=None),
        trace("4", "no", right=False, finish=Finish.REFUSED, sampler="b"),
        trace("5", "one two three four five six seven", sampler="b"),
        trace("6", " "),
    ]
    summary, kept = select(tmp_path, traces, max_words=6)
    assert [t.problem.id for t in kept] == ["1"]
    assert summary["traces"] == {
        "read": 8, "kept": 1, "wrong": 1, "truncated": 1, "unknown": 1, "refused": 1, "too_long": 1, "empty": 1,
        "same_response": 1,
    }  # fmt: skip
    assert summary["samplers"]["b"] == {"kept": 0, "refused": 1, "too_long": 1}
    assert sum(sum(row.values()) for row in summary["samplers"].values()) == 8
    (pair,) = read_rows(tmp_path / "run" / "select" / "negatives.parquet")
    assert pair["rejected"][0]["content"] == "The answer is two." and pair["chosen"][0]["content"].endswith("indeed.")


def test_nothing_left_is_a_failure_with_the_table(tmp_path: Path) -> None:
    with pytest.raises(PonderError, match="0 of 3 traces are kept: 2 wrong, 1 unknown") as failed:
        select(tmp_path, [trace("1", right=False), trace("2", right=False), trace("3", right=None)])
    assert failed.value.exit_code == 1
    with pytest.raises(PonderError, match="the mix asks for a kind"):
        select(tmp_path / "mix", [trace("1")], mix={"teachers": {"a": 1, "nobody": 1}})
    with pytest.raises(PonderError, match="the files are empty"):
        select(tmp_path / "empty", [])


@pytest.mark.parametrize(
    "settings", [{"min_pass_rate": 0.1}, {"order": "curriculum"}, {"mix": {"drop_hardest": 0.1}}], ids=str
)
def test_grades_that_are_missing_are_asked_for(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no trace says its"):
        select(tmp_path, [trace()], **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "shortest"},
        {"min_pass_rate": 0.5, "max_pass_rate": 0.4},
        {"min_words": 9, "max_words": 3},
        {"mix": {"teachers": {"a": 0}}},
        {"near_responses": 0.3},
        {"policy": "best"},
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        select(tmp_path, [trace()], **settings)


def test_a_row_that_is_no_trace_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(encode(row_of(trace())) + b'{"problem": "ZZPHIZZ", "completion": "ZZPHIZZ"}\n')
    stage = {"select": {"traces": str(tmp_path / "in.jsonl")}}
    with pytest.raises(DataError, match=r"in\.jsonl:2") as refused:
        run_recipe(build_recipe({"name": "bad", "stage": stage}), tmp_path / "run", Log.silent())
    assert "ZZPHIZZ" not in str(refused.value)
    with pytest.raises(ResourceError, match="no traces here"):
        missing = {"name": "bad", "stage": {"select": {"traces": "nowhere.jsonl"}}}
        run_recipe(build_recipe(missing), tmp_path / "r2", Log.silent())


def test_several_sources_of_either_kind_are_read_with_their_terms(tmp_path: Path) -> None:
    write_rows(tmp_path / "a" / "traces.parquet", [row_of(trace("1"))])
    write_rows(tmp_path / "b" / "traces.jsonl", [row_of(trace("2", sampler="b", right=False)), row_of(trace("2"))])
    (tmp_path / "b" / "terms.json").write_text(json.dumps({"b": {"licence": "mit", "training": "allowed"}}))
    stage = {"traces": [str(tmp_path / "a"), str(tmp_path / "b")], "policy": "shortest", "keep": 1}
    summary = run_recipe(build_recipe({"name": "x", "stage": {"select": stage}}), tmp_path / "run", Log.silent())
    assert summary["select"]["traces"]["kept"] == 2
    terms = summary["select"]["terms"]
    assert terms["a"]["training"] == "unknown" and "b" not in terms, "b's only trace was wrong"
    assert not [path for path in tmp_path.rglob(".tmp-*")]


def test_distil_reads_what_was_selected(tmp_path: Path) -> None:
    made = {"model": "solutions", "tasks": [{"use": "arithmetic", "max_steps": 1}], "problems": 12}
    stages = {
        "generate": made,
        "select": {"traces": "generate", "policy": "shortest", "keep": 1},
        "distill": {"model": "pocket-base", "traces": "select", "steps": 1, "examples_per_step": 4},
    }
    found = run_recipe(build_recipe({"name": "x", "stage": stages}), tmp_path / "run", Log.silent())
    assert found["distill"]["traces"]["kept"] == found["select"]["traces"]["kept"] == 12


def test_many_texts_are_compared_as_exactly_as_few() -> None:
    rng = python_rng(0, "texts")
    texts = [" ".join(rng.choices("abcdefghij", k=20)) for _ in range(90)]
    texts += [f"{text} {rng.choice('abcdefghij')}" for text in texts[::3]]
    sets = shingles(texts)
    expected: list[int | None] = []
    for place, own in enumerate(sets):
        staying = [other for other in range(place) if expected[other] is None]
        expected.append(next((other for other in staying if similarity(own, sets[other]) >= 0.85), None))
    found = repeats(texts, 0.85)
    assert [first is None for first in found] == [first is None for first in expected]
    assert sum(first is not None for first in found) >= 25
