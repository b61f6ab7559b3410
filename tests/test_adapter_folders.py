"""A folder of an adapter wherever a model is named: planned, sized, hashed and exported as the model that it gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from _learn import tiny_model
from ponder.core.errors import ConfigurationError
from ponder.core.types import Json
from ponder.exporters.gguf import Gguf
from ponder.learn.optimiser import Optimisation
from ponder.measure.costs.prices import PriceSheet
from ponder.measure.resources import footprint
from ponder.models.adapters import CONFIG, PICKLE, WEIGHTS, save_adapter
from ponder.models.catalogue import config_of, counted, published
from ponder.models.load import lasting_name, load_model, load_tokenizer, resolve_model
from ponder.models.lora import Adapter, Lora, sizes_of
from ponder.recipe import build_recipe
from ponder.runner import plan_recipe
from ponder.runs.log import Log
from ponder.stages._answering import _footprint
from ponder.stages._estimates.machine import held_by_adapter, held_by_weights
from ponder.stages._stage import Estimate
from ponder.stages.pack import weights_digest

EVALUATE: Json = {"tasks": [{"use": "skills", "max_steps": 2}], "limit": 2, "max_new_tokens": 8}


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a cache of one's own, and no hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """One on pocket-base."""
    lora = Lora(load_model("pocket-base", device="cpu").model, Adapter(rank=2, targets=("q_proj",)))
    save_adapter(lora, "pocket-base", tmp_path / "adapter")
    return tmp_path / "adapter"


def rebased(folder: Path, base: str) -> Path:
    declared = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(declared | {"base_model_name_or_path": base}))
    return folder


def planned(name: str, stage: Json, *, probe: bool = False) -> Estimate:
    made = build_recipe({"name": "x", "stage": {name: stage}})
    (item,) = plan_recipe(made, Path("run"), Log.silent(), probe=probe, seconds=0.5, sheet=PriceSheet(()))
    assert item.estimate is not None
    return item.estimate


def test_it_is_planned_as_the_model_it_gives(adapter: Path) -> None:
    mine, base = (planned("evaluate", {**EVALUATE, "models": [name]}) for name in (str(adapter), "pocket-base"))
    assert not mine.refusals and mine.memory_bytes == base.memory_bytes
    assert not planned("evaluate", {**EVALUATE, "models": [str(adapter)]}, probe=True).refusals


def _pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / PICKLE).write_bytes(b"\x80\x04")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_pickled, "pickle"),
        (lambda folder: rebased(folder, "no-such-model"), "no model"),
        (lambda folder: rebased(folder, str(folder)), "an adapter too"),
        (lambda folder: rebased(folder, "nobody/nothing"), "switched off"),
    ],
)
def test_a_plan_refuses_what_a_run_would(adapter: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(adapter)
    found = planned("evaluate", {**EVALUATE, "models": [str(adapter)]}).refusals
    assert any(says in refusal.what for refusal in found), found


def test_its_size_is_that_of_the_model_and_its_own_file(adapter: Path) -> None:
    base, found = footprint(resolve_model("pocket-base")), _footprint(str(adapter))
    assert found.parameters == base.parameters
    assert found.disk_bytes == base.disk_bytes + footprint(adapter).disk_bytes
    assert _footprint("pocket-base") == base


def test_the_hash_of_a_teacher_knows_its_base(adapter: Path) -> None:
    first = weights_digest(str(adapter))
    assert first not in ("", weights_digest("pocket-base"))
    assert first == weights_digest(str(adapter)) != weights_digest(str(rebased(adapter, "pocket-teacher")))


def test_an_exporter_says_how_to_make_it_whole_and_its_tokenizer_is_that_of_its_base(adapter: Path) -> None:
    with pytest.raises(ConfigurationError, match="whole model is needed") as caught:
        Gguf()(adapter, adapter.parent / "out")
    assert "merge" in caught.value.fix
    assert len(load_tokenizer(adapter)) == len(load_tokenizer(resolve_model("pocket-base")))


def test_the_name_of_a_base_means_the_same_from_any_folder(tmp_path: Path) -> None:
    for name in ("pocket-base", "mine"):
        (tmp_path / name).mkdir()
    assert lasting_name("pocket-base") == "pocket-base", "a folder of a shipped model's name hides nothing"
    assert lasting_name("mine") == str((tmp_path / "mine").resolve())
    assert lasting_name("elsewhere/model") == "elsewhere/model"


def test_sizes_are_counted_without_weights() -> None:
    model = tiny_model()
    found = sizes_of(model, Adapter(rank=4))
    lora = Lora(model, Adapter(rank=4))
    assert found.factors == sum(p.numel() for p in lora.parameters.values())
    assert found.adapted == sum(layer.base.numel() for layer in lora.layers.values())
    assert found.at_once == (4 + 2 + 2 + 4) * 16 * 32, "queries, keys, values and output of one block: its larger part"
    known = published("Qwen/Qwen3-0.6B")
    assert known is not None
    config = config_of(known)
    small, large = held_by_adapter(config, Adapter()), held_by_weights(counted(config), Optimisation())
    assert small.state < large.state / 30 and small.steps < large.steps / 2 and small.end > small.steps


def test_a_plan_counts_an_adapters_checkpoints_and_memory_and_refuses_its_targets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")  # a plan asks no hub, but says when a run could not
    stage = {"model": "Qwen/Qwen3-0.6B", "tasks": EVALUATE["tasks"], "steps": 20, "optimisation": {"lr": 1e-4}}
    whole, adapted = (planned("reinforce", stage | more) for more in ({}, {"adapter": {}}))
    assert adapted.disk_bytes < whole.disk_bytes / 2 and adapted.memory_bytes < whole.memory_bytes
    wrong = planned("reinforce", stage | {"adapter": {"targets": ["absent"]}})
    assert any("no linear layer is called 'absent'" in refusal.what for refusal in wrong.refusals)
