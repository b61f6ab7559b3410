"""The shipped models: what they are made of, and that they are what they say."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ponder.models.load import POCKET, LoadedModel, load_model, parameter_count, resolve_model

BUDGET_BYTES = 40_000_000


@cache
def loaded(name: str) -> LoadedModel:
    return load_model(name)


@pytest.mark.parametrize("name", POCKET)
def test_files_are_those_that_were_measured(name: str) -> None:
    folder = resolve_model(name)
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, file = line.split(maxsplit=1)
        assert hashlib.sha256((folder / file.lstrip("*")).read_bytes()).hexdigest() == digest, file
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---")


def test_weights_are_bfloat16_safetensors_and_small() -> None:
    total = 0
    for name in POCKET:
        path = resolve_model(name) / "model.safetensors"
        total += path.stat().st_size
        with safe_open(path, framework="pt") as tensors:
            assert {tensors.get_tensor(key).dtype for key in tensors.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert total <= BUDGET_BYTES


def test_the_teacher_is_at_least_five_times_the_student() -> None:
    student, teacher = (parameter_count(loaded(name).model) for name in POCKET)
    assert teacher >= 5 * student


def test_both_speak_one_language() -> None:
    student, teacher = (loaded(name) for name in POCKET)
    assert student.chat.digest == teacher.chat.digest
    assert student.chat.tokenizer.get_vocab() == teacher.chat.tokenizer.get_vocab()


@pytest.mark.parametrize("name", POCKET)
def test_architecture_and_template_suit_other_runtimes(name: str) -> None:
    folder = Path(resolve_model(name))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer["normalizer"] is None
    assert "reasoning_content" in (folder / "chat_template.jinja").read_text(encoding="utf-8")
