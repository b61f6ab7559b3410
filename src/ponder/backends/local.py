"""This machine: opens samplers, trainers and references for the stages."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open

from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Reference, Sampler
from ponder.core.types import Caps, Surrogate
from ponder.engines.local import LocalReference, LocalSampler
from ponder.learn.train import LocalTrainer, Optimisation
from ponder.models.load import LoadedModel, load_model, resolve_model

GUESSED_PARAMETERS = 1_000_000
"""For `plan`, when a model does not exist yet."""


def open_sampler(model: str, *, purchases: Path | None = None, caps: Caps | None = None) -> Sampler:
    """A sampler by name: a model for the local engine, or `scripted:FILE` for recorded answers.

    `purchases` and `caps` are for engines that are paid for; these two need neither.
    """
    engine, colon, argument = model.partition(":")
    if colon and engine == "scripted":
        return load_plugin("engines", "scripted")(argument)
    loaded = load_model(model)
    return LocalSampler(loaded.model, loaded.chat, name=model)


def trainer_for(
    loaded: LoadedModel,
    optimisation: Optimisation,
    total_steps: int,
    surrogate: Surrogate | None = None,
    temperature: float = 1.0,
) -> LocalTrainer:
    """A trainer over a loaded model's own weights."""
    return LocalTrainer(
        loaded.model,
        loaded.chat,
        optimisation=optimisation,
        total_steps=total_steps,
        surrogate=surrogate or Surrogate(),
        temperature=temperature,
    )


def reference_for(model: str) -> Reference:
    """A frozen copy of a model that scores tokens."""
    loaded = load_model(model)
    return LocalReference(loaded.model)


def model_parameters(model: str) -> int:
    """Parameters of a model without loading it; a guess when it does not exist yet."""
    try:
        folder = resolve_model(model)
    except ConfigurationError:
        return GUESSED_PARAMETERS
    total = 0
    for shard in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(shard, framework="pt") as tensors:
            total += sum(torch.Size(tensors.get_slice(key).get_shape()).numel() for key in tensors.keys())  # noqa: SIM118
    return total or GUESSED_PARAMETERS
