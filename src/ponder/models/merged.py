"""Whether a merged model is its base plus its adapter, and not its base alone: read back from the disk."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.core.errors import PonderError
from ponder.core.types import Json
from ponder.models.adapters import merge, read_adapter
from ponder.models.head import hidden_states, logits
from ponder.models.load import load_model
from ponder.models.packed import PackedLayout

PROBES = 8
PROBE_TOKENS = 24
TOLERANCE = 1e-3
"""Largest gap between merged model and base with adapter, as a share of the largest logit."""


def check_merged(base: str, adapter: Path, merged: Path) -> Json:
    """Compare base, base with adapter, and merged model on eight sequences.

    Returns:
        Largest differences of logits: `change` between base and merged, `gap` between adapter and merged.

    Raises:
        PonderError: If the adapter changes nothing, or the merged model is another one.
    """
    whole = load_model(merged.as_posix()).model
    found = _probed(whole)
    del whole
    model = load_model(base).model
    without = _probed(model)
    merge(model, read_adapter(adapter))
    within = _probed(model)
    change, gap = (float((found - other).abs().max()) for other in (without, within))
    if not gap <= TOLERANCE * float(within.abs().max()):
        raise PonderError(
            f"the merged model is not the base with its adapter: logits differ by {gap:.3g}",
            where=str(merged),
            fix="the disk or a weight is damaged: train again from the last checkpoint",
        )
    if not change > gap:
        raise PonderError(
            f"the adapter changes nothing: merged and base logits differ by {change:.3g}",
            where=str(adapter),
            fix="check the learning rate and the number of steps",
        )
    return {"change": change, "gap": gap}


@torch.no_grad()
def _probed(model: PreTrainedModel) -> Tensor:
    """Logits (T, V) of sequences that reach all over the vocabulary."""
    size, device = model.config.get_text_config().vocab_size, model.device
    tokens = (torch.arange(PROBES * PROBE_TOKENS, device=device) * 7919 + 1) % size
    positions = torch.arange(PROBE_TOKENS, device=device).repeat(PROBES)
    return logits(model, hidden_states(model, tokens, positions, PackedLayout([PROBE_TOKENS] * PROBES, device))).cpu()
