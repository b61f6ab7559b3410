"""Writes that either happened or did not, also when the process is killed or the disk is full."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ponder.core.errors import ResourceError
from ponder.runs import files
from ponder.runs.files import atomic_folder, require_space, settle, sweep, write_atomic


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "new" / "deep" / "file", b"x")
        with atomic_folder(tmp_path / "new" / "model") as folder:
            (folder / "weights").write_bytes(b"w")
    finally:
        os.umask(before)
    assert mode(tmp_path / "new") == mode(tmp_path / "new" / "deep") == mode(tmp_path / "new" / "model") == 0o700
    assert mode(tmp_path / "new" / "deep" / "file") == mode(tmp_path / "new" / "model" / "weights") == 0o600


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"old")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "part").write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder") as folder:
        (folder / "part").write_bytes(b"new")
        raise RuntimeError
    with pytest.raises(TypeError):
        write_atomic(tmp_path / "file", "text")  # type: ignore[arg-type]
    assert (tmp_path / "file").read_bytes() == (tmp_path / "folder" / "part").read_bytes() == b"old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for content in (["a", "b"], ["c"]):
        with atomic_folder(tmp_path / "folder") as folder:
            for name in content:
                (folder / name).write_bytes(b"")
    assert [entry.name for entry in (tmp_path / "folder").iterdir()] == ["c"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_the_system_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    write_atomic(tmp_path / "file", b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(ResourceError) as caught:
        write_atomic(tmp_path / "file", b"x" * 2_000_000)
    assert caught.value.exit_code == 3 and "--out" in caught.value.fix and str(tmp_path) in caught.value.where
    if code in (errno.ENOSPC, errno.EDQUOT):
        assert "2.0 MB needed" in caught.value.what and "free" in caught.value.what
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_real_limit_on_file_size_keeps_the_old_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"old")
    code = (
        "import sys; from pathlib import Path; from ponder.runs.files import write_atomic\n"
        "from ponder.core.errors import ResourceError\n"
        "try: write_atomic(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except ResourceError as error: print(error.what); sys.exit(error.exit_code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": "src"},
    )
    assert (result.returncode, (tmp_path / "file").read_bytes()) == (3, b"old"), result.stderr
    assert "disk is full" in result.stdout


def test_native_writers_that_fill_the_disk_are_understood(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="full"), atomic_folder(tmp_path / "model"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")


def test_odd_paths(tmp_path: Path) -> None:
    write_atomic(tmp_path / "with space" / "ünïcode 思" / ".." / "file", b"1")
    write_atomic(tmp_path / ("n" * 250), b"2")  # the temporary name must not grow with the name
    assert (tmp_path / "with space" / "file").read_bytes() == b"1"
    with pytest.raises(ResourceError, match="too long"):
        write_atomic(tmp_path / ("n" * 300), b"")
    (tmp_path / "a file").write_bytes(b"")
    with pytest.raises(ResourceError):
        write_atomic(tmp_path / "a file" / "below", b"")


def test_too_little_space_is_refused_before_the_work(tmp_path: Path) -> None:
    require_space(tmp_path / "not there yet", 1)
    with pytest.raises(ResourceError, match="needed"):
        require_space(tmp_path, 10**18)


def test_leftovers_of_killed_writers(tmp_path: Path) -> None:
    (tmp_path / "deep" / ".tmp-folder").mkdir(parents=True)
    (tmp_path / ".tmp-file").write_bytes(b"half")
    (tmp_path / ".old-model").mkdir()  # killed between the two renames: the old one is the model
    (tmp_path / "deep" / ".old-data").mkdir()  # killed after them
    (tmp_path / "deep" / "data").mkdir()
    sweep(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "deep",
        "deep/data",
        "model",
    ]


SAVER = """
import sys
from pathlib import Path
from ponder.runs.files import atomic_folder
for version in range(int(sys.argv[2]), 10**9):
    with atomic_folder(Path(sys.argv[1])) as folder:
        for name in "abc":
            (folder / name).write_text(str(version))
    print(version, flush=True)
"""


def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_folder(tmp_path: Path) -> None:
    target, version, rng = tmp_path / "checkpoint", 0, random.Random(7)
    for _ in range(20):
        saver = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(target), str(version)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": "src"},
        )
        assert saver.stdout is not None
        confirmed = int(saver.stdout.readline())
        time.sleep(rng.random() * 0.02)
        saver.send_signal(signal.SIGKILL)
        confirmed = max([confirmed, *map(int, saver.stdout.read().split())])
        saver.wait()
        settle(tmp_path)
        versions = {(target / name).read_text() for name in "abc"}
        assert len(versions) == 1 and int(versions.pop()) >= confirmed
        version = confirmed + 1
    sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
