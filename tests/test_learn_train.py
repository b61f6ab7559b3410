from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from _learn import gradients, largest_difference, policy_example, random_tokens, text_example, tiny_model, trainer
from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.types import Example, Message, Sampling
from ponder.learn.optimiser import Optimisation, make_optimizers
from ponder.learn.train import LocalTrainer, TrainerState
from ponder.models.load import load_model
from ponder.models.precision import BFLOAT16_CPU, rounds


def examples_of(step: int) -> list[Example]:
    return [text_example(random_tokens(n, 31 * step + n)) for n in (4, 9, 14)]


def broken() -> list[Example]:
    """A policy example whose stored log-probability is not a number."""
    return [policy_example(random_tokens(6, 1), 2, 1.0, logprob=math.nan)]


def same(a: TrainerState, b: TrainerState) -> bool:
    return a.counters == b.counters and a.tensors.keys() == b.tensors.keys() and all(
        torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors
    )  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_same_steps_give_the_same_bits_and_lower_the_loss(optimizer: str) -> None:
    learners = [trainer(optimizer=optimizer, weight_decay=0.1) for _ in range(2)]
    losses = [[learner.step(examples_of(0))["loss"] for _ in range(5)] for learner in learners]
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]
    assert same(learners[0].state(), learners[1].state())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_restore_continues_bit_for_bit(optimizer: str) -> None:
    straight = trainer(optimizer=optimizer, decay="cosine", warmup_steps=2)
    for step in range(3):
        straight.step(examples_of(step))
    state = straight.state()
    resumed = trainer(tiny_model(seed=9), optimizer=optimizer, decay="cosine", warmup_steps=2)
    resumed.step(examples_of(7))  # what it did before must not matter
    resumed.restore(state)
    for step in range(3, 6):
        assert straight.step(examples_of(step)) == resumed.step(examples_of(step))
    assert same(straight.state(), resumed.state())


def test_a_state_is_a_copy() -> None:
    learner = trainer()
    before = learner.state()
    copies = {name: tensor.clone() for name, tensor in before.tensors.items()}
    learner.step(examples_of(0))
    assert all(torch.equal(copies[name], before.tensors[name]) for name in copies)


@pytest.mark.parametrize("kind", ["other shapes", "other names", "other optimiser"])
def test_a_state_of_another_trainer_is_refused(kind: str) -> None:
    learner = trainer(optimizer="muon" if kind == "other optimiser" else "adamw")
    learner.step(examples_of(0))
    other = {"other shapes": "gemma2", "other names": "llama"}.get(kind, "qwen3")
    target = trainer(tiny_model(other))
    before = target.state()
    with pytest.raises(ConfigurationError, match="checkpoint is of another"):
        target.restore(learner.state())
    assert same(before, target.state())


@pytest.mark.parametrize("examples", [[], [text_example([3]), text_example([3, 4, 5], prompt_length=3)]])
def test_a_step_without_anything_to_learn_is_an_error(examples: list[Example]) -> None:
    with pytest.raises(PonderError, match="has a token to learn from"):
        trainer().step(examples)


def test_a_step_that_is_not_finite_changes_nothing_but_the_counter() -> None:
    learner = trainer()
    learner.step(examples_of(0))
    before = learner.state()
    found = learner.step(broken())
    assert found["skipped"] == 1 and all(math.isfinite(v) for k, v in found.items() if k == "grad_norm")
    after = learner.state()
    assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in before.tensors)
    assert after.counters == before.counters | {"step_count": 2, "skipped": 1, "skipped_in_a_row": 1}


def test_three_steps_in_a_row_that_are_not_finite_stop_the_run() -> None:
    learner = trainer()
    for examples in (broken(), broken(), examples_of(0), broken(), broken()):
        learner.step(examples)
    with pytest.raises(PonderError, match="3 steps in a row") as caught:
        learner.step(broken())
    assert "lower lr" in caught.value.fix and learner.skipped == 5
    assert all(bool(p.isfinite().all()) for p in learner.model.parameters())


def test_a_gradient_that_overflows_is_skipped_even_when_the_loss_is_finite() -> None:
    learner = trainer()
    with torch.no_grad():
        learner.model.model.layers[0].mlp.down_proj.weight.fill_(3e38)
    assert learner.step(examples_of(0))["skipped"] == 1


def test_learning_rate_zero_keeps_every_bit() -> None:
    for optimizer in ("adamw", "muon"):
        learner = trainer(lr=0.0, weight_decay=0.5, optimizer=optimizer)
        before = {name: p.clone() for name, p in learner.model.named_parameters()}
        learner.step(examples_of(0))
        assert all(torch.equal(before[name], p) for name, p in learner.model.named_parameters())


def test_schedules() -> None:
    def shares(total: int, **settings: Any) -> list[float]:
        return [round(Optimisation(**settings).lr_share(step, total), 4) for step in range(total)]

    assert shares(3) == [1, 1, 1]
    assert shares(4, warmup_steps=8) == [0.125, 0.25, 0.375, 0.5]  # never warm: half the way
    assert shares(6, warmup_steps=2, decay="linear") == [0.5, 1.0, 1.0, 0.6667, 0.3333, 0.0]
    assert shares(5, decay="cosine", final_lr_share=0.1) == [1.0, 0.8682, 0.55, 0.2318, 0.1]
    assert shares(1, decay="linear") == [1.0]
    assert Optimisation(decay="linear", final_lr_share=0.2).lr_share(99, 10) == pytest.approx(0.2)


def test_the_scheduled_rate_is_the_one_that_is_used() -> None:
    learner = trainer(steps=4, lr=0.5, warmup_steps=2, decay="linear", optimizer="muon", outer_lr=0.01)
    rates = []
    for step in range(4):
        found = learner.step(examples_of(step))
        rates.append((found["lr"], *[g["lr"] for o in learner._optimizers for g in o.param_groups]))
    assert [r[0] for r in rates] == [0.25, 0.5, 0.5, 0.0]
    assert all(r[1] == r[0] and r[2] == pytest.approx(r[0] * 0.02) for r in rates)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_only_matrices_of_the_layers_decay(optimizer: str) -> None:
    with_decay, without = (trainer(weight_decay=w, optimizer=optimizer) for w in (0.5, 0.0))
    for learner in (with_decay, without):
        learner.step(examples_of(0))
    for (name, a), b in zip(with_decay.model.named_parameters(), without.model.parameters(), strict=True):
        assert torch.equal(a, b) == ("embed" in name or "norm" in name), name


def test_muon_moves_the_matrices_of_the_layers_alone() -> None:
    model = tiny_model()
    muon, adamw = make_optimizers(model, Optimisation(optimizer="muon"))
    names = {id(p): name for name, p in model.named_parameters()}
    moved = {names[id(p)] for g in muon.param_groups for p in g["params"]}
    kept = {names[id(p)] for g in adamw.param_groups for p in g["params"]}
    assert moved | kept == set(names.values()) and not moved & kept
    assert all("proj" in name for name in moved) and all("norm" in n or "embed" in n for n in kept)


def test_the_gradient_is_clipped_to_its_norm() -> None:
    learner = trainer(max_grad_norm=0.25)
    seen: list[float] = []

    def measure(*_: Any) -> None:
        grads = [p.grad.norm() for p in learner.model.parameters()]
        seen.append(float(torch.stack(grads).norm()))

    learner._optimizers[0].register_step_pre_hook(measure)
    found = learner.step(examples_of(0))
    assert found["grad_norm"] > 0.25 and seen == [pytest.approx(0.25, rel=1e-4)]


def test_frozen_parameters_stay() -> None:
    model = tiny_model()
    model.get_input_embeddings().weight.requires_grad_(False)
    before = model.get_input_embeddings().weight.clone()
    trainer(model).step(examples_of(0))
    assert torch.equal(before, model.get_input_embeddings().weight)


def test_greedy_sampling_has_no_policy_to_train() -> None:
    with pytest.raises(ConfigurationError, match="greedily"):
        trainer(temperature=0.0)


def test_training_learns_the_only_sequence_it_sees() -> None:
    tokens = random_tokens(10, 5)
    learner = trainer(steps=40, lr=5e-3)
    for _ in range(40):
        found = learner.step([text_example(tokens)])
    assert found["loss"] < 0.05
    scores = tiny_scores(learner.model, tokens)
    assert scores.argmax(-1)[:-1].tolist() == tokens[1:]


def tiny_scores(model: Any, tokens: list[int]) -> torch.Tensor:
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(torch.tensor(np.array([tokens])), use_cache=False).logits[0]


def test_autocast_rounds_the_gradient_and_keeps_the_weights_in_float32() -> None:
    exact, rounded = (gradients(trainer(autocast=on), examples_of(0)) for on in (False, True))
    assert 0 < largest_difference(exact, rounded) < 0.1
    learner = trainer(autocast=True)
    learner.step(examples_of(0))
    assert {parameter.dtype for parameter in learner.model.parameters()} == {torch.float32}


def test_auto_rounds_only_where_the_processor_can(monkeypatch: pytest.MonkeyPatch) -> None:
    for able in (False, True):
        for name in BFLOAT16_CPU:
            monkeypatch.setattr(torch.cpu, name, lambda able=able: able)
        assert rounds("auto", torch.device("cpu")) is able
        assert rounds(True, torch.device("cpu")) and not rounds(False, torch.device("cpu"))


def test_a_rounded_policy_samples_the_weights_of_the_moment() -> None:
    loaded = load_model("pocket-base")
    settings = Optimisation(autocast=True, lr=0.01)
    learner = LocalTrainer(loaded.model, loaded.chat, optimisation=settings, total_steps=1)
    sampler = learner.sampler()
    sampling = Sampling(temperature=1.0, max_new_tokens=8, seed=1)
    prompt = [(Message(role="user", content="one two"),)]
    before = sampler.generate(prompt, 4, sampling)
    assert sampler.generate(prompt, 4, sampling)[0][0].tokens == before[0][0].tokens
    learner.step(examples_of(0))
    after = learner.sampler().generate(prompt, 4, sampling)
    assert [one.logprobs for one in after[0]] != [one.logprobs for one in before[0]]
    assert {one.policy_step for one in after[0]} == {1}
    assert {parameter.dtype for parameter in learner.model.parameters()} == {torch.float32}
