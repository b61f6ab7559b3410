"""Traces in the forms of other tools: out and back to the letter, foreign sets judged again, bad rows named."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder import cli
from ponder.core.errors import ConfigurationError, DataError
from ponder.core.types import Completion, Finish, Message, Outcome, Problem, Trace, Usage, Verdict
from ponder.learn.rollout import judge
from ponder.runs.store import read_rows
from ponder.stages._tasks import open_tasks, verifiers_of
from ponder.stages._traces.files import read_traces, row_of, write_rows
from ponder.stages._traces.forms import EXPORTS, detected, gold_column
from ponder.stages._traces.importing import Layout, imported, layout_of
from ponder.stages._traces.reading import responses
from ponder.stages._traces.thinking import apart, normal, together
from ponder.stages._traces.writing import exported

QUESTION = "Tom has 3 apples and buys 4. How many has he?"
THOUGHT = "3 + 4 = 7"
TEXT = f"<think>\n{THOUGHT}\n</think>\n\nThe answer is 7."


def ponder(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["ponder", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def read(path: Path, task: str = "gsm8k", form: str = "auto", gold: str | None = None, **settings: Any) -> list[Trace]:
    """What a file is imported as."""
    policy = settings.pop("policy", "error")
    _, traces = imported(path, layout_of(path, form, gold), open_tasks([task]), policy, **settings)
    return list(traces)


def stored(text: str = TEXT, prompt: Any = QUESTION, answer: Any = 7, **changes: Any) -> Trace:
    """A trace as generate stores it, judged by gsm8k's verifier."""
    problem = Problem(id="gsm8k-1", task="gsm8k", prompt=prompt, answer=answer, meta={"skill": "gsm8k", "n": [1, None]})
    completion = Completion(text=text, usage=Usage(prompt_tokens=9, completion_tokens=12), temperature=0.5, model="m")
    judged = judge(problem, completion, verifiers_of(open_tasks(["gsm8k"]))["gsm8k"], {}, "big")
    return judged.model_copy(update={"parts": {"pass_rate": 0.25}, **changes})


TALK = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Hello"),
    Message(role="assistant", content="Hi.", reasoning_content="greet"),
    Message(role="user", content=QUESTION),
)
TRACES = {
    "plain": stored(),
    "wrong": stored("<think>\nsix\n</think>\n\nThe answer is 6."),
    "other spacing": stored(f"<think> {THOUGHT}  </think>\nThe answer is 7. "),
    "closing tag only": stored(f"{THOUGHT}\n</think>\n\nThe answer is 7."),
    "no thinking": stored("The answer is 7."),
    "never closed": stored("<think>\nfor ever"),
    "empty thought": stored("<think></think>The answer is 7."),
    "two thoughts": stored("<think>a</think>b<think>c</think>\nThe answer is 7."),
    "special tokens": stored("<think>\n<|im_end|>\n</think>\n\nThe answer is 7. \u2028 7"),
    "conversation": stored(prompt=TALK),
    "no gold": stored(answer=None),
    "answer of many": stored(answer={"a": [7]}),
}


# -- out and back --


WAYS = [(form, "inline") for form in EXPORTS] + [(form, "field") for form in EXPORTS if form != "sharegpt"]


@pytest.mark.parametrize(("form", "reasoning"), WAYS)
@pytest.mark.parametrize("name", TRACES)
def test_an_exported_trace_comes_back_equal(name: str, form: str, reasoning: Any) -> None:
    trace = TRACES[name]
    (back,) = responses(json.loads(json.dumps(exported(trace, form, reasoning))), form, None, "", 1)
    assert back.problem == trace.problem
    assert back.completion == trace.completion.model_copy(update={"seconds": 0.0})
    assert back.sampler == "big" and dict(back.parts) == trace.parts


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("form", EXPORTS)
def test_files_go_out_and_come_back_equal(
    form: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "traces.parquet", map(row_of, TRACES.values()))
    (tmp_path / "terms.json").write_text('{"big": {"training": "forbidden", "note": "see the service"}}')
    out, back = tmp_path / "x" / f"out{suffix}", tmp_path / f"back{suffix}"
    export = ["traces", "export", str(tmp_path), "--to", form, "--all", "--out", str(out)]
    assert ponder(*export, monkeypatch=monkeypatch) == 0
    assert "terms of big: forbidden" in capsys.readouterr().out
    arguments = ["traces", "import", str(out), "--task", "gsm8k", "--out", str(back), "--json"]
    assert ponder(*arguments, monkeypatch=monkeypatch) == 0
    shown = capsys.readouterr()
    assert f"read as {form}" in shown.err and json.loads(shown.out)["form"] == form
    assert list(read_traces(back)) == list(TRACES.values())
    assert json.loads((tmp_path / "x" / "out.terms.json").read_text())["big"]["training"] == "forbidden"


def test_only_what_can_be_learnt_is_exported_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = stored(completion=Completion(text=TEXT, finish=Finish.LENGTH), verdict=Verdict.wrong(reason="truncated"))
    several = [TRACES["plain"], TRACES["wrong"], TRACES["no gold"], cut, stored(" ")]
    write_rows(tmp_path / "t.jsonl", map(row_of, several))
    base = ["traces", "export", str(tmp_path / "t.jsonl"), "--to", "messages", "--json"]
    base += ["--out", str(tmp_path / "o.jsonl")]
    assert ponder(*base, monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["traces"] == 1 and found["left_out"] == {"wrong": 1, "unknown": 1, "truncated": 1, "empty": 1}
    assert ponder(*base, "--all", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["traces"] == 4
    write_rows(tmp_path / "t.jsonl", [row_of(TRACES["wrong"])])
    assert ponder(*base, monkeypatch=monkeypatch) == 1
    assert "0 traces are exported: 1 wrong" in capsys.readouterr().err


def test_parquet_has_plain_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "t.jsonl", [row_of(TRACES["plain"]), row_of(TRACES["no thinking"])])
    out = tmp_path / "o.parquet"
    base = ["traces", "export", str(tmp_path / "t.jsonl"), "--to", "messages", "--out", str(out)]
    assert ponder(*base, "--reasoning", "field", monkeypatch=monkeypatch) == 0
    table = pq.read_table(out)
    turn = pa.struct([("role", pa.string()), ("content", pa.string()), ("reasoning_content", pa.string())])
    assert table.schema.field("messages").type == pa.list_(turn)
    assert {str(table.schema.field(name).type) for name in table.column_names if name != "messages"} == {"string"}
    first, second = table.column("messages").to_pylist()
    assert first[1] == {"role": "assistant", "content": "The answer is 7.", "reasoning_content": THOUGHT}
    assert second[1]["reasoning_content"] is None


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the package datasets is not installed")
@pytest.mark.parametrize("form", EXPORTS)
def test_datasets_loads_the_parquet(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import load_dataset  # type: ignore[import-not-found]

    write_rows(tmp_path / "t.jsonl", [row_of(TRACES["plain"])])
    out = tmp_path / "o.parquet"
    base = ["traces", "export", str(tmp_path / "t.jsonl"), "--to", form, "--out", str(out)]
    assert ponder(*base, monkeypatch=monkeypatch) == 0
    loaded = load_dataset("parquet", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 1 and loaded[0]["id"] == "gsm8k-1"


@pytest.mark.parametrize(
    "flags",
    [["--to", "xml"], ["--to", "sharegpt", "--reasoning", "field"], ["--to", "messages", "--format", "csv"],
     ["--to", "messages", "--format", "parquet"], ["--to", "messages", "--reasoning", "loud"]],
    ids=" ".join,
)  # fmt: skip
def test_flags_that_make_no_sense_are_refused(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "t.jsonl", [row_of(TRACES["plain"])])
    base = ["traces", "export", str(tmp_path / "t.jsonl"), "--out", str(tmp_path / "o.jsonl")]
    assert ponder(*base, *flags, monkeypatch=monkeypatch) == 2
    assert not (tmp_path / "o.jsonl").exists()


@given(st.lists(st.sampled_from(["<think>", "</think>", "\n", " ", "a", "b"]), max_size=12))
def test_a_response_taken_apart_is_put_together_to_the_letter(pieces: list[str]) -> None:
    text = "".join(pieces)
    parts = apart(text)
    assert parts is None or together(parts.thinking, parts.answer, parts.tags) == text
    trace = stored(text or "x")
    if text.strip():
        (back,) = responses(exported(trace, "messages", "field"), "messages", None, "", 1)
        assert back.completion.text == text


# -- foreign rows --


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": TEXT}]}, "messages"),
        (
            {
                "messages": [
                    {"role": "user", "content": QUESTION},
                    {"role": "assistant", "content": "The answer is 7.", "reasoning": THOUGHT},
                ]
            },
            "messages",
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": QUESTION},
                    {"from": "gpt", "value": TEXT},
                ]
            },
            "sharegpt",
        ),
        (
            {
                "conversations": [
                    {"from": "user", "value": QUESTION},
                    {
                        "from": "assistant",
                        "value": f"<|begin_of_thought|>\n\n{THOUGHT}\n\n<|end_of_thought|>\n\n"
                        "<|begin_of_solution|>\n\nThe answer is 7.\n\n<|end_of_solution|>",
                    },
                ],
            },
            "sharegpt",
        ),
        ({"prompt": QUESTION, "completion": TEXT}, "prompt-completion"),
        ({"prompt": QUESTION, "completion": "The answer is 7.", "reasoning": THOUGHT}, "prompt-completion"),
        (
            {
                "prompt": [{"role": "user", "content": QUESTION}],
                "completion": [{"role": "assistant", "content": TEXT}],
            },
            "prompt-completion",
        ),
        ({"instruction": QUESTION, "input": "", "output": TEXT}, "alpaca"),
        (
            {"question": QUESTION, "thinking_trajectories": [THOUGHT], "attempt": "The answer is 7."},
            "s1k",
        ),
        (
            {"question": QUESTION, "deepseek_thinking_trajectory": THOUGHT, "deepseek_attempt": "The answer is 7."},
            "s1k-1.1",
        ),
        ({"problem": QUESTION, "generations": [TEXT], "messages": []}, "openr1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_form_is_recognised_and_read_as_the_same_trace(row: dict[str, Any], form: str, tmp_path: Path) -> None:
    assert detected(row, "f") == form
    path = write(tmp_path / "f.jsonl", {**row, "answer": "7"})
    (trace,) = read(path)
    assert trace.problem.prompt == QUESTION and trace.completion.text == TEXT
    assert trace.verdict.outcome is Outcome.CORRECT and trace.problem.answer == "7"
    if "begin_of_thought" in json.dumps(row):
        assert trace.completion.raw is not None and trace.completion.raw.startswith("<|begin_of_thought|>")
    write(tmp_path / "f.jsonl", row)
    (trace,) = read(path)
    assert trace.verdict == Verdict.unknown("no gold answer"), "never assumed right"


def test_turns_and_system_texts_are_kept(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}, {"from": "human", "value": QUESTION}]
    row = {"system": "Be brief.", "conversations": [*talk, {"from": "gpt", "value": TEXT}]}
    (trace,) = read(write(tmp_path / "f.jsonl", row))
    roles = [message.role for message in trace.problem.messages]
    assert roles == ["system", "user", "assistant", "user"] and trace.completion.text == TEXT
    row = {"instruction": QUESTION, "output": TEXT, "system": "Be brief.", "history": [["Hi", "Hello."]]}
    (other,) = read(write(tmp_path / "f.jsonl", row))
    assert other.problem.prompt == trace.problem.prompt


def test_the_generations_of_a_set_are_one_problem_and_its_claims_are_not_believed(tmp_path: Path) -> None:
    row = {
        "problem": QUESTION, "solution": "He has 7.", "answer": "7", "uuid": "u-1",
        "generations": [TEXT, TEXT.replace("7", "8"), TEXT, TEXT],
        "correctness_math_verify": [False, True, True, None],
        "is_reasoning_complete": [True, True, True, False], "finish_reasons": None,
    }  # fmt: skip
    traces = read(write(tmp_path / "f.jsonl", row), "math500")
    assert [t.verdict.outcome.value for t in traces] == ["correct", "wrong", "correct", "wrong"]
    assert [t.parts.get("claimed_correct") for t in traces] == [0.0, 1.0, 1.0, None]
    assert traces[3].completion.finish is Finish.LENGTH
    assert len({t.problem.id for t in traces}) == 1 and traces[0].problem.meta["source_id"] == "u-1"


def test_trust_says_so_in_every_row_and_not_against_the_set(tmp_path: Path) -> None:
    row = {"problem": QUESTION, "generations": [TEXT, TEXT], "correctness_math_verify": [True, False]}
    good, bad = read(write(tmp_path / "f.jsonl", row), trust=True, sampler="r1")
    assert good.verdict.outcome is Outcome.CORRECT and good.verdict.reason == "trusted, not verified"
    assert bad.verdict.outcome is Outcome.WRONG and good.sampler == "r1"
    judged = {"problem": QUESTION, "generations": [TEXT.replace("7", "9")], "answer": "7"}
    (wrong,) = read(write(tmp_path / "f.jsonl", judged), trust=True)
    assert wrong.verdict.outcome is Outcome.WRONG, "trust does not overrule the verifier"


def test_the_gold_of_a_worked_solution_is_its_answer(tmp_path: Path) -> None:
    row = {"question": QUESTION, "thinking_trajectories": [THOUGHT], "attempt": "7", "solution": "Add: \\boxed{7}"}
    (trace,) = read(write(tmp_path / "f.jsonl", row), "math500")
    assert trace.problem.answer == "7" and trace.verdict.outcome is Outcome.CORRECT


def test_what_could_be_two_forms_or_two_golds_is_asked_for() -> None:
    with pytest.raises(DataError, match="could be messages or prompt-completion"):
        detected(["messages", "prompt", "completion"], "f")
    with pytest.raises(DataError, match="of no known form"):
        detected(["text"], "f")
    with pytest.raises(DataError, match="'gold', 'label'"):
        gold_column("messages", ["messages", "gold", "label"], None, "f")
    assert gold_column("messages", ["messages", "gold", "label"], "label", "f") == "label"
    assert gold_column("messages", ["messages", "gold"], "none", "f") is None
    with pytest.raises(DataError, match="no column 'x'"):
        gold_column("messages", ["messages"], "x", "f")


BAD = [
    '{"messages": [ZZPHIZZ',
    '["ZZPHIZZ"]',
    {"messages": "ZZPHIZZ"},
    {"messages": []},
    {"messages": [{"role": "user", "content": "ZZPHIZZ"}]},
    {"messages": [{"role": "user", "content": "ZZPHIZZ"}, {"role": "assistant", "content": " "}]},
    {"messages": [{"role": "wizard", "content": "ZZPHIZZ"}]},
    {"messages": [{"content": "ZZPHIZZ"}]},
    {"messages": [{"role": "system", "content": "a"}, {"role": "system", "content": "ZZPHIZZ"}]},
    {"messages": [{"role": "user", "content": ["ZZPHIZZ"]}, {"role": "assistant", "content": "b"}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "ponder": "ZZPHIZZ"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "ponder": "{}"},
    {"other": "ZZPHIZZ"},
]
GOOD = {"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": TEXT}]}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: json.dumps(bad)[:50])
def test_a_bad_row_stops_or_is_counted_and_never_shown(bad: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", GOOD, bad, GOOD)
    with pytest.raises(DataError, match=r"f\.jsonl:2") as refused:
        read(path)
    assert "ZZPHIZZ" not in str(refused.value) and "--on-bad skip" in refused.value.fix
    report, traces = imported(path, Layout("messages", None), open_tasks(["gsm8k"]), "skip")
    assert len(list(traces)) == 2 and sum(report.reasons.values()) == 1 and "ZZPHIZZ" not in report.table


def test_a_file_without_a_usable_row_is_a_failure_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(tmp_path / "f.jsonl", {"messages": 1}, {"messages": []}), tmp_path / "o.jsonl"
    base = ["traces", "import", str(path), "--task", "gsm8k", "--out", str(out)]
    assert ponder(*base, "--on-bad", "skip", monkeypatch=monkeypatch) == 1
    assert "0 of 2 rows can be used" in capsys.readouterr().err
    assert ponder(*base, monkeypatch=monkeypatch) == 2
    assert ponder(*base, "--on-bad", "guess", monkeypatch=monkeypatch) == 2
    assert ponder("traces", "import", str(tmp_path / "no.jsonl"), *base[3:], monkeypatch=monkeypatch) == 3
    assert not out.exists() and not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (json.dumps(GOOD).encode("utf-16"), 2),
        (b"\xff\n", 1),
        (b'{"messages": "\x00"}\n', 1),
        (b"", 1),
        (b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n", 0),
        (json.dumps([GOOD, GOOD]).encode(), 1),  # a list under the name of lines
    ],
    ids=["UTF-16", "not UTF-8", "NUL", "empty", "BOM and CRLF", "JSON list"],
)
def test_files_of_every_make_are_read_or_refused(
    data: bytes, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f.jsonl").write_bytes(data)
    base = ["traces", "import", str(tmp_path / "f.jsonl"), "--task", "gsm8k", "--out", str(tmp_path / "o.jsonl")]
    assert ponder(*base, monkeypatch=monkeypatch) == code
    assert (tmp_path / "o.jsonl").exists() == (code == 0)


def test_the_published_sets_are_read_from_parquet(tmp_path: Path) -> None:
    row = {
        "problem": [QUESTION], "answer": ["7"], "generations": [[TEXT, TEXT]], "correctness_count": [1],
        "is_reasoning_complete": [[True, True]], "correctness_math_verify": [[True, False]],
        "messages": [[{"role": "user", "content": QUESTION}]],
    }  # fmt: skip
    pq.write_table(pa.table(row), tmp_path / "openr1.parquet")
    assert [trace.verdict.outcome.value for trace in read(tmp_path / "openr1.parquet", "math500")] == ["correct"] * 2
    turns = [{"from": "user", "value": QUESTION}, {"from": "assistant", "value": TEXT}]
    (tmp_path / "thoughts.json").write_text(json.dumps([{"system": "Think.", "conversations": turns}]))
    (trace,) = read(tmp_path / "thoughts.json")
    assert [message.role for message in trace.problem.messages] == ["system", "user"]
    (tmp_path / "alpaca.csv").write_text(f'instruction,input,output\n"{QUESTION}","","The answer is 7."\n')
    (trace,) = read(tmp_path / "alpaca.csv")
    assert trace.completion.text == "The answer is 7."


def test_a_bad_row_in_the_middle_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "f.jsonl", *[GOOD] * 50, {"messages": 1})
    for name in ("o.jsonl", "o.parquet"):
        base = ["traces", "import", str(path), "--task", "gsm8k", "--out", str(tmp_path / name)]
        assert ponder(*base, monkeypatch=monkeypatch) == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["f.jsonl"]


def test_a_jsonl_task_judges_with_the_verifier_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "f.jsonl", {**GOOD, "gold": "7.0"})
    base = ["traces", "import", str(path), "--task", "jsonl", "--out", str(tmp_path / "o.parquet")]
    flags = ["--set", "verifier=number", "--sampler", "r1", "--licence", "mit"]
    assert ponder(*base, *flags, monkeypatch=monkeypatch) == 0
    (row,) = read_rows(tmp_path / "o.parquet")
    assert row["verdict"]["outcome"] == "correct" and row["problem"]["task"] == "jsonl"
    assert json.loads((tmp_path / "o.terms.json").read_text())["r1"]["training"] == "allowed"
    assert "1 traces of 1 rows" in capsys.readouterr().out


def test_thought_marks_that_do_not_fit_leave_the_text_alone() -> None:
    assert normal("<|begin_of_thought|>for ever") == "<|begin_of_thought|>for ever"
    with pytest.raises(ConfigurationError):
        open_tasks(["nothing"])
