"""What a model and a machine weigh: memory, parameters, bytes on disk, time, and a computer's description."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
import time
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from ponder.core.types import Json
from ponder.models.safe_header import read_safe_header

PACKAGES = ("ponder", "torch", "transformers", "tokenizers", "numpy", "pyarrow")


class Footprint(NamedTuple):
    """Size of a stored model."""

    parameters: int | None
    """Numbers stored; tied weights once. None when the folder holds no safetensors."""
    disk_bytes: int
    """Every file of the folder."""


class Stopwatch:
    """Wall-clock seconds of a block, from a clock that never jumps.

    Example:
        >>> with Stopwatch() as watch:
        ...     pass
        >>> watch.seconds >= 0
        True
    """

    seconds: float = 0.0

    def __enter__(self) -> Stopwatch:
        """Start."""
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, whether or not the block succeeded."""
        self.seconds = time.perf_counter() - self._start


def footprint(folder: Path) -> Footprint:
    """Parameters and bytes of a model folder; a single file counts by itself.

    Raises:
        DataError: If a safetensors file has no proper header.
        ResourceError: If it cannot be read.
    """
    files = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    counts = [tensor.numbers for path in weights for tensor in read_safe_header(path).values()]
    return Footprint(sum(counts) if weights else None, sum(path.stat().st_size for path in files))


def peak_memory_bytes() -> int:
    """Most memory this process ever held resident, or since the last `reset_peak_memory` that worked."""
    if found := re.search(r"^VmHWM:\s+(\d+) kB", _read("/proc/self/status"), re.MULTILINE):
        return int(found.group(1)) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_memory() -> bool:
    """Start the peak again from what is held now; False where the system cannot (it then only grows)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def machine() -> Json:
    """The computer and the versions that numbers were made with."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Of arithmetic: `PONDER_THREADS`, or all cores but one: threads that wait by turning choke a full machine."""
    told = os.environ.get("PONDER_THREADS", "")
    return int(told) if told.isdigit() and int(told) else max(1, usable_cores() - 1)


def memory_bytes() -> int:
    """Memory of the machine, or of the container when that is less."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    return min(pages * size, int(limit)) if limit.isdigit() else pages * size


def _processor() -> str:
    if found := re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE):
        return found.group(1).strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _read(path: str) -> str:
    """A system file, empty where the system has none."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
