"""Teachers: what they say of a student's tokens, and what students make of it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from ponder.core.errors import ConfigurationError
from ponder.core.types import Completion, Divergence, Group, Problem, TopK, Trace, Verdict
from ponder.engines._teachers import LocalTeacher, RoutedTeacher, Together
from ponder.engines.local import LocalReference
from ponder.learn.divergence import Expected, atoms_of, divergence
from ponder.models.load import load_model
from ponder.objectives.kd import KD
from ponder.objectives.opd import OPD

LOADED = load_model("pocket-base")
VOCABULARY = LOADED.model.config.vocab_size


def trace(prompt: tuple[int, ...], tokens: tuple[int, ...], task: str = "t", right: bool = True) -> Trace:
    verdict = Verdict.correct("1") if right else Verdict.wrong("2")
    completion = Completion(text="x", prompt_tokens=prompt, tokens=tokens, logprobs=(-1.0,) * len(tokens))
    return Trace(problem=Problem(id="p", task=task, prompt="q", answer="1"), completion=completion, verdict=verdict)


def some_traces() -> list[Trace]:
    rng = np.random.default_rng(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(int(i) for i in rng.integers(5, VOCABULARY, n))

    shared = ids(30)
    return [
        trace(shared, ids(12)), trace(ids(7), ids(1)), trace(shared, ids(1)), trace(ids(9), ids(25)),
        trace(shared, ids(20)), trace(ids(5), ()),
    ]  # fmt: skip


@pytest.mark.parametrize("max_tokens", [4096, 50])
def test_a_local_teacher_says_what_a_full_forward_pass_says(max_tokens: int) -> None:
    traces = some_traces()
    teacher = LocalTeacher(LOADED.model, max_tokens=max_tokens)
    whole = LocalReference(LOADED.model).logprobs(
        [(t.completion.prompt_tokens or ()) + (t.completion.tokens or ()) for t in traces]
    )
    for one, found, expected in zip(traces, teacher.logprobs(traces), whole, strict=True):
        start = len(one.completion.prompt_tokens or ())
        assert np.isnan(found[:start]).all()
        np.testing.assert_allclose(found[start:], expected[start:], atol=2e-4)


def test_the_top_k_hold_the_likeliest_tokens_and_the_tail_the_rest() -> None:
    traces = some_traces()
    for one, found in zip(traces, LocalTeacher(LOADED.model).top(traces, 8), strict=True):
        start = len(one.completion.prompt_tokens or ())
        assert (found.ids[:start] == -1).all() and found.ids.shape[1] == 8
        rows = slice(start, None)
        np.testing.assert_allclose(np.exp(found.logprobs[rows]).sum(1) + np.exp(found.tail[rows]), 1.0, atol=1e-4)
        assert (np.diff(found.logprobs[rows], axis=1) <= 0).all()


def test_a_smaller_vocabulary_of_the_student_is_all_that_counts() -> None:
    traces = some_traces()[:1]
    (found,) = LocalTeacher(LOADED.model, vocabulary=VOCABULARY - 100).top(traces, VOCABULARY)
    assert found.ids.shape[1] == VOCABULARY - 100 and found.ids.max() == VOCABULARY - 101
    start = len(traces[0].completion.prompt_tokens or ())
    assert (found.tail[start:] == -np.inf).all()


def test_teachers_are_routed_by_task_and_asked_together() -> None:
    traces = [trace((5, 6), (7, 8), task) for task in ("a", "b", "a")]

    class Says:
        def __init__(self, value: float) -> None:
            self.value, self.calls = value, 0

        def logprobs(self, traces):
            self.calls += 1
            return [np.full(4, self.value, np.float32) for _ in traces]

        def top(self, traces, k):
            raise NotImplementedError

    first, other = Says(-1.0), Says(-2.0)
    routed = RoutedTeacher({"a": first, "*": other})
    assert [float(x[0]) for x in routed.logprobs(traces)] == [-1.0, -2.0, -1.0]
    together = Together(first, traces)
    assert [float(together.logprobs([t])[0][0]) for t in traces] == [-1.0] * 3 and first.calls == 2
    with pytest.raises(ConfigurationError, match="no teacher is named for the task 'b'"):
        RoutedTeacher({"a": first}).logprobs(traces)


# The divergence.


def distributions(seed: int, rows: int = 6, vocabulary: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(rows, vocabulary, generator=generator).double() * 2 for _ in range(2))
    return student.log_softmax(1), teacher.log_softmax(1)


def expected_of(teacher: torch.Tensor, k: int) -> Expected:
    values, ids = teacher.topk(k)
    return Expected(ids, values, teacher.scatter(1, ids, -math.inf).logsumexp(1))


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p.exp() * (p - q)).sum(1)


def test_the_ends_of_beta_are_the_two_directions() -> None:
    student, teacher = distributions(0)
    whole = expected_of(teacher, 40)
    forward = divergence(student, whole, Divergence(beta=0.0))
    reverse = divergence(student, whole, Divergence(beta=1.0))
    torch.testing.assert_close(forward, kl(teacher, student))
    torch.testing.assert_close(reverse, kl(student, teacher))
    assert (forward - reverse).abs().min() > 1e-3  # a check that cannot tell them apart would be none


def test_between_the_ends_it_is_gkds_formula() -> None:
    student, teacher = distributions(1)
    for beta in (0.1, 0.5, 0.9):
        middle = (beta * teacher.exp() + (1 - beta) * student.exp()).log()
        wanted = beta * kl(teacher, middle) + (1 - beta) * kl(student, middle)
        torch.testing.assert_close(divergence(student, expected_of(teacher, 40), Divergence(beta=beta)), wanted)


def test_temperature_softens_both_and_its_square_multiplies() -> None:
    student, teacher = distributions(2)
    soft_student, soft_teacher = ((x / 3).log_softmax(1) for x in (student, teacher))
    found = divergence(student, expected_of(teacher, 40), Divergence(temperature=3.0))
    torch.testing.assert_close(found, 9 * kl(soft_teacher, soft_student))


def test_a_tail_merges_and_never_adds() -> None:
    student, teacher = distributions(3)
    for beta in (0.0, 0.5, 1.0):
        sizes = [divergence(student, expected_of(teacher, k), Divergence(beta=beta)) for k in (2, 8, 39, 40)]
        assert all((a <= b + 1e-9).all() for a, b in pairwise(sizes))
        torch.testing.assert_close(sizes[2], sizes[3])  # a tail of one token merges nothing


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("k", [3, 40])
def test_the_gradient_is_the_formulas(beta: float, k: int) -> None:
    scores, (_, teacher) = torch.randn(4, 40, dtype=torch.double, requires_grad=True), distributions(4, rows=4)
    shape = Divergence(beta=beta, temperature=1.5)
    assert torch.autograd.gradcheck(lambda x: divergence(x.log_softmax(1), expected_of(teacher, k), shape), scores)
    if beta == 0.0 and k == 40:
        loss = divergence(scores.log_softmax(1), expected_of(teacher, k), Divergence())
        (slope,) = torch.autograd.grad(loss.sum(), scores)
        torch.testing.assert_close(slope, scores.softmax(1) - teacher.exp())


def test_a_teacher_sure_of_one_token_gives_finite_numbers() -> None:
    student, _ = distributions(5, rows=2)
    zero = torch.tensor([[0.0, -math.inf]] * 2).double()
    sure = Expected(torch.tensor([[3, -1]] * 2), zero, torch.full((2,), -math.inf).double())
    for beta in (0.0, 0.5, 1.0):
        student.requires_grad_()
        found = divergence(student, sure, Divergence(beta=beta))
        (slope,) = torch.autograd.grad(found.sum(), student)
        assert found.isfinite().all() and slope.isfinite().all()
    assert atoms_of(student, sure.ids).shape == (2, 3)


# The objectives.


def length(one: Trace) -> int:
    return len(one.completion.prompt_tokens or ()) + len(one.completion.tokens or ())


class Fixed:
    """Says the same of every token."""

    def __init__(self, value: float) -> None:
        self.value = value

    def logprobs(self, traces):
        found = [np.full(length(t), self.value, np.float32) for t in traces]
        for row in found:
            row[-1] = np.nan
        return found

    def top(self, traces, k):
        shapes = [(length(t), 1) for t in traces]
        found = [
            TopK(np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.full(shape[0], -np.inf, np.float32))
            for shape in shapes
        ]
        for one in found:
            one.ids[-1] = -1
        return found


def test_opd_pays_the_gap_to_the_teacher_and_leaves_out_what_it_cannot_judge() -> None:
    one = trace((5, 6, 7), (8, 9, 10))
    (example,) = OPD(weight=2.0)(Group(one.problem, (one,)), None, Fixed(-0.25))
    assert example.pg_weight.tolist() == [0, 0, 0, 1, 1, 0] and example.pg_share == 2.0
    assert example.advantage.tolist() == [0, 0, 0, 1.5, 1.5, 0]  # 2 * (-0.25 - (-1.0))
    (clamped,) = OPD()(Group(one.problem, (one,)), None, Fixed(-99.0))
    assert clamped.advantage[3] == -10.0


def test_opd_adds_the_tasks_reward_centred_in_its_group() -> None:
    right, wrong = trace((5,), (8, 9)), trace((5,), (8, 9), right=False)
    good, bad = OPD(weight=0.0, reward_weight=1.0)(Group(right.problem, (right, wrong)), None, Fixed(-1.0))
    assert good.advantage[1] == 0.5 and bad.advantage[1] == -0.5


def test_kd_learns_where_the_teacher_speaks_and_imitates_only_what_is_right() -> None:
    right, wrong = trace((5, 6), (8, 9, 10)), trace((5, 6), (8, 9, 10), right=False)
    good, bad = KD(imitate=True)(Group(right.problem, (right, wrong)), None, Fixed(-1.0))
    assert good.kd_weight is not None and good.kd_weight.tolist() == [0, 0, 1, 1, 0]
    assert good.ce_weight.tolist() == [0, 0, 1, 1, 1] and not bad.ce_weight.any()
    for objective in (KD(), OPD()):
        with pytest.raises(ConfigurationError, match="no teacher"):
            objective(Group(right.problem, (right,)))
