"""Run as a script: kills a training run at every file operation and at random moments, and resumes it.

The parent imports everything once and never computes; each attempt is a forked child, killed by SIGKILL, so
that no handler, no `finally` and no buffer can help it. Prints a digest of the final state after each story.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from _learn import random_tokens, text_example, tiny_model, trainer
from _lives import die, live
from ponder.learn.fit import FitBatch, fit
from ponder.runs.log import Log
from ponder.runs.store import StageFolder

STEPS = 4
OPERATIONS = ("fsync", "replace", "rename")


def train(folder: Path) -> None:
    torch.set_num_threads(1)
    learner = trainer(tiny_model(layers=1), steps=STEPS, decay="cosine", warmup_steps=2)
    fit(
        learner,
        lambda step: FitBatch([text_example(random_tokens(n, 17 * step + n)) for n in (5, 12)]),
        steps=STEPS,
        folder=StageFolder(folder),
        log=Log.silent(),
        checkpoint_every=2,
        key="k",
    )


def die_at(count: int) -> None:
    """Kill this process at its `count`-th file operation, before it is done."""
    left = count

    def wrapped(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                die()
            return operation(*args, **kwargs)

        return call

    for name in OPERATIONS:
        setattr(os, name, wrapped(getattr(os, name)))


def digest(folder: Path) -> str:
    hasher = hashlib.sha256((folder / "metrics.jsonl").read_bytes())
    newest = max((folder / "checkpoints").glob("[0-9]*"))
    hasher.update((newest / "state.safetensors").read_bytes())
    return f"{newest.name} {hasher.hexdigest()}"


def main(root: Path) -> None:
    live(partial(train, root / "calm"))
    print(digest(root / "calm"))
    count, done = 0, False
    while not done:  # the n-th life dies at its n-th operation and leaves the rest to the next
        count += 1
        done = live(partial(train, root / "operations"), partial(die_at, count))
    print(digest(root / "operations"))
    rng = random.Random(0)
    for _ in range(4):  # lives of random length
        live(partial(train, root / "moments"), patience=rng.uniform(0.02, 0.4))
    live(partial(train, root / "moments"))
    print(digest(root / "moments"))
    print(f"lives {count}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
