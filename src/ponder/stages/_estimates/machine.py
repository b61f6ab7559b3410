"""What this machine has, and what models of a shape take of it when nothing may be tried out."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ponder.engines._budget import budget
from ponder.learn.checkpoint import KEEP
from ponder.learn.loss import CHUNK_ENTRIES, MIN_CHUNK
from ponder.learn.optimiser import Optimisation
from ponder.measure.resources import memory_bytes
from ponder.models.catalogue import without_storage
from ponder.models.lora import Adapter, sizes_of
from ponder.models.native.build import kernels
from ponder.stages._outlook import Refusal

PROCESS_BYTES = 520 * 1024**2
"""A Python process with torch and transformers loaded."""
GROWING = 2
"""A batch's keys and values are copied when they outgrow their place, so both are held for a moment."""
SHARE = {True: 0.95, False: 0.55}
"""Share of the matrix-product rate that a small model reaches, with and without the native kernels."""
TRAINING_OVERHEAD = 1_500_000
"""Operations' worth of time that a trained token costs besides matrix products: norms, attention, loss."""
SAMPLING_OVERHEAD = 3_000_000
"""The same for a sampled token; fitted, as the others, on models of 0.5 to 3 million parameters in float32."""
STEP_SECONDS = 1.5e-4
"""A decoding step takes as long for every layer, however few rows it has."""
COPY_RATE = 8e9
"""Bytes a second that weights are read with."""
GUESS_SHARE = 1.5
"""A duration that is computed and not measured may be so much longer, and shorter by as large a factor."""
WRITE_RATE = 250e6
"""Bytes a second that checkpoints are written, summed and flushed with."""
MARGIN = 0.95
"""Share of memory and disk that may be used before it is called too little."""


@cache
def matrix_rate() -> float:
    """Measured floating-point operations per second of a matrix product in fp32: the median of five."""
    size = 768
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = torch.ones(size, size, device=device), torch.ones(size, size, device=device)
    times: list[float] = []
    for _ in range(6):
        start = time.perf_counter()
        float(torch.mm(a, b)[0, 0])
        times.append(time.perf_counter() - start)
    return 2 * size**3 / sorted(times[1:])[2]


def small_model_rate() -> float:
    """Operations per second that a small model reaches here."""
    return SHARE[kernels(rounded=False) is not None] * matrix_rate()


def training_seconds(tokens: float, parameters: int) -> float:
    """Six operations a parameter and token, forward and backward."""
    return tokens * (6 * parameters + TRAINING_OVERHEAD) / small_model_rate()


def token_cache_bytes(config: Any) -> int:
    """Keys and values of one token in float32."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 8 * text.num_hidden_layers * heads * size


def sampling_memory(config: Any, parameters: int, together: int, length: float) -> int:
    """Weights in float32, keys and values of a batch, logits; what does not fit the engine's budget waits."""
    wanted = min(together, 512) * (length * token_cache_bytes(config) + 16 * config.get_text_config().vocab_size)
    return int(PROCESS_BYTES + 4 * parameters + min(GROWING * wanted, budget(torch.device("cpu"))))


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that training holds besides activations."""

    state: int
    """A checkpoint."""
    steps: int
    """While steps are taken, with the copy that a checkpoint is written from."""
    end: int = 0
    """When what was saved is read back and compared."""


def held_by_weights(parameters: int, optimisation: Optimisation) -> Held:
    """Of training every weight: weights, gradients and moments in float32."""
    state = state_bytes(parameters, optimisation)
    return Held(state, 4 * parameters + 2 * state)


def held_by_adapter(config: Any, adapter: Adapter) -> Held:
    """Of training an adapter; in the end the model is held once more beside the trained one and its base.

    Raises:
        ConfigurationError: If its targets name nothing.
    """
    found = sizes_of(without_storage(config), adapter)
    state = 12 * found.factors
    return Held(state, found.training_bytes + state, state + 4 * (2 * found.whole + found.adapted))


def training_memory(config: Any, held: int, optimisation: Optimisation) -> int:
    """What is held while steps are taken; activations; a chunk of logits."""
    text = config.get_text_config()
    heads = text.num_attention_heads + 2 * (getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    wide = 10 * text.hidden_size + 4 * text.intermediate_size + 2 * heads * size
    activations = 4 * optimisation.micro_batch_tokens * text.num_hidden_layers * wide
    logits = 12 * max(CHUNK_ENTRIES, MIN_CHUNK * text.vocab_size)
    return int(PROCESS_BYTES + held + activations + logits)


def state_bytes(parameters: int, optimisation: Optimisation) -> int:
    """A checkpoint: weights and what the optimiser remembers (AdamW two numbers a weight, Muon one) in float32."""
    return parameters * (12 if optimisation.optimizer == "adamw" else 9)


def checkpoints_bytes(state: int, steps: int, every: int) -> tuple[int, int]:
    """(most at a time, in the end) of the checkpoints that a stage keeps; one more is there while it is written."""
    written = -(-steps // every)
    return state * min(written, KEEP + 1), state * min(written, KEEP)


def checkpoint_seconds(state: int, steps: int, every: int) -> float:
    """Of writing all checkpoints."""
    return -(-steps // every) * (0.03 + state / WRITE_RATE)


def capacity_refusals(memory: int, disk: int, folder: Path) -> list[Refusal]:
    """Memory or disk that this machine does not have."""
    found: list[Refusal] = []
    if memory > MARGIN * memory_bytes():
        found.append(
            Refusal.missing(
                f"{memory / 1e9:,.1f} GB of memory are needed, and this machine has {memory_bytes() / 1e9:,.1f} GB",
                fix="smaller batches (optimisation.micro_batch_tokens), a smaller model, or a larger machine",
            )
        )
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if disk > MARGIN * free:
        found.append(
            Refusal.missing(
                f"{disk / 1e9:,.1f} GB of disk are needed, and {free / 1e9:,.1f} GB are free",
                where=str(place),
                fix="free space, or choose another disk with --out",
            )
        )
    return found
