"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from ponder.core.types import Json
from ponder.models.native.build import Unavailable, load

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


def describe() -> Json:
    """Processor, cores, memory, system and versions."""
    words = _cpuinfo()
    found = {
        "processor": words.get("model name") or platform.processor() or platform.machine(),
        "instructions": [flag for flag in FLAGS if flag in words.get("flags", words.get("Features", "")).split()],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    for rounded, elements in ((True, "bfloat16"), (False, "float32")):
        try:
            load(rounded)
            found[f"kernels {elements}"] = "native"
        except Unavailable as error:
            found[f"kernels {elements}"] = f"torch: {error}"
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
