"""Running a recipe: what is done is skipped, what was begun is resumed, what changed is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fake_lab import calls, install
from ponder import runner
from ponder.core.errors import ConfigurationError, Interrupted, ResourceError
from ponder.recipe import Recipe, build_recipe, load_recipe
from ponder.runner import fresh_folder, plan_recipe, prepare, run_recipe
from ponder.runs import keys as keys_module
from ponder.runs.journal import read_rows
from ponder.runs.keys import fingerprint
from ponder.runs.log import Log
from ponder.runs.store import StageFolder

RUN = Path("run")


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)


def recipe(*, seed: int = 0, **stages: dict[str, Any]) -> Recipe:
    filled = {name: {"use": "lab.count", **fields} for name, fields in stages.items()}
    return build_recipe({"name": "x", "seed": seed, "stage": filled})


def run(made: Recipe) -> dict[str, Any]:
    return run_recipe(made, RUN, Log.silent())


def test_a_finished_run_is_left_alone() -> None:
    made = recipe(one={}, two={"source": "one"})
    first = run(made)
    assert first["two"]["source"] == str(RUN / "one" / "model")
    before = {path: path.stat().st_mtime_ns for path in RUN.rglob("*") if path.name != ".lock"}
    assert run(made) == first and calls(Path()) == ["one", "two"]
    assert before == {path: path.stat().st_mtime_ns for path in RUN.rglob("*") if path.name != ".lock"}


def test_a_finished_run_imports_no_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(one={})
    run(made)
    monkeypatch.setattr(runner, "resolve_stage", pytest.fail)
    run(made)


def test_the_run_says_what_it_was_made_from() -> None:
    run(recipe(seed=5, one={"rows": 2}))
    manifest = json.loads((RUN / "manifest.json").read_text())
    assert manifest["seed"] == 5 and manifest["packages"]["torch"] and manifest["ponder"]["digest"]
    resolved = load_recipe(RUN / "recipe.yaml")
    assert resolved.stages[0].fields["inner"] == {"rate": 0.1}
    assert prepare(resolved, RUN)[0].state == "done"  # the stored recipe is the recipe
    events = [row["event"] for row in read_rows(RUN / "events.jsonl")]
    assert events.count("done") == 1


def test_a_failed_stage_is_resumed_and_earlier_ones_are_kept() -> None:
    with pytest.raises(KeyError):
        run(recipe(one={}, two={"fail": "key", "rows": 2}))
    assert (RUN / "one" / "summary.json").exists() and not (RUN / "two" / "summary.json").exists()
    with pytest.raises(KeyError):
        run(recipe(one={}, two={"fail": "key", "rows": 2}))
    assert calls(Path()) == ["one", "two", "two"]
    assert len(list(read_rows(RUN / "two" / "rows.jsonl"))) == 2  # resumed, not repeated


def test_changing_a_stage_that_is_not_done_starts_it_over() -> None:
    with pytest.raises(KeyError):
        run(recipe(one={}, two={"fail": "key", "rows": 2}))
    summary = run(recipe(one={}, two={"rows": 4}))
    assert summary["two"]["begun"] == 0 and summary["two"]["rows"] == 4
    assert calls(Path()) == ["one", "two", "two"]


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (recipe(one={"rows": 4}, two={"source": "one"}), "stage.one.rows: 3 -> 4"),
        (recipe(one={"inner": {"rate": 0.5}}, two={"source": "one"}), "stage.one.inner.rate: 0.1 -> 0.5"),
        (recipe(one={}, two={"source": "one"}, seed=1), "seed: 0 -> 1"),
        (recipe(one={}, two={"sources": {"a": "one"}}), "stage.two.sources"),
    ],
)
def test_changing_what_is_done_is_refused_with_the_difference(changed: Recipe, difference: str) -> None:
    made = recipe(one={}, two={"source": "one"})
    run(made)
    with pytest.raises(ConfigurationError) as caught:
        run(changed)
    assert difference in caught.value.what and "--new" in caught.value.fix
    assert calls(Path()) == ["one", "two"]
    run(made)  # and nothing was harmed


def test_what_reads_a_changed_stage_is_changed_too() -> None:
    run(recipe(one={}, two={"source": "one"}))
    with pytest.raises(ConfigurationError, match="the stage one, which two reads"):
        run(recipe(one={"rows": 4}, two={"source": "one"}))


def test_spelling_a_default_out_changes_nothing() -> None:
    run(recipe(one={}))
    run(recipe(one={"rows": 3, "inner": {"rate": 0.1}}))
    assert calls(Path()) == ["one"]


def test_adding_a_stage_runs_only_that() -> None:
    run(recipe(one={}))
    run(recipe(one={}, two={"source": "one"}))
    assert calls(Path()) == ["one", "two"]


@pytest.mark.parametrize("done", [True, False])
def test_data_that_changed_under_a_run_stops_it(done: bool) -> None:
    Path("data.jsonl").write_text("1")
    fields = {"path": "data.jsonl"} | ({} if done else {"fail": "key"})
    if done:
        run(recipe(one=fields))
    else:
        with pytest.raises(KeyError):
            run(recipe(one=fields))
    Path("data.jsonl").write_text("2")
    with pytest.raises(ConfigurationError, match=r"the content of data\.jsonl"):
        run(recipe(one=fields))
    Path("data.jsonl").write_text("1")
    if done:
        run(recipe(one=fields))
    assert calls(Path()) == ["one"]


def test_a_model_folder_is_an_input_and_a_changed_plug_in_too() -> None:
    Path("my-model").mkdir()
    Path("my-model", "weights").write_bytes(b"1")
    made = recipe(one={"source": "my-model"})
    run(made)
    identity = StageFolder(RUN / "one").read_json("stage.json")
    assert {Path(path).name for path in identity["files"]} == {"my-model", "count.py"}
    Path("my-model", "weights").write_bytes(b"2")
    with pytest.raises(ConfigurationError, match="my-model"):
        run(made)
    Path("my-model", "weights").write_bytes(b"1")
    Path("lab", "count.py").write_text(Path("lab", "count.py").read_text() + "\n# changed\n")
    with pytest.raises(ConfigurationError, match=r"count\.py"):
        run(made)


def test_other_code_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(one={})
    run(made)
    other = {"version": "9.9", "digest": "0" * 32}
    monkeypatch.setattr("ponder._identity.code_version", lambda: other)
    with pytest.raises(ConfigurationError, match=r"Ponder itself: .* -> 9\.9"):
        run(made)


def test_large_files_are_not_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / ".hidden").write_bytes(b"y")
    known = fingerprint(tmp_path)
    monkeypatch.setattr(keys_module, "_file_digest", pytest.fail)
    assert fingerprint(tmp_path, known) == known


def test_a_damaged_summary_means_not_done() -> None:
    made = recipe(one={"rows": 3})
    run(made)
    (RUN / "one" / "summary.json").write_bytes(b"")
    assert run(made)["one"]["begun"] == 3


def test_a_folder_with_other_things_is_refused() -> None:
    RUN.mkdir()
    (RUN / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match=r"thesis\.tex"):
        run(recipe(one={}))
    assert [entry.name for entry in RUN.iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_a_resource_error_and_resumable() -> None:
    with pytest.raises(ResourceError, match="disk is full"):
        run(recipe(one={"fail": "full"}))
    assert len(list(read_rows(RUN / "one" / "rows.jsonl"))) == 3


def test_the_plan_costs_what_is_not_done_and_writes_nothing() -> None:
    made = recipe(one={}, two={"source": "one", "rows": 5})
    run(recipe(one={}))
    planned = plan_recipe(made, RUN, Log.silent())
    assert [item.state for item in planned] == ["done", "new"]
    assert planned[0].estimate is None and planned[1].estimate is not None and planned[1].estimate.rows == 5
    assert not (RUN / "two").exists()
    plan_recipe(made, Path("elsewhere"), Log.silent())
    assert not Path("elsewhere").exists()


def test_a_stage_of_its_own_seed() -> None:
    run(recipe(seed=1, one={}, two={"seed": 7}))
    seeds = [next(read_rows(RUN / name / "rows.jsonl"))["seed"] for name in ("one", "two")]
    assert seeds == [1, 7]


def test_fresh_folders() -> None:
    assert fresh_folder(RUN) == RUN
    RUN.mkdir()
    Path("run-2").mkdir()
    assert fresh_folder(RUN) == Path("run-3")


def test_a_signal_stops_between_rows_and_the_same_call_resumes() -> None:
    made = recipe(one={"rows": 30, "pause": 0.02})
    rows = RUN / "one" / "rows.jsonl"

    def interrupt() -> None:  # when a row is stored, and not after some time: a busy machine takes longer
        deadline = time.monotonic() + 60
        while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        run(made)
    thread.join()
    stored = len(list(read_rows(RUN / "one" / "rows.jsonl")))
    assert 0 < stored < 30
    assert run(made)["one"] == {"rows": 30, "begun": stored, "source": ""}


def test_killed_at_any_moment_the_run_ends_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("recipe.yaml").write_text(
        "name: x\nstage:\n"
        "  one: {use: lab.count, rows: 40, pause: 0.004}\n"
        "  two: {use: lab.count, rows: 40, pause: 0.004, source: one}\n"
    )
    source = str(Path(runner.__file__).parents[1])
    command = [sys.executable, "-m", "ponder", "run", "recipe.yaml", "--out", "run"]
    for attempt in range(5):
        process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": source},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not (RUN / "one").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.02 + 0.06 * attempt)
        process.kill()
        process.wait()
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": source}, capture_output=True).returncode == 0
    for name in ("one", "two"):
        numbers = [row["n"] for row in read_rows(RUN / name / "rows.jsonl")]
        assert numbers == list(range(40))
    assert not list(RUN.rglob(".tmp-*"))
