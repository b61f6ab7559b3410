"""The engine says what transformers says, whatever shares its batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from engine_models import FAMILIES, PROMPTS, VOCABULARY, WINDOW, chat, model, user
from ponder.core.types import Completion, Finish, Message, Sampling
from ponder.engines.local import LocalReference, LocalSampler

NEW = 16
GREEDY = Sampling(temperature=0.0, max_new_tokens=NEW)
DRAWN = Sampling(temperature=1.0, max_new_tokens=NEW, seed=3)


def sampler(family: str = "qwen3", **limits: int) -> LocalSampler:
    return LocalSampler(model(family), chat(), **limits)


def expected(family: str, messages: list[Message]) -> list[int]:
    """Greedy tokens of transformers' own loop."""
    ids = torch.tensor([chat().prompt(messages)])
    settings = GenerationConfig(
        max_new_tokens=NEW, do_sample=False, eos_token_id=sorted(chat().stop_ids), pad_token_id=0
    )
    with torch.inference_mode():
        out = model(family, "eager").generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return out[0, ids.shape[1] :].tolist()


def tokens(completions: list[list[Completion]]) -> list[list[tuple[int, ...] | None]]:
    return [[completion.tokens for completion in group] for group in completions]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers(family: str) -> None:
    groups = sampler(family).generate(PROMPTS, 2, GREEDY)
    for messages, group in zip(PROMPTS, groups, strict=True):
        want = expected(family, messages)
        assert [list(completion.tokens or ()) for completion in group] == [want, want]
        assert group[0].text == chat().decode(want)
        assert group[0].finish == (Finish.STOP if want[-1] in chat().stop_ids else Finish.LENGTH)
        assert list(group[0].prompt_tokens or ()) == chat().prompt(messages)


def test_windows_are_shorter_than_what_is_tested() -> None:
    lengths = [len(chat().prompt(messages)) for messages in PROMPTS]
    assert min(lengths) + NEW > 2 * WINDOW and max(lengths) > 2 * WINDOW > min(lengths)


@pytest.mark.parametrize("family", FAMILIES)
def test_logprobs_equal_a_full_forward_pass(family: str) -> None:
    for group in sampler(family).generate(PROMPTS, 3, DRAWN):
        for completion in group:
            prompt, drawn = list(completion.prompt_tokens or ()), list(completion.tokens or ())
            with torch.inference_mode():
                scores = model(family, "eager")(torch.tensor([prompt + drawn])).logits[0].float().log_softmax(-1)
            want = scores[len(prompt) - 1 : -1].gather(-1, torch.tensor(drawn)[:, None])[:, 0]
            np.testing.assert_allclose(completion.logprobs, want, atol=1e-4)
            reference = LocalReference(model(family)).logprobs([prompt + drawn, prompt])
            np.testing.assert_allclose(reference[0][len(prompt) :], want, atol=1e-4)
            assert reference[0][0] == 0.0 and len(reference[1]) == len(prompt)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_equals_one_by_one(family: str) -> None:
    together = tokens(sampler(family).generate(PROMPTS, 3, DRAWN))
    assert together == [tokens(sampler(family).generate([messages], 3, DRAWN))[0] for messages in PROMPTS]


def test_a_group_begins_as_a_smaller_group_does() -> None:
    assert [group[:1] for group in tokens(sampler().generate(PROMPTS, 4, DRAWN))] == tokens(
        sampler().generate(PROMPTS, 1, DRAWN)
    )


@pytest.mark.parametrize("limits", [{"max_batch": 1}, {"max_batch": 3}, {"max_batch": 7}, {"budget_bytes": 200_000}])
def test_limits_change_no_token(limits: dict[str, int]) -> None:
    prompts = [*PROMPTS, *(user(f"{n} coins") for n in range(5))]
    assert tokens(sampler(**limits).generate(prompts, 4, DRAWN)) == tokens(sampler().generate(prompts, 4, DRAWN))


def test_samples_and_seeds_differ() -> None:
    (group,) = tokens(sampler().generate(PROMPTS[:1], 6, DRAWN))
    assert len(set(group)) == 6
    assert group != tokens(sampler().generate(PROMPTS[:1], 6, DRAWN.model_copy(update={"seed": 4})))[0]
    assert group == tokens(sampler().generate(PROMPTS[:1], 6, DRAWN))[0]


def test_equal_prompts_get_equal_completions() -> None:
    first, second = tokens(sampler().generate([PROMPTS[0], PROMPTS[0]], 2, DRAWN))
    assert first == second


def test_samples_that_outlive_several_blocks() -> None:
    long = Sampling(temperature=1.0, max_new_tokens=140, seed=1)
    for group in sampler("mistral").generate(PROMPTS[:2], 4, long):
        for completion in group:
            ids = [*(completion.prompt_tokens or ()), *(completion.tokens or ())]
            want = LocalReference(model("mistral")).logprobs([ids])[0][len(completion.prompt_tokens or ()) :]
            np.testing.assert_allclose(completion.logprobs, want, atol=1e-4)


def test_bfloat16_weights() -> None:
    narrow = model("qwen3", dtype=torch.bfloat16)
    for group in LocalSampler(narrow, chat()).generate(PROMPTS, 2, DRAWN):
        for completion in group:
            ids = [*(completion.prompt_tokens or ()), *(completion.tokens or ())]
            want = LocalReference(narrow).logprobs([ids])[0][len(completion.prompt_tokens or ()) :]
            assert np.abs(np.array(completion.logprobs) - want).mean() < 0.1
            assert max(completion.tokens or ()) < VOCABULARY
