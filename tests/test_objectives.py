from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin, plugin_names
from ponder.core.types import Completion, Example, Finish, FloatArray, Group, Problem, TopK, Trace, Verdict

PROBLEM = Problem(id="p", task="t", prompt="q", answer=1)
PROMPT = (7, 8)
POLICY = ("grpo", "dr_grpo", "rloo")
VOCABULARY = 5


class Constant:
    """A reference under which every token has the same log-probability."""

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[FloatArray]:
        return [np.full(len(s), -1.25, dtype=np.float32) for s in sequences]


def trace(reward: float | None, tokens: tuple[int, ...] | None = (1, 2, 3), **fields: Any) -> Trace:
    verdict = Verdict.unknown("?") if reward is None else Verdict.correct().model_copy(update={"reward": reward})
    given = {"prompt_tokens": PROMPT, "tokens": tokens, "logprobs": (-0.5,) * len(tokens or ())}
    return Trace(problem=PROBLEM, completion=Completion(text="", **(given | fields)), verdict=verdict)


def credit(name: str, traces: Sequence[Trace], **settings: Any) -> list[Example]:
    objective = load_plugin("objectives", name)(**({"kl_coef": 0.0} | settings))
    return objective(Group(PROBLEM, tuple(traces)), Constant())


def advantages(examples: Sequence[Example]) -> list[float]:
    return [float(e.advantage[-1]) for e in examples]


def softmax_gradient(theta: np.ndarray, completions: list[tuple[int, ...]], weights: list[list[float]]) -> np.ndarray:
    """By hand: the policy draws every token from softmax(theta), so d log p(a) / d theta = onehot(a) - p."""
    p = np.exp(theta) / np.exp(theta).sum()
    total = np.zeros_like(theta)
    for tokens, weight in zip(completions, weights, strict=True):
        for token, w in zip(tokens, weight, strict=True):
            total -= w * (np.eye(len(theta))[token] - p)
    return total


def autograd_gradient(theta: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
    """What the trainer makes of the streams when the policy is the one that sampled."""
    logits = torch.tensor(theta, requires_grad=True)
    everywhere = logits.log_softmax(0)
    share = sum(e.pg_share for e in examples)
    loss = torch.zeros((), dtype=torch.float64)
    for example in examples:
        member = example.pg_weight != 0
        logprob = everywhere[example.tokens[member].astype(np.int64)]
        ratio = (logprob - logprob.detach()).exp()
        paid = torch.from_numpy((example.pg_weight * example.advantage)[member].astype(np.float64))
        loss = loss - (paid * ratio).sum() / share
    [gradient] = torch.autograd.grad(loss, logits)
    return gradient.numpy()


COMPLETIONS = [(0, 1, 2, 2), (3,), (4, 4)]
REWARDS = [1.0, 0.0, 0.25]
MEAN = 1.25 / 3
STD = np.sqrt(sum((r - MEAN) ** 2 for r in REWARDS) / 2)
BY_HAND = {
    "grpo": [[(r - MEAN) / (STD + 1e-4) / len(o) / 3] * len(o) for r, o in zip(REWARDS, COMPLETIONS, strict=True)],
    "dr_grpo": [[(r - MEAN) / (3 * 100)] * len(o) for r, o in zip(REWARDS, COMPLETIONS, strict=True)],
    "rloo": [[(r - (1.25 - r) / 2) / 3] * len(o) for r, o in zip(REWARDS, COMPLETIONS, strict=True)],
}


@pytest.mark.parametrize("name", POLICY)
def test_gradient_of_a_softmax_policy_is_the_closed_form(name: str) -> None:
    theta = np.array([0.3, -0.2, 0.5, 0.0, -1.0])
    settings = {"max_tokens": 100} if name == "dr_grpo" else {}
    examples = credit(name, [trace(r, o) for r, o in zip(REWARDS, COMPLETIONS, strict=True)], **settings)
    wanted = softmax_gradient(theta, COMPLETIONS, BY_HAND[name])
    np.testing.assert_allclose(autograd_gradient(theta, examples), wanted, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("name", POLICY)
def test_gradient_agrees_with_finite_differences_of_the_surrogate(name: str) -> None:
    theta = np.array([0.3, -0.2, 0.5, 0.0, -1.0])
    examples = credit(name, [trace(r, o) for r, o in zip(REWARDS, COMPLETIONS, strict=True)])
    share = sum(e.pg_share for e in examples)

    def logprobs(at: np.ndarray) -> np.ndarray:
        return at - np.log(np.exp(at).sum())

    def loss(at: np.ndarray) -> float:
        gap = logprobs(at) - logprobs(theta)
        return (
            -sum(float((e.pg_weight * e.advantage * np.exp(gap[e.tokens % VOCABULARY])).sum()) for e in examples)
            / share
        )

    step = 1e-6
    numeric = [(loss(theta + d) - loss(theta - d)) / (2 * step) for d in step * np.eye(VOCABULARY)]
    np.testing.assert_allclose(autograd_gradient(theta, examples), numeric, rtol=1e-4, atol=1e-8)


class Expecting:
    """A teacher that expects token 1 everywhere, and finds every token half as likely as not."""

    def logprobs(self, traces: Sequence[Trace]) -> list[np.ndarray]:
        return [np.full(self._length(t), np.log(0.5), np.float32) for t in traces]

    def top(self, traces: Sequence[Trace], k: int) -> list[TopK]:
        lengths = [self._length(t) for t in traces]
        half = np.log(0.5)
        return [
            TopK(np.ones((n, 1), np.int32), np.full((n, 1), half, np.float32), np.full(n, half, np.float32))
            for n in lengths
        ]

    @staticmethod
    def _length(one: Trace) -> int:
        return len(one.completion.prompt_tokens or ()) + len(one.completion.tokens or ())


def test_published_settings_are_the_defaults() -> None:
    found = {name: load_plugin("objectives", name)().surrogate for name in POLICY}
    assert {n: (s.clip_low, s.clip_high, s.kl_coef) for n, s in found.items()} == {
        "grpo": (0.2, 0.2, 0.04), "dr_grpo": (0.2, 0.2, 0.0), "rloo": (0.2, 0.2, 0.0),
    }  # fmt: skip


@pytest.mark.parametrize("name", plugin_names("objectives"))
def test_streams_are_aligned_and_the_prompt_carries_nothing(name: str) -> None:
    settings = {"kl_coef": 0.1} if name in POLICY else {}
    examples = load_plugin("objectives", name)(**settings)(
        Group(PROBLEM, (trace(1.0), trace(0.0, (4,)))), Constant(), Expecting()
    )
    for example, tokens in zip(examples, ((1, 2, 3), (4,)), strict=True):
        assert example.tokens.tolist() == [*PROMPT, *tokens] and example.prompt_length == 2
        for stream in (example.ce_weight, example.pg_weight, example.advantage, example.logprob):
            assert stream.dtype == np.float32 and len(stream) == len(example.tokens) and not stream[:2].any()
        taught = 0.0 if example.kd_weight is None else example.kd_weight
        assert ((example.ce_weight + example.pg_weight + taught)[2:] > 0).all()
        assert example.tokens.dtype == np.int32


def test_sft_weighs_every_completion_token_alike() -> None:
    examples = credit_sft([trace(1.0), trace(0.0, (4,)), trace(None, ())])
    assert [e.ce_weight.tolist() for e in examples] == [[0, 0, 1, 1, 1], [0, 0, 1]]
    assert all(e.pg_share == 0 and not e.pg_weight.any() for e in examples)
    with pytest.raises(ConfigurationError, match="no tokens of this model"):
        credit_sft([trace(1.0, None)])


def credit_sft(traces: Sequence[Trace]) -> list[Example]:
    return load_plugin("objectives", "sft")()(Group(PROBLEM, tuple(traces)))


@pytest.mark.parametrize("name", POLICY)
def test_equal_rewards_give_exactly_nothing_but_stay_members(name: str) -> None:
    examples = credit(name, [trace(0.1)] * 3)  # 0.1 * 3 / 3 is not 0.1 in floats
    assert advantages(examples) == [0.0] * 3
    assert all(e.pg_share > 0 and e.pg_weight[-1] > 0 for e in examples)


@pytest.mark.parametrize("name", POLICY)
def test_a_group_of_one_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no baseline"):
        credit(name, [trace(1.0)])


@pytest.mark.parametrize("name", POLICY)
def test_what_could_not_be_judged_is_in_no_mean(name: str) -> None:
    known = [trace(1.0), trace(0.0), trace(0.5)]
    with_unknown = credit(name, [known[0], trace(None), *known[1:]])
    assert len(with_unknown) == 3
    assert advantages(with_unknown) == advantages(credit(name, known))
    assert credit(name, [trace(1.0), trace(None)]) == []


@pytest.mark.parametrize("name", POLICY)
def test_forced_tokens_are_no_members(name: str) -> None:
    examples = credit(name, [trace(1.0, (1, 2, 3, 4), forced=(1, 3)), trace(0.0)])
    assert (examples[0].pg_weight != 0).tolist() == [False, False, True, False, True, False]
    if name == "grpo":
        assert examples[0].pg_weight.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("name", POLICY)
def test_an_empty_completion_contributes_nothing_but_counts(name: str) -> None:
    empty, full = credit(name, [trace(0.0, ()), trace(1.0)])
    assert not empty.pg_weight.any() and empty.pg_share == full.pg_share
    assert full.advantage[-1] > 0 and np.isfinite(full.pg_weight).all()


@pytest.mark.parametrize("name", POLICY)
def test_truncated_completions_follow_the_stated_policy(name: str) -> None:
    traces = [trace(1.0), trace(0.0), trace(0.0, finish=Finish.LENGTH)]
    penalised, masked = (credit(name, traces, truncated=policy) for policy in ("penalise", "mask"))
    assert len(penalised) == 3 and advantages(penalised)[2] < 0
    assert advantages(masked) == advantages(credit(name, traces[:2])) and len(masked) == 2


def test_a_reference_is_asked_for_and_used_only_with_a_kl_term() -> None:
    traces = [trace(1.0), trace(0.0)]
    assert all(e.ref_logprob is None for e in credit("grpo", traces))
    assert [float(e.ref_logprob[0]) for e in credit("grpo", traces, kl_coef=0.1)] == [-1.25, -1.25]  # type: ignore[index]
    with pytest.raises(ConfigurationError, match="no reference"):
        load_plugin("objectives", "grpo")()(Group(PROBLEM, tuple(traces)))


@pytest.mark.parametrize("field", ["tokens", "prompt_tokens", "logprobs"])
def test_completions_of_a_stranger_cannot_train_a_policy(field: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot train a policy"):
        credit("grpo", [trace(1.0), trace(0.0, **{field: None})])


def test_grpo_divides_by_the_deviation_of_a_sample() -> None:
    assert advantages(credit("grpo", [trace(1.0), trace(0.0)])) == pytest.approx([0.70701, -0.70701], abs=1e-4)
