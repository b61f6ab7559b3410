"""Random numbers are derived, never carried: a generator is a function of what it is for.

Because nothing advances a shared state, a run that was killed and resumed draws what the uninterrupted run drew.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any path of names and numbers, e.g. `derive_seed(seed, "rollout", step, item)`."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def python_rng(*parts: int | str) -> random.Random:
    """A `random.Random` of its own for that path."""
    return random.Random(derive_seed(*parts))


def numpy_rng(*parts: int | str) -> np.random.Generator:
    """A counter-based numpy generator of its own for that path."""
    return np.random.Generator(np.random.Philox(derive_seed(*parts)))
