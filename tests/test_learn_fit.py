from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from _learn import random_tokens, text_example, tiny_model, trainer
from ponder.core.errors import ConfigurationError, Interrupted, ResourceError
from ponder.core.types import Json
from ponder.learn import checkpoint
from ponder.learn import fit as fitting
from ponder.learn.checkpoint import Checkpoints
from ponder.learn.fit import FitBatch, fit
from ponder.runs import files
from ponder.runs.log import Log
from ponder.runs.store import StageFolder

STEPS = 6


class Killed(BaseException):
    """Stands for a death that no handler sees."""


class Listener(Log):
    """Keeps what the user was told."""

    def __init__(self) -> None:
        super().__init__("silent")
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def batch_at(step: int) -> FitBatch:
    return FitBatch([text_example(random_tokens(n, 17 * step + n)) for n in (5, 12)], {"reward": step / 7})


def run(
    folder: Path,
    *,
    die_at: int | None = None,
    every: int = 2,
    key: str = "k",
    log: Log | None = None,
    steps: int = STEPS,
    optimizer: str = "adamw",
) -> Json:
    def examples_at(step: int) -> FitBatch:
        if step == die_at:
            raise Killed
        return batch_at(step)

    learner = trainer(tiny_model(layers=1), steps=STEPS, decay="cosine", optimizer=optimizer)
    return fit(
        learner,
        examples_at,
        steps=steps,
        folder=StageFolder(folder),
        log=log or Log.silent(),
        checkpoint_every=every,
        key=key,
    )


def result(folder: Path) -> tuple[bytes, str, bytes]:
    """Metrics, name of the newest checkpoint, its tensors."""
    newest = max((folder / "checkpoints").glob("[0-9]*"))
    return (folder / "metrics.jsonl").read_bytes(), newest.name, (newest / "state.safetensors").read_bytes()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_killed_before_each_step_the_run_ends_with_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    calm = run(tmp_path / "calm", optimizer=optimizer)
    for step in range(STEPS):
        folder = tmp_path / str(step)
        with pytest.raises(Killed):
            run(folder, die_at=step, optimizer=optimizer)
        assert run(folder, optimizer=optimizer) == calm
        assert result(folder) == result(tmp_path / "calm")


def test_killed_by_the_system_at_any_point_the_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    script = Path(__file__).with_name("_kill_loop.py")
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, tmp_path], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    *digests, lives = done.stdout.splitlines()
    assert set(digests) == {digests[0]}
    assert int(lives.split()[1]) >= 6


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = result(tmp_path)
    assert run(tmp_path, die_at=STEPS) == first
    assert result(tmp_path) == before
    rows = [json.loads(line) for line in before[0].splitlines()]
    assert [row["step"] for row in rows] == list(range(STEPS)) and rows[3]["reward"] == 3 / 7
    assert first["steps"] == STEPS and first["tokens"] == sum(row["tokens"] for row in rows)


def test_a_stop_is_answered_after_a_checkpoint_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "calm", every=100)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "stop_requested", lambda: True)
        with pytest.raises(Interrupted) as caught:
            run(tmp_path / "asked", every=100)
        assert caught.value.exit_code == 4
        assert [p.name for p in (tmp_path / "asked/checkpoints").iterdir()] == ["00000001"]
    run(tmp_path / "asked", every=100)
    assert result(tmp_path / "asked") == result(tmp_path / "calm")


def test_old_checkpoints_go_only_when_newer_ones_stand(tmp_path: Path) -> None:
    run(tmp_path, every=1)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["00000005", "00000006"]


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [_cut, _empty, _flip, _remove])
@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_by_name(tmp_path: Path, damage: Callable[[Path], None], name: str) -> None:
    run(tmp_path / "calm")
    with pytest.raises(Killed):
        run(tmp_path / "hurt", die_at=5)
    damage(tmp_path / "hurt/checkpoints/00000004" / name)
    log = Listener()
    run(tmp_path / "hurt", log=log)
    assert len(log.said) == 1 and "00000004" in log.said[0]
    assert result(tmp_path / "hurt") == result(tmp_path / "calm")


def test_when_every_checkpoint_is_damaged_nothing_is_overwritten(tmp_path: Path) -> None:
    run(tmp_path)
    for file in (tmp_path / "checkpoints").glob("*/manifest.json"):
        file.write_text("[]")
    with pytest.raises(ResourceError, match="every checkpoint"):
        run(tmp_path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path, key="one")
    with pytest.raises(ConfigurationError, match="other settings"):
        run(tmp_path, key="two")
    manifest = tmp_path / "checkpoints/00000006/manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(ConfigurationError, match="format 0"):
        run(tmp_path, key="one")


def test_metrics_that_were_cut_by_hand_are_noticed(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(ResourceError, match="rows of metrics"):
        run(tmp_path)


def test_other_things_in_the_folder_are_never_read(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, die_at=4)
    (tmp_path / "checkpoints/latest").symlink_to("nowhere")
    (tmp_path / "checkpoints/00000003.pt").write_bytes(b"\x80\x04N.")
    (tmp_path / "checkpoints/00000099").write_bytes(b"a file, not a folder")
    run(tmp_path)
    assert (tmp_path / "checkpoints/00000006").is_dir()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: (os error 28)")]
)
def test_a_full_disk_leaves_the_old_checkpoint_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run(tmp_path / "calm")
    with pytest.raises(Killed):
        run(tmp_path / "full", die_at=3)

    def half_written(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", half_written)
        with pytest.raises(ResourceError, match="disk is full") as caught:
            run(tmp_path / "full")
    assert caught.value.exit_code == 3
    assert [p.name for p in (tmp_path / "full/checkpoints").iterdir()] == ["00000002"]
    run(tmp_path / "full")
    assert result(tmp_path / "full") == result(tmp_path / "calm")


def test_a_run_whose_checkpoints_would_not_fit_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: 20_000)
    with pytest.raises(ResourceError, match="disk is full"):
        run(tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))


def test_checkpoints_hold_tensors_and_json_alone(tmp_path: Path) -> None:
    run(tmp_path)
    names = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {"metrics.jsonl", "state.safetensors", "manifest.json"}
    found = Checkpoints(tmp_path, "k", Log.silent()).newest()
    assert found is not None and found[0] == STEPS and found[1].counters["step_count"] == STEPS
