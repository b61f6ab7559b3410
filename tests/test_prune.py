"""Pruning: what is cut, what stays, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError
from ponder.models.head import hidden_states, logits
from ponder.models.load import load_model
from ponder.models.packed import PackedLayout
from ponder.models.prune import prune
from ponder.recipe import build_recipe
from ponder.runner import run_recipe
from ponder.runs.log import Log


@torch.no_grad()
def scores(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    return logits(model, hidden_states(model, tokens, torch.arange(len(tokens)), PackedLayout([len(tokens)])))


def test_units_that_do_nothing_are_cut_first_and_nothing_changes() -> None:
    model = load_model("pocket-base").model
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight[:, 10:30] = 0.0
    tokens = torch.tensor([5, 9, 77, 300, 12])
    small = prune(model, intermediate_size=236)
    torch.testing.assert_close(scores(small, tokens), scores(model, tokens), atol=1e-4, rtol=1e-4)
    assert small.config.intermediate_size == 236
    further = prune(model, intermediate_size=235)
    assert (scores(further, tokens) - scores(model, tokens)).abs().max() > 1e-3


def test_the_first_layers_and_the_last_stay() -> None:
    model = load_model("pocket-base").model
    small = prune(model, layers=2)
    for place, layer in enumerate((0, 2)):
        kept, own = (m.model.layers[i].self_attn.q_proj.weight for m, i in ((small, place), (model, layer)))
        assert torch.equal(kept, own)


@pytest.mark.parametrize("settings", [{}, {"intermediate_size": 257}, {"layers": 4}, {"intermediate_size": 256}])
def test_what_cannot_be_cut_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        prune(load_model("pocket-base").model, **settings)


def test_a_pruned_student_is_a_model_like_any_other(tmp_path: Path) -> None:
    stages = {"prune": {"model": "pocket-base", "intermediate_size": 64}}
    found = run_recipe(build_recipe({"name": "p", "stage": stages}), tmp_path / "run", Log.silent())
    assert found["prune"]["parameters"] == 353_344 < found["prune"]["parameters_before"] == 574_528
    assert load_model(str(tmp_path / "run" / "prune" / "model")).model.config.intermediate_size == 64
