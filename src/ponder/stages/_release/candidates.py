"""Artefacts before they are let go: made one by one in a folder of their own, and let go when they passed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ponder.core.types import Record
from ponder.runs.files import disk_errors, make_folder, sync_folder
from ponder.runs.store import StageFolder

CANDIDATES, RELEASED, REFUSED = "candidates", "release", "refused"
MADE = "candidates"
"""File of the stage that says which artefacts are made."""


class Candidate(Record):
    """An artefact that is to be looked at."""

    form: str
    """As it was asked for: `gguf:q8_0`."""
    path: str
    """Below the stage's folder."""

    @property
    def label(self) -> str:
        """As a name of a file."""
        return self.form.replace(":", "-")


def made(folder: StageFolder, forms: Sequence[str], make: Callable[[str, Path], Path]) -> list[Candidate]:
    """Make what is not there yet.

    Args:
        folder: Of the stage.
        forms: As `forms_of` gives them.
        make: Writes a form into a folder, whole or not at all, and says where it lies.
    """
    known = {row["form"]: Candidate.model_validate(row) for row in folder.read_json(MADE) or []}
    found: list[Candidate] = []
    for form in forms:
        candidate = known.get(form)
        if candidate is None or not (folder.path / candidate.path).exists():
            place = folder.path / CANDIDATES / form.replace(":", "-")
            shutil.rmtree(place, ignore_errors=True)
            make_folder(place)
            path = make(form, place)
            candidate = Candidate(form=form, path=str(path.relative_to(folder.path)))
        found.append(candidate)
        folder.write_json(MADE, [one.model_dump() for one in found])
    return found


def made_before(folder: StageFolder, forms: Sequence[str]) -> bool:
    """Whether nothing is left to be made."""
    known = {row["form"]: row["path"] for row in folder.read_json(MADE) or []}
    return all(form in known and (folder.path / known[form]).exists() for form in forms)


def let_go(folder: StageFolder, candidate: Candidate, passed: bool) -> Path:
    """Put an artefact, and what was written beside it, to what may be shipped or to what was refused.

    The candidate itself stays, under a second name of the same data: it can be judged again without being made again.
    """
    source = (folder.path / candidate.path).parent
    place, other = (RELEASED, REFUSED) if passed else (REFUSED, RELEASED)
    target = folder.path / place
    make_folder(target)
    with disk_errors(target):
        for file in sorted(each for each in source.rglob("*") if each.is_file()):
            below = file.relative_to(source)
            (folder.path / other / below).unlink(missing_ok=True)
            make_folder((target / below).parent)
            _place(file, target / below)
        sync_folder(target)
    return target / Path(candidate.path).name


def digest_of_artefact(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        return _sha256(path)
    whole = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        whole.update(f"{file.relative_to(path).as_posix()}\0{_sha256(file)}\n".encode())
    return whole.hexdigest()


def bytes_of(path: Path) -> int:
    """Size of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(file.stat().st_size for file in files)


def _place(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the disk knows no links."""
    beside = target.with_name(f".{target.name}.new")
    beside.unlink(missing_ok=True)
    try:
        os.link(source, beside)
    except OSError:
        shutil.copy2(source, beside)
    os.replace(beside, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
