"""Published shapes: counted without storage, they give the published numbers of parameters."""

from __future__ import annotations

import pytest

from ponder.models.catalogue import CATALOGUE, Published, config_of, counted, published


@pytest.mark.parametrize("model", CATALOGUE, ids=lambda model: model.name)
def test_a_shape_has_as_many_parameters_as_the_hub_counts(model: Published) -> None:
    config = config_of(model)
    assert counted(config) == model.parameters
    assert (
        config.max_position_embeddings == model.context
        and config.tie_word_embeddings == (model.fields["tie_word_embeddings"])
    )


def test_models_are_found_by_any_of_their_names() -> None:
    found = published("qwen/qwen3-0.6b-base")
    assert found is not None and found.name == "Qwen/Qwen3-0.6B" and "config.json" in found.source
    assert published("Qwen/Qwen3-0.7B") is None
