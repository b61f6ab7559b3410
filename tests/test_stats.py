from __future__ import annotations

import doctest
import itertools
import math

import numpy as np
import pytest

from ponder.measure import stats
from ponder.measure.quantiles import t_quantile
from ponder.measure.repeats import maj_at_k, pass_at_k
from ponder.measure.stats import (
    Difference,
    Interval,
    clustered_rate,
    mcnemar,
    paired_difference,
    sign_flip,
    wilson,
    wording,
)

EXAMPLES = 10
"""Docstrings with examples in the module; a helper that loses its example is noticed."""


def test_examples_in_docstrings_hold() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    with_examples = [test for test in finder.find(stats) if test.examples]
    assert len(with_examples) >= EXAMPLES - 2
    assert doctest.testmod(stats).failed == 0


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (8, 10), (10, 10), (250, 500), (1, 1)])
def test_wilson_bounds_solve_the_score_equation(successes: int, n: int) -> None:
    z = 1.959963984540054
    interval = wilson(successes, n)
    assert interval.low <= interval.estimate <= interval.high
    for bound in (interval.low, interval.high):
        if 0 < bound < 1:
            assert abs(successes / n - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n))


def test_wilson_of_nothing_says_nothing_and_refuses_nonsense() -> None:
    assert math.isnan(wilson(0, 0).estimate) and wilson(0, 0)[1:] == (0.0, 1.0)
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)


@pytest.mark.parametrize(
    ("freedom", "exact"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (30, 2.0423), (1000, 1.9623)]
)
def test_t_quantile_matches_the_printed_tables(freedom: int, exact: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("rate", [0.03, 0.3, 0.9])
def test_wilson_covers(rate: float) -> None:
    rng = np.random.default_rng(1)
    covered = [wilson(int(k), 120) for k in rng.binomial(120, rate, 3000)]
    assert np.mean([i.low <= rate <= i.high for i in covered]) >= 0.93


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (2.0, 1.0), (4.0, 0.4), (30.0, 30.0)])
@pytest.mark.parametrize("problems", [25, 150])
def test_clustered_rate_covers_when_problems_differ(a: float, b: float, problems: int) -> None:
    rng = np.random.default_rng(2)
    truth, hits, naive_hits = a / (a + b), 0, 0
    for _ in range(1000):
        correct = rng.binomial(8, rng.beta(a, b, problems))
        interval, naive = clustered_rate(correct, np.full(problems, 8)), wilson(correct.sum(), 8 * problems)
        hits += interval.low <= truth <= interval.high
        naive_hits += naive.low <= truth <= naive.high
    assert hits >= 930
    if a + b <= 3:
        assert naive_hits < 850, "samples of one problem are not independent: the naive interval must be seen to fail"


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.95])
def test_clustered_rate_covers_near_the_ends_with_many_samples_of_few_problems(rate: float) -> None:
    rng = np.random.default_rng(3)
    draws = rng.binomial(64, rng.beta(rate, 1 - rate, (500, 30)))
    intervals = [clustered_rate(correct, np.full(30, 64)) for correct in draws]
    assert np.mean([i.low <= rate <= i.high for i in intervals]) >= 0.94


def test_clustered_rate_at_its_edges() -> None:
    assert clustered_rate([0, 0, 0], [4, 4, 4]) == wilson(0, 3)
    assert clustered_rate([4, 4, 4], [4, 4, 4]) == wilson(3, 3)
    assert clustered_rate([1, 0, 0], [1, 1, 0]) == wilson(1, 2)
    assert math.isnan(clustered_rate([], []).estimate)
    assert clustered_rate([2], [4]) == wilson(0.5, 1)
    even = clustered_rate([2, 2, 2], [4, 4, 4])  # no variance between problems: at most the answers' own information
    assert even.low > 0 and even.high - even.low >= wilson(6, 12).high - wilson(6, 12).low


@pytest.mark.parametrize(("wins", "losses"), [(0.02, 0.02), (0.3, 0.1), (0.0, 0.05), (0.25, 0.25)])
@pytest.mark.parametrize("n", [30, 200])
def test_paired_difference_covers(wins: float, losses: float, n: int) -> None:
    rng = np.random.default_rng(3)
    truth, hits = wins - losses, 0
    for _ in range(800):
        draw = rng.random(n)
        gaps = (draw < wins).astype(float) - ((draw >= wins) & (draw < wins + losses))
        low, high = paired_difference(np.maximum(0, -gaps), np.maximum(0, gaps)).interval[1:]
        hits += low <= truth <= high
    assert hits >= 744


def test_paired_difference_is_symmetric_and_pairs_problems() -> None:
    rng = np.random.default_rng(4)
    a = rng.integers(0, 2, 80).astype(float)
    b = np.maximum(a, rng.integers(0, 2, 80))
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.interval.low == pytest.approx(-back.interval.high) and there.p == back.p
    unpaired = paired_difference(a, rng.permutation(b))
    assert there.interval.high - there.interval.low < unpaired.interval.high - unpaired.interval.low
    with pytest.raises(ValueError, match="paired"):
        paired_difference([0, 1], [1])


def test_identical_models_show_no_difference_but_no_certainty_either() -> None:
    same = paired_difference([1, 0, 1, 1], [1, 0, 1, 1])
    assert same.interval.estimate == 0 and same.interval.low < -0.1 and same.interval.high > 0.1 and same.p == 1
    nothing = paired_difference([], [])
    assert nothing.n == 0 and wording(nothing, "a", "b").startswith("not compared")


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (9, 2), (40, 25), (300, 200)])
def test_mcnemar_is_the_binomial_test(wins: int, losses: int) -> None:
    n = wins + losses
    exact = min(1.0, 2 * sum(math.comb(n, i) for i in range(min(wins, losses) + 1)) / 2**n)
    assert mcnemar(wins, losses) == pytest.approx(exact, abs=1e-9)


def test_sign_flip_enumerates_few_and_samples_many_alike() -> None:
    gaps = np.array([0.5, 0.25, -0.125, 0.5, 0.75, 0.25, -0.25, 0.5])
    signs = itertools.product((-1, 1), repeat=len(gaps))
    brute = np.mean([abs(np.dot(s, gaps)) >= abs(gaps.sum()) - 1e-12 for s in signs])
    assert sign_flip(gaps) == pytest.approx(brute)
    many = np.random.default_rng(5).choice([-0.5, 0.25, 0.5], 40)
    assert sign_flip(many, seed=1) == sign_flip(many, seed=1) != sign_flip(many, seed=2)
    assert sign_flip(many, seed=1) == pytest.approx(sign_flip(many, seed=2), abs=0.03)
    assert sign_flip(np.zeros(4)) == 1.0


def test_p_values_are_uniform_enough_under_the_null() -> None:
    rng = np.random.default_rng(6)
    small = sum(
        paired_difference(rng.integers(0, 5, 60) / 4, rng.integers(0, 5, 60) / 4, flips=199).p <= 0.05
        for _ in range(400)
    )
    assert 4 <= small <= 36


@pytest.mark.parametrize(("n", "c"), [(5, 0), (5, 1), (6, 3), (6, 6)])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_pass_at_k_counts_subsets(n: int, c: int, k: int) -> None:
    flags = [True] * c + [False] * (n - c)
    brute = np.mean([any(subset) for subset in itertools.combinations(flags, k)])
    assert pass_at_k([c], n, k)[0] == pytest.approx(brute)


def test_pass_at_k_refuses_too_few_answers() -> None:
    for arguments in (([1], 2, 3), ([3], 2, 1), ([1], 2, 0)):
        with pytest.raises(ValueError, match="pass@"):
            pass_at_k(*arguments)


def _majority_by_brute_force(answers: list[str | None], right: str, k: int) -> float:
    total = []
    for subset in itertools.combinations(answers, k):
        votes = {answer: subset.count(answer) for answer in subset if answer is not None}
        winners = [answer for answer, count in votes.items() if count == max(votes.values())]
        total.append((right in winners) / len(winners) if winners else 0.0)
    return float(np.mean(total))


@pytest.mark.parametrize("answers", ["aab", "abc", "aabbc-", "a---", "aabbccdd", "bbbba", "----"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_maj_at_k_counts_subsets_and_shares_ties(answers: str, k: int) -> None:
    votes = [None if letter == "-" else letter for letter in answers]
    assert maj_at_k(votes, [v == "a" for v in votes], k) == pytest.approx(_majority_by_brute_force(votes, "a", k))


def test_maj_at_k_accepts_several_right_answers_and_doubtful_ones() -> None:
    assert maj_at_k(["p", "q", "r"], [True, True, False], 3) == pytest.approx(2 / 3)
    assert maj_at_k(["p", "p"], [True, False], 2) == pytest.approx(0.5)
    assert maj_at_k([str(i % 7) for i in range(64)], [i % 7 == 0 for i in range(64)], 32) > 0
    with pytest.raises(ValueError, match="maj@"):
        maj_at_k(["a"], [True], 2)


def test_wording_says_who_is_higher() -> None:
    assert (
        wording(Difference(Interval(-0.2, -0.3, -0.1), 0.0, 9, 0.4, 0.6), "a", "b")
        == "a is higher by 20.0 points (10.0 to 30.0)"
    )
    assert wording(Difference(Interval(0.0, 0.0, 0.4), 1.0, 9, 0.4, 0.6), "a", "b") == "no difference shown"
