"""Which model to deploy: within the limits the most accurate, of equals the cheapest, and the nearest miss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from ponder.core.errors import ConfigurationError
from ponder.report.charts import Mark, scatter
from ponder.report.deploy import Candidate, choose, deploy_rows
from ponder.report.limits import Limits, limits_from


def candidate(label: str, accuracy: float | None, **cost: Any) -> Candidate:
    bounds = {"low": None, "high": None} if accuracy is None else {"low": accuracy - 0.04, "high": accuracy + 0.04}
    row = {"model": label, "accuracy": accuracy, "n": 500, "withheld": False, "split": "test", **bounds}
    return Candidate(label, {**row, "task": None, "steps": None}, {"model": label, "currency": None, **cost})


SMALL = candidate("small", 0.60, peak_memory_bytes=1e9, seconds_per_answer=0.1, joules_per_answer=1.0)
MIDDLE = candidate("middle", 0.80, peak_memory_bytes=2e9, seconds_per_answer=0.2, joules_per_answer=2.0)
LARGE = candidate("large", 0.82, peak_memory_bytes=4e9, seconds_per_answer=0.8, joules_per_answer=8.0)
MODELS = (SMALL, MIDDLE, LARGE)


def shown(*pairs: tuple[str, str]) -> Any:
    """A comparison that tells exactly these pairs apart."""
    apart = {frozenset(pair) for pair in pairs}

    def compare(one: str, others: Sequence[str]) -> dict[str, Any]:
        return {other: {"shown": frozenset((one, other)) in apart} for other in others}

    return compare


ALL = shown(("small", "middle"), ("small", "large"), ("middle", "large"))


def test_the_most_accurate_that_fits() -> None:
    found = choose(MODELS, Limits(memory=3_000_000_000), ALL)
    assert found["deploy"] == "middle" and found["fits"] == ["small", "middle"]
    assert found["misses"]["large"][0] == {
        "limit": "memory",
        "allowed": 3_000_000_000,
        "figure": 4e9,
        "ratio": pytest.approx(4 / 3),
    }
    assert "80.0 % (76.0 to 84.0), 2.0 GB of 3.0 GB" in found["why"] and "most accurate of 2" in found["why"]


def test_equals_go_to_the_cheaper_one() -> None:
    apart = shown(("small", "middle"), ("small", "large"))
    found = choose(MODELS, Limits(seconds=1), apart)
    assert found["deploy"] == "middle" and found["equals"] == ["middle"]
    assert "500 problems do not tell apart" in found["why"] and "8 J where middle takes 2 J (25% of it)" in found["why"]
    assert choose(MODELS, Limits(seconds=1), ALL)["deploy"] == "large"


def test_an_equal_that_is_hardly_cheaper_changes_nothing() -> None:
    twin = candidate("twin", 0.81, peak_memory_bytes=4e9, seconds_per_answer=0.79, joules_per_answer=7.9)
    found = choose((twin, LARGE), Limits(seconds=1), shown())
    assert found["deploy"] == "large" and "not told apart from twin" in found["why"]


def test_the_nearest_miss_is_named_when_nothing_fits() -> None:
    found = choose(MODELS, Limits(memory=500_000_000, joules=0.9), ALL)
    assert found["deploy"] is None and found["fits"] == []
    assert "nothing fits. Nearest: small" in found["why"]
    assert "1.0 GB where 500.0 MB is allowed (2.00 times); 1 J where 0.9 J are allowed (1.11 times)" in found["why"]


def test_what_is_not_known_never_fits() -> None:
    found = choose(MODELS, Limits(money=0.1), ALL)
    assert found["deploy"] is None and "not measured or has no price" in found["why"]
    assert found["misses"]["small"][0]["ratio"] is None
    unjudged = candidate("unjudged", None, peak_memory_bytes=1.0)
    found = choose((unjudged,), Limits(memory=10), ALL)
    assert found["left_out"] == ["unjudged"] and "no model has an accuracy" in found["why"]


def test_money_in_two_currencies_is_not_compared() -> None:
    one = candidate("one", 0.8, money_per_answer=1.0, seconds_per_answer=2.0)
    two = candidate("two", 0.8, money_per_answer=0.1, seconds_per_answer=1.0)
    one.cost["currency"], two.cost["currency"] = "USD", "EUR"
    found = choose((one, two), Limits(money=5), shown())
    assert found["deploy"] == "two" and "takes 2 s where two takes 1 s" in found["why"]


def test_a_row_for_every_split_and_none_without_limits() -> None:
    rows = [each.row for each in MODELS] + [{**SMALL.row, "split": "longer"}]
    costs = [each.cost for each in MODELS]
    assert deploy_rows(rows, costs, Limits(), lambda split: ALL) == []
    found = deploy_rows(rows, costs, Limits(memory=9_000_000_000), lambda split: ALL)
    assert [(row["split"], row["deploy"]) for row in found] == [("test", "large"), ("longer", "small")]
    assert "the only one that fits" in found[1]["why"]


@pytest.mark.parametrize(
    ("text", "size"), [("2 GB", 2 * 10**9), ("1.5GiB", 3 * 2**29), ("512 MB", 512 * 10**6), (7, 7)]
)
def test_memory_is_written_for_people(text: object, size: int) -> None:
    assert Limits.model_validate({"memory": text}).bounds == {"memory": size}


@pytest.mark.parametrize("text", ["two", "2 XB", "", "-1 GB", "0 GB", -3])
def test_what_is_no_memory_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate({"memory": text})


def test_flags_become_limits() -> None:
    assert limits_from(None, None, None, None) is None
    assert limits_from("1 kB", 2.0, None, None) == Limits(memory="1 kB", seconds=2.0)
    with pytest.raises(ConfigurationError, match="greater than 0"):
        limits_from(None, -1.0, None, None)


def test_a_limit_is_drawn_where_it_is() -> None:
    marks = [Mark("a", 0.5, 0.4, 0.6, x=1.0), Mark("b", 0.7, 0.6, 0.8, x=10.0)]
    assert "beyond the limit of 5 s" in scatter("t", marks, "seconds", "s", (), 5.0)
    assert "beyond" not in scatter("t", marks, "seconds", "s")
