"""What comes in and what goes out: archives as data, pushes to a hub, and the files of a wheel."""

from __future__ import annotations

import ast
import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import ponder
from ponder.core.errors import DataError
from ponder.tasks.jsonl import Jsonl

PACKAGE = Path(ponder.__file__).parent
ROOT = PACKAGE.parents[1]
ROW = b'{"question": "1 + 1?", "answer": "2"}\n'


# -- archives --


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../escaped.jsonl", ROW)
        archive.writestr("bomb.jsonl", b"\0" * 10_000_000)


def tarred(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("rows.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        outside = tarfile.TarInfo("../escaped.jsonl")
        outside.size = len(ROW)
        archive.addfile(outside, io.BytesIO(ROW))


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(ROW * 100_000))


@pytest.mark.parametrize("name", ["data.zip", "data.jsonl", "data.parquet", "data.json", "data.csv"])
@pytest.mark.parametrize("make", [zipped, tarred, packed])
def test_an_archive_is_no_data_set_whatever_it_is_called(
    make: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    make(folder / name)
    with pytest.raises(DataError, match="archive") as caught:
        list(Jsonl(path=folder / name).problems("train", 10, 0))
    assert "unpack" in caught.value.fix
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [name], "nothing was unpacked"


# -- pushes --

PUSHES = {
    *("push_to_hub", "upload_file", "upload_folder", "upload_large_folder", "create_repo", "create_commit"),
    *("HfApi", "CommitScheduler", "HfFileSystem"),
}


def names_in(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.name.rpartition(".")[2])
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
    return found


def test_no_code_of_ponder_pushes_to_a_hub() -> None:
    pushing = {
        str(path.relative_to(PACKAGE)): sorted(names)
        for path in PACKAGE.rglob("*.py")
        if (names := names_in(ast.parse(path.read_text(encoding="utf-8"))) & PUSHES)
    }
    assert not pushing
    for seen in ("api.x.push_to_hub(a)", "m.save_pretrained(d, push_to_hub=True)", "from hub import HfApi"):
        assert names_in(ast.parse(seen)) & PUSHES


# -- the wheel --


def tracked() -> set[str]:
    try:
        told = subprocess.run(
            ["git", "ls-files", "-z", "src/ponder"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git tree here to compare the wheel with")
    return {name.removeprefix("src/") for name in told.stdout.split("\0") if name}


def test_a_wheel_holds_the_files_of_the_git_tree_and_no_others(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    expected = tracked()
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    told = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    packaged = {name for name in inside if ".dist-info/" not in name}
    assert packaged == expected
    assert not [name for name in inside if name.endswith((".pth", ".pyc", ".so", ".pkl", ".pt", ".bin"))]
    assert not [name for name, mode in modes.items() if mode & 0o170000 == 0o120000], "links"
