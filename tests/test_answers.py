"""Reading a response: where thinking ends, which words are the answer, and how long that takes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.core.answers import final_answer, split_thinking, worked_solution

SHARED = Path(__file__).parents[2] / "shared" / "data"

MARKED = [
    ("The answer is 42.", "42"),
    ("The answer is $42$.", "42"),
    ("The answer is **42**.", "42"),
    ("**Answer:** 42", "42"),
    ("**Final Answer**: 42", "42"),
    ("### Final Answer:\n\n42", "42"),
    ("final answer is: 42", "42"),
    ("The correct option is (B)", "(B)"),
    ("Answer = 42", "42"),
    ("so 6 × 7 = 42\n#### 42", "42"),
    (r"We get $\boxed{42}$.", "42"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed {\left\{ 1, 2 \right\}}", r"\left\{ 1, 2 \right\}"),
    (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right."),
    (r"\boxed{\boxed{5}}", "5"),
    (r"\boxed{7}, no: \boxed{8}", "8"),
    (r"\boxed{7} \boxed{8}", "8"),
    (r"\boxed{7} or \boxed{8}", "7 or 8"),
    (r"\boxed{7}, \boxed{8}, and \boxed{9}", "7, 8, 9"),
    (r"$x=\boxed{7}$ and $y=\boxed{8}$", "7 and 8"),
    (r"\boxed{7} is wrong, so \boxed{8}", "8"),
    ("The answer is:\n\\[\n42\n\\]\nDone.", "42"),
    ("The answer is $$\n42\n$$", "42"),
    ("The answer is ${1, 2}$", "1, 2"),
    ("The answer is 42<|im_end|>\n<|im_start|>user\nThe answer is 7", "42"),
    ("The answer is 42. I hope it is correct.", "42"),
    (r"\boxed{7}. The answer is 8", "8"),
    (r"The answer is \(\boxed{7}\).", "7"),
    ("<answer>7</answer> <answer> 8 </answer>", "8"),
    (r"<answer>The answer is \boxed{8}</answer>", "8"),
    ("The answer is 7.\nThe answer is 8.", "8"),
    (r"The answer is \(42\).", "42"),
    (r"The answer is \[42\]", "42"),
    ("The answer is $42", "$42"),
    ("The answer is 3.5", "3.5"),
    ("The answer is 3...", "3..."),
    ("The answer is x\ud800y", "x\ufffdy"),
]
UNMARKED = [
    ("42", "42"),
    ("Let me see.\n\n42\n", "42"),
    ("I have many answers, issued daily.\n42", "42"),
    ("The answer isn't clear\n42", "42"),
    ("Thus\n\\[\n42\n\\]", "42"),
    ("```\n42\n```", "42"),
    ("a\u2028b", "a\u2028b"),
    ("+", "+"),
]
NOTHING = [
    ("", "no answer"),
    (" \n ", "no answer"),
    ("The answer is", "no answer"),
    (r"\boxed{}", "no answer"),
    ("<think>The answer is 42.</think>", "no answer"),
    ("<think>The answer is 42.", "truncated"),
    ("<think>so</think>The answer is 42.<think>wait", "truncated"),
    (r"\boxed{4", "truncated"),
    (r"\boxed{7} and \boxed{4", "truncated"),
    ("<answer>4", "truncated"),
    ("**", "no answer"),
]


@pytest.mark.parametrize(("response", "text"), MARKED)
def test_marked_answers(response: str, text: str) -> None:
    assert final_answer(response) == (text, "marked")


@pytest.mark.parametrize(("response", "text"), UNMARKED)
def test_without_a_marker_the_last_line_answers(response: str, text: str) -> None:
    assert final_answer(response) == (text, "last line")


@pytest.mark.parametrize(("response", "reason"), NOTHING)
def test_responses_without_an_answer_say_why(response: str, reason: str) -> None:
    assert final_answer(response) == (None, reason)


def test_an_answer_counts_only_behind_the_thought() -> None:
    assert final_answer("<think>The answer is 7.</think>\n\nThe answer is 8.").text == "8"
    assert final_answer("The answer is 7.</think>8").text == "8"


def test_thoughts_are_taken_apart() -> None:
    assert split_thinking("<think> a </think> b ") == ("a", "b", True)
    assert split_thinking("a</think>b") == ("a", "b", True)
    assert split_thinking("b") == ("", "b", True)
    assert split_thinking("b <think> a") == ("a", "b", False)
    assert split_thinking("<think>a</think>b<think>c") == ("abc", "", False)
    assert split_thinking("<think><think>a</think>b</think>c") == ("ab", "c", True)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("6 × 7 = 42\n#### 42", "6 × 7 = 42", "42"),
        ("6 × 7 = 42. The answer is 42.", "6 × 7 = 42.", "42"),
        ("We do it.\n**Final Answer:** 42", "We do it.", "42"),
        (r"So $6 \times 7 = \boxed{42}$.", r"So $6 \times 7 = \boxed{42}$.", "42"),
        (r"$\boxed{42}$", "", "42"),
        ("42", "", "42"),
        ("Sum them.\n42", "Sum them.", "42"),
        ("<think>6 × 7</think>42", "6 × 7", "42"),
        ("<think>6 × 7", "", None),
    ],
)
def test_worked_solutions_are_taken_apart(text: str, reasoning: str, answer: str | None) -> None:
    found = worked_solution(text)
    assert (found.reasoning, found.answer.text) == (reasoning, answer)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", r"\boxed{", "{", "}", "\\", "$", "<answer>", "</answer>", "####", "\n"])
        | st.sampled_from(["the answer is", "**", ".", " "])
        | st.text(st.characters(exclude_categories=()), max_size=4),
        max_size=25,
    )
)
def test_any_text_is_read(pieces: list[str]) -> None:
    response = "".join(pieces)
    found = final_answer(response)
    assert (found.text is None) == (found.reason in ("no answer", "truncated"))
    assert found.text is None or found.text.encode()
    assert (found.reason == "truncated") >= (not split_thinking(response).closed)
    worked_solution(response)


UNITS = [
    r"\boxed{",
    r"\boxed{}",
    "\\boxed",
    "{",
    r"\boxed{{}",
    "the final answer is ",
    "answer" + " " * 30,
    "answer ****",
    "correct  option ",
    "<answer>",
    "<answer></answer>",
    "<think>",
    "</think>",
    "<think></think>",
    "####",
    "#",
    "\\",
    "$",
    "*",
    ".",
    "the ",
    " ",
    "\n",
    "-\n",
    "\ud800",
    r"\boxed{1} and ",
    r"\boxed{1}, ",
    "and , or " + r"\boxed{1}",
    "<|im_end|",
    "I hope it is ",
    "the answer is \\[",
    "$$\n",
]


def seconds(text: str) -> float:
    """The less of two, as other work on the machine only ever adds."""
    times = []
    for _ in range(2):
        started = time.process_time()
        final_answer(text)
        worked_solution(text)
        times.append(time.process_time() - started)
    return min(times)


@pytest.mark.parametrize("unit", UNITS)
def test_reading_is_linear_in_the_length(unit: str) -> None:
    small, large = (seconds("x" + unit * (size // len(unit)) + " 3") for size in (20_000, 320_000))
    assert large < 16 * 4 * max(small, 0.001)  # quadratic work would take 256 times as long


def test_real_outputs_with_broken_tags() -> None:
    path = SHARED / "verifier" / "think_tags.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    for line in path.read_bytes().split(b"\n"):
        if line:
            row = json.loads(line)
            found = final_answer(row["response"])
            if "</think>" not in row["response"]:
                assert found == (None, "truncated")
            else:
                assert found.text == row["model_answer"].strip().rstrip(".").strip("$ ")
