"""Finds out by trying whether a model can be sampled here, and what a token of its cache weighs."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.engines._cohort import Cohort, Job
from ponder.engines._layouts import DecodeLayout, PrefillLayout
from ponder.models.attention import NAME
from ponder.models.head import hidden_states, logits
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


_shapes: WeakKeyDictionary[PreTrainedModel, dict[tuple[str, torch.dtype], Shape]] = WeakKeyDictionary()


def cache_dtype(model: PreTrainedModel, rounded: bool = False) -> torch.dtype | None:
    """As the model computes, or float32 on a processor where small bfloat16 products are emulated."""
    if not rounds("auto", model.device) and model.device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if rounded else None


def shape_of(model: PreTrainedModel) -> Shape:
    """Sizes of a model that can be sampled; tried once per model.

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
    kind = (model.device.type, model.dtype)
    if kind not in shapes:
        shapes[kind] = _try(model)
    return shapes[kind]


@torch.inference_mode()
def _try(model: PreTrainedModel) -> Shape:
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
    cohort = Cohort.of([job], False, device, cache_dtype(model))
    layouts = [PrefillLayout([PROBE_PROMPT], cohort, 0, PROBE_PROMPT, device)]
    pieces = [slice(0, PROBE_PROMPT)]
    layouts += [DecodeLayout([cohort])] * PROBE_NEW
    pieces += [slice(at, at + 1) for at in range(PROBE_PROMPT, len(ids))]
    scores = []
    for piece, layout in zip(pieces, layouts, strict=True):
        hidden = hidden_states(model, ids[piece], positions[piece], layout)
        if len(cohort.layers) != config.num_hidden_layers:
            raise _refusal(
                model, f"has {config.num_hidden_layers} layers, of which {len(cohort.layers)} attend"
            )
        scores.append(logits(model, hidden))
        cohort.length += 1
    stepwise = torch.cat(scores)
    whole = (
        model(
            input_ids=ids[None],
            position_ids=positions[None],
            layout=PackedLayout([len(ids)], device),
            use_cache=False,
        )
        .logits[0]
        .float()
    )
    # Weights that have diverged are not this check's business: sampling names them as what they are.
    tolerance = (0.05 if model.dtype != torch.float32 else 0.002) * whole.abs().max().nan_to_num()
    if bool((stepwise - whole).abs().max() > tolerance):
        raise _refusal(model, "remembers more than the keys and values of its attention")
    weight = sum(
        tensor[0, :, 0].numel() * tensor.element_size()
        for layer in cohort.layers.values()
        for tensor in (layer.prefix_keys, layer.prefix_values)
    )
    return Shape(whole.shape[-1], weight, getattr(config, "max_position_embeddings", None))


def _refusal(model: PreTrainedModel, reason: str) -> ResourceError:
    return ResourceError(
        f"{type(model).__name__} cannot be sampled by the local engine: it {reason}",
        fix="use a model whose layers are full or sliding-window attention with feed-forward parts",
    )
