from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from _learn import (
    gradients,
    largest_difference,
    policy_example,
    random_tokens,
    text_example,
    tiny_model,
    trainer,
)
from ponder.core.errors import ConfigurationError
from ponder.core.types import Example, Surrogate
from ponder.learn import loss
from ponder.learn.loss import MAX_LOG_RATIO, k3_divergence
from ponder.models.scoring import TokenLogprobs

UNCLIPPED = Surrogate(clip_low=1.0, clip_high=1e9)


def step_loss(
    model: torch.nn.Module, examples: list[Example], surrogate: Surrogate, temperature: float
) -> torch.Tensor:
    """The same loss written down naively: one sequence at a time, full logits, torch's own autograd."""
    ce = pg = torch.zeros(())
    for example in examples:
        tokens = torch.tensor(example.tokens, dtype=torch.long)
        scores = model(tokens[None], use_cache=False).logits[0, :-1] / temperature
        logprob = scores.log_softmax(-1)[torch.arange(len(tokens) - 1), tokens[1:]]
        streams = {
            name: torch.from_numpy(getattr(example, name)[1:])
            for name in ("ce_weight", "pg_weight", "advantage", "logprob")
        }
        ce = ce - (streams["ce_weight"] * logprob).sum()
        ratio = (logprob - streams["logprob"]).exp()
        clipped = ratio.clamp(1 - surrogate.clip_low, 1 + surrogate.clip_high)
        term = -torch.minimum(ratio * streams["advantage"], clipped * streams["advantage"])
        if example.ref_logprob is not None:
            gap = torch.from_numpy(example.ref_logprob[1:]) - logprob
            term = term + surrogate.kl_coef * (gap.exp() - gap - 1)
        pg = pg + (streams["pg_weight"] * term).sum()
    ce_total = sum(float(e.ce_weight[1:].sum()) for e in examples)
    pg_total = sum(e.pg_share for e in examples)
    return (ce / ce_total if ce_total else ce) + (pg / pg_total if pg_total else pg)


def mixed_examples(seed: int = 0) -> list[Example]:
    """Eight examples of unequal lengths, both losses among them, some in groups that share a prompt."""
    rng = np.random.default_rng(seed)
    prompt = random_tokens(5, 55)
    examples = [text_example(random_tokens(n, n), 2) for n in (5, 19, 11)]
    for n in (4, 13, 8, 1, 6):
        head = prompt if n != 8 else random_tokens(7, 77)
        weight, share = (1.0 / n, 1.0) if n % 2 else (1.0, float(n))
        examples.append(
            policy_example(
                head + random_tokens(n, 10 + n), len(head), float(rng.normal()), logprob=-3.5,
                ref_logprob=-3.0, weight=weight, share=share,
            )
        )  # fmt: skip
    return examples


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("surrogate", [UNCLIPPED, Surrogate(kl_coef=0.2)])
def test_gradient_is_that_of_the_loss_written_naively(surrogate: Surrogate, temperature: float) -> None:
    examples = mixed_examples()
    learner = trainer(tiny_model(), surrogate=surrogate, temperature=temperature)
    plain = tiny_model(implementation="eager")
    step_loss(plain, examples, surrogate, temperature).backward()
    wanted = {name: p.grad for name, p in plain.named_parameters()}
    assert largest_difference(wanted, gradients(learner, examples)) < 1e-5


@pytest.mark.parametrize("budget", [1, 12, 45])
def test_gradient_does_not_depend_on_how_a_step_is_cut(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    surrogate = Surrogate(kl_coef=0.2)
    whole = gradients(trainer(surrogate=surrogate, micro_batch_tokens=100_000), mixed_examples())
    monkeypatch.setattr(loss, "CHUNK_ENTRIES", 1)
    monkeypatch.setattr(loss, "MIN_CHUNK", 3)
    cut = gradients(trainer(surrogate=surrogate, micro_batch_tokens=budget), mixed_examples())
    assert largest_difference(whole, cut) < 1e-6


def test_loss_of_a_packed_step_is_the_mean_of_the_single_ones() -> None:
    examples = [text_example(random_tokens(n, n)) for n in (5, 19, 11)]
    together = trainer(lr=0.0).step(examples)
    alone = [trainer(lr=0.0).step([e]) for e in examples]
    total = sum(m["loss"] * m["targets"] for m in alone) / sum(m["targets"] for m in alone)
    assert together["loss"] == pytest.approx(total, rel=1e-5)


def test_only_the_first_completion_token_is_learnt_when_it_alone_is_weighted() -> None:
    """Off by one: the gradient must raise p(tokens[3] | tokens[:3]) and must not see tokens[4:]."""
    tokens = random_tokens(8, 3)
    example = text_example(tokens, 3)
    example.ce_weight[4:] = 0
    learner = trainer()
    found = gradients(learner, [example])
    plain = tiny_model(implementation="eager")
    scores = plain(torch.tensor([tokens[:3]]), use_cache=False).logits[0, -1]
    (-scores.log_softmax(-1)[tokens[3]]).backward()
    assert largest_difference({n: p.grad for n, p in plain.named_parameters()}, found) < 1e-5


def test_the_first_token_of_a_sequence_is_no_target() -> None:
    example = text_example(random_tokens(6, 1))
    wanted = gradients(trainer(), [example])
    example.ce_weight[0] = 1.0
    assert largest_difference(wanted, gradients(trainer(), [example])) == 0.0


@pytest.mark.parametrize("logprob", [-100.0, 100.0])
def test_a_wild_gap_is_clamped(logprob: float) -> None:
    """A gap of +-100 nats would overflow the ratio or divide by nothing."""
    examples = [policy_example(random_tokens(9, s), 3, a, logprob=logprob) for s, a in ((1, 1.0), (2, -1.0))]
    found = trainer(surrogate=Surrogate(clip_high=1e30)).step(examples)
    assert all(math.isfinite(value) for value in found.values())
    assert found["skipped"] == 0
    assert found["ratio"] <= math.exp(MAX_LOG_RATIO) * 1.01
    assert found["logprob_gap_max"] > 90


def test_clipping_is_counted_on_the_side_where_it_acts() -> None:
    def shares(advantage: float, logprob: float) -> tuple[float, float]:
        found = trainer().step([policy_example(random_tokens(9, 1), 3, advantage, logprob=logprob)])
        return found["clip_low"], found["clip_high"]

    assert shares(1.0, -50.0) == (0.0, 1.0)
    assert shares(-1.0, 0.0) == (1.0, 0.0)
    assert shares(-1.0, -50.0) == (0.0, 0.0)  # a bad token that became likelier is pushed back, not clipped


def test_metrics_of_an_on_policy_step() -> None:
    model, tokens = tiny_model(), random_tokens(12, 4)
    with torch.no_grad():
        scores = tiny_model(implementation="eager")(torch.tensor([tokens])).logits[0, :-1].log_softmax(-1)
    example = policy_example(tokens, 5, 1.0, ref_logprob=0.0)
    example.logprob[5:] = scores[range(4, 11), tokens[5:]].numpy()
    example.ref_logprob[5:] = example.logprob[5:] + math.log(2)  # type: ignore[index]
    found = trainer(model, surrogate=Surrogate(kl_coef=0.5)).step([example])
    assert found["ratio"] == pytest.approx(1.0, abs=1e-5)
    assert found["logprob_gap"] < 1e-5 and found["kl_sampler"] < 1e-6
    assert found["kl_reference"] == pytest.approx(2 - math.log(2) - 1, rel=1e-4)
    assert found["loss_kl"] == pytest.approx(0.5 * 7 * (1 - math.log(2)), rel=1e-4)
    entropy = -(scores.exp() * scores).sum(-1)[4:11].mean()
    assert found["entropy"] == pytest.approx(float(entropy), rel=1e-4)


def test_k3_has_the_sign_and_size_of_the_divergence() -> None:
    """Averaged over the policy, k3 is KL(policy || reference)."""
    policy, reference = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.3, 0.3, 0.4]).log()
    mean = (policy.exp() * k3_divergence(policy, reference)).sum()
    assert float(mean) == pytest.approx(float((policy.exp() * (policy - reference)).sum()), rel=1e-5)
    assert (k3_divergence(policy, reference) >= 0).all()


def test_kl_without_reference_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no reference"):
        trainer(surrogate=Surrogate(kl_coef=0.1)).step([policy_example(random_tokens(9, 1), 3, 1.0)])


def test_policy_members_without_a_denominator_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="pg_share"):
        trainer().step([policy_example(random_tokens(9, 1), 3, 1.0, share=0.0)])


def test_token_logprobs_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 6, 3, 3, 1])
    assert torch.autograd.gradcheck(lambda s: TokenLogprobs.apply(s, target)[0], scores)


def test_members_without_advantage_cost_nothing_but_count() -> None:
    still = [policy_example(random_tokens(9, s), 3, 0.0) for s in (1, 2, 3)]
    moving = policy_example(random_tokens(9, 4), 3, 1.0)
    alone, among = gradients(trainer(), [moving]), gradients(trainer(), [*still, moving])
    assert largest_difference(alone, {name: 4 * g for name, g in among.items()}) < 1e-6
    assert trainer().step([*still, moving])["tokens"] == 8
    found = trainer().step(still)
    assert found["grad_norm"] == 0.0 and found["members"] == 18
