"""The mathematics verifier: a table of our own, the errors of others, hostile answers, and agreement with people."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder._cli_tasks import verify_cases
from ponder.core.errors import ResourceError
from ponder.core.plugins import load_plugin, plugin_names
from ponder.core.types import Outcome, Problem, Verdict
from ponder.verifiers import math as module
from ponder.verifiers._math.arithmetic import arithmetic
from ponder.verifiers._math.compare import equal
from ponder.verifiers._math.reading import read
from ponder.verifiers._math.relations import settled
from ponder.verifiers._math.tree import Unreadable
from ponder.verifiers.math import math

SHARED = Path(__file__).parents[2] / "shared" / "data"
SIGNS = {"=": Outcome.CORRECT, "!": Outcome.WRONG, "?": Outcome.UNKNOWN}


def verify(gold: Any, response: str, **meta: Any) -> Verdict:
    return math(Problem(id="p", task="t", prompt="q", answer=gold, meta=meta), response)


def table() -> dict[str, list[tuple[Outcome, str, str]]]:
    """Cases by section."""
    sections: dict[str, list[tuple[Outcome, str, str]]] = {}
    rows: list[tuple[Outcome, str, str]] = []
    for line in (Path(__file__).parent / "math_cases.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            rows = sections.setdefault(line[3:], [])
        elif line[:1] in SIGNS:
            gold, _, answer = line[2:].partition(" ;; ")
            rows.append((SIGNS[line[0]], gold, answer))
    return sections


TABLE = table()


@pytest.mark.parametrize("section", TABLE)
def test_the_table_of_verdicts(section: str) -> None:
    found = [(verify(gold, f"The answer is {answer}"), gold, answer, want) for want, gold, answer in TABLE[section]]
    assert [(gold, answer, got) for got, gold, answer, want in found if got.outcome is not want] == []


def test_a_table_by_someone_who_had_not_seen_the_verifier() -> None:
    lines = (Path(__file__).parent / "math_cases_blind.txt").read_text(encoding="utf-8").splitlines()
    rows = [(SIGNS[line[0]], *line[2:].split(" ;; ")) for line in lines if line[:1] in SIGNS]
    assert len(rows) == 311
    assert [row for row in rows if verify(*row[1:]).outcome is not row[0]] == []


def test_the_table_is_large() -> None:
    assert sum(map(len, TABLE.values())) >= 400
    assert Counter(want for rows in TABLE.values() for want, *_ in rows)[Outcome.WRONG] >= 120


ONE_WAY = {"hard to read", "gold answers that cannot be decided", "words", "later finds"}
"""Sections whose answers are sentences, which a gold answer is not."""


@pytest.mark.parametrize("section", [name for name in TABLE if name not in ONE_WAY])
def test_equality_goes_both_ways(section: str) -> None:
    """But for a decimal, which stands for what rounds to it in the gold answer only, and for a base left out."""
    for _, gold, answer in TABLE[section]:
        there, back = verify(gold, f"The answer is {answer}"), verify(answer, f"The answer is {gold}")
        if "." in gold + answer or (gold, answer) in {("1011_2", "1011"), ("10", "10_2")}:
            continue
        assert back.outcome in (there.outcome, Outcome.UNKNOWN), (gold, answer)


def test_a_decimal_goes_one_way() -> None:
    assert (verify("0.333", "1/3").reward, verify("1/3", "0.333").reward) == (1.0, 0.0)
    assert (verify("1011_2", "1011").reward, verify("1011", "1011_2").reward) == (1.0, 0.0)


FALSE_EQUALS = [
    (r"1-1/\mathrm{e}", r"1+1/\mathrm{e}"),
    ("1/2^99", "1/2^98"),
    ("(1,2)", r"\{1,2\}"),
    ("10 cm", "10 m"),
    (r"$(1,2)$", r"$\{1,2\}$"),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
]


@pytest.mark.parametrize(("gold", "answer"), FALSE_EQUALS)
def test_what_others_call_equal_is_not(gold: str, answer: str) -> None:
    assert verify(gold, rf"\boxed{{{answer}}}").outcome is Outcome.WRONG
    assert verify(answer, rf"\boxed{{{gold}}}").outcome is Outcome.WRONG


def test_an_ellipsis_is_not_decided() -> None:
    assert verify(r"1,2,\ldots,n", r"1,3,5,\ldots,2n-1").outcome is Outcome.UNKNOWN
    assert verify(r"1,2,\ldots,n", r"1,2,\ldots,n").outcome is Outcome.UNKNOWN
    assert verify("3", r"1, 2, \ldots").reason == "an ellipsis"


def test_the_last_answer_counts_and_boxes_side_by_side_are_one() -> None:
    assert verify("8", r"\boxed{7}. No: \boxed{8}").outcome is Outcome.CORRECT
    assert verify("7", r"\boxed{7}. No: \boxed{8}").outcome is Outcome.WRONG
    assert verify("7", r"\boxed{7} or \boxed{8}").reason == "hedged"
    assert verify("7, 8", r"$\boxed{7}$ and $\boxed{8}$").outcome is Outcome.CORRECT


def test_a_task_may_ask_for_rounded_answers() -> None:
    assert verify("8/3", "2.6667").outcome is Outcome.WRONG
    assert verify("8/3", "2.6667", decimals=3).outcome is Outcome.CORRECT
    assert verify("(3/5, 8/3]", "(0.6, 2.667]", decimals=2).outcome is Outcome.CORRECT
    assert verify("8/3", "2.6", decimals=2).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    "spellings",
    [
        ("1/2", "0.5", r"\frac12", "2/4", ".5", "½", r"\dfrac{1}{2}"),
        ("2\\sqrt{2}", r"\sqrt{8}", "2√2"),
        ("x^2+2x+1", "(x+1)^2", "1 + x^2 + 2x"),
        (r"\{1,2\}", r"\{2, 1\}", r"\left\{1, 2\right\}"),
        ("1000000", "1e6", "1,000,000"),
    ],
)
def test_equal_answers_are_one_vote_even_when_they_are_wrong(spellings: tuple[str, ...]) -> None:
    for gold in ("7", spellings[0]):
        assert len({verify(gold, f"The answer is {text}").answer for text in spellings}) == 1


rationals = st.fractions(max_denominator=60).filter(lambda value: abs(value) < 1000)


def written(value: Fraction, way: int) -> str:
    """A rational in one of several spellings."""
    top, bottom = value.numerator, value.denominator
    return (f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}", rf"{2 * top} / {2 * bottom}", f"({top})/({bottom})")[way]


@settings(max_examples=120, deadline=None)
@given(one=rationals, other=rationals, way=st.integers(0, 3))
def test_rationals_are_equal_exactly_when_they_are(one: Fraction, other: Fraction, way: int) -> None:
    found = verify(written(one, 0), written(other, way)).outcome is Outcome.CORRECT
    assert found == (one == other)
    assert verify(written(one, 1), written(one, way)).outcome is Outcome.CORRECT


@settings(max_examples=80, deadline=None)
@given(
    roots=st.lists(st.integers(-9, 9), min_size=1, max_size=4),
    other=st.lists(st.integers(-9, 9), min_size=1, max_size=4),
)
def test_products_and_their_expansions(roots: list[int], other: list[int]) -> None:
    def product(numbers: list[int]) -> str:
        return "".join(f"(x - ({number}))" for number in numbers)

    def expansion(numbers: list[int]) -> str:
        coefficients = [1]
        for number in numbers:
            shifted = [*coefficients, 0]
            coefficients = [a - number * b for a, b in zip(shifted, [0, *coefficients], strict=True)]
        degree = len(coefficients) - 1
        return " + ".join(f"({factor})x^{{{degree - place}}}" for place, factor in enumerate(coefficients))

    assert verify(product(roots), expansion(roots)).outcome is Outcome.CORRECT
    assert (verify(product(roots), expansion(other)).outcome is Outcome.CORRECT) == (sorted(roots) == sorted(other))


_PIECES = r"""0 1 2 37 1.5 x y e i m \pi \infty + - * / ^ _ = < > \le ( ) { } [ ] , . | ! $ % \{ \} \frac \sqrt \text{
\pm \cup \in \circ \sin \log \ldots and or cm \begin{pmatrix} \end{pmatrix} & \\ : ' million not"""
PIECES = [*_PIECES.split(), " ", "\n"]


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=25), gold=st.booleans())
def test_no_row_of_pieces_makes_it_raise(pieces: list[str], gold: bool) -> None:
    text = "".join(pieces)
    assert isinstance(verify(text, "The answer is 1") if gold else verify("1", f"The answer is {text}"), Verdict)
    if not isinstance(found := read(text), Unreadable):
        assert equal(settled(found), settled(found), arithmetic) is True


HOSTILE = {
    "tower": "9^{9^{9^{9}}}",
    "tower of unknowns": "x^{x^{x^{x^x}}}",
    "factorial": "10000000!",
    "factorials": "((9!)!)!",
    "binomial": r"\binom{10^9}{5*10^8}",
    "20,000 digits": "9" * 20_000,
    "1,800 digits": "9" * 1_800,
    "product": r"\cdot ".join(["999999999"] * 300),
    "3,000 brackets": "(" * 3000 + "1" + ")" * 3000,
    "nested roots": r"\sqrt{1+" * 38 + "2" + "}" * 38,
    "sum of roots": "+".join(rf"\sqrt{{{number}}}" for number in range(2, 300)),
    "expansion": "(a+b+c+d+f)^{50}",
    "products of sums": "*".join(["(a+b+c+d+f+g+h+j)"] * 60),
    "matrices": r"\begin{pmatrix}1&2\\3&x\end{pmatrix}" * 60,
    "words in a matrix": r"\begin{pmatrix}1 or 2 \\ 3 and 4\end{pmatrix}",
    "or in a matrix without an end": r"or\begin{pmatrix}\\or\begin{pmatrix}",
    "integral": r"\int_0^\infty e^{-x^2}\sin(x^3) dx",
    "sines": "+".join(rf"\sin({number}x)^{{{number}}}" for number in range(1, 60)),
    "radicals": r"\sqrt[3]{2+\sqrt{5}}+\sqrt[3]{2-\sqrt5}+x-x+1",
    "signs": r"\pm" * 30 + "1",
    "factorial signs": "5" + "!" * 500,
    "commas": "1," * 1000,
    "units": "1 " + "m/" * 700,
    "equations": "x=" * 500 + "1",
    "bars": "|" * 1001,
    "one megabyte": "x+" * 500_000,
    "binary": "".join(map(chr, range(256))) * 40,
    "only spaces": " " * 10_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_wrong_within_two_seconds(name: str) -> None:
    verify("1", r"\sin^2 x + \cos^2 x")  # starts the workers
    for gold in ("5", r"\sqrt{2}x+1", r"\{1,2\}", "x^2+y^2=1"):
        started = time.monotonic()
        verdict = verify(gold, "The answer is " + HOSTILE[name])
        assert time.monotonic() - started < 2.5, gold
        assert verdict.outcome is Outcome.WRONG, verdict
        assert verify(HOSTILE[name], "7").outcome is not Outcome.CORRECT


def test_the_verdict_is_the_same_in_threads_and_under_asyncio() -> None:
    rows = [("1", r"\sin^2 x+\cos^2 x"), ("1/2", "0.5"), ("5", "9^{9^{9^{9}}}"), (r"\tan 15^\circ", r"2-\sqrt3")] * 6
    alone = [verify(*row) for row in rows]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda row: verify(*row), rows)) == alone

    async def judged() -> list[Verdict]:
        return await asyncio.gather(*(asyncio.to_thread(verify, *row) for row in rows))

    assert asyncio.run(judged()) == alone


def _in_child(gold: str, answer: str) -> str:
    return verify(gold, answer).outcome.value


@pytest.mark.parametrize("method", ["fork", "spawn"] if sys.platform == "linux" else ["spawn"])
def test_it_works_in_a_daemonic_process_of_a_pool(method: str) -> None:
    module._DECIDED.clear()
    rows = [("1", r"\sin^2 x+\cos^2 x"), ("5", "9^{9^{9^{9}}}"), (r"\sin 30^\circ", r"\frac12")]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(_in_child, rows) == ["correct", "wrong", "correct"]
    assert threading.active_count() < 50


def test_it_works_in_tasks_of_ray() -> None:
    ray = pytest.importorskip("ray")
    rows = [("1", r"\sin^2 x+\cos^2 x"), ("5", "9^{9^{9^{9}}}"), (r"\sin 30^\circ", r"\frac12")]
    paths = os.pathsep.join(sys.path)
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    try:
        judge = ray.remote(_in_child)
        assert ray.get([judge.remote(*row) for row in rows]) == ["correct", "wrong", "correct"]
    finally:
        ray.shutdown()


def test_a_worker_that_is_killed_leaves_the_verdict_unknown_and_the_next_one_right() -> None:
    assert verify("1", r"\sin^2 x+\cos^2 x").outcome is Outcome.CORRECT
    for worker in list(module._POOL._workers):
        worker.process.kill()
        worker.process.wait()
    module._DECIDED.clear()
    outcomes = [verify("1", rf"\sin^2({n}x)+\cos^2({n}x)").outcome for n in range(2, 8)]
    assert set(outcomes) <= {Outcome.CORRECT, Outcome.UNKNOWN}
    assert outcomes[-1] is Outcome.CORRECT


def test_memory_does_not_grow_over_many_checks() -> None:
    def check(numbers: range) -> None:
        for n in numbers:
            verify(rf"\frac{{{n}}}{{7}}x + {n}", rf"The answer is ${n} + {n}x/7$")
            verify(str(n), f"The answer is {n}.")

    check(range(2_500))  # fills the bounded caches
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check(range(10_000, 13_000))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20 * (1024 if sys.platform == "linux" else 1 << 20)


def test_a_second_opinion_is_optional_and_never_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    assert "second_opinion" not in plugin_names("verifiers")
    if find_spec("math_verify") is None:
        with pytest.raises(ResourceError, match="math_verify"):
            load_plugin("verifiers", "examples.second_opinion")
    else:
        other = load_plugin("verifiers", "examples.second_opinion")
        assert other(Problem(id="p", task="t", prompt="q", answer="1/2"), "0.5").outcome is Outcome.CORRECT


def test_the_command_judges_a_file(tmp_path: Path) -> None:
    cases, out = tmp_path / "cases.jsonl", tmp_path / "out.jsonl"
    rows = [("1/2", "The answer is 0.5"), ("5", "9^{9^{9^9}}"), (r"1,2,\ldots", "5"), (r"\tan 15^\circ", r"$2-\sqrt3$")]
    cases.write_text("".join(json.dumps({"answer": a, "response": r}) + "\n" for a, r in rows))
    verify_cases(cases, "math", out)
    outcomes = [json.loads(line)["outcome"] for line in out.read_text().splitlines()]
    assert outcomes == ["correct", "wrong", "unknown", "correct"]


def rows_of(name: str) -> list[dict[str, Any]]:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_agreement_with_people_on_equality() -> None:
    rows = [row for row in rows_of("verifier/math_equality_cases.jsonl") if row["expected"] is not None]
    wrong = []
    for index, row in enumerate(rows):
        precision = row["other"].get("precision", 6)
        meta = {} if precision == 6 else {"decimals": precision}
        if (verify(row["gold"], row["pred"], **meta).outcome is Outcome.CORRECT) != bool(row["expected"]):
            wrong.append(index)
    assert len(wrong) <= 0.02 * len(rows), wrong


def test_agreement_with_people_on_grade_school_solutions() -> None:
    rows = rows_of("verifier/gsm8k_solutions.jsonl")
    agreed = sum((verify(row["gold"], row["solution"]).outcome is Outcome.CORRECT) == row["is_correct"] for row in rows)
    assert agreed >= 0.995 * len(rows)


def test_gold_answers_of_competition_problems_are_read_and_equal_themselves() -> None:
    rows = [row for row in rows_of("math/train_answers.jsonl") if row["answer"]]
    found = Counter(verify(row["answer"], rf"\boxed{{{row['answer']}}}").outcome for row in rows)
    assert found[Outcome.WRONG] == 0
    assert found[Outcome.UNKNOWN] <= 0.001 * len(rows)


def test_disagreements_with_a_rule_on_model_outputs_are_few() -> None:
    rows = rows_of("verifier/qwen3b_outputs.jsonl")
    apart = sum((verify(row["gold"], row["response"]).outcome is Outcome.CORRECT) != row["score"] for row in rows)
    assert apart <= 20  # each was read: the rule knows no powers of ten, mixed numbers or intervals
