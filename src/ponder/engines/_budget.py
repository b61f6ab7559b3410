"""How much memory sampling may take: a quarter of the machine's, or what the user allows."""

from __future__ import annotations

import os
import re

import torch

from ponder.core.errors import ConfigurationError

VARIABLE = "PONDER_MEMORY"
"""Environment variable such as `512MiB` or `4GiB`; not a setting of a recipe, because no result depends on it."""
MEMORY_SHARE = 0.25
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def budget(device: torch.device) -> int:
    """Bytes for keys, values and logits.

    Raises:
        ConfigurationError: If the environment variable is not an amount of memory.
    """
    asked = os.environ.get(VARIABLE, "").strip()
    return amount(asked) if asked else int(MEMORY_SHARE * _installed(device))


def amount(text: str) -> int:
    """Bytes of an amount of memory: `1500000`, `512MiB`, `4G`; a K is 1,024.

    Raises:
        ConfigurationError: If it is none, or nothing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", text.lower())
    size = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if size < 1:
        raise ConfigurationError(f"{text!r} is not an amount of memory", where=VARIABLE, fix="write 512MiB or 4GiB")
    return size


def _installed(device: torch.device) -> int:
    """Bytes of memory that the device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
