"""Finds out by trying whether a model can be sampled here, and what a token of its cache weighs."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.engines._cohort import Cohort, Job
from ponder.engines._forward import Forward
from ponder.models.attention import NAME
from ponder.models.packed import PackedLayout
from ponder.models.precision import rounds

KNOWN_LAYERS = {"full_attention", "sliding_attention", "attention"}
PROBE_PROMPT, PROBE_NEW = 5, 3
"""Tokens of the trial: long enough for any convolution or recurrence to show."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the engine must know of a model."""

    vocabulary: int
    token_bytes: int
    """Keys and values of one token in all layers."""
    max_positions: int | None


_shapes: WeakKeyDictionary[PreTrainedModel, dict[tuple[str, torch.dtype, bool], Shape]] = WeakKeyDictionary()


def cache_dtype(model: PreTrainedModel, rounded: bool = False) -> torch.dtype | None:
    """As the model computes, or float32 on a processor where small bfloat16 products are emulated."""
    if not rounds("auto", model.device) and model.device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if rounded else None


def shape_of(model: PreTrainedModel, rounded: bool = False) -> Shape:
    """Sizes of a model that can be sampled; tried once per model and precision.

    Raises:
        ConfigurationError: If it was not loaded with Ponder's attention.
        ResourceError: If the model keeps state other than keys and values, or attends in an unknown way.
    """
    if model.config._attn_implementation != NAME:
        raise ConfigurationError(
            f"the model attends with {model.config._attn_implementation!r}, which cannot be batched here",
            fix=f'load it with attn_implementation="{NAME}"; models must not share one configuration object',
        )
    shapes = _shapes.setdefault(model, {})
    kind = (model.device.type, model.dtype, rounded)
    if kind not in shapes:
        shapes[kind] = _try(model, rounded)
    return shapes[kind]


@torch.inference_mode()
def _try(model: PreTrainedModel, rounded: bool) -> Shape:
    config = model.config.get_text_config()
    strange = sorted(set(getattr(config, "layer_types", None) or ()) - KNOWN_LAYERS)
    if strange:
        raise _refusal(model, f"has layers of kind {', '.join(strange)}")
    if any(name.endswith(".sinks") for name, _ in model.named_parameters()):
        raise _refusal(model, "has attention sinks")
    device = model.device
    ids = (torch.arange(PROBE_PROMPT + PROBE_NEW, device=device) * 7 + 3) % config.vocab_size
    positions = torch.arange(len(ids), device=device)
    job = Job(0, tuple(ids[:PROBE_PROMPT].tolist()), range(1), (0,))
    forward = Forward(model, rounded)
    cohort = Cohort.of([job], False, device, cache_dtype(model, rounded), forward.kernels)
    scores = [forward.prompts([job.ids], cohort, 0)]
    if len(cohort.layers) != config.num_hidden_layers:
        raise _refusal(model, f"has {config.num_hidden_layers} layers, of which {len(cohort.layers)} attend")
    for token in ids[PROBE_PROMPT:].split(1):
        cohort.push(token, torch.zeros(1, device=device))
        scores.append(forward.step([cohort]))
    stepwise = torch.cat(scores)
    whole = (
        model(
            input_ids=ids[None],
            position_ids=positions[None],
            layout=PackedLayout([len(ids)], device),
            use_cache=False,
        )
        .logits[0, PROBE_PROMPT - 1 :]
        .float()
    )
    # Weights that have diverged are not this check's business: sampling names them as what they are.
    tolerance = (0.05 if rounded or model.dtype != torch.float32 else 0.002) * whole.abs().max().nan_to_num()
    if bool((stepwise - whole).abs().max() > tolerance):
        raise _refusal(model, "remembers more than the keys and values of its attention")
    weight = sum(layer.token_bytes for layer in cohort.layers.values())
    return Shape(whole.shape[-1], weight, getattr(config, "max_position_embeddings", None))


def _refusal(model: PreTrainedModel, reason: str) -> ResourceError:
    return ResourceError(
        f"{type(model).__name__} cannot be sampled by the local engine: it {reason}",
        fix="use a model whose layers are full or sliding-window attention with feed-forward parts",
    )
