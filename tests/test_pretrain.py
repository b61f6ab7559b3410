"""Pretraining: documents, growth that changes nothing, a tokenizer that fits."""

from __future__ import annotations

import pytest
import torch

from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin
from ponder.models.grow import grow
from ponder.models.packed import PackedLayout
from ponder.models.tokenizer import train_tokenizer
from ponder.stages.pretrain import Shape, document

SMALL = Shape(hidden_size=64, intermediate_size=64, layers=2, heads=2, kv_heads=1, head_dim=32, vocab_size=300)


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    layout = PackedLayout([len(ids)])
    return model(input_ids=ids[None], position_ids=torch.arange(len(ids))[None], layout=layout, use_cache=False).logits


def test_a_grown_model_computes_the_same_and_can_learn_everywhere() -> None:
    small = SMALL.build(0)
    larger = {"intermediate_size": 256, "layers": 4, "kv_heads": 2}
    large = grow(small, SMALL.model_copy(update=larger).build(1))
    ids = torch.randint(0, 300, (20,), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(logits(large, ids), logits(small, ids))
    logits(large, ids).square().mean().backward()
    still = [n for n, p in large.named_parameters() if "layers.3" in n and "o_proj" in n and not p.grad.any()]
    assert not still, "a new layer must receive a gradient where it writes"


@pytest.mark.parametrize("change", [{"hidden_size": 96}, {"layers": 1}, {"intermediate_size": 32}, {"vocab_size": 320}])
def test_growth_of_another_kind_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        grow(SMALL.build(0), SMALL.model_copy(update=change).build(1))


def test_key_value_heads_grow_to_a_multiple_only() -> None:
    shape = SMALL.model_copy(update={"heads": 6, "kv_heads": 2})
    with pytest.raises(ConfigurationError, match="2 key-value heads cannot become 3"):
        grow(shape.build(0), shape.model_copy(update={"kv_heads": 3}).build(1))
    ids = torch.arange(12)
    whole = grow(shape.build(0), shape.model_copy(update={"kv_heads": 6}).build(1))
    torch.testing.assert_close(logits(whole, ids), logits(shape.build(0), ids))


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = (SMALL.build(seed).state_dict() for seed in (3, 3, 4))
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first[name], second[name]) and not torch.equal(first[name], other[name])


def test_embeddings_start_as_wide_as_asked_and_nothing_else_changes() -> None:
    usual, wide = (SMALL.model_copy(update={"embedding_std": std}).build(3).state_dict() for std in (0.02, 0.1))
    assert float(wide["model.embed_tokens.weight"].std()) == pytest.approx(0.1, rel=0.05)
    changed = {name for name in usual if not torch.equal(usual[name], wide[name])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}


def test_a_document_is_worked_or_bare() -> None:
    problem = next(iter(load_plugin("tasks", "chains")().problems("train", 1, 0)))
    assert "<think>" in document(problem, worked=True)[1]
    assert document(problem, worked=False)[1].startswith("The answer is")


def test_a_task_without_solutions_is_refused() -> None:
    problem = next(iter(load_plugin("tasks", "chains")().problems("train", 1, 0)))
    with pytest.raises(ConfigurationError, match="no worked solutions"):
        document(problem.model_copy(update={"meta": {}}), worked=True)


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 261"):
        train_tokenizer(["text"], 200)
