"""Environments of the peers: one folder per file in `peers/`, made once, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from ponder.core.errors import ResourceError

PEERS = Path(__file__).parent / "peers"
PONDER = "ponder"
"""Not a peer: the environment that the benchmark itself runs in."""


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made when it is missing or its pins have changed.

    Raises:
        ResourceError: If its packages cannot be installed.
    """
    if peer == PONDER:
        return Path(sys.executable)
    pins = PEERS / f"{peer}.txt"
    digest = hashlib.blake2b(pins.read_bytes(), digest_size=6).hexdigest()
    folder = Path(os.environ.get("PONDER_PEERS", user_cache_path("ponder") / "peers")) / f"{peer}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "installed").exists():
            _install(pins, folder)
    return folder / "bin" / "python"


def _install(pins: Path, folder: Path) -> None:
    print(f"installing the peers of {pins.name} into {folder}", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    alone = pins.with_suffix(".no-deps.txt")
    commands = [[*pip, "-r", str(pins)]]
    commands += [[*pip, "--no-deps", "-r", str(alone)]] if alone.exists() else []
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ResourceError(
                f"pip could not install a peer: {done.stderr.strip()[-400:]}",
                where=" ".join(command),
                fix="check the network, or leave this peer out with --peers",
            )
    (folder / "installed").touch()
