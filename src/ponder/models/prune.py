"""Cuts a trained model down to a narrower or shallower one, from which distillation goes on and need not begin anew.

Prune and distil as Muralidharan et al. 2024 did (Minitron, arXiv:2407.14679), with one difference: a unit between the
projections of a layer is ranked by the norms of its own weights, not by what it does on calibration text, so that
nothing but the weights is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from ponder.core.errors import ConfigurationError
from ponder.models import attention

WIDTHS = {"gate_proj.weight": 0, "up_proj.weight": 0, "down_proj.weight": 1}
"""Axis of each projection that counts the units of a layer."""


@torch.no_grad()
def prune(model: PreTrainedModel, intermediate_size: int | None = None, layers: int | None = None) -> PreTrainedModel:
    """A smaller model with the weights that matter most.

    Args:
        model: Qwen-, Llama- or Mistral-shaped.
        intermediate_size: Units of each layer that are kept, those of the largest product of norms.
        layers: Layers that are kept: the first ones and the last, for the ends of a network do most.

    Raises:
        ConfigurationError: If nothing is cut, more is asked for than there is, or the layers have another form.
    """
    config = model.config
    units, depth = intermediate_size or config.intermediate_size, layers or config.num_hidden_layers
    if not (0 < units <= config.intermediate_size and 0 < depth <= config.num_hidden_layers):
        raise ConfigurationError(
            f"{depth} layers of {units} units cannot be cut out of "
            f"{config.num_hidden_layers} of {config.intermediate_size}"
        )
    if (units, depth) == (config.intermediate_size, config.num_hidden_layers):
        raise ConfigurationError("nothing is to be cut", fix="set intermediate_size or layers below the model's own")
    kept = [*range(depth - 1), config.num_hidden_layers - 1]
    small = _empty(model, units, depth)
    small.load_state_dict(_weights(model, kept, units))
    return small.eval()


def _empty(model: PreTrainedModel, units: int, depth: int) -> PreTrainedModel:
    config = type(model.config).from_dict(model.config.to_dict())
    config.intermediate_size, config.num_hidden_layers = units, depth
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:depth]
    attention.register()
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME, dtype=model.dtype)


def _weights(model: PreTrainedModel, kept: list[int], units: int) -> dict[str, Tensor]:
    state = model.state_dict()
    found: dict[str, Tensor] = {name: tensor for name, tensor in state.items() if ".layers." not in name}
    for place, layer in enumerate(kept):
        prefix = f"model.layers.{layer}."
        chosen = _heaviest(model.get_submodule(f"model.layers.{layer}"), units)
        for name, tensor in state.items():
            if name.startswith(prefix):
                axis = next((axis for end, axis in WIDTHS.items() if name.endswith(end)), None)
                cut = tensor if axis is None else tensor.index_select(axis, chosen)
                found[f"model.layers.{place}.{name.removeprefix(prefix)}"] = cut
    return found


def _heaviest(layer: nn.Module, units: int) -> Tensor:
    """Units of a layer with the largest product of the norms of their three weights, in their order."""
    try:
        gate, up, down = (layer.get_submodule(f"mlp.{name}_proj") for name in ("gate", "up", "down"))
    except AttributeError as error:
        raise ConfigurationError("this model's layers have no gate, up and down projection to be cut") from error
    weight = gate.weight.norm(dim=1) * up.weight.norm(dim=1) * down.weight.norm(dim=0)  # type: ignore[operator]
    return weight.topk(units).indices.sort().values
