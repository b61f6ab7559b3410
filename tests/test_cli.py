"""The command line as a user meets it: as a process of its own, with exit codes, streams and messages."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ponder
from fake_lab import calls, install
from ponder import _cli_chat, _cli_run, cli
from ponder.core.types import Completion, Message, Sampling

SOURCE = str(Path(ponder.__file__).parents[1])
RECIPE = "name: demo\nstage:\n  one: {use: lab.count}\n  two: {use: lab.count, source: one}\n"


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    Path("demo.yaml").write_text(RECIPE)


def environment(**changes: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": SOURCE, "COLUMNS": "100"} | changes


def ponder_process(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ponder", *arguments],
        env=environment(**changes),
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
    )


def children_seconds() -> float:
    """Processor time of finished child processes, which does not depend on who else is working."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def invoke(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["ponder", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['ponder', '--help']\n"
        "from ponder.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'pyarrow', 'rich', 'yaml'}\n"
        "assert not heavy & set(sys.modules)"
    )
    began = children_seconds()
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    seconds = children_seconds() - began
    assert result.returncode == 0, result.stderr
    names = "run plan tasks pretrain generate distill reinforce evaluate verify audit report chat doctor init"
    assert all(f"\n  {name} " in result.stdout for name in names.split())
    commands = result.stdout.partition("Commands:")[2]
    assert "..." not in commands and seconds < 0.6  # 0.1 s on an idle machine


def test_run_resumes_and_then_does_nothing() -> None:
    first = ponder_process("run", "demo.yaml", "--out", "place with ünï/run")
    assert first.returncode == 0, first.stderr
    assert "one: done in" in first.stderr and "ponder chat 'place with ünï/run/two/model'" in first.stdout
    began = children_seconds()
    second = ponder_process("run", "demo.yaml", "--out", "place with ünï/run")
    assert second.returncode == 0 and "unchanged" in second.stderr and calls(Path()) == ["one", "two"]
    assert children_seconds() - began < 5.0


def test_new_starts_over_beside_the_old_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = ["run", "demo.yaml", "--set", "stage.one.rows=5"]
    assert invoke("run", "demo.yaml", monkeypatch=monkeypatch) == 0
    assert invoke(*changed, monkeypatch=monkeypatch) == 2
    errors = capsys.readouterr().err
    assert "stage.one.rows: 3 -> 5" in errors and "--new" in errors
    assert invoke(*changed, "--new", monkeypatch=monkeypatch) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["demo", "demo-2"]


def test_json_events_are_lines_of_json() -> None:
    result = ponder_process("run", "demo.yaml", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["stage"] for row in events if row["event"] == "done"] == ["one", "two"]
    assert result.stderr == ""


def test_plan_shows_costs_and_what_is_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("plan", "demo.yaml", "--set", "stage.two.rows=4000", monkeypatch=monkeypatch) == 0
    text = capsys.readouterr().out
    assert "4,000" in text and "4,003" in text and "2.0 MB" in text
    assert invoke("run", "demo.yaml", monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    assert invoke("plan", "demo.yaml", "--json", monkeypatch=monkeypatch) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [stage["state"] for stage in plan["stages"]] == ["done", "done"] and plan["total"]["rows"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "absent.yaml"], 3, "absent.yaml"),
        (["run", "demo.yaml", "--set", "stage.one.rwos=1"], 2, "did you mean stage.one.rows?"),
        (["run", "demo.yaml", "--set", "stage.one.rows=-1"], 2, "greater than or equal to 0, not -1"),
        (["rnu", "demo.yaml"], 2, "run"),
        (["run", "demo.yaml", "--ouut", "x"], 2, "--out"),
        (["evaluate", "--task", "arithmetic"], 2, "--model"),
        (["run", "demo.yaml", "--out", "lab/count.py"], 3, "lab/count.py"),
        (["run", "demo.yaml", "--out", "n" * 300], 3, "too long"),
        (["run", "demo.yaml", "--out", "."], 2, "not a run"),
        (["run", "demo.yaml", "--set", "stage.one.fail=key"], 1, "--verbose"),
        (["run", "demo.yaml", "--set", "stage.one.fail=memory"], 3, "memory"),
        (["run", "demo.yaml", "--set", "stage.one.fail=full"], 3, "disk is full"),
        (["report", "absent"], 3, "absent"),
    ],
)
def test_what_goes_wrong_has_a_code_and_one_message(
    arguments: list[str],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(*arguments, monkeypatch=monkeypatch) == code
    errors = capsys.readouterr().err
    assert says in errors and "Traceback" not in errors
    if code == 2:
        assert not Path("runs").exists()  # nothing was started


def test_verbose_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("run", "demo.yaml", "--set", "stage.one.fail=key", "--verbose", monkeypatch=monkeypatch) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_exits_4_and_the_printed_command_resumes() -> None:
    arguments = ["run", "demo.yaml", "--set", "stage.one.rows=40", "--set", "stage.one.pause=0.03"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ponder", *arguments],
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    rows = Path("runs/demo/one/rows.jsonl")
    while not rows.exists() or not rows.stat().st_size:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 4
    command = errors.rpartition("resume with: ")[2].strip()
    assert command == f"ponder {' '.join(arguments)} --out runs/demo"
    assert ponder_process(*command.split()[1:]).returncode == 0
    assert len(rows.read_text().splitlines()) == 40


def test_a_second_process_exits_3_and_names_the_first() -> None:
    arguments = ["run", "demo.yaml", "--set", "stage.one.rows=9000", "--set", "stage.one.pause=0.05"]
    first = subprocess.Popen([sys.executable, "-m", "ponder", *arguments], env=environment(), stderr=subprocess.DEVNULL)
    try:
        while not Path("runs/demo/one/rows.jsonl").exists():
            time.sleep(0.02)
        second = ponder_process(*arguments)
        assert second.returncode == 3 and str(first.pid) in second.stderr
    finally:
        first.kill()
        first.wait()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ponder", "plan", "demo.yaml", "--no-probe"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0


@pytest.mark.parametrize("redirect", [">&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_error(redirect: str) -> None:
    command = f"{sys.executable} -m ponder run demo.yaml {redirect}"
    assert subprocess.run(["sh", "-c", command], env=environment()).returncode == 0
    assert Path("runs/demo/two/summary.json").exists()


def test_a_console_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("demo.yaml").write_text(RECIPE.replace("two:", "two: ").replace("name: demo", "name: demo # 思"))
    result = ponder_process("run", "demo.yaml", "--out", "思", PYTHONIOENCODING="cp1252", COLUMNS="40")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_gets_a_live_line_and_no_colour_when_unwanted(colour: bool) -> None:
    controller, terminal = pty.openpty()
    changes = {"TERM": "xterm-256color"} | ({} if colour else {"NO_COLOR": "1"})
    process = subprocess.Popen(
        [sys.executable, "-m", "ponder", "run", "demo.yaml", "--set", "stage.one.pause=0.2"],
        env={key: value for key, value in environment(**changes).items() if key != "NO_COLOR" or not colour},
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    assert process.wait() == 0
    assert b"\x1b[?25l" in shown and shown.rstrip().endswith(b"\x1b[?25h") is False
    assert (b"\x1b[3" in shown) is colour


def test_a_single_stage_is_a_recipe_of_its_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def remember(recipe: object, folder: Path, log: object, planned: object = ()) -> dict[str, object]:
        seen["recipe"], seen["folder"] = recipe, folder
        return {}

    monkeypatch.setattr(_cli_run, "run_recipe", remember)
    monkeypatch.setattr(_cli_run, "show_results", lambda folder: None)
    arguments = ["generate", "--model", "m", "--task", "jsonl", "--data", "d.jsonl", "--problems", "7"]
    assert invoke(*arguments, "--seed", "3", "--set", "temperature=0.5", monkeypatch=monkeypatch) == 0
    made = seen["recipe"]
    assert made.seed == 3 and made.stages[0].use == "generate"
    task = {"use": "jsonl", "path": "d.jsonl"}
    assert made.stages[0].fields == {"model": "m", "tasks": [task], "problems": 7, "temperature": 0.5}
    assert seen["folder"] == Path("runs/generate")
    arguments = [
        "evaluate",
        "--model",
        "a=x/y",
        "--model",
        "b",
        "--task",
        "chains",
        "--split",
        "test",
        "--seed",
        "2",
    ]
    assert invoke(*arguments, "--split", "longer", "--out", "o", monkeypatch=monkeypatch) == 0
    fields = seen["recipe"].stages[0].fields
    assert fields["models"] == {"a": "x/y", "b": "b"} and fields["splits"] == ["test", "longer"]
    assert fields["seed"] == 2 and seen["folder"] == Path("o")


def test_two_models_cannot_share_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["evaluate", "--model", "a=x", "--model", "a=y", "--task", "chains"]
    assert invoke(*arguments, monkeypatch=monkeypatch) == 2


def test_the_command_to_resume_a_single_stage_names_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ponder", "generate", "--out", "a", "--new", "--model", "m", "--out=b"])
    assert _cli_run._command_without_folder() == ["ponder", "generate", "--model", "m"]


def test_tasks_are_listed_and_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("tasks", "--json", monkeypatch=monkeypatch) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row["about"] for row in rows) and "arithmetic" in {row["task"] for row in rows}
    assert invoke("tasks", monkeypatch=monkeypatch) == 0
    assert "splits: train" in capsys.readouterr().out
    shown = ["tasks", "arithmetic", "--split", "test", "--limit", "2", "--set", "max_steps=2"]
    assert invoke(*shown, "--json", monkeypatch=monkeypatch) == 0
    problems = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(problems) == 2 and all(problem["meta"]["steps"] <= 2 for problem in problems)
    assert invoke(*shown, monkeypatch=monkeypatch) == 0
    text = capsys.readouterr().out
    assert "answer: " in text and "solution:" in text and problems[1]["prompt"] in text
    assert invoke("tasks", "arithmetc", monkeypatch=monkeypatch) == 2
    assert "did you mean 'arithmetic'" in capsys.readouterr().err


VERIFIER = """
from ponder.core.types import Problem, Verdict

def same(problem: Problem, response: str) -> Verdict:
    if response == "crash":
        raise RuntimeError
    return Verdict.correct(response) if response == problem.answer else Verdict.wrong(response)

plugin = same
"""


def test_verify_writes_one_verdict_per_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("lab/same.py").write_text(VERIFIER)
    monkeypatch.delitem(sys.modules, "lab.same", raising=False)
    rows = [{"answer": "1", "response": "1"}, {"answer": "1", "response": "2", "id": "b"}]
    rows.append({"answer": None, "response": "crash"})
    Path("cases.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    assert invoke("verify", "cases.jsonl", "--verifier", "lab.same", monkeypatch=monkeypatch) == 0
    output = capsys.readouterr()
    verdicts = [json.loads(line) for line in output.out.splitlines()]
    assert [(row["id"], row["outcome"]) for row in verdicts] == [
        (1, "correct"),
        ("b", "wrong"),
        (5, "unknown"),
    ]
    assert "3 rows: 1 correct, 1 unknown, 1 wrong" in output.err
    arguments = ["verify", "cases.jsonl", "--verifier", "lab.same", "--out", "verdicts.jsonl"]
    assert invoke(*arguments, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == ""
    assert [json.loads(line) for line in Path("verdicts.jsonl").read_text().splitlines()] == verdicts


@pytest.mark.parametrize(
    "row",
    [
        b"SECRET",
        b'["SECRET"]',
        b'{"answer": "SECRET"}',
        b'{"response": "SECRET"}',
        b'{"answer": 1, "response": 2}',
        b'{"answer": 1, "response": "SECRET", "extra": 1}',
        b'{"answer": 1, "response": "SECRET", "id": []}',
        b'{"answer": 1, "response": "\xff"}',
    ],
)
def test_a_bad_case_is_named_by_file_and_line_and_never_shown(
    row: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("lab/same.py").write_text(VERIFIER)
    monkeypatch.delitem(sys.modules, "lab.same", raising=False)
    Path("cases.jsonl").write_bytes(b'{"answer": "1", "response": "1"}\n' + row + b"\n")
    assert invoke("verify", "cases.jsonl", "--verifier", "lab.same", "--out", "v", monkeypatch=monkeypatch) == 2
    errors = capsys.readouterr().err
    assert "cases.jsonl:2" in errors and "SECRET" not in errors and not Path("v").exists()


class Speaker:
    """Streams in pieces that cut the tags."""

    name = "speaker"
    asked: list[list[Message]]

    def __init__(self, fails: bool = False) -> None:
        self.asked, self.fails = [], fails

    def stream(self, messages: list[Message], sampling: Sampling):
        self.asked.append(list(messages))
        yield from ("<th", "ink>let me \x1b[2Jsee</th", "ink>\n", "it is <", "4")


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> Speaker:
    speaking = Speaker()
    monkeypatch.setattr(_cli_chat, "open_sampler", lambda model: speaking)
    return speaking


def test_chat_answers_once(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke("chat", "m", "--prompt", "2+2?", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == "<think>let me [2Jsee</think>\nit is <4\n"
    assert invoke("chat", "m", "--prompt", " ", monkeypatch=monkeypatch) == 2


def test_chat_over_a_pipe_remembers_the_conversation(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["2+2?", "", "and 3+3?", "/new", "hello"])

    def read(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    assert invoke("chat", "m", monkeypatch=monkeypatch) == 0
    assert [len(messages) for messages in speaker.asked] == [1, 3, 1]
    assert speaker.asked[1][1].reasoning_content == "let me \x1b[2Jsee"
    assert speaker.asked[1][1].content == "it is <4"


def test_thinking_is_dimmed_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    _cli_chat._show(Speaker().stream([], Sampling()))
    assert capsys.readouterr().out.startswith("\x1b[2mlet me [2Jsee\x1b[0m\n\nit is <4")
    monkeypatch.setenv("NO_COLOR", "1")
    _cli_chat._show(Speaker().stream([], Sampling()))
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_spans_do_not_depend_on_where_the_stream_is_cut(size: int) -> None:
    text = "a<think>b < c</think>d<think>e"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    joined: list[tuple[bool, str]] = []
    for thinking, part in _cli_chat.spans(pieces):
        if joined and joined[-1][0] == thinking:
            joined[-1] = (thinking, joined[-1][1] + part)
        else:
            joined.append((thinking, part))
    assert joined == [(False, "a"), (True, "b < c"), (False, "d"), (True, "e")]


def test_an_engine_that_cannot_stream_answers_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    class Silent:
        def generate(self, prompts: object, samples: int, sampling: Sampling) -> list[list[Completion]]:
            return [[Completion(text="whole")]]

    assert list(_cli_chat._stream(Silent(), [], Sampling())) == ["whole"]  # type: ignore[arg-type]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    for name in [name for name in sys.modules if name.startswith("ponder._cli_run") or name == "ponder.runs.log"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("ponder._cli_run", "ponder.runner", "ponder.recipe", "ponder.stages._stage"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert invoke("plan", "demo.yaml", monkeypatch=monkeypatch) == 3
    assert "pip install rich" in capsys.readouterr().err
