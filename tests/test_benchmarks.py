"""The benchmarks take turns, count right and fail loudly; how fast anything is, is not a test's business."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import environments, machine, sampling, shapes, turns  # noqa: E402
from benchmarks.turns import Side, compare, publish, table  # noqa: E402
from ponder.core.chat import Chat  # noqa: E402
from ponder.core.errors import PonderError  # noqa: E402
from ponder.core.types import Message  # noqa: E402
from ponder.models.load import load_model, load_tokenizer, resolve_model  # noqa: E402

CASE = {"model": str(resolve_model("pocket-base")), "texts": ["What is 3 + 4?"], "samples": 2, "new_tokens": 5}


def test_sides_take_turns_and_the_ratio_is_the_median_of_pairs(tmp_path: Path) -> None:
    sides = [Side("ponder", "ponder_sample", settings={"dtype": "float32"}),
             Side("other", "ponder_sample", settings={"dtype": "bfloat16"})]  # fmt: skip
    result = compare(sides, CASE, pairs=3)
    rows = result["sides"]
    assert [len(rows[side.name]["turns"]) for side in sides] == [3, 3]
    assert all(turn["count"] == 10 for row in rows.values() for turn in row["turns"])
    assert sorted(result["ratios"]["other"])[1] == result["ratio"] and result["best_peer"] == "other"
    assert rows["ponder"]["peak_bytes"] > 10**8
    assert "over other" in table("case", result, "tokens")
    publish("sampling", {"case": result}, tmp_path / "out" / "result.json")
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert written["cases"]["case"]["ratio"] == result["ratio"] and written["machine"]["cores"] >= 1


def test_the_best_peer_is_the_one_with_the_highest_rate() -> None:
    sides = [Side(name, "none") for name in ("ponder", "slow", "fast")]
    rates = {"ponder": (40.0, 50.0, 60.0), "slow": (1.0, 100.0, 2.0), "fast": (10.0, 10.0, 20.0)}
    reports = {name: [{"rate": rate, "peak_bytes": 1} for rate in row] for name, row in rates.items()}
    result = turns._result(sides, reports, {name: {} for name in rates})
    assert result["best_peer"] == "fast" and result["ratio"] == 4.0 and result["ratio_range"] == [3.0, 5.0]


def test_choices_of_a_peer_are_tried_one_by_one_and_the_best_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"slow": 5.0, "fast": 20.0, "middle": 10.0}

    def compared(sides: list[Side], case: object, pairs: int) -> dict:
        own, peer = sides
        rows = {own.name: 40.0, peer.name: rates[peer.name]}
        reports = {name: [{"rate": rate, "peak_bytes": 1}] for name, rate in rows.items()}
        return turns._result(sides, reports, {name: {} for name in rows})

    monkeypatch.setattr(turns, "compare", compared)
    result = turns.compare_choices(Side("ponder", "none"), [Side(name, "none") for name in rates], {}, pairs=1)
    assert result["best_peer"] == "fast" and result["ratio"] == 2.0
    assert list(result["ratios"]) == list(rates) and result["sides"].keys() == {"ponder", *rates}


def test_a_worker_that_dies_says_why() -> None:
    with pytest.raises(PonderError, match="no_such_worker"):
        compare([Side("broken", "no_such_worker")], {}, pairs=1)


def test_every_peer_is_pinned() -> None:
    for pins in environments.PEERS.glob("*.txt"):
        wanted = [line for line in pins.read_text().splitlines() if line and not line.startswith("#")]
        assert wanted and all("==" in line for line in wanted), pins


def test_prompts_have_the_length_that_is_asked_for() -> None:
    chat = Chat(load_tokenizer(resolve_model("pocket-base")))
    for text in sampling.prompts(chat, 3, 40):
        assert 34 <= len(chat.prompt((Message(role="user", content=text),))) <= 40


def test_shapes_have_the_parameters_that_are_claimed(tmp_path: Path) -> None:
    model = load_model(str(shapes.make("1m", tmp_path))).model
    count = sum({id(p): p.numel() for p in model.parameters()}.values())
    assert count == pytest.approx(shapes.PARAMETERS["1m"], rel=0.02)


def test_the_machine_is_described() -> None:
    assert {"processor", "cores", "memory_gib", "torch", "threads"} <= machine.describe().keys()
