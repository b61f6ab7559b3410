from __future__ import annotations

import pytest
import torch

from _learn import (
    FAMILIES,
    gradients,
    largest_difference,
    policy_example,
    random_tokens,
    text_example,
    tiny_model,
    trainer,
)
from engine_models import model as wide
from engine_models import need_kernels
from ponder.core.errors import ConfigurationError
from ponder.core.types import Surrogate
from ponder.learn.batch import micro_batches, pack
from ponder.models import packed
from ponder.models.head import check_head, hidden_states, logits, longest_shared
from ponder.models.packed import PackedLayout


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_logits_are_those_of_each_sequence_alone(family: str) -> None:
    model, plain = tiny_model(family), tiny_model(family, implementation="eager")
    lengths = [17, 16, 13, 7, 1]
    sequences = [torch.tensor(random_tokens(n, n)) for n in lengths]
    positions = torch.cat([torch.arange(n) for n in lengths])
    with torch.no_grad():
        found = logits(model, hidden_states(model, torch.cat(sequences), positions, PackedLayout(lengths)))
        for sequence, part in zip(sequences, found.split(lengths), strict=True):
            wanted = plain(sequence[None], use_cache=False).logits[0].float()
            torch.testing.assert_close(part, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["qwen3", "mistral", "gemma2"])
def test_a_shared_prompt_gives_the_gradient_of_separate_ones(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [
        policy_example(random_tokens(p, 100 + p) + random_tokens(n, 7 * n + p), p, advantage=n - 4.5, ref_logprob=-1.5)
        for p in (6, 7, 3)
        for n in (9, 1, 4, 3)
    ] + [
        text_example(random_tokens(11, 1)),
        policy_example([*random_tokens(6, 106), 5], 6, -1.0, ref_logprob=-1.0),
    ]
    surrogate = Surrogate(clip_low=9.0, clip_high=1e6, kl_coef=0.3)
    learner = trainer(tiny_model(family), surrogate=surrogate)
    shared_tokens = sum(len(pack(b, "cpu").tokens) for b in micro_batches(examples, 10_000))
    shared = gradients(learner, examples)
    monkeypatch.setattr(learner, "_share_up_to", 0)
    own_tokens = sum(len(pack(b, "cpu").tokens) for b in micro_batches(examples, 10_000, share_up_to=0))
    assert shared_tokens < own_tokens
    assert largest_difference(gradients(learner, examples), shared) < 1e-5


def test_what_may_share_its_beginning_depends_on_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    need_kernels()
    long = [policy_example([*random_tokens(30, 1), *random_tokens(400, n)], 30, 1.0) for n in (2, 3)]
    assert len(micro_batches(long, 10_000)[0]) == 2
    assert longest_shared(wide("wide_llama"), False) > 430 == len(long[0].tokens)
    assert [len(family.members) for family in micro_batches(long, 10_000, 10**9)[0]] == [2]
    assert longest_shared(wide("gemma2"), False) == packed.MATERIALISE_UP_TO
    monkeypatch.setenv("PONDER_NATIVE", "0")
    assert longest_shared(wide("wide_llama"), False) == packed.MATERIALISE_UP_TO


def test_long_sequences_use_the_fused_kernel_with_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [text_example(random_tokens(n, n)) for n in (30, 29, 11)]
    for family in ("qwen3", "mistral"):
        learner = trainer(tiny_model(family))
        wanted = gradients(learner, examples)
        with monkeypatch.context() as patch:
            patch.setattr(packed, "MATERIALISE_UP_TO", 0)
            assert largest_difference(gradients(learner, examples), wanted) < 1e-5


def test_micro_batches_keep_to_the_budget_and_begin_with_the_longest() -> None:
    examples = [text_example(random_tokens(n, n)) for n in (3, 40, 9, 22, 21, 5)]
    batches = micro_batches(examples, 30)
    sizes = [sum(len(pack([f], "cpu").tokens) for f in b) for b in batches]
    assert sizes[0] == 39  # one example may exceed the budget: it cannot be cut
    assert all(size <= 30 for size in sizes[1:])
    assert sum(sizes) == sum(len(e.tokens) - 1 for e in examples)


def test_tokens_behind_the_last_target_and_examples_without_one_are_not_read() -> None:
    example = text_example(random_tokens(12, 0))
    example.ce_weight[6:] = 0
    nothing = text_example(random_tokens(12, 0))
    nothing.ce_weight[:] = 0
    [[family]] = micro_batches([nothing, example], 100)
    assert len(pack([family], "cpu").tokens) == 5


def test_an_architecture_whose_logits_change_when_packed_is_refused() -> None:
    model = tiny_model()
    check_head(model)
    model.config.logit_scale = 2.0
    with pytest.raises(ConfigurationError, match="cannot be trained on packed"):
        check_head(model)
