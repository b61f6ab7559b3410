"""The native kernels say what torch says, and are never needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine_models import NATIVE, PROMPTS, chat, model, need_kernels, user
from ponder.core.types import Sampling
from ponder.engines._cohort import Cohort, Job
from ponder.engines._forward import Forward
from ponder.engines._support import cache_dtype
from ponder.engines.local import LocalReference, LocalSampler
from ponder.models.native import build
from ponder.models.native.packing import alternated, packed

DRAWN = Sampling(temperature=1.0, max_new_tokens=80, seed=5)

ROWS = [(chat().prompt(messages), n) for messages, n in zip(PROMPTS, (1, 5, 2, 9), strict=True)]
TOKENS = torch.randint(0, 320, (17, 70), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which nothing was built yet."""
    monkeypatch.delenv(build.SWITCH, raising=False)
    monkeypatch.setattr(build, "user_cache_path", lambda _: tmp_path)
    build._load.cache_clear()
    yield tmp_path
    build._load.cache_clear()


@pytest.mark.parametrize("family", NATIVE)
def test_wide_families_are_native(family: str) -> None:
    need_kernels()
    assert Forward(model(family), False).kernels is not None


@pytest.mark.parametrize("family", ["gemma2", "smollm3"])  # narrow ones depend on how wide the vectors are
def test_others_go_through_torch(family: str) -> None:
    assert Forward(model(family), False).kernels is None


def logits_of(family: str, rows: list[tuple[list[int], int]], rounded: bool, tokens: torch.Tensor) -> torch.Tensor:
    """(steps, rows, V): prompts with their numbers of samples, every row fed its tokens (rows, steps)."""
    forward = Forward(model(family), rounded)
    jobs = [Job(i, tuple(ids), range(n), tuple(range(n))) for i, (ids, n) in enumerate(rows)]
    kept = cache_dtype(model(family), rounded)
    with torch.inference_mode():
        cohort = Cohort.of(jobs, False, torch.device("cpu"), kept, forward.kernels)
        forward.prompts([job.ids for job in jobs], cohort, 0)
        steps = []
        for step in range(tokens.shape[1]):
            cohort.push(tokens[:, step], torch.zeros(len(tokens)))
            steps.append(forward.step([cohort]))
    return torch.stack(steps)


@pytest.mark.parametrize("family", NATIVE)
def test_steps_equal_torch(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need_kernels()
    got = logits_of(family, ROWS, False, TOKENS)
    monkeypatch.setenv(build.SWITCH, "0")
    want = logits_of(family, ROWS, False, TOKENS)
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize("family", NATIVE)
def test_rounded_steps_are_as_near_the_truth_as_torch(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need_kernels(rounded=True)
    got = logits_of(family, ROWS, True, TOKENS)
    monkeypatch.setenv(build.SWITCH, "0")
    rounded, exact = (logits_of(family, ROWS, choice, TOKENS) for choice in (True, False))
    assert 0 < (got - exact).abs().mean() < 1.1 * (rounded - exact).abs().mean()


@pytest.mark.parametrize("rounded", [False, True])
def test_no_row_feels_its_neighbours(rounded: bool) -> None:
    """Bit by bit, whatever else is in the batch; torch's products do not promise that."""
    need_kernels(rounded)
    forward = Forward(model("wide_mistral"), rounded)
    together = states_of(forward, ROWS, TOKENS)
    first = 0
    for ids, count in ROWS:
        alone = states_of(forward, [(ids, 1)], TOKENS[first : first + 1])
        assert torch.equal(alone[:, 0], together[:, first])
        first += count


@pytest.mark.parametrize("rounded", [False, True])
def test_the_number_of_threads_changes_no_state(rounded: bool) -> None:
    """Bit by bit; the suite's workers have one thread each, a user's process as many as there are cores."""
    need_kernels(rounded)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(states_of(Forward(model("wide_qwen3"), rounded), ROWS, TOKENS))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0], other) for other in found[1:])


def states_of(forward: Forward, rows: list[tuple[list[int], int]], tokens: torch.Tensor) -> torch.Tensor:
    """(steps, rows, width) hidden states, every prompt stored by a pass of its own."""
    jobs = [Job(i, tuple(ids), range(n), tuple(range(n))) for i, (ids, n) in enumerate(rows)]
    assert forward._native is not None
    with torch.inference_mode():
        cohort = Cohort.of(jobs, False, torch.device("cpu"), None, forward.kernels)
        for place, job in enumerate(jobs):
            forward.prompts([job.ids], cohort, place)
        steps = []
        for step in range(tokens.shape[1]):
            cohort.push(tokens[:, step], torch.zeros(len(tokens)))
            ids, positions = cohort.inputs
            steps.append(forward._native(ids, positions, [cohort]))
    return torch.stack(steps)


@pytest.mark.parametrize("family", NATIVE)
def test_samples_that_leave_and_blocks_that_grow(family: str) -> None:
    """Some end early, groups are forgotten, suffixes are moved; every log-probability is still the model's."""
    need_kernels()
    prompts = [*PROMPTS, *(user(f"{n} coins") for n in range(6))]
    for group in LocalSampler(model(family), chat(), max_batch=24).generate(prompts, 4, DRAWN):
        for completion in group:
            start = len(completion.prompt_tokens or ())
            ids = [*(completion.prompt_tokens or ()), *(completion.tokens or ())]
            want = LocalReference(model(family)).logprobs([ids])[0][start:]
            np.testing.assert_allclose(completion.logprobs, want, atol=2e-4)


def test_packing() -> None:
    matrix = torch.arange(3.0 * 5).view(3, 5)
    result = packed(matrix, panel=2, pair=2)
    assert result.shape == (2, 3, 2, 2)
    for row in range(3):
        for column in range(5):
            assert result[row // 2, column // 2, row % 2, column % 2] == matrix[row, column]
    assert result.sum() == matrix.sum()
    pair = alternated(torch.arange(3), torch.arange(10, 13), rows=2)
    assert pair.tolist() == [0, 1, 10, 11, 2, 0, 12, 0]


def test_a_switch_turns_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, "0")
    assert build.kernels(False) is None
    with pytest.raises(build.Unavailable, match="PONDER_NATIVE=0"):
        build.load(False)


def test_without_a_compiler_torch_does_it(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    with pytest.raises(build.Unavailable, match="no C compiler"):
        build.load(False)
    assert Forward(model("wide_qwen3"), False).kernels is None
    (group,) = LocalSampler(model("wide_qwen3"), chat()).generate(PROMPTS[:1], 1, DRAWN)
    assert group[0].tokens


def test_a_compiler_that_fails_is_no_error(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = fresh / "broken"
    broken.write_text("#!/bin/sh\necho 'cannot do this' >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(build.Unavailable, match="cannot do this"):
        build.load(False)


def test_built_once_and_whole(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_kernels()
    (made,) = (fresh / "native").iterdir()
    assert made.suffix == ".so"
    stamp = made.stat().st_mtime_ns
    build._load.cache_clear()
    build.load(False)
    assert [path.stat().st_mtime_ns for path in (fresh / "native").iterdir()] == [stamp]


def test_a_file_that_is_no_library_is_no_error(fresh: Path) -> None:
    try:
        made = build._built(False)
    except build.Unavailable as error:
        pytest.skip(str(error))
    made.write_bytes(b"half a file")
    assert build.kernels(False) is None
