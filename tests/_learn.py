"""Tiny models and examples for the tests of the training loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ponder.core.types import Example
from ponder.learn.optimiser import Optimisation
from ponder.learn.train import LocalTrainer
from ponder.models import attention

VOCABULARY = 64
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "llama": {},
    "mistral": {"sliding_window": 5},
    "gemma2": {
        "head_dim": 16,
        "sliding_window": 4,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {"head_dim": 16, "sliding_window": 4},
    "granite": {"logits_scaling": 4.0},
    "cohere2": {"sliding_window": 4, "logit_scale": 0.25},
    "smollm3": {"pad_token_id": 0},
}


def tiny_model(family: str = "qwen3", layers: int = 2, seed: int = 0, implementation: str = attention.NAME) -> Any:
    """A randomly initialised model of two narrow layers."""
    attention.register()
    config = AutoConfig.for_model(
        family,
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        **FAMILIES[family],
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation, dtype=torch.float32)
    with torch.no_grad():  # larger weights than at birth, so that attention is not nearly uniform
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0)
    return model.eval()


def trainer(
    model: Any = None, steps: int = 10, temperature: float = 1.0, surrogate: Any = None, **settings: Any
) -> Any:
    """A trainer of a tiny model."""
    return LocalTrainer(
        tiny_model() if model is None else model,
        None,
        optimisation=Optimisation(**({"lr": 1e-2} | settings)),
        total_steps=steps,
        surrogate=surrogate,
        temperature=temperature,
    )


def text_example(tokens: list[int], prompt_length: int = 1) -> Example:
    """Cross-entropy on everything behind the prompt."""
    weight = (np.arange(len(tokens)) >= prompt_length).astype(np.float32)
    zeros = np.zeros(len(tokens), dtype=np.float32)
    return Example(np.array(tokens, dtype=np.int32), prompt_length, weight, zeros, zeros, zeros)


def policy_example(
    tokens: list[int],
    prompt_length: int,
    advantage: float,
    *,
    logprob: float = -2.0,
    ref_logprob: float | None = None,
    weight: float = 1.0,
    share: float = 1.0,
) -> Example:
    """A policy-loss example with constant streams on the completion."""
    member = (np.arange(len(tokens)) >= prompt_length).astype(np.float32)
    return Example(
        tokens=np.array(tokens, dtype=np.int32),
        prompt_length=prompt_length,
        ce_weight=np.zeros(len(tokens), dtype=np.float32),
        pg_weight=member * np.float32(weight),
        advantage=member * np.float32(advantage),
        logprob=member * np.float32(logprob),
        pg_share=share,
        ref_logprob=None if ref_logprob is None else np.full(len(tokens), ref_logprob, dtype=np.float32),
    )


def random_tokens(length: int, seed: int) -> list[int]:
    """Token ids without meaning."""
    return np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist()


def gradients(learner: Any, examples: list[Example]) -> dict[str, torch.Tensor]:
    """The gradient of one step, by parameter name, caught before the optimiser sees it."""
    caught: dict[str, torch.Tensor] = {}

    def catch(_: float) -> dict[str, float]:
        for name, parameter in learner.model.named_parameters():
            caught[name] = parameter.grad.clone()
            parameter.grad = None
        return {}

    learner._update = catch
    try:
        learner.step(examples)
    finally:
        del learner._update
    return caught


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Over all tensors, relative to the largest entry of `a`."""
    assert a.keys() == b.keys()
    scale = max(float(tensor.abs().max()) for tensor in a.values())
    return max(float((a[name] - b[name]).abs().max()) for name in a) / scale
