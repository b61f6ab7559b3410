"""How far a student's next-token distribution is from a teacher's: generalised Jensen-Shannon over top-k and a tail.

A teacher is known by its k likeliest tokens and the mass of all others. So both distributions are compared over k + 1
atoms: the k tokens, and the tail as one of them. Merging tokens can only lower a divergence, and with k as large as
the vocabulary nothing is merged. A temperature softens atoms, because what the tail holds is not known.

Differences from the sources: GKD (arXiv:2306.13649) has the whole vocabulary and no tail; leaving the tail out, as
some codes do, rewards a student for moving mass to where nobody looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ponder.core.types import Divergence

FLOOR = -30.0
"""Teacher's log-probabilities below this (nats) count as this: a mass of zero would make the reverse KL infinite."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a teacher expected, for N targets."""

    ids: Tensor  # (N, k) long, -1 where there is none
    logprobs: Tensor  # (N, k) nats
    tail: Tensor  # (N,) nats

    def part(self, rows: slice | Tensor) -> Expected:
        """Some of the targets."""
        return Expected(self.ids[rows], self.logprobs[rows], self.tail[rows])


def atoms_of(everywhere: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities (N, k + 1) of k tokens and of all others together, from those of the vocabulary.

    Args:
        everywhere: (N, V) log-probabilities, nats.
        ids: (N, k) tokens, -1 where there is none; at least one in every row.
    """
    known = ids >= 0
    filled = torch.where(known, ids, ids.amax(1, keepdim=True))
    tokens = everywhere.gather(1, filled).masked_fill(~known, -math.inf)
    if ids.shape[1] >= everywhere.shape[1]:
        rest = everywhere.new_full((len(ids), 1), -math.inf)
    else:
        rest = everywhere.scatter(1, filled, -math.inf).logsumexp(1, keepdim=True)
    return torch.cat([tokens, rest], 1)


def divergence(everywhere: Tensor, expected: Expected, settings: Divergence) -> Tensor:
    """Divergence (N,) of each target, nats; its gradient flows to `everywhere`.

    With T the teacher, S the student and M = beta T + (1 - beta) S it is beta KL(T || M) + (1 - beta) KL(S || M);
    the formula gives 0 at both ends, where KL(T || S) (beta 0) and KL(S || T) (beta 1) are meant, and used.

    Args:
        everywhere: (N, V) log-probabilities of the student at temperature 1.
        expected: Of the teacher at temperature 1.
        settings: Direction and temperature; its weight is not applied.

    Source:
        Agarwal et al. 2023 (arXiv:2306.13649), section 2; Hinton et al. 2015 (arXiv:1503.02531) for the square.
    """
    student = atoms_of(everywhere, expected.ids)
    teacher = torch.cat([expected.logprobs, expected.tail[:, None]], 1)
    there = student.detach() > -math.inf
    teacher = teacher.clamp(min=FLOOR).masked_fill(~there, -math.inf)
    heat = settings.temperature
    student, teacher = _softened(student, heat), _softened(teacher, heat)
    # A finite number where nothing is, so that 0 * (-inf) never arises; the factor is exactly 0 there.
    student, teacher = student.masked_fill(~there, 0.0), teacher.masked_fill(~there, 0.0)
    p_student, p_teacher = student.exp() * there, teacher.exp() * there
    beta = settings.beta
    if beta == 0.0:
        terms = p_teacher * (teacher - student)
    elif beta == 1.0:
        terms = p_student * (student - teacher)
    else:
        middle = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
        terms = beta * p_teacher * (teacher - middle) + (1 - beta) * p_student * (student - middle)
    return terms.sum(1) * heat**2


def _softened(logprobs: Tensor, temperature: float) -> Tensor:
    """Log-probabilities over the temperature, normalised again."""
    return (logprobs / temperature).log_softmax(1)
