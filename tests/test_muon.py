"""Muon: the update is orthogonal, shapes are handled alike, and it agrees with torch's where torch is exact enough."""

from __future__ import annotations

import pytest
import torch

from ponder.learn.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (12, 5), (5, 12)])
def test_singular_values_become_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, *shape) * 100))
    assert values.min() > 0.5 and values.max() < 1.3


def test_stacked_matrices_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    stack = torch.randn(4, 6, 9)
    alone = torch.cat([orthogonalise(matrix[None]) for matrix in stack])
    torch.testing.assert_close(orthogonalise(stack), alone)


def test_a_step_agrees_with_torchs_up_to_its_bfloat16() -> None:
    torch.manual_seed(0)
    start = torch.randn(16, 24)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = Muon([ours], lr=0.1), torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        gradient = torch.randn(16, 24)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved


def test_parameters_without_a_gradient_stay() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 3))
    Muon([parameter]).step()
    assert torch.equal(parameter, torch.ones(3, 3))
