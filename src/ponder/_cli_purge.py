"""What `ponder purge` prints and does."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from ponder.core.errors import ConfigurationError
from ponder.runner import MANIFEST
from ponder.runs.files import megabytes
from ponder.runs.purge import Finding, find, remove, trained, unfinished
from ponder.runs.store import Run

UNITS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


def purge(run: Path, older_than: str | None, subjects: Sequence[str], *, yes: bool, as_json: bool) -> None:
    """List what holds stored texts of a run, and with `yes` remove it.

    Raises:
        ConfigurationError: If this is no run, a duration cannot be read, or a stage would draw the rows again.
        ResourceError: If another process is using the run.
    """
    if not (run / MANIFEST).is_file():
        raise ConfigurationError("this is not the folder of a run", where=str(run), fix="name the folder of --out")
    if not all(each.strip() for each in subjects):
        raise ConfigurationError("a subject has no name", where="--subject")
    before = None if older_than is None else time.time() - seconds_of(older_than)
    with Run(run):
        found = find(run, set(subjects), before)
        if yes and found:
            _refuse_unfinished(run, found, subjects)
            remove(run, found, set(subjects))
    _tell(run, found, trained(run), yes=yes, as_json=as_json)


def seconds_of(text: str) -> float:
    """Seconds of `30d`, `12h` or `2w`.

    Raises:
        ConfigurationError: If it is none of these.

    Example:
        >>> seconds_of("2d")
        172800.0
    """
    read = re.fullmatch(r"(\d{1,6})([hdw])", text.strip())
    if read is None:
        raise ConfigurationError(f"{text!r} is no duration", where="--older-than", fix="write 12h, 30d or 8w")
    return int(read[1]) * UNITS[read[2]]


def _refuse_unfinished(run: Path, found: Sequence[Finding], subjects: Sequence[str]) -> None:
    if subjects and (names := unfinished(run, found)):
        raise ConfigurationError(
            f"the stage {names[0]!r} is not done: when it goes on, it would ask about this subject again",
            where=str(run / names[0]),
            fix="take the subject out of the data and run to the end first, or purge the whole run",
        )


def _tell(run: Path, found: Sequence[Finding], models: Sequence[str], *, yes: bool, as_json: bool) -> None:
    if as_json:
        rows = [{"path": str(each.path.relative_to(run)), "rows": each.rows, "bytes": each.bytes} for each in found]
        print(json.dumps({"run": str(run), "removed": yes, "found": rows, "trained": list(models)}))
        return
    for each in found:
        what = "whole file" if each.rows is None else f"{each.rows:,} rows"
        print(f"{each.path.relative_to(run)}  {what}  {megabytes(each.bytes)}")
    if not found:
        print("nothing here is to be removed")
    else:
        print(f"{len(found)} files " + ("purged" if yes else "would be purged; add --yes to do it"))
    if models:
        print(f"not removed: what the weights of {', '.join(models)} remember; train again without it, or delete them")
    print("not removed: your own data files, exports elsewhere, backups, and what a served model's provider keeps")
