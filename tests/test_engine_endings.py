"""How a completion ends: end of turn, length, stop strings, thinking budgets, errors, limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import AutoModelForCausalLM, Lfm2Config, MambaConfig, PretrainedConfig

from engine_models import PROMPTS, VOCABULARY, chat, model, user
from ponder.core.errors import ConfigurationError, PonderError, ResourceError
from ponder.core.types import Completion, Finish, Sampling
from ponder.engines import _decode, local
from ponder.engines._budget import amount
from ponder.engines.local import LocalReference, LocalSampler
from ponder.models import attention

SAMPLING = Sampling(max_new_tokens=24, seed=5)


def sampler(**limits: int) -> LocalSampler:
    return LocalSampler(model("qwen3"), chat(), **limits)


def flat(groups: list[list[Completion]]) -> list[Completion]:
    return [completion for group in groups for completion in group]


@contextmanager
def favoured(**bias: float) -> Iterator[LocalSampler]:
    """A sampler whose model has a taste for some tokens, `t12=3.0` say."""
    head = model("qwen3").get_output_embeddings()
    extra = torch.zeros(VOCABULARY)
    for name, push in bias.items():
        extra[int(name[1:])] = push
    handle = head.register_forward_hook(lambda _module, _inputs, output: output + extra)
    try:
        yield sampler()
    finally:
        handle.remove()


def test_end_of_turn_is_a_token_and_no_text() -> None:
    with favoured(**{f"t{chat().end_id}": 6.0}) as tasteful:
        completions = flat(tasteful.generate(PROMPTS, 8, SAMPLING))
    lengths = {len(completion.tokens or ()) for completion in completions}
    assert len(lengths) > 5  # they leave the batch one by one
    for completion in completions:
        ids = list(completion.tokens or ())
        assert completion.finish is (Finish.STOP if ids[-1] == chat().end_id else Finish.LENGTH)
        assert chat().end_id not in ids[:-1]
        assert completion.text == chat().decode(ids) and "<|im_end|>" not in completion.text
        assert len(completion.logprobs or ()) == len(ids) == completion.usage.completion_tokens


def test_leaving_and_entering_change_nothing() -> None:
    prompts = [user(f"{'very ' * (n % 7)}{n} coins") for n in range(10)]
    with favoured(**{f"t{chat().end_id}": 6.0}) as tasteful:
        whole = tasteful.generate(prompts, 4, SAMPLING)
        small = LocalSampler(model("qwen3"), chat(), max_batch=10).generate(prompts, 4, SAMPLING)
        alone = [tasteful.generate([messages], 4, SAMPLING)[0] for messages in prompts[::5]]
    assert [c.tokens for c in flat(whole)] == [c.tokens for c in flat(small)]
    assert [c.tokens for c in flat(whole[::5])] == [c.tokens for c in flat(alone)]


def test_the_batch_stays_inside_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    step = _decode.Decoder._step

    def spy(decoder: _decode.Decoder) -> object:
        held = sum(
            tensor.numel() * tensor.element_size()
            for cohort in decoder.cohorts
            for layer in cohort.layers.values()
            for tensor in (layer.prefix_keys, layer.prefix_values, layer.suffix_keys, layer.suffix_values)
        )
        seen.append((sum(cohort.rows for cohort in decoder.cohorts), held))
        return step(decoder)

    monkeypatch.setattr(_decode.Decoder, "_step", spy)
    with favoured(**{f"t{chat().end_id}": 6.0}):
        sampler(max_batch=7).generate([user(str(n)) for n in range(12)], 3, SAMPLING)
        assert max(rows for rows, _ in seen) <= 7
        assert sum(rows for rows, _ in seen) / len(seen) > 3  # and is not left idle
        seen.clear()
        budget = 400_000
        sampler(budget_bytes=budget).generate([user(str(n)) for n in range(12)], 3, SAMPLING)
        assert max(held for _, held in seen) <= budget


@pytest.mark.parametrize("stop", [("e",), ("19", "co"), ("\n",), (" ",), ("é",), ("never met",)])
def test_stop_strings(stop: tuple[str, ...]) -> None:
    plain = flat(sampler().generate(PROMPTS, 6, SAMPLING))
    stopped = flat(sampler().generate(PROMPTS, 6, SAMPLING.model_copy(update={"stop": stop})))
    for free, cut in zip(plain, stopped, strict=True):
        where = min((free.text.find(s) for s in stop if s in free.text), default=-1)
        ids = list(cut.tokens or ())
        assert cut.text == (free.text if where < 0 else free.text[:where])
        assert ids == list(free.tokens or ())[: len(ids)]
        if where >= 0:
            assert cut.finish is Finish.STOP
            assert any(s in chat().decode(ids) for s in stop)
            assert not any(s in chat().decode(ids[:-1]) for s in stop)
        else:
            assert cut.finish is free.finish and len(ids) == len(free.tokens or ())


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_a_thinking_budget_closes_the_thought(limit: int) -> None:
    opening, closing = chat().think_open, chat().think_close
    assert opening is not None and closing is not None
    budget = SAMPLING.model_copy(update={"max_thinking_tokens": limit})
    with favoured(**{f"t{opening}": 7.0}) as tasteful:
        completions = flat(tasteful.generate(PROMPTS, 8, budget))
        free = flat(tasteful.generate(PROMPTS, 8, SAMPLING))
    assert any(completion.forced for completion in completions)
    for completion, unbounded in zip(completions, free, strict=True):
        ids = list(completion.tokens or ())
        assert not unbounded.forced
        for place in completion.forced:
            assert ids[place] == closing and (completion.logprobs or ())[place] == 0.0
        inside, thought = False, 0
        for place, token in enumerate(ids):
            assert (inside and thought == limit) == (place in completion.forced)
            if inside and token != closing:
                thought += 1
            inside = (inside or token == opening) and token != closing
        if completion.forced:
            first = completion.forced[0]
            assert ids[:first] == list(unbounded.tokens or ())[:first]


def test_a_prompt_can_open_the_thought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(chat()), "prompt_opens_thinking", True)
    (group,) = sampler().generate(PROMPTS[:1], 4, SAMPLING.model_copy(update={"max_thinking_tokens": 3}))
    for completion in group:
        assert completion.forced[:1] == (3,) and completion.usage.thinking_tokens >= 4
        assert completion.text.startswith("<think>\n")


def test_thinking_is_counted_with_its_tags() -> None:
    opening, closing = chat().think_open, chat().think_close
    assert opening is not None and closing is not None
    texts = local.Texts(chat(), ())
    assert texts.thinking_tokens([9, opening, 10, 11, closing, 12, chat().end_id]) == 4
    assert texts.thinking_tokens([opening, 10, chat().end_id]) == 2
    assert texts.thinking_tokens([10, 11]) == 0


def test_stream_adds_up_to_the_text() -> None:
    for stop in ((), ("e", "19")):
        sampling = SAMPLING.model_copy(update={"stop": stop})
        for messages in PROMPTS:
            pieces = list(sampler().stream(messages, sampling))
            assert "".join(pieces) == sampler().generate([messages], 1, sampling)[0][0].text
            assert all(pieces)
    assert not torch.is_inference_mode_enabled()


def test_watch_sees_everything() -> None:
    calls: list[tuple[int, int]] = []
    completions = flat(sampler().generate(PROMPTS, 3, SAMPLING, lambda done, drawn: calls.append((done, drawn))))
    assert calls == sorted(calls)
    assert calls[-1] == (12, sum(len(completion.tokens or ()) for completion in completions))
    assert all(completion.seconds > 0 for completion in completions)


def test_nothing_survives_a_change_of_weights() -> None:
    weight = model("one_head").get_output_embeddings().weight
    engine = LocalSampler(model("one_head"), chat(), policy_step=lambda: 4)
    before = engine.generate(PROMPTS, 2, SAMPLING)
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(-1.0)
    try:
        assert engine.generate(PROMPTS, 2, SAMPLING) != before
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert [c.tokens for c in flat(engine.generate(PROMPTS, 2, SAMPLING))] == [c.tokens for c in flat(before)]
    assert before[0][0].policy_step == 4


def test_training_mode_comes_back() -> None:
    model("llama").train()
    try:
        LocalSampler(model("llama"), chat()).generate(PROMPTS[:1], 1, SAMPLING)
        assert model("llama").training
    finally:
        model("llama").eval()


def test_logits_that_are_not_finite_are_named() -> None:
    with favoured(t4=float("nan")) as broken, pytest.raises(PonderError, match="not finite") as caught:
        broken.generate(PROMPTS, 2, SAMPLING)
    assert "token 0 of sample 0" in caught.value.where


def test_empty_and_impossible_requests() -> None:
    assert sampler().generate([], 4, SAMPLING) == []
    for action, words in (
        (lambda: sampler().generate(PROMPTS, 0, SAMPLING), "at least 1"),
        (lambda: LocalSampler(model("qwen3"), chat(), max_batch=0), "at least 1"),
        (lambda: sampler().generate([user("coins " * 600)], 1, SAMPLING), "512 positions"),
        (lambda: sampler().generate(PROMPTS, 1, Sampling(max_new_tokens=600)), "512 positions"),
        (lambda: LocalSampler(model("qwen3", "eager"), chat()).generate(PROMPTS, 1, SAMPLING), "eager"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            action()
    with pytest.raises(ResourceError, match="budget"):
        sampler(budget_bytes=1000).generate(PROMPTS, 1, SAMPLING)


def test_memory_is_bounded_by_the_user_too(monkeypatch: pytest.MonkeyPatch) -> None:
    free = flat(sampler().generate(PROMPTS, 3, SAMPLING))
    monkeypatch.setenv("PONDER_MEMORY", "300 KiB")
    assert [one.tokens for one in flat(sampler().generate(PROMPTS, 3, SAMPLING))] == [one.tokens for one in free]
    for asked, error in (("1000", ResourceError), ("much", ConfigurationError), ("0", ConfigurationError)):
        monkeypatch.setenv("PONDER_MEMORY", asked)
        with pytest.raises(error):
            sampler().generate(PROMPTS, 1, SAMPLING)
    amounts = {"512MiB": 2**29, "4g": 2**32, "1.5 kB": 1536, "7": 7}
    assert {text: amount(text) for text in amounts} == amounts


def test_a_thinking_budget_needs_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat(), "think_open", None)
    with pytest.raises(ConfigurationError, match="single tokens"):
        sampler().generate(PROMPTS, 1, Sampling(max_thinking_tokens=3, max_new_tokens=8))


SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}


@pytest.mark.parametrize(
    "config",
    [
        Lfm2Config(**SMALL, num_attention_heads=4, num_key_value_heads=2, layer_types=["conv", "full_attention"]),
        MambaConfig(**SMALL, state_size=4),
    ],
    ids=lambda config: config.model_type,
)
def test_models_with_other_state_are_refused(config: PretrainedConfig) -> None:
    attention.register()
    odd = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    with pytest.raises(ResourceError, match="cannot be sampled"):
        LocalSampler(odd, chat()).generate(PROMPTS, 1, SAMPLING)


def test_a_reference_scores_in_several_passes() -> None:
    sequences = [[5, 6, 7], [], [9], [4] * 30, [8, 2]]
    whole = LocalReference(model("qwen3")).logprobs(sequences)
    parts = LocalReference(model("qwen3"), max_tokens=4).logprobs(sequences)
    assert [len(scores) for scores in whole] == [3, 0, 1, 30, 2]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(other), atol=1e-5, rtol=0)
