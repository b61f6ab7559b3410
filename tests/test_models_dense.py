"""The short forward pass computes what transformers' own code computes, and so does its gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from _learn import tiny_model
from ponder.models.dense import Dense, is_dense
from ponder.models.head import _own_forward, forward_of
from ponder.models.packed import PackedLayout

LENGTHS = (9, 4, 7)
DENSE = ("llama", "mistral", "qwen2", "qwen3")


def batch(model: Any) -> tuple[torch.Tensor, torch.Tensor, PackedLayout]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, model.config.vocab_size, (sum(LENGTHS),), generator=generator)
    return tokens, torch.cat([torch.arange(n) for n in LENGTHS]), PackedLayout(LENGTHS)


def gradients(model: Any, states: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    weights = torch.linspace(-1, 1, states.numel()).view_as(states)
    (states * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", DENSE)
def test_states_and_gradients_are_those_of_the_models_own_code(family: str) -> None:
    model = tiny_model(family)
    with torch.no_grad():  # norms begin as ones and biases as zeros, which would hide a mistake
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.linspace(-0.5, 0.5, parameter.numel()))
    assert is_dense(model)
    short, own = Dense(model)(*batch(model)), _own_forward(model, False, *batch(model))
    torch.testing.assert_close(short, own, rtol=1e-4, atol=1e-4)
    ours, theirs = gradients(model, short), gradients(model, own)
    assert ours.keys() == theirs.keys()
    for name, grad in ours.items():
        torch.testing.assert_close(grad, theirs[name], rtol=1e-3, atol=1e-3 * float(theirs[name].abs().max()), msg=name)
    with torch.inference_mode():
        torch.testing.assert_close(Dense(model)(*batch(model)), short, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", DENSE)
def test_rounding_leaves_weights_and_gradients_in_float32(family: str) -> None:
    model = tiny_model(family)
    exact, rounded = (forward_of(model, rounds)(*batch(model)) for rounds in (False, True))
    gap = float(((exact - rounded).abs().max() / exact.abs().max()).detach())
    assert 0 < gap < 0.1 and rounded.dtype == torch.float32
    assert {grad.dtype for grad in gradients(model, rounded).values()} == {torch.float32}


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere2", "smollm3"])
def test_other_families_keep_their_own_code(family: str) -> None:
    assert not is_dense(tiny_model(family))


def test_whatever_changes_a_layer_is_noticed() -> None:
    class Wrapped(nn.Linear):
        """What an adapter puts in a projection's place."""

    model = tiny_model("llama")
    model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    assert not is_dense(model)
    model = tiny_model("llama")
    model.model.layers[0].self_attn.v_proj = Wrapped(32, 16, bias=False)
    assert not is_dense(model)
    model = tiny_model("llama")
    model.activation_checkpointing_enable()
    assert not is_dense(model)
