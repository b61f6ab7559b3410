"""Draws have the support and the frequencies that temperature, top-k and top-p promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from engine_models import PROMPTS, chat, model, need_kernels
from ponder.core.types import Sampling
from ponder.engines._drawing import Drawn, draw, sequence_key, uniforms
from ponder.engines.local import LocalSampler

DRAWS = 40_000
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -1.0, -3.0, float("-inf")])


def many(sampling: Sampling, logits: Tensor = LOGITS) -> Drawn:
    keys = torch.full((DRAWS,), 99)
    return draw(logits.repeat(DRAWS, 1), sampling, uniforms(keys, torch.arange(DRAWS)))


def chances(sampling: Sampling) -> np.ndarray:
    """Written out one token after the other, as the definition says."""
    weights = np.exp(LOGITS.numpy().astype(np.float64) / sampling.temperature)
    order = np.argsort(-weights, kind="stable")
    if sampling.top_k:
        weights[weights < weights[order[min(sampling.top_k, len(order)) - 1]]] = 0.0
    weights /= weights.sum()
    kept, mass = 0, 0.0
    for token in order:
        if mass >= sampling.top_p:
            break
        kept, mass = weights[token], mass + weights[token]
    weights[weights < kept] = 0.0
    return weights / weights.sum()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(temperature=3.0),
        Sampling(top_k=3),
        Sampling(top_k=100),
        Sampling(top_p=0.7),
        Sampling(top_p=0.9, top_k=4, temperature=1.5),
        Sampling(top_p=1e-9),
    ],
    ids=str,
)
def test_frequencies_and_logprobs(sampling: Sampling) -> None:
    drawn, want = many(sampling), chances(sampling)
    counts = np.bincount(drawn.tokens.numpy(), minlength=len(want))
    assert not counts[want == 0].any()
    live = want > 0
    chi_square = ((counts - DRAWS * want)[live] ** 2 / (DRAWS * want[live])).sum()
    assert chi_square < 24.3  # 99.9 % of seven degrees of freedom
    np.testing.assert_allclose(drawn.logprobs, np.log(want[drawn.tokens.numpy()]), atol=1e-6)


def test_ties_at_the_threshold_are_kept_whole() -> None:
    drawn = many(Sampling(top_k=5))
    assert set(drawn.tokens.tolist()) == {0, 1, 2, 3, 4, 5}


def test_a_wide_nucleus_is_found_too() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 1000)
    uniform = uniforms(torch.arange(5000), torch.zeros(5000, dtype=torch.int64))
    drawn = draw(logits.repeat(5000, 1), Sampling(top_p=0.8), uniform)
    order = logits[0].softmax(-1).sort(descending=True)
    size = int((order.values.cumsum(0) < 0.8).sum()) + 1
    assert size > 64
    assert set(drawn.tokens.tolist()) <= set(order.indices[:size].tolist())
    assert len(set(drawn.tokens.tolist())) > 0.8 * size


def test_greedy_takes_the_best_and_tells_its_plain_logprob() -> None:
    drawn = many(Sampling(temperature=0.0))
    assert set(drawn.tokens.tolist()) == {0}
    np.testing.assert_allclose(drawn.logprobs[0], LOGITS.log_softmax(-1)[0], atol=1e-6)


def test_a_tiny_temperature_is_nearly_greedy() -> None:
    drawn = many(Sampling(temperature=1e-30), torch.tensor([1e4, -1e4, 9e3]))
    assert set(drawn.tokens.tolist()) == {0} and bool(drawn.logprobs.isfinite().all())


def test_uniforms_are_uniform_and_belong_to_key_and_position() -> None:
    keys = torch.tensor([sequence_key(0, (1, 2), sample) for sample in range(50)])
    grid = torch.stack([uniforms(keys, torch.full_like(keys, place)) for place in range(400)])
    assert grid.min() >= 0 and grid.max() < 1 and len(grid.unique()) == grid.numel()
    counts = np.histogram(grid.numpy(), bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # 99.9 % of 19 degrees of freedom
    assert abs(np.corrcoef(grid[:-1].flatten(), grid[1:].flatten())[0, 1]) < 0.03
    assert len({sequence_key(*parts) for parts in itertools.product((0, 1), ((1, 2), (12,)), (0, 1))}) == 8


@pytest.mark.parametrize("native", [False, True])
def test_no_row_feels_its_neighbours(native: bool) -> None:
    kernels = need_kernels() if native else None
    torch.manual_seed(1)
    logits, keys = torch.randn(40, 700) * 3, torch.arange(40) * 7
    for sampling in (
        Sampling(),
        Sampling(top_p=0.9),
        Sampling(top_k=9, top_p=0.5),
        Sampling(temperature=0.3),
    ):
        together = draw(logits.clone(), sampling, uniforms(keys, keys), kernels)
        for row in range(0, 40, 7):
            one = slice(row, row + 1)
            alone = draw(logits[one].clone(), sampling, uniforms(keys[one], keys[one]), kernels)
            assert alone.tokens == together.tokens[one] and alone.logprobs == together.logprobs[one]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.0), Sampling(top_p=0.9, top_k=5)], ids=str)
@pytest.mark.parametrize("native", [False, True])
def test_broken_logits_show_in_the_logprob(bad: float, sampling: Sampling, native: bool) -> None:
    kernels = need_kernels() if native else None
    logits = torch.zeros(2, 300)
    logits[1, 40] = bad
    drawn = draw(logits, sampling, uniforms(torch.arange(2), torch.arange(2)), kernels)
    assert drawn.logprobs.isfinite().tolist() == [True, False]


@pytest.mark.parametrize("vocabulary", [5, 256, 700, 1024])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 1e-30])
def test_kernels_draw_what_torch_draws(vocabulary: int, temperature: float) -> None:
    torch.manual_seed(2)
    logits = torch.randn(200, vocabulary) * 4
    logits[:, 3] = logits[0, 0] = float("-inf")
    keys, sampling = torch.arange(200), Sampling(temperature=temperature)
    uniform = uniforms(keys, keys)
    uniform[0], uniform[1] = 0.0, 1 - 2.0**-53
    want = draw(logits.clone(), sampling, uniform)
    got = draw(logits.clone(), sampling, uniform, need_kernels())
    assert (got.tokens == want.tokens).float().mean() >= 0.99  # rounding may move a draw that falls on an edge
    same = got.tokens == want.tokens
    np.testing.assert_allclose(got.logprobs[same], want.logprobs[same], rtol=1e-5, atol=1e-5)
    assert not (got.tokens == 3).any() and got.tokens[0] != 0


def test_the_engine_draws_from_the_cut_distribution() -> None:
    sampling = Sampling(top_k=5, temperature=0.8, max_new_tokens=12)
    for completion in LocalSampler(model("llama"), chat()).generate(PROMPTS[:1], 8, sampling)[0]:
        ids = [*(completion.prompt_tokens or ()), *(completion.tokens or ())]
        start = len(completion.prompt_tokens or ())
        with torch.inference_mode():
            logits = model("llama", "eager")(torch.tensor([ids])).logits[0, start - 1 : -1] / 0.8
        best = logits.topk(5)
        cut = torch.full_like(logits, float("-inf")).scatter(-1, best.indices, best.values).log_softmax(-1)
        want = cut.gather(-1, torch.tensor(ids[start:])[:, None])[:, 0]
        np.testing.assert_allclose(completion.logprobs, want, atol=1e-4)
