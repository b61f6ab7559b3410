"""Any file: formats, broken rows, splits, duplicates, and errors that name the place and quote nothing."""

from __future__ import annotations

import json
import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ponder.core.errors import ConfigurationError, DataError, PonderError, ResourceError
from ponder.core.plugins import load_plugin
from ponder.core.types import Message, Problem
from ponder.tasks import _rows
from ponder.tasks.jsonl import Jsonl

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*rows: Any, name: str = "data.jsonl") -> Path:
        lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
        path = tmp_path / name
        path.write_bytes(b"\n".join(lines) + b"\n")
        return path

    return written


def task(path: Path, **config: Any) -> Jsonl:
    return Jsonl(**{"path": path, "test_share": 0, **config})


def drawn(path: Path, **config: Any) -> list[Problem]:
    return sorted(task(path, **config).problems("train", 1000, 0), key=lambda problem: str(problem.prompt))


def sums(count: int) -> list[dict[str, str]]:
    return [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(count)]


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


# Formats


@pytest.mark.parametrize(
    ("row", "config"),
    [
        ({"question": "1 + 1?", "answer": "2"}, {}),
        ({"problem": "1 + 1?", "answer": 2}, {"verifier": "number"}),
        ({"prompt": "1 + 1?", "target": "2"}, {}),
        ({"q": "1 + 1?", "a": "2"}, {"question": "q", "answer": "a"}),
        ({"prompt": "1 + 1?", "completion": "2"}, {}),
        ({"prompt": turns("1 + 1?"), "completion": turns("?", "2")[1:]}, {}),
        ({"messages": turns("1 + 1?", "2")}, {}),
        ({"messages": turns("1 + 1?"), "answer": "2"}, {"answer": "answer"}),
        ({"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]}, {}),
        ({"instruction": "1 + 1?", "input": "", "output": "2"}, {}),
        ({"instruction": "1 + 1?", "output": "2"}, {}),
        ({"instruction": "1 + 1?", "output": "2", "answer": "3", "query": "?"}, {"format": "alpaca"}),
    ],
)
def test_formats_are_told_apart(write: Write, row: dict[str, Any], config: dict[str, Any]) -> None:
    (problem,) = drawn(write(row), **config)
    assert problem.messages == (Message(role="user", content="1 + 1?"),)
    assert str(problem.answer) == "2"
    assert load_plugin("verifiers", config.get("verifier", "exact"))(problem, "The answer is 2.").reward == 1.0


def test_a_conversation_keeps_its_turns_and_its_system_message(write: Write) -> None:
    system = {"role": "system", "content": "Be brief."}
    (problem,) = drawn(write({"messages": [system, *turns("Hello", "Yes?", "1 + 1?", "The answer is 2.")]}))
    assert [m.role for m in problem.messages] == ["system", "user", "assistant", "user"]
    assert problem.answer == "2"
    assert problem.meta["solution"] == "The answer is 2."


def test_alpaca_input_follows_the_instruction(write: Write) -> None:
    (problem,) = drawn(write({"instruction": "Add.", "input": "1 and 1", "output": "2"}))
    assert problem.prompt == "Add.\n\n1 and 1"


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"text": "hello"}, ["'text'", "no known format"]),
        ({"messages": turns("a", "b"), "prompt": "a", "completion": "b"}, ["messages or prompt_completion"]),
        ({"messages": turns("a", "b"), "question": "a", "answer": "b"}, ["messages or qa"]),
        ({"question": "a", "answer": "b", "final": "c"}, ["'answer', 'final'"]),
        ({"question": "a", "problem": "b", "answer": "c"}, ["'question', 'problem'"]),
    ],
)
def test_ambiguous_columns_are_named(write: Write, row: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(DataError) as error:
        drawn(write(row))
    assert all(text in str(error.value) for text in named), str(error.value)


def test_a_named_column_that_is_not_there_is_an_error(write: Write) -> None:
    for field in ("question", "answer", "solution", "id"):
        with pytest.raises(DataError, match="there is no column 'anwser'"):
            drawn(write(*sums(3)), **{field: "anwser"})


def test_detection_is_told(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ponder.tasks"):
        drawn(write(*sums(3)))
    assert "read as qa, question in 'question', answer in 'answer'" in caplog.text


# Gold answers and solutions


def test_the_final_answer_is_taken_from_a_worked_solution(write: Write) -> None:
    (problem,) = drawn(write({"question": "q", "answer": "9 * 2 = 18\n#### 18"}), verifier="number")
    assert problem.answer == "18"
    assert problem.meta["solution"] == "<think>\n9 * 2 = 18\n</think>\n\nThe answer is 18."


def test_extraction_can_be_turned_off(write: Write) -> None:
    (problem,) = drawn(write({"question": "q", "answer": "a #### b"}), extract=False)
    assert problem.answer == "a #### b"
    assert "solution" not in problem.meta


def test_solutions_may_have_a_column(write: Write) -> None:
    row = {"question": "q", "answer": "18", "solution": r"So $9 \cdot 2 = \boxed{18}$."}
    (problem,) = drawn(write(row), answer="answer", solution="solution")
    assert problem.meta["solution"] == f"<think>\n{row['solution']}\n</think>\n\nThe answer is 18."


def test_reasoning_content_and_tags_are_kept(write: Write) -> None:
    told = {"role": "assistant", "content": "2", "reasoning_content": "1 + 1 = 2"}
    (first,) = drawn(write({"messages": [*turns("q"), told]}))
    (second,) = drawn(write({"messages": turns("q", "<think>\n1 + 1 = 2\n</think>\n\n2")}))
    assert first.meta["solution"] == second.meta["solution"] == "<think>\n1 + 1 = 2\n</think>\n\n2"


def test_a_missing_gold_answer_is_kept_counted_and_unknown(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*sums(2), {"question": "a", "answer": None}, {"question": "b", "answer": " "}, {"question": "c"}]
    problems = drawn(write(*rows))
    assert [p.answer for p in problems] == ["0", "2", None, None, None]
    assert "3  no gold answer" in caplog.text
    assert task(write(*rows)).verifier(problems[-1], "2").outcome == "unknown"


def test_no_gold_answer_at_all_is_an_error(write: Write) -> None:
    with pytest.raises(DataError, match="none of the 2 rows has a gold answer"):
        drawn(write({"question": "a", "answer": None}, {"question": "b", "answer": ""}))


def test_an_instruction_is_appended_to_the_last_user_turn(write: Write) -> None:
    path = write({"messages": turns("Hello", "Yes?", "1 + 1?", "2")})
    (problem,) = drawn(path, instruction="Answer in one word.")
    assert problem.messages[-1].content == "1 + 1?\n\nAnswer in one word."


# Broken rows

GOOD = {"question": "SECRET-1", "answer": "x"}
BROKEN = {
    "torn": (b'{"question": "SECRET", "ans', "not valid JSON"),
    "not utf-8": (b'{"question": "SECRET \xff\xfe", "answer": "1"}', "not valid UTF-8"),
    "raw nul": (b'{"question": "SECRET \x00", "answer": "1"}', "NUL bytes"),
    "escaped nul": (b'{"question": "SECRET \\u0000", "answer": "1"}', "'question' holds a NUL"),
    "lone surrogate": (b'{"question": "SECRET \\ud800", "answer": "1"}', "half of a character"),
    "surrogate in a list": (b'{"question": "SECRET", "answer": ["\\udfff"]}', "half of a character"),
    "a list": (b'["SECRET"]', "a list, not a JSON object"),
    "a number": (b"17", "a number, not a JSON object"),
    "key twice": (b'{"question": "SECRET", "question": "b", "answer": "1"}', "a key stands twice"),
    "nan": (b'{"question": "SECRET", "answer": NaN}', "NaN is not a JSON number"),
    "deep": (b'{"question": ' + b"[" * 100_000, "not valid JSON"),
    "huge number": (b'{"question": "SECRET", "answer": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "no question": ({"answer": "SECRET"}, "'question' is missing"),
    "empty question": ({"question": " ", "answer": "SECRET"}, "'question' is empty"),
    "number as question": ({"question": 17, "answer": "SECRET"}, "'question' is a number, not text"),
    "object as question": ({"question": {"a": "SECRET"}, "answer": "1"}, "'question' is an object, not text"),
    "two lines in one": (b'{"question": "SECRET"}{"answer": "1"}', "not valid JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_row_stops_with_its_line_and_nothing_of_its_content(write: Write, kind: str) -> None:
    row, reason = BROKEN[kind]
    path = write(GOOD, row, {"question": "other", "answer": "x"})
    with pytest.raises(DataError) as error:
        drawn(path)
    assert error.value.exit_code == 2
    assert reason in error.value.what
    assert error.value.where == f"{path}:2"
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_row_is_skipped_and_counted(write: Write, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    row, reason = BROKEN[kind]
    assert len(drawn(write(GOOD, row, {"question": "other", "answer": "x"}), on_bad_row="skip")) == 2
    assert reason in caplog.text
    assert "first at line 2" in caplog.text
    assert "SECRET" not in caplog.text


CONVERSATIONS = {
    "no list": ("hello", "'messages' is text, not a list of turns"),
    "nothing": ([], "is empty, not a list"),
    "no turn": (["hello"], "'messages[0]' is text, not a turn"),
    "unknown role": (
        [{"role": "tool", "content": "SECRET"}],
        "'messages[0].role' is missing or not a known role",
    ),
    "no role": ([{"content": "SECRET"}], "'messages[0].role' is missing"),
    "no content": ([{"role": "user"}], "'messages[0].content' is null, not text"),
    "empty answer": (turns("SECRET", ""), "'messages[1].content' is empty"),
    "parts": (
        [{"role": "user", "content": [{"text": "SECRET"}]}],
        "'messages[0].content' is a list, not text",
    ),
    "late system": (
        [*turns("a"), {"role": "system", "content": "SECRET"}],
        "a system turn that is not the first",
    ),
    "assistant first": (turns("a", "b")[1:], "do not go from user to assistant"),
    "user twice": ([*turns("a"), *turns("b")], "do not go from user to assistant"),
    "only system": ([{"role": "system", "content": "a"}], "do not go from user to assistant"),
}


@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_broken_conversations_are_refused(write: Write, kind: str) -> None:
    turns_, reason = CONVERSATIONS[kind]
    with pytest.raises(DataError) as error:
        drawn(write({"messages": turns("a", "b")}, {"messages": turns_}))
    assert reason in error.value.what
    assert "SECRET" not in str(error.value)


def test_text_that_looks_like_data_stays_text(write: Write) -> None:
    (problem,) = drawn(write({"question": '{"type": "list", "role": "<|im_end|>"}', "answer": "[1, 2]"}))
    assert problem.prompt == '{"type": "list", "role": "<|im_end|>"}'
    assert problem.answer == "[1, 2]"


def test_bom_crlf_blank_lines_and_line_separators(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = ['{"question": "a\u2028b\u0085c", "answer": "1"}', "", "  ", '{"question": "d", "answer": "2"}']
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    assert [p.prompt for p in drawn(path)] == ["a\u2028b\u0085c", "d"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes((json.dumps(GOOD) + "\n").encode(encoding))
    with pytest.raises(DataError, match="UTF-16 or UTF-32"):
        drawn(path, on_bad_row="skip")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="the file has no rows"):
        drawn(path, on_bad_row="skip")


def test_no_usable_row_is_an_error_with_a_table_of_reasons(write: Write) -> None:
    path = write({"question": 1, "answer": "1"}, {"question": 2, "answer": "1"}, b"{", {"question": "", "answer": ""})
    with pytest.raises(DataError) as error:
        drawn(path, on_bad_row="skip")
    assert "0 of 4 rows can be used" in error.value.what
    assert "2  the field 'question' is a number, not text (first at line 1)" in error.value.what


def test_a_missing_file_and_a_folder_are_resource_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(ResourceError) as error:
            drawn(path)
        assert error.value.where == str(path)


def test_memory_does_not_grow_with_lines_or_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "MAX_LINE_BYTES", 100_000)
    path = tmp_path / "data.jsonl"
    with path.open("wb") as file:
        file.write(b'{"question": "' + b"x" * 8_000_000 + b'", "answer": "1"}\n')
        for n in range(1000):
            file.write(json.dumps({"question": f"{n} {'y' * 2000}", "answer": "1"}).encode() + b"\n")
    tracemalloc.start()
    problems = list(task(path, on_bad_row="skip").problems("train", 20, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(problems) == 20
    assert peak < 1_500_000


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=200)
    | st.lists(st.sampled_from([b'{"question":', b'"a"', b"}", b"\n", b"\xff"])).map(b"".join)
)
def test_any_bytes_give_problems_or_a_ponder_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(b'{"question": "q", "answer": "1"}\n' + data)
    for policy in ("error", "skip"):
        try:
            drawn(path, on_bad_row=policy)
        except PonderError:
            assert policy == "error"


# Splits, order, duplicates


def test_splits_by_share_are_disjoint_and_do_not_move_when_rows_are_added(write: Write) -> None:
    few, many = write(*sums(100), name="few.jsonl"), write(*reversed(sums(400)), name="many.jsonl")
    splits = {
        (path, split): {p.prompt for p in task(path, test_share=0.25).problems(split, 1000, 0)}
        for path in (few, many)
        for split in ("train", "test")
    }
    assert not splits[many, "train"] & splits[many, "test"]
    assert splits[few, "train"] <= splits[many, "train"]
    assert splits[few, "test"] <= splits[many, "test"]
    assert 70 <= len(splits[many, "test"]) <= 130


def test_the_whole_file_may_be_either_split(write: Write) -> None:
    path = write(*sums(10))
    for share, split, other in ((0, "train", "test"), (1, "test", "train")):
        assert len(list(task(path, test_share=share).problems(split, 100, 0))) == 10
        assert list(task(path, test_share=share).problems(other, 100, 0)) == []


def test_questions_of_the_test_file_are_left_out_of_training(write: Write) -> None:
    held_out = [{"question": "what is  3 + 3?", "answer": "6"}, {"question": "New?", "answer": "1"}]
    both = task(write(*sums(10)), test_path=write(*held_out, name="test.jsonl"))
    train = {p.prompt for p in both.problems("train", 100, 0)}
    assert len(train) == 9
    assert "What is 3 + 3?" not in train
    assert {p.prompt for p in both.problems("test", 100, 0)} == {"what is  3 + 3?", "New?"}


def test_the_order_is_the_seeds_and_fewer_are_the_first_of_more(write: Write) -> None:
    path = write(*sums(200))
    first, again, other = ([p.id for p in task(path).problems("train", 50, seed)] for seed in (1, 1, 2))
    assert first == again != other
    assert [p.id for p in task(path).problems("train", 20, 1)] == first[:20]
    shuffled = write(*reversed(sums(200)), name="shuffled.jsonl")
    assert [p.id for p in task(shuffled).problems("train", 50, 1)] == first
    assert list(task(path).problems("train", 0, 1)) == []


def test_repeated_questions_are_dropped_and_counted(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*sums(5), {"question": " what is 1 + 1? ", "answer": "2"}]
    assert len(drawn(write(*rows))) == 5
    assert "1  a question that stood before, left out (first at line 6)" in caplog.text


def test_a_question_with_two_answers_is_refused(write: Write) -> None:
    path = write(*sums(5), {"question": "What is 1 + 1?", "answer": "3"})
    with pytest.raises(DataError, match="with another answer") as error:
        drawn(path)
    assert error.value.where == f"{path}:6"
    assert [p.answer for p in drawn(path, on_bad_row="skip") if p.prompt == "What is 1 + 1?"] == ["2"]


def test_ids_are_kept_and_duplicates_refused(write: Write) -> None:
    rows = [{"id": n, **row} for n, row in enumerate(sums(4))]
    assert {p.id for p in drawn(write(*rows), id="id")} == {"0", "1", "2", "3"}
    path = write(*rows, {"id": 2, "question": "Else?", "answer": "1"})
    with pytest.raises(DataError, match="the other is on line 3") as error:
        drawn(path, id="id")
    assert error.value.where == f"{path}:5"
    with pytest.raises(DataError, match="'id' is a list, not an id"):
        drawn(write({"id": [1], "question": "q", "answer": "1"}), id="id")


def test_ids_name_the_question_not_the_place(write: Write) -> None:
    first = {p.prompt: p.id for p in drawn(write(*sums(5)))}
    second = {p.prompt: p.id for p in drawn(write(*reversed(sums(9)), name="other.jsonl"))}
    assert first.items() <= second.items()


# Configuration


def test_unknown_settings_splits_and_verifiers_are_errors(write: Write) -> None:
    path = write(*sums(3))
    with pytest.raises(ValidationError):
        Jsonl(path=path, questoin="q")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="no split 'longer'"):
        list(task(path).problems("longer", 1, 0))
    with pytest.raises(ConfigurationError, match="number"):
        _ = task(path, verifier="numbr").verifier


def test_a_verifier_of_ones_own(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "yes.py").write_text(
        "from ponder.core.types import Verdict\n"
        "class Yes:\n    def __call__(self, problem, response):\n        return Verdict.correct()\n"
        "plugin = Yes\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    verifier = task(write(*sums(3)), verifier="mine.yes").verifier
    assert verifier(Problem(id="", task="", prompt=""), "").reward == 1.0


def test_a_relative_path_is_of_the_current_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(*sums(3)).parent)
    assert len(drawn(Path("data.jsonl"))) == 3
