"""Divergence between two lists of likeliest tokens, against sums over the whole vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.core.types import TopK
from ponder.measure.fidelity import divergences, fidelity


def _top(logprobs: np.ndarray, k: int) -> TopK:
    ids = np.argsort(-logprobs, axis=1)[:, :k].astype(np.int32)
    kept = np.take_along_axis(logprobs, ids, 1).astype(np.float32)
    left = np.log(np.clip(1 - np.exp(kept.astype(float)).sum(1), 0, None))
    return TopK(ids, kept, left.astype(np.float32))


def _logprobs(seed: int, places: int, vocabulary: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(places, vocabulary)) * 3
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_the_whole_vocabulary_gives_the_exact_divergence() -> None:
    p, q = _logprobs(0, 7, 20), _logprobs(1, 7, 20)
    exact = (np.exp(p) * (p - q)).sum(1)
    np.testing.assert_allclose(divergences(_top(p, 20), _top(q, 20)), exact, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 19), other=st.integers(1, 19))
def test_parts_of_it_give_a_lower_bound(seed: int, k: int, other: int) -> None:
    p, q = _logprobs(seed, 3, 20), _logprobs(seed + 1, 3, 20)
    exact = (np.exp(p) * (p - q)).sum(1)
    found = divergences(_top(p, k), _top(q, other))
    assert (found <= exact + 1e-4).all() and (found >= 0).all()


def test_a_model_is_not_far_from_itself_whatever_is_known_of_it() -> None:
    p = _logprobs(3, 50, 30)
    for k in (1, 5, 30):
        found = fidelity([(_top(p, k), _top(p, k))])
        assert found is not None and found.tokens == 50
        assert found.mean < 1e-6 and found.worst < 1e-5 and found.agreement == 1.0


def test_what_was_held_impossible_costs_much_and_stays_finite() -> None:
    p, q = np.log([[0.5, 0.5]]), np.array([[0.0, -np.inf]])
    found = divergences(_top(p, 2), TopK(np.array([[0, -1]], np.int32), q.astype(np.float32), np.array([-np.inf])))
    assert 20 < found[0] < 60


def test_agreement_counts_likeliest_tokens_not_the_first_of_a_list() -> None:
    unsorted = TopK(
        np.array([[4, 9]], np.int32), np.log(np.array([[0.2, 0.7]], np.float32)), np.log(np.array([0.1], np.float32))
    )
    ranked = TopK(
        np.array([[9, 4]], np.int32), np.log(np.array([[0.7, 0.2]], np.float32)), np.log(np.array([0.1], np.float32))
    )
    found = fidelity([(unsorted, ranked)])
    assert found is not None and found.agreement == 1.0 and found.mean == pytest.approx(0.0, abs=1e-6)


def test_nothing_to_compare_is_not_zero() -> None:
    assert fidelity([]) is None
    with pytest.raises(ValueError, match="places"):
        divergences(_top(_logprobs(0, 2, 5), 5), _top(_logprobs(0, 3, 5), 5))
