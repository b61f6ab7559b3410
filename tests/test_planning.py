"""The plan: figures with a range, what would be refused, nothing written; and the predicted beside the measured."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ponder._cli_plan import plan_code, plan_json, plan_text
from ponder.core.errors import ConfigurationError
from ponder.core.types import Json
from ponder.measure.costs.prices import Price, PriceSheet
from ponder.models.load import resolve_model
from ponder.recipe import Recipe, build_recipe, load_recipe, resolve_stage
from ponder.report.foreseen import cells, error, foreseen_rows
from ponder.report.ledgers import stage_rows
from ponder.runner import Planned, plan_recipe, run_recipe
from ponder.runs.log import Log
from ponder.runs.plan import PlanEntry, read_plan, recalled, remember, write_plan
from ponder.stages._estimates.pace import Pace, Timed, batches_seconds, fitted, longest
from ponder.stages._outlook import Bounds
from ponder.stages._stage import Estimate

RECIPES = Path(__file__).parent.parent / "recipes"
SKILLS: Json = {"tasks": [{"use": "arithmetic", "max_steps": 2}]}
GENERATE: Json = {"model": "pocket-base", **SKILLS, "problems": 24, "max_new_tokens": 12, "decontaminate": False}
DISTILL: Json = {
    "model": "pocket-base",
    "traces": "generate",
    "steps": 2,
    "examples_per_step": 4,
    "decontaminate": False,
}
MISSING_HERE = ("cannot be read", "memory are needed", "disk are needed", "environment variable", "package")
SERVED = "openai:m1@https://example.test/v1?key=PONDER_TEST_KEY"


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a cache of one's own, and no hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PONDER_TEST_KEY", raising=False)


def recipe(**stages: Json) -> Recipe:
    return build_recipe({"name": "x", "stage": stages})


def planned(made: Recipe, *, probe: bool = False, sheet: PriceSheet | None = None) -> dict[str, Estimate]:
    found = plan_recipe(made, Path("run"), Log.silent(), probe=probe, seconds=2.0, sheet=sheet or PriceSheet(()))
    assert not Path("run").exists()
    return {item.name: item.estimate for item in found if item.estimate is not None}


def refusals(estimate: Estimate) -> list[str]:
    return [each.what for each in estimate.refusals]


def one(**stage: Json) -> Estimate:
    return planned(recipe(**stage))[next(iter(stage))]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_resolves_and_is_planned_without_weights_and_network(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a plan fetches nothing")

    monkeypatch.setattr("socket.socket.connect", fetch)
    made = load_recipe(path)
    for choice in made.stages:
        resolve_stage(choice, made)
    found = planned(made)
    assert list(found) == [choice.name for choice in made.stages]
    for name, cost in found.items():
        assert cost.memory_bytes >= 0 and cost.seconds > 0 and cost.rows >= 0, name
        assert cost.low_seconds is not None and cost.high_seconds is not None
        assert cost.low_seconds <= cost.seconds <= cost.high_seconds, name
        assert all(any(words in what for words in MISSING_HERE) for what in refusals(cost)), (name, refusals(cost))


def test_stages_that_wait_for_others_take_their_rows_and_shapes_from_them() -> None:
    found = planned(
        recipe(
            generate=GENERATE,
            distill={**DISTILL, "steps": None, "epochs": 1.0},
            reinforce={"model": "distill", **SKILLS, "steps": 3, "problems_per_step": 4, "group_size": 2},
            evaluate={"models": {"before": "pocket-base", "after": "reinforce"}, **SKILLS, "limit": 10},
        )
    )
    assert found["generate"].rows == 24 and found["generate"].leaves.traces is not None
    expected = found["generate"].leaves.traces.expected
    assert found["distill"].rows == -(-expected // 4) * 4 and f"{expected:,.0f} traces" in found["distill"].note
    assert found["reinforce"].rows == 24 and "the shape of pocket-base" in found["reinforce"].note
    assert found["evaluate"].rows == 20 and not refusals(found["evaluate"])
    assert found["distill"].disk_bytes > found["distill"].left_bytes - 1 > 4 * 573_000


def test_a_trial_measures_and_writes_nothing() -> None:
    found = planned(recipe(generate=GENERATE, distill=DISTILL), probe=True)
    generate, distill = found["generate"], found["distill"]
    assert generate.probed and "drawn" in generate.note and generate.sampled_tokens
    assert 24 * 2 < generate.sampled_tokens <= 24 * 12 and generate.memory_bytes > 100_000_000
    assert generate.leaves.traces is not None and generate.leaves.traces.low <= generate.leaves.traces.high <= 24
    assert distill.seconds > 0 and not refusals(distill)
    assert sorted(path.name for path in Path().iterdir()) == []


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"generate": {**GENERATE, "model": "nobody"}}, "there is no model 'nobody'"),
        ({"generate": {**GENERATE, "model": "some/model-7b"}}, "neither the weights nor the shape"),
        ({"generate": {**GENERATE, "max_new_tokens": 2048}}, "do not fit the 2048 positions"),
        ({"generate": {**GENERATE, "tasks": [{"use": "gsm8k", "path": "absent.jsonl"}]}}, "cannot be read"),
        ({"generate": {**GENERATE, "tasks": ["llm_chess"]}}, "dialogue"),
        ({"generate": {**GENERATE, "model": SERVED}}, "PONDER_TEST_KEY is not set"),
        ({"distill": {**DISTILL, "traces": "absent.jsonl"}}, "no traces here"),
        ({"distill": {**DISTILL, "optimisation": {"lr": 0}}}, "teaches nothing"),
        ({"reinforce": {"model": "pocket-base", **SKILLS, "group_size": 1}}, "nothing to compare"),
        ({"reinforce": {"model": "pocket-base", **SKILLS, "rewards": {"correct": 0.0}}}, "no reward has a weight"),
        ({"reinforce": {"model": "pocket-base", **SKILLS, "objective": {"use": "absent"}}}, "no objective"),
        ({"reinforce": {"model": SERVED, **SKILLS}}, "only a model of this machine"),
        ({"evaluate": {"models": ["pocket-base"], **SKILLS, "splits": ["absent"]}}, "no split 'absent'"),
        ({"distill": {**DISTILL, "model": "Qwen/Qwen3-8B"}}, "memory are needed"),
    ],
)
def test_what_a_run_would_stop_for_is_told_before(stage: dict[str, Json], says: str) -> None:
    estimate = one(**stage)
    found = [each for each in estimate.refusals if says in each.what]
    assert found and found[0].exit_code in (2, 3)


def test_an_unsafe_folder_is_refused() -> None:
    Path("bad").mkdir()
    Path("bad/config.json").write_text(json.dumps({"auto_map": {"AutoModel": "x.Y"}}))
    assert any("code of its own" in what for what in refusals(one(generate={**GENERATE, "model": "bad"})))


def test_a_switched_off_hub_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "the hub is switched off" in refusals(one(generate={**GENERATE, "model": "Qwen/Qwen3-0.6B"}))[0]


def test_a_published_shape_is_planned_and_says_that_its_weights_are_not_here() -> None:
    found = one(generate={**GENERATE, "model": "Qwen/Qwen3-0.6B"})
    assert "weights not here: 1.2 GB would be fetched" in found.note and "config.json" in found.note
    assert found.memory_bytes > 4 * 596_000_000


def test_served_models_cost_what_the_sheet_says_or_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_TEST_KEY", "x")
    price = Price(model="m1", input=1.0, output=10.0, currency="EUR", date=date(2026, 1, 1), source="bill")
    made = recipe(generate={**GENERATE, "model": SERVED, "max_new_tokens": 500})
    unknown = planned(made)["generate"]
    assert unknown.money is None and not refusals(unknown)
    known = planned(made, sheet=PriceSheet((), (price,)))["generate"]
    assert known.money is not None and known.currency == "EUR" and known.money_covers == "served tokens"
    assert 0 < known.money.low < known.money.expected < known.money.high
    assert known.sampled_tokens is not None and known.prompt_tokens is not None
    assert known.money.expected == pytest.approx((known.prompt_tokens + 10 * known.sampled_tokens) / 1e6, rel=0.01)


def test_this_machine_costs_what_its_own_row_says() -> None:
    row = Price(model="machine", per_hour=3.6, date=date(2026, 1, 1), source="bill")
    found = planned(recipe(generate=GENERATE), sheet=PriceSheet((), (row,)))["generate"]
    assert found.money is not None and found.money.expected == pytest.approx(found.seconds / 1000)
    assert found.money_covers == "machine hours"


def test_traces_that_are_here_are_counted() -> None:
    run_recipe(recipe(generate={**GENERATE, "model": "solutions", "problems": 10}), Path("made"), Log.silent())
    distill = {**DISTILL, "traces": "made/generate", "steps": None, "epochs": 2.0, "examples_per_step": 5}
    found = one(distill=distill)
    assert found.rows == 20 and "10 of 10 traces can be learnt" in found.note


def test_a_pace_is_found_again_from_runs_of_it() -> None:
    pace = Pace(1e-5, 2e-3, 3e-5)
    counts = [(2000, 1, 20), (2000, 60, 700), (25_000, 90, 9000)]
    runs = [Timed(*each, pace.seconds(*each)) for each in counts]
    found = fitted(runs)
    assert (found.prompt, found.step, found.token) == pytest.approx((1e-5, 2e-3, 3e-5), rel=1e-6)
    assert fitted(runs[:1]).seconds(*counts[0]) == pytest.approx(runs[0].seconds)


def test_a_batch_takes_as_many_steps_as_its_longest_answer() -> None:
    lengths = [10] * 99 + [100]
    assert longest(lengths, 1) < 40 and longest(lengths, 500) == 100
    assert longest([10], 5120) == 100  # no more than 512 are alive at once
    pace = Pace(0.0, 1.0, 0.0)
    assert batches_seconds(pace, 0.0, [7], 25, 10) == 21  # two whole calls and what is left
    assert batches_seconds(pace, 0.0, [], 25, 10) == 0.0


def test_bounds() -> None:
    assert Bounds.around(10.0, 0.2) == Bounds(8.0, 10.0, 12.0)
    assert Bounds.around(10.0, 1.5) == Bounds(4.0, 10.0, 25.0)


ENTRY = PlanEntry(
    stage="generate",
    key="k",
    seconds=10.0,
    low_seconds=8.0,
    high_seconds=12.0,
    peak_memory_bytes=500,
    tokens={"prompt": 90},
    disk_bytes=1000,
)


def test_a_run_keeps_what_was_expected_of_it() -> None:
    made = recipe(generate={**GENERATE, "model": "solutions", "problems": 6})
    before = plan_recipe(made, Path("run"), Log.silent())
    remember([replace_key(before[0])])
    run_recipe(made, Path("run"), Log.silent())
    kept = read_plan(Path("run"))
    assert [(each.stage, each.seconds) for each in kept] == [("generate", 123.0)]
    stamp = os.stat("run/plan.json").st_mtime_ns
    run_recipe(made, Path("run"), Log.silent())
    assert os.stat("run/plan.json").st_mtime_ns == stamp
    rows = foreseen_rows(Path("run"), stage_rows(Path("run"), PriceSheet(())))
    seconds = rows[0]["figures"]["seconds"]
    assert seconds["predicted"] == 123.0 and 0 < seconds["measured"] < 60 and seconds["inside"] is False
    assert "2 min 03 s / " in cells(rows[0])[1]


def replace_key(item: Planned) -> PlanEntry:
    return ENTRY.model_copy(update={"key": item.key, "seconds": 123.0, "low_seconds": 100.0, "high_seconds": 200.0})


def test_a_run_without_a_plan_computes_one_and_a_damaged_plan_is_none() -> None:
    made = recipe(generate={**GENERATE, "model": "solutions", "problems": 6})
    run_recipe(made, Path("run"), Log.silent())
    assert [entry.probed for entry in read_plan(Path("run"))] == [False]
    Path("run/plan.json").write_text('{"stages": [{"stage": 1}]}')
    assert read_plan(Path("run")) == [] and foreseen_rows(Path("run"), []) == []
    assert recalled("nothing") is None


def test_predicted_beside_measured() -> None:
    Path("run/generate").mkdir(parents=True)
    Path("run/generate/rows.jsonl").write_bytes(b"x" * 800)
    write_plan(Path("run"), [ENTRY])
    spent: Json = {
        "stage": "generate",
        "state": "done",
        "seconds": 9.0,
        "peak_memory_bytes": 400,
        "tokens": {"prompt": 100, "sampled": 5, "trained": 0},
        "money": None,
        "currency": None,
    }
    row = foreseen_rows(Path("run"), [spent])[0]
    figures = row["figures"]
    assert figures["seconds"]["inside"] and figures["seconds"]["error"] == pytest.approx(1 / 9)
    assert [figures[name]["error"] for name in ("peak_memory_bytes", "prompt", "sampled", "disk_bytes")] == [
        pytest.approx(0.25),
        pytest.approx(-0.1),
        None,
        pytest.approx(0.25),
    ]
    assert cells(row) == (
        "generate",
        "10.0 s / 9.0 s (+11 %)",
        "500 B / 400 B (+25 %)",
        "90 / 100 (-10 %)",
        "? / 5",
        "-",
        "1.0 kB / 800 B (+25 %)",
        "-",
    )
    assert error(3.0, 0.0) is None


def test_a_stage_that_cannot_be_estimated_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any) -> Any:
        raise ConfigurationError("not so", fix="else")

    monkeypatch.setattr("ponder.stages.generate.estimate_generate", stop)
    found = one(generate=GENERATE)
    assert refusals(found) == ["not so"] and replace(found).seconds == 0.0


def test_the_command_tells_the_figures_and_the_refusals() -> None:
    made = recipe(generate=GENERATE, distill={**DISTILL, "model": "Qwen/Qwen3-8B"})
    found = plan_recipe(made, Path("run"), Log.silent())
    assert plan_code(found) == 3 and plan_code(found[:1]) == 0
    text, told = plan_text(found, Path("run")), plan_json(found, Path("run"))
    assert "would be refused, distill: " in text and "unknown" in text and "from" in text.splitlines()[0]
    assert told["stages"][0]["money"] is None and told["refusals"][0]["stage"] == "distill"
    assert told["total"]["seconds"] == pytest.approx(sum(row["seconds"] for row in told["stages"]), abs=0.2)
    json.dumps(told, allow_nan=False)


def test_an_exported_model_is_planned_for_what_it_weighs(tmp_path: Path) -> None:
    exporting = pytest.importorskip("ponder.exporters.gguf")
    path = exporting.Gguf(form="q8_0")(resolve_model("pocket-base"), tmp_path)
    stage = {"tasks": [{"use": "skills", "max_steps": 2}], "limit": 2, "max_new_tokens": 8, "models": [str(path)]}
    made = build_recipe({"name": "x", "stage": {"evaluate": stage}})
    found = planned(made)["evaluate"]
    assert not found.refusals and found.memory_bytes >= path.stat().st_size
    path.write_bytes(path.read_bytes()[:3000])
    (refusal,) = planned(made)["evaluate"].refusals
    assert "damaged or hostile" in refusal.what
