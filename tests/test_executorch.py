"""A model as a `.pte` for ExecuTorch: refused, or written whole; where ExecuTorch is here, the same answers from it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from ponder.backends.local import artefact_engine
from ponder.core.errors import ConfigurationError, DataError, PonderError, ResourceError
from ponder.core.types import Finish, Message, Sampling
from ponder.engines import executorch as engine
from ponder.engines._executorch import process
from ponder.engines.executorch import ExecutorchSampler
from ponder.engines.local import LocalSampler
from ponder.exporters import executorch as exporter
from ponder.models.executorch_config import CONFIG, PYTHON, executorch_python, read_executorch_config
from ponder.models.load import load_model, resolve_model
from ponder.stages._release.forms import exporter_of

POCKET = resolve_model("pocket-teacher")
QUESTION = (Message(role="user", content="Anna has 12 coins. She finds 7. How many has she?"),)
STAND_IN = """
import json, struct, sys
import numpy as np
sys.stdout.buffer.write(struct.pack("<i", 0)); sys.stdout.buffer.flush()
for line in sys.stdin.buffer:
    ask = json.loads(line)
    if ask["at"] > 40:
        sys.stdout.buffer.write(struct.pack("<i", -4) + b"full")
    else:
        rows = [np.eye(1, 1024, (7 * t + 3) % 1019, dtype=np.float32) * 9 for t in ask["ids"]]
        data = (np.concatenate(rows) if ask["each"] else rows[-1]).tobytes()
        sys.stdout.buffer.write(struct.pack("<i", len(data) // 4) + data)
    sys.stdout.buffer.flush()
"""
"""Speaks as the worker does, and expects a token that only the one before it decides."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """ExecuTorch's exporter without ExecuTorch: it writes a file where it is told to."""
    called: list[Sequence[str]] = []

    def write(command: Sequence[str], place: Path, _: str) -> None:
        called.append(command)
        assert torch.load(place / "model.pth", weights_only=True)["layers.4.feed_forward.w3.weight"].shape == (
            1280,
            128,
        )
        (place.parent / "model.pte").write_bytes(b"program")

    monkeypatch.setattr(exporter, "call", write)
    monkeypatch.setattr(exporter, "executorch_python", lambda: sys.executable)
    monkeypatch.setattr(exporter, "_version", lambda _: "1.5.1")
    return called


@pytest.fixture
def stand_in(
    quick: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ExecutorchSampler]:
    """An artefact whose program is arithmetic."""
    worker = tmp_path / "stand_in.py"
    worker.write_text(STAND_IN)
    monkeypatch.setattr(process, "WORKER", worker)
    monkeypatch.setattr(process, "executorch_python", lambda: sys.executable)
    found = ExecutorchSampler(exporter_of("executorch:fp32")(POCKET, tmp_path / "out"), threads=1)
    yield found
    found.close()


def test_a_folder_holds_all_that_an_application_needs(quick: list[Sequence[str]], tmp_path: Path) -> None:
    path = exporter_of("executorch", name="small")(POCKET, tmp_path)
    assert path.name == "small-executorch-8da4w" and len(quick) == 1
    assert {file.name for file in path.iterdir()} == {
        CONFIG, "model.pte", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    told = read_executorch_config(path)
    assert (told.context, told.ends, told.form) == (2048, (1021,), "8da4w")
    assert (path / "tokenizer.json").read_bytes() == (POCKET / "tokenizer.json").read_bytes()
    assert artefact_engine(path) == "executorch"


def test_a_failing_exporter_leaves_nothing(
    quick: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PonderError("it failed")

    monkeypatch.setattr(exporter, "call", fail)
    with pytest.raises(PonderError, match="it failed"):
        exporter.Executorch()(POCKET, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model_type": "llama"}, "written for qwen3"), ({"attention_bias": True}, "attention_bias"),
     ({"intermediate_size": 640}, "config.json asks for")],
)  # fmt: skip
def test_a_model_that_would_be_another_is_refused(
    quick: list[Sequence[str]], tmp_path: Path, change: dict[str, object], said: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(POCKET, model)
    (model / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text()) | change))
    with pytest.raises(ConfigurationError, match=said):
        exporter.Executorch()(model, tmp_path / "out")
    assert not quick and not (tmp_path / "out").exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ResourceError, match=r"executorch==1\.5\.1"):
        executorch_python()
    monkeypatch.setenv(PYTHON, "/no/such/python")
    with pytest.raises(ResourceError, match="names no program"):
        executorch_python()
    monkeypatch.setenv(PYTHON, sys.executable)
    assert executorch_python() == sys.executable


def test_damaged_folders_are_refused_before_anything_starts(
    quick: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "Program", lambda *_: pytest.fail("a process was started"))
    path = exporter.Executorch()(POCKET, tmp_path)
    good = json.loads((path / CONFIG).read_text())
    for change in ({"program": "../model.pte"}, {"context": 0}, {"ends": []}, {"more": 1}, {"program": "none.pte"}):
        (path / CONFIG).write_text(json.dumps(good | change))
        with pytest.raises(DataError):
            ExecutorchSampler(path)
    (path / CONFIG).write_text(json.dumps(good))
    (path / "tokenizer.json").unlink()
    with pytest.raises(DataError):
        ExecutorchSampler(path)


def test_tokens_follow_the_logits(stand_in: ExecutorchSampler) -> None:
    sampling = Sampling(temperature=0.0, max_new_tokens=5)
    ((one,),) = stand_in.generate([QUESTION], 1, sampling)
    last = stand_in.prompt(QUESTION)[-1]
    expected = []
    for _ in range(5):
        last = (7 * last + 3) % 1019
        expected.append(last)
    assert list(one.tokens or ()) == expected and one.finish is Finish.LENGTH
    assert "".join(stand_in.stream(QUESTION, sampling)) == one.text
    ids = [*stand_in.prompt(QUESTION), *expected]
    (top,) = stand_in.top([ids], [len(ids) - 5], 3)
    assert top.ids[:, 0].tolist() == expected and np.isfinite(top.logprobs[:, 0]).all()
    groups = stand_in.generate([QUESTION], 2, Sampling(temperature=5.0, max_new_tokens=4))
    assert (
        groups[0][1].tokens
        == stand_in.generate([QUESTION], 2, Sampling(temperature=5.0, max_new_tokens=4))[0][1].tokens
    )
    budget = Sampling(temperature=0.0, max_new_tokens=6, max_thinking_tokens=2)
    assert stand_in.generate([QUESTION], 1, budget)[0][0].usage.completion_tokens <= 6


def test_a_program_that_fails_or_dies_says_so(stand_in: ExecutorchSampler) -> None:
    with pytest.raises(PonderError, match="full"):
        stand_in.generate([QUESTION], 1, Sampling(temperature=0.0, max_new_tokens=400))
    assert stand_in.generate([QUESTION], 1, Sampling(temperature=0.0, max_new_tokens=2))  # it goes on
    alive = stand_in._program._process
    assert alive is not None
    alive.kill()
    with pytest.raises(PonderError, match="died"):
        stand_in.generate([QUESTION], 1, Sampling(temperature=0.0, max_new_tokens=2))
    stand_in.close()
    stand_in.close()
    with pytest.raises(ConfigurationError, match="closed"):
        stand_in.generate([QUESTION], 1, Sampling(temperature=0.0, max_new_tokens=2))


def test_executorch_itself_answers_as_the_trained_model(tmp_path: Path) -> None:
    """Takes minutes: only where PONDER_EXECUTORCH_ARTEFACT names an fp32 folder of pocket-teacher made before."""
    made = os.environ.get("PONDER_EXECUTORCH_ARTEFACT")
    if not made:
        pytest.skip("PONDER_EXECUTORCH_ARTEFACT names no exported folder, and an export takes minutes")
    loaded = load_model("pocket-teacher")
    sampling = Sampling(temperature=0.0, max_new_tokens=48)
    expected = LocalSampler(loaded.model, loaded.chat).generate([QUESTION], 1, sampling)
    found = ExecutorchSampler(made, threads=1).generate([QUESTION], 1, sampling)
    assert found[0][0].tokens == expected[0][0].tokens
