"""Calls another package's converter in a process of its own, without network and without leaving anything behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ponder.core.errors import PonderError, ResourceError

SECONDS = 3600.0
"""After which a converter is given up."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "0",
}
TOLD = 800
"""Characters of a converter's last words."""


def call(command: Sequence[str], place: Path, what: str) -> None:
    """Run a converter to its end.

    Args:
        command: With its arguments.
        place: Folder that it may write into; it is also its working folder.
        what: It does, for the error.

    Raises:
        ResourceError: If it cannot be started, or takes too long.
        PonderError: If it fails.
    """
    environment = os.environ | OFFLINE | {"HF_HOME": str(place / "hub")}
    try:
        done = subprocess.run(
            list(command), cwd=place, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS
        )
    except OSError as error:
        raise ResourceError(f"{what} cannot be started: {error}", where=command[0]) from error
    except subprocess.TimeoutExpired as error:
        raise ResourceError(f"{what} took more than {SECONDS:.0f} s", where=command[0]) from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-TOLD:]
        raise PonderError(f"{what} failed ({done.returncode})", where=" ".join(command[:4]), fix=said)
