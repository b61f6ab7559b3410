"""Where bfloat16 arithmetic is faster than float32."""

from __future__ import annotations

from typing import Literal

import torch

BFLOAT16_CPU = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""What torch says of a processor whose matrix products read bfloat16; elsewhere they are emulated, and slower."""


def rounds(choice: bool | Literal["auto"], device: torch.device) -> bool:
    """Whether to compute in bfloat16: as chosen, or where the device has instructions for it."""
    if choice != "auto":
        return choice
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in BFLOAT16_CPU)
