"""What lies between the products of a layer, and attention over packed sequences: native beside torch, both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine_models import need_kernels
from ponder.models.native import build
from ponder.models.native.linear import Panels, linear
from ponder.models.native.operations import Native, native_operations
from ponder.models.native.scoring import NativeScorer
from ponder.models.operations import Operations, TorchOperations
from ponder.models.packed import PackedLayout
from ponder.models.scoring import TokenLogprobs

TOKENS, WIDTH, INNER, DIM = 37, 96, 80, 64
SHAPES: list[tuple[list[int], list[Sequence[int]]]] = [
    ([5, 70, 1, 33], [(), (), (), ()]),
    ([40, 3], [(9, 130, 1), (64,)]),
    ([64, 7, 20, 1], [(32, 65), (), (3, 3, 3), (1,)]),
]


def both(
    run: Callable[[Any, list[Tensor]], Sequence[Tensor]], native: Any, torch_way: Any, inputs: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Outputs and gradients of two ways to compute the same, in pairs."""
    found = []
    for way in (native, torch_way):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        outputs = run(way, leaves)
        pulls = [torch.sin(torch.arange(o.numel(), dtype=torch.float32)).view(o.shape).to(o.dtype) for o in outputs]
        torch.autograd.backward(list(outputs), pulls)
        found.append([*outputs, *(leaf.grad for leaf in leaves)])
    return list(zip(*found, strict=True))


def assert_near(pairs: list[tuple[Tensor, Tensor]], share: float) -> None:
    for got, want in pairs:
        assert got.shape == want.shape and got.dtype == want.dtype
        got, want = got.detach().float(), want.detach().float()
        assert (got - want).abs().max() <= share * want.abs().max()


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    need_kernels(request.param == torch.bfloat16)
    return request.param


def tolerance(dtype: torch.dtype) -> float:
    return 5e-6 if dtype == torch.float32 else 0.02


def ways(dtype: torch.dtype) -> tuple[Operations, Operations]:
    return Native(need_kernels(dtype == torch.bfloat16)), TorchOperations()


@pytest.mark.parametrize("changed", [True, False])
def test_norm(dtype: torch.dtype, changed: bool) -> None:
    inputs = [random(TOKENS, WIDTH) * 3, 1 + random(WIDTH, seed=1) / 4]
    inputs += [random(TOKENS, WIDTH, dtype=dtype, seed=2)] * changed

    def run(way: Operations, leaves: list[Tensor]) -> Sequence[Tensor]:
        total, normed = way.norm(leaves[0], leaves[2] if changed else None, leaves[1], 1e-5, dtype)
        return (total, normed) if changed else (normed,)

    assert_near(both(run, *ways(dtype), inputs), tolerance(dtype))


@pytest.mark.parametrize("normed", [True, False])
def test_heads(dtype: torch.dtype, normed: bool) -> None:
    angle = random(TOKENS, DIM // 2, seed=3) * 5
    angles = torch.cat((angle.cos(), angle.cos()), -1), torch.cat((-angle.sin(), angle.sin()), -1)
    inputs = [random(TOKENS, 6 + 2 * 2, DIM, dtype=dtype)] + [1 + random(8, DIM, seed=4) / 4] * normed

    def run(way: Operations, leaves: list[Tensor]) -> Sequence[Tensor]:
        return way.heads(leaves[0], leaves[1] if normed else None, angles, 6, 2, 1e-5)

    assert_near(both(run, *ways(dtype), inputs), tolerance(dtype))


def test_gated(dtype: torch.dtype) -> None:
    inputs = [random(TOKENS, 2 * INNER, dtype=dtype) * 4]
    inputs[0][0, :4] = torch.tensor([200.0, -200.0, 88.5, -88.5])
    assert_near(both(lambda way, leaves: [way.gated(leaves[0])], *ways(dtype), inputs), tolerance(dtype))


@pytest.mark.parametrize("window", [None, 2, 40])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(dtype: torch.dtype, shape: Any, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    trunks, branches = shape
    tokens = sum(trunks) + sum(map(sum, branches))
    inputs = [random(tokens, heads, DIM, dtype=dtype, seed=seed) for seed, heads in enumerate((6, 2, 2))]

    def run(switch: str, leaves: list[Tensor]) -> Sequence[Tensor]:
        monkeypatch.setenv(build.SWITCH, switch)
        query, key, value = (leaf.transpose(0, 1)[None] for leaf in leaves)
        layout = PackedLayout(trunks, "cpu", branches)
        assert (layout._native(leaves[0]) is not None) == (switch == "1")
        return [layout.attend(0, query, key, value, scaling=0.2, sliding_window=window, softcap=None)[0]]

    assert_near(both(run, "1", "0", inputs), tolerance(dtype))


def test_the_number_of_threads_changes_no_gradient_of_attention() -> None:
    need_kernels()
    inputs = [random(180, heads, DIM) for heads in (4, 2, 2)]
    found = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            leaves = [tensor.clone().requires_grad_() for tensor in inputs]
            query, key, value = (leaf.transpose(0, 1)[None] for leaf in leaves)
            layout = PackedLayout([60, 20], "cpu", [(30, 30), (40,)])
            layout.attend(0, query, key, value, scaling=1.0, sliding_window=None, softcap=None).sin().sum().backward()
            found.append([leaf.grad for leaf in leaves])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_shapes_that_do_not_fill_vectors_go_through_torch() -> None:
    lanes = need_kernels().lanes
    states = torch.zeros(3, 4 * lanes)
    assert native_operations(states, torch.float32, (4 * lanes,), 2 * lanes) is not None
    assert native_operations(states, torch.float32, (4 * lanes + 1,), 2 * lanes) is None
    assert native_operations(states, torch.float32, (4 * lanes,), lanes) is None
    assert native_operations(states, torch.float16, (4 * lanes,), 2 * lanes) is None


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores(dtype: torch.dtype, temperature: float) -> None:
    kernels = need_kernels(dtype == torch.bfloat16)
    hidden, weight = random(TOKENS, WIDTH), random(192, WIDTH, seed=1)
    targets = torch.arange(TOKENS) * 5
    found = []
    for native in (True, False):
        leaf, head = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        head.grad = torch.ones_like(head)  # what earlier micro-batches left
        scores = leaf.to(dtype).float() @ head.to(dtype).float().T
        if native:
            scorer = NativeScorer(head, kernels)
            assert (scorer.logits(leaf.detach()) - scores).abs().max() < 1e-4
            logprob, entropy = scorer.logprobs(leaf, targets, temperature)
        else:
            logprob, entropy = TokenLogprobs.apply(scores / temperature, targets)
        (logprob * random(TOKENS, seed=2)).sum().backward()
        found.append([logprob, entropy, leaf.grad, head.grad])
    assert_near(list(zip(*found, strict=True)), tolerance(dtype))


@pytest.mark.parametrize("target", [-1, 192])
def test_a_target_outside_of_the_vocabulary_is_refused(target: int) -> None:
    scorer = NativeScorer(random(192, WIDTH), need_kernels())
    with pytest.raises(IndexError, match="vocabulary of 192"):
        scorer.logprobs(random(2, WIDTH), torch.tensor([0, target]), 1.0)


def test_linear(dtype: torch.dtype) -> None:
    kernels = need_kernels(dtype == torch.bfloat16)
    inputs = [random(TOKENS, WIDTH, dtype=dtype)]
    inputs += [random(size, WIDTH, seed=size) for size in (64, 32)] + [random(size, seed=size) for size in (64, 32)]

    def run(native: bool, leaves: list[Tensor]) -> Sequence[Tensor]:
        rows, first, second, *biases = leaves
        if native:
            return [linear(Panels(kernels, [first, second], biases), rows, dtype)]
        return [F.linear(rows.float(), torch.cat((first, second)).to(dtype).float(), torch.cat(biases)).to(dtype)]

    assert_near(both(run, True, False, inputs), tolerance(dtype))
