"""Run folders: done means done, and one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.runs.files import sweep
from ponder.runs.store import LOCK, Run, StageFolder


def test_a_stage_is_done_when_its_summary_can_be_read(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "run" / "stage")
    assert not folder.is_done() and not (tmp_path / "run").exists()  # asking creates nothing
    with pytest.raises(ResourceError):
        folder.summary()
    folder.journal("traces").append({"n": 1})
    assert folder.journal("traces") is folder.journal("traces")
    folder.finish({"loss": float("inf"), "n": 3})
    assert StageFolder(folder.path).is_done() and folder.summary() == {"loss": None, "n": 3}
    for damage in (b"", b'{"n": ', b"\0\0"):
        (folder.path / "summary.json").write_bytes(damage)
        assert not folder.is_done()


def test_json_files_come_back(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path)
    assert folder.read_json("state") is None
    folder.write_json("state", [1, {"a": "ü"}])
    assert folder.read_json("state") == folder.read_json("state.json") == [1, {"a": "ü"}]
    (tmp_path / "state.json").write_bytes(b"{")
    with pytest.raises(ResourceError, match="cannot be read"):
        folder.read_json("state")


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "", "/abs", "a" * 101, "a\n", "é"])
def test_a_stage_name_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with Run(tmp_path / "run") as run, pytest.raises(ConfigurationError):
        run.stage(name)


def test_a_link_cannot_lead_elsewhere(tmp_path: Path) -> None:
    with Run(tmp_path / "run") as run:
        (tmp_path / "run" / "stage").symlink_to(tmp_path)
        with pytest.raises(ConfigurationError, match="leads out"):
            run.stage("stage")


def test_a_linked_run_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with Run(tmp_path / "link") as run:
        run.stage("stage").write_json("x", 1)
    assert (tmp_path / "real" / "stage" / "x.json").exists()


HOLDER = """
import sys, time
from pathlib import Path
from ponder.runs.store import Run
run = Run(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_told_who_holds_the_run_and_takes_over_when_it_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "src"},
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(ResourceError) as caught:
            Run(tmp_path / "run")
        assert str(holder.pid) in caught.value.what and caught.value.exit_code == 3
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with Run(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).read_text().strip() == str(os.getpid())


def test_one_process_cannot_open_a_run_twice_but_can_reopen_it(tmp_path: Path) -> None:
    with Run(tmp_path), pytest.raises(ResourceError, match=str(os.getpid())):
        Run(tmp_path)
    with Run(tmp_path):
        pass


def test_opening_tidies_up(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        run.stage("a").write_json("x", 1)
    (tmp_path / "a" / ".tmp-1").write_bytes(b"half")
    with Run(tmp_path):
        assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["x.json"]


def test_an_error_while_opening_frees_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> None:
        raise ResourceError("no")

    monkeypatch.setattr("ponder.runs.store.sweep", fail)
    with pytest.raises(ResourceError):
        Run(tmp_path)
    monkeypatch.setattr("ponder.runs.store.sweep", sweep)
    Run(tmp_path).close()


def test_a_file_where_the_run_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(ResourceError) as caught:
        Run(tmp_path / "run")
    assert str(tmp_path / "run") in caught.value.where
