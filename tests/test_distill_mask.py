"""What of a trace is trained, and that a person can see it before the first step.

That packing and accumulation change no gradient, and that the first token of a response has one, stands in
test_learn_packed.py and test_learn_loss.py; that a template must close its turn in test_chat.py.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _learn import random_tokens, text_example, tiny_model, trainer
from ponder.core.chat import Chat
from ponder.core.errors import PonderError
from ponder.core.types import Completion, Example, Finish, Group, Message, Problem, Trace, Verdict
from ponder.learn.mask_view import ROWS, parts_of, printable, show_mask
from ponder.models.load import load_model, load_tokenizer, resolve_model
from ponder.objectives.sft import SFT, imitation
from ponder.recipe import build_recipe
from ponder.runner import run_recipe
from ponder.runs.log import SHOW_TEXTS, Log
from ponder.stages._learnable import encoded

PROMPT = (Message(role="user", content="What is 3 + 4?"),)
THOUGHT = "<think>\n3 + 4 = 7\n</think>\n7"


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat(load_tokenizer(resolve_model("pocket-base")))


@pytest.fixture(autouse=True)
def texts_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHOW_TEXTS, "1")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def trace(number: int, response: str = THOUGHT, **completion: Any) -> Trace:
    problem = Problem(id=f"p{number}", task="arithmetic", prompt=PROMPT, answer="7")
    done = Completion(text=response, **completion)
    return Trace(problem=problem, completion=done, verdict=Verdict.correct("7"), parts={"correct": 1.0})


def row(chat: Chat, response: str = "7") -> Example:
    return imitation(tuple(chat.prompt(PROMPT)), tuple(chat.response(response)))


def shown(examples: Sequence[Example], chat: Chat, mode: Any, stream: io.StringIO) -> str:
    show_mask(examples, chat, Log(mode, stream=stream))
    return stream.getvalue()


def test_brackets_stand_around_exactly_what_is_trained(chat: Chat) -> None:
    example = row(chat, THOUGHT)
    lines = shown([example] * 5, chat, "plain", io.StringIO()).splitlines()
    assert len(lines) == 1 + ROWS and "5 rows" in lines[0] and "[brackets] is trained" in lines[0]
    inside = lines[1].partition("[")[2].rpartition("]")[0]
    assert inside == printable(chat.tokenizer.decode(chat.response(THOUGHT)))
    assert "What is 3 + 4?" in lines[1].partition("[")[0] and inside.endswith(chat.tokenizer.decode([chat.end_id]))
    assert f"({len(chat.response(THOUGHT))} of {len(example.tokens)})" in lines[1]


def test_a_terminal_is_coloured_unless_asked_not_to_be(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = shown([row(chat)], chat, "live", Terminal())
    assert "\x1b[" in coloured and "green is trained" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown([row(chat)], chat, "live", Terminal())
    assert "\x1b[" not in plain and "[brackets]" in plain


@pytest.mark.parametrize("mode", ["json", "silent"])
def test_a_program_is_shown_nothing(chat: Chat, mode: Any) -> None:
    assert shown([row(chat)], chat, mode, io.StringIO()) == ""


@pytest.mark.parametrize("mode", ["plain", "live"])
def test_hostile_text_cannot_steer_the_terminal(chat: Chat, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown([row(chat, "\x1b[2J\r\u202eabc\x07 [bold]x[/bold]")], chat, mode, Terminal())
    assert not any(c in text for c in "\x1b\r\u202e\x07") and "\\x1b[2J" in text and "[bold]x[/bold]" in text
    assert printable("a\udc80\n") == "a\\udc80\\n"


def test_a_long_row_shows_both_ends_of_every_part(chat: Chat) -> None:
    text = shown([row(chat, "begin " + "and so on " * 200 + "finish")], chat, "plain", io.StringIO())
    assert len(text) < 1200 and "[begin" in text and "finish" in text


def test_a_pipe_is_told_counts_and_no_text(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SHOW_TEXTS)
    text = shown([row(chat, "my answer")], chat, "plain", io.StringIO())
    assert "my answer" not in text and "step 1 trains" in text and SHOW_TEXTS in text
    assert "my answer" in shown([row(chat, "my answer")], chat, "plain", Terminal())


def test_no_journal_keeps_the_text_of_rows(chat: Chat, tmp_path: Path) -> None:
    run_recipe(recipe(tmp_path, [trace(0)]), tmp_path / "run", log := Log("plain", stream=io.StringIO()))
    assert "[<think>" in str(log._stream._inner.getvalue())  # type: ignore[union-attr]
    events = [p for p in (tmp_path / "run").rglob("*.jsonl")]
    assert events and not any("What is 3 + 4" in p.read_text() for p in events)


def test_the_end_of_a_turn_is_trained_even_when_it_also_pads(chat: Chat) -> None:
    tokenizer = load_tokenizer(resolve_model("pocket-base"))
    tokenizer.pad_token_id = chat.end_id
    both = Chat(tokenizer)
    (example,) = SFT()(Group(trace(0).problem, (encoded(trace(0), both),)))
    assert example.tokens[-1] == chat.end_id and example.ce_weight[-1] == 1
    assert parts_of(example, both)[-1][0], "the last token is trained"
    prompt = len(both.prompt(PROMPT))
    assert not example.ce_weight[:prompt].any() and example.ce_weight[prompt:].all()


@pytest.mark.parametrize("budget", [9, 20, 31])
def test_a_last_window_that_is_not_full_weighs_as_in_one_batch(budget: int) -> None:
    examples = [text_example(random_tokens(n, n), 1 + n % 3) for n in (14, 9, 9, 8, 5, 3, 2)]
    states = []
    for size in (10_000, budget):
        learner = trainer(tiny_model(), lr=0.1, micro_batch_tokens=size, optimizer="muon")
        metrics = learner.step(examples)
        states.append((metrics["loss"], metrics["grad_norm"]))
    assert states[0] == pytest.approx(states[1], rel=1e-5)


def recipe(folder: Path, traces: list[Trace], **fields: Any) -> Any:
    file = folder / "traces.jsonl"
    file.write_text("".join(t.model_dump_json() + "\n" for t in traces))
    stage = {"model": "pocket-base", "traces": str(file), "steps": 2, "examples_per_step": 2, "decontaminate": False}
    optimisation = {"optimizer": "adamw", "lr": 1e-3}
    return build_recipe({"name": "mask", "stage": {"distill": stage | {"optimisation": optimisation} | fields}})


def test_a_row_without_a_trained_token_is_dropped_and_counted(tmp_path: Path) -> None:
    masked = trace(1, "", prompt_tokens=(1, 2, 3), tokens=())
    run_recipe(recipe(tmp_path, [trace(0), masked]), tmp_path / "run", Log.silent())
    summary = json.loads((tmp_path / "run" / "distill" / "summary.json").read_text())
    assert summary["traces"]["kept"] == 1 and summary["traces"]["empty"] == 1 and summary["last"]["loss"] > 0


def test_rows_without_any_trained_token_are_a_failed_check(tmp_path: Path) -> None:
    rows = [trace(0, "", prompt_tokens=(1, 2), tokens=()), trace(1, finish=Finish.LENGTH)]
    with pytest.raises(PonderError, match="1 truncated, 1 empty") as caught:
        run_recipe(recipe(tmp_path, rows), tmp_path / "run", Log.silent())
    assert caught.value.exit_code == 1 and not (tmp_path / "run" / "distill" / "summary.json").exists()


def test_a_step_of_masked_rows_alone_is_a_failed_check() -> None:
    zeros = np.zeros(4, np.float32)
    with pytest.raises(PonderError, match="none of the 1 examples") as caught:
        trainer().step([Example(np.arange(4, dtype=np.int32), 2, zeros, zeros, zeros, zeros)])
    assert caught.value.exit_code == 1


def test_a_distilled_adapter_leaves_a_whole_model_and_itself(tmp_path: Path) -> None:
    adapted = recipe(tmp_path, [trace(0), trace(1)], adapter={"rank": 2, "targets": ["q_proj", "v_proj"]})
    run_recipe(adapted, tmp_path / "run", Log.silent())
    folder = tmp_path / "run" / "distill"
    found = json.loads((folder / "summary.json").read_text())["adapter"]
    assert found["change"] > 0 and found["gap"] == 0 and found["optimiser_bytes"] < found["optimiser_bytes_full"] / 20
    models = [load_model(str(folder / name), device="cpu").model for name in ("model", "adapter")]
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))
    with pytest.raises(PonderError, match="changes nothing"):
        run_recipe(recipe(tmp_path, [trace(0)], adapter={}, optimisation={"lr": 0.0}), tmp_path / "inert", Log.silent())
    assert not (tmp_path / "inert" / "distill" / "summary.json").exists()
