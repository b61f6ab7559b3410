"""Checkpoints: safetensors with a manifest of checksums, complete or absent.

A checkpoint is a folder `checkpoints/00000042`. It appears by one rename, older ones are removed only after
that, and the newest one whose checksums hold is loaded. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.types import Json
from ponder.learn.train import TrainerState
from ponder.runs.files import require_space
from ponder.runs.log import Log
from ponder.runs.store import atomic_folder

FOLDER = "checkpoints"
TENSORS = "state.safetensors"
MANIFEST = "manifest.json"
FORMAT = 1
"""Raised when the meaning of a manifest changes."""
KEEP = 2
"""Checkpoints kept: the newest, and one to fall back on."""
CHUNK_BYTES = 1 << 22


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        folder: The stage's folder.
        key: What the run is; a checkpoint of another key is refused.
        log: Told of checkpoints that had to be passed over.
    """

    def __init__(self, folder: Path, key: str, log: Log) -> None:
        """Look at nothing yet."""
        self.folder, self.log = folder / FOLDER, log
        self.key = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()

    def require_space(self, state: TrainerState) -> None:
        """Refuse to start what could not be saved: all that is kept, and one more being written.

        Raises:
            ResourceError: If the disk cannot hold them.
        """
        size = sum(tensor.nbytes for tensor in state.tensors.values())
        held = len(self._candidates())
        require_space(self.folder, size * max(1, KEEP + 1 - held))

    def save(self, step: int, state: TrainerState) -> None:
        """Write the checkpoint of a step, then remove those no longer needed.

        Raises:
            ResourceError: If the disk is full or not writable; the older checkpoints are then untouched.
        """
        with atomic_folder(self.folder / f"{step:08d}") as folder:
            save_file(state.tensors, folder / TENSORS)
            manifest = {
                "format": FORMAT,
                "key": self.key,
                "step": step,
                "counters": state.counters,
                "files": {TENSORS: _digest(folder / TENSORS)},
            }
            text = json.dumps(manifest, indent=2, sort_keys=True)
            (folder / MANIFEST).write_text(f"{text}\n", encoding="utf-8")
        for old in self._candidates()[KEEP:]:
            shutil.rmtree(old, ignore_errors=True)  # a checkpoint too many does no harm

    def newest(self) -> tuple[int, TrainerState] | None:
        """Step and state of the newest complete checkpoint; None when there is none at all.

        Raises:
            ConfigurationError: If it belongs to another run, or to another version of Ponder.
            ResourceError: If there are checkpoints and every one is damaged.
        """
        candidates = self._candidates()
        for folder in candidates:
            try:
                manifest = self._manifest(folder)
                self._check_owner(manifest, folder)
                return int(manifest["step"]), _read(folder, manifest)
            except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
                if isinstance(error, ConfigurationError):
                    raise
                self.log.warn(f"the checkpoint {folder} is damaged ({error}); trying the one before")
        if candidates:
            raise ResourceError(
                "every checkpoint of this stage is damaged",
                where=str(self.folder),
                fix="check the disk, then delete this folder to train from the beginning",
            )
        return None

    def _candidates(self) -> list[Path]:
        """Folders that carry a checkpoint's name, newest first."""
        return sorted((p for p in self.folder.glob("[0-9]" * 8) if p.is_dir()), reverse=True)

    def _manifest(self, folder: Path) -> Json:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError(f"{MANIFEST} is not an object")
        return manifest

    def _check_owner(self, manifest: Json, folder: Path) -> None:
        if manifest["format"] != FORMAT:
            raise ConfigurationError(
                f"this checkpoint has format {manifest['format']}, and this Ponder reads {FORMAT}",
                where=str(folder),
                fix="finish the run with the version that began it, or delete the folder to begin again",
            )
        if manifest["key"] != self.key:
            raise ConfigurationError(
                "this checkpoint is of a run with other settings, data or code",
                where=str(folder),
                fix="restore the settings it was begun with, or delete the folder to begin again",
            )


def _read(folder: Path, manifest: Json) -> TrainerState:
    """Tensors and counters, checksums verified."""
    for name, digest in manifest["files"].items():
        if Path(name).name != name or _digest(folder / name) != digest:
            raise ValueError(f"{name} does not match its checksum")
    return TrainerState(load_file(folder / TENSORS), dict(manifest["counters"]))


def _digest(path: Path) -> str:
    hasher = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
